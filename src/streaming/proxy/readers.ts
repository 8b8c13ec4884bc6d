import { type Channel, type OpenFields, type Reader, Slot } from "./allow-list.js";
import type { CodecOptions } from "./codec.js";
import type { Json } from "./json.js";

/** Reads a whole answer: texts become slots, to be judged and set. */
export class WholeReader implements Reader {
  readonly open: OpenFields;
  readonly request: Json;
  readonly slots: Slot[] = [];
  readonly #hidden: Hidden;
  said = "";
  content = "";

  constructor({ open, request }: CodecOptions, hidden: Hidden) {
    this.open = open;
    this.request = request;
    this.#hidden = hidden;
  }

  text(text: string, channel: Channel): Slot {
    const slot = new Slot(text, channel);
    this.said += text;
    if (channel === "content") this.content += text;
    this.slots.push(slot);
    return slot;
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
  said = "";
  content: string;

  /** @param before text that came before, and that log probabilities may still tell of */
  constructor({ open, request }: CodecOptions, before = "") {
    this.open = open;
    this.request = request;
    this.content = before;
  }

  text(text: string, channel: Channel, kind: string): undefined {
    this.said += text;
    if (channel === "content") this.content += text;
    this.texts.push({ text, channel, kind });
  }

  opened(value: unknown): unknown {
    return value;
  }
}
