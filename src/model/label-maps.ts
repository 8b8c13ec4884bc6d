import { CheckpointError } from "../errors.js";
import { isRecord } from "../validation/json.js";
import { quoted } from "../validation/quoted.js";
import type { GuardConfig } from "./config.js";
import { Fields } from "./config-fields.js";

const LONGEST_LABEL = 200;
/** Labels go to terminals, logs and headers. */
const UNSEEN = /[\p{Cc}\p{Cs}\p{Zl}\p{Zp}\p{Bidi_Control}]/u;

/** The labels that a config.json maps ids to. @throws {CheckpointError} LABELS_MISSING, LABELS_INVALID */
export function mappedLabels(fields: Fields): GuardConfig["labels"] {
  return {
    promptRisk: riskLabels(fields, "query_risk_level_map", "num_query_risk_level"),
    promptCategory: labels(fields, "query_category_map", "num_query_category"),
    responseRisk: riskLabels(fields, "response_risk_level_map", "num_risk_level"),
    responseCategory: labels(fields, "response_category_map", "num_category"),
  };
}

/** The same checks for the labels that a chat template names. @throws {CheckpointError} LABELS_INVALID */
export function templateLabels(given: unknown, source: string): GuardConfig["labels"] {
  const named = isRecord(given) ? given : {};
  const maps = Object.fromEntries(Object.entries(named).map(([name, list]) => [name, labelMap(list)]));
  const fields = new Fields(maps, `${source}, chat template`);
  return {
    promptRisk: riskLabels(fields, "promptRisk", ""),
    promptCategory: labels(fields, "promptCategory", ""),
    responseRisk: riskLabels(fields, "responseRisk", ""),
    responseCategory: labels(fields, "responseCategory", ""),
  };
}

/** Names as config.json has them: by id. */
export function labelMap(names: unknown): unknown {
  return Array.isArray(names) ? Object.fromEntries(names.map((name, id) => [id, name])) : names;
}

/** Is this the name of the risk level that means "nothing found"? */
function isSafeLabel(label: string): boolean {
  return label.toLowerCase() === "safe";
}

function labels(fields: Fields, mapField: string, countField: string): string[] {
  const { json, source } = fields;
  const map = json[mapField];
  const invalid = (complaint: string) =>
    new CheckpointError(
      "LABELS_INVALID",
      `${source}: ${mapField} ${complaint}. Restore the config.json that came with the checkpoint.`,
    );
  if (map == null) {
    throw new CheckpointError(
      "LABELS_MISSING",
      `${source} has no ${mapField}, so the heads' outputs have no names. ` +
        `Add the label maps of the original checkpoint's config.json ({"0": "Safe", …}).`,
    );
  }
  if (!isRecord(map)) throw invalid(`must map ids to names ({"0": "Safe", …}), not ${quoted(map)}`);
  const count = Object.keys(map).length;
  if (count === 0) throw invalid("is empty");
  if (count > 4096) throw invalid(`has ${count} labels; at most 4096 are supported`);
  if (json[countField] != null && json[countField] !== count) {
    throw invalid(`has ${count} labels, but ${countField} is ${quoted(json[countField])}`);
  }
  const names: string[] = [];
  for (let id = 0; id < count; id++) {
    const name = map[String(id)];
    if (name === undefined) throw invalid(`must have exactly the ids 0 to ${count - 1}; ${id} is missing`);
    if (typeof name !== "string" || name.trim() === "" || name.length > LONGEST_LABEL || UNSEEN.test(name)) {
      throw invalid(`names id ${id} ${quoted(name)}, which is no usable name`);
    }
    if (names.includes(name)) throw invalid(`names two ids ${quoted(name)}`);
    names.push(name);
  }
  return names;
}

function riskLabels(fields: Fields, mapField: string, countField: string): string[] {
  const names = labels(fields, mapField, countField);
  const safe = names.filter(isSafeLabel).length;
  if (safe !== 1 || names.length < 2) {
    throw new CheckpointError(
      "LABELS_INVALID",
      `${fields.source}: ${mapField} must have at least two levels, exactly one of them named "Safe" ` +
        `(it has ${quoted(names)}). Restore the config.json that came with the checkpoint.`,
    );
  }
  return names;
}
