"""A stage for stories with real processes: a directory of its own, programs started in it and ended by pid.

    class Story(stage.Story):
        def test_a_result_comes_back(self):
            self.broker()
            self.worker()
            self.assertEqual(self.quern("submit", "square", "7").stdout, "49\n")

Programs are those of the build in QUERN_BUILD. Nothing here waits for time to pass: wait_until looks at what is awaited;
its time-out is a safety net. When a story fails, the logs of its programs are printed.
Start reading at Story.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.abspath(os.environ.get("QUERN_BUILD") or os.path.join(ROOT, "build"))
BIN = os.path.join(BUILD, "bin")
MODULE = os.path.join(BUILD, "lib", "quern", "examples.so")
LOOK_AGAIN_S = 0.005


def is_sanitized():
    """A sanitizer has memory and threads of its own in every process, and is slow."""
    try:
        with open(os.path.join(BUILD, "CMakeCache.txt"), encoding="utf-8") as file:
            return any(line.startswith("QUERN_SANITIZE:") and line.strip().split("=", 1)[1] for line in file)
    except FileNotFoundError:
        return False


PATIENCE_S = 240.0 if is_sanitized() else 60.0  # the safety net, everywhere


def wait_until(fact, what, patience=PATIENCE_S):
    """Returns what fact() returned when that is true for the first time."""
    pause = threading.Event()
    end = time.monotonic() + patience
    while True:
        value = fact()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"waited {patience:.0f} s in vain: {what}")
        pause.wait(LOOK_AGAIN_S)


class Program:
    """A running program. Its output is read by threads, so that it never blocks; stderr also goes to its log."""

    def __init__(self, name, argv, env, cwd, stdin=subprocess.DEVNULL, **options):
        self.name = name
        self.argv = argv
        self.out = []  # complete lines, without the newline
        self.log = []
        self._changed = threading.Condition()
        self.process = subprocess.Popen(argv, env=env, cwd=cwd, stdin=stdin, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, **options)
        self._threads = [threading.Thread(target=self._read, args=pair, daemon=True)
                         for pair in ((self.process.stdout, self.out), (self.process.stderr, self.log))]
        for thread in self._threads:
            thread.start()

    @property
    def pid(self):
        return self.process.pid

    def _read(self, stream, lines):
        for line in stream:
            with self._changed:
                lines.append(line.rstrip(b"\n").decode("utf-8", "surrogateescape"))
                self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()

    def _wait_lines(self, lines, matches, what, patience):
        end = time.monotonic() + patience
        with self._changed:
            while True:
                found = [line for line in list(lines) if matches(line)]
                if found:
                    return found[0]
                if not any(thread.is_alive() for thread in self._threads) or time.monotonic() > end:
                    raise AssertionError(f"{self.name} never said {what}; status {self.process.poll()}")
                self._changed.wait(0.1)

    def wait_out(self, text, patience=PATIENCE_S):
        """The first line of stdout that holds text."""
        return self._wait_lines(self.out, lambda line: text in line, repr(text), patience)

    def wait_log(self, text, patience=PATIENCE_S):
        """The first line of stderr that holds text."""
        return self._wait_lines(self.log, lambda line: text in line, repr(text), patience)

    def wait_out_count(self, count, patience=PATIENCE_S):
        """Until that many lines of stdout are there."""
        wait_until(lambda: len(self.out) >= count or self.process.poll() is not None,
                   f"{count} lines of {self.name}", patience)
        if len(self.out) < count:
            raise AssertionError(f"{self.name} ended with status {self.status()} after {len(self.out)} lines")

    def is_running(self):
        return self.process.poll() is None

    def send(self, number):
        self.process.send_signal(number)

    def status(self, patience=PATIENCE_S):
        """Wait for its end: the exit status, or minus the signal's number."""
        status = self.process.wait(patience)
        for thread in self._threads:
            thread.join(5)  # longer only if something of it outlives it and holds its output
        return status

    def kill9(self):
        """kill -9 and wait until it is gone."""
        self.send(signal.SIGKILL)
        return self.status()

    def end(self, number=signal.SIGTERM, patience=PATIENCE_S):
        """Ask it to end; its exit status."""
        if self.is_running():
            self.send(number)
        return self.status(patience)

    def write(self, data):
        """To its stdin (started with stdin=PIPE)."""
        self.process.stdin.write(data if isinstance(data, bytes) else data.encode())
        self.process.stdin.flush()

    def close_stdin(self):
        self.process.stdin.close()


class Result:
    """A program that has ended."""

    def __init__(self, done):
        self.status = done.returncode
        self.stdout = done.stdout.decode("utf-8", "surrogateescape")
        self.stderr = done.stderr.decode("utf-8", "surrogateescape")
        self.bytes = done.stdout

    @property
    def lines(self):
        return self.stdout.splitlines()

    @property
    def json(self):
        try:
            return json.loads(self.stdout)
        except json.JSONDecodeError as error:
            raise AssertionError(f"no JSON, but status {self.status}, {self.stdout!r}, {self.stderr!r}") from error


