import { type Channel, invalid, type OpenFields, type Reader, Slot } from "./allow-list.js";
import type { RequestError } from "./api-error.js";
import type { CodecOptions } from "./codec.js";
import type { Json } from "./json.js";

/** Texts of an answer, or of an event: no server sends more, and each goes to the guard on its own. */
const MOST_TEXTS = 4096;
/** UTF-16 units that are searched for texts said over again: the event loop waits for it, some tens of milliseconds. */
const MOST_SEARCHED = 2 ** 24;

/** Finds texts that say again what was said, within a bound on the work. */
export class Echoes {
  readonly #said: readonly string[];
  readonly #whole: ReadonlySet<string>;
  readonly #cost: number;
  #left = MOST_SEARCHED;

  constructor(said: readonly string[]) {
    this.#said = said;
    this.#whole = new Set(said);
    this.#cost = said.reduce((sum, text) => sum + text.length, 0);
  }

  has(text: string): boolean {
    // Nearly always it is a whole text that is said again.
    if (this.#whole.has(text)) return true;
    this.#left -= this.#cost;
    return this.#left >= 0 && this.#said.some((said) => said.includes(text));
  }
}

/** Reads a whole answer: texts become slots, to be judged and set. */
export class WholeReader implements Reader {
  readonly open: OpenFields;
  readonly request: Json;
  readonly slots: Slot[] = [];
  readonly #hidden: Hidden;
  #echoes: Echoes | null = null;
  content = "";

  constructor({ open, request }: CodecOptions, hidden: Hidden) {
    this.open = open;
    this.request = request;
    this.#hidden = hidden;
  }

  text(text: string, channel: Channel): Slot {
    if (this.slots.length === MOST_TEXTS) throw tooMany();
    const slot = new Slot(text, channel);
    this.#echoes = null;
    if (channel === "content") this.content += text;
    this.slots.push(slot);
    return slot;
  }

  repeats(text: string): boolean {
    this.#echoes ??= new Echoes(this.slots.map((slot) => slot.text));
    return this.#echoes.has(text);
  }

  /** What was opened on purpose may still say what was stopped. */
  opened(value: unknown): unknown {
    const hidden = this.#hidden;
    return { toJSON: () => (hidden.hidden ? undefined : value) };
  }
}

/** Whether opened fields are left out after all. */
export interface Hidden {
  hidden: boolean;
}

/** A text that an event holds. */
export interface Said {
  text: string;
  channel: Channel;
  kind: string;
}

/** Reads an event of a stream: texts are taken out of it. */
export class EventReader implements Reader {
  readonly open: OpenFields;
  readonly request: Json;
  readonly texts: Said[] = [];
  #echoes: Echoes | null = null;
  content: string;

  /** @param before text that came before, and that log probabilities may still tell of */
  constructor({ open, request }: CodecOptions, before = "") {
    this.open = open;
    this.request = request;
    this.content = before;
  }

  text(text: string, channel: Channel, kind: string): undefined {
    if (this.texts.length === MOST_TEXTS) throw tooMany();
    this.#echoes = null;
    if (channel === "content") this.content += text;
    this.texts.push({ text, channel, kind });
  }

  repeats(text: string): boolean {
    this.#echoes ??= new Echoes(this.texts.map((said) => said.text));
    return this.#echoes.has(text);
  }

  opened(value: unknown): unknown {
    return value;
  }
}

function tooMany(): RequestError {
  return invalid(`more than ${MOST_TEXTS} texts`);
}
