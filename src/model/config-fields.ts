import { CheckpointError } from "../errors.js";
import type { Json } from "../validation/json.js";
import { quoted } from "../validation/quoted.js";

/** Fields of a config.json, each checked as it is read. */
export class Fields {
  constructor(
    readonly json: Json,
    readonly source: string,
  ) {}

  invalid(field: string, complaint: string): CheckpointError {
    return new CheckpointError(
      "CONFIG_INVALID",
      `${this.source}: ${field} ${complaint}. Restore the config.json that came with the checkpoint.`,
    );
  }

  integer(field: string, min: number, max: number, from: Json = this.json): number {
    const value = from[field];
    if (!Number.isInteger(value) || (value as number) < min || (value as number) > max) {
      throw this.invalid(field, `must be a whole number from ${min} to ${max}, not ${quoted(value)}`);
    }
    return value as number;
  }

  positive(field: string, max: number, from: Json = this.json): number {
    const value = from[field];
    if (typeof value !== "number" || !(value > 0) || !(value <= max)) {
      throw this.invalid(field, `must be a number above 0 and at most ${max}, not ${quoted(value)}`);
    }
    return value;
  }
}
