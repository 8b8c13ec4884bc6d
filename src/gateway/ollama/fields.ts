import {
  called,
  calledName,
  either,
  type Fields,
  label,
  level,
  object,
  optionalList,
  repeated,
  role,
  text,
  url,
  word,
} from "../answer/allow-list.js";
import { tokenList } from "../answer/logprobs.js";

const toolCall = object({
  id: word,
  type: word,
  function: object({ name: calledName, arguments: called("arguments") }),
});

/** Of each line of an answer, and of a whole one. Durations and counts are numbers, which pass. */
const lineFields: Fields = {
  model: either(repeated("model"), word, label),
  created_at: word,
  done_reason: word,
  remote_model: either(word, label),
  remote_host: either(url, word),
  logprobs: tokenList,
};

/** Of `/api/chat`. */
export const chatLineFields: Fields = {
  message: level({
    role,
    thinking: text("reasoning", "thinking"),
    content: text("content", "content"),
    tool_calls: optionalList(toolCall),
    tool_name: word,
  }),
  ...lineFields,
};

/** Of `/api/generate`. `context` is left out: token ids spell what was said. */
export const generateLineFields: Fields = {
  thinking: text("reasoning", "thinking"),
  response: text("content", "response"),
  tool_calls: optionalList(toolCall),
  ...lineFields,
};
