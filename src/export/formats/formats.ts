import type { Dtype } from "../../model/manifest.js";
import type { Target } from "../qwen3.js";
import type { WeightFormat, WeightSource } from "../weights.js";
import { BlockwiseWeights } from "./blockwise.js";
import { DenseWeights } from "./dense.js";
import { RowwiseWeights } from "./rowwise.js";

export function createWeights(source: WeightSource, dtype: Dtype, target: Target): WeightFormat {
  switch (dtype) {
    case "int8":
      return new BlockwiseWeights(source, 8, target.activation);
    case "int4":
      return new BlockwiseWeights(source, 4, target.activation);
    case "w8a8":
      return new RowwiseWeights(source);
    default:
      return new DenseWeights(source, target.activation);
  }
}
