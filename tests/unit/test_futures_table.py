"""tests/FUTURES.md names tests that are there: each name in it is that of a test, and no promise is without one."""

import glob
import os
import re
import unittest

ROOT = os.environ.get("QUERN_SOURCE") or os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def rows():
    """[promise, tests] of every row of the tables."""
    lines = [line for line in read(os.path.join(ROOT, "tests/FUTURES.md")).splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line[1:-1].split("|")] for line in lines if line != "| promise | tests |"]


def tests():
    """Names of tests: those that cmocka is given, and those of unittest."""
    found = set()
    for path in glob.glob(os.path.join(ROOT, "tests", "**", "*.[ch]"), recursive=True):
        found |= set(re.findall(r"(?:cmocka_unit_test\w*|WITH_\w+|[A-Z_]+|test)\((test_\w+)", read(path)))
    for path in glob.glob(os.path.join(ROOT, "tests", "**", "*.py"), recursive=True):
        found |= set(re.findall(r"def (test_\w+)\(self", read(path)))
    return found


class FuturesTable(unittest.TestCase):
    def test_every_test_it_names_is_there(self):
        named = {name for row in rows() for name in re.findall(r"`(test_\w+)`", row[1])}
        self.assertGreater(len(named), 120)
        self.assertEqual(sorted(named - tests()), [])

    def test_no_promise_is_without_a_test(self):
        self.assertGreater(len(rows()), 60)
        self.assertEqual([row for row in rows() if len(row) != 2 or not re.fullmatch(r"`test_\w+`(, `test_\w+`)*", row[1])], [])


if __name__ == "__main__":
    unittest.main()
