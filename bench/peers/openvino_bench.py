"""OpenVINO on the 0.6B shape, random int4 weights (symmetric, one scale for each 128), its own stateful attention.

    python openvino_bench.py f32|bf16 CONTEXTS PROMPTS STEPS

The first argument is the precision of the activations: f32 is quicker for one token, bf16 (AMX) for prompts. The graph
is built by hand in the form that its CPU plugin fuses: read state, reorder, append, attend.
"""

import os
import sys

import numpy as np
import openvino as ov
import openvino.opset13 as op

from timing import measure

HIDDEN, LAYERS, HEADS, KV_HEADS, SIZE, INNER, VOCAB, GUARD = 1024, 28, 16, 8, 128, 3072, 151936, 512
GROUP, POSITIONS = 128, 8192
rng = np.random.default_rng(0)
ints = lambda *values: op.constant(np.array(values, np.int64))
scalar = lambda value: op.constant(np.float32(value))


def floats(*shape, scale=1.0):
    values = (rng.standard_normal(shape, dtype=np.float32) * scale).astype(np.float16)
    return op.convert(op.constant(values), np.float32)


def linear(x, rows, columns):
    """y = x · Wᵀ with W in int4: the constant keeps its type until the kernel reads it."""
    packed = rng.integers(0, 256, (rows * columns // 2,), np.uint8)
    weight = op.constant(ov.Tensor(packed, ov.Shape([rows, columns // GROUP, GROUP]), ov.Type.i4))
    scales = np.full((rows, columns // GROUP, 1), 0.2 / np.sqrt(columns), np.float16)
    grouped = op.multiply(op.convert(weight, np.float16), op.constant(scales))
    flat = op.convert(op.reshape(grouped, ints(rows, columns), False), np.float32)
    return op.matmul(x, flat, False, True)


def norm(x, width):
    mean = op.reduce_mean(op.power(x, scalar(2)), ints(-1), True)
    scaled = op.multiply(x, op.divide(scalar(1), op.sqrt(op.add(mean, scalar(1e-6)))))
    return op.multiply(op.constant(np.ones(width, np.float32)), scaled)


def heads_of(x, count, normed):
    x = op.reshape(x, ints(0, 0, count, SIZE), True)
    return op.transpose(norm(x, SIZE) if normed else x, ints(0, 2, 1, 3))


def rotate(x, cos, sin):
    first, second = (op.slice(x, ints(a), ints(b), ints(1), ints(3)) for a, b in ((0, SIZE // 2), (SIZE // 2, SIZE)))
    turned = op.concat([op.multiply(second, scalar(-1)), first], -1)
    return op.add(op.multiply(x, cos), op.multiply(turned, sin))


def repeated(x):
    spread = op.multiply(op.unsqueeze(x, ints(2)), op.constant(np.ones((1, 1, HEADS // KV_HEADS, 1, 1), np.float32)))
    return op.reshape(spread, ints(0, HEADS, -1, SIZE), True)


def build():
    ids = op.parameter([-1, -1], np.int64, name="ids")
    positions = op.parameter([-1, -1], np.int64, name="positions")
    order = op.parameter([-1], np.int32, name="order")
    parameters, sinks = [ids, positions, order], []
    angles = np.arange(POSITIONS)[:, None] * 1e6 ** (-2 * (np.arange(SIZE) % (SIZE // 2)) / SIZE)
    cos, sin = (op.unsqueeze(op.gather(op.constant(f(angles).astype(np.float32)), positions, ints(0)), ints(1))
                for f in (np.cos, np.sin))
    batch = op.gather(op.shape_of(ids), ints(0), ints(0))
    empty = op.broadcast(scalar(0), op.concat([batch, ints(KV_HEADS, 0, SIZE)], 0))

    def state(new, name):
        # A variable of its own, appended to along the positions.
        kept = op.read_value(empty, name, ov.Type.f32, ov.PartialShape([-1, KV_HEADS, -1, SIZE]))
        whole = op.concat([op.gather(kept, order, ints(0)), new], 2)
        sinks.append(op.assign(whole, name))
        return whole

    x = op.gather(floats(VOCAB, HIDDEN), ids, ints(0))
    for layer in range(LAYERS):
        normed = norm(x, HIDDEN)
        q = rotate(heads_of(linear(normed, HEADS * SIZE, HIDDEN), HEADS, True), cos, sin)
        k = rotate(heads_of(linear(normed, KV_HEADS * SIZE, HIDDEN), KV_HEADS, True), cos, sin)
        v = heads_of(linear(normed, KV_HEADS * SIZE, HIDDEN), KV_HEADS, False)
        mixed = op.scaled_dot_product_attention(
            q, repeated(state(k, f"k{layer}")), repeated(state(v, f"v{layer}")), causal=True)
        mixed = op.reshape(op.transpose(mixed, ints(0, 2, 1, 3)), ints(0, 0, HEADS * SIZE), True)
        x = op.add(x, linear(mixed, HIDDEN, HEADS * SIZE))
        normed = norm(x, HIDDEN)
        inner = op.multiply(op.swish(linear(normed, INNER, HIDDEN)), linear(normed, INNER, HIDDEN))
        x = op.add(x, linear(inner, HIDDEN, INNER))
    x = norm(x, HIDDEN)
    results = []
    for widths in ((3, 8), (3, 9)):
        inner = norm(op.matmul(x, floats(HIDDEN, GUARD, scale=0.03), False, False), GUARD)
        results += [op.result(op.matmul(inner, floats(GUARD, width, scale=0.1), False, False)) for width in widths]
    return ov.Model(results, sinks, parameters, "guard")


model = ov.Core().compile_model(build(), "CPU", {
    "PERFORMANCE_HINT": "LATENCY",
    "INFERENCE_NUM_THREADS": os.environ.get("THREADS", str(os.cpu_count())),
    "INFERENCE_PRECISION_HINT": sys.argv[1],
})
request = model.create_infer_request()


def run(count, past):
    request.infer([rng.integers(0, VOCAB, (1, count)), np.arange(past, past + count)[None], np.zeros(1, np.int32)],
                  share_inputs=True, share_outputs=True)
    return [np.array(output.data) for output in request.output_tensors]


def check():
    """The state is attended to causally: the last of nine tokens is judged alike in one piece and after the others."""
    ids = rng.integers(0, VOCAB, (1, 9))
    feed = lambda a, b: request.infer([ids[:, a:b], np.arange(a, b)[None], np.zeros(1, np.int32)])
    feed(0, 9)
    whole = request.output_tensors[0].data[0, -1].copy()
    request.reset_state()
    feed(0, 8)
    feed(8, 9)
    apart = np.abs(whole - request.output_tensors[0].data[0, -1]).max()
    # How far apart it would be without the others: what a processor's arithmetic makes of the same is far less.
    request.reset_state()
    feed(8, 9)
    alone = np.abs(whole - request.output_tensors[0].data[0, -1]).max()
    kinds = [str(node.get_rt_info()["layerType"].astype(str)) for node in model.get_runtime_model().get_ops()]
    fused = kinds.count("ScaledDotProductAttention") == LAYERS and kinds.count("Concatenation") < LAYERS
    if apart > alone / 4 or not fused:
        raise SystemExit(
            f"the graph is not what it should be: logits {apart} apart, {alone} without what came before; "
            f"attention fused: {fused}"
        )


check()
measure(request.reset_state, run)
