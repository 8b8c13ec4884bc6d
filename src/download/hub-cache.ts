import { randomUUID } from "node:crypto";
import { constants } from "node:fs";
import { copyFile, link, rename, rm, stat, symlink, writeFile } from "node:fs/promises";
import { homedir } from "node:os";
import { dirname, join, relative } from "node:path";
import { getHFHubCachePath, getRepoFolderName } from "@huggingface/hub";
import { makeFolder, readText } from "../files/regular-file.js";

const LARGEST_REF = 1024;

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
    const text = await readText(join(this.dir, "refs", revision), LARGEST_REF).catch(() => "");
    return isCommit(text.trim()) ? text.trim() : null;
  }

  async setCommit(revision: string, commit: string): Promise<void> {
    if (revision === commit) return;
    const path = join(this.dir, "refs", revision);
    await makeFolder(dirname(path));
    await writeFile(path, commit);
  }

  /**
   * Makes `file` of the snapshot a relative link to its blob, so that the cache can be moved. Where there are no symbolic
   * links, or HF_HUB_DISABLE_SYMLINKS asks for none, it is a second name of the blob, or a copy.
   */
  async link(commit: string, file: string, etag: string): Promise<void> {
    const path = join(this.snapshot(commit), file);
    await makeFolder(dirname(path));
    // Others that fetch the same may do this too, or read through the link by now.
    const fresh = `${path}.${randomUUID()}`;
    try {
      if (!(await isLinked(relative(dirname(path), this.blob(etag)), fresh))) {
        await link(this.blob(etag), fresh).catch(() =>
          copyFile(this.blob(etag), fresh, constants.COPYFILE_FICLONE),
        );
      }
      await rename(fresh, path);
    } catch (error) {
      await rm(fresh, { force: true });
      throw error;
    }
  }
}

/** What file systems and systems without symbolic links answer; Windows allows them to administrators only. */
const NO_LINKS = ["EPERM", "EACCES", "ENOSYS", "ENOTSUP", "EOPNOTSUPP", "EINVAL"];

/** Makes a symbolic link; false where there can be none. */
async function isLinked(target: string, path: string): Promise<boolean> {
  if (isSet("HF_HUB_DISABLE_SYMLINKS")) return false;
  try {
    await symlink(target, path);
    return true;
  } catch (error) {
    if (NO_LINKS.includes((error as NodeJS.ErrnoException).code ?? "")) return false;
    throw error;
  }
}

/** A switch in the environment, as the Python library reads it. */
export function isSet(variable: string): boolean {
  return /^(1|true|yes|on)$/i.test(process.env[variable] ?? "");
}

export function isCommit(text: unknown): text is string {
  return typeof text === "string" && /^[0-9a-f]{40}$/.test(text);
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
