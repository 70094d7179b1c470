"""Reads the tree and keeps what a compiler does not: who may include whom, which calls are banned and what to use
instead, how large a file may grow, heads and words. Start reading at the class of the rule that failed."""

import os
import re
import subprocess
import unittest

ROOT = os.environ.get("QUERN_SOURCE") or os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
FILE_LINES_MAX = 800
TEST_LINES_MAX = 850  # claims stand side by side there
PRODUCT = ("common/", "broker/", "worker/", "client/")


def tree():
    """Paths of all files that git would keep: tracked, and new ones that are not ignored."""
    command = ["git", "-c", "safe.directory=*", "-C", ROOT, "ls-files", "--cached", "--others", "--exclude-standard"]
    try:
        names = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    except (OSError, subprocess.CalledProcessError):  # an unpacked archive: no git
        names = []
        for folder, folders, files in os.walk(ROOT):
            folders[:] = [f for f in folders if not f.startswith((".git", "build"))]
            names += [os.path.relpath(os.path.join(folder, f), ROOT) for f in files]
    return sorted(name for name in set(names) if os.path.isfile(os.path.join(ROOT, name)))


def read(name):
    with open(os.path.join(ROOT, name), encoding="utf-8") as file:
        return file.read()


def is_code(name):
    return name.endswith((".c", ".h"))


def strip_comments(text):
    """Without comments and the inside of strings; lines keep their numbers."""
    pattern = r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\''

    def blank(match):
        found = match.group(0)
        if found[0] in "\"'":
            return found[0] + found[0]
        return "\n" * found.count("\n")

    return re.sub(pattern, blank, text, flags=re.S)


FILES = tree()
CODE = [name for name in FILES if is_code(name)]


def includes(name):
    for number, line in enumerate(read(name).splitlines(), 1):
        match = re.match(r'\s*#\s*include\s+[<"]([^>"]+)[>"]', line)
        if match:
            yield number, match.group(1)


class Arrows(unittest.TestCase):
    def test_the_tree_was_found(self):
        self.assertIn("common/messages.h", FILES)
        self.assertGreater(len(CODE), 20)

    def test_parts_include_common_and_never_each_other(self):
        wrong = []
        for name in CODE:
            if not name.startswith(PRODUCT):
                continue
            part = name.split("/")[0]
            for number, included in includes(name):
                other = included.split("/")[0]
                if other in ("broker", "worker", "client", "tests") and other != part:
                    wrong.append(f"{name}:{number}: {part}/ includes {included}")
                if included in ("quern/client.h", "quern/worker.h") and part in ("common", "broker"):
                    wrong.append(f"{name}:{number}: {part}/ includes {included}")
        self.assertEqual(wrong, [])

    def test_each_library_has_one_user(self):
        allowed = {
            r"zmq\.h|zmq_.*": r"common/link\w*\.[ch]",
            r"czmq\.h": r"broker/config\.c",
            r"sqlite3\.h": r"broker/store_sqlite\w*\.[ch]",
            r"msgpack\.h|msgpack/.*": r"common/codec\.c",
            r"jansson\.h": r"client/cli/\w+\.[ch]",
        }
        wrong = []
        for name in CODE:
            if name.startswith("tests/"):
                continue
            for number, included in includes(name):
                for library, user in allowed.items():
                    if re.fullmatch(library, included) and not re.fullmatch(user, name):
                        wrong.append(f"{name}:{number}: {included} belongs into {user}")
        self.assertEqual(wrong, [])

    def test_the_core_does_no_io(self):
        """Simulated time and replay by seed rest on this."""
        outside = r"broker/(main|loop|config|journal\w*|loaded|store\w*|disk)\.[ch]"
        banned = {"sys/socket.h", "poll.h", "time.h", "pthread.h", "common/link.h", "common/clock.h",
                  "common/random.h", "broker/journal.h", "broker/loop.h"}
        wrong = []
        for name in CODE:
            if name.startswith("broker/") and not re.fullmatch(outside, name):
                wrong += [f"{name}:{n}: {i}" for n, i in includes(name) if i in banned]
        self.assertEqual(wrong, [])

    def test_what_the_simulation_drives_of_client_and_worker_does_no_io(self):
        """The same holds for the state machines at the broker's other ends."""
        pure = (r"client/(ledger|submits|completions|request|unfinished)\.[ch]|"
                r"worker/(dialogue|ledger|lease|pace|places|turn|waits|slot)\.c")
        banned = {"sys/socket.h", "poll.h", "time.h", "pthread.h", "unistd.h", "common/link.h", "common/clock.h",
                  "common/random.h"}
        wrong = []
        for name in CODE:
            if re.fullmatch(pure, name):
                wrong += [f"{name}:{n}: {i}" for n, i in includes(name) if i in banned]
        self.assertEqual(wrong, [])


