// npm run docs: writes docs/fields.md out of the tables by which the proxy reads requests and answers.
import { writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { Fields as AnswerFields, Shape } from "../../src/gateway/answer/allow-list.js";
import { passingOf } from "../../src/gateway/answer/passing.js";
import { messageFields as anthropicMessage, eventShapes } from "../../src/gateway/anthropic/fields.js";
import * as anthropic from "../../src/gateway/anthropic/tables.js";
import { chatLineFields, generateLineFields } from "../../src/gateway/ollama/fields.js";
import * as ollama from "../../src/gateway/ollama/request.js";
import * as choices from "../../src/gateway/openai/choices-fields.js";
import * as responses from "../../src/gateway/openai/responses-fields.js";
import type { Fields, Rule } from "../../src/gateway/request/fields.js";
import * as openai from "../../src/gateway/request/tables.js";

const RULES: Record<Exclude<Rule, Fields>, string> = {
  read: "read: part of the conversation, or a setting of the request",
  text: "judged",
  word: "a word passes, a text in its place is judged",
  settings: "words pass, texts, lists and objects are judged",
  unread: "passes: it steers decoding, and what it makes the model say is judged",
  sealed:
    "passes, counted as `sealed`, where it is base64: only its server can read it; a text in its place is judged",
  refused: "refused, unless `unjudged` or `--pass-fields` lets it pass",
};

const REQUESTS: [title: string, fields: Fields][] = [
  ["Body of `…/chat/completions`", openai.CHAT_BODY],
  ["Body of `…/completions`", openai.COMPLETIONS_BODY],
  ["Body of `…/responses`", openai.RESPONSES_BODY],
  ["Message of `…/chat/completions`, `…/responses` and `/api/chat`", openai.MESSAGE],
  ["Part of text", openai.TEXT_PART],
  ["Call of a tool", { ...openai.TOOL_CALL, function: openai.CALL, custom: openai.CALL }],
  ["Items of `…/responses`", ofTypes(openai.ITEMS)],
  ["Body of `…/v1/messages`", anthropic.MESSAGES_BODY],
  ["Message of `…/v1/messages`", anthropic.MESSAGE],
  ["Blocks of `…/v1/messages`", ofTypes(anthropic.BLOCKS)],
  ["Document of text of `…/v1/messages`", anthropic.TEXT_SOURCE],
  ["Body of `/api/chat`", ollama.CHAT_BODY],
  ["Body of `/api/generate`", ollama.GENERATE_BODY],
];

const ANSWERS: [title: string, fields: AnswerFields][] = [
  ["`…/chat/completions` and `…/completions`", choices.bodyFields],
  ["Choice of a whole chat completion", choices.chatChoiceFields],
  ["Choice in a chat completion's event", choices.chatDeltaFields],
  ["Choice of a completion, whole or in an event", choices.completionChoiceFields],
  ["`…/responses`, whole", responses.responseFields],
  ["Events of `…/responses`", byEvent(responses.eventFields)],
  ["`…/v1/messages`, whole", anthropicMessage],
  ["Events of `…/v1/messages`", eventShapes],
  ["`/api/chat`", chatLineFields],
  ["`/api/generate`", generateLineFields],
];

const INTRODUCTION = `# What becomes of each field

Every field that the proxy knows, out of the tables by which it reads (\`npm run docs\`). How they are meant, what becomes of paths, and
what may be changed is in [Put it in front of your model](protect.md#what-of-a-request-is-judged). \`a.b\` is a field within a field, or
within each of a list; \`a<b>\` stands for an object of the type b.
`;

/** The page. */
export function fieldsPage(): string {
  const asked = REQUESTS.map(([title, fields]) => section(title, [...requestRows(fields, "")]));
  const answered = ANSWERS.map(([title, fields]) => section(title, [...answerRows(fields, "")]));
  return [
    INTRODUCTION,
    "## Of a request\n",
    "Numbers, booleans and null pass under any name. Of other fields, and of types that stand nowhere here, texts are refused, unless the",
    "policy's `unjudged` or `--pass-fields` lets them pass; images, audio and files as the policy's `attachments` says.\n",
    `Attachments: ${[...openai.ATTACHMENTS].map((type) => `\`${type}\``).join(", ")}.\n`,
    ...asked,
    "## Of an answer\n",
    "Numbers, booleans and null pass under any name that is one. All else that stands nowhere here is left out, and counted, unless the",
    "policy's `unjudged` or `--pass-fields` lets it pass. A word is up to 128 characters of ASCII without white space.\n",
    ...answered,
  ].join("\n");
}

/** Fields of a request by what becomes of them. */
export function* requestRows(fields: Fields, within: string): Generator<[path: string, what: string]> {
  for (const [name, rule] of Object.entries(fields)) {
    if (typeof rule === "object") yield* requestRows(rule, `${within}${name}.`);
    else yield [within + name, RULES[rule]];
  }
}

/** Fields of an answer by what of them passes. @throws where a shape does not say */
export function* answerRows(fields: AnswerFields, within: string): Generator<[path: string, what: string]> {
  for (const [name, shape] of Object.entries(fields)) yield* shapeRows(shape, within + name);
}

function* shapeRows(shape: Shape, path: string): Generator<[path: string, what: string]> {
  const what = passingOf(shape);
  if (what === undefined) throw new Error(`${path} does not say what passes`);
  if (typeof what === "string") yield [path, what];
  else if ("fields" in what) yield* answerRows(what.fields, `${path}.`);
  else if ("of" in what) yield* shapeRows(what.of, path);
  else if ("types" in what) {
    for (const [type, fields] of Object.entries(what.types)) yield* answerRows(fields, `${path}<${type}>.`);
    if (what.others) yield* answerRows(what.others, `${path}<others>.`);
  } else {
    const parts = what.either.flatMap((own) => [...shapeRows(own, path)]);
    const here = [...new Set(parts.filter(([own]) => own === path).map(([, words]) => words))];
    if (here.length > 0) yield [path, here.join(", or ")];
    yield* parts.filter(([own]) => own !== path);
  }
}

function ofTypes(types: Readonly<Record<string, { fields: Fields }>>): Fields {
  return Object.fromEntries(Object.entries(types).map(([type, { fields }]) => [`<${type}>`, fields]));
}

function byEvent(events: Readonly<Record<string, AnswerFields>>): AnswerFields {
  return Object.fromEntries(
    Object.entries(events).flatMap(([event, fields]) =>
      Object.entries(fields)
        // A whole answer, an item and a part are in tables of their own.
        .filter(([, shape]) => ![responses.outputItem, responses.part].includes(shape))
        .filter(([name]) => name !== "response")
        .map(([name, shape]) => [`<${event}>.${name}`, shape]),
    ),
  );
}

function section(title: string, rows: readonly [path: string, what: string][]): string {
  const groups = new Map<string, string[]>();
  for (const [path, what] of rows) groups.set(what, [...(groups.get(what) ?? []), `\`${path}\``]);
  const lines = [...groups].map(([what, paths]) => `| ${what} | ${[...new Set(paths)].join(", ")} |`);
  return [`### ${title}\n`, "| | |", "| --- | --- |", ...lines, ""].join("\n");
}

const page = fileURLToPath(new URL("../../docs/fields.md", import.meta.url));
if (process.argv[1] === fileURLToPath(import.meta.url)) writeFileSync(page, fieldsPage());
