"""RELIABILITY.md names tests: each of them is there, as a test."""

import os
import re
import unittest

TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TEST = re.compile(r"^(?:static void|    def) (test_\w+)\(", re.MULTILINE)


def read(*names):
    with open(os.path.join(*names), encoding="utf-8", errors="replace") as file:
        return file.read()


class Reliability(unittest.TestCase):
    def test_every_test_that_is_named_is_there(self):
        files = [(folder, name) for folder, _, names in os.walk(TESTS) for name in names if name.endswith((".c", ".py"))]
        there = {test for folder, name in files for test in TEST.findall(read(folder, name))}
        programs = {os.path.splitext(name)[0] for _, name in files}
        table = read(TESTS, "RELIABILITY.md").split("## Workers, sentence by sentence")[1].split("\n## ")[0]
        named = set(re.findall(r"`(test_\w+)`", table))
        self.assertGreater(len(named), 60)
        self.assertEqual(sorted(named - there - programs), [])


if __name__ == "__main__":
    unittest.main()
