import { existsSync } from "node:fs";
import { mkdir, readFile, statfs } from "node:fs/promises";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import { listFiles, modelInfo } from "@huggingface/hub";
import { ClosedError, GuardError, InputError, StorageError } from "../errors.js";
import { download, networkProblem, writeFailure } from "./download.js";
import { fileSize, HubCache, isCommit } from "./hub-cache.js";

export interface PullOptions {
  /** Branch, tag or commit hash. Default "main". */
  revision?: string;
  /** Bytes of `file` that are there, of `total`; called at least once a file. */
  onProgress?(file: string, loaded: number, total: number): void;
  signal?: AbortSignal;
}

/** Everything a checkpoint needs lies at the top of its repository; the rest of it is not fetched. */
const WANTED =
  /^(config\.json|tokenizer\.json|tokenizer_config\.json|chat_template\.jinja|[^/\\]+\.safetensors|model\.safetensors\.index\.json)$/;

/**
 * Fetches a checkpoint from the Hugging Face hub into its ordinary cache and returns the snapshot's folder. What is
 * there already is not fetched again; an interrupted download continues. Honours HF_ENDPOINT, HF_TOKEN (or the token
 * that `hf auth login` stored), HF_HOME, HF_HUB_CACHE and HF_HUB_OFFLINE.
 *
 * Throws StorageError: HUB_OFFLINE, HUB_UNREACHABLE, HUB_REFUSED, HUB_FAILED, REPO_GATED, REPO_NOT_FOUND,
 * REVISION_NOT_FOUND, REPO_NOT_A_CHECKPOINT, DOWNLOAD_CUT, DOWNLOAD_CORRUPT, DISK_FULL, CACHE_UNWRITABLE;
 * InputError: REPO_NAME, REVISION_NAME, HUB_ENDPOINT; ClosedError: ABORTED.
 */
export async function pull(repo: string, options: PullOptions = {}): Promise<string> {
  const { revision = "main", onProgress, signal } = options;
  checkNames(repo, revision);
  if (/^(1|true|yes|on)$/i.test(process.env.HF_HUB_OFFLINE ?? "")) {
    const cached = await cachedSnapshot(repo, revision);
    if (cached) return cached;
    throw new StorageError(
      "HUB_OFFLINE",
      `${repo} (${revision}) is not in the cache, and HF_HUB_OFFLINE forbids fetching it. Unset HF_HUB_OFFLINE.`,
    );
  }
  const hub = await Hub.connect(repo, revision, signal);
  const cache = new HubCache(repo);
  try {
    const commit = await hub.commit();
    const files = await hub.files(commit);
    await checkSpace(cache, files);
    for (const { path, size, oid } of files) {
      if ((await fileSize(join(cache.snapshot(commit), path))) !== size) {
        if ((await fileSize(cache.blob(oid))) !== size) {
          await mkdir(dirname(cache.blob(oid)), { recursive: true });
          await download({
            request: (headers) => hub.fetch(hub.url(commit, path), { headers }),
            path: cache.blob(oid),
            size,
            oid,
            onProgress: (loaded) => onProgress?.(path, loaded, size),
            signal,
          });
        }
        await cache.link(commit, path, oid);
      }
      onProgress?.(path, size, size);
    }
    await cache.setCommit(revision, commit); // last: until here the revision still means the old, complete snapshot
    return cache.snapshot(commit);
  } catch (error) {
    if (signal?.aborted) {
      const message = `Fetching ${repo} was aborted. Run it again: the download continues where it stopped.`;
      throw new ClosedError("ABORTED", message, { cause: signal.reason });
    }
    if (error instanceof GuardError) throw error;
    throw writeFailure(cache.dir, error);
  }
}

/** The folder of a completely fetched snapshot, or null. Asks no network. */
export async function cachedSnapshot(repo: string, revision = "main"): Promise<string | null> {
  checkNames(repo, revision);
  const cache = new HubCache(repo);
  const commit = await cache.commit(revision);
  if (commit === null) return null;
  const dir = cache.snapshot(commit);
  const needed = ["config.json", "tokenizer.json"];
  if ((await fileSize(join(dir, "model.safetensors"))) < 0) {
    const index = await readFile(join(dir, "model.safetensors.index.json"), "utf8").catch(() => null);
    if (index === null) return null;
    try {
      needed.push(...new Set(Object.values(JSON.parse(index).weight_map as Record<string, string>)));
    } catch {
      return null;
    }
  }
  for (const name of needed) if ((await fileSize(join(dir, name))) < 0) return null;
  return dir;
}

const REPO = /^[A-Za-z0-9][\w.-]*\/[A-Za-z0-9][\w.-]*$/;

/** Does this look like a hub's "organization/name" rather than a path that exists? */
export function isHubId(name: string): boolean {
  return REPO.test(name) && !/--|\.\./.test(name) && !existsSync(name);
}

function checkNames(repo: string, revision: string): void {
  if (!REPO.test(repo) || /--|\.\./.test(repo)) {
    throw new InputError(
      "REPO_NAME",
      `"${repo}" is no repository of the hub. Name one as organization/name, for example Qwen/Qwen3Guard-Stream-0.6B.`,
    );
  }
  if (!/^[\w./-]+$/.test(revision) || revision.startsWith("/") || revision.includes("..")) {
    throw new InputError(
      "REVISION_NAME",
      `"${revision}" is no branch, tag or commit hash. The usual one is main.`,
    );
  }
}

