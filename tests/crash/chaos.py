"""Everything is killed and stopped at random, while every kind of work goes through: broker, supervisor, zygote, slots and
clients by kill -9; broker, supervisor, zygote and slots by SIGSTOP for up to twice a lease; workers are rolled; tasks are
cancelled; syncs of the store fail; its disk fills up and empties again. At the end everything is drained and judged:

  - nothing accepted is lost, nothing comes out twice or under two names, nothing comes out that was never put in;
  - what may run at most once was never started twice: a witness outside of quern counts (works.py);
  - once an outcome is told, no process of its attempt is alive: they are looked for by a mark in their environment;
  - at the end no process is left at all, and the store holds together.

The broker's flight recorder tells what each of its kills hit; a run in which no kill hit an open or committing batch proves
nothing and fails. (A batch with collapsed tasks is hit for certain in story_order.) A run that fails keeps its directory,
with all that was said by whom, and prints where.

    chaos.py [--seconds N] [--seed N] [--works NAME,NAME...]
"""

import argparse
import collections
import os
import random
import signal
import struct
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "integration"))
import stage  # noqa: E402
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import works  # noqa: E402

FLIGHT = struct.Struct("=8Q")
FLIGHT_FIELDS = ("magic", "pid", "epoch", "committed", "open_rows", "open_collapsed", "commit_rows", "commit_collapsed")
LEASE_S = 2.0
CONFIG = """broker
    flight-recorder = {flight}
limits
    heartbeat_ms = 300
    dead_ms = 1500
    lease_ms = {lease_ms}
    claim_ms = 200
"""
ACTS = {"broker": 6, "supervisor": 2, "zygote": 2, "slot": 5, "client": 3, "stop": 5, "roll": 1, "cancel": 5, "sync": 2, "full": 2}
KILLED = ("slot", "zygote", "supervisor", "broker", "client")  # each at least once in every run that is not a short one
STOPPED = {"broker": 1, "supervisor": 2, "zygote": 1, "slot": 3}
# A killed supervisor leaves nothing after this; unless its zygote was gone too, then detached processes may stay.
CLEARED_S = 2.0
STORE_FAILED = 70
PATIENCE_S = 240


class Life:
    """One worker process, from its start to its end."""

    def __init__(self, story, number):
        self.mark = f"{story.directory}:{number}"
        # Every other makes slots afresh, and replaces them often.
        special = ["--start", "spawn"] if number % 4 == 3 else ["--max-tasks-per-slot", "200"] if number % 2 == 1 else []
        modules = [os.path.join(stage.BUILD, "tests", name) for name in ("witness.so", "nest.so")]
        self.program = story.worker("--allow-commands", "--log-level", "warn", *special,
                                    *(word for module in modules for word in ("--module", module)), slots=3,
                                    env={"WITNESS_DIR": story.path("witness"), "CHAOS_LIFE": self.mark})
        self.zygote_hurt = -1000.0  # when it was last killed or stopped
        self.is_excused = False  # killed without a zygote behind it: detached processes may stay


class Marked:
    """Processes that tasks have left, by the mark in their environment."""

    def __init__(self, directory):
        self.directory = directory

    def find(self):
        """pid → (task, slot, life)"""
        found = {}
        for name in os.listdir("/proc"):
            if not name.isdigit():
                continue
            try:
                with open(f"/proc/{name}/environ", "rb") as file:
                    text = file.read()
            except OSError:
                continue
            if b"CHAOS_TASK=" not in text:
                continue
            words = dict(word.split("=", 1) for word in text.decode("utf-8", "replace").split("\0") if "=" in word)
            if words.get("CHAOS_LIFE", "").startswith(self.directory + ":"):
                found[int(name)] = (words["CHAOS_TASK"], int(words["CHAOS_SLOT"]), words["CHAOS_LIFE"])
        return found


