#!/bin/sh
# Runs one step in the unpacked box and leaves its results in OUT (default: out in the box).
# usage: run.sh doctor | parity [options] | BENCH [options]
set -eu
box=$(cd "$(dirname "$0")/../.." && pwd)
OUT=${OUT:-$box/out}
mkdir -p "$OUT"
OUT=$(cd "$OUT" && pwd)
cd "$box"
step=$1
shift

PATH=$box/bin:$PATH
QWEN3GUARD_CUDA=$box/cuda
QWEN3GUARD_CACHE=$box/cache
QWEN3GUARD_BENCH=$box/cache/bench
QWEN3GUARD_PYTHON=${QWEN3GUARD_PYTHON:-python3}
QWEN3GUARD_COMMIT=$(cat COMMIT)
export PATH QWEN3GUARD_CUDA QWEN3GUARD_CACHE QWEN3GUARD_BENCH QWEN3GUARD_PYTHON QWEN3GUARD_COMMIT
mkdir -p "$QWEN3GUARD_BENCH"

# No step may take longer than a call to the box may.
limit="timeout ${LIMIT:-570}"

case $step in
doctor)
  # Puts ONNX Runtime beside the provider; names what the box lacks.
  node dist/cli/main.js cuda install --from .
  node dist/cli/main.js cuda status
  node dist/cli/main.js cuda status --json >"$OUT/cuda-status.json"
  $limit node dist/cli/main.js doctor --device cuda --json >"$OUT/doctor.json" || status=$?
  cat "$OUT/doctor.json"
  exit "${status:-0}"
  ;;
parity)
  $limit node --import tsx scripts/gpu/parity.ts --out "$OUT/parity.json" "$@"
  ;;
*)
  touch "$OUT/.started"
  $limit node --import tsx bench/main.ts "$step" --device cuda "$@" || status=$?
  # What was measured until then counts.
  find bench/results -name '*.json' -newer "$OUT/.started" -exec cp {} "$OUT/" \;
  exit "${status:-0}"
  ;;
esac
