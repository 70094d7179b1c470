"""A program that includes all public headers and uses every INIT macro compiles as C and as C++ of each standard, without a
warning, and finds the same defaults: one source (DEFAULTS), many compilers. Start reading at Cplusplus."""

import glob
import os
import re
import shutil
import subprocess
import tempfile
import unittest

ROOT = os.environ.get("QUERN_SOURCE") or os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
HEADERS = ("client/include/quern/*.h", "worker/include/quern/*.h", "common/include/quern/*.h")
WARNINGS = ("-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror")
COMPILERS = [("cc", "c", "-std=c11"), ("cc", "c", "-std=c17")] + [
    (compiler, "c++", standard) for compiler in ("c++", "clang++") for standard in ("-std=c++11", "-std=c++17", "-std=c++20")]


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def headers():
    return [path for pattern in HEADERS for path in sorted(glob.glob(os.path.join(ROOT, pattern)))]


def fields_of(text, struct):
    """Its plain fields, those of structs within included."""
    body = re.search(r"^struct " + struct + r" {(.*?)^};", text, re.M | re.S).group(1)
    fields = re.findall(r"^    (?:u?int\w*_t|size_t|unsigned|int|bool|double|enum \w+) (\w+);", body, re.M)
    for inner, name in re.findall(r"^    struct (\w+) (\w+);", body, re.M):
        fields += [f"{name}.{field}" for field in fields_of(text, inner)]
    return fields


def structs():
    """(struct, its INIT macro, its plain fields) of all that have one."""
    text = "\n".join(re.sub(r"/\*.*?\*/", "", read(path), flags=re.S) for path in headers())
    for macro, struct in re.findall(r"#define (QUERN_\w+_INIT)\s*\\?\n?\s*QUERN_INIT_IN_CXX\(struct (\w+),", text):
        yield struct, macro, fields_of(text, struct)


def program():
    names = [os.path.basename(path) for path in headers()]
    lines = [f"#include <quern/{name}>" for name in names] + ["#include <stdio.h>", "int main(void)", "{"]
    for number, (struct, macro, fields) in enumerate(structs()):
        lines.append(f"    struct {struct} it{number} = {macro};")
        lines += [f'    printf("{struct}.{field} %.0f\\n", (double)it{number}.{field});' for field in fields]
    return "\n".join(lines + ["    return 0;", "}", ""])


class Cplusplus(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.TemporaryDirectory(prefix="quern-cplusplus-")
        self.addCleanup(self.directory.cleanup)

    def defaults(self, compiler, language, standard):
        source, out = (os.path.join(self.directory.name, name) for name in ("program", "out"))
        with open(source, "w", encoding="utf-8") as file:
            file.write(program())
        includes = [f"-I{os.path.join(ROOT, part, 'include')}" for part in ("client", "worker", "common")]
        done = subprocess.run([compiler, "-x", language, standard, *WARNINGS, *includes, source, "-o", out],
                              stderr=subprocess.PIPE, text=True)
        self.assertEqual((done.returncode, done.stderr), (0, ""), (compiler, standard))
        return subprocess.run([out], check=True, stdout=subprocess.PIPE, text=True).stdout

    def test_every_macro_was_found(self):
        named = {name for path in headers() for name in re.findall(r"#define (QUERN_\w+_INIT)\b", read(path))}
        self.assertEqual({macro for _, macro, _ in structs()}, named)
        self.assertIn("quern_map_options.call.attempts", program())

    def test_defaults_are_the_same_in_c_and_in_every_cplusplus(self):
        expected = self.defaults(*COMPILERS[0])
        self.assertIn("quern_call.attempts 1\n", expected)
        for compiler, language, standard in COMPILERS[1:]:
            if compiler == "clang++" and shutil.which(compiler) is None:
                continue
            self.assertEqual(self.defaults(compiler, language, standard), expected, (compiler, standard))


if __name__ == "__main__":
    unittest.main()
