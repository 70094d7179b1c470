"""What runs next, and what happens to it on the way: completion order, priority, delay, turns of sessions, attempts,
and why a task waits; cancel, close, retry. What is compared are numbers and times that were recorded, by one clock."""

import json
import os
import random
import signal
import sqlite3
import subprocess

import stage


def command(script):
    """The words that submit a shell script."""
    return "quern.command", json.dumps(["sh", "-c", script]), "{}"


class Turns(stage.Story):
    def detach(self, *words):
        return self.quern("submit", "--detach", *words).stdout.strip()

    def detach_line(self, text, *options):
        """A command that appends a line to the file of effects."""
        return self.detach(*options, *command(f"echo {text} >> {self.path('effects')}"))

    def effects(self):
        with open(self.path("effects"), encoding="ascii") as file:
            return file.read().split()

    def show(self, identity):
        return self.quern("--json", "show", identity).json

    def why(self, identity):
        said = self.quern("--json", "explain", identity).json
        self.assertEqual(said["id"], identity)
        return said["why"]

    def signal_all(self, pids, number):
        for pid in pids:
            os.kill(pid, number)

    def states(self, *ids):
        return [self.show(identity)["state"] for identity in ids]

    def hoard(self, session, count):
        """That many calls of echo, accepted; then their client is gone."""
        words = [os.path.join(stage.BUILD, "tests", "hoard"), session, str(count), "16"]
        program = stage.Program("hoard", words, self.env, self.directory, stdin=subprocess.PIPE)
        self.programs.append(program)
        program.wait_out("submitted")
        program.kill9()

    def stored(self, statement):
        """Rows of the store, once its broker has ended."""
        for program in self.programs:
            if program.name == "quern-broker":
                program.end()
        with sqlite3.connect(f"file:{self.db}?mode=ro", uri=True) as db:
            rows = db.execute(statement).fetchall()
        db.close()
        return rows

    def config(self, **limits):
        with open(self.path("quern.conf"), "w", encoding="ascii") as file:
            file.write("limits\n" + "".join(f"    {name} = {value}\n" for name, value in limits.items()))
        return "--config", self.path("quern.conf")


