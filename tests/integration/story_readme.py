"""README.md says what is so: its C is compiled, its shell is run, the names in it are in the headers and in --help, and
every name of Python's concurrent.futures has its place beside what to write instead. Start reading at blocks."""

import concurrent.futures
import glob
import inspect
import os
import re
import subprocess
import tempfile
import unittest

import stage

INCLUDES = [f"-I{os.path.join(stage.ROOT, part, 'include')}" for part in ("common", "client", "worker")]
# Blocks of shell that are not run here, by their first line: who runs them.
ELSEWHERE = {
    "deploy/demo": "they build everything; tests/run is what runs this",
    "cmake -S . -B build -DCMAKE_BUILD_TYPE=Release && cmake": "story_install",
    "export PKG_CONFIG_PATH=$PREFIX/lib/pkgconfig": "story_install",
}
TOUR = "deploy/install-packages build"
# The second block of the tour, with as many tasks as a test has time for.
MANY, FEWER = 2000000, 100000


def readme():
    with open(os.path.join(stage.ROOT, "README.md"), encoding="utf-8") as file:
        return file.read()


def section(title):
    return readme().split(f"## {title}\n", 1)[1].split("\n## ", 1)[0]


def blocks():
    """Texts that are indented by four blanks, without them."""
    found = re.findall(r"(?:^|\n)\n((?:    [^\n]*\n|\n(?=    ))+)", readme())
    return [re.sub(r"(?m)^    ", "", block) for block in found]


def is_c(block):
    return "struct quern_" in block


def is_drawing(block):
    return "──" in block


def headers():
    texts = []
    for path in glob.glob(os.path.join(stage.ROOT, "*", "include", "quern", "*.h")):
        with open(path, encoding="utf-8") as file:
            texts.append(file.read())
    return "\n".join(texts)


def rows():
    """Cells of the table beside Python, its head left out."""
    table = section("From ProcessPoolExecutor to quern").split("| Python | C | shell |\n|---|---|---|\n", 1)[1]
    lines = table.split("\n\n", 1)[0]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines.splitlines()]


def names_of_python():
    """What a user of concurrent.futures can write: its names, and those of methods and parameters."""
    futures = concurrent.futures
    names = set(futures.__all__)
    for kind in (futures.Executor, futures.Future):
        names |= {name for name in vars(kind) if not name.startswith("_")}
    for call in (futures.ProcessPoolExecutor.__init__, futures.Executor.submit, futures.Executor.map, futures.Executor.shutdown,
                 futures.Future.result, futures.wait, futures.as_completed):
        names |= set(inspect.signature(call).parameters) - {"self", "fn", "fs", "args", "kwargs", "iterables"}
    return names | {"BrokenProcessPool", "InvalidStateError"}


class BesidePython(stage.Story):
    def test_every_name_of_concurrent_futures_has_its_place(self):
        said = " ".join(row[0] for row in rows())
        self.assertEqual(sorted(name for name in names_of_python() if not re.search(rf"\b{name}\b", said)), [])

    def test_every_row_says_what_to_write_in_c_and_in_the_shell(self):
        self.assertGreater(len(rows()), 30)
        self.assertEqual([row for row in rows() if len(row) != 3 or not all(row)], [])

    def test_when_not_to_use_it_and_what_a_task_costs_are_said(self):
        text = section("From ProcessPoolExecutor to quern")
        for words in ("When to use it, and when not", "What a task costs", "disks or networks", " us "):
            self.assertIn(words, text)


class Names(stage.Story):
    def test_every_function_constant_and_field_is_in_a_header(self):
        text = headers()
        named = set(re.findall(r"\b(?:quern_\w+|QUERN_\w+)", re.sub(r"DQUERN_\w+|\$QUERN_\w+", "", readme())))
        named |= {field for row in rows() for field in re.findall(r"`\.(\w+)", row[1])}
        environment = {"QUERN_URL", "QUERN_BIN", "QUERN_POOL_URL", "QUERN_ALL"}
        missing = [name for name in sorted(named - environment) if not re.search(rf"\b{name}\b", text)]
        self.assertEqual(missing, [])

    def test_every_option_and_command_is_in_a_help(self):
        said = [self.quern("--help").stdout]
        commands = re.findall(r"(?m)^  (\w+)  +\S", said[0].split("Commands", 1)[1].split("Global", 1)[0])
        said += [self.quern(command, "--help").stdout for command in commands]
        for name in ("quern-broker", "quern-worker"):
            done = subprocess.run([os.path.join(stage.BIN, name), "--help"], capture_output=True, check=True)
            said.append(done.stdout.decode())
        help_text = "\n".join(said)
        shell = "\n".join(row[2] for row in rows())
        options = set(re.findall(r"(?<![\w-])--[a-z][\w-]+", shell))
        self.assertGreater(len(options), 15)
        self.assertEqual(options - set(re.findall(r"--[a-z][\w-]+", help_text)), set())
        self.assertEqual(set(re.findall(r"\bquern ([a-z]+)", shell)) - set(commands), set())


