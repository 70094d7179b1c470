"""What a worker promises, tried with real processes: functions that do what none should, kills of each of its processes,
names, leases, and what may run at most once. modules/unruly.c brings the functions."""

import collections
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import unittest

import stage

UNRULY = os.path.join(stage.BUILD, "tests", "unruly.so")
SIZE_16_MIB = 16 * 1024 * 1024


class WorkerStory(stage.Story):
    def begin(self, *args, slots=2, module=UNRULY, **options):
        self.broker()
        worker = self.worker(*args, slots=slots, module=module, **options)
        self.wait_workers()
        return worker

    def ask(self, *args, **options):
        """What became of one task, as an object."""
        return self.quern("--json", "submit", *args, status=None, **options).json

    def command(self, argv, *args, **options):
        return self.ask("quern.command", json.dumps(argv), json.dumps(options), *args)

    def works(self):
        """Every slot does its work, and does it right."""
        self.assertEqual(sorted(map(int, self.quern("map", "good", input="\n".join(map(str, range(100)))).lines)),
                         list(range(1, 101)))

    def lines_of(self, name):
        try:
            with open(self.path(name), encoding="utf-8") as file:
                return file.read().split()
        except FileNotFoundError:
            return []

    def processes(self, worker, name):
        """Those below worker that are called so."""
        found = []
        for pid in self.descendants(worker.pid):
            try:
                with open(f"/proc/{pid}/comm", encoding="utf-8") as file:
                    if file.read().strip() == name:
                        found.append(pid)
            except OSError:
                pass
        return found

    def kill_slots_while(self, worker, pause_s, work):
        """Kills one slot after another until work() has returned; how many, and what it returned."""
        ended = threading.Event()
        kills = []

        def kill():
            while not ended.wait(pause_s):
                for pid in random.sample(slots, 1) if (slots := self.processes(worker, "quern-slot")) else []:
                    try:
                        os.kill(pid, signal.SIGKILL)
                        kills.append(pid)
                    except ProcessLookupError:
                        pass

        thread = threading.Thread(target=kill)
        thread.start()
        try:
            return work(), len(kills)
        finally:
            ended.set()
            thread.join()


class Unruly(WorkerStory):
    def test_crashes_cost_their_task_and_name_task_host_pid_and_signal(self):
        self.begin()
        for function, number in (("abort", signal.SIGABRT), ("jump", None), ("corrupt", None)):
            with self.subTest(function):
                outcome = self.ask(function)
                if function == "corrupt" and outcome["ok"] and stage.is_sanitized():
                    continue  # a sanitizer has an allocator of its own, which may notice nothing
                host, pid = outcome["worker"].split(":")
                message = outcome["error"]["message"]
                self.assertEqual(outcome["error"]["cause"], "quarantined")
                self.assertIn(f"slot {pid} on {host} ", message)
                # What a sanitizer notices ends by its exit.
                how = f"died of signal {int(number)} " if number else "(died of signal|exited with status) [0-9]+"
                self.assertRegex(message, how)
                self.works()

    def test_a_forked_child_that_returns_from_the_handler_is_no_second_slot(self):
        """It would take tasks from the slot's socket: they would never end."""
        self.begin(slots=1)
        for _ in range(5):
            self.assertEqual(self.ask("fork_and_return")["result"], 1)
            self.works()

    def test_children_of_handlers_leave_no_zombies(self):
        worker = self.begin(slots=1)
        for _ in range(3):
            self.assertEqual(self.ask("fork_many")["result"], 20)
            self.assertEqual(self.ask("fork_and_exit")["result"], 1)
        self.works()
        slot = self.processes(worker, "quern-slot")[0]

        def children():
            with open(f"/proc/{slot}/task/{slot}/children", encoding="utf-8") as file:
                return file.read().split()

        stage.wait_until(lambda: children() == [], "the children to be reaped")

    def test_garbage_in_or_closing_of_descriptors_costs_nobody_else(self):
        worker = self.begin()
        for function in ("close_all", "write_all"):
            outcome = self.ask(function)
            # Closing the worker's socket is a slot's end: whether the result was written before that is a race.
            self.assertTrue(outcome["ok"] or outcome["error"]["cause"] == "quarantined", outcome)
            self.works()
        self.assertTrue(worker.is_running())

    def test_a_slot_that_nobody_can_reach_any_more_says_what_it_did(self):
        self.begin()
        error = self.ask("close_and_stay")["error"]
        self.assertIn("closed its connection with the worker", error["message"])
        self.assertIn("may close only descriptors that it opened", error["message"])
        self.assertNotIn("signal 9", error["message"])
        self.works()

    def test_blocked_signals_do_not_keep_a_task_from_its_timeout(self):
        self.begin(slots=1)
        self.assertEqual(self.ask("block_all", "60", "--timeout", "0.2")["error"]["cause"], "timeout")
        self.assertEqual(self.ask("block_all", "0")["result"], 1)
        self.assertEqual(self.ask("block_all", "60", "--timeout", "0.2")["error"]["cause"], "timeout")
        self.works()

    def test_results_that_are_no_value_are_unencodable(self):
        self.begin()
        for function in ("raw", "open_array", "two_values"):
            self.assertEqual(self.ask(function)["error"]["cause"], "unencodable")
        outcome = self.ask("big", str(SIZE_16_MIB + 1))
        self.assertEqual(outcome["error"]["cause"], "unencodable")
        self.assertIn("over 16 MiB", outcome["error"]["message"])
        self.assertTrue(self.ask("big", str(SIZE_16_MIB))["ok"])

    def test_a_long_message_is_cut_between_characters(self):
        self.begin()
        error = self.ask("long_text")["error"]
        self.assertEqual(error["kind"], "x" + "ä" * 63)
        self.assertEqual(error["message"], "x" + "ä" * 2047)


