import { afterEach, beforeEach, expect, vi } from "vitest";
import { GuardProxy, type LogEntry, type ProxyOptions } from "../../src/gateway/proxy.js";
import { type Listening, listen } from "../../src/gateway/server.js";
import { ScriptedStream, scriptedGuard } from "../gate/scripted.js";
import { scriptedUpstream } from "./upstream.js";

/** Proxies on loopback in front of an API by script, for the tests of a file; all are closed after each. */
export function serving() {
  const state = {
    upstream: null as unknown as Awaited<ReturnType<typeof scriptedUpstream>>,
    log: [] as LogEntry[],
    /** A proxy, and what its guard was given. */
    async start(options: Partial<ProxyOptions> = {}, script: Parameters<typeof scriptedGuard>[0] = {}) {
      const scripted = scriptedGuard(script);
      const proxy = new GuardProxy(scripted.guard, {
        upstream: state.upstream.url,
        log: (entry) => state.log.push(entry),
        ...options,
      });
      const server = await listen(proxy, 0, "127.0.0.1");
      servers.push(server);
      return { url: server.url, proxy, ...scripted };
    },
    async logged(): Promise<LogEntry> {
      await expect.poll(() => state.log.length).toBeGreaterThan(0);
      return state.log[0];
    },
  };
  const servers: Listening[] = [];
  const unhandled = vi.fn();

  beforeEach(async () => {
    unhandled.mockClear();
    process.on("unhandledRejection", unhandled);
    state.upstream = await scriptedUpstream();
    state.log.length = 0;
  });
  afterEach(async () => {
    for (const server of servers.splice(0)) await server.close(0);
    await state.upstream.close();
    await expect.poll(() => ScriptedStream.open).toBe(0);
    process.off("unhandledRejection", unhandled);
    expect(unhandled).not.toHaveBeenCalled();
  });
  return state;
}
