import { networkProblem } from "../../../../download/download.js";
import { GuardError, InputError, StorageError } from "../../../../errors.js";
import type { LibraryPackage } from "../packages.js";

/** A wheel as the index announces it. */
export interface IndexedWheel {
  /** File name. */
  name: string;
  /** Bytes. */
  size: number;
  /** In hex. */
  sha256: string;
  url: URL;
}

/** What a simple index answers for a project: PEP 691, with PEP 700's size. */
interface ProjectPage {
  files: { filename: string; url: string; hashes: { sha256?: string }; size?: number }[];
}

const JSON_TYPE = "application/vnd.pypi.simple.v1+json";
const ADVICE =
  "Set PIP_INDEX_URL to a mirror (the address that ends in /simple), or give the wheels by --from.";

/** The Python package index at PIP_INDEX_URL, or PyPI, read without Python. */
export class WheelIndex {
  readonly #address: URL;
  readonly #authorization: string | null = null;
  readonly #signal?: AbortSignal;

  /** @throws {InputError} INDEX_ADDRESS */
  constructor(signal?: AbortSignal) {
    const address = process.env.PIP_INDEX_URL || "https://pypi.org/simple";
    if (!/^https?:$/.test(URL.canParse(address) ? new URL(address).protocol : "")) {
      throw new InputError("INDEX_ADDRESS", `PIP_INDEX_URL is no http(s) address. Correct or unset it.`);
    }
    this.#address = new URL(`${address.replace(/\/+$/, "")}/`);
    const { username, password } = this.#address;
    if (username || password) {
      const credentials = `${decodeURIComponent(username)}:${decodeURIComponent(password)}`;
      this.#authorization = `Basic ${Buffer.from(credentials).toString("base64")}`;
      // fetch refuses addresses with credentials, and messages must not show them.
      this.#address.username = "";
      this.#address.password = "";
    }
    this.#signal = signal;
  }

  /**
   * The package's wheel for Linux x64.
   *
   * @throws {StorageError} INDEX_UNREACHABLE, INDEX_FAILED, WHEEL_NOT_FOUND
   */
  async find({ project, version }: LibraryPackage): Promise<IndexedWheel> {
    const url = new URL(`${project}/`, this.#address);
    const { page, base } = await this.#page(url);
    const [file] = page.files
      .filter(({ filename }) => isWheelOf(String(filename), project, version))
      .sort((a, b) => (a.filename < b.filename ? -1 : 1));
    if (!file) {
      throw new StorageError(
        "WHEEL_NOT_FOUND",
        `${url} has no ${project} ${version} for Linux x64. ${ADVICE}`,
      );
    }
    const { filename, hashes, size } = file;
    if (!/^[0-9a-f]{64}$/.test(hashes?.sha256 ?? "") || !Number.isSafeInteger(size)) {
      throw new StorageError("INDEX_FAILED", `${url} names no SHA-256 or no size of ${filename}. ${ADVICE}`);
    }
    return { name: filename, size: size!, sha256: hashes.sha256!, url: new URL(file.url, base) };
  }

  /** Asks for a file, with the index's credentials where it lies there too. */
  async fetch(url: URL, headers: Record<string, string>): Promise<Response> {
    const authorization = url.origin === this.#address.origin ? this.#authorization : null;
    const response = await fetch(url, {
      headers: authorization ? { ...headers, Authorization: authorization } : headers,
      signal: this.#signal,
    });
    if (response.ok) return response;
    await response.body?.cancel();
    const problem = `${url} answered ${response.status}.`;
    // The caller may try again after a plain error.
    if (response.status >= 500 || response.status === 429) throw new Error(problem);
    throw new StorageError("INDEX_FAILED", `${problem} ${ADVICE}`);
  }

  async #page(url: URL): Promise<{ page: ProjectPage; base: string }> {
    try {
      const response = await this.fetch(url, { Accept: JSON_TYPE });
      const page = (await response.json().catch(() => null)) as ProjectPage | null;
      if (!page || !Array.isArray(page.files)) {
        throw new StorageError("INDEX_FAILED", `${url} does not answer in the index's JSON form. ${ADVICE}`);
      }
      return { page, base: response.url };
    } catch (cause) {
      if (cause instanceof GuardError || this.#signal?.aborted) throw cause;
      throw new StorageError(
        "INDEX_UNREACHABLE",
        `${url} cannot be reached (${networkProblem(cause)}). Check the network. ${ADVICE} Behind a proxy: Node 24 ` +
          "uses HTTPS_PROXY with NODE_USE_ENV_PROXY=1.",
        { cause },
      );
    }
  }
}

/** Is this the file name of the release's wheel for Linux x64? The libraries in it are the same for each Python. */
export function isWheelOf(fileName: string, project: string, version: string): boolean {
  return (
    fileName.startsWith(`${project.replaceAll("-", "_")}-${version}-`) &&
    /linux[^-]*_x86_64\.whl$/.test(fileName)
  );
}