class Starting(WorkerStory):
    def refused(self, *args, status=1, **env):
        done = subprocess.run([os.path.join(stage.BIN, "quern-worker"), *map(str, args)], env={**self.env, **env},
                              cwd=self.directory, capture_output=True, timeout=stage.PATIENCE_S)
        self.assertEqual(done.returncode, status, done.stderr)
        return done.stderr.decode()

    def test_a_module_that_cannot_be_used_is_refused_by_name(self):
        self.assertIn("nothing to serve", self.refused(status=2))
        self.assertIn("/nonexistent.so", self.refused("--module", "/nonexistent.so"))
        with open("/proc/self/maps", encoding="utf-8") as maps:
            no_module = next(line.split()[-1] for line in maps if "libc.so" in line)
        self.assertIn("quern_module", self.refused("--module", no_module))
        self.assertIn('"good" is in', self.refused("--module", UNRULY, "--module", UNRULY))
        self.assertIn("the model is missing", self.refused("--module", UNRULY, UNRULY="fail"))
        self.assertIn("of signal 6", self.refused("--module", UNRULY, UNRULY="crash"))

    def test_what_keeps_a_worker_from_starting_is_a_plain_sentence(self):
        """Read by whoever started it, not by a collector of logs."""
        for args, env in ((("--module", "/nonexistent.so"), {}), (("--module", UNRULY), {"UNRULY": "fail"}),
                          (("--module", UNRULY), {"UNRULY": "crash"}),
                          (("--module", UNRULY, "--url", "no-url"), {"status": 2})):
            said = self.refused(*args, **env)
            # A worker that somebody else killed may just have left something to clear away.
            said = re.sub(r"\A\S+ info  worker removed the cgroups of [^\n]+\n", "", said)
            self.assertRegex(said, r"\Aquern-worker: [^\n]+\n\Z")

    def test_a_module_that_starts_a_thread_is_refused(self):
        self.assertIn("left a thread", self.refused("--module", UNRULY, UNRULY="thread"))
        self.assertIn("started a thread when it was loaded", self.refused("--module", UNRULY, UNRULY="thread-at-load"))

    def test_slots_are_counted_from_1_to_1024(self):
        for count in ("0", "-1", "9999", "2x", ""):
            self.assertIn("--slots", self.refused("--module", UNRULY, "--slots", count, status=2))

    def test_workers_of_one_host_have_names_of_their_own_whatever_their_runtime_directory(self):
        """Two of one name would take each other's tasks for lost, again and again."""
        self.begin()
        os.mkdir(self.path("run2"), 0o700)
        self.worker("--url", self.url, module=UNRULY, env={"XDG_RUNTIME_DIR": self.path("run2")})
        self.wait_workers(2)
        self.assertEqual(len({worker["name"] for worker in self.status()["workers"]}), 2)
        name = self.status()["workers"][0]["name"]
        self.assertIn("runs already", self.refused("--module", UNRULY, "--name", name, "--url", self.url,
                                                   XDG_RUNTIME_DIR=self.path("run2")))


class Slots(WorkerStory):
    """How many there are, when nobody says it."""

    def check_default(self, count, **options):
        self.broker()
        worker = self.start("quern-worker", "--module", UNRULY, **options)
        self.wait_workers()
        self.assertEqual(self.status()["workers"][0]["slots"], count)
        self.assertEqual(len(self.processes(worker, "quern-slot")), count)
        return worker

    def test_as_many_as_it_may_use_cpus(self):
        """A quota of a cgroup counts too: test_cpus."""
        self.check_default(len(os.sched_getaffinity(0)))

    def test_a_worker_that_may_use_one_cpu_has_one(self):
        cpu = max(os.sched_getaffinity(0))
        worker = self.check_default(1, preexec_fn=lambda: os.sched_setaffinity(0, {cpu}))
        self.assertEqual(os.sched_getaffinity(self.processes(worker, "quern-slot")[0]), {cpu})


class Kills(WorkerStory):
    def test_at_most_once_is_that_under_kills_of_slots(self):
        count = 3000
        worker = self.begin(slots=4)
        lines = (self.path("effects") + "\n") * count
        done, kills = self.kill_slots_while(worker, 0.01, lambda: self.quern(
            "map", "effect", "--raw", "--jsonl", "--at-most-once", input=lines, status=None))
        self.assertGreater(kills, 0)
        self.assertEqual(len(done.lines), count)
        effects = collections.Counter(self.lines_of("effects"))
        self.assertEqual([task for task, times in effects.items() if times > 1], [])
        good = {json.loads(line)["id"] for line in done.lines if json.loads(line)["ok"]}
        ran = {f"{int(task) >> 32}-{int(task) & 0xffffffff}" for task in effects}
        self.assertEqual(good - ran, set())

    def test_large_results_are_whole_under_kills_of_slots(self):
        worker = self.begin()
        lines = f"{4 * 1024 * 1024}\n" * 40
        done, kills = self.kill_slots_while(worker, 0.03, lambda: self.quern("map", "big", "--jsonl", input=lines,
                                                                            status=None))
        self.assertGreater(kills, 0)
        self.assertEqual(len(done.lines), 40)
        for line in done.lines:
            outcome = json.loads(line)
            if not outcome["ok"]:
                self.assertEqual(outcome["error"]["cause"], "quarantined")

    def test_a_killed_zygote_costs_no_attempt_and_new_slots_come(self):
        worker = self.begin(slots=2)
        client = self.quern_start("map", "effect", "--raw", "--jsonl", stdin=subprocess.PIPE)
        client.write((self.path("effects") + "\n") * 20000)
        client.close_stdin()
        for round in range(3):
            client.wait_out_count((round + 1) * 4000)
            zygote = stage.wait_until(lambda: self.processes(worker, "quern-zygote"), "a zygote")[0]
            before = self.processes(worker, "quern-slot")
            os.kill(zygote, signal.SIGKILL)
            stage.wait_until(lambda: len(set(self.processes(worker, "quern-slot")) - set(before)) == 2, "new slots")
        self.assertEqual(client.status(), 0)
        self.assertEqual({json.loads(line)["attempts"] for line in client.out}, {1})
        self.assertEqual(set(collections.Counter(self.lines_of("effects")).values()), {1})

    def test_a_killed_supervisor_leaves_nothing_within_2_s(self):
        worker = self.begin("--allow-commands", slots=3)
        mark = self.path("mark")
        script = f"setsid sh -c 'sh -c \"echo $$ >> {mark}; exec sleep 1000\" & exec sleep 1000' & exec sleep 1000"
        for _ in range(2):
            self.quern("submit", "--detach", "quern.command", json.dumps(["sh", "-c", script]), "{}")
        self.quern("submit", "--detach", "block_all", "1000")
        stage.wait_until(lambda: len(self.lines_of("mark")) == 2 and
                         self.status()["tasks"]["running"] == 3, "all to run")
        below = self.descendants(worker.pid)
        self.assertGreaterEqual(len(below), 4 + 2 * 3)
        worker.kill9()
        stage.wait_until(lambda: not any(map(stage.is_alive, below)), "all to be gone", 2)


