import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import { InputError, StorageError } from "../errors.js";
import { makeFolder } from "../files/regular-file.js";
import { parseJson } from "../validation/json.js";
import { quoted } from "../validation/quoted.js";
import { download, networkProblem, pullFailure } from "./download.js";
import type { PullOptions } from "./hub.js";
import { expandHome, fileSize } from "./hub-cache.js";
import { fetchFollowing, UnreachableError, wholeResponse } from "./hub-fetch.js";
import { type HubFile, requireCheckpoint, WANTED } from "./hub-repository.js";

const LARGEST_ANSWER = 16 << 20;
const USUAL_ENDPOINT = "https://www.modelscope.cn";
const USUAL_REVISION = "master";

/** Where ModelScope's own library keeps a model: its name with "___" for each dot. */
export function modelScopeFolder(repo: string): string {
  const root = process.env.MODELSCOPE_CACHE || join(homedir(), ".cache", "modelscope", "hub");
  const [owner, name] = repo.split("/");
  return join(expandHome(root), "models", owner, name.replaceAll(".", "___"));
}

/**
 * Fetches a checkpoint from ModelScope into the folder where its Python library keeps models, and returns that. What is
 * there already is not fetched again; an interrupted download continues; each file's SHA-256 is checked. Honours
 * MODELSCOPE_CACHE and MODELSCOPE_ENDPOINT. Public repositories only.
 *
 * @throws {StorageError} HUB_UNREACHABLE, HUB_FAILED, REPO_NOT_FOUND, REPO_NOT_A_CHECKPOINT, DOWNLOAD_CUT, DOWNLOAD_CORRUPT,
 *   DISK_FULL, CACHE_UNWRITABLE
 * @throws {InputError} HUB_ENDPOINT
 * @throws {ClosedError} ABORTED
 */
export async function pullFromModelScope(repo: string, options: PullOptions): Promise<string> {
  const { revision = USUAL_REVISION, onProgress, signal } = options;
  const endpoint = (process.env.MODELSCOPE_ENDPOINT || USUAL_ENDPOINT).replace(/\/+$/, "");
  if (!/^https?:$/.test(URL.canParse(endpoint) ? new URL(endpoint).protocol : "")) {
    throw new InputError(
      "HUB_ENDPOINT",
      `MODELSCOPE_ENDPOINT is "${endpoint}", which is no http(s) address. Correct or unset it.`,
    );
  }
  const api = `${endpoint}/api/v1/models/${repo}/repo`;
  const dir = modelScopeFolder(repo);
  try {
    for (const file of await listed(api, repo, revision, signal)) {
      const { path, size, oid } = file;
      const target = join(dir, path);
      if (!(await holds(target, file, signal))) {
        await makeFolder(dirname(target));
        const query = new URLSearchParams({ Revision: revision, FilePath: path });
        await download({
          request: (headers) => ask(`${api}?${query}`, repo, { headers, signal }),
          path: target,
          size,
          oid,
          folderVariable: "MODELSCOPE_CACHE",
          onProgress: (loaded) => onProgress?.(path, loaded, size),
          signal,
        });
      }
      onProgress?.(path, size, size);
    }
    return dir;
  } catch (error) {
    throw pullFailure(error, { repo, dir, folderVariable: "MODELSCOPE_CACHE", signal });
  }
}

/** Whether a file is there. The folder is that of all revisions, and another's file may be as long. */
async function holds(
  path: string,
  { size, oid }: HubFile,
  signal: AbortSignal | undefined,
): Promise<boolean> {
  if ((await fileSize(path)) !== size) return false;
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(path, { signal })) hash.update(chunk);
  return hash.digest("hex") === oid;
}

/** The wanted files, small ones first: an error in config.json shows before the long download. */
async function listed(
  api: string,
  repo: string,
  revision: string,
  signal: AbortSignal | undefined,
): Promise<HubFile[]> {
  const query = new URLSearchParams({ Revision: revision, Recursive: "true" });
  const response = await wholeResponse(
    await ask(`${api}/files?${query}`, repo, { signal }),
    LARGEST_ANSWER,
  ).catch((cause) => {
    throw cause instanceof UnreachableError ? unreachable(api, cause) : cause;
  });
  let found: unknown;
  try {
    found = (parseJson(await response.text()) as { Data?: { Files?: unknown } }).Data?.Files;
  } catch (cause) {
    throw strange(api, "something other than JSON", cause);
  }
  if (!Array.isArray(found)) throw strange(api, "no list of files");
  const files = found
    .filter((file) => file?.Type !== "tree" && typeof file?.Path === "string" && WANTED.test(file.Path))
    .map(({ Path, Size, Sha256 }): HubFile => ({ path: Path, size: Size, oid: Sha256 }));
  for (const { path, size, oid } of files) {
    if (typeof oid === "string" && /^[0-9a-f]{64}$/.test(oid) && Number.isSafeInteger(size) && size >= 0)
      continue;
    throw strange(api, `no usable size and hash of ${quoted(path)}`);
  }
  requireCheckpoint(files, repo);
  return files.sort((a, b) => a.size - b.size);
}

async function ask(url: string, repo: string, init: RequestInit): Promise<Response> {
  const response = await fetchFollowing(new URL(url), init, () => new Headers(init.headers)).catch(
    (cause) => {
      throw cause instanceof UnreachableError && !new Headers(init.headers).has("range")
        ? unreachable(url, cause)
        : cause;
    },
  );
  if (response.ok) return response;
  await response.body?.cancel();
  if (response.status === 404) {
    throw new StorageError(
      "REPO_NOT_FOUND",
      `ModelScope has no ${repo}, no such revision of it, or it is private.`,
    );
  }
  // A plain error while a file is being fetched is worth another try there.
  if (response.status >= 500 && init.headers) throw new Error(`${response.url} answered ${response.status}`);
  throw new StorageError(
    "HUB_FAILED",
    `${new URL(url).origin} answered ${response.status}. Try again later.`,
  );
}

function unreachable(url: string, cause: Error): StorageError {
  return new StorageError(
    "HUB_UNREACHABLE",
    `${new URL(url).origin} cannot be reached (${networkProblem(cause.cause)}). Check the network, or set ` +
      "MODELSCOPE_ENDPOINT to a mirror.",
    { cause },
  );
}

function strange(url: string, what: string, cause?: unknown): StorageError {
  return new StorageError(
    "HUB_FAILED",
    `${new URL(url).origin} answered ${what}. Check MODELSCOPE_ENDPOINT, and that no login page stands in between.`,
    { cause },
  );
}
