"""Workers come and go while there is work: one is replaced by another, joins beside one that is busy, or is cut off from
its broker. Nothing fails, and nothing runs twice."""

import collections
import json
import os
import signal
import subprocess
import time

import stage

UNRULY = os.path.join(stage.BUILD, "tests", "unruly.so")


class Lifecycle(stage.Story):
    def lines_of(self, name):
        try:
            with open(self.path(name), encoding="ascii") as file:
                return file.read().split()
        except FileNotFoundError:
            return []

    def config(self, **limits):
        with open(self.path("quern.conf"), "w", encoding="ascii") as file:
            file.write("limits\n" + "".join(f"    {name} = {value}\n" for name, value in limits.items()))
        return "--config", self.path("quern.conf")

    def effect(self, name, seconds, *options):
        return self.quern("submit", "--detach", *options, "effect", json.dumps(self.path(name)), seconds).stdout.strip()

    def finished(self, task):
        self.quern("result", task, "--wait", status=None)
        return self.quern("--json", "show", task).json

    def connected(self):
        return [worker["pid"] for worker in self.status()["workers"] if worker["connected"]]


class Rolling(Lifecycle):
    def test_a_new_worker_is_rolled_in_under_load_with_no_failed_task(self):
        """The new one comes, the old one is told to end, three times; every task is run once, on its first attempt."""
        count = 4000
        self.broker()
        worker = self.worker(module=UNRULY)
        client = self.quern_start("map", "slow_effect", "--raw", "--jsonl", stdin=subprocess.PIPE)
        for turn in range(4):
            client.write((self.path("effects") + "\n") * (count // 4))
            client.wait_out_count(turn * count // 4 + count // 16)
            if turn < 3:
                new = self.worker(module=UNRULY)
                stage.wait_until(lambda: new.pid in self.connected(), "the new one to be connected")
                self.assertEqual(worker.end(), 0)
                worker = new
        client.close_stdin()
        self.assertEqual(client.status(), 0)
        rows = [json.loads(line) for line in client.out]
        self.assertEqual([row for row in rows if not row["ok"]], [])
        self.assertEqual(len(rows), count)
        effects = collections.Counter(self.lines_of("effects"))
        self.assertEqual((len(effects), set(effects.values())), (count, {1}))
        self.assertGreaterEqual(len({row["worker"] for row in rows}), 4)

    def test_one_that_joins_gets_what_waits_behind_a_long_task_of_another(self):
        """The first is known to be fast, so much is given to it ahead; then something long comes. It stands still
        meanwhile, so it gives nothing back by itself: the broker asks for what the second could begin at once."""
        self.broker(*self.config(dead_ms=60000, lease_ms=120000))
        first = self.worker(slots=1, module=UNRULY)
        self.quern("map", "good", input="".join(f"{n}\n" for n in range(2000)))
        first.send(signal.SIGSTOP)
        held = [self.effect("long", "1000")] + [self.effect("short", "0") for _ in range(20)]
        self.wait_status(lambda status: status["workers"][0]["held"] > 1, "more to be given to the first than it runs")
        self.assertEqual(self.status()["counters"]["called_back"], 0)
        second = self.worker(slots=1, module=UNRULY)
        self.wait_status(lambda status: status["counters"]["called_back"] > 0, "one to be called back")
        first.send(signal.SIGCONT)
        for task in held[1:]:
            shown = self.finished(task)
            self.assertEqual((shown["state"], shown["attempts"], shown["losses"]), ("done", 1, 0))
            self.assertIn(int(shown["worker"].rpartition(":")[2]), self.descendants(second.pid))
        self.assertEqual((len(self.lines_of("short")), len(set(self.lines_of("short")))), (20, 20))
        self.assertEqual(len(self.lines_of("long")), 1)
        self.assertTrue(first.is_running() and second.is_running())


class CutOff(Lifecycle):
    def test_a_worker_keeps_its_results_until_a_stopped_broker_goes_on(self):
        """The broker stands still for longer than a lease. The worker knows: it starts nothing, and hands in later."""
        lease_s = 2
        broker = self.broker(*self.config(heartbeat_ms=100, dead_ms=600, lease_ms=lease_s * 1000))
        worker = self.worker(module=UNRULY)
        tasks = [self.effect("effects", "0.4", "--at-most-once") for _ in range(2)]
        waiting = [self.effect("effects", "0.4") for _ in range(2)]
        stage.wait_until(lambda: len(self.lines_of("effects")) == 2, "two to run")
        broker.send(signal.SIGSTOP)
        since = time.monotonic()
        worker.wait_log("silent")
        stage.wait_until(lambda: time.monotonic() > since + 2 * lease_s, "two leases to pass")
        begun = len(self.lines_of("effects"))
        broker.send(signal.SIGCONT)
        for task in tasks + waiting:
            shown = self.finished(task)
            self.assertEqual((shown["state"], shown["cause"], shown["losses"]), ("done", None, 0), shown)
        self.assertLessEqual(begun, 4)
        self.assertEqual(set(collections.Counter(self.lines_of("effects")).values()), {1})
        self.assertTrue(worker.is_running())


class GivenAway(Lifecycle):
    """A worker that was stopped for longer than its lease comes back: what it held was given to another, or given up."""

    def begin(self, *options, function="effect", args=("0.5",)):
        self.broker(*self.config(heartbeat_ms=100, dead_ms=500, lease_ms=1000, claim_ms=100))
        self.first = self.worker(slots=1, module=UNRULY)
        self.wait_workers()
        task = self.quern("submit", "--detach", *options, function, json.dumps(self.path("effects")), *args).stdout.strip()
        stage.wait_until(lambda: self.lines_of("effects"), "it to run")
        return task

    def signal_all(self, number):
        for pid in [self.first.pid, *self.descendants(self.first.pid)]:
            os.kill(pid, number)

    def check_after(self, task, before):
        """The one that comes back hands in what it has, or drops it; the outcome stays what it was."""
        stage.wait_until(lambda: self.first.pid in self.connected(), "the first to be back")
        self.wait_status(lambda status: sum(worker["held"] for worker in status["workers"]) == 0, "nothing to be held")
        shown = self.quern("--json", "show", task).json
        self.assertEqual(shown, before)
        self.assertEqual([row["id"] for row in self.quern("--json", "list").json], [task])
        self.assertEqual(self.quern("map", "good", input="1\n" * 20).lines, ["2"] * 20)
        self.assertTrue(self.first.is_running())

    def check_done_meanwhile(self, signal_it):
        task = self.begin()
        signal_it(signal.SIGSTOP)
        self.worker(slots=1, module=UNRULY)
        done = self.finished(task)
        self.assertEqual((done["state"], done["attempts"]), ("done", 2), done)
        self.assertEqual([failure["cause"] for failure in done["failures"]], ["lost"])
        self.assertEqual(len(self.lines_of("effects")), 2)
        signal_it(signal.SIGCONT)
        self.check_after(task, done)

    def test_what_another_has_done_meanwhile_is_never_recorded_twice(self):
        """All of it is stopped, and goes on with what was given away."""
        self.check_done_meanwhile(self.signal_all)

    def test_a_result_that_comes_late_is_dropped(self):
        """Its supervisor alone is stopped: its slot finishes the task meanwhile, so there is a result to hand in."""
        self.check_done_meanwhile(lambda number: self.first.send(number))

    def test_what_may_run_at_most_once_is_given_up_and_stays_so(self):
        task = self.begin("--at-most-once")
        self.first.send(signal.SIGSTOP)
        self.worker(slots=1, module=UNRULY)
        lost = self.finished(task)
        self.assertEqual((lost["state"], lost["cause"]), ("failed", "lost"), lost)
        self.first.send(signal.SIGCONT)
        self.check_after(task, lost)
        self.assertEqual(len(self.lines_of("effects")), 1)

    def test_what_still_runs_there_is_stopped_with_all_that_it_started(self):
        task = self.begin("--at-most-once", function="tree", args=(json.dumps("deaf"),))
        stage.wait_until(lambda: len(self.lines_of("effects")) == 7, "its seven processes")
        pids = [int(pid) for pid in self.lines_of("effects")]
        self.first.send(signal.SIGSTOP)
        lost = self.finished(task)
        self.assertEqual((lost["state"], lost["cause"]), ("failed", "lost"), lost)
        self.assertTrue(all(map(stage.is_alive, pids)))
        self.first.send(signal.SIGCONT)
        stage.wait_until(lambda: not any(map(stage.is_alive, pids)), "them to be gone")
        self.check_after(task, lost)

    def test_a_stop_shorter_than_the_lease_is_nobodys_loss(self):
        task = self.begin()
        self.signal_all(signal.SIGSTOP)
        since = time.monotonic()
        stage.wait_until(lambda: time.monotonic() > since + 0.4, "less than a lease to pass")
        self.signal_all(signal.SIGCONT)
        shown = self.finished(task)
        self.assertEqual((shown["state"], shown["attempts"], shown["failures"]), ("done", 1, []), shown)


if __name__ == "__main__":
    stage.main()
