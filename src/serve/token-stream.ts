import type { ClosedError } from "../errors.js";
import { RequestError } from "../gateway/api-error.js";
import type { RequestRecord } from "../gateway/record/record.js";
import type { Guard, StreamInput } from "../guard.js";
import type { Decision } from "../moderation/decision.js";
import { type PolicyData, resolvePolicy } from "../moderation/policy.js";
import type { GuardStream } from "../moderation/stream.js";
import { type Judgement, type Verdict, worstAsked } from "../moderation/verdict.js";
import type { Message } from "../tokenizer/chat-template/messages.js";
import type { Json } from "../validation/json.js";
import { requireFields, withReasoning } from "./messages.js";
import { StreamTelling } from "./telling.js";

/** Characters or ids of one push: more would keep others waiting. */
const MOST_PUSHED = 1 << 16;
/** `type` is a socket's. */
const OPENING = ["type", "messages", "ids", "tools", "overflow", "policy", "model"];
const PUSHING = ["type", "text", "ids"];

/**
 * Verdicts in the terms of the official streaming API. They stand from `from` on: what was told of later tokens before is
 * replaced.
 */
export interface ToldVerdicts {
  from: number;
  token_ids: number[];
  text: string[];
  risk_level: string[];
  risk_prob: number[];
  category: (string | null)[];
  category_prob: (number | null)[];
  /** Later text may still change them. */
  provisional: boolean[];
}

/** A stream that a client of the service holds, by socket or by requests. */
export class TokenStream {
  readonly id: string;
  readonly owner: string;
  readonly #stream: GuardStream;
  usedAt = performance.now();
  /** Work under way: while there is any it is not idle. */
  pending = 0;

  readonly #telling: StreamTelling;
  #ending: Promise<void> | null = null;

  /** @throws {RequestError} field_invalid, field_unknown; as `guard.stream` */
  constructor(
    guard: Guard,
    body: Json,
    {
      policy,
      owner,
      id,
      record,
    }: { policy: PolicyData | undefined; owner: string; id: string; record: RequestRecord },
  ) {
    this.owner = owner;
    this.id = id;
    requireFields(body, OPENING);
    const { ids, overflow } = body;
    const messages = withReasoning(body.messages);
    if ((messages === undefined) === (ids === undefined)) {
      throw new RequestError(400, "field_invalid", "A stream opens with messages or with ids, one of them.");
    }
    if (overflow != null && overflow !== "slide" && overflow !== "error")
      throw new RequestError(400, "field_invalid", 'overflow is "slide" or "error".');
    // What does not fit together the guard refuses.
    const begin = { messages, promptIds: ids, tools: body.tools } as StreamInput;
    const given = (body.policy as PolicyData | undefined) ?? policy;
    this.#stream = guard.stream({
      ...begin,
      overflow: overflow ?? "slide",
      closely: overflow !== "error",
      policy: given,
      cacheKey: owner,
    });
    const resolved = given ? resolvePolicy(given, guard.labels) : null;
    this.#telling = new StreamTelling(record, resolved, (messages as Message[] | undefined) ?? []);
    // Its end closes it as well.
    void this.#stream.closed.then((reason) => this.#ending ?? this.#telling.closed(reason));
  }

  /** Resolves when it is over, whatever the reason. */
  get closed(): Promise<unknown> {
    return this.#stream.closed;
  }

  /** Resolves when it is over, with what is to be logged of it. */
  get over(): Promise<{ status: number; error: unknown }> {
    return this.#stream.closed.then(async (reason) => {
      await this.#ending;
      return this.#telling.over(reason);
    });
  }

  /** The prompt's verdict, or that on its tools if it is worse. */
  prompt(): Promise<Json | null> {
    return this.#busy(async () => {
      const own = await this.#stream.prompt;
      const verdict = own && worstAsked(own, await this.#stream.turns);
      this.#telling.prompt(verdict, this.#stream);
      return verdict && told(verdict);
    });
  }

  /** Judges what comes next, in the order of the calls. @throws {RequestError} field_invalid, field_unknown; as `push` and `pushText` */
  push(body: Json): Promise<ToldVerdicts> {
    return this.#busy(async () => {
      requireFields(body, PUSHING);
      const { text, ids } = body;
      if (typeof text === "string" && ids === undefined && text.length <= MOST_PUSHED) {
        return this.#pushed(await this.#stream.pushText(text), text);
      }
      if (Array.isArray(ids) && text === undefined && ids.length <= MOST_PUSHED) {
        return this.#pushed(await this.#stream.push(ids));
      }
      const message = `A push brings text or ids, one of them, no more than ${MOST_PUSHED} characters or ids.`;
      throw new RequestError(400, "field_invalid", message);
    });
  }

  /** What the last text comes to, and what the response as a whole does; the slot is free. */
  end(): Promise<{ verdicts: ToldVerdicts; decision: Decision }> {
    const ended = this.#busy(async () => {
      const verdicts = toldVerdicts(await this.#stream.flush());
      const decision = await this.#stream.end();
      this.#telling.ended(decision, this.#stream.ruling);
      return { verdicts, decision };
    });
    const over = () => this.#stream.closed.then((reason) => this.#telling.closed(reason));
    this.#ending ??= ended.then(() => {}, over);
    return ended;
  }

  /** @param text as it came; of ids what their tokens complete */
  #pushed(
    verdicts: readonly Verdict[],
    text = verdicts.map((verdict) => verdict.text).join(""),
  ): ToldVerdicts {
    this.#telling.heard(text);
    return toldVerdicts(verdicts);
  }

  close(reason?: ClosedError): void {
    this.#stream.close(reason);
  }

  async #busy<T>(work: () => Promise<T>): Promise<T> {
    this.pending++;
    try {
      return await work();
    } finally {
      this.pending--;
      this.usedAt = performance.now();
    }
  }
}

function told({ risk, riskProbability, category, categoryProbability, probabilities }: Judgement): Json {
  return {
    risk_level: risk,
    risk_prob: riskProbability,
    category,
    category_prob: categoryProbability,
    probabilities,
  };
}

function toldVerdicts(verdicts: readonly Verdict[]): ToldVerdicts {
  return {
    from: verdicts[0]?.index ?? 0,
    token_ids: verdicts.map(({ tokenId }) => tokenId),
    text: verdicts.map(({ text }) => text),
    risk_level: verdicts.map(({ risk }) => risk),
    risk_prob: verdicts.map(({ riskProbability }) => riskProbability),
    category: verdicts.map(({ category }) => category),
    category_prob: verdicts.map(({ categoryProbability }) => categoryProbability),
    provisional: verdicts.map(({ provisional }) => provisional),
  };
}
