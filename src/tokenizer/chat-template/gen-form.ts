import { JinjaTemplate } from "./jinja-template.js";
import { readTemplates, type TemplateSources } from "./template-files.js";

/** The words that a Gen guard chooses from, in the order of its template. */
export interface GenLabels {
  promptRisk: string[];
  promptCategory: string[];
  responseRisk: string[];
  responseCategory: string[];
}

/** What a chat template says of one kind of conversation. */
interface PartForm {
  risks: string[];
  categories: string[];
  /** Whether it asks if the answer refuses. */
  refusal: boolean;
}

/** Marks of the frame in which a Gen guard's template puts a conversation. */
export interface Frame {
  /** The names between `<BEGIN` or `<END` and `>`. */
  sections: string[];
  /** What stands before a turn: "USER", "ASSISTANT". */
  speakers: string[];
}

const ASKED = "what the user asks";
const ANSWERED = "what the assistant answers";
export const USER = { role: "user", content: ASKED };
export const ASSISTANT = { role: "assistant", content: ANSWERED };

/**
 * The labels that a checkpoint's chat template names, where it is a Gen guard's; null where it is another.
 *
 * @throws {CheckpointError} TEMPLATE_MISSING, TEMPLATE_INVALID
 */
export async function genLabels(dir: string): Promise<GenLabels | null> {
  return labelsOf(await readTemplates(dir));
}

/** A Gen guard's template is told by its structure: a safety policy, categories, a conversation, a form to answer in. */
export function labelsOf({ template, tokens }: TemplateSources): GenLabels | null {
  let parts: (PartForm | null)[];
  let spoken = false;
  try {
    const jinja = new JinjaTemplate(template);
    parts = [[USER], [USER, ASSISTANT]].map((messages) =>
      partForm(jinja.render({ ...tokens, messages }), messages),
    );
    spoken = frameOf(jinja.render({ ...tokens, messages: EVERYBODY })).speakers.length === EVERYBODY.length;
  } catch {
    return null;
  }
  const [prompt, response] = parts;
  // Turns that nobody is named for could not be told from lines of content.
  if (!spoken) return null;
  if (!prompt || !response || prompt.refusal || !response.refusal) return null;
  return {
    promptRisk: prompt.risks,
    promptCategory: prompt.categories,
    responseRisk: response.risks,
    responseCategory: response.categories,
  };
}

/** The marks of the frame, as the template writes them around a conversation. */
export function frameOf(rendered: string): Frame {
  const sections = [...rendered.matchAll(/<(?:BEGIN|END) ([A-Z]+(?: [A-Z]+)*)>/g)].map(([, name]) => name);
  const speakers = [...rendered.matchAll(/^([A-Za-z]+): what the /gm)].map(([, name]) => name);
  return { sections: [...new Set(sections)], speakers: [...new Set(speakers)] };
}

/** A conversation in which everybody speaks, to find the marks by. */
export const EVERYBODY = [USER, ASSISTANT] as const;

function partForm(rendered: string, messages: { content: string }[]): PartForm | null {
  const policy = section(rendered, "SAFETY POLICY");
  const categories = section(rendered, "UNSAFE CONTENT CATEGORIES");
  const conversation = section(rendered, "CONVERSATION");
  if (policy === null || categories === null || conversation === null) return null;
  if (!messages.every(({ content }) => conversation.includes(content))) return null;
  const asked = rendered.slice(rendered.indexOf("<END CONVERSATION>"));
  if (!asked.includes("'Safety: ") || !asked.includes("'Categories:'")) return null;
  const refusals = labelled(section(rendered, "REFUSAL POLICY") ?? "", "Refusal");
  const refusal = REFUSALS.every((label) => refusals.includes(label)) && asked.includes("'Refusal: ");
  return {
    risks: labelled(policy, "Safety"),
    categories: categories
      .split("\n")
      .map((line) => line.trim().replace(/\.$/, ""))
      .filter((line) => line !== ""),
    refusal,
  };
}

/** Whether an answer refuses, in a Gen guard's words. */
export const REFUSALS = ["Yes", "No"] as const;

function section(text: string, name: string): string | null {
  const from = text.indexOf(`<BEGIN ${name}>`);
  const to = text.indexOf(`<END ${name}>`, from);
  return from === -1 || to === -1 ? null : text.slice(from + `<BEGIN ${name}>`.length, to);
}

function labelled(policy: string, of: string): string[] {
  return [...policy.matchAll(new RegExp(`^\\*\\*${of}: (.+?)\\*\\*`, "gm"))].map(([, label]) => label);
}
