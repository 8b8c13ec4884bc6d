import { type AddOutputs, addOutput } from "../../src/export/outputs.js";
import type { ModelOutput } from "../../src/model/outputs.js";

/** The id as a float: exact up to 2^24. */
const NEXT_ID: ModelOutput = { name: "next_id", width: 1, position: "last" };

/**
 * Adds the LM head over the last position, and the choice of its likeliest token. ArgMax would need cuDNN on CUDA, and
 * TopK takes one block of threads a row: so first the best of each of many short rows, then the best of those.
 */
export const addGreedyHead: AddOutputs = (graph, { config }, hidden, { weights }) => {
  const { vocabSize, hiddenSize } = config;
  const tensor = config.tieWordEmbeddings ? "model.embed_tokens.weight" : "lm_head.weight";
  const last = graph.add("Gather", [hidden, scalar("last_position", -1)], "last", { axis: 1 });
  const scores = weights.linear(graph, "lm_head", last, [{ tensor, rows: vocabSize, columns: hiddenSize }]);
  const floats = graph.add("Cast", [scores], "scores", { to: 1 });

  const width = 2 ** Math.min(7, Math.log2(vocabSize & -vocabSize));
  const groups = vocabSize / width;
  const rows = graph.add("Reshape", [floats, graph.ints("score_rows", [-1, groups, width])], "score.rows");
  const one = graph.ints("one", [1]);
  graph.node("TopK", [rows, one], ["row.best", "row.places"], { axis: -1 });
  const flat = graph.ints("row_list", [-1, groups]);
  const bests = graph.add("Reshape", ["row.best", flat], "row.bests");
  const places = graph.add("Reshape", ["row.places", flat], "row.flat");
  graph.node("TopK", [bests, one], ["best", "best.row"], { axis: -1 });
  const place = graph.add("GatherElements", [places, "best.row"], "best.place", { axis: 1 });
  const start = graph.add("Mul", ["best.row", graph.ints("row_width", [width])], "best.start");
  const id = graph.add("Add", [start, place], "best.id");
  const float = graph.add("Cast", [id], "best.float", { to: 1 });
  graph.add("Reshape", [float, graph.ints("output_rows", [-1, 1, 1])], NEXT_ID.name);
  addOutput(graph, NEXT_ID);
  return [NEXT_ID];

  function scalar(name: string, value: number): string {
    return graph.constant(name, "int64", [], BigInt64Array.of(BigInt(value)));
  }
};
