import { subscribe } from "node:diagnostics_channel";
import type { Socket } from "node:net";

/** Servers whose connections are heard out: scheme and host, as an address has them. */
const servers = new Set<string>();

type Write = (...given: [...unknown[], done: (error?: Error | null) => void]) => void;

/**
 * Has fetch read what a server said last where a write to it fails: one that refuses an upload may reset the connection right
 * behind its answer, and Node forgets what it has not read once a write has failed.
 *
 * @param origin of the server
 */
export function hearOut(origin: string): void {
  if (servers.size === 0) subscribe("undici:client:connected", connected);
  servers.add(origin);
}

function connected(message: unknown): void {
  const { socket, connectParams } = message as {
    socket: Socket;
    connectParams: { protocol: string; host: string };
  };
  if (!servers.has(`${connectParams.protocol}//${connectParams.host}`)) return;
  const writer = socket as unknown as Record<"_write" | "_writev", Write>;
  for (const name of ["_write", "_writev"] as const) writer[name] = failingLate(writer[name]);
}

function failingLate(write: Write): Write {
  return function (this: Socket, ...given) {
    const done = given.pop() as (error?: Error | null) => void;
    // A whole turn of the event loop, in which is read what there is.
    const late = (error: Error) => setImmediate(() => setImmediate(() => done(error)));
    write.call(this, ...given, (error?: Error | null) => (error ? late(error) : done()));
  };
}
