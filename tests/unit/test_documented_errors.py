"""Every error that a public header names at a function is provoked by a test: somewhere under tests/ stands
assert_int_equal(FUNCTION(...), QUERN_ERROR), or PROVOKES of tests/unit/test_client_errors.c, or a story reads it from a
program. Start reading at Documented."""

import glob
import os
import re
import unittest

ROOT = os.environ.get("QUERN_SOURCE") or os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
HEADERS = ("client/include/quern/*.h", "worker/include/quern/worker.h", "common/include/quern/value.h")
# What needs processes of its own: the story, and the line of it.
STORIES = {
    ("quern_pool_open", "UNKNOWN"): ("story_pool.py", r"error unknown: quern-broker was not found"),
    ("quern_pool_shutdown", "IO"): ("story_pool.py", r'"close 0"\), "error io"'),
}


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def error_names():
    names = set(re.findall(r"X\(\d+, (\w+),", read(os.path.join(ROOT, "common/include/quern/err.h"))))
    return names - {"OK"}


def declarations():
    """(function, comment in front of it, parameters) of every one that answers enum quern_err."""
    declaration = re.compile(r"(?:/\*((?:(?!\*/).)*)\*/\s*)?(?:#define[^\n]*\n)?(?:QUERN_MUST_USE )?"
                             r"enum quern_err (quern_\w+)\(([^)]*)\)", re.S)
    for pattern in HEADERS:
        for path in sorted(glob.glob(os.path.join(ROOT, pattern))):
            for comment, function, parameters in declaration.findall(read(path)):
                yield function, comment, parameters


def documented():
    """(function, error): those that the comment names, those of another function ("As quern_submit."), and those of the
    rule at the top of quern/client.h."""
    names = error_names()
    own = {function: set(re.findall(r"\bQUERN_(\w+)", comment)) & names for function, comment, _ in declarations()}
    for function, comment, parameters in declarations():
        errors = set(own[function])
        for other in re.findall(r"\bAs (quern_\w+)\.", comment):
            errors |= own[other]
        if re.match(r"\s*struct quern_(client|future|group|set|map) \*(const )?\w", parameters):
            errors |= {"INVALID", "CLOSED"}
        for name in sorted(errors):
            yield function, name


def provoked():
    """(function, error) of every assertion in the tests' C."""
    found = set()
    for path in glob.glob(os.path.join(ROOT, "tests", "**", "*.[ch]"), recursive=True):
        for statement in read(path).split(";"):
            last = re.search(r"assert_int_equal\(\s*(quern_\w+)\(.*\),\s*QUERN_(\w+)\)\s*$", statement, re.S)
            if last:
                found.add((last.group(1), last.group(2)))
            first = re.search(r"(?:PROVOKES|PROVOKES_IN_CHILD|ANSWERED)\(\s*QUERN_(\w+),.*?(quern_(?!err_)\w+)\(", statement,
                              re.S)
            if first:
                found.add((first.group(2), first.group(1)))
    return found


class Documented(unittest.TestCase):
    def test_headers_and_tests_were_found(self):
        self.assertIn(("quern_submit", "FULL"), set(documented()))
        self.assertIn(("quern_submit", "FULL"), provoked())
        self.assertIn(("quern_group_submit", "TOO_BIG"), set(documented()))
        self.assertIn(("quern_group_wait", "INVALID"), set(documented()))
        self.assertGreater(len(set(documented())), 120)

    def test_every_documented_error_is_provoked(self):
        done = provoked()
        missing = [f"{function}: QUERN_{name}" for function, name in documented()
                   if (function, name) not in done and (function, name) not in STORIES]
        self.assertEqual(missing, [])

    def test_stories_still_read_what_they_are_named_for(self):
        for pair, (story, pattern) in STORIES.items():
            self.assertRegex(read(os.path.join(ROOT, "tests/integration", story)), pattern, pair)


if __name__ == "__main__":
    unittest.main()
