import { GuardError } from "../errors.js";
import { InFlight } from "../gate/in-flight.js";
import type { Guard } from "../guard.js";
import type { Verdict } from "../moderation/verdict.js";
import type { RunEvent, RunRequest } from "./protocol.js";
import { answerText } from "./sources.js";

/** Chunks that may be with the guard at once; then the source has to wait. */
const MOST_BEHIND = 256;

/**
 * Judges one conversation and tells all that happens. The answer is never stopped: what a policy would have done with it
 * is for the page to show.
 *
 * @param emit gets the events in the order in which they happened; the last is `end` or `failed`
 */
export async function run(
  guard: Guard,
  { messages, source }: RunRequest,
  emit: (event: RunEvent) => void,
  signal: AbortSignal,
): Promise<void> {
  const startedAt = performance.now();
  const at = () => performance.now() - startedAt;
  const stream = guard.stream({ messages, overflow: "slide", closely: true, signal });
  const told = (judging: Promise<Verdict[]>): Promise<void> => {
    const since = at();
    return judging.then((verdicts) =>
      emit({ type: "verdicts", at: at(), ms: at() - since, settled: stream.settled, verdicts }),
    );
  };
  try {
    const judging = new InFlight();
    const prompt = Promise.all([stream.prompt, stream.turns]);
    judging.add(prompt.then(([verdict, turns]) => emit({ type: "prompt", at: at(), verdict, turns })));
    let empty = true;
    for await (const text of answerText(source, messages, signal)) {
      judging.check();
      empty &&= text === "";
      emit({ type: "chunk", at: at(), text });
      judging.add(told(stream.pushText(text)));
      await judging.below(MOST_BEHIND);
    }
    await judging.all();
    if (!empty) await told(stream.flush());
    emit({ type: "end", at: at(), decision: empty ? null : await stream.end() });
  } catch (error) {
    if (!signal.aborted) emit({ type: "failed", at: at(), ...explained(error) });
  } finally {
    stream.close();
  }
}

function explained(error: unknown): { code: string; message: string } {
  if (error instanceof GuardError) return { code: error.code, message: error.message };
  return { code: "INTERNAL", message: error instanceof Error ? error.message : String(error) };
}
