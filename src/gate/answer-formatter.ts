import { GuardError } from "../errors.js";
import { JsonText } from "./json-text.js";
import type { Part, TextPart } from "./parts.js";

const THINK = "<think>";
const NO_THINKING = "<think>\n\n</think>\n\n";
const THINKING = "<think>\n";
const THOUGHT = "\n</think>\n\n";
/** Keeps the words of two texts apart. */
const BETWEEN = "\n\n";

/** How much of a stretch is read once more where it goes on after another. UTF-16 units. */
const REPEATED = 512;

/** A stretch of an answer that its reader sees as one text: a block, a field, a part of an item. */
interface Stretch {
  /** beside: its reader gets it in events of its own, such as a tool's call. */
  channel: "reasoning" | "content" | "beside";
  /** The end of what came of it, as the guard reads it. */
  tail: string;
  json: JsonText | null;
}

/**
 * An answer as the guard reads it. Reasoning that comes apart from its text is put where Qwen3's chat template has it, as
 * the guard was trained on it; escapes of JSON are read as their characters; and where a text goes on after another that
 * came in between, its end is read once more, so that it is judged as the text its reader sees. For streams opened with
 * `reasoning: true`.
 */
export class AnswerFormatter<T extends object> {
  #stage: "start" | "reasoning" | "content" = "start";
  #prefill: string;
  readonly #json: boolean;
  readonly #stretches = new Map<unknown, Stretch>();
  /** Of text that is not turned back into its source yet. */
  readonly #tagged = new WeakMap<T, Stretch>();
  /** The one that the last text belonged to. */
  #last: { key: unknown; ended: boolean } | null = null;
  /** Half an escape stands at the end of a text. */
  #cut = false;

  /**
   * @param prefill how the answer begins, where the request says so: judged as a part of it
   * @param options.json the request asks for JSON: escapes are decoded, and `source` must be asked for what was released
   */
  constructor(prefill = "", { json = false }: { json?: boolean } = {}) {
    this.#prefill = prefill;
    this.#json = json;
  }

  /**
   * More of a text.
   *
   * @param tag comes out with it
   * @param key which text: pieces with the same key are one text to their reader, those with another are another
   * @throws {GuardError} ESCAPE_CUT
   */
  text(channel: "reasoning" | "content", text: string, tag: T, key: unknown = channel): Part<T>[] {
    if (text === "") return [];
    if (this.#cut && channel === "content") throw escapeCut();
    const json = this.#json && channel === "content" ? new JsonText() : null;
    const stretch = this.#stretches.get(key) ?? { channel, tail: "", json };
    this.#stretches.set(key, stretch);
    return this.#read(stretch, stretch.json?.push(text) ?? text, tag, key);
  }

  /**
   * More of a text that its reader gets in events of its own, such as what a tool is called with. It is judged as part of
   * the answer and does not come out: the event goes behind it.
   *
   * @param json its escapes are read as their characters
   */
  beside(text: string, key: unknown, json: boolean): Part<T>[] {
    const stretch = this.#stretches.get(key) ?? {
      channel: "beside",
      tail: "",
      json: json ? new JsonText() : null,
    };
    this.#stretches.set(key, stretch);
    const read = stretch.json?.push(text) ?? text;
    // Nobody asks for its source.
    stretch.json?.take(read.length);
    return this.#read(stretch, read, null, key);
  }

  /**
   * A text is at its end.
   *
   * @param tag comes out with what was waited with: half an escape
   * @throws {GuardError} ESCAPE_CUT: half an escape at its end, and other texts that may hold the rest
   */
  end(tag: T, key: unknown = "content"): Part<T>[] {
    const stretch = this.#stretches.get(key);
    if (!stretch) return [];
    if (stretch.json?.open) {
      this.#cut = true;
      const contents = [...this.#stretches.values()].filter(({ channel }) => channel === "content");
      if (contents.length > 1) throw escapeCut();
    }
    const rest = this.#read(stretch, stretch.json?.end() ?? "", tag, key);
    if (!stretch.json) this.#stretches.delete(key);
    if (this.#last && this.#last.key === key) this.#last.ended = true;
    return rest;
  }

  /** A released text as the model wrote it, with its escapes. To be asked for each, in order. */
  source({ text, tag }: TextPart<T>): string {
    const json = tag && this.#tagged.get(tag)?.json;
    return json ? json.take(text.length) : text;
  }

  #read(stretch: Stretch, text: string, tag: T | null, key: unknown): Part<T>[] {
    if (text === "") return [];
    if (tag) this.#tagged.set(tag, stretch);
    const parts: Part<T>[] = [];
    const last = this.#last;
    const again = last && last.key !== key ? stretch.tail : "";
    const apart = last && last.key !== key && (again !== "" || !last.ended) ? BETWEEN : "";
    const [before, prefill] = this.#enter(stretch.channel, text);
    if (before || apart) parts.push({ kind: "text", text: before || apart, silent: true });
    if (prefill !== "") parts.push({ kind: "text", text: prefill, again: true });
    if (again !== "") parts.push({ kind: "text", text: again, again: true });
    this.#last = { key, ended: false };
    stretch.tail = (stretch.tail + text).slice(-REPEATED);
    parts.push(tag ? { kind: "text", text, tag } : { kind: "text", text, again: true, beside: true });
    return parts;
  }

  /** What the template puts before, and how the request has the text begin. */
  #enter(channel: Stretch["channel"], text: string): [before: string, prefill: string] {
    const from = this.#stage;
    if (from === "content" || from === channel) return ["", ""];
    this.#stage = channel === "reasoning" ? channel : "content";
    if (channel === "reasoning") return [THINKING, ""];
    const prefill = this.#prefill;
    this.#prefill = "";
    if (from === "reasoning") return [THOUGHT, prefill];
    // Some servers leave the think block in the text.
    const thinksItself = (prefill + text).trimStart().startsWith(THINK);
    return [thinksItself ? "" : NO_THINKING, prefill];
  }
}

function escapeCut(): GuardError {
  return new GuardError(
    "ESCAPE_CUT",
    "The model's answer cuts an escape of its JSON in two texts, so that the guard cannot read what they make together.",
  );
}
