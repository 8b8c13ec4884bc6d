/** Calls a function no more than once: its result, or what it threw, is that of all calls. */
export function once<T>(call: () => T): () => T {
  let outcome: { value: T } | { error: unknown } | null = null;
  return () => {
    try {
      outcome ??= { value: call() };
    } catch (error) {
      outcome = { error };
    }
    if ("error" in outcome) throw outcome.error;
    return outcome.value;
  };
}
