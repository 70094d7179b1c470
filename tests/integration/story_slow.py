"""Those who are slow, stopped or full: clients that take nothing or stand still, workers that stand still for longer
than their lease, a disk without room. Others go on, and nothing is lost or there twice."""

import collections
import contextlib
import errno
import json
import os
import signal
import subprocess
import sys

import stage


def numbers(count, first=0):
    return "".join(f"{n}\n" for n in range(first, first + count))


def is_sanitized():
    with open(os.path.join(stage.BIN, "quern-broker"), "rb") as file:
        program = file.read()
    return any(name in program for name in (b"__tsan_init", b"__asan_init"))


class Slow(stage.Story):
    def config(self, **limits):
        with open(self.path("quern.conf"), "w", encoding="ascii") as file:
            file.write("limits\n" + "".join(f"    {name} = {value}\n" for name, value in limits.items()))
        return "--config", self.path("quern.conf")

    def check_squares(self, lines, count, first=0):
        """The verdict: nothing lost, nothing twice, nothing unexpected."""
        self.assertEqual(collections.Counter(map(int, lines)),
                         collections.Counter(n * n for n in range(first, first + count)))

    def check_others(self):
        """Somebody else's work goes through meanwhile."""
        self.check_squares(self.quern("map", "square", input=numbers(2000)).lines, 2000)
        self.assertEqual(self.quern("submit", "cube", "3").stdout, "27\n")

    def signal_all(self, pids, number):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):  # what a script has started ends by itself
                os.kill(pid, number)


