import { homedir } from "node:os";
import { join } from "node:path";
import { listFiles, modelInfo } from "@huggingface/hub";
import { GuardError, InputError, StorageError } from "../errors.js";
import { readText } from "../files/regular-file.js";
import { quoted } from "../validation/quoted.js";
import { networkProblem } from "./download.js";
import { expandHome, isCommit } from "./hub-cache.js";
import { fetchFollowing, UnreachableError, wholeResponse } from "./hub-fetch.js";

/** Everything a checkpoint needs lies at the top of its repository; the rest of it is not fetched. */
export const WANTED =
  /^(config\.json|tokenizer\.json|tokenizer_config\.json|chat_template\.jinja|[^/\\:\p{Cc}]+\.safetensors|model\.safetensors\.index\.json)$/u;
/** Of an answer of the API, in bytes: a page has at most 1,000 files. */
const LARGEST_ANSWER = 16 << 20;
/** A checkpoint's files take one page. */
const MOST_PAGES = 100;

/** A file's size in bytes and its SHA-256 (Git LFS) or Git blob hash, in hex. */
export interface HubFile {
  path: string;
  size: number;
  oid: string;
}

/** @throws {StorageError} REPO_NOT_A_CHECKPOINT */
export function requireCheckpoint(files: readonly HubFile[], repo: string): void {
  const missing = [/^config\.json$/, /^tokenizer\.json$/, /\.safetensors$/].filter(
    (name) => !files.some(({ path }) => name.test(path)),
  );
  if (missing.length === 0) return;
  throw new StorageError(
    "REPO_NOT_A_CHECKPOINT",
    `${repo} lacks ${missing.map((name) => name.source.replace(/[\\^$]/g, "")).join(", ")}. Name a repository ` +
      `with a guard's checkpoint, for example Qwen/Qwen3Guard-Stream-0.6B.`,
  );
}

/** The hub is overloaded or broken right now. */
class TransientError extends Error {}

/** One repository of the hub at HF_ENDPOINT, read with the user's token. */
export class HubRepository {
  private constructor(
    private readonly repo: string,
    private readonly revision: string,
    private readonly endpoint: string,
    private readonly token: string | null,
    private readonly signal?: AbortSignal,
  ) {}

  static async connect(repo: string, revision: string, signal?: AbortSignal): Promise<HubRepository> {
    const endpoint = (process.env.HF_ENDPOINT || "https://huggingface.co").replace(/\/+$/, "");
    if (!/^https?:$/.test(URL.canParse(endpoint) ? new URL(endpoint).protocol : "")) {
      throw new InputError(
        "HUB_ENDPOINT",
        `HF_ENDPOINT is "${endpoint}", which is no http(s) address. Correct or unset it.`,
      );
    }
    return new HubRepository(repo, revision, endpoint, await readToken(), signal);
  }

  url(commit: string, path: string): string {
    return `${this.endpoint}/${this.repo}/resolve/${commit}/${encodeURIComponent(path)}`;
  }

  async commit(): Promise<string> {
    const { sha } = await this.ask(() =>
      modelInfo({
        name: this.repo,
        revision: this.revision,
        additionalFields: ["sha"],
        hubUrl: this.endpoint,
        fetch: this.#ask,
      }),
    );
    if (!isCommit(sha)) throw this.strange(`the commit ${quoted(sha)}`);
    return sha;
  }

  /** The wanted files, small ones first: an error in config.json or the token shows before the long download. */
  async files(commit: string): Promise<HubFile[]> {
    const files: HubFile[] = [];
    await this.ask(async () => {
      const options = { repo: this.repo, revision: commit, hubUrl: this.endpoint, fetch: this.#pages() };
      for await (const { type, path, size, lfs, oid } of listFiles(options)) {
        if (type === "file" && typeof path === "string" && WANTED.test(path))
          files.push({ path, size: lfs?.size ?? size, oid: lfs?.oid ?? oid ?? "" });
      }
    });
    for (const { path, size, oid } of files) {
      if (
        typeof oid !== "string" ||
        !/^([0-9a-f]{40}|[0-9a-f]{64})$/.test(oid) ||
        !Number.isSafeInteger(size) ||
        size < 0
      ) {
        throw this.strange(`no usable size and hash of ${quoted(path)}`);
      }
    }
    requireCheckpoint(files, this.repo);
    return files.sort((a, b) => a.size - b.size);
  }

  /** `fetch` with the token (for the hub itself only) and the signal; refusals become StorageErrors. */
  readonly fetch: typeof fetch = async (input, init) => {
    const home = new URL(this.endpoint).origin;
    const response = await fetchFollowing(new URL(String(input)), { ...init, signal: this.signal }, (url) => {
      const headers = new Headers(init?.headers);
      if (this.token && url.origin === home) headers.set("Authorization", `Bearer ${this.token}`);
      return headers;
    });
    if (response.ok) return response;
    await response.body?.cancel();
    throw this.refusal(response);
  };

  /** For the API, whose answers are small. */
  readonly #ask: typeof fetch = async (input, init) =>
    wholeResponse(await this.fetch(input, init), LARGEST_ANSWER);

  #pages(): typeof fetch {
    let pages = 0;
    return async (input, init) => {
      if (++pages > MOST_PAGES) throw this.strange("a list of files without end");
      return this.#ask(input, init);
    };
  }

