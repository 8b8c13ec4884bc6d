import { createHash } from "node:crypto";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { vi } from "vitest";
import { breakOff } from "./break-off.js";

export interface Fault {
  /** Break the connection after that many bytes of the body, once they are in the cache. */
  cutAfter?: number;
  /** Flip a bit of the first byte sent. */
  corrupt?: boolean;
  status?: number;
  errorCode?: string;
  /** Answer 200 with everything, whatever range was asked for. */
  ignoreRange?: boolean;
  /** Wait for this before answering. */
  gate?: Promise<unknown>;
}

export interface Seen {
  /** "api", "resolve" (the hub's answer or redirect) or "cdn". */
  kind: string;
  file: string;
  range?: string;
  authorization?: string;
}

/** What leads @huggingface/hub elsewhere. */
const VARIABLES = [
  "HF_TOKEN",
  "HUGGING_FACE_HUB_TOKEN",
  "HF_TOKEN_PATH",
  "HF_HUB_CACHE",
  "HUGGINGFACE_HUB_CACHE",
  "HF_HUB_OFFLINE",
];

/**
 * A Hugging Face hub with one repository: the API's commit and file list, downloads of small files by the hub
 * itself, and of Git LFS files by redirect to a second origin.
 */
export class FakeHub {
  static readonly repo = "acme/guard";
  commit = "1".repeat(40);
  files = new Map<string, { content: Buffer; lfs: boolean }>();
  /** Replaces the file list's fields of a file. */
  listing = new Map<string, object>();
  /** Called for each request of the API ("api") and of a file's content (its name). */
  fault: (file: string, count: number) => Fault | undefined = () => undefined;
  /** Give the file list in two pages, the second one from the other origin. */
  secondPage = false;
  seen: Seen[] = [];
  private counts = new Map<string, number>();
  private servers: Server[] = [];
  endpoint = "";
  /** The client's folder. */
  home = "";
  private cdn = "";

  static async start(): Promise<FakeHub> {
    const hub = new FakeHub();
    hub.endpoint = await hub.listen((request, response) => hub.answer(request, response));
    hub.cdn = await hub.listen((request, response) =>
      hub.serve("cdn", decodeURIComponent(request.url!.slice(1)), request, response),
    );
    return hub;
  }

  /** Points this process at the hub, with `home` as its folder, until environment stubs are undone. */
  enter(home: string): void {
    this.home = home;
    for (const name of VARIABLES) vi.stubEnv(name, undefined);
    vi.stubEnv("HF_HOME", home);
    vi.stubEnv("HF_ENDPOINT", this.endpoint);
  }

  async stop(): Promise<void> {
    for (const server of this.servers) {
      server.closeAllConnections();
      await new Promise((done) => server.close(done));
    }
  }

  /** Requests for file contents so far, as "name range". */
  get transfers(): string[] {
    return this.seen
      .filter(({ kind, file }) => kind !== "api" && (kind === "cdn" || !this.files.get(file)?.lfs))
      .map(({ file, range }) => `${file} ${range ?? ""}`.trim());
  }

  oid(name: string): string {
    const { content, lfs } = this.files.get(name)!;
    if (lfs) return createHash("sha256").update(content).digest("hex");
    return createHash("sha1").update(`blob ${content.length}\0`).update(content).digest("hex");
  }

  private async listen(
    handler: (request: IncomingMessage, response: ServerResponse) => void,
  ): Promise<string> {
    const server = createServer(handler);
    this.servers.push(server);
    await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
    return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  }

  private note(kind: string, file: string, request: IncomingMessage): Fault {
    const { range, authorization } = request.headers;
    this.seen.push({ kind, file, range, authorization });
    const key = kind === "api" ? "api" : file;
    const count = (this.counts.get(key) ?? 0) + 1;
    this.counts.set(key, count);
    return this.fault(key, count) ?? {};
  }