def rss_mib(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS")) / 1024


class Clients(Slow):
    def hoard(self, session, count, size):
        program = stage.Program("hoard", [os.path.join(stage.BUILD, "tests", "hoard"), session, str(count), str(size)],
                                self.env, self.directory, stdin=subprocess.PIPE)
        self.programs.append(program)
        return program

    def test_results_that_nobody_takes_stay_out_of_memory(self):
        """400 MiB of them, and a client that holds its connection and takes none: what is in memory is bounded."""
        small = dict.fromkeys(("resident_bytes_max", "batch_bytes_max", "client_window_bytes"), 4 << 20)
        broker = self.broker(*self.config(**small))
        self.worker()
        self.check_others()
        before = rss_mib(broker.pid)
        count = 20_000 if is_sanitized() else 200_000
        hoard = self.hoard("hoard", count, 2048)
        stage.wait_until(lambda: self.status()["counters"]["submitted"] > count // 4, "a beginning")
        self.check_others()
        hoard.wait_out("submitted")
        self.wait_status(lambda s: sum(s["tasks"].values()) == 0, "all to be done")
        self.check_others()
        if not is_sanitized():  # a sanitizer's own memory is a multiple of the program's
            self.assertLess(rss_mib(broker.pid), before + count * 2048 / 2**20 / 2)
        row = next(row for row in self.quern("--json", "sessions").json if row["name"] == "hoard")
        self.assertEqual((row["untaken"], row["connected"]), (count, True))
        self.assertTrue(hoard.is_running() and broker.is_running())

    def test_a_stopped_client_holds_up_nobody_and_goes_on_where_it_was(self):
        """Silent for longer than dead_ms: the broker takes it for gone, and it comes back by itself."""
        count = 20_000
        self.broker(*self.config(heartbeat_ms=100, dead_ms=1000, lease_ms=15000))
        self.worker()
        client = self.quern_start("map", "square", stdin=subprocess.PIPE)
        client.write(numbers(count))
        client.close_stdin()
        client.wait_out_count(count // 20)
        client.send(signal.SIGSTOP)
        sessions = lambda: self.quern("--json", "sessions").json
        stage.wait_until(lambda: any(not row["connected"] for row in sessions()), "the stopped client to be missed")
        self.check_others()
        client.send(signal.SIGCONT)
        self.assertEqual(client.status(), 0)
        self.check_squares(client.out, count)


class Workers(Slow):
    """A worker that stands still for longer than its lease has lost what it held, whatever it says later."""

    LIMITS = dict(heartbeat_ms=50, dead_ms=400, lease_ms=800)

    def setUp(self):
        super().setUp()
        self.broker(*self.config(**self.LIMITS))

    def tree(self, worker):
        return [worker.pid, *self.descendants(worker.pid)]

    def effects(self):
        try:
            with open(self.path("effects"), encoding="ascii") as file:
                return file.read().split()
        except FileNotFoundError:
            return []

    def stopped_in_the_middle(self, pids_of):
        """The first worker is stopped while it runs the task; the second one finishes it; the first wakes up."""
        script = f'echo "$$" >> {self.path("effects")}; until [ -e {self.path("go")} ]; do sleep 0.01; done; echo "$$"'
        first = self.worker("--allow-commands", slots=1)
        run = ("run", "--jsonl", "--session", "mine", "--", "sh", "-c", script)
        client = self.quern_start(*run, stdin=subprocess.PIPE)
        client.write("x\n")
        stage.wait_until(lambda: len(self.effects()) == 1, "the first attempt")
        stopped = pids_of(first)
        self.signal_all(stopped, signal.SIGSTOP)
        second = self.worker("--allow-commands", slots=1)
        stage.wait_until(lambda: len(self.effects()) >= 2, "another attempt, on the second worker")
        with open(self.path("go"), "w", encoding="ascii"):
            pass
        client.wait_out_count(1)
        row = json.loads(client.out[0])
        self.signal_all(reversed(stopped), signal.SIGCONT)
        self.wait_status(lambda s: all(w["connected"] for w in s["workers"]), "the first worker to be back")
        second.end()
        self.check_others()  # by the first, so that all it had to say of the lost attempt has been said
        client.close_stdin()
        self.assertEqual(client.status(), 0)
        self.assertEqual(len(client.out), 1, "an outcome came twice")
        self.assertEqual(row["result"]["stdout"].strip(), self.effects()[-1])
        shown = self.quern("--json", "show", row["id"]).json
        self.assertEqual((shown["state"], shown["worker"]), ("done", row["worker"]))
        self.assertIn("lost", [failure["cause"] for failure in shown["failures"]])
        self.assertTrue(first.is_running())

    def test_a_worker_that_was_stopped_as_a_whole_finds_its_attempt_lost(self):
        self.stopped_in_the_middle(self.tree)

    def test_a_worker_whose_supervisor_was_stopped_finds_its_attempt_lost(self):
        """The slot finishes meanwhile; what it has made is of an attempt that does not count."""
        self.stopped_in_the_middle(lambda worker: [worker.pid])

    def test_a_worker_that_stops_again_and_again_makes_no_outcome_twice(self):
        count = 30_000
        workers = [self.worker(slots=1), self.worker(slots=1)]
        self.wait_workers(2)
        client = self.quern_start("map", "square", stdin=subprocess.PIPE)
        client.write(numbers(count))
        client.close_stdin()
        for turn in range(4):
            client.wait_out_count(min(len(client.out) + count // 20, count))
            tree = self.tree(workers[turn % 2])
            self.signal_all(tree, signal.SIGSTOP)
            # Whose lease is over is not listed any more.
            self.wait_status(lambda s: sum(w["connected"] for w in s["workers"]) < 2, "the silence to be noticed")
            self.signal_all(reversed(tree), signal.SIGCONT)
        self.assertEqual(client.status(), 0)
        self.check_squares(client.out, count)


def mount(path, mib):
    return subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={mib}m", "quern-story", path], check=False,
                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0


class Disk(Slow):
    """A small file system of its own. The broker's reserve is lowered to fit into it."""

    MIB = 64
    FLOOR = 16 << 20  # the reserve, and the log
    SMALL = dict(wal_bytes_max=4 << 20, disk_reserve_bytes=12 << 20, client_window_bytes=1 << 20,
                 submit_pool_bytes=1 << 20, batch_bytes_max=1 << 20)

    def setUp(self):
        super().setUp()
        os.mkdir(self.path("disk"))
        if not mount(self.path("disk"), self.MIB):
            self.skipTest("no small file system can be mounted here (needs root, or user namespaces)")

    def tearDown(self):
        super().tearDown()
        subprocess.run(["umount", self.path("disk")], check=False, stderr=subprocess.DEVNULL)
        subprocess.run(["rmdir", self.path("disk"), self.directory], check=False, stderr=subprocess.DEVNULL)

    @property
    def db(self):
        return self.path("disk", "quern.db")

    def start_broker(self, **limits):
        return self.broker("--db", self.db, *self.config(**self.SMALL, **limits))

    def free(self):
        about = os.statvfs(self.path("disk"))
        return about.f_bavail * about.f_frsize

    def fill(self, leave=0):
        """Somebody else's file takes the room."""
        with open(self.path("disk", "filler"), "ab", buffering=0) as file:
            try:
                while self.free() > leave:
                    file.write(bytes(16384))
            except OSError as error:
                self.assertEqual(error.errno, errno.ENOSPC)

    def make_room(self):
        os.unlink(self.path("disk", "filler"))

    def map_begin(self):
        return self.quern_start("map", "echo", "--raw", "--session", "mine", "--connect-timeout", "60",
                                stdin=subprocess.PIPE)

    def check_lines(self, lines, count):
        self.assertEqual(sorted(int(line[1:7]) for line in lines), list(range(count)))

    def is_low(self):
        return self.status()["store_stats"]["disk_low"]

    def test_submits_wait_while_the_disk_is_nearly_full_and_go_on_afterwards(self):
        """They are refused before there is no room left: what was accepted runs, and survives kill -9."""
        broker = self.start_broker(ballast_bytes=2 << 20)
        self.fill(leave=self.FLOOR + (1 << 20))
        client = self.map_begin()
        client.write("".join(map(line_of, range(400))))
        self.wait_status(lambda s: s["tasks"]["ready"] == 400, "a beginning")
        count = 400
        while not self.is_low():  # it looks with commits, and not every time
            client.write(line_of(count))
            count += 1
        broker.wait_log("disk low, submits are refused")
        client.write("".join(map(line_of, range(count, count + 100))))
        client.close_stdin()
        self.wait_status(lambda s: s["counters"]["refused"] > 0, "a refusal")
        accepted = self.status()["tasks"]["ready"]
        self.assertTrue(400 <= accepted <= count)
        self.assertGreater(self.free(), 0)
        broker.kill9()
        self.start_broker(ballast_bytes=2 << 20)
        self.assertGreaterEqual(self.status()["tasks"]["ready"], accepted)
        self.worker()
        client.wait_out_count(accepted)
        self.assertTrue(self.is_low() and client.is_running())
        client.wait_log("the disk of the broker is nearly full: nothing is accepted until there is room; waiting")
        self.make_room()
        self.assertEqual(client.status(), 0)
        self.check_lines(client.out, count + 100)
        self.assertFalse(self.is_low())

    def test_a_full_disk_stops_commits_and_loses_nothing(self):
        """No room at all: nothing is promised, whoever asks is told why, and kill -9 in the middle costs nothing."""
        broker = self.start_broker(ballast_bytes=0)
        self.worker()
        kept = [self.quern("submit", "--detach", "square", n).stdout.strip() for n in range(10)]
        for identity in kept:
            self.quern("result", identity, "--wait")
        self.fill()
        client = self.map_begin()
        broker.wait_log("disk full, waiting for room")
        client.write("".join(map(line_of, range(15))))
        stage.wait_until(self.is_low, "the broker to say so")
        late = self.quern("--connect-timeout", "0.5", "map", "square", input="1\n", status=3)
        self.assertIn("disk full", late.stderr)
        broker.kill9()
        refused = self.start("quern-broker", "--db", self.db, *self.config(**self.SMALL, ballast_bytes=0))
        self.assertEqual(refused.status(), 1)
        self.assertIn("the disk is full", "\n".join(refused.log))
        self.make_room()
        self.start_broker(ballast_bytes=0)
        client.write("".join(map(line_of, range(15, 3000))))
        client.close_stdin()
        self.assertEqual(client.status(), 0)
        self.check_lines(client.out, 3000)
        for n, identity in enumerate(kept):
            self.assertEqual(self.quern("result", identity).stdout, f"{n * n}\n")


def line_of(number):
    return f"{number:06d}{'x' * 4090}\n"


def in_a_namespace():
    """Mounts are for this program alone. Run again inside; without such namespaces go on as we are."""
    if os.environ.get("QUERN_STORY_UNSHARED"):
        return
    words = ["unshare", "--mount"] + ([] if os.geteuid() == 0 else ["--user", "--map-root-user"])
    try:
        if subprocess.run([*words, "true"], check=False, stderr=subprocess.DEVNULL).returncode == 0:
            os.environ["QUERN_STORY_UNSHARED"] = "1"
            os.execvp(words[0], [*words, sys.executable, "-B", *sys.argv])
    except FileNotFoundError:
        pass


if __name__ == "__main__":
    in_a_namespace()
    stage.main()
