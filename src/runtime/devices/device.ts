import type { Handle } from "../api.js";
import type { CallThread } from "../call-thread.js";
import type { Memory } from "../memory.js";
import type { DeviceId } from "./device-id.js";

/** Where a session's kernels run. What differs between the processor and a GPU lies behind this, and nowhere else. */
export interface Device {
  readonly id: DeviceId;
  readonly defaults: DeviceDefaults;

  /** Memory where the kernels are at their fastest. @throws {DeviceError} OUT_OF_MEMORY */
  allocate(bytes: number): Memory;

  /**
   * Host memory that the kernels reach too, at the same address: a GPU's write to it over the bus. For what is small and
   * read by the host, such as logits.
   *
   * @throws {DeviceError} OUT_OF_MEMORY
   */
  shared(bytes: number): Memory;

  /**
   * Queues a copy of the first `bytes` between the kernels before and those to come; `from` is host memory and must not
   * change until it is done. Absent where kernels read the host's memory as fast as any.
   */
  upload?(to: Memory, from: Memory, bytes: number): void;

  /** Copies within a block, between the kernels before and those to come. */
  copyRows(block: Memory, rows: CopiedRows): void;

  /** Sets a session up to run here. @throws {DeviceError} where the device cannot be used */
  configure(settings: Handle, options: SessionSettings): Promise<void>;

  /**
   * Makes the one thread ready that a session's runs keep to. Absent where any thread serves: where what a thread does for
   * the first time takes no longer than the second time.
   */
  prepareThread?(thread: CallThread): Promise<void>;

  /** What ONNX Runtime's error about a session set up here means; the error itself where there is no more to say. */
  explain(error: unknown): unknown;

  memory(): DeviceMemory;

  /** Absent where starting kernels costs nothing worth saving. */
  readonly recorder?: Recorder;

  /** After the last session and memory of it. */
  release(): void;
}

/** Records work, so that one call starts it again. */
export interface Recorder {
  /** Ways to record, the best first: what a driver or a kernel minds about one may work by the next. */
  readonly modes: readonly RecordingMode[];

  /**
   * Records what `work` queues, without doing it; it has queued it all once it resolves. The addresses it uses, and every number it reads on the host, are part
   * of the recording from then on; what it does for the first time should not be done for the first time here.
   *
   * @throws {DeviceError}
   */
  record(work: () => Promise<void>, mode: RecordingMode): Promise<Recording>;

  /** Queues a copy of the first `bytes` to host memory behind what was queued before. */
  download(to: Memory, from: Memory, bytes: number): void;

  /** After a failure: what went wrong is not held against the next try. */
  recover(): Promise<void>;
}

export interface RecordingMode {
  readonly name: string;
  /** Whether kernels leave results in the device's memory, and a copy to the host is recorded behind them. */
  readonly copiesResults: boolean;
}

/** Equally long stretches of a block, at equal distances. All in bytes, but for `height`: their number. */
export interface CopiedRows {
  /** Where the first begins, and where it goes. */
  from: number;
  to: number;
  /** From one's beginning to the next one's. */
  pitch: number;
  width: number;
  height: number;
}

/** Recorded work that one call starts again. */
export interface Recording {
  /** Does it; resolves when its results are there. @throws {DeviceError} */
  run(): Promise<void>;
  release(): void;
}

export interface DeviceDefaults {
  /** Streams to make room for, where memory allows. */
  streams: number;
  /** Tokens of a prompt in one run, and how many of a sequence go one by one: see SchedulerOptions. */
  chunks: { sharedChunk: number; loneChunk: number; fewTokens: number };
  /** Lengths, ascending, that a sequence's own chunk is padded to, where the device takes long over a length it has not seen. */
  paddedLengths?: readonly number[];
}

/** What a cache may take of a device's memory. */
export interface DeviceMemory {
  /** Bytes that can be had; where memory is taken as it fills, all there are. */
  bytes: number;
  /** Of these, what the kernels' own workspaces need. */
  reserved: number;
  /** Whether memory is taken page by page when it is first written, so that more may be promised than there is. */
  takenAsFilled: boolean;
}

export interface SessionSettings {
  /** Threads that kernels on the processor share. */
  threads: number;
  /** Whether products of bytes take the u8 × u8 kernels: see SessionOptions. */
  widenBytes: boolean;
  /** Whether constants are laid out for the kernels that read them: see SessionOptions. */
  prepack: boolean;
}
