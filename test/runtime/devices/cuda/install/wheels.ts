import { createHash } from "node:crypto";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { buffer } from "node:stream/consumers";
import yazl from "yazl";
import { cudaFolder } from "../../../../../src/runtime/devices/cuda/files.js";
import { NVIDIA_PACKAGES, providerPackage } from "../../../../../src/runtime/devices/cuda/packages.js";
import { findLibrary } from "../../../../../src/runtime/library.js";
import { breakOff } from "../../../../download/break-off.js";

export const PACKAGES = [providerPackage(findLibrary().packageVersion), ...NVIDIA_PACKAGES];

/** What stands for a library's content; too long for one chunk of a stream, and hard to compress. */
export function content(library: string): Buffer {
  const block = createHash("sha512").update(library).digest();
  return Buffer.concat(
    Array.from({ length: 4000 }, (_, index) => Buffer.from(block.map((byte) => byte ^ index))),
  );
}

/** File name to wheel, one for each package. `recorded` replaces the content that RECORD tells of. */
export async function makeWheels(recorded = content): Promise<Map<string, Buffer>> {
  const wheels = new Map<string, Buffer>();
  for (const { project, version, libraries } of PACKAGES) {
    const name = `${project.replaceAll("-", "_")}-${version}`;
    const members = new Map(libraries.map((library) => [`nvidia/cu13/lib/${library}`, library]));
    const zip = new yazl.ZipFile();
    let record = "";
    for (const [path, library] of members) {
      zip.addBuffer(content(library), path);
      const bytes = recorded(library);
      record += `${path},sha256=${createHash("sha256").update(bytes).digest("base64url")},${bytes.length}\n`;
    }
    zip.addBuffer(Buffer.from("not wanted"), "nvidia/cu13/include/header.h");
    zip.addBuffer(Buffer.from(`${record}${name}.dist-info/RECORD,,\n`), `${name}.dist-info/RECORD`);
    zip.end();
    wheels.set(`${name}-py3-none-manylinux_2_27_x86_64.whl`, await buffer(zip.outputStream));
  }
  return wheels;
}

/** A package index, and the server its files lie on, which is another origin. */
export class FakeIndex {
  wheels = new Map<string, Buffer>();
  /** What is announced instead of a wheel's real SHA-256. */
  sha256: string | undefined;
  /** Called for each transfer; a number breaks the connection after so many bytes, once they have arrived. */
  cutAfter: (file: string, range: string) => number | undefined = () => undefined;
  /** Answers a project's page instead of the index. */
  page: ((response: ServerResponse) => void) | undefined;
  /** Requests so far: "path range authorization". */
  seen: string[] = [];
  address = "";
  #files = "";
  readonly #servers: Server[] = [];

  static async start(): Promise<FakeIndex> {
    const index = new FakeIndex();
    index.wheels = await makeWheels();
    index.address = `${await index.#listen(index.#project)}/simple`;
    index.#files = await index.#listen(index.#transfer);
    return index;
  }

  async stop(): Promise<void> {
    for (const server of this.#servers) {
      server.closeAllConnections();
      await new Promise((done) => server.close(done));
    }
  }

  async #listen(answer: (request: IncomingMessage, response: ServerResponse) => void): Promise<string> {
    const server = createServer((request, response) => {
      const { range = "", authorization = "" } = request.headers;
      this.seen.push(`${request.url} ${range} ${authorization}`.trim());
      answer.call(this, request, response);
    });
    this.#servers.push(server);
    await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
    return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  }

  #project(request: IncomingMessage, response: ServerResponse): void {
    if (this.page) return void this.page(response);
    const [, project] = /^\/simple\/([^/]+)\/$/.exec(request.url!) ?? [];
    const prefix = `${project?.replaceAll("-", "_")}-`;
    const files = [...this.wheels]
      .filter(([name]) => name.startsWith(prefix))
      .map(([filename, wheel]) => ({
        filename,
        url: `${this.#files}/${filename}`,
        hashes: { sha256: this.sha256 ?? createHash("sha256").update(wheel).digest("hex") },
        size: wheel.length,
      }));
    const others = files.map((file) => ({ ...file, filename: file.filename.replace("x86_64", "aarch64") }));
    response.end(JSON.stringify({ meta: { "api-version": "1.1" }, files: [...others, ...files] }));
  }

  #transfer(request: IncomingMessage, response: ServerResponse): void {
    const name = request.url!.slice(1);
    const { range = "" } = request.headers;
    const from = Number(/^bytes=(\d+)-$/.exec(range)?.[1]);
    const wheel = this.wheels.get(name)!;
    const cut = this.cutAfter(name, range);
    response.writeHead(206, {
      "Content-Range": `bytes ${from}-${wheel.length - 1}/${wheel.length}`,
      "Content-Length": wheel.length - from,
    });
    if (cut === undefined) return void response.end(wheel.subarray(from));
    const path = join(cudaFolder(), name);
    void breakOff(response, wheel.subarray(from, from + cut), { path, size: from + cut });
  }
}