class Calls(unittest.TestCase):
    BANNED = {
        "strcpy": "snprintf or memcpy with a checked size",
        "strcat": "struct buf (common/bytes.h)",
        "strncpy": "snprintf or memcpy with a checked size",
        "sprintf": "snprintf",
        "vsprintf": "vsnprintf",
        "strtok": "strchr, or a struct bytes that is cut",
        "gets": "fgets or getline",
        "atoi": "strtoll with its end and errno checked",
        "atol": "strtoll with its end and errno checked",
        "atof": "strtod with its end checked",
        "system": "posix_spawn with an argv",
        "popen": "posix_spawn with an argv",
        "usleep": "poll with a time-out on what is waited for",
        "tmpnam": "mkstemp or mkdtemp",
        "mktemp": "mkstemp or mkdtemp",
        "alloca": "xmalloc, or an array with a named bound",
        "rand": "random_u64, or a seed that the test prints",
        "asctime": "strftime",
        "localtime": "localtime_r",
        "gmtime": "gmtime_r",
    }

    SLOW_ON_PURPOSE = "tests/integration/modules/"  # functions for workers that take their time

    def test_banned_calls_are_not_made(self):
        wrong = []
        pattern = re.compile(r"(?<![\w.>])(" + "|".join(self.BANNED) + r")\s*\(")
        for name in CODE:
            for number, line in enumerate(strip_comments(read(name)).splitlines(), 1):
                for call in pattern.findall(line):
                    if call == "usleep" and name.startswith(self.SLOW_ON_PURPOSE):
                        continue
                    wrong.append(f"{name}:{number}: {call}: use {self.BANNED[call]}")
        self.assertEqual(wrong, [])

    def test_tests_do_not_sleep_as_synchronisation(self):
        wrong = []
        for name in FILES:
            if not name.startswith("tests/") or name == "tests/unit/test_tidy.py" or name.startswith(self.SLOW_ON_PURPOSE):
                continue
            if name.endswith(".c") and re.search(r"(?<![\w.])(u?sleep|nanosleep)\s*\(", strip_comments(read(name))):
                wrong.append(f"{name}: wait for what is awaited, with poll")
            if name.endswith(".py") and re.search(r"\btime\.sleep\(|\bfrom time import.*\bsleep", read(name)):
                wrong.append(f"{name}: wait for what is awaited: tests/integration/stage.py, wait_until")
        self.assertEqual(wrong, [])

    def test_no_example_takes_an_error_for_the_end(self):
        """A loop over what comes ends with QUERN_END or with what went wrong: who copies an example must look which."""
        wrong = []
        for name in FILES:
            if not name.startswith("client/examples/") and not re.match(r"client/include/quern/\w+\.h$|.*\.md$", name):
                continue
            text = read(name)
            for loop in re.finditer(r"while \(quern_\w*next\(", text):
                wrong.append(f"{name}:{text.count(chr(10), 0, loop.start()) + 1}: keep the answer, look at it behind the loop")
        self.assertEqual(wrong, [])

    def test_library_code_neither_prints_nor_exits(self):
        """Errors are values; what people read comes from main, the command line and the log."""
        wrong = []
        pattern = re.compile(r"(?<![\w.>])(printf|puts|putchar|perror|exit)\s*\(")
        for name in CODE:
            if not re.match(r"(common|broker|client)/[^/]+\.c$", name) or name in ("broker/main.c", "common/check.c"):
                continue
            for number, line in enumerate(strip_comments(read(name)).splitlines(), 1):
                for call in pattern.findall(line):
                    wrong.append(f"{name}:{number}: {call}")
        self.assertEqual(wrong, [])


class Shape(unittest.TestCase):
    def test_files_stay_readable_in_one_sitting(self):
        wrong = []
        for name in CODE:
            count = read(name).count("\n")
            most = TEST_LINES_MAX if name.startswith("tests/") else FILE_LINES_MAX
            if count > most:
                wrong.append(f"{name}: {count} lines; split by noun (at most {most})")
        self.assertEqual(wrong, [])

    def test_product_files_begin_with_a_head(self):
        wrong = [name for name in CODE if name.startswith(PRODUCT) and not read(name).lstrip().startswith("/*")]
        self.assertEqual(wrong, [])

    def test_headers_have_guards(self):
        wrong = [name for name in CODE if name.endswith(".h") and not re.search(r"#ifndef \w+_H\w*\n#define", read(name))]
        self.assertEqual(wrong, [])

    def test_every_folder_says_what_it_is(self):
        wrong = []
        for folder in ("common", "broker", "worker", "client", "tests", "deploy"):
            if f"{folder}/README.md" not in FILES:
                wrong.append(f"{folder}/README.md is missing")
                continue
            lines = read(f"{folder}/README.md").count("\n")
            if not 8 <= lines <= 40:
                wrong.append(f"{folder}/README.md has {lines} lines; 10 to 30 are wanted")
        self.assertEqual(wrong, [])

    def test_text_files_have_no_tabs_or_trailing_blanks(self):
        wrong = []
        for name in FILES:
            if is_code(name) or name.endswith((".py", "CMakeLists.txt", ".sh")):
                for number, line in enumerate(read(name).splitlines(), 1):
                    if line != line.rstrip() or "\t" in line:
                        wrong.append(f"{name}:{number}")
        self.assertEqual(wrong, [])


class Limits(unittest.TestCase):
    def test_sample_configuration_names_every_limit(self):
        tunable = read("common/limits.h").split("#define LIMITS_TUNABLE(X)")[1]
        listed = set(re.findall(r"^\s*X\((\w+),", tunable, flags=re.M)) - {"name"}
        sample = set(re.findall(r"^#?\s+(\w+_(?:ms|count|count_max|bytes|bytes_max|size|max))\s*=",
                                read("deploy/quern-broker.conf"), flags=re.M))
        self.assertEqual(listed ^ sample, set())


if __name__ == "__main__":
    unittest.main()
