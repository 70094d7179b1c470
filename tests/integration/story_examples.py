#!/usr/bin/env python3
"""The example programs do what they say: each is run as a newcomer would, and what it prints is compared with what Python
computes. One test per program."""

import itertools
import math
import os
import re
import signal
import struct
import subprocess
import unittest
import zlib

import stage

EXAMPLES = os.path.join(stage.BUILD, "examples")
PICTURE = "/usr/share/icons/Adwaita/512x512/devices/camera-web.png"


def fib(n):
    a, b = 0, 1
    for _ in range(n):
        a, b = b, a + b
    return a


def png_rows(path):
    """The rows of a picture of 8 bits RGBA, by the letter of the PNG specification."""
    with open(path, "rb") as file:
        data = file.read()
    at, packed = 8, b""
    while at < len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        chunk = data[at + 8:at + 8 + size]
        if kind == b"IHDR":
            width, height, depth, colours, _, _, interlaced = struct.unpack(">IIBBBBB", chunk)
            assert (depth, colours, interlaced) == (8, 6, 0), path
        packed += chunk if kind == b"IDAT" else b""
        at += size + 12
    plain, size = zlib.decompress(packed), width * 4
    above, rows = bytearray(size), []
    for y in range(height):
        filtered = plain[y * (size + 1)]
        row = bytearray(plain[y * (size + 1) + 1:(y + 1) * (size + 1)])
        for i in range(size):
            left, up, corner = (row[i - 4], above[i], above[i - 4]) if i >= 4 else (0, above[i], 0)
            if filtered == 4:
                guess = left + up - corner
                near = min((abs(guess - left), 0), (abs(guess - up), 1), (abs(guess - corner), 2))[1]
                row[i] = row[i] + (left, up, corner)[near] & 255
            elif filtered:
                row[i] = row[i] + (left, up, (left + up) // 2)[filtered - 1] & 255
        rows.append(row)
        above = row
    return rows


def blurred(rows, radius=3):
    """Each value the mean of its neighbours within the picture, rounded down: by a table of sums, not by going through
    the neighbours as the program does."""
    height, size = len(rows), len(rows[0])
    sums = [[0] * (size + 4)]  # sums[y][i + 4]: of all values of that channel above y and not right of i
    for row in rows:
        line = [0] * (size + 4)
        for channel in range(4):
            line[channel + 4::4] = itertools.accumulate(row[channel::4])
        sums.append(list(map(sum, zip(line, sums[-1]))))
    for y in range(height):
        low, high = sums[max(y - radius, 0)], sums[min(y + radius + 1, height)]
        deep = min(y + radius + 1, height) - max(y - radius, 0)
        column = [b - a for a, b in zip(low, high)]
        out = bytearray(size)
        for i in range(size):
            x, channel = divmod(i, 4)
            first, last = max(x - radius, 0), min(x + radius + 1, size // 4)
            out[i] = (column[last * 4 + channel] - column[first * 4 + channel]) // (deep * (last - first))
        yield out


class Examples(stage.Story):
    def example(self, name, *args):
        program = stage.Program(name, [os.path.join(EXAMPLES, name), *args], dict(self.env, QUERN_BIN=stage.BIN),
                                self.directory)
        self.programs.append(program)
        return program

    def run_example(self, name, *args):
        program = self.example(name, *args)
        self.assertEqual(program.status(stage.PATIENCE_S * 3), 0, program.log)
        return program.out

    def test_squares(self):
        self.assertEqual(self.run_example("squares"), [str(x * x) for x in range(1, 11)])

    def test_cubes(self):
        self.assertEqual(self.run_example("cubes"), [f"{x}^3 = {x ** 3}" for x in range(5)])

    def test_exceptions(self):
        self.assertEqual(self.run_example("exceptions"),
                         ["100 / 2 = 50", "100 / 0 failed: DivisionByZero: 100 / 0", "100 / 5 = 20"])

    def test_primes(self):
        lines = self.run_example("primes")
        for line, n in zip(lines, (112272535095293, 112582705942171, 112272535095293, 115280095190773)):
            is_prime = all(n % d for d in range(3, math.isqrt(n) + 1, 2))
            self.assertEqual(line, f"{n} is {'prime' if is_prime else 'not prime'}")
        sieve = [True] * 100001
        for i in range(2, 317):
            if sieve[i]:
                sieve[i * i::i] = [False] * len(sieve[i * i::i])
        self.assertEqual(lines[4], f"{sum(sieve[2:])} primes up to 100000")

    def test_chunk_sums(self):
        self.assertEqual(self.run_example("chunk_sums"),
                         [f"sum of {word} of 0..9999: {sum(x ** power for x in range(10000))}"
                          for word, power in (("squares", 2), ("cubes", 3))])

    def test_factorials(self):
        digits = {}
        for n in (10000, 15000, 20000):
            low = math.floor(math.lgamma(n + 1) / math.log(10))  # give or take one
            digits[n] = next(k for k in range(low - 1, low + 3) if math.factorial(n) < 10 ** k)
        program = self.example("factorials")
        self.assertEqual(program.status(), 0, program.log)
        self.assertEqual(program.out, [f"{n}! has {digits[n]} digits" for n in digits] * 2)
        times = [re.fullmatch(r"(1 slot|3 slots): (\d+\.\d{3}) s", line) for line in program.log]
        self.assertEqual([time and time[1] for time in times], ["1 slot", "3 slots"], program.log)
        self.assertTrue(all(float(time[2]) > 0 for time in times), program.log)

    def test_fibonacci(self):
        """Three slots, and each number takes eleven times as long as the one before it."""
        wanted = [f"fibonacci({n}) = {fib(n)}" for n in (30, 35, 40)]
        said = self.run_example("fibonacci")
        self.assertCountEqual(said, wanted)
        if not stage.is_sanitized():  # there a slot may come later than the first result
            self.assertEqual(said, wanted)

    def test_matrix(self):
        lines = self.run_example("matrix")
        left = [[(i * 31 + k * 17) % 101 - 50 for k in range(120)] for i in range(120)]
        right = [[(i * 13 + k * 7) % 97 - 48 for k in range(120)] for i in range(120)]
        corner = [sum(left[i][k] * right[k][i] for k in range(120)) for i in (0, 119)]
        self.assertEqual(lines[0], f"product[0][0] = {corner[0]}, sum[0][0] = {left[0][0] + right[0][0]}, "
                                   f"last row: {corner[1]} and {left[119][119] + right[119][119]}")
        self.assertEqual(lines[1], "0 of 28800 values differ from the straightforward ones")

    def test_image_filter(self):
        self.assertEqual(self.run_example("image_filter", PICTURE, "blurred.png"),
                         ["512 x 512 pixels in strips of 32 rows: the same as in one piece"])
        written = png_rows(self.path("blurred.png"))
        self.assertEqual(len(written), 512)
        self.assertNotEqual(written, png_rows(PICTURE))
        for y, (row, expected) in enumerate(zip(written, blurred(png_rows(PICTURE)))):
            self.assertEqual(row, expected, f"row {y}")

    def test_sort_lists(self):
        lists = ([5, 2, 9, 1, 5, 6, 0, 3], [-3, 8, 4, 7, 0, -1, 2, 2], list(range(100, 92, -1)), list(range(1, 9)))
        self.assertEqual(self.run_example("sort_lists"), [" ".join(map(str, sorted(one))) for one in lists])

    def test_sleepers(self):
        self.assertEqual(self.run_example("sleepers"), ["by map:          5 2 3 4 1", "by as_completed: 1 2 3 4 5"])

    def test_timeouts(self):
        self.assertEqual(self.run_example("timeouts"),
                         ["not yet; the task goes on", "it slept 400 ms", "a minute's sleep was ended: cause timeout",
                          "and the slot works on: it slept 1 ms"])

    def test_pipeline(self):
        total = sum(int(digit) for x in range(40) for digit in str((x + 1) ** 2))
        lines = self.run_example("pipeline")
        self.assertEqual(lines[0], f"40 items went through; the digits of all squares sum to {total}")
        most = re.fullmatch(r"under way at once: at most (\d+); make (\d+); square (\d+); digit_sum (\d+)", lines[1])
        everywhere, made, *others = map(int, most.groups())
        self.assertEqual((everywhere, made), (4, 4), "it begins with as many as it may have")
        self.assertTrue(all(1 <= one <= 4 for one in others), lines[1])

    def test_preloaded(self):
        self.assertEqual(self.run_example("preloaded"),
                         [f"task {i} saw the same table" for i in range(6)] + ["128 MiB, shared by all slots: yes"])

    def test_event_loop(self):
        total = sum(x * x for x in range(501))
        (line,) = self.run_example("event_loop")
        said = re.fullmatch(r"sum of the squares of 1..500: (\d+); the timer ticked (\d+) times meanwhile", line)
        self.assertEqual(int(said[1]), total)
        # A quarter of a second's work at least, in which a loop that blocks turns once.
        self.assertGreaterEqual(int(said[2]), 10, line)

    def results(self):
        try:
            with open(self.path("results"), encoding="utf-8") as file:
                return file.read().splitlines()
        except FileNotFoundError:
            return []

    def goes_on_is_killed(self, count):
        """kill -9 once that many results are there; the pool goes with it."""
        program = self.example("goes_on", self.directory)
        program.wait_out("accepted by former runs")
        stage.wait_until(lambda: len(self.results()) >= count, f"{count} results")
        pool = self.descendants(program.pid)
        self.assertEqual(program.kill9(), -signal.SIGKILL)
        self.assertGreaterEqual(len(pool), 2)
        stage.wait_until(lambda: not any(map(stage.is_alive, pool)), "its pool to be gone")
        self.assertLess(len(self.results()), 200, "it was killed in the middle")
        return program.out[0]

    def test_goes_on(self):
        self.assertEqual(self.goes_on_is_killed(30), "accepted by former runs: 0")
        self.goes_on_is_killed(80)
        before = len(self.results())
        first, last = self.run_example("goes_on", self.directory)
        self.assertEqual(first, "accepted by former runs: 200", "and not one more was submitted")
        self.assertRegex(last, rf"^written by this run: {200 - before}; had come before: \d+$")
        self.assertEqual(sorted(self.results(), key=lambda line: int(line.split()[0])),
                         [f"{x} {x * x}" for x in range(1, 201)], "each result once")
        self.assertEqual(self.run_example("goes_on", self.directory),
                         ["accepted by former runs: 200", "written by this run: 0; had come before: 0"])

    def test_every_example_is_tested(self):
        for name in os.listdir(EXAMPLES):
            if os.access(os.path.join(EXAMPLES, name), os.X_OK) and os.path.isfile(os.path.join(EXAMPLES, name)):
                self.assertTrue(hasattr(self, f"test_{name}"), name)


if __name__ == "__main__":
    unittest.main()
