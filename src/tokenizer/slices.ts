/**
 * UTF-16 units of text that are encoded without a break: a few milliseconds' work, at the microsecond a unit that the
 * slowest texts found take (a run of spaces, of which a token holds 128).
 */
export const SLICE = 4096;

/** Slices of a text, none of which ends between the halves of a surrogate pair. */
export function* slicesOf(text: string): Generator<string> {
  for (let from = 0; from < text.length; ) {
    let to = Math.min(from + SLICE, text.length);
    const last = text.charCodeAt(to - 1);
    if (to < text.length && last >= 0xd800 && last < 0xdc00) to++;
    yield text.slice(from, to);
    from = to;
  }
}

let last: Promise<void> = Promise.resolve();

/** Resolves in a turn of the event loop that no other caller has: many that work in slices hold it no longer than one. */
function nextTurn(): Promise<void> {
  last = last.then(() => new Promise((resolve) => setImmediate(resolve)));
  return last;
}

/** Runs a computation to its end at once. */
export function atOnce<T>(steps: Generator<void, T>): T {
  for (;;) {
    const { done, value } = steps.next();
    if (done) return value;
  }
}

/** Runs a computation, each step in a turn of the event loop of its own. */
export async function inTurns<T>(steps: Generator<void, T>): Promise<T> {
  for (;;) {
    const { done, value } = steps.next();
    if (done) return value;
    await nextTurn();
  }
}
