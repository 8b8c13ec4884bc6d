/** A stretch of a response, `from` to `to`, and the index of the first token that the context holds with it. */
export interface WindowStep {
  start: number;
  from: number;
  to: number;
}

/**
 * How `count` tokens of a response go into a context that holds `room` of them: what fits goes on in the window that
 * begins at `start`; each further window begins with the newer half of the one before.
 */
export function plan(start: number, room: number, from: number, count: number): WindowStep[] {
  const end = from + count;
  const steps: WindowStep[] = [];
  let at = from;
  do {
    const full = at === start + room && at < end;
    if (at < start || at > start + room || full) start = Math.max(0, at - Math.floor(room / 2));
    const to = Math.min(end, start + room);
    steps.push({ start, from: at, to });
    at = to;
  } while (at < end);
  return steps;
}