class Pinning(WorkerStory):
    @staticmethod
    def allowed(pid):
        try:
            with open(f"/proc/{pid}/status", encoding="ascii") as file:
                return [line.split()[1] for line in file if line.startswith("Cpus_allowed_list")][0]
        except OSError:
            return ""  # it has just died

    def test_with_pin_each_slot_has_one_cpu_in_turn_and_what_it_starts_has_the_same(self):
        cpus = sorted(os.sched_getaffinity(0))
        count = 2 * len(cpus) if len(cpus) < 8 else 9
        worker = self.begin("--pin", "--allow-commands", slots=count)
        expected = sorted(str(cpus[i % len(cpus)]) for i in range(count))
        stage.wait_until(lambda: sorted(map(self.allowed, self.processes(worker, "quern-slot"))) == expected, "pinned")
        # From inside a task, by a child of its command; a slot that replaces another has its CPU.
        for _ in range(2):
            outcome = self.command(["sh", "-c", "sh -c 'echo $$; grep Cpus_allowed_list /proc/self/status'"])
            self.assertIn(outcome["result"]["stdout"].split()[-1], expected)
            os.kill(self.processes(worker, "quern-slot")[0], signal.SIGKILL)
            stage.wait_until(lambda: sorted(map(self.allowed, self.processes(worker, "quern-slot"))) == expected, "again")
        mask = self.allowed("self")
        self.assertEqual({self.allowed(pid) for pid in [worker.pid, *self.processes(worker, "quern-zygote")]}, {mask})

    def test_without_it_slots_may_run_anywhere(self):
        worker = self.begin(slots=2)
        self.assertEqual({self.allowed(pid) for pid in self.processes(worker, "quern-slot")}, {self.allowed("self")})


class Ending(WorkerStory):
    def test_a_process_that_was_there_before_the_worker_is_left_alone(self):
        """helper & exec quern-worker"""
        self.broker()
        script = f"sleep 1000 & echo $!; exec {stage.BIN}/quern-worker --module {UNRULY} --slots 1"
        worker = stage.Program("worker", ["sh", "-c", script], self.env, self.directory)
        self.programs.append(worker)
        self.wait_workers()
        helper = int(worker.out[0])
        try:
            os.kill(self.processes(worker, "quern-zygote")[0], signal.SIGKILL)
            worker.wait_log("the zygote died")
            self.works()
            self.assertEqual(worker.process.send_signal(signal.SIGTERM), None)
            self.assertEqual(worker.process.wait(stage.PATIENCE_S), 0)
            self.assertTrue(stage.is_alive(helper))
        finally:
            os.kill(helper, signal.SIGKILL)

    def test_sigterm_finishes_what_runs_and_returns_the_rest_without_blame(self):
        worker = self.begin(slots=2)
        ids = [self.quern("submit", "--detach", "effect", json.dumps(self.path("effects")), "0.7").stdout.strip()
               for _ in range(6)]
        stage.wait_until(lambda: len(self.lines_of("effects")) == 2, "two to run")
        self.assertEqual(worker.end(), 0)
        states = collections.Counter((task["state"], task["attempts"]) for task in self.quern("--json", "list").json)
        self.assertEqual(states, {("done", 1): 2, ("ready", 0): 4})
        self.worker(module=UNRULY)
        for task in ids:
            self.quern("result", task, "--wait")
        self.assertEqual(set(collections.Counter(self.lines_of("effects")).values()), {1})

    def test_sigterm_without_a_broker_waits_to_hand_over_what_has_finished(self):
        broker = self.broker()
        worker = self.worker(module=UNRULY)
        task = self.quern("submit", "--detach", "effect", json.dumps(self.path("effects")), "0.5").stdout.strip()
        self.wait_status(lambda status: status["tasks"]["running"] == 1, "it to run")
        broker.kill9()
        worker.send(signal.SIGTERM)
        worker.wait_log("draining")
        self.broker()
        self.assertEqual(worker.status(), 0)
        shown = self.quern("--json", "show", task).json
        self.assertEqual((shown["state"], shown["attempts"]), ("done", 1))
        self.assertEqual(len(self.lines_of("effects")), 1)

    def test_a_second_sigterm_ends_it_at_once(self):
        worker = self.begin(slots=2)
        for _ in range(2):
            self.quern("submit", "--detach", "block_all", "1000")
        self.wait_status(lambda status: status["tasks"]["running"] == 2, "both to run")
        below = self.descendants(worker.pid)
        worker.send(signal.SIGTERM)
        worker.wait_log("draining")
        worker.send(signal.SIGTERM)
        self.assertEqual(worker.status(10), 0)
        self.assertFalse(any(map(stage.is_alive, below)))
        # It has said so: nobody waits for the end of its lease.
        self.wait_status(lambda status: status["tasks"]["ready"] == 2 and status["tasks"]["running"] == 0, "both to wait")
        rows = [self.quern("--json", "show", task["id"]).json for task in self.quern("--json", "list").json]
        self.assertEqual({(row["attempts"], row["crashes"], row["losses"]) for row in rows}, {(0, 0, 1)})  # they had started: lost with their worker
        self.assertEqual({failure["cause"] for row in rows for failure in row["failures"]}, {"lost"})

    def test_what_may_run_at_most_once_is_lost_with_a_worker_that_ends_at_once(self):
        """It has run, and nobody knows how far; it is not tried again, and what was not started is."""
        worker = self.begin(slots=1)
        path = json.dumps(self.path("effects"))
        task = self.quern("submit", "--detach", "--at-most-once", "effect", path, "1000").stdout.strip()
        other = self.quern("submit", "--detach", "--at-most-once", "effect", path, "0").stdout.strip()
        stage.wait_until(lambda: self.lines_of("effects"), "the first to run")
        worker.send(signal.SIGTERM)
        worker.wait_log("draining")
        worker.send(signal.SIGTERM)
        self.assertEqual(worker.status(10), 0)
        self.quern("result", "--wait", task, status=None)
        shown = self.quern("--json", "show", task).json
        self.assertEqual((shown["state"], shown["cause"]), ("failed", "lost"), shown)
        self.worker(module=UNRULY)
        self.quern("result", "--wait", other)
        self.assertEqual(set(collections.Counter(self.lines_of("effects")).values()), {1})
        self.assertEqual(len(self.lines_of("effects")), 2)