class Chaos(stage.Story):
    seconds = 30
    seed = None
    names = ()
    keeps_evidence = True

    def print_logs(self):
        """All that was said is kept in the directory; here it would hide the verdict."""

    # ---- programs ----

    def broker_start(self):
        self.heal_disk()
        self.broker_lives += 1
        self.broker_program = self.broker("--config", self.path("config"), env={
            "LD_PRELOAD": os.path.join(stage.BUILD, "tests", "bad_disk.so"), "QUERN_BAD_DISK": self.path("bad")})

    def worker_start(self, index):
        self.workers[index] = Life(self, len(self.lives))
        self.lives.append(self.workers[index])

    def below(self, life, wanted):
        """The zygote, or the slots, of a worker."""
        found = []
        for pid in self.descendants(life.program.pid):
            try:
                with open(f"/proc/{pid}/comm", encoding="utf-8") as file:
                    if file.read().strip() == f"quern-{wanted}":
                        found.append(pid)
            except OSError:
                continue
        return found

    def flight(self):
        with open(self.path("flight"), "rb") as file:
            return dict(zip(FLIGHT_FIELDS, FLIGHT.unpack(file.read(FLIGHT.size))))

    # ---- acts ----

    def hurt_disk(self, how):
        with open(self.path("bad", how), "wb"):
            pass

    def heal_disk(self):
        for how in os.listdir(self.path("bad")):
            os.unlink(self.path("bad", how))

    def act_sync(self):
        """The next sync fails: it stops by itself, and tend_broker starts it again."""
        self.hurt_disk("sync-fails")

    def act_full(self):
        self.hurt_disk("full")
        self.later(self.random.uniform(0.05, 1.0), self.heal_disk)
        self.did["disk full"] += 1

    def tend_broker(self):
        if not self.broker_program.is_running():
            self.assertEqual(self.broker_program.status(), STORE_FAILED, self.broker_program.log[-5:])
            self.did["sync failed"] += 1
            self.broker_start()

    def act_broker(self):
        self.tend_broker()
        self.broker_program.kill9()
        self.killed["broker"] += 1
        flight = self.flight()
        self.assertEqual(flight["pid"], self.broker_program.pid)
        self.hits["uncommitted"] += flight["open_rows"] + flight["commit_rows"] > 0
        self.hits["in commit"] += flight["commit_rows"] > 0
        self.hits["collapsed"] += flight["open_collapsed"] + flight["commit_collapsed"] > 0
        self.broker_start()

    def act_supervisor(self):
        index = self.random.randrange(len(self.workers))
        life = self.workers[index]
        life.is_excused = time.monotonic() < life.zygote_hurt + 2.5 or not self.below(life, "zygote")
        life.program.kill9()
        self.killed["supervisor"] += 1
        self.worker_start(index)

    def hurt(self, what, number):
        """A signal to a zygote or slot; its pid, or None if there is none."""
        life = self.random.choice(self.workers)
        pids = self.below(life, what)
        if not pids:
            return None
        pid = self.random.choice(pids)
        if what == "zygote":
            life.zygote_hurt = time.monotonic()
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return None
        return pid

    def act_zygote(self):
        self.killed["zygote"] += self.hurt("zygote", signal.SIGKILL) is not None

    def act_slot(self):
        self.killed["slot"] += self.hurt("slot", signal.SIGKILL) is not None

    def act_client(self):
        running = [work for work in self.works if not work.is_over()]
        if running:
            self.random.choice(running).kill()
            self.killed["client"] += 1

    def act_roll(self):
        index = self.random.randrange(len(self.workers))
        old = self.workers[index]
        self.worker_start(index)
        old.program.send(signal.SIGTERM)
        self.rolled.append(old)
        self.did["rolled"] += 1

    def act_stop(self):
        what = self.random.choices(list(STOPPED), list(STOPPED.values()))[0]
        seconds = self.random.uniform(0.02, 2 * LEASE_S)
        if what == "broker":
            pid = self.broker_program.pid
            os.kill(pid, signal.SIGSTOP)
        elif what == "supervisor":
            life = self.random.choice(self.workers)
            pid = life.program.pid
            os.kill(pid, signal.SIGSTOP)
        else:
            pid = self.hurt(what, signal.SIGSTOP)
        if pid is not None:
            self.later(seconds, lambda: self.resume(pid))
            self.did[f"stopped {what}"] += 1
            self.did["for longer than a lease"] += seconds > LEASE_S

    def act_cancel(self):
        ids = [one for work in self.works if isinstance(work, works.Cancels) for one in work.ids()]
        if ids and len([program for program in self.cancelling if program.is_running()]) < 4:
            force = ["--force"] if self.random.random() < 0.5 else []
            self.cancelling.append(self.quern_start("--connect-timeout", "60", "cancel", *force, *ids))
            self.did["cancelled with force" if force else "cancelled"] += len(ids)

    # ---- the course ----

    def later(self, seconds, what):
        self.due.append((time.monotonic() + seconds, what))

    def do_due(self, all_=False):
        now = time.monotonic()
        for one in list(self.due):
            if all_ or now >= one[0]:
                self.due.remove(one)
                one[1]()

    def resume(self, pid):
        if self.is_ours(pid):
            os.kill(pid, signal.SIGCONT)

    def is_ours(self, pid):
        """Still the process that was stopped, and no other with its number."""
        try:
            with open(f"/proc/{pid}/comm", encoding="utf-8") as file:
                return file.read().startswith("quern-")
        except OSError:
            return False

    def starts(self):
        """What the witnesses say: how often each was started."""
        with open(self.path("witness", "starts"), "a+", encoding="ascii") as file:
            file.seek(self.starts_at)
            text = file.read()
            self.starts_at = file.tell()
        self.counted.update(line.split(" ", 1)[0] for line in text.splitlines())
        return self.counted

    def tend(self, goes_on):
        for work in self.works:
            if work.is_over():
                if not work.is_judged:
                    work.end(self.starts())
                if goes_on:
                    work.begin()
            else:
                work.look()

    def look_for_survivors(self):
        """In a thread of its own: of an attempt whose outcome was told, nothing is alive."""
        marked = Marked(self.directory)
        while not self.is_over.wait(0.05):
            told = {}
            for work in self.works:
                told.update(dict(work.ended))
            for pid, (task, slot, life) in marked.find().items():
                row = told.get(task)
                if row is None or not row["worker"] or int(row["worker"].rsplit(":", 1)[1]) != slot:
                    continue
                if not row["ok"] and row["error"]["cause"] == "lost":
                    continue  # nobody could be asked
                if stage.is_alive(pid):
                    self.survivors.append(f"process {pid} of {task} (slot {slot}, {life}) lives after {row}")
            self.looks += 1

    def set_up(self):
        self.seed = self.seed if self.seed is not None else random.SystemRandom().randrange(1 << 32)
        print(f"seed {self.seed}", flush=True)
        self.random = random.Random(self.seed)
        self.killed, self.did, self.hits, self.counted = (collections.Counter() for _ in range(4))
        self.verdict = collections.Counter(outcomes=0, lost=0, unexpected=0, twice=0)
        self.due, self.rolled, self.cancelling, self.survivors, self.lives = [], [], [], [], []
        self.starts_at = self.looks = self.broker_lives = 0
        self.is_over = threading.Event()
        for name in ("witness", "bad"):
            os.mkdir(self.path(name))
        with open(self.path("config"), "w", encoding="utf-8") as file:
            file.write(CONFIG.format(flight=self.path("flight"), lease_ms=int(LEASE_S * 1000)))
        self.broker_start()
        self.workers = [None, None]
        for index in range(2):
            self.worker_start(index)
        kinds = [kind for kind in works.ALL if not self.names or kind.name in self.names]
        self.works = [kind(self, self.random) for kind in kinds]
        for work in self.works:
            work.begin()

    def test_everything_killed_at_random_loses_nothing_and_doubles_nothing(self):
        self.set_up()
        looker = threading.Thread(target=self.look_for_survivors)
        looker.start()
        try:
            self.disturb()
            self.drain()
        finally:
            self.is_over.set()
            looker.join()
            self.do_due(all_=True)
            self.report()
        self.judge()

    def is_whole(self):
        """Long enough, and with all kinds of work: of such a run is asked that everything was hit."""
        return self.seconds >= 10 and not self.names

    def disturb(self):
        pause = threading.Event()
        until = time.monotonic() + self.seconds
        names, weights = zip(*ACTS.items())
        planned = self.random.sample(KILLED, len(KILLED)) if self.is_whole() else []
        while (time.monotonic() < until or planned) and not self.survivors:
            pause.wait(self.random.uniform(0.02, 0.35))  # where the act falls, not what is waited for
            self.do_due()
            self.tend_broker()
            # Chance comes first; what it has not hit by then comes in the last third.
            is_late = time.monotonic() > until - self.seconds / 3
            planned = [name for name in planned if not self.killed[name]]
            name = planned[0] if planned and is_late else self.random.choices(names, weights)[0]
            getattr(self, "act_" + name)()
            self.tend(goes_on=True)

    def drain(self):
        """What is under way comes to its end; nothing new begins, and nobody is hurt any more."""
        pause = threading.Event()
        until = time.monotonic() + PATIENCE_S
        self.do_due(all_=True)
        while not all(work.is_over() for work in self.works):
            self.assertEqual(self.survivors, [])
            self.assertLess(time.monotonic(), until, "not drained: " +
                            ", ".join(work.name for work in self.works if not work.is_over()))
            self.tend_broker()  # a sync that failed may be noticed only now
            self.tend(goes_on=False)
            pause.wait(0.02)
        self.tend(goes_on=False)

    # ---- the verdict ----

    def report(self):
        def words(counts):
            return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))
        print(f"killed: {words(self.killed)}; {words(self.did)}", flush=True)
        print("broker kills that hit: " + ", ".join(f"{name} {self.hits[name]}" for name in
                                                    ("uncommitted", "in commit", "collapsed")), flush=True)
        for work in self.works:
            failed = f"; failed: {words(work.failed)}" if work.failed else ""
            print(f"{work.name}: {work.rounds_done} rounds of {work.count}, {work.printed} outcomes printed by "
                  f"{work.lives_all} processes{failed}", flush=True)
        print(f"{sum(self.counted.values())} starts witnessed; looked for survivors {self.looks} times", flush=True)

    def judge(self):
        self.assertEqual(self.survivors, [])
        for program in self.cancelling:
            program.status()
        for life in self.rolled:
            status = life.program.status()
            self.assertIn(status, (0, -9), f"a rolled worker: {life.program.log[-5:]}")
        self.wait_status(lambda status: sum(status["tasks"].values()) == 0, "all tasks, also nested ones, to be over")
        for life in self.workers:
            self.assertEqual(life.program.end(), 0)
        self.assertEqual(self.broker_program.end(), 0)
        excused = {life.mark for life in self.lives if life.is_excused}
        marked = Marked(self.directory)

        def left():
            found = marked.find()
            for pid, (_, _, life) in found.items():
                if life in excused:
                    os.kill(pid, signal.SIGKILL)
            return {pid: words for pid, words in found.items() if words[2] not in excused}

        stage.wait_until(lambda: not left(), "every process of a task to be gone", CLEARED_S + 1)
        print("verdict after a full drain: {outcomes} outcomes; lost {lost}, unexpected {unexpected}, twice {twice}".format(
            **self.verdict), flush=True)
        if self.is_whole():
            self.assertGreater(self.hits["uncommitted"], 0, "no kill hit an uncommitted batch: this run proves nothing")
            self.assertEqual([name for name in KILLED if not self.killed[name]], [], "never killed: this run proves little")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--works", type=lambda text: text.split(","), default=())
    arguments, rest = parser.parse_known_args()
    Chaos.seconds = arguments.seconds
    Chaos.seed = arguments.seed
    Chaos.names = arguments.works
    stage.unittest.main(argv=sys.argv[:1] + rest, verbosity=2)
