import type { ModerationViolation } from "../../gate/violation.js";
import { isRecord, type Json } from "../../validation/json.js";
import { RequestError } from "../api-error.js";
import type { Regeneration } from "../regenerate/regeneration.js";
import { errorIn, refusal, type UpstreamError } from "../upstream-error.js";
import { Slot } from "./allow-list.js";
import type { CodecOptions, ResponseCodec, WholeAnswer } from "./codec.js";
import type { Lane } from "./lane.js";
import { readText } from "./read-text.js";

/** Bytes of a whole answer, and of a refusal. */
const MOST_ANSWER = 64 * 2 ** 20;
const MOST_REFUSAL = 64 * 2 ** 10;

interface Context {
  codec: ResponseCodec;
  options: CodecOptions;
  lanes: readonly Lane[];
  /** How the answer of the one choice is gone on with where it is flagged; null: it ends there. */
  regeneration: Regeneration | null;
  /** Fires when nobody wants more. */
  signal: AbortSignal;
  /** Why it ended, where the gates only know that it was aborted. */
  reason(error: unknown): unknown;
}

/** What a model's server sends in one piece, an answer or a refusal, on its way through the gates of its choices. */
export class WholeRelay {
  readonly #context: Context;

  constructor(context: Context) {
    this.#context = context;
  }

  /** The model's whole answer, moderated. @throws what the guard failed of, and RequestError */
  async answer(response: Response): Promise<Json> {
    const { codec, options, lanes } = this.#context;
    const body = parse(await this.#read(response, MOST_ANSWER));
    const error = errorIn(body);
    if (error) throw await this.#quoted(error);
    const answer = codec.whole(body, options);
    this.#goOn(answer);
    const violations = await Promise.all(
      lanes.map((lane, choice) => this.#judge(lane, answer.slots[choice])),
    );
    if (violations.some((violation) => violation !== null)) answer.stop(violations);
    return options.annotations ? codec.annotate(answer.body, options.annotations) : answer.body;
  }

  /** The server's refusal, with what passes of its own words. */
  async refusal(response: Response): Promise<UpstreamError> {
    const type = response.headers.get("content-type") ?? "";
    const text = await this.#read(response, MOST_REFUSAL).catch(() => "");
    return this.#quoted(refusal(response.status, text, type));
  }

  /** Has the answer gone on with where it is flagged. */
  #goOn(answer: WholeAnswer): void {
    const { codec, options, lanes, regeneration } = this.#context;
    const [lane] = lanes;
    const [slot] = answer.slots[0];
    if (!regeneration || answer.slots[0].length !== 1 || !regeneration.seam.isText(answer.body)) return;
    lane.slot = slot;
    lane.again = (attempt, signal) => {
      const { input } = lane;
      const gone = async () => {
        const response = await regeneration.ask(attempt, signal);
        const more = codec.whole(parse(await this.#read(response, MOST_ANSWER)), options);
        const [own] = more.slots[0] as (Slot | undefined)[];
        if (more.slots[0].length > 1 || !regeneration.seam.isText(more.body))
          regeneration.giveUp(attempt, ".");
        regeneration.seam.joinWhole(answer.body, more.body);
        const { repeated } = regeneration;
        // It may have nothing to add.
        await lane.write(slot, repeated.push(own?.text ?? "") + repeated.end(), input);
      };
      gone().then(
        () => input.close(),
        (error) => input.close({ error }),
      );
    };
  }

  /** An error with the server's own words, where the guard lets them pass. */
  async #quoted(error: UpstreamError): Promise<UpstreamError> {
    if (error.quote === "") return error;
    const slot = new Slot(error.quote, "content");
    try {
      if ((await this.#judge(this.#context.lanes[0], [slot])) === null) error.tell();
    } catch {
      // Without a guard the words are left out; the failure is told all the same.
    }
    return error;
  }

  async #judge(lane: Lane, slots: readonly Slot[]): Promise<ModerationViolation | null> {
    try {
      return await lane.judge(slots);
    } catch (error) {
      throw this.#context.reason(error);
    }
  }

  async #read(response: Response, most: number): Promise<string> {
    try {
      return await readText(response, most);
    } catch (cause) {
      if (cause instanceof RequestError) throw cause;
      if (this.#context.signal.aborted) throw this.#context.reason(cause);
      throw new RequestError(502, "upstream_failed", "The model's answer broke off.", { cause });
    }
  }
}

function parse(text: string): Json {
  let body: unknown;
  try {
    body = JSON.parse(text);
  } catch (cause) {
    throw new RequestError(502, "upstream_invalid", "The model's server sent no JSON.", { cause });
  }
  if (!isRecord(body)) {
    throw new RequestError(502, "upstream_invalid", "The model's server sent no JSON object.");
  }
  return body;
}
