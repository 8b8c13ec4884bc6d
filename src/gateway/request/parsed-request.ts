import type { TextMessage } from "./messages.js";
import type { AskedModeration } from "./settings.js";

/** One prompt of a request, and how its answer begins where the request says so. */
export interface Prompt {
  messages: TextMessage[];
  prefill: string;
}

/** What a request asks for. */
export interface ParsedRequest {
  /** What the request asks to be told of what the guard finds. The guard answers it: it goes no further. */
  moderation?: AskedModeration | null;
  /** One for each choice that will come, in the order of their indexes. */
  choices: Prompt[];
  stream: boolean;
  /** Whether the model may be asked only once the prompt has passed. */
  promptFirst?: boolean;
}
