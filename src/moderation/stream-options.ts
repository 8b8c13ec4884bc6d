import type { WindowOptions } from "./context-window.js";
import type { Policy, PromptScope } from "./policy.js";
import type { WindowSizes } from "./prompt-windows.js";

export interface StreamOptions extends WindowOptions {
  signal?: AbortSignal;
  /** How a conversation is cut that is longer than the context, where it may be ("slide"). Default: it is refused. */
  windows?: WindowSizes | null;
  /** What of such a conversation is judged, or read once more. Default: all of it. */
  scope?: PromptScope;
  /**
   * Turns that count and stand behind more tokens than these are read once more, by themselves. Default: none is.
   */
  span?: number | null;
  /** The answer is judged behind such a last one alone. Default false. */
  answerToo?: boolean;
  policy?: Policy;
  /** Closes the stream with STREAM_IDLE when nothing was pushed and nothing judged for this many milliseconds. */
  idleMs?: number;
  /** Called with the text of a response that ended and was clear, as its prompt was, and that never slid. */
  onClear?: (response: string) => void;
  /** Keeps the verdicts, so that after `restart` what comes again as it was is not run again. Default false. */
  restarts?: boolean;
}
