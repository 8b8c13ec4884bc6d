#!/bin/sh
# Runs the engine on ONNX Runtime's real CUDA provider without a GPU: see README.md beside this file.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../.." && pwd)
work=$root/.cache/gpu
runtime=$root/node_modules/onnxruntime-node
version=$(node -p "require('$runtime/package.json').version")
provider=$work/home/$version

if [ ! -f "$provider/libonnxruntime_providers_cuda.so" ]; then
  mkdir -p "$provider"
  python3 -m pip download --no-deps --dest "$work" "onnxruntime-gpu==$version"
  python3 -m zipfile -e "$work/onnxruntime_gpu-$version"-*.whl "$work/wheel"
  mv "$work"/wheel/onnxruntime/capi/libonnxruntime_providers_shared.so "$provider"
  mv "$work"/wheel/onnxruntime/capi/libonnxruntime_providers_cuda.so "$provider"
  rm -r "$work/wheel"
fi
cp "$runtime/bin/napi-v6/linux/x64/libonnxruntime.so.1" "$provider"
"$here/build.sh" "$provider/libonnxruntime_providers_cuda.so" "$work/stand-in"

rm -f "$work/trace"
cd "$root"
QWEN3GUARD_CUDA=$work/home QWEN3GUARD_CACHE=$work/cache LD_LIBRARY_PATH=$work/stand-in STAND_IN_TRACE=$work/trace STAND_IN_DEVICES=2 \
  node --import tsx "$here/rehearse.ts" "$@"
