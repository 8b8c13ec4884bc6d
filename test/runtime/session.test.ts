import { expect, test } from "vitest";
import { encodeModel } from "../../src/onnx/model.js";
import { Session } from "../../src/runtime/session.js";

const NO_FLASH_ATTENTION = "ORT_GQA_DISABLE_FLASH_ATTENTION";

test("sessions made at once leave the environment as it was", async () => {
  const model = encodeModel({
    producer: "",
    producerVersion: "",
    opsets: [{ domain: "", version: 18 }],
    graph: {
      nodes: [{ op: "Neg", domain: "", name: "neg", inputs: ["x"], outputs: ["y"], attributes: [] }],
      inputs: [{ name: "x", type: "float32", dims: [1] }],
      outputs: [{ name: "y", type: "float32", dims: [1] }],
    },
  });
  const before = process.env[NO_FLASH_ATTENTION];
  const sessions = await Promise.all(
    [false, true, false].map((flashAttention) => Session.loadBytes(model, { threads: 1, flashAttention })),
  );
  expect(process.env[NO_FLASH_ATTENTION]).toBe(before);
  for (const session of sessions) session.release();
});
