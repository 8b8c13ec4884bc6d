import { existsSync } from "node:fs";
import { statfs } from "node:fs/promises";
import { dirname, join } from "node:path";
import { InputError, StorageError } from "../errors.js";
import { makeFolder, readText } from "../files/regular-file.js";
import { LARGEST_JSON, parseJson } from "../validation/json.js";
import { download, pullFailure } from "./download.js";
import { fileSize, HubCache, isSet } from "./hub-cache.js";
import { type HubFile, HubRepository } from "./hub-repository.js";

const HUB_SOURCES = ["huggingface", "modelscope"] as const;
export type HubSource = (typeof HUB_SOURCES)[number];

export interface PullOptions {
  /** Branch, tag or commit hash. Default "main", ModelScope's "master". */
  revision?: string;
  /** Which hub. Default: what QWEN3GUARD_SOURCE says, else "huggingface". */
  source?: HubSource;
  /** Bytes of `file` that are there, of `total`; called at least once a file. */
  onProgress?(file: string, loaded: number, total: number): void;
  signal?: AbortSignal;
}

/** As `pull` of on-demand.ts. */
export async function pull(repo: string, options: PullOptions = {}): Promise<string> {
  const { revision = "main", signal } = options;
  checkNames(repo, revision);
  if (hubSource(options.source) === "modelscope") {
    return (await import("./modelscope.js")).pullFromModelScope(repo, options);
  }
  if (isSet("HF_HUB_OFFLINE")) return (await cachedSnapshot(repo, revision)) ?? offline(repo, revision);
  const hub = await HubRepository.connect(repo, revision, signal);
  const cache = new HubCache(repo);
  try {
    const commit = await hub.commit();
    const files = await hub.files(commit);
    await checkSpace(cache, files);
    for (const file of files) {
      await fetchFile(hub, cache, commit, file, options);
      options.onProgress?.(file.path, file.size, file.size);
    }
    await cache.setCommit(revision, commit); // last: until here the revision still means the old, complete snapshot
    return cache.snapshot(commit);
  } catch (error) {
    throw pullFailure(error, { repo, dir: cache.dir, folderVariable: "HF_HOME", signal });
  }
}

/** The folder of a completely fetched snapshot, or null. Asks no network. */
export async function cachedSnapshot(repo: string, revision = "main"): Promise<string | null> {
  checkNames(repo, revision);
  const cache = new HubCache(repo);
  const commit = await cache.commit(revision);
  if (commit === null) return null;
  const dir = cache.snapshot(commit);
  return (await isWholeCheckpoint(dir)) ? dir : null;
}

/** Files appear under their names when they are complete. */
async function isWholeCheckpoint(dir: string): Promise<boolean> {
  const needed = ["config.json", "tokenizer.json"];
  if ((await fileSize(join(dir, "model.safetensors"))) < 0) {
    const index = await readText(join(dir, "model.safetensors.index.json"), LARGEST_JSON).catch(() => null);
    if (index === null) return false;
    try {
      needed.push(
        ...new Set(Object.values((parseJson(index) as { weight_map: object }).weight_map).map(String)),
      );
    } catch {
      return false;
    }
  }
  for (const name of needed) if ((await fileSize(join(dir, name))) < 0) return false;
  return true;
}

/** @throws {InputError} SOURCE_UNKNOWN */
function hubSource(given: string | undefined): HubSource {
  const source = given ?? (process.env.QWEN3GUARD_SOURCE || "huggingface");
  if ((HUB_SOURCES as readonly string[]).includes(source)) return source as HubSource;
  throw new InputError(
    "SOURCE_UNKNOWN",
    `"${source.slice(0, 40)}" is no hub that is known here. Choose ${HUB_SOURCES.join(" or ")} (--source, QWEN3GUARD_SOURCE).`,
  );
}

/** The folder of a checkpoint that the hub in use has been asked for, where it is whole; or null. Asks no network. */
export async function cachedCheckpoint(repo: string): Promise<string | null> {
  if (hubSource(undefined) === "huggingface") return cachedSnapshot(repo);
  const dir = (await import("./modelscope.js")).modelScopeFolder(repo);
  return (await isWholeCheckpoint(dir)) ? dir : null;
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

/** Refuses before a long download what could not end well. */
/** Brings a file into the snapshot, where it is not there. */
async function fetchFile(
  hub: HubRepository,
  cache: HubCache,
  commit: string,
  { path, size, oid }: HubFile,
  { onProgress, signal }: PullOptions,
): Promise<void> {
  if ((await fileSize(join(cache.snapshot(commit), path))) === size) return;
  const blob = cache.blob(oid);
  if ((await fileSize(blob)) !== size) {
    await makeFolder(dirname(blob));
    await download({
      request: (headers) => hub.fetch(hub.url(commit, path), { headers }),
      path: blob,
      size,
      oid,
      folderVariable: "HF_HOME",
      onProgress: (loaded) => onProgress?.(path, loaded, size),
      signal,
    });
  }
  await cache.link(commit, path, oid);
}

function offline(repo: string, revision: string): never {
  throw new StorageError(
    "HUB_OFFLINE",
    `${repo} (${revision}) is not in the cache, and HF_HUB_OFFLINE forbids fetching it. Unset HF_HUB_OFFLINE.`,
  );
}

async function checkSpace(cache: HubCache, files: HubFile[]): Promise<void> {
  await makeFolder(cache.dir);
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
