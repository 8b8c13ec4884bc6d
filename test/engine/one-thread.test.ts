import { afterEach, expect, test, vi } from "vitest";
import { tiny } from "../../scripts/checkpoint/random.js";
import { Engine } from "../../src/engine/engine.js";
import { ClosedError } from "../../src/errors.js";
import { HEAD_NAMES, type HeadName } from "../../src/model/architecture.js";
import { ortApi } from "../../src/runtime/api.js";
import type { CallThread } from "../../src/runtime/call-thread.js";
import { cpu } from "../../src/runtime/devices/cpu.js";
import { randomModel, readGolden } from "../support/model.js";

interface Golden {
  ids: number[];
  logits: Record<HeadName, number[][]>;
}

const done = new ClosedError("STREAM_CLOSED", "done");

afterEach(() => {
  cpu.prepareThread = undefined;
  vi.restoreAllMocks();
});

/** Loads the engine with runs on a thread of their own, as on a GPU; what that thread was asked to call. */
async function pinned(modelDir: string) {
  const calls = vi.fn();
  cpu.prepareThread = async (thread: CallThread) => {
    const call = thread.call.bind(thread);
    thread.call = (native, args, check) => {
      calls(native.prototype);
      return call(native, args, check);
    };
  };
  return { engine: await Engine.load(modelDir, { maxStreams: 4, maxTokens: 256 }), calls };
}

test("runs that keep to one thread say what PyTorch says, alone and side by side, and no other thread runs", async () => {
  const golden = await readGolden<Golden>("tiny");
  const { modelDir } = await randomModel({ config: tiny, dtype: "BF16" });
  const elsewhere = vi.spyOn(ortApi(), "callAsync");
  const { engine, calls } = await pinned(modelDir);
  try {
    const ids = golden.ids.slice(0, 120);
    await Promise.all(
      [120, 7, 1].map(async (chunk) => {
        const sequence = engine.open();
        for (let at = 0; at < ids.length; at += chunk) {
          await sequence.feed(ids.slice(at, at + chunk), (logits, index, position) => {
            for (const head of HEAD_NAMES) {
              golden.logits[head][position].forEach((value, label, { length }) => {
                expect(Math.abs(logits[head][index * length + label] - value)).toBeLessThan(1e-3);
              });
            }
          });
        }
        sequence.close(done);
      }),
    );
    expect(calls.mock.calls.length).toBeGreaterThan(100);
    expect(elsewhere.mock.calls.map(([name]) => name)).not.toContain("RunWithBinding");
  } finally {
    await engine.close();
  }
});

test("a run of the background on that thread is stopped as soon as a stream has something to run", async () => {
  const { modelDir } = await randomModel({ config: tiny, dtype: "BF16" });
  const { engine, calls } = await pinned(modelDir);
  const told = vi.spyOn(ortApi(), "call");
  try {
    const stream = engine.open();
    // As soon as the background's first run is on its way.
    const fed = new Promise<void>((resolve) => {
      calls.mockImplementationOnce(() => queueMicrotask(() => resolve(stream.feed([1, 2, 3], () => {}))));
    });
    const reading = engine.openBackground("key").feed(new Array(200).fill(1), () => {});
    await expect(reading).rejects.toMatchObject({ code: "STREAM_CLOSED" });
    await fed;
    expect(told.mock.calls.map(([name]) => name)).toContain("RunOptionsSetTerminate");
    stream.close(done);
  } finally {
    await engine.close();
  }
});

test("two engines have a thread each, and closing one leaves the other at work", async () => {
  const { modelDir } = await randomModel({ config: tiny, dtype: "BF16" });
  const [first, second] = [await pinned(modelDir), await pinned(modelDir)];
  const sequence = second.engine.open();
  const fed = sequence.feed(new Array(100).fill(5), () => {});
  await first.engine.close();
  await fed;
  await sequence.feed([1], () => {});
  sequence.close(done);
  await second.engine.close();
  expect(first.calls.mock.calls.length).toBeGreaterThan(0);
});

test("a thread that is lost fails its streams by name, and no verdict is given", async () => {
  const { modelDir } = await randomModel({ config: tiny, dtype: "BF16" });
  let lost: CallThread | undefined;
  cpu.prepareThread = async (thread) => {
    lost = thread;
  };
  const engine = await Engine.load(modelDir, { maxStreams: 2, maxTokens: 64 });
  lost?.close();
  const sequence = engine.open();
  await expect(sequence.feed([1, 2], () => expect.unreachable())).rejects.toMatchObject({
    code: "CALL_THREAD_LOST",
  });
  await engine.close();
});
