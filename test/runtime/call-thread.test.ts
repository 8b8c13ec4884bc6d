import { closeSync, writeSync } from "node:fs";
import { afterAll, describe, expect, test } from "vitest";
import { CallThread } from "../../src/runtime/call-thread.js";
import { cpu } from "../../src/runtime/devices/cpu.js";
import koffi from "../../src/runtime/ffi.js";
import { findLibrary } from "../../src/runtime/library.js";
import { nativeFunction } from "../../src/runtime/native-function.js";
import { built, runProgram } from "../support/program.js";

const { path } = findLibrary();

/** By functions of Linux alone: its body, too, is for there. */
const linux = process.platform === "linux" ? describe : () => {};

linux("a thread of its own", () => {
  const library = koffi.load(null);
  const native = (name: string, prototype: string) =>
    nativeFunction<number>(library.symbol(name, "void*") as bigint, prototype);
  const getThread = native("gettid", "int ()");
  const sleep = native("usleep", "int (uint32_t us)");
  const thread = new CallThread(path, "test");
  afterAll(() => thread.close());

  test("every call comes from one thread, which is not this one", async () => {
    const threads: number[] = [];
    const calls = Array.from({ length: 20 }, () => thread.call(getThread, [], (id) => void threads.push(id)));
    await Promise.all(calls);
    expect(new Set(threads).size).toBe(1);
    expect(threads[0]).not.toBe(getThread());
  });

  test("the event loop goes on while a call waits, and calls end in the order they were made", async () => {
    const ended: number[] = [];
    const read = native("read", "int64_t (int file, void* buffer, size_t bytes)");
    const file = native("eventfd", "int (uint32_t count, int flags)")(0, 0);
    const buffer = cpu.allocate(8);
    const calls = Promise.all([
      thread.call(read, [file, buffer.address, 8], () => void ended.push(1)),
      thread.call(getThread, [], () => void ended.push(2)),
    ]);
    for (let turn = 0; turn < 50; turn++) await new Promise(setImmediate);
    expect(ended).toEqual([]);
    // What the call waits for.
    writeSync(file, new Uint8Array(BigUint64Array.of(1n).buffer));
    await calls;
    expect(ended).toEqual([1, 2]);
    closeSync(file);
    buffer.free();
  });

  test("what is thrown of a status is the call's, and the next call is none the worse", async () => {
    const refuse = () => {
      throw new Error("no such status");
    };
    await expect(thread.call(getThread, [], refuse)).rejects.toThrow("no such status");
    await thread.call(getThread, [], (id) => expect(id).toBeGreaterThan(0));
  });

  test("closed while a call runs, it rejects that and every later one by name", async () => {
    const other = new CallThread(path, "test");
    const running = other.call(sleep, [20_000], () => {});
    other.close();
    await expect(running).rejects.toMatchObject({ code: "CALL_THREAD_LOST" });
    await expect(other.call(getThread, [], () => {})).rejects.toMatchObject({ code: "CALL_THREAD_LOST" });
  });

  test("a library that is not there ends the thread, with its reason", async () => {
    const other = new CallThread("/no/such/library.so", "test");
    await expect(other.call(getThread, [], () => {})).rejects.toMatchObject({
      code: "CALL_THREAD_LOST",
      cause: expect.any(Error),
    });
  });
});

test("a process ends with an idle thread, and not before a call has ended", async () => {
  const program = `
    import { CallThread } from ${JSON.stringify(built("runtime/call-thread.js"))};
    import { findLibrary, loadLibrary } from ${JSON.stringify(built("runtime/library.js"))};
    import { nativeFunction } from ${JSON.stringify(built("runtime/native-function.js"))};
    const base = loadLibrary(findLibrary().path).symbol("OrtGetApiBase", "void*");
    const thread = new CallThread(findLibrary().path, "test");
    thread.call(nativeFunction(base, "void* ()"), [], (pointer) => console.log(typeof pointer));
  `;
  expect(await runProgram(program)).toBe("bigint\n");
});
