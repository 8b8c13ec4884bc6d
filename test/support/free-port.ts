import { once } from "node:events";
import { createServer } from "node:net";

/**
 * A port for a server that does not say where it listens, or that comes back to the same one. None that the system gives
 * out: another's connection may take it meanwhile, and who tries to connect to it until somebody listens may at last be
 * connected with itself.
 */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = 20_000 + Math.floor(Math.random() * 10_000);
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
