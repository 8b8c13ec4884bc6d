import cluster, { type Worker } from "node:cluster";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { type AddressInfo, createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { Readable } from "node:stream";
import { DeviceError, InputError, StorageError } from "../../errors.js";
import { takeBacklog } from "../backlog.js";
import { Connections } from "./connections.js";
import { Member } from "./member.js";
import type { FromWorker, Question } from "./messages.js";
import { POOL, requirePlaces } from "./place.js";
import { PooledMetrics } from "./pooled-metrics.js";

/** Milliseconds until a worker is started again that died before it was ready; doubled each time. */
const FIRST_PAUSE = 1000;
const LONGEST_PAUSE = 30_000;
/** Milliseconds between two questions whether a worker hears, and how many may stand without an answer. */
const PULSE = 10_000;
const MOST_UNHEARD = 6;
/** Milliseconds beyond its time of grace for a worker to end. */
const FAREWELL = 10_000;

export interface WorkerPoolOptions {
  workers: number;
  port: number;
  host: string;
  /** A line of a worker's log, or of the pool's own. */
  log: (line: string) => void;
  /** A line of a worker's standard output. Where it rejects, that worker's is closed. Default: they are dropped. */
  out?: (line: string) => Promise<void>;
  /** Counts a request of a client's, whichever worker it came to; false: no more for now. */
  mayAsk?: (client: string) => boolean;
  /** Milliseconds between two questions whether a worker hears. Default 10,000. */
  pulse?: number;
}

/**
 * Processes that run this same command line, behind one port. One that dies is replaced, and one that hears nothing any more is
 * killed; what it was saying ends with an error, and nobody else notices.
 */
export class WorkerPool {
  readonly url: string;
  readonly #server: Server;
  readonly #folder: string;
  readonly #options: WorkerPoolOptions;
  readonly #members = new Map<number, Member>();
  readonly #connections: Connections;
  readonly #metrics = new PooledMetrics();
  readonly #pulse: NodeJS.Timeout;
  #pause = FIRST_PAUSE;
  #closing = false;

  private constructor(server: Server, folder: string, options: WorkerPoolOptions) {
    this.#server = server;
    this.#folder = folder;
    this.#options = options;
    this.#connections = new Connections(this.#members, folder);
    const { address, family, port } = server.address() as AddressInfo;
    this.url = `http://${family === "IPv6" ? `[${address}]` : address}:${port}`;
    server.on("connection", (socket) => this.#connections.take(socket));
    cluster.setupPrimary({ silent: true });
    this.#pulse = setInterval(() => this.#feelPulses(), options.pulse ?? PULSE).unref();
  }

  /**
   * Takes connections, which wait for workers.
   *
   * @throws {InputError} PORT_UNAVAILABLE, SOCKET_PATH_TOO_LONG
   * @throws {StorageError} SOCKETS_UNWRITABLE
   */
  static async listen(options: WorkerPoolOptions): Promise<WorkerPool> {
    const { port, host } = options;
    const prefix = join(tmpdir(), "qwen3guard-");
    requirePlaces(`${prefix}XXXXXX`);
    // Before it listens: a connection that came while this is waited for would be nobody's, and never be answered.
    const folder = await mkdtemp(prefix).catch((cause) => {
      const message = `There is no place for the workers' sockets in ${tmpdir()} (${cause.code}). Set TMPDIR to a folder that you may write to.`;
      throw new StorageError("SOCKETS_UNWRITABLE", message, { cause });
    });
    const server = createServer({ allowHalfOpen: true, pauseOnConnect: true });
    server.listen(port, host);
    await once(server, "listening").catch(async (cause: NodeJS.ErrnoException) => {
      await rm(folder, { recursive: true, force: true });
      const message = `Cannot listen on ${host}:${port} (${cause.code}). Choose another with --host and --port.`;
      throw new InputError("PORT_UNAVAILABLE", message, { cause });
    });
    return new WorkerPool(server, folder, options);
  }

  /**
   * Starts the workers. Resolves once all of them answer, or the pool was closed meanwhile.
   *
   * @throws {DeviceError} WORKER_FAILED: one ended before it was ready; it has said why
   */
  async start(): Promise<void> {
    const begin = async () => {
      if (!this.#closing) this.#replaceAfter(await this.#fork());
    };
    try {
      // The first may have a model to export, which the others then find.
      await begin();
      await Promise.all(Array.from({ length: this.#options.workers - 1 }, begin));
    } catch (error) {
      if (this.#closing) return;
      await this.close(0);
      throw error;
    }
  }

  /**
   * Takes no more connections, lets requests under way end for the workers' time of grace, or for none, then ends them. A
   * second call can shorten that. One that does not hear is killed.
   */
  async close(graceMs: number, farewellMs = FAREWELL): Promise<void> {
    this.#closing = true;
    clearInterval(this.#pulse);
    await takeBacklog(this.#server);
    this.#server.close();
    this.#connections.closeWaiting();
    const members = [...this.#members.values()];
    await Promise.all(members.map((member) => member.end(graceMs === 0, graceMs + farewellMs)));
    this.#connections.close();
    await rm(this.#folder, { recursive: true, force: true });
  }

  /** Starts a worker. Resolves when it is ready. @throws {DeviceError} WORKER_FAILED */
  #fork(): Promise<Worker> {
    const worker = cluster.fork({ [POOL]: this.#folder });
    const member = new Member(worker);
    this.#members.set(worker.id, member);
    // A line at a time: several processes write to one stream.
    const { stderr, stdout } = worker.process;
    if (stderr) createInterface({ input: stderr }).on("line", this.#options.log);
    if (stdout) this.#passOn(stdout).catch(() => stdout.destroy());
    worker.on("message", (message: FromWorker) => this.#hear(member, message));
    return new Promise((resolve, reject) => {
      worker.on("message", ({ kind }: FromWorker) => kind === "ready" && resolve(worker));
      worker.once("exit", (code, signal) => {
        this.#members.delete(worker.id);
        this.#metrics.leave(worker.id);
        member.leave();
        const message = `A worker ended (${signal ?? `exit code ${code}`}) before it was ready. What it said stands above.`;
        reject(new DeviceError("WORKER_FAILED", message));
      });
    });
  }

  async #passOn(stdout: Readable): Promise<void> {
    for await (const line of createInterface({ input: stdout })) await this.#options.out?.(line);
  }

  /** Starts another when this one ends. */
  #replaceAfter(worker: Worker): void {
    worker.once("exit", (code, signal) => {
      if (this.#closing) return;
      this.#note("worker_lost", { pid: worker.process.pid, code, signal });
      void this.#replace();
    });
  }

  async #replace(): Promise<void> {
    while (!this.#closing) {
      try {
        const worker = await this.#fork();
        if (this.#closing) return;
        this.#pause = FIRST_PAUSE;
        this.#note("worker_started", { pid: worker.process.pid });
        return this.#replaceAfter(worker);
      } catch {
        if (this.#closing) return;
        this.#note("worker_failed", { retryMs: this.#pause });
        await new Promise((resolve) => setTimeout(resolve, this.#pause).unref());
        this.#pause = Math.min(2 * this.#pause, LONGEST_PAUSE);
      }
    }
  }

  /** Counts questions, not seconds: where all processes stood still, no worker is to blame. */
  #feelPulses(): void {
    for (const member of this.#members.values()) {
      if (!member.ready || member.feel() < MOST_UNHEARD) continue;
      member.ready = false;
      this.#note("worker_hangs", { pid: member.worker.process.pid });
      member.worker.process.kill("SIGKILL");
    }
  }

  #hear(member: Member, message: FromWorker): void {
    member.heard();
    if (message.kind === "started") {
      // It was told before it could hear.
      if (this.#closing) member.tell({ kind: "close", now: false });
    } else if (message.kind === "ready") {
      member.ready = true;
      this.#connections.takeWaiting();
    } else if (message.kind === "metrics") {
      member.collected(message.id, message.metrics);
    } else if (message.kind === "ask") {
      const { id, question } = message;
      void this.#answer(question).then((answer) => member.tell({ kind: "answer", id, answer }));
    }
  }

  async #answer(question: Question): Promise<string | boolean> {
    if (question.about === "rate") return this.#options.mayAsk?.(question.client) ?? true;
    const ready = [...this.#members].filter(([, { ready }]) => ready);
    return this.#metrics.text(new Map(ready.map(([key, member]) => [key, () => member.collect()])));
  }

  #note(event: string, facts: object): void {
    this.#options.log(JSON.stringify({ time: new Date().toISOString(), event, ...facts }));
  }
}
