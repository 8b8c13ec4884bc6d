import { randomUUID } from "node:crypto";
import { link, mkdir, readFile, rename, stat, symlink, writeFile } from "node:fs/promises";
import { homedir } from "node:os";
import { dirname, join, relative } from "node:path";
import { getHFHubCachePath, getRepoFolderName } from "@huggingface/hub";

/**
 * One repository's folder in the Hugging Face cache, as its Python library lays it out: `blobs/<etag>` hold the
 * contents, `snapshots/<commit>/<file>` are links to them, `refs/<revision>` name a branch's commit.
 * Where the cache lies is decided by HF_HUB_CACHE, HF_HOME and XDG_CACHE_HOME.
 */
export class HubCache {
  readonly dir: string;

  constructor(repo: string) {
    const root = expandHome(getHFHubCachePath());
    this.dir = join(root, getRepoFolderName({ type: "model", name: repo }));
  }

  snapshot(commit: string): string {
    return join(this.dir, "snapshots", commit);
  }

  blob(etag: string): string {
    return join(this.dir, "blobs", etag);
  }

  /** The commit a branch or tag had when it was last fetched; a commit's hash stands for itself. */
  async commit(revision: string): Promise<string | null> {
    if (isCommit(revision)) return revision;
    const text = await readFile(join(this.dir, "refs", revision), "utf8").catch(() => "");
    return isCommit(text.trim()) ? text.trim() : null;
  }

  async setCommit(revision: string, commit: string): Promise<void> {
    if (revision === commit) return;
    const path = join(this.dir, "refs", revision);
    await mkdir(dirname(path), { recursive: true });
    await writeFile(path, commit);
  }

  /** Makes `file` of the snapshot a relative link to its blob, so that the cache can be moved. */
  async link(commit: string, file: string, etag: string): Promise<void> {
    const path = join(this.snapshot(commit), file);
    await mkdir(dirname(path), { recursive: true });
    // Others that fetch the same may do this too, or read through the link by now.
    const fresh = `${path}.${randomUUID()}`;
    try {
      await symlink(relative(dirname(path), this.blob(etag)), fresh);
    } catch (error) {
      // Windows allows symbolic links to administrators only.
      if ((error as NodeJS.ErrnoException).code !== "EPERM") throw error;
      await link(this.blob(etag), fresh);
    }
    await rename(fresh, path);
  }
}

export function isCommit(text: string): boolean {
  return /^[0-9a-f]{40}$/.test(text);
}

/** A path from the environment with the home folder in place of a leading "~". */
export function expandHome(path: string): string {
  return path.replace(/^~(?=[/\\]|$)/, homedir());
}

/** Size in bytes, links followed; -1 if there is no such file. */
export async function fileSize(path: string): Promise<number> {
  const stats = await stat(path).catch(() => null);
  return stats?.isFile() ? stats.size : -1;
}
