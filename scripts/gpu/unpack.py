"""Puts the parts that pack.sh made together, on a box that has Python 3.12 but no xz.

    python3 unpack.py PARTS BOX

PARTS is the folder with the parts and SHA256SUMS. An archive that was unpacked before is left alone if it is the same;
its parts need not be there then.
"""

import hashlib
import io
import os
import sys
import tarfile


class Parts(io.RawIOBase):
    """The parts of an archive, one after another, each checked by its SHA-256 before any of it is used."""

    def __init__(self, folder, sums):
        self.parts = iter([(os.path.join(folder, name), sha256) for name, sha256 in sums])
        self.file = None

    def readable(self):
        return True

    def readinto(self, buffer):
        while True:
            count = self.file.readinto(buffer) if self.file else 0
            if count:
                return count
            part = next(self.parts, None)
            if part is None:
                return 0
            path, sha256 = part
            self.file = open(path, "rb")
            if hashlib.file_digest(self.file, "sha256").hexdigest() != sha256:
                sys.exit(f"{path} arrived damaged: copy it again")
            self.file.seek(0)


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    folder, box = sys.argv[1:]
    archives = {}
    with open(os.path.join(folder, "SHA256SUMS")) as lines:
        for line in lines:
            sha256, name = line.split()
            archives.setdefault(name.split(".")[0], []).append((name, sha256))
    os.makedirs(box, exist_ok=True)
    for archive, sums in archives.items():
        marker = os.path.join(box, f".{archive}")
        state = "\n".join(sha256 for _, sha256 in sums)
        if os.path.exists(marker) and open(marker).read() == state:
            print(f"{archive}: unchanged")
            continue
        missing = [name for name, _ in sums if not os.path.exists(os.path.join(folder, name))]
        if missing:
            sys.exit(f"{archive}: missing in {folder}: {', '.join(missing)}")
        with tarfile.open(fileobj=io.BufferedReader(Parts(folder, sums), 1 << 20), mode="r|xz") as tar:
            tar.extractall(box, filter="data")
        with open(marker, "w") as file:
            file.write(state)
        print(f"{archive}: unpacked")


if __name__ == "__main__":
    main()
