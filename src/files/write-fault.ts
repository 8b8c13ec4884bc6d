/** What to do about a failed write, by the operating system's word for it. */
const MENDS: readonly [codes: readonly string[], mend: string][] = [
  [["ENOSPC", "EDQUOT"], "Free some space, or choose another disk."],
  [["EFBIG"], "Its file system takes no file of that size: choose another disk."],
  [["EROFS"], "Its disk can only be read: choose another."],
  [["EACCES", "EPERM"], "Choose a folder that you may write to."],
  [["ENOTDIR", "EEXIST"], "Something on its way is a file, not a folder: choose another place."],
  [["ENOENT"], "The folder that it is to be in is not there: make it."],
  [["EISDIR"], "It is a folder: name a file."],
  [["ENAMETOOLONG"], "Choose a shorter name."],
  [["EMFILE", "ENFILE"], "Too many files are open: close some, or raise the limit (ulimit -n)."],
  [["EIO", "ENXIO", "ENODEV"], "The disk does not answer: see whether it is there and sound."],
];

export function mendOf(error: unknown): string {
  const { code = "" } = error as NodeJS.ErrnoException;
  return MENDS.find(([codes]) => codes.includes(code))?.[1] ?? "Choose another place.";
}

/** Whether there was no room for it. */
export function isFull(error: unknown): boolean {
  return ["ENOSPC", "EDQUOT", "EFBIG"].includes((error as NodeJS.ErrnoException).code ?? "");
}
