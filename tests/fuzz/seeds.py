"""Writes every golden frame as a file of bytes into the folder given: a corpus for libFuzzer to start from."""

import os
import sys


def main():
    folder = sys.argv[1]
    golden = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "golden", "frames.txt")
    name = None
    with open(golden, encoding="utf-8") as file:
        for line in file:
            if line.startswith("== "):
                name = line.split()[1]
            elif line.startswith("hex "):
                with open(os.path.join(folder, name), "wb") as seed:
                    seed.write(bytes.fromhex(line[4:].strip()))


if __name__ == "__main__":
    main()
