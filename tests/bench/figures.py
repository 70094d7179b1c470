"""What the benchmarks share: how much work, the machine in words, taking figures in turns, and where results are written."""

import datetime
import json
import os
import platform
import re
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "integration"))
import stage  # noqa: E402

SHARE = 1000 if "--smoke" in sys.argv else 10 if "--quick" in sys.argv else 1
ROUNDS = {1: 7, 10: 3, 1000: 1}[SHARE]
SLOTS = 2


OPTIONS = {"--quick": "a tenth of the work", "--smoke": "hardly any, to see that it runs", "--json": "one object on stdout",
           "--write": "the figures also into RESULTS.md"}


def asked(about, names, default=None):
    """The names on the command line, or the default (all). Says what there is if that is asked for, or if one is unknown."""
    program = os.path.basename(sys.argv[0])
    options = [word for word in sys.argv[1:] if word.startswith("-")]
    chosen = [word for word in sys.argv[1:] if not word.startswith("-")]
    if "--help" in options or "-h" in options:
        print(about.strip())
        for option, what in OPTIONS.items():
            print(f"  {option:8} {what}")
        print("  names:   " + " ".join(names))
        sys.exit(0)
    for unknown in [word for word in options if word not in OPTIONS] + [word for word in chosen if word not in names]:
        print(f"{program}: no {unknown!r}; names are: {' '.join(names)}; options: {' '.join(OPTIONS)}", file=sys.stderr)
        sys.exit(2)
    return chosen or list(default or names)


def size(count):
    return max(count // SHARE, 10)


def rss_mib(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS")) / 1024


def fdatasync_ms(directory):
    """Median of appending 4 KiB and syncing it, on the disk of the store."""
    times = []
    with tempfile.TemporaryFile(dir=directory, buffering=0) as file:
        for _ in range(200):
            began = time.monotonic()
            file.write(b"\0" * 4096)
            os.fdatasync(file.fileno())
            times.append((time.monotonic() - began) * 1000)
    return statistics.median(times)


def machine(directory):
    """What the figures depend on, in words."""
    def line(path, key, mark):
        with open(path, encoding="utf-8") as file:
            return next((one.split(mark, 1)[1].strip() for one in file if one.startswith(key)), "?")
    version = subprocess.run([os.path.join(stage.BIN, "quern"), "--version"], capture_output=True, text=True, check=True)
    return {"cpus": len(os.sched_getaffinity(0)), "cpu": line("/proc/cpuinfo", "model name", ":"), "kernel": platform.release(),
            "quern": version.stdout.strip(), "build": line(os.path.join(stage.BUILD, "CMakeCache.txt"), "CMAKE_BUILD_TYPE:", "="),
            "python": platform.python_version(), "sqlite": sqlite3.sqlite_version,
            "fdatasync_ms": round(fdatasync_ms(directory), 3)}


def tool(name, *args, env=None):
    """A program of tests/bench to its end: the line of JSON that it prints."""
    argv = [os.path.join(stage.BUILD, "tests", name), *map(str, args)]
    return json.loads(subprocess.run(argv, capture_output=True, check=True, timeout=3600, env=env).stdout)


def python_pool(what, count):
    """pool.py with the interpreter that runs this."""
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "pool.py")
    argv = [sys.executable, "-B", path, what, str(count), str(SLOTS)]
    return json.loads(subprocess.run(argv, capture_output=True, check=True, timeout=3600).stdout)


def interleaved(contestants):
    """Runs every contestant (name → function) once a round, in turning order: noise of the machine falls on all alike.
    The figures of each in all rounds."""
    said = {name: [] for name in contestants}
    for number in range(ROUNDS):
        for name in list(contestants)[::1 if number % 2 == 0 else -1]:
            said[name].append(contestants[name]())
    return said


def median(said, key):
    return statistics.median(one[key] for one in said)


def spread(said, key, form):
    """Median, and in brackets the least and the most."""
    values = sorted(one[key] for one in said)
    return f"{statistics.median(values):{form}} [{values[0]:{form}}..{values[-1]:{form}}]"


def write_results(section, text):
    """Replaces that section of RESULTS.md: the figures of one run, with its date."""
    path = os.path.join(HERE, "RESULTS.md")
    try:
        with open(path, encoding="utf-8") as file:
            old = file.read()
    except FileNotFoundError:
        old = "# Results\n\nWritten by the benchmarks themselves (`--write`), each section by one run.\n"
    new = f"## {section}\n\n{datetime.date.today()}, {machine_line(machine(HERE))}\n\n{text.rstrip()}\n"
    found = re.search(rf"^## {re.escape(section)}$.*?(?=^## |\Z)", old, re.MULTILINE | re.DOTALL)
    whole = old[:found.start()] + new + "\n" + old[found.end():] if found else old.rstrip() + "\n\n" + new
    with open(path, "w", encoding="utf-8") as file:
        file.write(whole.rstrip() + "\n")


def machine_line(facts):
    return ", ".join(f"{key} {value}" for key, value in facts.items())
