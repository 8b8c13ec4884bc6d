import type { IncomingMessage, Server, ServerResponse } from "node:http";
import { type Socket, Server as TcpServer } from "node:net";
import { takeBacklog } from "./backlog.js";

/** Milliseconds that a connection stays open on which nothing happens, for a request that may be on its way. */
const ON_ITS_WAY = 500;

/**
 * Connections and answers of a server, to end it without losing a request. Node would close what is idle at once: newer ones
 * also connections on which nothing was said yet, older ones none of these, until their clients close them.
 */
export class OpenConnections {
  readonly #server: Server;
  readonly #open = new Set<Socket>();
  readonly #answers = new Set<ServerResponse>();
  #closed: Promise<void> | null = null;

  constructor(server: Server) {
    this.#server = server;
    server.on("connection", (socket) => {
      this.#open.add(socket);
      socket.once("close", () => this.#open.delete(socket));
    });
    // Before anybody answers: then it is too late to say that the connection will be closed.
    server.prependListener("request", (incoming, answer) => this.#begins(incoming, answer));
  }

  /**
   * Takes no more of them, and closes those that are idle in a moment, at most so many milliseconds, and others behind the
   * answer under way. Resolves once all are closed. A second call can shorten that.
   */
  close(mostMs: number): Promise<void> {
    this.#closed ??= new Promise((resolve) => {
      for (const answer of this.#answers) sayGoodbye(answer);
      void takeBacklog(this.#server).then(() =>
        TcpServer.prototype.close.call(this.#server, () => {
          // Ends Node's own timers.
          this.#server.close();
          resolve();
        }),
      );
    });
    // What has come by then is read first.
    const closeIdle = () => setImmediate(() => this.#closeIdle());
    const timer = setTimeout(closeIdle, Math.min(mostMs, ON_ITS_WAY));
    return this.#closed.finally(() => clearTimeout(timer));
  }

  #begins({ socket }: IncomingMessage, answer: ServerResponse): void {
    this.#answers.add(answer);
    answer.once("close", () => this.#answers.delete(answer));
    if (this.#closed) sayGoodbye(answer);
    // Kept open it would hold up the end until its client, or Node's keepAliveTimeout, gave it up.
    answer.once("finish", () => this.#closed && socket.destroySoon());
  }

  #closeIdle(): void {
    this.#server.closeIdleConnections();
    for (const socket of this.#open) if (socket.bytesRead === 0) socket.destroy();
  }
}

/** Tells the client to ask nothing more on this connection. */
function sayGoodbye(answer: ServerResponse): void {
  if (!answer.headersSent) answer.setHeader("connection", "close");
}
