#!/usr/bin/env bash
# Runs a command whose ONNX Runtime takes the kernels of a processor with AVX2 alone (Linux x64; needs gcc and objdump):
#
#   bench/older-processor/run.sh npm run bench -- formats --formats w8a8,int4
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
library=$here/../../native/linux/x64/libonnxruntime.so.1
work=$here/../../.cache/older-processor
mkdir -p "$work"
gcc -O1 -Wall -shared -fPIC -o "$work/hide.so" "$here/hide.c" -ldl
if [ "$library" -nt "$work/libonnxruntime.so.1" ]; then
  # The text section lies in the file where it lies in memory, so objdump's addresses are places in the file.
  objdump -d "$library" | awk -F: '/\tcpuid/ { print $1 }' | node -e '
    const { readFileSync, writeFileSync } = require("node:fs");
    const [from, to] = process.argv.slice(1);
    const bytes = readFileSync(from);
    for (const place of readFileSync(0, "utf8").trim().split(/\s+/)) {
      const at = Number.parseInt(place, 16);
      if (bytes.readUInt16BE(at) !== 0x0fa2) throw new Error(`no cpuid at ${place}`);
      bytes.writeUInt16BE(0x0f0b, at);
    }
    writeFileSync(to, bytes);
  ' "$library" "$work/libonnxruntime.so.1"
fi
work=$(cd "$work" && pwd)
export OLDER_PROCESSOR_LIBRARY=$work/libonnxruntime.so.1 LD_PRELOAD=$work/hide.so
exec "$@"