class Order(Turns):
    def test_outcomes_come_in_the_order_of_completion(self):
        """As printed, as numbered without a gap, and as timed; also those that a client finds after a restart."""
        broker = self.broker()
        self.worker(slots=4)
        self.wait_workers()
        chance = random.Random(4)
        lines = "".join(f"{chance.randrange(80) / 1000}\n" for _ in range(40))
        client = self.quern_start("map", "sleep", "--session", "naps", "--jsonl", stdin=subprocess.PIPE)
        client.write(lines)
        client.wait_out_count(5)
        client.kill9()
        self.wait_status(lambda s: sum(s["tasks"].values()) == 0, "all to be done")
        broker.kill9()
        self.broker()
        first = [json.loads(line)["id"] for line in client.out if line.endswith("}")]
        second = [json.loads(line)["id"] for line in self.quern("attach", "naps", "--jsonl").lines]
        rows = self.stored("SELECT completion, id >> 32, id & 0xffffffff, finished FROM outcome ORDER BY completion")
        ids = [f"{series}-{sequence}" for _, series, sequence, _ in rows]
        self.assertEqual([row[0] for row in rows], list(range(1, 41)))
        self.assertEqual([row[3] for row in rows], sorted(row[3] for row in rows))
        self.assertEqual(first, ids[:len(first)])
        self.assertEqual(second, ids[-len(second):])
        self.assertGreaterEqual(len(first) + len(second), 40)
        self.assertNotEqual([row[2] for row in rows], sorted(row[2] for row in rows), "nobody overtook anybody")

    def test_one_that_takes_long_keeps_nobody_waiting(self):
        self.broker()
        self.worker("--allow-commands", module=None, slots=2)
        script = f'[ "$0" != 0 ] || until [ -e {self.path("go")} ]; do sleep 0.01; done; echo "$0"'
        client = self.quern_start("run", "--", "sh", "-c", script, stdin=subprocess.PIPE)
        client.write("".join(f"{n}\n" for n in range(30)))
        client.close_stdin()
        client.wait_out_count(29)
        self.assertEqual(sorted(map(int, client.out)), list(range(1, 30)))
        with open(self.path("go"), "w", encoding="ascii"):
            pass
        self.assertEqual(client.status(), 0)
        self.assertEqual(client.out[-1], "0")

    def test_higher_priority_first_and_then_as_submitted(self):
        """One slot finds a queue that was filled before it came: what it does has one right order."""
        self.broker()
        priorities = [0, 5, -3, 0, 1000, 5, -1000, 0, 5, -3, 1, 0]
        for at, priority in enumerate(priorities):
            self.detach_line(at, "--session", "mine", "--priority", priority)
        last = self.detach_line("last", "--priority", "-1000", "--session", "mine")
        self.worker("--allow-commands", module=None, slots=1)
        self.quern("result", last, "--wait")
        wanted = sorted(range(len(priorities)), key=lambda at: (-priorities[at], at))
        self.assertEqual(self.effects(), [*map(str, wanted), "last"])

    def test_priority_holds_across_queues_and_a_restart(self):
        broker = self.broker()
        for at, (queue, priority) in enumerate((("a", 1), ("b", 2), ("c", 3), ("b", 4), ("a", 5), ("c", 0))):
            self.detach_line(at, "--queue", queue, "--priority", priority)
        broker.kill9()
        self.broker()
        self.worker("--allow-commands", module=None, slots=1)
        self.wait_status(lambda s: sum(s["tasks"].values()) == 0, "all to be done")
        self.assertEqual(self.effects(), ["4", "3", "2", "1", "0", "5"])

    def test_a_delay_is_kept(self):
        """Not before its time, also over a restart of the broker, and others do not wait for it."""
        broker = self.broker()
        self.worker()
        delayed = {self.detach("square", "2", "--delay", seconds): seconds for seconds in (0.9, 0.3, 0.6)}
        tomorrow = self.detach("square", "2", "--delay", 86400)
        at_once = self.detach("square", "3")
        self.quern("result", at_once, "--wait")
        self.assertEqual(self.show(tomorrow)["state"], "delayed")
        broker.kill9()
        self.broker()
        for identity in delayed:
            self.quern("result", identity, "--wait")
        shown = {identity: self.show(identity) for identity in delayed}
        for identity, seconds in delayed.items():
            self.assertGreaterEqual(shown[identity]["started_ms"] - shown[identity]["created_ms"], seconds * 1000)
        self.assertEqual(self.show(tomorrow)["state"], "delayed")

    def test_ten_tasks_beside_a_hundred_thousand_are_served_in_turn(self):
        """Filled before any worker comes: after one each in turn, the ten begin beside ten of the others."""
        self.broker()
        self.hoard("large", 100_000)
        self.hoard("small", 10)
        self.worker(slots=1)
        self.wait_status(lambda s: sum(s["tasks"].values()) == 0, "all to be done")
        self.assertLess(self.large_started_meanwhile(), 2000)  # times are whole milliseconds

    def test_ten_that_come_late_are_served_in_turn_too(self):
        """A worker that has begun with the others: what it has taken ahead comes before them, not what still waits."""
        self.broker()
        self.hoard("large", 100_000)
        worker = self.worker(slots=2)
        worker.wait_log("welcome")
        tree = [worker.pid, *self.descendants(worker.pid)]
        self.signal_all(tree, signal.SIGSTOP)
        self.hoard("small", 10)
        self.signal_all(reversed(tree), signal.SIGCONT)
        before = self.status()["tasks"]
        self.assertGreater(before["ready"] + before["leased"] + before["running"], 30_000, "too late to show anything")
        self.wait_status(lambda s: sum(s["tasks"].values()) == 0, "all to be done")
        self.assertLess(self.large_started_meanwhile(), 20_000)

    def large_started_meanwhile(self):
        """How many of the large session were started from when the small one came until the last of it was."""
        (count,), = self.stored(
            "WITH named AS (SELECT outcome.*, name FROM outcome JOIN session ON outcome.session = session.id), "
            "small AS (SELECT min(created) AS came, max(started) AS last, count(*) AS n FROM named "
            "WHERE name = 'small') SELECT count(*) FROM named, small "
            "WHERE n = 10 AND name = 'large' AND started BETWEEN came AND last")
        self.assertGreater(count, 0)
        return count


