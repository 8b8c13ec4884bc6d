import cluster, { type Worker } from "node:cluster";
import { once } from "node:events";
import { type AddressInfo, createServer, type Server, type Socket } from "node:net";
import { createInterface } from "node:readline";
import { DeviceError, InputError } from "../../errors.js";
import type { FromWorker, Measured, ToWorker } from "./messages.js";
import { type Collect, PooledMetrics } from "./pooled-metrics.js";
import { relay } from "./relay.js";

/** Connections that wait for a worker; more are closed. */
const MOST_WAITING = 1024;
/** Milliseconds until a worker is started again that died before it was ready; doubled each time. */
const FIRST_PAUSE = 1000;
const LONGEST_PAUSE = 30_000;

export interface WorkerPoolOptions {
  workers: number;
  port: number;
  host: string;
  /** A line of a worker's log, or of the pool's own. */
  log: (line: string) => void;
}

interface Member {
  worker: Worker;
  /** Where it answers; null until it does. */
  path: string | null;
  connections: number;
  collecting: Map<number, (measured: Measured) => void>;
}

/**
 * Processes that run this same command line, behind one port. Each connection goes to the worker that has the fewest.
 * One that dies is replaced; what it was saying ends with an error, and nobody else notices.
 */
export class WorkerPool {
  readonly url: string;
  readonly #server: Server;
  readonly #log: (line: string) => void;
  readonly #members = new Map<number, Member>();
  readonly #waiting: Socket[] = [];
  readonly #open = new Set<Socket>();
  readonly #metrics = new PooledMetrics();
  #ids = 0;
  #pause = FIRST_PAUSE;
  #closing = false;

  private constructor(server: Server, log: (line: string) => void) {
    this.#server = server;
    this.#log = log;
    const { address, family, port } = server.address() as AddressInfo;
    this.url = `http://${family === "IPv6" ? `[${address}]` : address}:${port}`;
    server.on("connection", (socket) => this.#take(socket));
    // What the first loads or exports, the others find.
    cluster.setupPrimary({ silent: true });
  }

  /**
   * Starts workers and waits until all of them answer.
   *
   * @throws {InputError} PORT_UNAVAILABLE
   * @throws {DeviceError} WORKER_FAILED: one ended before it was ready; it has said why
   */
  static async start({ workers, port, host, log }: WorkerPoolOptions): Promise<WorkerPool> {
    const server = createServer({ allowHalfOpen: true, pauseOnConnect: true });
    server.listen(port, host);
    await once(server, "listening").catch((cause: NodeJS.ErrnoException) => {
      const message = `Cannot listen on ${host}:${port} (${cause.code}). Choose another with --host and --port.`;
      throw new InputError("PORT_UNAVAILABLE", message, { cause });
    });
    const pool = new WorkerPool(server, log);
    try {
      // The first may have a model to export, which the others then find.
      await pool.#fork();
      await Promise.all(Array.from({ length: workers - 1 }, () => pool.#fork()));
      for (const { worker } of pool.#members.values()) pool.#replaceAfter(worker);
      return pool;
    } catch (error) {
      await pool.close(0);
      throw error;
    }
  }

  /** Takes no more connections, lets requests under way end for so long, then ends them. A second call can shorten that. */
  async close(graceMs: number): Promise<void> {
    this.#closing = true;
    this.#server.close();
    for (const socket of this.#waiting.splice(0)) socket.destroy();
    const gone = [...this.#members.values()].map(({ worker }) => {
      tell(worker, { kind: "close", graceMs });
      return worker.isDead() ? null : once(worker, "exit");
    });
    await Promise.all(gone);
    for (const socket of this.#open) socket.destroySoon();
  }

  /** Starts a worker. Resolves when it is ready. @throws {DeviceError} WORKER_FAILED */
  #fork(): Promise<Worker> {
    const worker = cluster.fork();
    const member: Member = { worker, path: null, connections: 0, collecting: new Map() };
    this.#members.set(worker.id, member);
    // A line at a time: several processes write to one stream.
    const { stderr } = worker.process;
    if (stderr) createInterface({ input: stderr }).on("line", this.#log);
    worker.on("message", (message: FromWorker) => this.#hear(member, message));
    return new Promise((resolve, reject) => {
      worker.on("message", ({ kind }: FromWorker) => kind === "ready" && resolve(worker));
      worker.once("exit", (code, signal) => {
        this.#members.delete(worker.id);
        this.#metrics.leave(worker.id);
        for (const give of member.collecting.values()) give([]);
        const message = `A worker ended (${signal ?? `exit code ${code}`}) before it was ready. What it said stands above.`;
        reject(new DeviceError("WORKER_FAILED", message));
      });
    });
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
        this.#pause = FIRST_PAUSE;
        this.#note("worker_started", { pid: worker.process.pid });
        return this.#replaceAfter(worker);
      } catch {
        this.#note("worker_failed", { retryMs: this.#pause });
        await new Promise((resolve) => setTimeout(resolve, this.#pause).unref());
        this.#pause = Math.min(2 * this.#pause, LONGEST_PAUSE);
      }
    }
  }

  #hear(member: Member, message: FromWorker): void {
    if (message.kind === "ready") {
      member.path = message.path;
      for (const socket of this.#waiting.splice(0)) this.#take(socket);
    } else if (message.kind === "metrics") {
      member.collecting.get(message.id)?.(message.metrics);
      member.collecting.delete(message.id);
    } else {
      const { id } = message;
      void this.#metrics
        .text(this.#collectors())
        .then((text) => tell(member.worker, { kind: "scraped", id, text }));
    }
  }

  #collectors(): Map<number, Collect> {
    const ready = [...this.#members].filter(([, { path }]) => path !== null);
    return new Map(
      ready.map(([key, { worker, collecting }]) => [
        key,
        () => {
          const id = ++this.#ids;
          tell(worker, { kind: "collect", id });
          return new Promise<Measured>((resolve) => collecting.set(id, resolve));
        },
      ]),
    );
  }

  #take(socket: Socket): void {
    const ready = [...this.#members.values()].filter(({ path }) => path !== null);
    if (ready.length === 0) {
      if (this.#waiting.length < MOST_WAITING) this.#waiting.push(socket);
      else socket.destroy();
      return;
    }
    const member = ready.reduce((least, next) => (next.connections < least.connections ? next : least));
    member.connections++;
    this.#open.add(socket);
    void relay(socket, member.path as string).then(() => {
      member.connections--;
      this.#open.delete(socket);
    });
  }

  #note(event: string, facts: object): void {
    this.#log(JSON.stringify({ time: new Date().toISOString(), event, ...facts }));
  }
}

function tell(worker: Worker, message: ToWorker): void {
  if (worker.isConnected()) worker.send(message, () => {});
}
