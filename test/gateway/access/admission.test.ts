import { afterEach, expect, test, vi } from "vitest";
import { AdmissionControl } from "../../../src/gateway/access/admission.js";
import { RequestError } from "../../../src/gateway/api-error.js";

const { signal } = new AbortController();
afterEach(() => {
  vi.useRealTimers();
});

test("places are given back once, however often that is said", () => {
  const control = new AdmissionControl(4, 600);
  const [two, one] = [control.admit(2, signal), control.admit(1, signal)];
  two.free();
  two.free();
  expect(control.taken).toBe(1);
  one.free();
  expect(control.taken).toBe(0);
});

test("nothing waits for the time of a request that is over", () => {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
  const admission = new AdmissionControl(1, 600).admit(1, signal);
  expect(vi.getTimerCount()).toBe(1);
  admission.free();
  expect(vi.getTimerCount()).toBe(0);
});

test("all that are under way are told where they are ended, and those that are over are not", () => {
  const control = new AdmissionControl(3, 600);
  const [over, ...underway] = [0, 1, 2].map(() => control.admit(1, signal));
  over.free();
  const reason = new RequestError(503, "shutting_down", "It shuts down.");
  control.abort(reason);
  expect(over.signal.aborted).toBe(false);
  for (const admission of underway) {
    expect(admission.signal.reason).toBe(reason);
    admission.free();
  }
});
