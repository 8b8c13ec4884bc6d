/** An escape of JSON's strings (RFC 8259, section 7). */
const ESCAPE = /\\(?:u([0-9a-fA-F]{4})|(["\\/bfnrt]))/y;
/** The beginning of one, at the end of what has come. */
const BEGUN = /^\\(?:u[0-9a-f]{0,3})?$/i;

const CHARACTERS: Record<string, string> = { b: "\b", f: "\f", n: "\n", r: "\r", t: "\t" };

/**
 * JSON text as whoever parses it will read it, in chunks of any size: `\u0073` is an "s", in keys and values alike. JSON
 * has backslashes in its strings alone, so escapes are read wherever they stand, and text that is no JSON hides nothing by
 * a stray quote. What was read can be turned back, from its beginning on, into the source that it stands for.
 */
export class JsonText {
  /** An escape that has begun. */
  #begun = "";
  /** What was read and not turned back: runs that stand for themselves, and escapes, of one unit each. */
  readonly #pieces: { source: string; length: number }[] = [];

  /** Whether an escape has begun and is not whole yet. */
  get open(): boolean {
    return this.#begun !== "";
  }

  /** Takes text; returns what of it can be read now. */
  push(text: string): string {
    const source = this.#begun + text;
    this.#begun = "";
    let read = "";
    for (let at = 0; at < source.length; ) {
      const slash = source.indexOf("\\", at);
      const plain = source.slice(at, slash === -1 ? source.length : slash);
      read += this.#keep(plain, plain);
      if (slash === -1) break;
      ESCAPE.lastIndex = slash;
      const found = ESCAPE.exec(source);
      if (found) {
        const [whole, code, letter] = found;
        const character = code
          ? String.fromCharCode(Number.parseInt(code, 16))
          : (CHARACTERS[letter] ?? letter);
        read += this.#keep(whole, character);
      } else if (BEGUN.test(source.slice(slash, slash + 6))) {
        this.#begun = source.slice(slash);
        break;
      } else read += this.#keep("\\", "\\");
      at = slash + (found?.[0].length ?? 1);
    }
    return read;
  }

  /** Nothing more comes: what has begun stands for itself. */
  end(): string {
    const rest = this.#begun;
    this.#begun = "";
    return this.#keep(rest, rest);
  }

  /** The source of the next `length` UTF-16 units that were read. */
  take(length: number): string {
    let source = "";
    let wanted = length;
    let done = 0;
    for (; wanted > 0 && done < this.#pieces.length; done++) {
      const piece = this.#pieces[done];
      if (piece.length > wanted) {
        source += piece.source.slice(0, wanted);
        this.#pieces[done] = { source: piece.source.slice(wanted), length: piece.length - wanted };
        break;
      }
      source += piece.source;
      wanted -= piece.length;
    }
    this.#pieces.splice(0, done);
    return source;
  }

  #keep(source: string, read: string): string {
    if (read !== "") this.#pieces.push({ source, length: read.length });
    return read;
  }
}
