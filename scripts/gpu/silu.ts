import { addSilu, type Target } from "../../src/export/qwen3.js";
import { encodeFloats } from "../../src/onnx/float.js";
import { Graph } from "../../src/onnx/graph.js";
import { encodeModel } from "../../src/onnx/model.js";
import { Binding } from "../../src/runtime/binding.js";
import type { DeviceId } from "../../src/runtime/devices/device-id.js";
import { openDevice } from "../../src/runtime/devices/open.js";
import { InputBuffer } from "../../src/runtime/input-buffer.js";
import { Session } from "../../src/runtime/session.js";
import { ELEMENT, Tensor } from "../../src/runtime/tensor.js";

/** How far SiLU is from the exact one, over −12, −11.875, … 12. */
export interface SiluError {
  /** Largest error, and where. */
  largest: number;
  at: number;
  /** silu(−6), which is −0.01484. */
  ofMinus6: number;
}

/** Multiples of 1/8 up to 12: all of them are exact in 16 bits. */
const VALUES = Float32Array.from({ length: 193 }, (_, i) => (i - 96) / 8);

/** Runs the graph's own SiLU alone, in the activations' type of the target, on a device. */
export async function probeSilu(id: DeviceId, target: Target): Promise<SiluError> {
  const { activation } = target;
  const graph = new Graph();
  graph.input("gate", activation, ["count"]);
  graph.output("y", "float32", ["count"]);
  graph.node("Cast", [addSilu(graph, "mlp", "gate", target)], ["y"], { to: ELEMENT.float32.onnx });
  const model = encodeModel({
    producer: "",
    producerVersion: "",
    opsets: graph.opsets,
    graph: { nodes: graph.nodes, inputs: graph.inputs, outputs: graph.outputs },
  });
  const device = await openDevice(id);
  const session = await Session.loadBytes(model, { threads: 1, device });
  const input = new InputBuffer(VALUES.length * ELEMENT[activation].bytes, device);
  const output = device.shared(VALUES.length * ELEMENT.float32.bytes);
  const binding = new Binding(session);
  const tensors = [
    Tensor.view(input.memory, 0, activation, [VALUES.length]),
    Tensor.view(output, 0, "float32", [VALUES.length]),
  ];
  try {
    new Uint8Array(input.view()).set(encodeFloats(VALUES, activation));
    input.publish();
    binding.input("gate", tensors[0]);
    binding.output("y", tensors[1]);
    await binding.run();
    return errorOf(new Float32Array(output.view()));
  } finally {
    binding.release();
    for (const tensor of tensors) tensor.release();
    input.free();
    output.free();
    session.release();
  }
}

function errorOf(found: Float32Array): SiluError {
  const error = { largest: 0, at: 0, ofMinus6: found[VALUES.indexOf(-6)] };
  VALUES.forEach((x, i) => {
    const distance = Math.abs(found[i] - x / (1 + Math.exp(-x)));
    // NaN passes, and stays.
    if (Number.isNaN(error.largest) || distance <= error.largest) return;
    Object.assign(error, { largest: distance, at: x });
  });
  return error;
}
