import type { Intervention } from "../../gate/attempt.js";
import type { ModerationViolation } from "../../gate/violation.js";

/** What was flagged of an answer and does not go to its client; what comes next goes on from what that has. */
export interface Dropped {
  /** What was flagged; also after how many attempts. */
  violation: ModerationViolation;
  /** How the model is asked to go on. */
  intervention: Intervention;
  /** What the client has. */
  released: string;
  /** How much was judged so far, of what was dropped before as well: UTF-16 units, and tokens. */
  judged: number;
  tokens: number;
}
