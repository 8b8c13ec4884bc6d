/**
 * An API by script for `gateway.ts`: all protocols, answers that name themselves in each sentence, harmful ones among them.
 * It dies where a request's header says so, and goes on with an answer that its request ends with.
 */
import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { text as textOf } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";
import { PROTOCOLS, type Protocol } from "../test/gateway/protocols.js";

/** How many answers there are. A third of them turns. */
export const SAMPLES = 18;
const HARM = ["You stupid idiot, ", "I will find you ", "and kill you ", "with a knife. "];
/** Events between which the API looks after its other streams. */
const PAUSE_MS = 1;

/** What becomes of an answer, besides that it is sent. */
export type Death = "dies" | "ends early" | "fails" | "refuses";

/** The pieces of an answer; every sentence says whose it is. */
export function piecesOf(sample: number): string[] {
  const sentences = Array.from(
    { length: 2 + (sample % 5) * 2 },
    (_, i) => `Guest ${sample} gets cake ${i}. `,
  );
  const middle = Math.ceil(sentences.length / 2);
  return turns(sample) ? sentences.toSpliced(middle, 0, ...HARM) : sentences;
}

/** Those ahead of what is harmful. */
export function harmlessOf(sample: number): string[] {
  const pieces = piecesOf(sample);
  return turns(sample) ? pieces.slice(0, pieces.indexOf(HARM[0])) : pieces;
}

/** Whether it turns harmful midway. */
function turns(sample: number): boolean {
  return sample % 3 === 2;
}

/** How an answer goes on that began so: where its number is even, harmful once more first. */
function rest(sample: number, begun: string, again: boolean): string[] {
  const word = begun === "" ? "" : " ";
  const harmless = [`${word}Guest ${sample} gets tea. `, `Guest ${sample} gets a chair. `];
  return again ? [harmless[0], ...HARM, harmless[1]] : harmless;
}

export async function startApi(): Promise<{ url: string; close: () => void }> {
  /** How often each request came, by its name: the second time is to go on with the first's answer. */
  const asked = new Map<string, number>();
  const server = createServer(async (request, response) => {
    const body = await textOf(request).catch(() => null);
    if (body !== null) await answer(request, response, JSON.parse(body), asked);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    close: () => {
      server.closeAllConnections();
      server.close();
    },
  };
}

async function answer(
  { url, headers }: IncomingMessage,
  response: ServerResponse,
  body: { stream?: boolean; messages?: { role: string; content: string }[] },
  asked: Map<string, number>,
): Promise<void> {
  const protocol = PROTOCOLS.find(({ path }) => path === url) as Protocol;
  const sample = Number(headers["x-sample"]);
  const name = String(headers["x-name"]);
  const attempts = asked.get(name) ?? 0;
  asked.set(name, attempts + 1);
  const last = body.messages?.at(-1);
  const begun = last?.role === "assistant" ? last.content : "";
  const texts = attempts === 0 ? piecesOf(sample) : rest(sample, begun, sample % 2 === 0 && attempts === 1);
  const death = headers["x-death"] as Death | undefined;
  if (death === "refuses") return void response.writeHead(500).end();
  const events = body.stream ? protocol.stream(texts) : [JSON.stringify(protocol.whole(texts.join("")))];
  const most = death ? Math.min(Number(headers["x-after"]), events.length - 1) : events.length;
  response.writeHead(200, { "content-type": body.stream ? protocol.contentType : "application/json" });
  response.flushHeaders();
  for (const event of events.slice(0, most)) {
    if (response.destroyed) return;
    response.write(event);
    await sleep(PAUSE_MS);
  }
  if (death === "dies") return void response.destroy();
  if (death === "fails") response.write(failure(protocol));
  response.end();
}

function failure({ contentType }: Protocol): string {
  const error = { type: "error", error: { type: "overloaded_error", message: "Overloaded" } };
  return contentType === "text/event-stream"
    ? `event: error\ndata: ${JSON.stringify(error)}\n\n`
    : `${JSON.stringify({ error: "Overloaded" })}\n`;
}
