import type { TextMessage } from "./request/messages.js";

/** One prompt of a request, and how its answer begins where the request says so. */
export interface Prompt {
  messages: TextMessage[];
  prefill: string;
}

/** What a request asks for. */
export interface ParsedRequest {
  /** One for each choice that will come, in the order of their indexes. */
  choices: Prompt[];
  stream: boolean;
  /** Whether the model may be asked only once the prompt has passed. */
  promptFirst?: boolean;
}
