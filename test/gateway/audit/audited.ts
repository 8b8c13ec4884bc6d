import { createHmac } from "node:crypto";
import { readFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { Ajv2020 } from "ajv/dist/2020.js";
import type { AuditEntry } from "../../../src/gateway/audit/entry.js";
import { AuditLog, type AuditLogOptions } from "../../../src/gateway/audit/log.js";
import { temporaryFolder } from "../../support/model.js";

export const KEY = "a key of thirty-two bytes, or so";

const schema = JSON.parse(readFileSync(new URL("../../../docs/audit.schema.json", import.meta.url), "utf8"));
const fits = new Ajv2020({ allowUnionTypes: true }).compile(schema);

/** An audit in a folder of its own. */
export async function anAudit(options: AuditLogOptions = {}) {
  const path = join(await temporaryFolder(), "audit.jsonl");
  const audit = await AuditLog.open(path, { key: KEY, ...options });
  return {
    audit,
    path,
    /** Its lines once all are written; each must be as the schema has it. */
    async lines(): Promise<AuditEntry[]> {
      await written(audit);
      return linesOf(await readFile(path, "utf8"));
    },
  };
}

export async function written(audit: AuditLog): Promise<void> {
  while (audit.waiting > 0) await new Promise((resolve) => setTimeout(resolve, 5));
}

/** Lines of an audit. @throws where one is not as the schema has it */
export function linesOf(text: string): AuditEntry[] {
  if (text !== "" && !text.endsWith("\n")) throw new Error("the last line is cut");
  return text
    .split("\n")
    .slice(0, -1)
    .map((line) => {
      const entry: AuditEntry = JSON.parse(line);
      const fitting: boolean = fits(entry);
      if (!fitting) throw new Error(`${JSON.stringify(fits.errors)} in ${line}`);
      return entry;
    });
}

export const hashOf = (text: string) => createHmac("sha256", KEY).update(text).digest("hex");

/** A line that says nothing of interest. */
export function entry(more: Partial<AuditEntry> = {}): AuditEntry {
  return {
    ...{ time: new Date().toISOString(), requestId: "r", traceId: null, route: "/chat/completions" },
    ...{ model: null, stream: false, policy: null, part: "prompt", choice: 0, action: "passed" },
    ...{
      error: null,
      attempt: null,
      intervention: null,
      tokens: null,
      unjudged: {},
      risk: null,
      riskProbability: null,
      category: null,
    },
    ...{ categoryProbability: null, probabilities: null, index: null, from: null, span: null, rule: null },
    ...{ hash: null, lastHash: null, keyId: "00000000" },
    ...more,
  };
}
