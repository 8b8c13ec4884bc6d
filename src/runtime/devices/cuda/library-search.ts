import { existsSync, readdirSync, readlinkSync } from "node:fs";
import { delimiter, dirname, join, resolve } from "node:path";

/**
 * Finds where one folder of this machine holds all of the given shared libraries: libraries of one release are never
 * mixed with those of another. Looks where the dynamic loader would (LD_LIBRARY_PATH, its cache), then in the usual
 * places of a CUDA 13 toolkit, then among the packages of the Python in use.
 *
 * @returns the libraries' paths in the given order, or null.
 */
export function findLibraries(names: readonly string[]): string[] | null {
  for (const folders of [loaderFolders, () => cachedFolders(names[0]), toolkitFolders, pythonFolders]) {
    for (const folder of folders()) {
      const paths = names.map((name) => join(folder, name));
      if (paths.every((path) => existsSync(path))) return paths;
    }
  }
  return null;
}

function loaderFolders(): string[] {
  return (process.env.LD_LIBRARY_PATH ?? "").split(delimiter).filter((folder) => folder !== "");
}

/** Folders in which the loader's cache has the library. */
function cachedFolders(name: string): string[] {
  // Where there is no GPU nobody gets here; it brings all of networking along.
  const { execFileSync } = process.getBuiltinModule("node:child_process");
  let listing: string;
  try {
    listing = execFileSync("/sbin/ldconfig", ["-p"], {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "ignore"],
    });
  } catch {
    return [];
  }
  const lines = listing.split("\n").filter((line) => line.trim().startsWith(`${name} `));
  return lines.map((line) => dirname(line.slice(line.indexOf("=> ") + 3)));
}

function toolkitFolders(): string[] {
  const { CUDA_HOME, CUDA_PATH } = process.env;
  const roots = [CUDA_HOME, CUDA_PATH, "/usr/local/cuda", ...children("/usr/local", /^cuda-13/), "/opt/cuda"];
  return roots.flatMap((root) => (root ? [join(root, "lib64"), join(root, "targets/x86_64-linux/lib")] : []));
}

/** `nvidia/<package>/lib` among the packages of the active environment, or of the first python3 on the PATH. */
function pythonFolders(): string[] {
  const { VIRTUAL_ENV, CONDA_PREFIX, PATH = "" } = process.env;
  const python = PATH.split(delimiter)
    .map((folder) => join(folder, "python3"))
    .find((path) => existsSync(path));
  const prefixes = [VIRTUAL_ENV, CONDA_PREFIX, ...linkChain(python).map((path) => dirname(dirname(path)))];
  const packages = prefixes.flatMap((prefix) =>
    prefix
      ? children(join(prefix, "lib"), /^python3/).flatMap((lib) => [
          join(lib, "site-packages", "nvidia"),
          join(lib, "dist-packages", "nvidia"),
        ])
      : [],
  );
  return packages.flatMap((folder) => children(folder, /./).map((name) => join(name, "lib")));
}

/** A path and what each link on its way points to: an environment's python3 is a link out of the environment. */
function linkChain(path: string | undefined): string[] {
  const chain: string[] = [];
  for (let next = path; next && !chain.includes(next); ) {
    chain.push(next);
    try {
      next = resolve(dirname(next), readlinkSync(next));
    } catch {
      break;
    }
  }
  return chain;
}

/** Paths of a folder's entries with matching names; none where there is no such folder. */
function children(folder: string, name: RegExp): string[] {
  try {
    return readdirSync(folder)
      .filter((entry) => name.test(entry))
      .map((entry) => join(folder, entry));
  } catch {
    return [];
  }
}
