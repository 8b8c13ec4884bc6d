import cliProgress from "cli-progress";
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

/** NO_COLOR and FORCE_COLOR (no-color.org, force-color.org) go before what the stream is. */
export function createTerminal(stream: NodeJS.WriteStream): Terminal {
  const { NO_COLOR, FORCE_COLOR, TERM } = process.env;
  const interactive = stream.isTTY === true && TERM !== "dumb";
  const colored = NO_COLOR ? false : FORCE_COLOR ? FORCE_COLOR !== "0" : interactive;
  return {
    interactive,
    colors: pc.createColors(colored),
    progress: (label, total, unit) =>
      interactive ? bar(stream, label, total, unit) : lines(stream, label, total, unit),
  };
}

function bar(stream: NodeJS.WriteStream, label: string, total: number, unit: string): Progress {
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
