#!/bin/sh
# Runs one step in the unpacked box and leaves its results in OUT (default: out in the box), at most 8 files.
# usage: run.sh doctor | probe | model | parity [options] | gen-parity [options] | BENCH [options]
# DEVICE=cpu rehearses a step without a GPU.
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
# What the guard says of recording, and when each step began.
NODE_DEBUG=${NODE_DEBUG:-qwen3guard}
export PATH QWEN3GUARD_CUDA QWEN3GUARD_CACHE QWEN3GUARD_BENCH QWEN3GUARD_PYTHON QWEN3GUARD_COMMIT NODE_DEBUG
mkdir -p "$QWEN3GUARD_BENCH" bench/results
device=${DEVICE:-cuda}

# No step may take longer than a call to the box may.
limit="timeout ${LIMIT:-520}"
started=$(date +%s)
touch "$OUT/.started"

# What is known of the step: first that it began, at the end how it went.
note() {
  gpu=$(nvidia-smi --query-gpu=name,driver_version,memory.used --format=csv,noheader 2>/dev/null | head -1 || true)
  printf '{"step":"%s","options":"%s","commit":"%s","gpu":"%s","seconds":%s,"status":%s}\n' "$step" "$*" \
    "$QWEN3GUARD_COMMIT" "$gpu" "$(($(date +%s) - started))" "${status:-null}" >"$OUT/step-$step.json"
}

# finish STATUS: what was measured until then counts; no more than 8 files come back.
finish() {
  status=$1
  find bench/results -name '*.json' -newer "$OUT/.started" -exec cp {} "$OUT/" \;
  rm -f "$OUT/.started"
  note "$options"
  if [ "$(find "$OUT" -type f | wc -l)" -gt 8 ]; then
    tar -C "$OUT" --exclude=results.tar -cf "$box/results.tar" . && find "$OUT" -type f -delete
    mv "$box/results.tar" "$OUT/results.tar"
  fi
  exit "$status"
}

options=$*
note "$options"
code=0
case $step in
doctor)
  # Puts ONNX Runtime beside the provider; names what the box lacks.
  node dist/cli/main.js cuda install --from . || code=$?
  node dist/cli/main.js cuda status || code=$?
  node dist/cli/main.js cuda status --json >"$OUT/cuda-status.json" || code=$?
  $limit node dist/cli/main.js doctor --device "$device" --json >"$OUT/doctor.json" 2>"$OUT/doctor.log" || code=$?
  cat "$OUT/doctor.json"
  tail -n 40 "$OUT/doctor.log"
  ;;
probe)
  # The libraries that the package would load, in the order of the probe's arguments.
  libraries=$(node dist/cli/main.js cuda status --json | node -e '
    const { libraries } = JSON.parse(require("fs").readFileSync(0, "utf8"));
    const path = (name) => libraries.find((library) => library.name === name)?.path ?? name;
    console.log(["libcudart.so.13", "libcublasLt.so.13", "libcublas.so.13"].map(path).join(" "));') || libraries=
  # shellcheck disable=SC2086
  $limit scripts/gpu/probe $libraries >"$OUT/probe.txt" 2>&1 || code=$?
  cat "$OUT/probe.txt"
  ;;
model)
  # The random 0.6B shape, written and exported once; every later step finds it in the cache.
  $limit node --import tsx bench/make-model.ts --device "$device" "$@" >"$OUT/model.txt" 2>&1 || code=$?
  cat "$OUT/model.txt"
  ;;
parity)
  name=parity$(echo "$options" | tr -cd 'a-zA-Z0-9-' | cut -c1-80)
  $limit node --import tsx scripts/gpu/parity.ts --device "$device" --out "$OUT/$name.json" "$@" || code=$?
  ;;
gen-parity)
  $limit node --import tsx scripts/gpu/gen-parity.ts --device "$device" --out "$OUT/gen-parity.json" "$@" || code=$?
  ;;
*)
  $limit node --import tsx bench/main.ts "$step" --device "$device" "$@" || code=$?
  ;;
esac
finish "$code"
