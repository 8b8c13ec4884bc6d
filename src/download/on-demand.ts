import type { PullOptions } from "./hub.js";

/**
 * Fetches a checkpoint from the Hugging Face hub into its ordinary cache and returns the snapshot's folder. What is
 * there already is not fetched again; an interrupted download continues. Honours HF_ENDPOINT, HF_TOKEN (or the token
 * that `hf auth login` stored), HF_HOME, HF_HUB_CACHE, HF_HUB_OFFLINE and HF_HUB_DISABLE_SYMLINKS.
 *
 * Throws StorageError: HUB_OFFLINE, HUB_UNREACHABLE, HUB_REFUSED, HUB_FAILED, REPO_GATED, REPO_NOT_FOUND,
 * REVISION_NOT_FOUND, REPO_NOT_A_CHECKPOINT, DOWNLOAD_CUT, DOWNLOAD_CORRUPT, DISK_FULL, CACHE_UNWRITABLE;
 * InputError: REPO_NAME, REVISION_NAME, HUB_ENDPOINT, HUB_TOKEN; ClosedError: ABORTED.
 */
export async function pull(repo: string, options: PullOptions = {}): Promise<string> {
  // The hub's client takes as long to load as all else that comes with the package's entry.
  return (await import("./hub.js")).pull(repo, options);
}
