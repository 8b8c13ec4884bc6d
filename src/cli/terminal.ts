import { createRequire } from "node:module";
import pc from "picocolors";

/** A stream people may look at: colour where it is wanted, a moving bar where there is a screen. */
export interface Terminal {
  /** True on a screen, false in a pipe or file. */
  interactive: boolean;
  /** picocolors' functions; they return the text unchanged where colour is off. */
  colors: ReturnType<typeof pc.createColors>;
  /** Shows how far something is. Call `stop` at its end, also after an error. */
  progress(label: string, total: number, unit: "bytes" | (string & {})): Progress;
}

export interface Progress {
  /** `value` of `total` units are done. Cheap: call it as often as you like. */
  update(value: number): void;
  stop(): void;
}

const SECONDS_BETWEEN_LINES = 5;

/**
 * What steers a terminal or hides text on it: control characters (C0 and C1 with their escape sequences, DEL), line and
 * paragraph separators, what turns the direction of text, and all that is drawn as nothing.
 */
const UNSEEN =
  /\r(?!\n)|[^\P{Cc}\n\t\r]|[\p{Bidi_Control}\p{Default_Ignorable_Code_Point}\p{Zl}\p{Zp}\p{Cs}\ufff9-\ufffb]/gu;

const JOINING_SCRIPTS =
  "Arabic Syriac Mongolian Nko Devanagari Bengali Gurmukhi Gujarati Oriya Tamil Telugu Kannada Malayalam Sinhala Khmer Myanmar".split(
    " ",
  );
/** Joiners belong to emoji and to scripts whose letters join; elsewhere they only split a word unseen. */
const JOINED = lastOf(
  ...["\\ufe0f", "\\p{Extended_Pictographic}", "\\p{Emoji_Modifier}"],
  ...JOINING_SCRIPTS.map((name) => `\\p{Script=${name}}`),
);
const JOINER = /[\u200c\u200d]/;
/** What a variation selector may follow: emoji, digits of keycaps, ideographs. */
const VARIED = lastOf("\\p{Emoji}", "\\p{Ideographic}");
const SELECTOR = /[\ufe0e\ufe0f\u{e0100}-\u{e01ef}]/u;

/** One of these stands last. Not as a class: V8 14.6 (Node 26.5) misses the end's where that takes two UTF-16 units. */
function lastOf(...characters: string[]): RegExp {
  return new RegExp(`(?:${characters.join("|")})$`, "u");
}

/**
 * Text of a model, a file, a hub or a client as a terminal may show it. Characters that would steer the terminal or hide
 * something become escapes to read, `\x1b` or `\u202e`; lines and tabs stay.
 *
 * @param before what was shown right before it: a joiner or a selector at the start of `text` may belong to its end
 */
export function visible(text: string, before = ""): string {
  return text.replace(UNSEEN, (character, at: number) => {
    const start = at === 0 ? before : text.slice(Math.max(0, at - 2), at);
    const belongs = JOINER.test(character)
      ? JOINED.test(start)
      : SELECTOR.test(character) && VARIED.test(start);
    return belongs ? character : escaped(character);
  });
}

/** A name, a label or a message as `visible` shows it, and on one line. */
export function visibleLine(text: string): string {
  return visible(text).replace(/[\n\r\t]/g, escaped);
}

/** NO_COLOR and FORCE_COLOR (no-color.org, force-color.org) go before what the stream is. */
export function createTerminal(stream: NodeJS.WriteStream): Terminal {
  const { NO_COLOR, FORCE_COLOR, TERM } = process.env;
  const interactive = stream.isTTY === true && TERM !== "dumb";
  const colored = NO_COLOR ? false : FORCE_COLOR ? FORCE_COLOR !== "0" : interactive;
  return {
    interactive,
    colors: pc.createColors(colored),
    progress: (label, total, unit) => (interactive ? bar : lines)(stream, visibleLine(label), total, unit),
  };
}

function bar(stream: NodeJS.WriteStream, label: string, total: number, unit: string): Progress {
  // Few commands show one.
  const cliProgress: typeof import("cli-progress") = createRequire(import.meta.url)("cli-progress");
  const display = new cliProgress.SingleBar(
    {
      stream,
      format: "{label} {bar} {percentage}% | {value} of {total} {unit} | {rate}/s | {eta_formatted}",
      formatValue: (value, _options, type) =>
        unit === "bytes" && (type === "value" || type === "total") ? megabytes(value) : String(value),
      linewrap: true, // changes nothing on the screen that Ctrl-C in the middle would leave changed
      barsize: 24,
      fps: 10,
      etaBuffer: 100,
    },
    cliProgress.Presets.shades_classic,
  );
  const started = performance.now();
  display.start(total, 0, { label, unit: unit === "bytes" ? "MB" : unit, rate: rate(0, started, unit) });
  return {
    update: (value) => display.update(value, { rate: rate(value, started, unit) }),
    stop: () => display.stop(),
  };
}

/** In a log: a line now and then for what takes long, nothing for what is done at once. */
function lines(stream: NodeJS.WriteStream, label: string, total: number, unit: string): Progress {
  const started = performance.now();
  let last = started;
  return {
    update(value) {
      const now = performance.now();
      if (now - last < SECONDS_BETWEEN_LINES * 1000) return;
      last = now;
      const amount =
        unit === "bytes" ? `${megabytes(value)} of ${megabytes(total)} MB` : `${value} of ${total} ${unit}`;
      const left = ((total - value) * (now - started)) / Math.max(1, value) / 1000;
      const pace = `${rate(value, started, unit)}/s, ${Math.ceil(left)} s left`;
      stream.write(`${label}: ${Math.floor((100 * value) / Math.max(1, total))}% (${amount}, ${pace})\n`);
    },
    stop() {},
  };
}

/** What a second brought on average, as text. */
function rate(value: number, started: number, unit: string): string {
  const perSecond = value / Math.max(1e-3, (performance.now() - started) / 1000);
  return unit === "bytes" ? `${megabytes(perSecond)} MB` : perSecond.toFixed(perSecond < 10 ? 1 : 0);
}

function megabytes(bytes: number): string {
  return (bytes / 1e6).toFixed(bytes < 1e8 ? 1 : 0);
}

function escaped(character: string): string {
  const code = character.codePointAt(0) as number;
  const hex = code.toString(16);
  if (code < 0x100) return `\\x${hex.padStart(2, "0")}`;
  return code < 0x10000 ? `\\u${hex.padStart(4, "0")}` : `\\u{${hex}}`;
}