class Attempts(Turns):
    def setUp(self):
        super().setUp()
        self.broker()
        self.worker("--allow-commands", slots=1)

    def failed(self, *words):
        identity = self.quern("--json", "submit", *words, status=1).json["id"]
        return self.show(identity)

    def test_attempts_are_made_and_backed_off(self):
        """Doubling: between half and all of 0.2 s, then twice of the cap, 0.3 s. Each failure has its own record."""
        shown = self.failed("fail", '"Odd"', '"so it is"', "--attempts", "4", "--backoff", "0.2:0.3")
        self.assertEqual((shown["state"], shown["cause"], shown["attempts"]), ("failed", "error", 4))
        failures = shown["failures"]
        self.assertEqual([(f["attempt"], f["cause"], f["kind"], f["message"]) for f in failures],
                         [(n, "error", "Odd", "so it is") for n in range(1, 5)])
        times = [failure["at_ms"] for failure in failures]
        for at, least in enumerate((100, 150, 150)):
            self.assertGreaterEqual(times[at + 1] - times[at], least)

    def test_a_backoff_is_no_longer_than_its_cap_by_the_time_that_is_told(self):
        """From a failure to the time that `show` gives for the next attempt: half to all of 2 s, then of the cap."""
        task = self.detach("fail", "--attempts", "4", "--backoff", "2:3")
        for attempt, (least, most) in enumerate(((1000, 2000), (1500, 3000), (1500, 3000)), 1):
            shown = stage.wait_until(lambda n=attempt: self.in_backoff(task, n), f"the backoff after attempt {attempt}")
            backoff = shown["due_ms"] - shown["failures"][-1]["at_ms"]
            self.assertTrue(least <= backoff <= most, (attempt, backoff))

    def in_backoff(self, task, attempt):
        shown = self.show(task)
        return shown if shown["state"] == "backoff" and len(shown["failures"]) == attempt else None

    def test_a_task_that_fails_at_first_is_done_in_the_end(self):
        script = f'echo x >> {self.path("effects")}; [ $(wc -l < {self.path("effects")}) -ge 3 ]'
        row = self.quern("--json", "submit", "--attempts", "5", *command(script)).json
        self.assertEqual((row["ok"], row["attempts"]), (True, 3))
        self.assertEqual(self.effects(), ["x"] * 3)
        self.assertEqual([(f["kind"], f["message"]) for f in self.show(row["id"])["failures"]],
                         [("ExitStatus", "exit status 1")] * 2)

    def test_only_causes_that_were_named_are_tried_again(self):
        for words, attempts in ((("fail", "--retry-on", "timeout"), 1), (("fail", "--retry-on", "error,timeout"), 3),
                                (("sleep", "60", "--timeout", "0.05", "--retry-on", "error"), 1),
                                (("sleep", "60", "--timeout", "0.05", "--retry-on", "timeout"), 3)):
            shown = self.failed(*words, "--attempts", "3")
            self.assertEqual((shown["attempts"], len(shown["failures"])), (attempts, attempts), words)

    def test_crashes_count_for_themselves(self):
        """A task that kills its slot is tried three times whatever its policy, then it is quarantined."""
        shown = self.failed("crash")
        self.assertEqual((shown["cause"], [f["signal"] for f in shown["failures"]]), ("quarantined", [11] * 3))
        self.assertEqual((shown["attempts"], shown["crashes"], shown["losses"]), (3, 3, 0))
        self.assertIn("3 crashes, 0 losses", self.quern("show", shown["id"]).stdout)
        self.assertNotIn(shown["id"], shown["message"])
        self.assertRegex(self.quern("submit", "crash", status=1).stderr,
                         r"^quern: task [0-9-]+: quarantined: Signal: its slot died 3 times; last: slot \d+ on ")
        shown = self.failed("crash", "--crashes", "1")
        self.assertEqual((shown["cause"], len(shown["failures"]), shown["crashes"]), ("quarantined", 1, 1))
        shown = self.failed("crash", "--at-most-once")
        self.assertEqual((shown["cause"], len(shown["failures"]), shown["crashes"]), ("crashed", 1, 1))

    def test_attempts_crashes_and_losses_of_a_finished_task_are_told_apart_also_after_a_restart(self):
        """One crash, then two failures of its own, then a restart of the broker."""
        file = self.path("effects")
        script = f'echo x >> {file}; if [ $(wc -l < {file}) -eq 1 ]; then kill -9 $PPID; sleep 60; fi; exit 3'
        self.quern("submit", "--attempts", "2", *command(script), status=1)
        identity = self.quern("--json", "list").json[0]["id"]
        broker = self.programs[0]
        for _ in range(2):
            shown = self.show(identity)
            self.assertEqual((shown["attempts"], shown["crashes"], shown["losses"]), (3, 1, 0), shown)
            self.assertEqual([f["cause"] for f in shown["failures"]], ["crashed", "error", "error"])
            broker.kill9()
            broker = self.broker()

    def test_a_timeout_counts_from_the_start_of_the_attempt(self):
        """Not from the submit, nor from the dispatch: waiting behind another, and a backoff, are free."""
        before = self.detach("sleep", "1.5")
        behind = self.quern("--json", "submit", "--timeout", "1", "sleep", "0").json
        self.assertEqual((behind["ok"], behind["attempts"]), (True, 1))
        self.assertEqual(self.show(behind["id"])["failures"], [])
        self.quern("result", before, "--wait")
        failed = self.failed("fail", "--attempts", "2", "--backoff", "3", "--timeout", "1")
        self.assertEqual([failure["cause"] for failure in failed["failures"]], ["error"] * 2)

    def test_what_is_quarantined_is_listed_and_can_be_submitted_again(self):
        """Also after a restart of the broker; the new task has all its attempts again, and names the old one."""
        old = self.failed("crash")["id"]
        self.failed("fail")
        next(program for program in self.programs if program.name == "quern-broker").kill9()
        self.broker()
        self.wait_workers()
        self.assertEqual([row["id"] for row in self.quern("--json", "list", "--cause", "quarantined").json], [old])
        new = self.quern("--json", "retry", old).json["id"]
        stage.wait_until(lambda: self.show(new)["state"] == "failed", "the new task's end")
        shown = self.show(new)
        self.assertEqual((shown["cause"], len(shown["failures"]), shown["retry_of"]), ("quarantined", 3, old))
        self.assertEqual(len(self.show(old)["failures"]), 3)


