import type { Server } from "node:net";
import { setImmediate as nextTurn } from "node:timers/promises";

/** As many connections as a system keeps waiting: others may come without end. */
const MOST_TURNS = 512;

/** Takes the connections that the system has taken by now, and would reset with their requests: Node takes one in a turn. */
export async function takeBacklog(server: Server): Promise<void> {
  let taken = 0;
  const count = () => taken++;
  server.on("connection", count);
  // The first turn may have begun.
  await nextTurn();
  for (let before = -1, turns = 0; before !== taken && turns < MOST_TURNS; turns++) {
    before = taken;
    await nextTurn();
  }
  server.off("connection", count);
}
