import type { Socket } from "node:net";

/** Destroys a connection to which all is said, if its client has not closed its half after so many milliseconds. Holds up no end. */
export function destroyLate(socket: Socket, ms: number): void {
  const timer = setTimeout(() => socket.destroy(), ms).unref();
  socket.once("close", () => clearTimeout(timer));
}