class Story(unittest.TestCase):
    """One directory per test; XDG_RUNTIME_DIR and XDG_STATE_HOME in it, so that every default leads there."""

    maxDiff = 4000
    keeps_evidence = False  # a failure that may not come again: its directory stays, with all that its programs said

    def setUp(self):
        # Not TMPDIR: a socket's path may have 107 bytes.
        self.directory = tempfile.mkdtemp(prefix="quern-story-", dir="/tmp")
        self.programs = []
        self.env = {key: value for key, value in os.environ.items() if not key.startswith(("QUERN_", "XDG_"))}
        self.env.update(XDG_RUNTIME_DIR=self.path("run"), XDG_STATE_HOME=self.path("state"), HOME=self.directory,
                        LC_ALL="C.UTF-8")
        for name in ("run", "state"):
            os.mkdir(self.path(name), 0o700)

    def tearDown(self):
        for program in reversed(self.programs):
            if program.is_running():
                program.send(signal.SIGKILL)
            program.status()
            for stream in (program.process.stdin, program.process.stdout, program.process.stderr):
                if stream is not None:
                    stream.close()
        outcome = getattr(self, "_outcome", None)
        failed = outcome is not None and any(error for _, error in getattr(outcome, "errors", []) if error)
        if outcome is not None and hasattr(outcome, "result"):  # Python 3.11
            failed = any(case is self for case, _ in outcome.result.failures + outcome.result.errors) or failed
        if failed or os.environ.get("QUERN_STORY_LOGS"):
            self.print_logs()
        if failed and self.keeps_evidence:
            self.keep_evidence()
        else:
            shutil.rmtree(self.directory, ignore_errors=True)
        self.assertEqual(self.races(), [], "ThreadSanitizer has seen races")

    def races(self):
        """What ThreadSanitizer says goes by otherwise: most programs end by SIGKILL, whatever it would exit with."""
        return [f"{program.name}: {' '.join(program.log[i:i + 12])}" for program in self.programs
                for i, line in enumerate(program.log) if "WARNING: ThreadSanitizer" in line]

    def keep_evidence(self):
        for number, program in enumerate(self.programs):
            for kind, lines in (("out", program.out), ("err", program.log)):
                with open(self.path(f"{number:03}-{program.name}-{program.pid}.{kind}"), "w", encoding="utf-8",
                          errors="surrogateescape") as file:
                    file.write(f"{' '.join(program.argv)}: status {program.process.returncode}\n")
                    file.writelines(f"{line}\n" for line in lines)
        print(f"evidence: {self.directory}", file=sys.stderr, flush=True)

    def print_logs(self):
        for program in self.programs:
            print(f"--- {self.id()}: {program.name}: {' '.join(program.argv)}: status {program.process.returncode}",
                  file=sys.stderr)
            for line in program.log[-40:]:
                print(f"    {line}", file=sys.stderr)

    def path(self, *names):
        return os.path.join(self.directory, *names)

    @property
    def url(self):
        return "ipc://" + self.path("run", "quern", "broker.sock")

    @property
    def db(self):
        return self.path("state", "quern", "quern.db")

    # ---- programs ----

    def start(self, name, *args, stdin=subprocess.DEVNULL, env=None, cwd=None, **options):
        """Any program of the build, by name; it is ended with the story."""
        program = Program(name, [os.path.join(BIN, name), *map(str, args)], {**self.env, **(env or {})},
                          cwd or self.directory, stdin, **options)
        self.programs.append(program)
        return program

    def broker(self, *args, **options):
        """A broker that is ready; its URLs in program.urls."""
        program = self.start("quern-broker", *args, **options)
        program.wait_out("ready ")
        program.urls = [line.split(" ", 1)[1] for line in program.out if line.startswith("ready ")]
        return program

    def worker(self, *args, slots=2, module=MODULE, **options):
        """A worker with the examples; it connects by itself."""
        modules = ["--module", module] if module else []
        return self.start("quern-worker", "--slots", slots, *modules, *args, **options)

    def quern(self, *args, input=b"", status=0, env=None, cwd=None, patience=PATIENCE_S):
        """Run `quern` to its end and check its exit status (None: any)."""
        data = input if isinstance(input, bytes) else input.encode()
        done = subprocess.run([os.path.join(BIN, "quern"), *map(str, args)], input=data, capture_output=True,
                              env={**self.env, **(env or {})}, cwd=cwd or self.directory, timeout=patience)
        result = Result(done)
        if status is not None:
            self.assertEqual(result.status, status, f"quern {' '.join(map(str, args))}\n{result.stdout[-2000:]}\n"
                                                    f"{result.stderr[-2000:]}")
        return result

    def quern_start(self, *args, stdin=subprocess.DEVNULL, **options):
        """`quern` in the background."""
        return self.start("quern", *args, stdin=stdin, **options)

    # ---- looking ----

    def status(self):
        """What `quern status --json` says."""
        return self.quern("--json", "status").json

    def wait_status(self, fact, what):
        """Until fact(status) is true."""
        return wait_until(lambda: fact(self.status()), what)

    def wait_workers(self, count=1):
        self.wait_status(lambda s: sum(1 for w in s["workers"] if w["connected"]) >= count, f"{count} workers")

    def descendants(self, pid):
        """Living processes below pid, by /proc."""
        parents = {}
        for name in os.listdir("/proc"):
            if name.isdigit():
                try:
                    with open(f"/proc/{name}/stat", "rb") as file:
                        fields = file.read().rpartition(b")")[2].split()
                except OSError:
                    continue
                if fields[0] != b"Z":
                    parents[int(name)] = int(fields[1])
        found = []
        level = {pid}
        while level:
            level = {child for child, parent in parents.items() if parent in level}
            found += sorted(level)
        return found


def is_alive(pid):
    """Not gone and not a zombie."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] != b"Z"
    except OSError:
        return False


def main():
    unittest.main(verbosity=2)
