"""What it costs that workers cannot be hurt: throughput while slots are killed, the time until a killed slot's replacement
works, and throughput against a build from before. Start reading at take."""

import collections
import json
import os
import random
import signal
import statistics
import threading
import time

from figures import SHARE, SLOTS, interleaved, median, size, spread, stage

WITNESS = os.path.join(stage.BUILD, "tests", "witness.so")
KILLS_PER_S = 2
# A release build of an earlier version, to compare with.
BEFORE = os.environ.get("QUERN_BUILD_BEFORE")


def slots_of(bench, worker):
    found = []
    for pid in bench.descendants(worker.pid):
        try:
            with open(f"/proc/{pid}/comm", encoding="ascii") as file:
                if file.read().strip() == "quern-slot":
                    found.append(pid)
        except OSError:
            pass
    return found


def killing(bench, worker, every_s, work):
    """Kills a random slot so often while work() runs: when (by the monotonic clock) and which, and what work() said."""
    kills = []
    is_over = threading.Event()

    def kill():
        while not is_over.wait(every_s):
            slots = slots_of(bench, worker)
            if slots:
                pid = random.choice(slots)
                kills.append((time.monotonic(), pid))
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    kills.pop()

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        said = work()
    finally:
        is_over.set()
        thread.join()
    return said, kills


# ---- throughput under kills ----

def sleep_1_ms(bench, count):
    began = time.monotonic()
    done = bench.quern("map", "sleep", "--jsonl", input="0.001\n" * count, status=None, patience=3600)
    seconds = time.monotonic() - began
    failed = collections.Counter(row["error"]["cause"] for row in map(json.loads, done.lines) if not row["ok"])
    return {"tasks_per_second": count / seconds, "failed": sum(failed.values()), "causes": dict(failed)}


def under_kills(bench):
    """Tasks of 1 ms, undisturbed and with a random slot killed twice a second: wanted at least 93 %, and no failed task."""
    bench.broker()
    worker = bench.worker(slots=SLOTS)
    bench.wait_workers()
    count = max(size(10000), 4000 if SHARE < 1000 else 2000)  # some seconds, and some kills, in every round
    sleep_1_ms(bench, min(count, 1000))

    def disturbed():
        said, kills = killing(bench, worker, 1 / KILLS_PER_S, lambda: sleep_1_ms(bench, count))
        return {**said, "kills": len(kills)}

    said = interleaved({"undisturbed": lambda: sleep_1_ms(bench, count), "killed": disturbed})
    ratio = median(said["killed"], "tasks_per_second") / median(said["undisturbed"], "tasks_per_second")
    failed = sum(one["failed"] for one in said["killed"])
    text = (f"  tasks of 1 ms/s       undisturbed {spread(said['undisturbed'], 'tasks_per_second', '.0f')}   a slot killed "
            f"{KILLS_PER_S} times a second {spread(said['killed'], 'tasks_per_second', '.0f')}   ratio {ratio:.3f}; "
            f"{sum(one['kills'] for one in said['killed'])} kills, {failed} tasks failed")
    assert worker.process.returncode is None, "the worker ended"
    return text, {"rounds": said, "ratio": ratio, "failed": failed}


# ---- replacement ----

def first_after(starts, kills):
    """For each kill, ms until another process ran a task."""
    gaps = []
    for at, pid in kills:
        later = [when for other, when in starts if when > at and other != pid]
        if later:
            gaps.append((min(later) - at) * 1000)
    return gaps