class Why(Turns):
    def test_explain_says_what_a_task_waits_for(self):
        self.broker()
        lonely = self.detach("square", "1")
        self.assertEqual(self.why(lonely), "no_worker")
        self.assertEqual(self.why(self.detach("square", "1", "--delay", "1000")), "delayed")
        self.worker("--allow-commands", slots=1)
        self.quern("result", lonely, "--wait")
        self.assertEqual(self.why(lonely), "finished")
        self.assertEqual(self.why(self.detach("nobody_has_this", "1")), "no_worker")
        failing = self.detach("fail", "--attempts", "2", "--backoff", "1000")
        stage.wait_until(lambda: self.why(failing) == "backoff", "the backoff")
        runs = self.detach("sleep", "1000")
        stage.wait_until(lambda: self.why(runs) == "running", "the sleeper")
        capacity = self.status()["workers"][0]["capacity"]
        self.quern_start("map", "square", "--session", "behind", stdin=subprocess.PIPE).write("3\n" * (capacity + 50))
        ready = ("--json", "list", "--state", "ready", "--limit", "1")
        stage.wait_until(lambda: [row for row in self.quern(*ready).json if row["session"] == "behind"],
                         "tasks that no worker takes")
        last = self.quern(*ready, "--session", "behind").json[0]["id"]
        self.assertEqual(self.why(last), "no_credit")
        text = self.quern("explain", last).stdout
        self.assertIn("hold as much as they take", text)
        self.assertEqual(self.quern("explain", "77-1", status=4).stdout, "")

    def test_what_is_leased_and_does_not_run_is_told(self):
        self.broker()
        worker = self.worker(slots=1)
        self.quern("submit", "square", "2")
        below = self.descendants(worker.pid)
        self.signal_all(below, signal.SIGSTOP)
        leased = self.detach("square", "3")
        stage.wait_until(lambda: self.why(leased) == "leased", "the lease")
        self.assertIn(str(worker.pid), self.quern("explain", leased).stdout)
        worker.kill9()  # its stopped zygote does not stay behind
        stage.wait_until(lambda: not any(map(stage.is_alive, below)), "the stopped processes to be gone")

    def test_claiming_after_an_unclean_end(self):
        """For claim_ms a worker on record that still has it may come; a clean end leaves nothing to claim."""
        config = self.config(claim_ms=3600000)
        broker = self.broker(*config)
        gone = self.worker("--name", "gone")
        self.wait_workers()
        gone.kill9()
        self.wait_status(lambda s: not any(w["connected"] for w in s["workers"]), "its end")
        waits = self.detach("square", "2")
        self.assertEqual(self.why(waits), "no_worker")
        broker.kill9()
        broker = self.broker(*config)
        self.worker("--name", "another")
        self.wait_workers()
        self.assertEqual(self.why(waits), "claiming")
        self.assertEqual(broker.end(), 0)
        self.broker(*config)
        self.assertEqual(self.quern("result", waits, "--wait").stdout, "4\n")

    def test_when_every_worker_has_come_back_nothing_is_waited_for(self):
        config = self.config(claim_ms=3600000)
        broker = self.broker(*config)
        self.worker()
        self.wait_workers()
        broker.kill9()
        self.broker(*config)
        self.assertEqual(self.quern("submit", "square", "2").stdout, "4\n")


