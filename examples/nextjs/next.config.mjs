/** @type {import("next").NextConfig} */
export default {
  // Its native libraries and its model cannot be bundled.
  serverExternalPackages: ["qwen3guard-stream"],
};