def replacement(bench):
    """From the kill of the only slot until the next one has run a task, with a load of short tasks that each say when they
    run: wanted under 20 ms."""
    bench.broker()
    os.mkdir(bench.path("witness"))
    worker = bench.worker(slots=1, module=WITNESS, env={"WITNESS_DIR": bench.path("witness")})
    bench.wait_workers()
    wanted = {1: 200, 10: 50, 1000: 3}[SHARE]
    kills = []
    while len(kills) < wanted:
        count = 3000
        lines = "".join(f"k{n} sleep 1\n" for n in range(count))
        _, more = killing(bench, worker, 0.1, lambda: bench.quern("map", "witness", "--raw", input=lines, status=None,
                                                                  patience=3600))
        kills += more
    with open(bench.path("witness", "starts"), encoding="ascii") as file:
        starts = [(int(pid), int(us) / 1e6) for _, pid, _, us in map(str.split, file)]
    gaps = sorted(first_after(starts, kills))
    said = {"count": len(gaps), "p50_ms": statistics.median(gaps), "p90_ms": gaps[int(len(gaps) * 0.9)], "max_ms": gaps[-1]}
    text = (f"  slot replaced         p50 {said['p50_ms']:.1f} ms, p90 {said['p90_ms']:.1f} ms, at most {said['max_ms']:.1f} ms "
            f"({said['count']} kills)")
    return text, said


# ---- overhead ----

TICK_US = 1e6 / os.sysconf("SC_CLK_TCK")


def cpu_us(bench, program):
    """What a worker and its living processes have used."""
    used = 0
    for pid in [program.pid, *bench.descendants(program.pid)]:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        used += sum(map(int, fields[11:15]))  # its own, and of children that were waited for
    return used * TICK_US


def overhead(bench):
    """Durable squares, this build and one from before, each with its own broker and worker: wanted at least 80 %. Besides,
    what the worker's processes use for each task: on a busy machine that tells more."""
    if not BEFORE:
        return "  overhead              not measured: QUERN_BUILD_BEFORE names no release build to compare with", None

    def contestant(build, number):
        place = bench.path(f"place{number}")
        os.mkdir(place)
        for name in ("run", "state"):
            os.mkdir(os.path.join(place, name), 0o700)
        env = {**bench.env, "XDG_RUNTIME_DIR": os.path.join(place, "run"), "XDG_STATE_HOME": os.path.join(place, "state")}

        def start(name, *args):
            program = stage.Program(name, [os.path.join(build, "bin", name), *args], env, bench.directory)
            bench.programs.append(program)
            program.wait_out("ready")
            return program

        start("quern-broker")
        worker = start("quern-worker", "--slots", str(SLOTS), "--module", os.path.join(build, "lib", "quern", "examples.so"))

        def run():
            before_us = cpu_us(bench, worker)
            program = stage.Program("quern", [os.path.join(build, "bin", "quern"), "--json", "bench", "--tasks",
                                              str(size(300000))], env, bench.directory)
            bench.programs.append(program)
            bench.assertEqual(program.status(3600), 0, program.log[-5:])
            said = json.loads("\n".join(program.out))
            return {**said, "worker_us": (cpu_us(bench, worker) - before_us) / size(300000)}
        return run

    said = interleaved({"before": contestant(BEFORE, 1), "now": contestant(stage.BUILD, 2)})
    ratio = median(said["now"], "tasks_per_second") / median(said["before"], "tasks_per_second")
    when = os.environ.get("QUERN_BUILD_BEFORE_IS", "an earlier build")
    text = (f"  before                {when}\n"
            f"  squares/s             before {spread(said['before'], 'tasks_per_second', '.0f')}   now "
            f"{spread(said['now'], 'tasks_per_second', '.0f')}   ratio {ratio:.2f}\n"
            f"  worker's CPU/task, us before {spread(said['before'], 'worker_us', '.2f')}   now "
            f"{spread(said['now'], 'worker_us', '.2f')}")
    return text, {"rounds": said, "ratio": ratio}


def take(new_bench):
    """All three; each on a stage of its own."""
    texts, figures = [""], {}
    for part in (under_kills, replacement, overhead):
        bench = new_bench()
        bench.setUp()
        try:
            text, figures[part.__name__] = part(bench)
        finally:
            bench.tearDown()
        texts.append(text)
    return "\n".join(texts), figures
