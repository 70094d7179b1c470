"""kill -9 of everything, at random: broker, supervisor, zygote, slot and client, while three kinds of work go through. At
the end everything is drained and judged: nothing accepted is lost, nothing comes out twice under two names, nothing comes
out that was never put in, and what may run at most once ran at most once.

The broker's flight recorder tells what each of its kills hit; a run in which no kill hit an open or committing batch proves
nothing and fails. (A batch with collapsed tasks is hit for certain in story_order.)

    chaos.py [--kills N] [--seed N]
"""

import argparse
import collections
import json
import os
import random
import struct
import subprocess
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "integration"))
import stage  # noqa: E402

FLIGHT = struct.Struct("=8Q")
FLIGHT_FIELDS = ("magic", "pid", "epoch", "committed", "open_rows", "open_collapsed", "commit_rows", "commit_collapsed")
CONFIG = """broker
    flight-recorder = {flight}
limits
    heartbeat_ms = 300
    dead_ms = 2000
    lease_ms = 3000
    claim_ms = 200
"""
VICTIMS = (("broker", 6), ("supervisor", 2), ("zygote", 2), ("slot", 4), ("client", 3))
# A task that was unlucky this often is failed as lost or quarantined; the verdict counts such failures as outcomes.
ALLOWED_CAUSES = {"crashed", "quarantined", "lost"}


class Work:
    """One named map or run that is started again with the same input whenever it is killed."""

    def __init__(self, story, name, count, command, shift=0):
        self.story = story
        self.name = name
        self.count = count
        self.argv = command
        self.input = "".join(f"{n + shift}\n" for n in range(count)).encode()
        self.program = None
        self.lines = []  # of all lives
        self.lives = 0

    def start(self):
        path = self.story.path(f"{self.name}.in")
        with open(path, "wb") as file:
            file.write(self.input)
        with open(path, "rb") as file:
            self.program = self.story.quern_start("--connect-timeout", "60", *self.argv, stdin=file)
        self.lives += 1

    def kill(self):
        self.program.kill9()
        self.take_lines()
        self.start()

    def is_done(self):
        return not self.program.is_running()

    def take_lines(self):
        """What was printed whole; a line that the kill cut short was not."""
        for line in self.program.out:
            try:
                self.lines.append(json.loads(line))
            except ValueError:
                pass

    def finish(self):
        status = self.program.status(300)
        self.take_lines()
        return status

    def judge(self, test):
        """Every line of the input has one task and one outcome, seen by every life alike."""
        by_line = collections.defaultdict(list)
        for row in self.lines:
            by_line[row["line"]].append(row)
        test.assertEqual(set(by_line), set(range(1, self.count + 1)), f"{self.name}: lines lost or unexpected")
        for line, rows in by_line.items():
            test.assertEqual(len({row["id"] for row in rows}), 1, f"{self.name}: line {line} became two tasks")
            test.assertEqual(len({json.dumps([row["ok"], row["result"] if row["ok"] else row["error"]]) for row in rows}), 1,
                             f"{self.name}: line {line} has two outcomes")
            test.assertLessEqual(len(rows), self.lives, f"{self.name}: line {line} came twice to one process")
            if not rows[0]["ok"]:
                test.assertIn(rows[0]["error"]["cause"], ALLOWED_CAUSES, str(rows[0]))
        return by_line