class Killing(WorkerStory):
    """A timeout and a forced cancel end the whole tree of processes, before the outcome is told."""

    def tree(self, how, *args):
        """A task with 7 processes besides its slot runs: its id, and their pids."""
        file = self.path("pids")
        if os.path.exists(file):
            os.unlink(file)
        task = self.quern("submit", "--detach", "tree", json.dumps(file), json.dumps(how), *args).stdout.strip()
        stage.wait_until(lambda: len(self.lines_of("pids")) == 7, "all to run")
        return task, [int(pid) for pid in self.lines_of("pids")]

    def test_a_forced_cancel_kills_whatever_the_task_has_started(self):
        worker = self.begin(slots=2)
        for how in ("plain", "deaf"):
            with self.subTest(how):
                other = self.quern("submit", "--detach", "own_pid").stdout.strip()
                pid = self.quern("result", "--wait", other).json
                before = set(self.processes(worker, "quern-slot"))
                task, pids = self.tree(how)
                self.assertEqual(self.quern("cancel", task, status=4).stdout, "")
                self.assertEqual(self.quern("cancel", "--force", task).stdout, f"{task} cancelled\n")
                self.assertEqual([pid for pid in pids if stage.is_alive(pid)], [])
                shown = self.quern("--json", "show", task).json
                self.assertEqual((shown["state"], shown["cause"]), ("cancelled", None))
                self.assertIn(pid, before)
                after = stage.wait_until(lambda: len(s := set(self.processes(worker, "quern-slot"))) == 2 and s, "a slot")
                self.assertEqual(len(before & after), 1)  # the other slot never noticed
                self.assertEqual(self.quern("cancel", "--force", task).stdout, f"{task} cancelled\n")
                self.works()

    def test_a_timeout_kills_whatever_the_task_has_started(self):
        self.begin(slots=1)
        task, pids = self.tree("deaf", "--timeout", "0.5")
        self.quern("result", task, "--wait", status=None)
        self.assertEqual([pid for pid in pids if stage.is_alive(pid)], [])
        self.assertEqual(self.quern("--json", "show", task).json["cause"], "timeout")
        self.works()

    def test_what_grows_again_wherever_it_is_cut_is_gone_when_the_end_of_its_task_is_told(self):
        """Ten processes, each in a session of its own, that give way to children and replace whoever is missing."""
        self.begin(slots=1, module=os.path.join(stage.BUILD, "tests", "hogs.so"))
        for options in ([], ["--timeout", "0.5"]):
            path = self.path("hydra" + "".join(options))
            task = self.quern("submit", "--detach", *options, "hydra", json.dumps(path), "60000", "10").stdout.strip()
            if not options:
                stage.wait_until(lambda: os.path.exists(path) and os.path.getsize(path) > 50, "it to grow")
                self.quern("cancel", "--force", task)
            self.quern("result", task, "--wait", status=None)
            size = os.path.getsize(path)
            self.assertTrue(0 < size < 20000, f"{size}: it ends by itself after 20,000 births")
            shown = self.quern("--json", "show", task).json
            self.assertEqual((shown["state"], shown["cause"]), ("failed", "timeout") if options else ("cancelled", None))
            self.assertNotIn("could not be killed", shown["message"])
            self.assertTrue(self.ask("hog", "1", "1")["ok"])
            self.assertEqual(os.path.getsize(path), size)

    def test_a_slot_that_ends_by_itself_takes_along_what_it_started(self):
        self.begin(slots=1)
        task, pids = self.tree("exit", "--at-most-once")
        self.quern("result", task, "--wait", status=None)
        self.assertEqual([pid for pid in pids if stage.is_alive(pid)], [])
        self.works()

    def test_without_a_zygote_the_supervisor_clears_away(self):
        worker = self.begin(slots=1)
        task, pids = self.tree("deaf")
        os.kill(self.processes(worker, "quern-zygote")[0], signal.SIGKILL)
        worker.wait_log("the zygote died")
        self.quern("cancel", "--force", task)
        self.assertEqual([pid for pid in pids if stage.is_alive(pid)], [])
        self.works()

    def test_a_stopped_zygote_is_replaced_and_nothing_stays(self):
        worker = self.begin(slots=1)
        task, pids = self.tree("deaf")
        os.kill(self.processes(worker, "quern-zygote")[0], signal.SIGSTOP)
        self.quern("cancel", "--force", task)
        self.assertEqual([pid for pid in pids if stage.is_alive(pid)], [])
        self.works()

    def test_a_handler_that_asks_has_time_to_clear_up(self):
        self.begin(slots=1)
        for cancel in (True, False):
            with self.subTest(cancel=cancel):
                task, pids = self.tree("asks", *([] if cancel else ["--timeout", "0.5"]))
                if cancel:
                    self.quern("cancel", "--force", task)
                self.quern("result", task, "--wait", status=None)
                pids = [int(pid) for pid in self.lines_of("pids")]
                self.assertEqual(len(pids), 8)  # the last is its own: it came to its end
                self.assertEqual([pid for pid in pids if stage.is_alive(pid)], [])
                shown = self.quern("--json", "show", task).json
                self.assertEqual((shown["state"], shown["cause"]),
                                 ("cancelled", None) if cancel else ("failed", "timeout"))

    def test_what_was_killed_as_asked_does_not_come_back(self):
        """Whatever its options say of other failures, and whether the broker dies meanwhile or not."""
        for kill in (False, True):
            broker = self.broker()
            worker = self.worker(module=UNRULY)
            self.wait_workers()
            tasks = [self.quern("submit", "--detach", "effect", json.dumps(self.path("effects")), "1000",
                                *options).stdout.strip()
                     for options in (["--at-most-once"], ["--attempts", "5"])]
            self.wait_status(lambda status: status["tasks"]["running"] == 2, "both to run")
            self.quern("cancel", "--force", *tasks)
            if kill:
                broker.kill9()
                broker = self.broker()
                self.wait_workers()
            for task in tasks:
                self.assertEqual(self.quern("--json", "show", task).json["state"], "cancelled")
            self.works()
            self.assertEqual(set(collections.Counter(self.lines_of("effects")).values()), {1})
            self.assertEqual(worker.end(), 0)
            self.assertEqual(broker.end(), 0)

    def test_one_that_finished_first_keeps_its_outcome(self):
        self.begin()
        task = self.quern("submit", "--detach", "good", "1").stdout.strip()
        self.quern("result", task, "--wait")
        self.assertIn("has its outcome already", self.quern("cancel", "--force", task, status=4).stderr)
        self.assertEqual(self.quern("result", task).stdout, "2\n")

    def begin_endless(self, path):
        """A task that runs, and does not end by itself."""
        task = self.quern("submit", "--detach", "--priority", "9", "effect", json.dumps(path), "1000").stdout.strip()
        stage.wait_until(lambda: self.quern("--json", "show", task).json["state"] == "running", "it to run")
        return task

    def test_forced_cancels_race_with_ends(self):
        """Whatever came first, the answer and the outcome agree, and who was not named is not touched: another one runs
        beside them all the time. In each round one is named that runs and would not end, and one that has ended, so both
        answers are there."""
        count = 1500
        effects = self.path("effects")
        self.begin(slots=3)
        bystander = self.begin_endless(effects)
        client = self.quern_start("map", "effect", "--raw", "--jsonl", stdin=subprocess.PIPE)
        client.write((effects + "\n") * count)
        client.wait_out_count(1)
        series = json.loads(client.out[0])["id"].split("-")[0]
        codes = collections.defaultdict(set)
        for _ in range(10):
            endless = self.begin_endless(effects)
            ended = json.loads(client.out[-1])["id"]
            first = len(client.out) + random.randrange(20)
            answers = self.quern("--json", "cancel", "--force", endless, ended,
                                 *(f"{series}-{n}" for n in range(first, min(first + 10, count))), status=None)
            answers = {answer["id"]: answer["code"] for answer in map(json.loads, answers.lines)}
            self.assertEqual(answers[endless], "ok")
            self.assertEqual(self.quern("--json", "show", endless).json["state"], "cancelled")
            for task, code in answers.items():
                codes[task].add(code)
        shown = self.quern("--json", "show", bystander).json
        self.assertEqual((shown["state"], shown["attempt"], shown["crashes"]), ("running", 1, 0))
        client.close_stdin()
        client.status()
        outcomes = {outcome["id"]: outcome for outcome in map(json.loads, client.out)}
        self.assertEqual((len(client.out), len(outcomes)), (count, count))
        written = collections.Counter(f"{int(task) >> 32}-{int(task) & 0xffffffff}" for task in self.lines_of("effects"))
        for task, outcome in outcomes.items():
            if "ok" in codes[task]:
                self.assertEqual((outcome["ok"], outcome["error"]["cause"]), (False, "cancelled"))
                self.assertLessEqual(written[task], 1)
            else:
                self.assertEqual((outcome["ok"], outcome["attempts"], written[task]), (True, 1, 1), codes[task])
        self.assertLessEqual(set().union(*codes.values()), {"ok", "finished", "unknown"})
        self.assertGreaterEqual(sum("finished" in said for said in codes.values()), 1)
        self.assertEqual(written[bystander], 1)
        self.quern("cancel", "--force", bystander)
        self.works()


