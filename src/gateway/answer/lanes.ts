import type { VerdictStream } from "../../gate/gate-options.js";
import type { ModerationViolation } from "../../gate/violation.js";
import type { Prompt } from "../../guard/prompt.js";
import { scoutFor } from "../../guard/scouting.js";
import type { Guard } from "../../guard.js";
import type { Finding } from "../../moderation/ruling.js";
import type { ModeratedRequestOptions } from "../moderated-request-options.js";
import { once } from "../once.js";
import { WatchedChoice } from "../record/watched-choice.js";
import type { Regeneration } from "../regenerate/regeneration.js";
import type { ParsedRequest } from "../request/parsed-request.js";
import { asksForJson } from "../request/settings.js";
import { Lane } from "./lane.js";
import type { ScoreKeeper } from "./scores.js";

/** What a request's choices have in common. */
export interface Shared {
  /** Fires when nobody wants more. */
  signal: AbortSignal;
  /** Of each choice; null: nobody asks for its scores. */
  keepers: readonly (ScoreKeeper | null)[];
  /** Whether something answers in the model's place where the policy stops it. */
  replaces(violation: ModerationViolation): boolean;
  regeneration: Regeneration | null;
  /** Called when the answer to the first request is dropped. */
  dropped(reason: unknown): void;
}

/** A lane for each choice of a request. Choices of one conversation share its prompt. */
export function lanesOf(
  parsed: ParsedRequest,
  guard: Guard,
  options: ModeratedRequestOptions,
  { signal, keepers, replaces, regeneration, dropped }: Shared,
): Lane[] {
  const { policy, onObserve, cacheKey, watchers = [], pace } = options;
  const { mode, release, batch, scout } = pace;
  const { scope } = policy.prompt;
  const prompts = new Map(
    parsed.choices.map(({ messages }) => [
      messages,
      once(() => guard.prompt({ messages, reasoning: true, scope, overflow: "slide", cacheKey })),
    ]),
  );
  // What comes at once goes out at once: nothing is gained by letting it pass first.
  const paced = parsed.stream && {
    mode: mode === "regenerate" ? ("hold-back" as const) : mode,
    release,
    batch,
  };
  const restarts = regeneration !== null && { restarts: true };
  return parsed.choices.map(({ messages, prefill }, choice) => {
    const begun = { messages, policy, replaces };
    const watched = watchers.length > 0 ? new WatchedChoice(watchers, choice, begun) : null;
    const open = (): VerdictStream => {
      const prompt = (prompts.get(messages) as () => Prompt)();
      const stream = guard.stream({ prompt, overflow: "slide", closely: true, cacheKey, ...restarts });
      const kept = keepers[choice]?.watch(stream) ?? stream;
      return watched?.stream(kept) ?? kept;
    };
    const observe = (finding: Finding) => {
      watched?.observed(finding);
      onObserve(finding);
    };
    const gate = { policy, ...paced, signal, onObserve: observe };
    const read = { messages, reasoning: true, scope, cacheKey, closely: true };
    const ahead = parsed.stream ? scoutFor(guard, scout, read) : null;
    const lane = new Lane(prefill, asksForJson(options.request), open, gate, ahead, watched, regeneration);
    lane.dropped = dropped;
    watched?.follow(lane.gate);
    return lane;
  });
}
