import { expect } from "vitest";

/** Fails unless the promise rejects with an error of this class and code, which is returned. */
export async function expectError(
  promise: Promise<unknown>,
  type: new (...args: never[]) => Error,
  code: string,
): Promise<Error> {
  const error = await promise.then(
    () => null,
    (error) => error,
  );
  expect(error).toBeInstanceOf(type);
  expect(error).toMatchObject({ code });
  return error;
}
