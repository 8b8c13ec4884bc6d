import { once } from "node:events";
import { request as ask, type IncomingMessage } from "node:http";
import { Readable } from "node:stream";
import { buffer } from "node:stream/consumers";
import { RequestError } from "../gateway/api-error.js";
import type { Service } from "../gateway/server.js";
import { streamUnknown } from "./streams.js";

/** The process that holds a stream stands in the stream's id, so that whoever gets a request for it can pass that on. */
const STREAM_PATH = /^\/v1\/streams\/([1-9]\d{0,8})-[\da-f-]{36}(?:\/|$)/;

/** Ids of the streams that a worker holds. */
export function streamIdsOf(worker: number): () => string {
  return () => `${worker}-${crypto.randomUUID()}`;
}

/**
 * One of several processes that answer at one address. A client's requests may come on any of its connections: those for a
 * stream that another process holds go to that one as they are, which lets them in, counts and answers them like its own.
 */
export class SiblingStreams implements Service {
  readonly #own: Service;
  readonly #worker: number;
  readonly #placeOf: (worker: number) => string;
  #draining = false;

  /** @param placeOf the path of the socket or pipe at which a process of that number answers, or did */
  constructor(own: Service, worker: number, placeOf: (worker: number) => string) {
    this.#own = own;
    this.#worker = worker;
    this.#placeOf = placeOf;
  }

  readonly fetch = (request: Request): Response | Promise<Response> => {
    const holder = Number(STREAM_PATH.exec(new URL(request.url).pathname)?.[1] ?? this.#worker);
    // All stop taking requests at once.
    return holder === this.#worker || this.#draining ? this.#own.fetch(request) : this.#pass(request, holder);
  };

  drain(): void {
    this.#draining = true;
    this.#own.drain();
  }

  abort(): void {
    this.#own.abort();
  }

  async upgrade(...handed: Parameters<NonNullable<Service["upgrade"]>>): Promise<void> {
    await this.#own.upgrade?.(...handed);
  }

  async #pass(request: Request, holder: number): Promise<Response> {
    const { method, signal, body } = request;
    const { pathname, search } = new URL(request.url);
    const kept = [...request.headers].filter(([name]) => !OF_A_CONNECTION.has(name));
    // A connection of its own: one that was kept open may close just then, which would look like the other's end. For the
    // same reason the other must not close it behind its answer, which may be there before the last write here; without an
    // agent that keeps it, it closes here.
    const passed = ask({
      ...{ socketPath: this.#placeOf(holder), agent: false, method, path: pathname + search, signal },
      headers: { ...Object.fromEntries(kept), connection: "keep-alive" },
    });
    try {
      const said = once(passed, "response") as Promise<[IncomingMessage]>;
      if (body)
        Readable.fromWeb(body as Parameters<typeof Readable.fromWeb>[0])
          .on("error", (error) => passed.destroy(error))
          .pipe(passed);
      else passed.end();
      const [answer] = await said;
      passed.on("error", () => {});
      const headers = Object.entries(answer.headersDistinct).flatMap(([name, values]) =>
        OF_A_CONNECTION.has(name) ? [] : (values ?? []).map((value): [string, string] => [name, value]),
      );
      return new Response(answer.statusCode === 204 ? null : await buffer(answer), {
        status: answer.statusCode,
        headers,
      });
    } catch (error) {
      passed.destroy();
      if (signal.aborted) throw error;
      // No process of that number has been.
      return refusal((error as NodeJS.ErrnoException).code === "ENOENT" ? streamUnknown() : streamLost());
    }
  }
}

/** Of one connection, not of what goes over it. */
const OF_A_CONNECTION = new Set(["connection", "keep-alive", "transfer-encoding", "upgrade", "expect"]);

function streamLost(): RequestError {
  const message = "The process that held this stream stopped, and the stream with it. Open another.";
  return new RequestError(410, "worker_lost", message);
}

function refusal({ status, body }: RequestError): Response {
  return Response.json(body, { status });
}
