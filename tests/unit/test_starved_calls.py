"""Every function that libquern exports is asked with memory used up: one that needs some in tests/unit/test_client_memory.c,
in a call_NAME that is starved, or between shortage_begin and shortage_end; one that needs none in test_client_frugal.c,
WITHOUT_MEMORY. Start reading at Starved."""

import os
import re
import subprocess
import unittest

ROOT = os.environ.get("QUERN_SOURCE") or os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ["QUERN_BUILD"]
# Why not there.
ELSEWHERE = {
    "quern_worker_main": "a program of its own: story_shortage.py, test_a_worker_that_starts",
    "quern_pool_main": "returns at once, or is quern_worker_main",
    "quern_pool_close": "quern_pool_shutdown, then releases",
}


def exported():
    table = subprocess.run(["nm", "-D", "--defined-only", os.path.join(BUILD, "lib", "libquern.so")], check=True,
                           stdout=subprocess.PIPE, text=True).stdout
    names = {line.split()[-1].split("@")[0] for line in table.splitlines() if " T " in line}
    return {name for name in names if name.startswith("quern_") and not name.startswith("quern_place_")}


def starved():
    """What stands in the functions that are starved, and in the stretches without memory."""
    text = ""
    for name in ("test_client_memory.c", "test_client_frugal.c"):
        with open(os.path.join(ROOT, "tests/unit", name), encoding="utf-8") as file:
            text += file.read()
    functions = dict(re.findall(r"^static [^;{}]*?(\w+)\([^;{}]*\)\n{\n(.*?)^}", text, re.M | re.S))
    tried = [name for name in functions if re.search(r"(starve|try_with_less)\(&stage, " + name + r"\b", text) or
             re.search(r"(calls\[\] = {|trial \*call = )[^;]*\b" + name + r"\b", text)]
    parts = [functions[name] for name in tried]
    parts += re.findall(r"WITHOUT_MEMORY\((.*)\);", text)
    parts += re.findall(r"shortage_begin\(.*?shortage_end\(", text, re.S)
    parts += [functions[other] for part in parts for other in functions if re.search(r"\b" + other + r"\(", part)]
    return set(re.findall(r"\b(quern_\w+)\(", "\n".join(parts)))


class Starved(unittest.TestCase):
    def test_functions_were_found(self):
        self.assertGreater(len(exported()), 80)
        self.assertIn("quern_submit", exported() & starved())
        self.assertNotIn("quern_submit_nothing", starved())

    def test_every_exported_function_is_asked_without_memory(self):
        self.assertEqual(sorted(exported() - starved() - set(ELSEWHERE)), [])

    def test_what_is_named_as_tried_elsewhere_is_there(self):
        self.assertLessEqual(set(ELSEWHERE), exported())
        self.assertEqual(sorted(set(ELSEWHERE) & starved()), [])


if __name__ == "__main__":
    unittest.main()
