import fc from "fast-check";

export type Json = null | boolean | number | string | Json[] | { [name: string]: Json };
export type Fields = { [name: string]: Json };

/** A change to a value: of the objects and lists that it has, the nth gets a payload. */
export interface Change {
  at: number;
  name: string;
  payload: string;
  replaces: boolean;
}

export function changesOf(
  names: readonly string[],
  payloads: Readonly<Record<string, Json>>,
  { furthest, most }: { furthest: number; most: number },
): fc.Arbitrary<Change[]> {
  const change = fc.record<Change>({
    at: fc.nat(furthest),
    name: fc.constantFrom(...names),
    payload: fc.constantFrom(...Object.keys(payloads)),
    replaces: fc.boolean(),
  });
  return fc.array(change, { minLength: 1, maxLength: most });
}