class Snippets(stage.Story):
    def test_c_compiles_without_a_warning(self):
        found = [block for block in blocks() if is_c(block)]
        self.assertGreaterEqual(len(found), 1)
        for block in found:
            self.assertNotIn("...", block)
            program = ("#include <quern/pool.h>\n#include <stdio.h>\n#include <stdlib.h>\n"
                       f"int main(void)\n{{\n{block}\nreturn 0;\n}}\n")
            with tempfile.NamedTemporaryFile("w", suffix=".c", dir=self.directory, delete=False) as file:
                file.write(program)
            done = subprocess.run(["cc", "-std=gnu17", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", *INCLUDES, file.name],
                                  capture_output=True, check=False)
            self.assertEqual(done.returncode, 0, done.stderr.decode())

    @unittest.skipIf(stage.is_sanitized(), "the library of a sanitized build wants sanitized programs")
    def test_c_runs_and_gives_what_it_says(self):
        """Against a broker and a worker of the tour."""
        (block,) = [block for block in blocks() if is_c(block)]
        self.broker()
        self.worker()
        source, program = self.path("readme.c"), self.path("readme")
        with open(source, "w", encoding="utf-8") as file:
            file.write("#include <quern/client.h>\n#include <stdio.h>\n#include <stdlib.h>\n"
                       f"int main(void)\n{{\n{block}\n"
                       'printf("%zu %d\\n", outcome->result_size, ((const unsigned char *)outcome->result)[0]);\n}\n')
        library = os.path.join(stage.BUILD, "lib")
        subprocess.run(["cc", "-std=gnu17", *INCLUDES, source, f"-L{library}", "-lquern", f"-Wl,-rpath,{library}", "-o",
                        program], check=True)
        done = subprocess.run([program], env=self.env, capture_output=True, timeout=stage.PATIENCE_S, check=False)
        self.assertEqual((done.stdout, done.stderr), (b"1 49\n", b""))

    def test_every_block_is_compiled_or_run_or_somebody_else_does(self):
        shell = [block for block in blocks() if not is_c(block) and not is_drawing(block)]
        for block in shell:
            self.assertTrue(any(block.startswith(first) for first in (*ELSEWHERE, TOUR, "id=$(", "seq ")), block)

    def test_the_tour_runs(self):
        (first, then) = [block for block in blocks() if block.startswith((TOUR, f"seq {MANY}"))]
        lines = first.splitlines()
        build = [line for line in lines if line.startswith(("deploy/", "cmake ", "export PATH"))]
        self.assertEqual(len(build), 3)
        module = os.path.join(stage.BUILD, "lib", "quern", "examples.so")
        text = "\n".join(line for line in lines if line not in build).replace("build/lib/quern/examples.so", module)
        text += "\n" + then.replace(str(MANY), str(FEWER))
        script = f"cd {stage.ROOT} && export PATH={stage.BIN}:$PATH\n{text}\nkill $(jobs -p); wait\n"
        done = subprocess.run(["bash", "-c", script], env=self.env, stdin=subprocess.DEVNULL, capture_output=True,
                              timeout=stage.PATIENCE_S * 3, check=False)
        out, said = done.stdout.decode().splitlines(), done.stderr.decode()
        self.assertIn("49", out, said)
        self.assertIn("DivisionByZero", said)
        self.assertEqual([out[i:i + 3] for i, line in enumerate(out) if line == "false"][0], ["false", "true", "true"])
        for name in sorted(os.path.basename(path) for path in glob.glob(os.path.join(stage.ROOT, "*.md"))):
            self.assertTrue(any(line.endswith(f" {name}") for line in out), name)
        self.assertIn(str(FEWER), out, said)
        for wrong in ("usage:", "command not found", "no such"):
            self.assertNotIn(wrong, said)


if __name__ == "__main__":
    stage.main()