class Changing(Turns):
    def test_cancel_takes_what_is_queued_and_what_a_worker_has_not_begun(self):
        self.broker()
        delayed, queued = self.detach("square", "2", "--delay", "1000"), self.detach("nobody_has_this")
        worker = self.worker(slots=1)
        self.quern("submit", "square", "2")
        below = self.descendants(worker.pid)
        self.signal_all(below, signal.SIGSTOP)
        leased = self.detach("square", "3")
        stage.wait_until(lambda: self.states(leased) == ["leased"], "the lease")
        self.quern("cancel", delayed, queued, leased)
        self.signal_all(below, signal.SIGCONT)
        self.assertEqual(self.states(delayed, queued, leased), ["cancelled"] * 3)
        self.assertEqual(self.quern("submit", "square", "4").stdout, "16\n")
        self.assertEqual(self.show(leased)["attempts"], 0)
        self.assertEqual(self.quern("result", leased, "--json", status=1).json["error"]["cause"], "cancelled")

    def test_close_cancel_takes_fifty_thousand(self):
        """And nobody else's; the outcomes are there to be taken. A kill right after the answer brings none back."""
        broker = self.broker()
        self.hoard("large", 50_000)
        other = self.detach("square", "5")
        self.quern("close", "large", "--cancel")
        broker.kill9()
        self.broker()
        self.worker()
        self.assertEqual(self.quern("result", other, "--wait").stdout, "25\n")
        self.wait_status(lambda s: sum(s["tasks"].values()) == 0, "all to have an outcome")
        rows = self.quern("--json", "sessions").json
        row = next(row for row in rows if row["name"] == "large")
        self.assertEqual((row["state"], row["live"], row["untaken"]), ("ending", 0, 50_000))
        attached = self.quern("attach", "large", "--jsonl", status=1)
        self.assertEqual(attached.stdout.count('"cause":"cancelled"'), 50_000)
        self.assertNotIn("large", [row["name"] for row in self.quern("--json", "sessions").json])

    def test_a_failed_task_is_tried_again_as_a_new_one(self):
        self.broker()
        self.worker("--allow-commands", module=None, slots=1)
        script = f"[ -e {self.path('mended')} ] && echo well"
        old = self.detach("--session", "mine", "--priority", "7", "--queue", "q", *command(script))
        self.quern("result", old, "--wait", status=1)
        with open(self.path("mended"), "w", encoding="ascii"):
            pass
        new = self.quern("retry", old).stdout.strip()
        self.assertEqual(self.quern("result", new, "--wait").json["stdout"], "well\n")
        before, after = self.show(old), self.show(new)
        self.assertEqual((before["state"], after["state"], after["retry_of"]), ("failed", "done", old))
        for key in ("function", "queue", "priority", "options", "session", "args"):
            self.assertEqual(after[key], before[key], key)
        self.quern("retry", "77-1", status=4)
        runs = self.detach("--session", "mine", "nobody_has_this")
        self.quern("retry", runs, status=4)


