#!/usr/bin/env bash
# Builds the image with Debian's buildah, which needs no container engine, and tries it the way compose.yaml and the chart run
# it: as its own user, without capabilities, on a root file system that is read-only but for /cache and /tmp.
#   sudo apt-get install buildah debootstrap && sudo deploy/image/check.sh
# With CUDA=1 it goes on to the image for CUDA, as far as that goes without a GPU (some gigabytes).
# The base is pulled; with BASE=debian it is made here of the same parts: Debian's packages, and Node.js and npm as npm has them.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=$(mktemp -d /var/tmp/qwen3guard-image.XXXXXX)
buildah() { command buildah --root "$work/storage" --runroot "$work/run" --storage-driver vfs "$@"; }
finish() {
  [ -z "${container:-}" ] || buildah umount "$container" > /dev/null
  rm -rf "$work"
}
trap finish EXIT

if [ "${BASE:-}" = debian ]; then
  root=$work/base
  debootstrap --variant=minbase bookworm "$root" > "$work/debootstrap.log"
  architecture=$(node -p process.arch)
  (cd "$work" && npm pack --silent "node-linux-$architecture@20.20.2" npm@10.8.2)
  tar xzf "$work"/node-linux-*.tgz -C "$root/usr/local" --strip-components=1 package/bin
  chmod +x "$root/usr/local/bin/node"
  mkdir -p "$root/usr/local/lib/node_modules/npm"
  tar xzf "$work"/npm-*.tgz -C "$root/usr/local/lib/node_modules/npm" --strip-components=1
  ln -s ../lib/node_modules/npm/bin/npm-cli.js "$root/usr/local/bin/npm"
  chroot "$root" sh -c 'groupadd --gid 1000 node && useradd --uid 1000 --gid node --create-home node'
  base=$(buildah from scratch)
  buildah add -q "$base" "$root" / > /dev/null
  # Of this machine: where packages come through a proxy that has certificates of its own.
  [ -z "${NODE_EXTRA_CA_CERTS:-}" ] || buildah config --env "NODE_EXTRA_CA_CERTS=$NODE_EXTRA_CA_CERTS" "$base"
  buildah commit -q --rm "$base" docker.io/library/node:20-bookworm-slim > /dev/null
  rm -rf "$root"
  pull=--pull-never
fi
# build NAME FILE OPTIONS…: builds an image and tries it.
build() {
  buildah bud --isolation chroot --format docker --volume /etc/ssl/certs:/etc/ssl/certs:ro \
    -f "$2" --ignorefile deploy/image/Dockerfile.dockerignore -t "$1" "${@:3}" . > "$work/build.log" 2>&1 ||
    { tail -50 "$work/build.log"; exit 1; }
  container=$(buildah from --pull-never "$1")
  buildah inspect "$container" > "$work/image.json"
  mounted=$(buildah mount "$container")
  echo "built $1: $(du -sm "$mounted" | cut -f1) MB"
  unshare --mount --pid --fork --kill-child node deploy/image/try.mjs "$mounted" "$work/image.json"
  buildah umount "$container" > /dev/null
  buildah rm "$container" > /dev/null
  container=
}
build qwen3guard deploy/image/Dockerfile ${pull:+"$pull"}
[ -z "${CUDA:-}" ] || build qwen3guard-cuda deploy/image/Dockerfile.cuda --pull-never ${PIP_INDEX_URL:+--env "PIP_INDEX_URL=$PIP_INDEX_URL"} --build-arg BASE=localhost/qwen3guard
