import { ChatTemplate } from "../tokenizer/template.js";
import { Tokenizer } from "../tokenizer/tokenizer.js";
import { CONVERSATIONS } from "./conversations.js";

/**
 * The sample conversations as ids of a model's own tokenizer, template and response in one piece each.
 *
 * @throws {CheckpointError} TOKENIZER_MISSING
 */
export async function sampleIds(dir: string, maxTokens: number): Promise<number[][]> {
  const tokenizer = await Tokenizer.load(dir);
  const template = await ChatTemplate.load(dir, tokenizer);
  return CONVERSATIONS.map(({ messages, response }) =>
    [...template.prefix(messages).ids, ...tokenizer.encode(response)].slice(0, maxTokens),
  );
}
