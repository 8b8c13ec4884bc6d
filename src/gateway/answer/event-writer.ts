import type { Event, StreamCodec } from "./codec.js";

/** Writes an answer's events to the client, and keeps its connection open while there are none. */
export class EventWriter {
  readonly #writer: WritableStreamDefaultWriter<Uint8Array>;
  readonly #codec: Pick<StreamCodec, "frame" | "keepAlive" | "terminator">;
  readonly #encoder = new TextEncoder();
  #timer: NodeJS.Timeout | undefined;
  /** Nothing was sent since the timer looked last. */
  #silent = false;

  constructor(
    writer: WritableStreamDefaultWriter<Uint8Array>,
    codec: Pick<StreamCodec, "frame" | "keepAlive" | "terminator">,
  ) {
    this.#writer = writer;
    this.#codec = codec;
  }

  /** Text may be held, or the model may think. @param seconds without a word; 0: nothing keeps it open */
  keepOpen(seconds: number): void {
    if (seconds === 0) return;
    this.#timer = setInterval(() => {
      const reads = (this.#writer.desiredSize ?? 0) > 0;
      if (this.#silent && reads) this.#send(this.#codec.keepAlive()).catch(() => {});
      this.#silent = true;
    }, seconds * 1000).unref();
  }

  /** Nothing keeps it open any longer. */
  silence(): void {
    clearInterval(this.#timer);
  }

  async write(event: Event): Promise<void> {
    this.#silent = false;
    await this.#send(this.#codec.frame(event));
  }

  /** What some protocols have behind the last event. */
  async terminate(): Promise<void> {
    const { terminator } = this.#codec;
    if (terminator !== null) await this.#send(`data: ${terminator}\n\n`);
  }

  async close(): Promise<void> {
    await this.#writer.close();
  }

  #send(text: string): Promise<void> {
    return this.#writer.write(this.#encoder.encode(text));
  }
}
