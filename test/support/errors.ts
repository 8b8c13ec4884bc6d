import { expect } from "vitest";

/** Fails unless the promise rejects with an error of this class and code. */
export async function expectError(
  promise: Promise<unknown>,
  type: new (...args: never[]) => Error,
  code: string,
): Promise<void> {
  const error = await promise.then(
    () => null,
    (error) => error,
  );
  expect(error).toBeInstanceOf(type);
  expect(error).toMatchObject({ code });
}