class Chaos(stage.Story):
    kills = 40
    seed = None
    PATIENCE = 300

    def broker_start(self):
        self.broker_program = self.broker("--config", self.path("config"))

    def worker_start(self, index):
        self.workers[index] = self.worker("--allow-commands", "--log-level", "error")

    def below(self, index, wanted):
        """A zygote, or a slot, of one of the workers."""
        found = []
        for pid in self.descendants(self.workers[index].pid):
            try:
                with open(f"/proc/{pid}/cmdline", "rb") as file:
                    is_quern = b"--quern-zygote" in file.read()
                with open(f"/proc/{pid}/stat", "rb") as file:
                    parent = int(file.read().rpartition(b")")[2].split()[1])
            except OSError:
                continue
            if is_quern and (parent == self.workers[index].pid) == (wanted == "zygote"):
                found.append(pid)
        return found

    def flight(self):
        with open(self.path("flight"), "rb") as file:
            return dict(zip(FLIGHT_FIELDS, FLIGHT.unpack(file.read(FLIGHT.size))))

    def kill_broker(self):
        self.broker_program.kill9()
        flight = self.flight()
        self.assertEqual(flight["pid"], self.broker_program.pid)
        self.hits["uncommitted"] += flight["open_rows"] + flight["commit_rows"] > 0
        self.hits["in commit"] += flight["commit_rows"] > 0
        self.hits["collapsed"] += flight["open_collapsed"] + flight["commit_collapsed"] > 0
        self.broker_start()

    def kill_one(self, victim):
        index = self.random.randrange(len(self.workers))
        if victim == "broker":
            self.kill_broker()
        elif victim == "supervisor":
            self.workers[index].kill9()
            self.worker_start(index)
        elif victim == "client":
            running = [work for work in self.works if not work.is_done()]
            if not running:
                return
            self.random.choice(running).kill()
        else:
            pids = self.below(index, victim)
            if not pids:
                return
            try:
                os.kill(self.random.choice(pids), 9)
            except ProcessLookupError:
                return
        self.killed[victim] += 1

    def test_everything_killed_at_random_loses_nothing_and_doubles_nothing(self):
        self.seed = self.seed if self.seed is not None else random.SystemRandom().randrange(1 << 32)
        print(f"seed {self.seed}", flush=True)
        self.random = random.Random(self.seed)
        self.killed = collections.Counter()
        self.hits = collections.Counter()
        with open(self.path("config"), "w", encoding="utf-8") as file:
            file.write(CONFIG.format(flight=self.path("flight")))
        self.broker_start()
        self.workers = [None, None]
        for index in range(2):
            self.worker_start(index)
        effects = self.path("effects")
        scale = max(1, self.kills // 20)
        append = f'echo "$QUERN_INPUT" >> {effects}'
        self.works = [
            Work(self, "fast", 120000 * scale, ["map", "square", "--session", "fast", "--jsonl", "--window", "50000"]),
            Work(self, "slow", 300 * scale, ["map", "sleep", "--session", "slow", "--jsonl", "--queue", "slow"]),
            Work(self, "once", 400 * scale, ["run", "--session", "once", "--jsonl", "--at-most-once", "--queue", "once",
                                             "--", "sh", "-c", append], shift=1),
        ]
        self.works[1].input = b"".join(b"0.0%02d\n" % (n % 50) for n in range(self.works[1].count))
        for work in self.works:
            work.start()
        pause = threading.Event()
        names, weights = zip(*VICTIMS)
        for _ in range(self.kills):
            if all(work.is_done() for work in self.works):
                break
            pause.wait(self.random.uniform(0.02, 0.4))  # where the kill falls, not what is waited for
            self.kill_one(self.random.choices(names, weights)[0])
        self.judge(effects)

    def judge(self, effects):
        statuses = [work.finish() for work in self.works]
        print("kills: " + ", ".join(f"{name} {count}" for name, count in sorted(self.killed.items())), flush=True)
        print("broker kills that hit: " + ", ".join(f"{name} {self.hits[name]}" for name in
                                                    ("uncommitted", "in commit", "collapsed")), flush=True)
        for work in self.works:
            rows = work.judge(self)
            failed = sum(1 for outcomes in rows.values() if not outcomes[0]["ok"])
            print(f"{work.name}: {work.count} lines, {len(work.lines)} printed by {work.lives} processes, {failed} failed",
                  flush=True)
        for work, status in zip(self.works, statuses):
            self.assertIn(status, (0, 1), work.name)
        fast = {row["line"]: row for row in self.works[0].lines}
        for line, row in fast.items():
            if row["ok"]:
                self.assertEqual(row["result"], (line - 1) ** 2)
        self.judge_once(effects)
        self.assertGreater(self.hits["uncommitted"], 0, "no kill hit an uncommitted batch: this run proves nothing")

    def judge_once(self, effects):
        with open(effects, encoding="utf-8") as file:
            ran = collections.Counter(map(int, file.read().split()))
        self.assertEqual([n for n, times in ran.items() if times > 1], [], "at_most_once tasks that ran twice")
        for row in self.works[2].lines:
            if row["ok"]:
                self.assertEqual(ran[int(row["input"])], 1, f"done, but it never ran: {row}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--seed", type=int)
    arguments, rest = parser.parse_known_args()
    Chaos.kills = arguments.kills
    Chaos.seed = arguments.seed
    stage.unittest.main(argv=sys.argv[:1] + rest, verbosity=2)
