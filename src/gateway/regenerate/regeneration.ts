import type { Attempt, ContinuingServer, RegenerateOptions } from "../../gate/attempt.js";
import type { Spent } from "../../gate/attempt-sums.js";
import type { Json } from "../../validation/json.js";
import type { Media } from "../answer/media.js";
import { RequestError } from "../api-error.js";
import { Repeated } from "./repeated.js";
import type { Seam } from "./seam.js";
import { continued, turnOf } from "./turn.js";

/** How a request has its answer gone on with. */
export interface RegenerationOptions extends RegenerateOptions {
  server: ContinuingServer;
  seam: Seam;
  /** The request's body. */
  request: Json;
  /** Sends a body where the request went. */
  send: (body: Json, signal: AbortSignal) => Promise<Response>;
  /** Called with why the server did not go on. */
  failed: (failure: RequestError) => void;
}

/** Asks a model's server to go on with an answer from what its client has. */
export class Regeneration {
  readonly #options: RegenerationOptions;
  /** Tokens that the client has, about. */
  #has = 0;
  /** Leaves out of the answer that was asked for last what it says again of its turn. */
  repeated = new Repeated("");

  constructor(options: RegenerationOptions) {
    this.#options = options;
  }

  get seam(): Seam {
    return this.#options.seam;
  }

  get gate(): RegenerateOptions {
    const { buffer, attempts, intervention } = this.#options;
    return { buffer, attempts, intervention };
  }

  /** How much the client has, in UTF-16 units, and what it took to judge all that came so far. */
  released(units: number, { judged, tokens }: Spent): void {
    this.#has = judged > 0 ? Math.round((units * tokens) / judged) : 0;
  }

  /**
   * The server's answer, from where the client is.
   *
   * @param media what is to come. Default: JSON
   * @throws what was flagged, where the server does not go on: the answer is stopped then
   */
  async ask(attempt: Attempt, signal: AbortSignal, media?: Media): Promise<Response> {
    const { server, request, send } = this.#options;
    // Calls, reasoning and the like cannot be gone on with: the answer ends as it would without.
    if (!this.seam.plain) throw attempt.violation;
    const body = continued(server, request, attempt, this.#has);
    this.repeated = new Repeated(turnOf(body));
    let response: Response;
    try {
      response = await send(body, signal);
    } catch (cause) {
      if (signal.aborted) throw signal.reason;
      return this.giveUp(attempt, "", cause);
    }
    const type = response.headers.get("content-type") ?? "";
    if (response.ok && response.body && (!media || media.matches(type))) return response;
    await response.body?.cancel().catch(() => {});
    return this.giveUp(attempt, ` (status ${response.status})`);
  }

  /** Tells why the answer is not gone on with, and stops it. */
  giveUp({ violation }: Attempt, how: string, cause?: unknown): never {
    this.#options.failed(
      new RequestError(
        502,
        "continuation_refused",
        `The model's server did not go on with the answer${how}.`,
        { cause },
      ),
    );
    throw violation;
  }
}
