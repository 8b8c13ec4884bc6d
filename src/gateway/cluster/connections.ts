import type { Socket } from "node:net";
import type { Member } from "./member.js";
import { placeOf } from "./place.js";
import { relay } from "./relay.js";

/** Connections that wait for a worker; more are closed. */
const MOST_WAITING = 1024;

/**
 * The connections of a pool's clients. Each goes to the worker that has the fewest, and of several to the one that has waited
 * for one the longest: a connection a request is none that lasts, and token streams do.
 */
export class Connections {
  readonly #members: ReadonlyMap<number, Member>;
  readonly #folder: string;
  readonly #waiting: Socket[] = [];
  readonly #open = new Set<Socket>();
  #taken = 0;

  /** @param folder where workers have their places */
  constructor(members: ReadonlyMap<number, Member>, folder: string) {
    this.#members = members;
    this.#folder = folder;
  }

  take(socket: Socket): void {
    const ready = [...this.#members.values()].filter(({ ready }) => ready);
    if (ready.length > 0) this.#give(socket, ready.reduce(idler));
    else if (this.#waiting.length < MOST_WAITING) this.#waiting.push(socket);
    else socket.destroy();
  }

  /** There is a worker for those that wait. */
  takeWaiting(): void {
    for (const socket of this.#waiting.splice(0)) this.take(socket);
  }

  closeWaiting(): void {
    for (const socket of this.#waiting.splice(0)) socket.destroy();
  }

  /** Lets what is written go out. */
  close(): void {
    for (const socket of this.#open) socket.destroySoon();
  }

  #give(socket: Socket, member: Member): void {
    member.connections++;
    member.last = ++this.#taken;
    this.#open.add(socket);
    void relay(socket, placeOf(this.#folder, member.worker.id)).then(() => {
      member.connections--;
      this.#open.delete(socket);
    });
  }
}

function idler(one: Member, other: Member): Member {
  return (other.connections - one.connections || other.last - one.last) < 0 ? other : one;
}
