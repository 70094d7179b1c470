#!/usr/bin/env python3
"""The example programs do what they say: each is run as a newcomer would, and what it prints is compared with what Python
computes. One test per program."""

import math
import os
import subprocess
import unittest

import stage

EXAMPLES = os.path.join(stage.BUILD, "examples")
PICTURE = "/usr/share/icons/Adwaita/512x512/devices/camera-web.png"


def fib(n):
    a, b = 0, 1
    for _ in range(n):
        a, b = b, a + b
    return a


class Examples(stage.Story):
    def run_example(self, name, *args):
        env = dict(self.env, QUERN_BIN=stage.BIN)
        done = subprocess.run([os.path.join(EXAMPLES, name), *args], env=env, cwd=self.directory, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=stage.PATIENCE_S * 3, check=False)
        self.assertEqual(done.returncode, 0, done.stderr.decode())
        return done.stdout.decode().splitlines()

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
        digits = {n: math.floor(math.lgamma(n + 1) / math.log(10)) + 1 for n in (10000, 15000, 20000)}
        self.assertEqual(self.run_example("factorials"), [f"{n}! has {digits[n]} digits" for n in digits] * 2)

    def test_fibonacci(self):
        self.assertEqual(sorted(self.run_example("fibonacci")), [f"fibonacci({n}) = {fib(n)}" for n in (30, 35, 40)])

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
        with open(os.path.join(self.directory, "blurred.png"), "rb") as file:
            self.assertEqual(file.read(8), b"\x89PNG\r\n\x1a\n")

    def test_sort_lists(self):
        lists = ([5, 2, 9, 1, 5, 6, 0, 3], [-3, 8, 4, 7, 0, -1, 2, 2], list(range(100, 92, -1)), list(range(1, 9)))
        self.assertEqual(self.run_example("sort_lists"), [" ".join(map(str, sorted(one))) for one in lists])

    def test_sleepers(self):
        by_map, as_completed = self.run_example("sleepers")
        self.assertEqual(by_map, "by map:          5 2 3 4 1")
        self.assertEqual(sorted(as_completed.split()[2:]), list("12345"))

    def test_timeouts(self):
        self.assertEqual(self.run_example("timeouts"),
                         ["not yet; the task goes on", "it slept 400 ms", "a minute's sleep was ended: cause timeout",
                          "and the slot works on: it slept 1 ms"])

    def test_pipeline(self):
        total = sum(int(digit) for x in range(40) for digit in str((x + 1) ** 2))
        self.assertEqual(self.run_example("pipeline"),
                         [f"40 items went through, at most 4 at a time; the digits of all squares sum to {total}"])

    def test_preloaded(self):
        self.assertEqual(self.run_example("preloaded"),
                         [f"task {i} saw the same table" for i in range(6)] + ["128 MiB, shared by all slots: yes"])

    def test_event_loop(self):
        total = sum(x * x for x in range(501))
        self.assertEqual(self.run_example("event_loop"),
                         [f"sum of the squares of 1..500: {total}; the timer ticked meanwhile"])

    def test_goes_on(self):
        self.assertEqual(self.run_example("goes_on", self.directory),
                         ["the first run was killed: yes", "the session is there: yes",
                          "200 of 200 results, in two runs"])

    def test_every_example_is_tested(self):
        for name in os.listdir(EXAMPLES):
            if os.access(os.path.join(EXAMPLES, name), os.X_OK) and os.path.isfile(os.path.join(EXAMPLES, name)):
                self.assertTrue(hasattr(self, f"test_{name}"), name)


if __name__ == "__main__":
    unittest.main()