  private async ask<T>(question: () => Promise<T>): Promise<T> {
    try {
      return await question();
    } catch (cause) {
      if (cause instanceof GuardError || this.signal?.aborted) throw cause;
      if (cause instanceof TransientError) {
        throw new StorageError(
          "HUB_FAILED",
          `${cause.message}. Try again later, or set HF_ENDPOINT to a mirror.`,
        );
      }
      if (cause instanceof SyntaxError) throw this.strange("something other than JSON", cause);
      if (!(cause instanceof UnreachableError))
        throw this.strange("JSON of another kind than the hub's", cause);
      throw new StorageError(
        "HUB_UNREACHABLE",
        `${this.endpoint} cannot be reached (${networkProblem(cause.cause)}). Check the network, or set ` +
          `HF_ENDPOINT to a mirror. Behind a proxy: Node 24 uses HTTPS_PROXY with NODE_USE_ENV_PROXY=1; or fetch with ` +
          `"hf download ${this.repo}", which fills the same cache.`,
        { cause },
      );
    }
  }

  private refusal(response: Response): Error {
    const { status } = response;
    const detail = response.headers.get("x-error-code");
    const target = `${this.endpoint}/${this.repo}`;
    if (detail === "GatedRepo" || (status === 403 && detail === null)) {
      return new StorageError(
        "REPO_GATED",
        `${this.repo} is given only to those who accepted its licence. Accept it at ${target}, then set HF_TOKEN to ` +
          `a token of that account (${this.endpoint}/settings/tokens).`,
      );
    }
    if (detail === "RevisionNotFound") {
      return new StorageError(
        "REVISION_NOT_FOUND",
        `${this.repo} has no revision "${this.revision}". Look up its branches and tags at ${target}/tree/main.`,
      );
    }
    if (status === 404 || detail === "RepoNotFound") {
      return new StorageError(
        "REPO_NOT_FOUND",
        `There is no ${target} (revision ${this.revision}), or it is private. Check the name; for a private one set ` +
          `HF_TOKEN.`,
      );
    }
    if (status === 401 || status === 403) {
      return new StorageError(
        "HUB_REFUSED",
        `The hub refused access to ${this.repo} (${status}). If it is gated, accept its licence at ${target}; set ` +
          `HF_TOKEN to a valid token (${this.endpoint}/settings/tokens).`,
      );
    }
    // A plain error while a file is being fetched is worth another try there.
    if (status >= 500 || status === 429) return new TransientError(`${response.url} answered ${status}`);
    return new StorageError(
      "HUB_FAILED",
      `${response.url} answered ${status}. Try again, or set HF_ENDPOINT to a mirror.`,
    );
  }

  private strange(what: string, cause?: unknown): StorageError {
    return new StorageError(
      "HUB_FAILED",
      `${this.endpoint} answered ${what}. Check HF_ENDPOINT, and that no login page of a network stands in between.`,
      { cause },
    );
  }
}

const LARGEST_TOKEN = 4096;

/** HF_TOKEN, or what `hf auth login` stored. */
async function readToken(): Promise<string | null> {
  const { HF_TOKEN, HUGGING_FACE_HUB_TOKEN, HF_TOKEN_PATH, HF_HOME, XDG_CACHE_HOME } = process.env;
  const home = HF_HOME ?? join(XDG_CACHE_HOME ?? join(homedir(), ".cache"), "huggingface");
  const path = expandHome(HF_TOKEN_PATH ?? join(home, "token"));
  const token = HF_TOKEN || HUGGING_FACE_HUB_TOKEN || (await readText(path, LARGEST_TOKEN).catch(() => ""));
  // Node's own message would quote it.
  if (!/^[\x21-\x7e]*$/.test(token.trim())) {
    throw new InputError(
      "HUB_TOKEN",
      "The hub's token holds characters that none has. Correct HF_TOKEN, or log in again.",
    );
  }
  return token.trim() || null;
}
