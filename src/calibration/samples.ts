import { genLabels } from "../tokenizer/chat-template/gen-form.js";
import { GenTemplate } from "../tokenizer/chat-template/gen-template.js";
import { ChatTemplate } from "../tokenizer/chat-template/template.js";
import { Tokenizer } from "../tokenizer/tokenizer.js";
import { CONVERSATIONS } from "./conversations.js";

/**
 * The sample conversations as ids of a model's own tokenizer, each with its template and response in one piece.
 *
 * @throws {CheckpointError} TOKENIZER_MISSING
 */
export async function sampleIds(dir: string, maxTokens: number): Promise<number[][]> {
  const tokenizer = await Tokenizer.load(dir);
  if (await genLabels(dir)) {
    const template = await GenTemplate.load(dir, tokenizer);
    return CONVERSATIONS.map(({ messages, response }) =>
      template.prompt([...messages, { role: "assistant", content: response }]).ids.slice(0, maxTokens),
    );
  }
  const template = await ChatTemplate.load(dir, tokenizer);
  return CONVERSATIONS.map(({ messages, response }) =>
    [...template.prefix(messages).ids, ...tokenizer.encode(response)].slice(0, maxTokens),
  );
}
