import { InvalidArgumentError } from "commander";

/** Reads an option's value as a whole number. */
export function whole(least: number, most: number): (value: string) => number {
  return (value) => {
    const number = Number(value);
    if (value.trim() !== "" && Number.isInteger(number) && number >= least && number <= most) return number;
    throw new InvalidArgumentError(`it must be a whole number from ${least} to ${most}`);
  };
}
