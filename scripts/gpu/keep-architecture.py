"""Keeps the machine code of some GPUs in a CUDA library and zeroes that of all others, which then compresses to nothing.

    python3 keep-architecture.py IN OUT 90 [120 ...]

CUDA's runtime reads a library's table of machine codes and loads the one for the GPU at hand; the table stays as it is.
Not part of the package: to carry the provider onto a box that takes small files.
"""

import mmap
import shutil
import struct
import sys

MAGIC = struct.pack("<IHH", 0xBA55ED50, 1, 16)
ELF = 2


def main():
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    source, target, *kept = sys.argv[1:]
    kept = {int(architecture) for architecture in kept}
    shutil.copyfile(source, target)
    found = {}
    with open(target, "r+b") as file, mmap.mmap(file.fileno(), 0) as data:
        start = data.find(MAGIC)
        while start >= 0:
            (size,) = struct.unpack_from("<Q", data, start + 8)
            entry, end = start + 16, start + 16 + size
            while entry < end:
                kind, _, header, payload = struct.unpack_from("<HHIQ", data, entry)
                (architecture,) = struct.unpack_from("<I", data, entry + 28)
                found[architecture] = found.get(architecture, 0) + payload
                if kind == ELF and architecture not in kept:
                    data[entry + header : entry + header + payload] = bytes(payload)
                entry += header + payload
            start = data.find(MAGIC, end)
    for architecture, size in sorted(found.items()):
        print(f"sm_{architecture}: {size / 1e6:.0f} MB {'kept' if architecture in kept else 'zeroed'}")
    missing = kept - found.keys()
    if missing:
        sys.exit(f"{source} has no code for {sorted(missing)}")


if __name__ == "__main__":
    main()