class Lists(Turns):
    def setUp(self):
        super().setUp()
        self.broker()
        self.worker(slots=1)
        self.wait_workers()
        self.ids = {"done": self.detach("square", "2", "--session", "one"),
                    "failed": self.detach("fail", "--session", "two"),
                    "cancelled": self.detach("nobody_has_this", "--session", "two"),
                    "quick": self.detach("sleep", "60", "--timeout", "0.05", "--session", "one"),
                    "delayed": self.detach("square", "1", "--delay", "1000", "--session", "one"),
                    "ready": self.detach("nobody_has_this", "--session", "two"),
                    "backoff": self.detach("fail", "--attempts", "2", "--backoff", "1000", "--session", "one")}
        self.quern("cancel", self.ids["cancelled"])
        for name in ("done", "failed", "quick"):
            self.quern("result", self.ids[name], "--wait", status=None)
        stage.wait_until(lambda: self.states(self.ids["backoff"]) == ["backoff"], "the backoff")
        self.ids["running"] = self.detach("sleep", "1000")
        stage.wait_until(lambda: self.states(self.ids["running"]) == ["running"], "the sleeper")

    def listed(self, *words):
        names = {identity: name for name, identity in self.ids.items()}
        return {names[row["id"]] for row in self.quern("--json", "list", *words).json}

    def test_filters_select_and_go_together(self):
        for state in ("done", "cancelled", "delayed", "ready", "running", "backoff"):
            self.assertEqual(self.listed("--state", state), {state}, state)
        self.assertEqual(self.listed("--state", "failed"), {"failed", "quick"})
        self.assertEqual(self.listed("--state", "leased"), set())
        self.assertEqual(self.listed("--cause", "error"), {"failed"})
        self.assertEqual(self.listed("--cause", "timeout"), {"quick"})
        self.assertEqual(self.listed("--session", "two"), {"failed", "cancelled", "ready"})
        self.assertEqual(self.listed("--session", "two", "--state", "failed"), {"failed"})
        self.assertEqual(self.listed("--session", "one", "--state", "failed", "--cause", "error"), set())
        rows = self.quern("--json", "list").json
        self.assertEqual(len(rows), len(self.ids))
        self.assertEqual([row["id"] for row in self.quern("--json", "list", "--limit", "3").json],
                         [row["id"] for row in rows[:3]])
        by_id = {row["id"]: row for row in rows}
        failed, runs = by_id[self.ids["failed"]], by_id[self.ids["running"]]
        self.assertEqual([failed[key] for key in ("function", "queue", "session", "attempts", "message")],
                         ["fail", "default", "two", 1, "as asked"])
        self.assertRegex(runs["worker"], r"^.+:\d+$")
        for name in ("done", "failed"):
            row = by_id[self.ids[name]]
            self.assertLessEqual(row["created_ms"], row["finished_ms"])
            self.assertIn(self.ids[name], self.quern("list", "--state", name).stdout)

    def test_sessions_count_what_they_have(self):
        rows = {row["name"]: row for row in self.quern("--json", "sessions").json if row["name"] is not None}
        self.assertEqual(sorted(rows), ["one", "two"])
        wanted = {"one": dict(live=2, completed=2, failed=1), "two": dict(live=1, completed=2, failed=1)}
        for name, numbers in wanted.items():
            row = rows[name]
            self.assertEqual({key: row[key] for key in numbers}, numbers)
            self.assertEqual((row["state"], row["connected"]), ("open", False))
            self.assertLessEqual(row["created_ms"], row["used_ms"])
        owner = self.quern_start("map", "square", "--session", "three", stdin=subprocess.PIPE)
        stage.wait_until(lambda: "three" in self.quern("sessions").stdout, "the third session")
        row = next(row for row in self.quern("--json", "sessions").json if row["name"] == "three")
        self.assertTrue(row["connected"])
        self.assertTrue(row["owner"].endswith(f":{owner.pid}"), row["owner"])


if __name__ == "__main__":
    stage.main()