class KillingWithoutCgroups(Killing):
    """The same where no cgroup does it: by walking through the tree."""

    def begin(self, *args, **options):
        return super().begin("--cgroup", "off", *args, **options)


class Recycling(WorkerStory):
    """A slot is replaced after so many tasks, or when it has grown; nothing is lost, and nobody is blamed."""

    def pids(self, function, argument, count):
        """Which slots ran that many tasks, and how many each."""
        lines = f"{argument}\n" * count
        done = [json.loads(line) for line in self.quern("map", function, "--jsonl", input=lines).lines]
        self.assertEqual(len(done), count)
        self.assertEqual({outcome["attempts"] for outcome in done}, {1})
        return collections.Counter(outcome["result"] for outcome in done)

    def test_a_slot_runs_no_more_than_its_share(self):
        self.begin("--max-tasks-per-slot", 7, slots=2)
        counts = self.pids("own_pid", 0, 300)
        self.assertEqual(max(counts.values()), 7)
        self.assertGreaterEqual(len(counts), 300 // 7)
        self.assertEqual(sum(1 for count in counts.values() if count < 7) <= 2, True, counts)

    def test_one_task_a_slot(self):
        self.begin("--max-tasks-per-slot", 1, slots=2)
        self.assertEqual(set(self.pids("own_pid", 0, 40).values()), {1})

    def test_a_slot_that_has_grown_is_replaced_after_its_task(self):
        self.begin("--max-memory-per-slot", "30M", slots=1)
        counts = self.pids("leak", 20 << 20, 12)  # the second task is one too many, the third another slot's
        self.assertEqual(set(counts.values()), {2})
        self.assertEqual(len(self.pids("leak", 1000, 50)), 1)

    def test_slots_are_kept_without_a_limit(self):
        self.begin(slots=1)
        self.assertEqual(len(self.pids("leak", 20 << 20, 12)), 1)


class Births(WorkerStory):
    """Two ways to make a slot, and what is done in each once."""

    def births(self, worker, count=2):
        self.wait_status(lambda status: len(self.processes(worker, "quern-slot")) == count, "slots")
        found = {}
        while len(found) < count:
            for outcome in map(json.loads, self.quern("map", "births", "--jsonl", input="1\n" * 20).lines):
                found[outcome["result"][3]] = outcome["result"]
        return list(found.values())

    def test_forked_slots_share_what_was_initialised_once(self):
        worker = self.begin(slots=2)
        zygote = self.processes(worker, "quern-zygote")[0]
        for initialised, slot_initialised, times, own in self.births(worker):
            self.assertEqual((initialised, slot_initialised, times), (zygote, own, 1))

    def test_spawned_slots_are_fresh_starts(self):
        worker = self.begin("--start", "spawn", slots=2)
        for initialised, slot_initialised, times, own in self.births(worker):
            self.assertEqual((initialised, slot_initialised, times), (own, own, 1))
            with open(f"/proc/{own}/cmdline", "rb") as file:
                self.assertIn(b"--quern-slot", file.read())
        with open(f"/proc/{self.processes(worker, 'quern-zygote')[0]}/maps", encoding="utf-8") as maps:
            self.assertNotIn("unruly", maps.read())  # nothing is loaded where slots are made

    def test_spawned_slots_do_all_that_forked_ones_do(self):
        worker = self.begin("--start", "spawn", "--allow-commands", slots=2)
        self.works()
        self.assertEqual(self.ask("abort")["error"]["cause"], "quarantined")
        self.assertEqual(self.command(["echo", "hello"])["result"]["stdout"], "hello\n")
        task = self.quern("submit", "--detach", "block_all", "1000").stdout.strip()
        self.wait_status(lambda status: status["tasks"]["running"] == 1, "it to run")
        self.assertEqual(self.quern("cancel", "--force", task).stdout, f"{task} cancelled\n")
        os.kill(self.processes(worker, "quern-zygote")[0], signal.SIGKILL)
        worker.wait_log("the zygote died")
        self.works()
        below = self.descendants(worker.pid)
        worker.kill9()
        stage.wait_until(lambda: not any(map(stage.is_alive, below)), "all to be gone", 10)

    def test_a_module_that_starts_a_thread_can_be_spawned(self):
        for how in ("thread", "thread-at-load"):
            worker = self.begin("--start", "spawn", env={"UNRULY": how})
            self.works()
            self.assertEqual(worker.end(), 0)
            self.assertEqual(self.programs[0 if how == "thread" else 2].end(), 0)

    def refused(self, *args, **env):
        done = subprocess.run([os.path.join(stage.BIN, "quern-worker"), "--module", UNRULY, *args],
                              env={**self.env, **env}, capture_output=True, timeout=stage.PATIENCE_S)
        self.assertEqual(done.returncode, 1, done.stderr)
        return done.stderr.decode()

    def test_nonsense_in_the_zygotes_name_is_a_module_that_cannot_be_loaded(self):
        """An initialiser runs in the zygote and may spoil whatever that says: the supervisor does not believe it."""
        done = subprocess.run([os.path.join(stage.BIN, "quern-worker"), "--module", os.path.join(stage.BUILD, "tests", "liar.so")],
                              env=self.env, capture_output=True, text=True, timeout=stage.PATIENCE_S)
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn("a module, or its initialiser, died while it was loaded", done.stderr)

    def check_lie(self, word, pid_of, about, slots=2):
        """Of one zygote that says something of a process: it is replaced, and nobody else notices."""
        liar = os.path.join(stage.BUILD, "tests", "liar.so")
        worker = self.begin("--module", liar, slots=slots, env={"LIAR": self.path("lie")})
        task = self.quern("submit", "--detach", "effect", json.dumps(self.path("effects")), "2").stdout.strip()
        stage.wait_until(lambda: self.lines_of("effects"), "it to run")
        zygote = self.processes(worker, "quern-zygote")[0]
        with open(self.path("new"), "w", encoding="ascii") as file:
            file.write(f"{word} {pid_of(worker)}")
        os.rename(self.path("new"), self.path("lie"))
        self.assertIn(about, worker.wait_log("the zygote talks nonsense"))
        stage.wait_until(lambda: not stage.is_alive(zygote), "it to be killed")
        self.works()
        self.quern("result", "--wait", task)
        shown = self.quern("--json", "show", task).json
        self.assertEqual((shown["attempts"], shown["failures"]), (1, []))
        stage.wait_until(lambda: len(self.processes(worker, "quern-slot")) == slots, "slots")
        self.works()
        self.assertEqual(worker.end(), 0)

    def test_a_zygote_that_tells_the_death_of_a_slot_that_lives_is_not_believed(self):
        """Its task would be told as crashed, and run on."""
        self.check_lie("dead", lambda worker: self.processes(worker, "quern-slot")[0], "the end of a slot that is alive", slots=1)

    def test_a_slot_that_nobody_asked_for_is_not_taken(self):
        """Whatever process it may be: it would be killed some day, with its whole group."""
        self.check_lie("born", lambda worker: os.getpid(), "a slot")

    def test_a_word_that_is_none_is_the_end_of_its_zygote(self):
        self.check_lie("word", lambda worker: 0, "nothing that it may say")

    def test_a_slot_that_cannot_be_initialised_is_told_once_and_clearly(self):
        for start in ("fork-server", "spawn"):
            for how, text in (("slot-fail", "its initialiser of slots failed: the device is busy"),
                              ("slot-crash", "slots die before they take tasks.*signal 6")):
                said = self.refused("--start", start, UNRULY=how)
                lines = [line for line in said.splitlines() if line.startswith("quern-worker: ")]
                self.assertEqual(len(lines), 1, said)
                self.assertRegex(lines[0], text)
        for how, text in (("fail", "the model is missing"), ("crash", "signal 6")):
            self.assertIn(text, self.refused("--start", "spawn", UNRULY=how))

    def test_a_start_that_is_none_is_wrong_usage(self):
        done = subprocess.run([os.path.join(stage.BIN, "quern-worker"), "--module", UNRULY, "--start", "magic"],
                              env=self.env, capture_output=True, timeout=stage.PATIENCE_S)
        self.assertEqual(done.returncode, 2)
        self.assertIn(b"--start: fork-server or spawn", done.stderr)

    def test_a_worker_whose_slots_can_no_longer_be_initialised_takes_no_tasks_until_they_can(self):
        file = self.path("busy")
        worker = self.begin(slots=1, env={"UNRULY": "slot-fail", "UNRULY_WHILE": file})
        self.works()
        with open(file, "w", encoding="utf-8"):
            pass
        os.kill(self.processes(worker, "quern-slot")[0], signal.SIGKILL)
        worker.wait_log("the device is busy")
        tasks = [self.quern("submit", "--detach", "good", str(n)).stdout.strip() for n in range(5)]
        self.wait_status(lambda status: status["tasks"]["ready"] == 5, "all to wait")
        stage.wait_until(lambda: self.status()["workers"][0]["capacity"] == 0, "no capacity")
        os.unlink(file)
        for n, task in enumerate(tasks):
            self.assertEqual(self.quern("result", "--wait", task).stdout, f"{n + 1}\n")
        self.assertEqual(sum("the device is busy" in line for line in worker.log), 1)

    def test_a_zygote_whose_successor_cannot_be_initialised_costs_no_task_and_is_told_once(self):
        """What runs ends, what waits waits, until the initialiser succeeds again."""
        self.check_successor("fail", 1, 1)

    def test_nor_one_whose_successors_crash(self):
        """Each of them is an event of its own, a second after the last."""
        self.check_successor("crash", 3, 99)

    def check_successor(self, how, least, most):
        file = self.path("missing")
        text = {"fail": "the model is missing", "crash": "the zygote died"}[how]
        worker = self.begin(slots=2, env={"UNRULY": how, "UNRULY_WHILE": file})
        running = self.quern("submit", "--detach", "effect", json.dumps(self.path("effects")), "4").stdout.strip()
        stage.wait_until(lambda: self.lines_of("effects"), "it to run")
        with open(file, "w", encoding="utf-8"):
            pass
        os.kill(self.processes(worker, "quern-zygote")[0], signal.SIGKILL)
        stage.wait_until(lambda: sum(text in line for line in worker.log) >= least, "it to be told")
        tasks = [self.quern("submit", "--detach", "good", str(n)).stdout.strip() for n in range(5)]
        self.quern("result", "--wait", running)
        self.assertLessEqual(sum(text in line for line in worker.log), most)
        os.unlink(file)
        for n, task in enumerate(tasks):
            self.assertEqual(self.quern("result", "--wait", task).stdout, f"{n + 1}\n")
        rows = [self.quern("--json", "show", task).json for task in [running, *tasks]]
        self.assertEqual({(row["state"], row["attempts"], len(row["failures"])) for row in rows}, {("done", 1, 0)})
        self.assertEqual(worker.end(), 0)

    def test_modules_that_changed_on_disk_are_not_taken_for_the_old_ones(self):
        """A function's index would mean another function."""
        module = self.path("module.so")
        shutil.copy(UNRULY, module)
        worker = self.begin("--start", "spawn", slots=1, module=module)
        self.works()
        shutil.copy(stage.MODULE, module + ".new")
        os.rename(module + ".new", module)
        os.kill(self.processes(worker, "quern-slot")[0], signal.SIGKILL)
        worker.wait_log("modules changed on disk: restart the worker")
        task = self.quern("submit", "--detach", "good", "1").stdout.strip()
        self.wait_status(lambda status: status["tasks"]["ready"] == 1, "it to wait")
        self.assertEqual(worker.end(), 0)
        self.worker(slots=1, module=UNRULY)
        self.assertEqual(self.quern("result", "--wait", task).stdout, "2\n")


class Parents(WorkerStory):
    """A worker of an embedded pool ends with the program that started it."""

    def owned(self, *args, fd, **env):
        worker = self.worker("--parent-fd", fd, *args, module=UNRULY, env=env, pass_fds=[fd])
        os.close(fd)
        return worker

    def test_it_ends_at_once_and_whole_when_the_other_end_is_closed(self):
        self.broker()
        for ends in (lambda: os.pipe(), lambda: os.pipe()[::-1], lambda: [s.detach() for s in socket.socketpair()]):
            theirs, ours = ends()
            worker = self.owned(fd=theirs)
            self.wait_workers()
            self.quern("submit", "--detach", "block_all", "1000")
            self.wait_status(lambda status: status["tasks"]["running"] > 0, "it to run")
            below = self.descendants(worker.pid)
            os.close(ours)
            self.assertEqual(worker.status(10), 0)
            self.assertFalse(any(map(stage.is_alive, below)))

    def test_it_ends_when_its_parent_is_killed(self):
        self.broker()
        script = ("import os, signal, subprocess\n"
                  "r, w = os.pipe()\n"
                  f"p = subprocess.Popen(['{stage.BIN}/quern-worker', '--module', '{UNRULY}', '--parent-fd', str(r)], "
                  "pass_fds=[r], stdout=subprocess.DEVNULL)\n"
                  "print(p.pid, flush=True)\n"
                  "signal.pause()\n")
        parent = stage.Program("parent", [sys.executable, "-c", script], self.env, self.directory)
        self.programs.append(parent)
        self.wait_workers()
        self.quern("submit", "--detach", "block_all", "1000")
        self.wait_status(lambda status: status["tasks"]["running"] == 1, "it to run")
        below = self.descendants(parent.pid)
        self.assertGreaterEqual(len(below), 3)
        os.kill(parent.pid, signal.SIGKILL)
        stage.wait_until(lambda: not any(map(stage.is_alive, below)), "all to be gone", 10)

    def test_it_ends_while_an_initialiser_takes_its_time(self):
        theirs, ours = os.pipe()
        worker = self.owned(fd=theirs, UNRULY="hang")
        below = stage.wait_until(lambda: self.processes(worker, "quern-zygote"), "a zygote")
        os.close(ours)
        self.assertEqual(worker.status(10), 0)
        self.assertFalse(any(map(stage.is_alive, below)))

    def test_the_ready_line_goes_where_it_is_told_to(self):
        self.broker()
        theirs, ours = [end.detach() for end in socket.socketpair()]
        worker = self.owned("--ready-fd", theirs, "--name", "mine", fd=theirs)
        self.assertEqual(os.read(ours, 100), b"ready mine slots=2\n")
        self.works()  # and the tie holds
        self.assertEqual(worker.out, [])
        os.close(ours)
        self.assertEqual(worker.status(10), 0)

    def test_the_ready_line_may_go_to_a_descriptor_of_its_own(self):
        self.broker()
        ours, theirs = os.pipe()
        self.worker("--ready-fd", theirs, module=UNRULY, pass_fds=[theirs])
        os.close(theirs)
        with open(ours, encoding="utf-8") as file:
            self.assertRegex(file.read(), "^ready [^ ]+ slots=2\n$")  # to its end: it is closed then

    def test_what_is_no_tie_is_refused(self):
        with open("/dev/null", "rb") as null:
            for number in ("99", "x", "-1", "", str(null.fileno())):
                done = subprocess.run([os.path.join(stage.BIN, "quern-worker"), "--module", UNRULY, "--parent-fd", number],
                                      env=self.env, capture_output=True, pass_fds=[null.fileno()],
                                      timeout=stage.PATIENCE_S)
                self.assertEqual(done.returncode, 2)
                self.assertIn(b"--parent-fd", done.stderr)


class Cancelling(WorkerStory):
    def test_what_was_cancelled_has_not_run_and_what_ran_was_not_cancelled(self):
        """Cancels race with starts; effects are counted."""
        count = 3000
        self.begin(slots=2)
        file = self.path("effects")
        client = self.quern_start("map", "slow_effect", "--raw", "--jsonl", stdin=subprocess.PIPE)
        client.write((file + "\n") * count)
        client.wait_out_count(1)
        series = json.loads(client.out[0])["id"].split("-")[0]
        while len(client.out) < count // 2:  # what is about to start, each time
            first = len(client.out) + random.randrange(150)
            self.quern("cancel", *(f"{series}-{n}" for n in range(first, first + 25)), status=None)
        self.quern("cancel", *(f"{series}-{n}" for n in range(count, count - 25, -1)), status=None)
        client.close_stdin()
        client.status()
        outcomes = [json.loads(line) for line in client.out]
        self.assertEqual(len(outcomes), count)
        cancelled = {outcome["id"] for outcome in outcomes if not outcome["ok"]}
        effects = collections.Counter(f"{int(task) >> 32}-{int(task) & 0xffffffff}" for task in self.lines_of("effects"))
        self.assertEqual(cancelled & set(effects), set())
        self.assertEqual(cancelled | set(effects), {outcome["id"] for outcome in outcomes})
        self.assertEqual(set(effects.values()), {1})
        self.assertGreater(len(cancelled), 0)


class Commands(WorkerStory):
    def test_a_working_directory_that_is_none_is_named_with_the_reason(self):
        self.begin("--allow-commands", module=None)
        with open(self.path("file"), "w", encoding="utf-8"):
            pass
        for cwd, reason in (("/nonexistent", "does not exist"), (self.path("file"), "Not a directory"),
                            ("/" + "x" * 300, "File name too long")):
            error = self.command(["true"], cwd=cwd)["error"]
            self.assertEqual(error["kind"], "NoDirectory")
            self.assertIn(reason, error["message"])

    @unittest.skipIf(os.geteuid() == 0, "root may enter every directory")
    def test_a_working_directory_that_may_not_be_entered_is_no_missing_command(self):
        self.begin("--allow-commands", module=None)
        os.mkdir(self.path("closed"), 0o000)
        error = self.command(["true"], cwd=self.path("closed"))["error"]
        self.assertEqual(error["kind"], "NoDirectory")
        self.assertIn("Permission denied", error["message"])

    def test_the_path_of_the_environment_is_where_a_command_is_looked_for(self):
        self.begin("--allow-commands", module=None)
        os.mkdir(self.path("tools"))
        tool = self.path("tools", "only-here")
        with open(tool, "w", encoding="utf-8") as file:
            file.write("#!/bin/sh\necho found\n")
        os.chmod(tool, 0o755)
        outcome = self.command(["only-here"], env={"PATH": self.path("tools") + ":/usr/bin:/bin"})
        self.assertEqual(outcome["result"]["stdout"], "found\n")
        self.assertEqual(self.command(["only-here"])["error"]["kind"], "NotFound")

    def test_a_missing_interpreter_is_not_a_missing_command(self):
        self.begin("--allow-commands", module=None)
        tool = self.path("tool")
        with open(tool, "w", encoding="utf-8") as file:
            file.write("#!/nonexistent/interpreter\n")
        os.chmod(tool, 0o755)
        error = self.command([tool])["error"]
        self.assertEqual(error["kind"], "NotStarted")
        self.assertIn("interpreter", error["message"])


if __name__ == "__main__":
    stage.main()