interface HubFile {
  path: string;
  size: number;
  oid: string;
}

/** The hub is overloaded or broken right now. */
class TransientError extends Error {}

/** One repository of the hub at HF_ENDPOINT, read with the user's token. */
class Hub {
  private constructor(
    private readonly repo: string,
    private readonly revision: string,
    private readonly endpoint: string,
    private readonly token: string | null,
    private readonly signal?: AbortSignal,
  ) {}

  static async connect(repo: string, revision: string, signal?: AbortSignal): Promise<Hub> {
    const endpoint = (process.env.HF_ENDPOINT || "https://huggingface.co").replace(/\/+$/, "");
    if (!/^https?:$/.test(URL.canParse(endpoint) ? new URL(endpoint).protocol : "")) {
      throw new InputError(
        "HUB_ENDPOINT",
        `HF_ENDPOINT is "${endpoint}", which is no http(s) address. Correct or unset it.`,
      );
    }
    return new Hub(repo, revision, endpoint, await readToken(), signal);
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
        fetch: this.fetch,
      }),
    );
    if (!isCommit(sha)) throw this.strange(`the commit ${JSON.stringify(sha)}`);
    return sha;
  }

  /** The wanted files, small ones first: an error in config.json or the token shows before the long download. */
  async files(commit: string): Promise<HubFile[]> {
    const files: HubFile[] = [];
    await this.ask(async () => {
      const options = { repo: this.repo, revision: commit, hubUrl: this.endpoint, fetch: this.fetch };
      for await (const { type, path, size, lfs, oid } of listFiles(options)) {
        if (type === "file" && WANTED.test(path))
          files.push({ path, size: lfs?.size ?? size, oid: lfs?.oid ?? oid ?? "" });
      }
    });
    for (const { path, size, oid } of files) {
      if (!/^([0-9a-f]{40}|[0-9a-f]{64})$/.test(oid) || !Number.isSafeInteger(size) || size < 0) {
        throw this.strange(`no usable size and hash of ${path}`);
      }
    }
    const missing = [/^config\.json$/, /^tokenizer\.json$/, /\.safetensors$/].filter(
      (name) => !files.some(({ path }) => name.test(path)),
    );
    if (missing.length > 0) {
      throw new StorageError(
        "REPO_NOT_A_CHECKPOINT",
        `${this.repo} lacks ${missing.map((name) => name.source.replace(/[\\^$]/g, "")).join(", ")}. Name a repository ` +
          `with a Qwen3Guard-Stream checkpoint, for example Qwen/Qwen3Guard-Stream-0.6B.`,
      );
    }
    return files.sort((a, b) => a.size - b.size);
  }

  /** `fetch` with the token (for the hub itself only) and the signal; refusals become StorageErrors. */
  readonly fetch: typeof fetch = async (input, init) => {
    const url = new URL(String(input));
    const headers = new Headers(init?.headers);
    if (this.token && url.origin === new URL(this.endpoint).origin) {
      headers.set("Authorization", `Bearer ${this.token}`);
    }
    const response = await fetch(url, { ...init, headers, signal: this.signal });
    if (response.ok) return response;
    await response.body?.cancel();
    throw this.refusal(response);
  };

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
      throw new StorageError(
        "HUB_UNREACHABLE",
        `${this.endpoint} cannot be reached (${networkProblem(cause)}). Check the network, or set ` +
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

/** HF_TOKEN, or what `hf auth login` stored. */
async function readToken(): Promise<string | null> {
  const { HF_TOKEN, HUGGING_FACE_HUB_TOKEN, HF_TOKEN_PATH, HF_HOME, XDG_CACHE_HOME } = process.env;
  const home = HF_HOME ?? join(XDG_CACHE_HOME ?? join(homedir(), ".cache"), "huggingface");
  const path = (HF_TOKEN_PATH ?? join(home, "token")).replace(/^~(?=[/\\]|$)/, homedir());
  const token = HF_TOKEN || HUGGING_FACE_HUB_TOKEN || (await readFile(path, "utf8").catch(() => ""));
  return token.trim() || null;
}

/** Refuses before a long download what could not end well. */
async function checkSpace(cache: HubCache, files: HubFile[]): Promise<void> {
  await mkdir(cache.dir, { recursive: true });
  let needed = 0;
  for (const { size, oid } of files) {
    const blob = cache.blob(oid);
    if ((await fileSize(blob)) !== size) needed += size - Math.max(0, await fileSize(`${blob}.incomplete`));
  }
  const { bavail, bsize } = await statfs(cache.dir);
  if (needed > bavail * bsize) {
    const gigabytes = (bytes: number) => `${(bytes / 1e9).toFixed(1)} GB`;
    throw new StorageError(
      "DISK_FULL",
      `The download needs ${gigabytes(needed)}, but ${cache.dir} has ${gigabytes(bavail * bsize)} free. Free some ` +
        `space, or set HF_HOME to a folder on another disk.`,
    );
  }
}
