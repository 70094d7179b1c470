"""Inputs as files for libFuzzer, and as lines of hex to be kept: `hex.py unpack FOLDER FILE...` writes every input of
the files into the folder; `hex.py pack FILE FOLDER SIZE` writes those of the folder, shortest first, up to so many
bytes in all."""

import hashlib
import os
import sys


def lines(path):
    with open(path, encoding="ascii", errors="replace") as file:
        for line in file:
            line = line.strip()
            line = line[4:] if line.startswith("hex ") else line
            try:
                yield bytes.fromhex(line)
            except ValueError:
                pass


def unpack(folder, paths):
    for path in paths:
        for data in lines(path):
            with open(os.path.join(folder, hashlib.sha1(data).hexdigest()), "wb") as file:
                file.write(data)


def pack(path, folder, size_max):
    inputs = []
    for name in os.listdir(folder):
        with open(os.path.join(folder, name), "rb") as file:
            inputs.append(file.read())
    size = 0
    with open(path, "w", encoding="ascii") as out:
        for data in sorted(inputs, key=lambda data: (len(data), data)):
            size += len(data)
            if data and size <= size_max:
                out.write(data.hex() + "\n")


if __name__ == "__main__":
    if sys.argv[1] == "unpack":
        unpack(sys.argv[2], sys.argv[3:])
    else:
        pack(sys.argv[2], sys.argv[3], int(sys.argv[4]))
