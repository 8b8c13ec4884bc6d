import type { Progress, Terminal } from "./terminal.js";

/** One bar of bytes after another for files that come one after another. */
export class FileProgress {
  readonly #terminal: Terminal;
  #file = "";
  #bar: Progress | undefined;

  constructor(terminal: Terminal) {
    this.#terminal = terminal;
  }

  update(file: string, done: number, total: number): void {
    if (file !== this.#file) {
      this.stop();
      this.#file = file;
      this.#bar = this.#terminal.progress(file, total, "bytes");
    }
    this.#bar?.update(done);
  }

  stop(): void {
    this.#bar?.stop();
    this.#bar = undefined;
  }
}