  private answer(request: IncomingMessage, response: ServerResponse): void {
    const path = decodeURIComponent(new URL(request.url!, "http://hub").pathname);
    const api = `/api/models/${FakeHub.repo}`;
    if (path.startsWith("/api/")) {
      const fault = this.note("api", path, request);
      if (fault.status) {
        response.writeHead(fault.status, fault.errorCode ? { "X-Error-Code": fault.errorCode } : {});
        return void response.end("<html>");
      }
      response.setHeader("Content-Type", "application/json");
      if (path.startsWith(`${api}/revision/`)) {
        return void response.end(
          JSON.stringify({ _id: "1", id: FakeHub.repo, sha: this.commit, siblings: this.siblings() }),
        );
      }
      if (path === `${api}/tree/${this.commit}`) {
        const tree = this.tree();
        if (this.secondPage) response.setHeader("Link", `<${this.cdn}/page2>; rel="next"`);
        return void response.end(JSON.stringify(this.secondPage ? tree.slice(0, 2) : tree));
      }
      return void response.writeHead(404).end();
    }
    const [, file] = /^\/acme\/guard\/resolve\/[^/]+\/(.+)$/.exec(path) ?? [];
    const entry = this.files.get(file);
    if (!entry) return void response.writeHead(404, { "X-Error-Code": "EntryNotFound" }).end();
    response.setHeader("X-Repo-Commit", this.commit);
    if (!entry.lfs) return void this.serve("resolve", file, request, response);
    this.seen.push({ kind: "resolve", file, ...this.headers(request) });
    response.setHeader("X-Linked-Etag", `"${this.oid(file)}"`);
    response.setHeader("X-Linked-Size", entry.content.length);
    response.writeHead(302, { Location: `${this.cdn}/${encodeURIComponent(file)}` }).end();
  }

  private headers({ headers: { range, authorization } }: IncomingMessage) {
    return { range, authorization };
  }

  private siblings(): object[] {
    return [...this.files.keys()].map((rfilename) => ({ rfilename }));
  }

  private tree(): object[] {
    const entries = [...this.files].map(([path, { content, lfs }]) => ({
      type: "file",
      path,
      size: content.length,
      ...(lfs
        ? { oid: "0".repeat(40), lfs: { oid: this.oid(path), size: content.length, pointerSize: 130 } }
        : { oid: this.oid(path) }),
      ...this.listing.get(path),
    }));
    return [{ type: "directory", path: "runs", size: 0, oid: "2".repeat(40) }, ...entries];
  }

  private async serve(
    kind: string,
    file: string,
    request: IncomingMessage,
    response: ServerResponse,
  ): Promise<void> {
    const fault = this.note(kind, file, request);
    if (file === "page2") return void response.end(JSON.stringify(this.tree().slice(2)));
    await fault.gate;
    if (fault.status) {
      return void response
        .writeHead(fault.status, fault.errorCode ? { "X-Error-Code": fault.errorCode } : {})
        .end();
    }
    const { content } = this.files.get(file)!;
    const [, from] = /^bytes=(\d+)-$/.exec(request.headers.range ?? "") ?? [];
    let body = content;
    response.setHeader("ETag", `"${this.oid(file)}"`);
    if (from !== undefined && !fault.ignoreRange) {
      body = content.subarray(Number(from));
      response.statusCode = 206;
      response.setHeader("Content-Range", `bytes ${from}-${content.length - 1}/${content.length}`);
    }
    if (fault.corrupt) {
      body = Buffer.from(body);
      body[0] ^= 1;
    }
    response.setHeader("Content-Length", body.length);
    if (request.method === "HEAD") return void response.end();
    if (fault.cutAfter === undefined) return void response.end(body);
    const blobs = join(this.home, "hub", "models--acme--guard", "blobs");
    await breakOff(response, body.subarray(0, fault.cutAfter), {
      path: join(blobs, this.oid(file)),
      size: content.length - body.length + fault.cutAfter,
    });
  }
}
