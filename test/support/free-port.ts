import { once } from "node:events";
import { createServer } from "node:net";

/** Of each process that runs tests at the same time a thousand of its own, from which each port is given out once. */
const FIRST = 20_000 + 1_000 * (Number(process.env.VITEST_POOL_ID ?? 0) % 10);
let next = Math.floor(Math.random() * 1_000);

/**
 * A port for a server that does not say where it listens, or that comes back to the same one. None that the system gives
 * out: another's connection may take it meanwhile, and who tries to connect to it until somebody listens may at last be
 * connected with itself.
 */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = FIRST + (next++ % 1_000);
    const server = createServer().listen(port, "127.0.0.1");
    const free = await once(server, "listening").then(
      () => true,
      () => false,
    );
    if (!free) continue;
    server.close();
    await once(server, "close");
    return port;
  }
}
