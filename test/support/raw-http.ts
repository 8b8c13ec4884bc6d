import { connect } from "node:net";

/** A request in the bytes that Java's HttpClient sends by default: in the clear it offers HTTP/2 with each. */
export function javaRequest(method: string, path: string, body?: string): string {
  const lines = [
    `${method} ${path} HTTP/1.1`,
    "Connection: Upgrade, HTTP2-Settings",
    ...(body === undefined ? [] : [`Content-Length: ${Buffer.byteLength(body)}`]),
    "Host: localhost",
    "HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA",
    "Upgrade: h2c",
    "User-Agent: Java-http-client/21.0.2",
    ...(body === undefined ? [] : ["Content-Type: application/json"]),
  ];
  return `${lines.join("\r\n")}\r\n\r\n${body ?? ""}`;
}

/** An answer's status, and its body as it is on the wire. */
interface RawAnswer {
  status: number;
  body: string;
}

/** Sends requests, each once the one before is answered, over one connection; and gives the answers. */
export async function askRaw(url: string, requests: readonly string[]): Promise<RawAnswer[]> {
  const { hostname, port } = new URL(url);
  const socket = connect(Number(port), hostname);
  let text = "";
  const answers: RawAnswer[] = [];
  try {
    for (const request of requests) {
      socket.write(request);
      for await (const data of socket.iterator({ destroyOnReturn: false })) {
        text += data;
        const answer = readAnswer(text);
        if (!answer) continue;
        answers.push(answer);
        text = "";
        break;
      }
    }
  } finally {
    socket.destroy();
  }
  return answers;
}

function readAnswer(text: string): RawAnswer | null {
  const [head, ...rest] = text.split("\r\n\r\n");
  const body = rest.join("\r\n\r\n");
  if (rest.length === 0) return null;
  const length = /^content-length: (\d+)/im.exec(head);
  const whole = length ? Buffer.byteLength(body) >= Number(length[1]) : body.endsWith("0\r\n\r\n");
  return whole ? { status: Number(/^HTTP\/1\.1 (\d+)/.exec(head)?.[1]), body } : null;
}
