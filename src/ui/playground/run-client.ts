import type { GuardLoad, RunEvent, RunRequest } from "../../playground/protocol.js";

/** The address's token goes with each request. */
const query = location.search;

/**
 * Runs a conversation. Events come in batches, as the network brings them.
 *
 * @throws what the server refused, or that it is gone
 */
export async function runOn(
  request: RunRequest,
  onEvents: (events: RunEvent[]) => void,
  signal: AbortSignal,
): Promise<void> {
  const response = await fetch(`/run${query}`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(request),
    signal,
  });
  if (!response.ok || !response.body) {
    const said = await response.text();
    throw new Error(response.headers.get("content-type")?.includes("json") ? JSON.parse(said).message : said);
  }
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop() as string;
    if (lines.length > 0) onEvents(lines.map((line) => JSON.parse(line) as RunEvent));
  }
}

export async function fetchLoad(): Promise<GuardLoad> {
  return (await fetch(`/load${query}`)).json();
}
