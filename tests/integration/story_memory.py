"""What tasks take of their host's memory, tried with real processes: limits and who keeps them, limits that grow, tasks
that run alone, and a floor of free memory. modules/hogs.c brings the functions; none takes more than 400 MiB."""

import json
import os
import signal
import subprocess
import unittest

import stage

TELLER = os.path.join(stage.BUILD, "tests", "teller")
HOGS = os.path.join(stage.BUILD, "tests", "hogs.so")
LONG_MS = 60000  # nobody waits for it: it is ended before


class Memory(stage.Story):
    def begin(self, *args, slots=2, **options):
        self.broker()
        worker = self.worker(*args, slots=slots, module=HOGS, **options)
        self.wait_workers()
        return worker

    def ask(self, *args):
        """What became of one task, as an object."""
        return self.quern("--json", "submit", *args, status=None).json

    def show(self, task):
        return self.quern("--json", "show", task).json

    def detach(self, *args):
        return self.quern("submit", "--detach", *args).stdout.strip()

    def state(self, task):
        return self.show(task)["state"]

    def notes(self, name):
        try:
            with open(self.path(name), encoding="utf-8") as file:
                return [line.split() for line in file.read().splitlines()]
        except FileNotFoundError:
            return []

    def assert_over(self, outcome, least, most):
        """It was stopped for its memory, and the message says how much it had: MiB."""
        self.assertFalse(outcome["ok"], outcome)
        error = outcome["error"]
        self.assertEqual((error["cause"], error["kind"]), ("memory", "MemoryLimit"), outcome)
        taken = float(error["message"].split("had taken ")[1].split(" MiB")[0])
        self.assertTrue(least <= taken < most, error)


class Limits(Memory):
    def test_an_attempt_over_its_limit_is_stopped_and_the_failure_says_so(self):
        self.begin()
        self.assert_over(self.ask("hog", "300", LONG_MS, "--memory", "100M"), 100, 310)
        self.assertTrue(self.ask("hog", "60", "100", "--memory", "100M")["ok"])
        listed = self.quern("--json", "list", "--cause", "memory").json
        self.assertEqual(len(listed), 1)
        shown = self.show(listed[0]["id"])
        self.assertEqual([(each["cause"], each["signal"]) for each in shown["failures"]], [("memory", 0)])

    def test_the_worker_has_a_limit_for_those_that_name_none(self):
        self.begin("--memory-per-task", "80M")
        self.assert_over(self.ask("hog", "200", LONG_MS), 80, 210)
        self.assertTrue(self.ask("hog", "200", "200", "--memory", "300M")["ok"])

    def test_what_an_attempt_has_started_counts_and_is_killed(self):
        self.begin(env={"HOGS_PID": self.path("pid")})
        self.assert_over(self.ask("family_hog", "200", LONG_MS, "--memory", "100M"), 100, 210)
        self.assertFalse(stage.is_alive(int(self.notes("pid")[0][0])))

    def test_a_command_has_a_limit_too(self):
        self.begin("--allow-commands")
        outcome = self.ask("quern.command", json.dumps(["sh", "-c", "head -c 200M /dev/zero | tail | { sleep 60; cat; }"]), "{}",
                           "--memory", "50M")
        self.assert_over(outcome, 50, 250)

    def test_preloaded_memory_is_nobodys_fault(self):
        limit = 90 if stage.is_sanitized() else 40  # MiB; a sanitizer notes what is read
        self.begin("--memory-per-task", f"{limit}M", env={"HOGS_PRELOAD": "200"})
        self.assertEqual(self.ask("reads", "300")["result"], 200 * 256)
        self.assert_over(self.ask("hog", "150", LONG_MS), limit, 160)

    def test_what_others_left_behind_is_not_counted_against_an_attempt_but_against_its_slot(self):
        self.begin("--memory-per-task", "50M", "--memory-per-slot", "150M", slots=1)
        for _ in range(3):
            self.assertTrue(self.ask("leak", "40", "100")["ok"])
        outcome = self.ask("leak", "40", LONG_MS)
        self.assertEqual(outcome["error"]["cause"], "memory")
        self.assertIn("its slot had taken", outcome["error"]["message"])

    def test_it_is_tried_again_with_a_larger_limit_and_succeeds(self):
        self.begin()
        outcome = self.ask("hog", "150", "400", "--memory", "50M", "--memory-growth", "2", "--attempts", "5")
        self.assertTrue(outcome["ok"], outcome)
        self.assertEqual(outcome["attempts"], 3)
        task = outcome["id"]
        self.assertEqual([failure["cause"] for failure in self.show(task)["failures"]], ["memory", "memory"])

    def test_a_limit_that_grows_ends_at_its_cap(self):
        self.begin()
        outcome = self.ask("hog", "300", LONG_MS, "--memory", "50M", "--memory-growth", "2:60M", "--attempts", "3")
        self.assert_over(outcome, 60, 310)
        self.assertIn("may take 60.0 MiB", outcome["error"]["message"])

    def test_it_is_never_quarantined(self):
        self.begin()
        outcome = self.ask("hog", "300", LONG_MS, "--memory", "50M", "--attempts", "5")
        self.assert_over(outcome, 50, 310)
        failures = self.show(outcome["id"])["failures"]
        self.assertEqual([(each["cause"], each["signal"]) for each in failures], [("memory", 0)] * 5)

    @unittest.skipIf(stage.is_sanitized(), "a sanitizer has terabytes of addresses")
    def test_the_kernel_can_limit_the_addresses_of_slots(self):
        """Of what they start too."""
        self.begin("--rlimit-as", "400M", "--allow-commands")
        self.assertEqual(self.ask("ask_malloc", "20")["result"], True)
        self.assertEqual(self.ask("ask_malloc", "500")["result"], False)
        shown = self.ask("quern.command", json.dumps(["sh", "-c", "ulimit -v"]), "{}")["result"]["stdout"]
        self.assertEqual(shown, f"{400 * 1024}\n")

    @unittest.skipIf(stage.is_sanitized(), "a sanitizer has more memory of its own than that")
    def test_the_kernel_can_limit_slots_too(self):
        self.begin("--rlimit-data", "200M")
        self.assertEqual(self.ask("ask_malloc", "20")["result"], True)
        self.assertEqual(self.ask("ask_malloc", "300")["result"], False)


class Floor(Memory):
    """The worker reads free memory in a directory of ours. Its floor is 1000 MiB; an eighth more must be free to go on."""

    def begin(self, *args, **options):
        self.free(4000)
        return super().begin("--proc", self.path("proc"), "--free-memory-floor", "1000M", *args, **options)

    def free(self, mib, name="proc"):
        os.makedirs(self.path(name), exist_ok=True)
        with open(self.path(name, "new"), "w", encoding="ascii") as file:
            file.write(f"MemTotal:       8192000 kB\nMemFree:             4 kB\nMemAvailable:   {mib * 1024} kB\n")
        os.rename(self.path(name, "new"), self.path(name, "meminfo"))

    def wait_scarce(self, word="memory"):
        self.wait_status(lambda status: [w["scarce"] for w in status["workers"]] == [word], f"scarce {word}")

    def submit_until_scarce(self, *call):
        """It looks only when something is to start, and not each time: those that it has not run."""
        tasks = []

        def is_scarce():
            tasks.append(self.detach(*call))
            return self.status()["workers"][0]["scarce"] == "memory"

        stage.wait_until(is_scarce, "memory is short")
        return [task for task in tasks if self.state(task) != "done"]

    def beside(self, ms):
        return self.detach("beside", json.dumps(self.path("notes")), ms)

    def test_below_it_nothing_new_starts_and_above_it_all_goes_on(self):
        worker = self.begin(slots=3)
        running = self.beside(1500)
        stage.wait_until(lambda: self.notes("notes"), "it runs")
        self.free(900)
        held_up = self.submit_until_scarce("beside", json.dumps(self.path("notes")), "1")
        held_up += [self.beside(1) for _ in range(4)]
        # What had reached the worker goes back without blame, so that others could run it.
        stage.wait_until(lambda: all(self.state(task) == "ready" for task in held_up), "they are given back")
        self.assertEqual(self.quern("--json", "explain", held_up[0]).json["why"], "memory")
        self.assertIn("free memory is below their floor", self.quern("explain", held_up[0]).stdout)
        self.assertIn("STARTS NOTHING NEW", self.quern("status").stdout)
        self.quern("result", running, "--wait")  # what runs goes on
        self.assertEqual({self.state(task) for task in held_up}, {"ready"})
        self.free(1200)
        for task in held_up:
            self.quern("result", task, "--wait")
            shown = self.show(task)
            self.assertEqual((shown["attempts"], shown["failures"]), (1, []))
        self.wait_scarce(None)
        changes = [line for line in worker.log if "its floor" in line]
        self.assertEqual(len(changes), 2, changes)  # no flapping, and not a line for every look

    def test_another_host_runs_it(self):
        self.free(100, "little")
        self.begin(slots=2)
        self.worker("--proc", self.path("little"), "--free-memory-floor", "1000M", "--name", "poor", slots=2,
                    module=HOGS)
        self.wait_workers(2)
        tasks = [self.beside(20) for _ in range(20)]
        for task in tasks:
            self.quern("result", task, "--wait")
            self.assertNotEqual(self.show(task)["worker"], "poor")

    def test_what_a_handler_waits_for_may_start(self):
        self.free(4000)
        self.broker()
        nest = os.path.join(stage.BUILD, "tests", "nest.so")
        self.worker("--proc", self.path("proc"), "--free-memory-floor", "1000M", slots=2, module=nest)
        self.wait_workers()
        # One waits until a second has come, which never does before memory is short.
        task = self.detach("descend", "3", json.dumps(self.path("met")), "2")
        stage.wait_until(lambda: os.path.exists(self.path("met")), "it waits")
        self.free(900)
        other = self.submit_until_scarce("leaf", "5")[0]
        with open(self.path("met"), "ab") as file:
            file.write(b".")
        self.assertEqual(self.quern("result", task, "--wait").stdout, "3\n")
        self.assertIn(self.state(other), ("leased", "ready"))  # on its way back, or there
        self.free(4000)
        self.assertEqual(self.quern("result", other, "--wait").stdout, "5\n")

    def test_with_all_of_the_real_memory_as_its_floor_nothing_starts_and_it_says_so(self):
        worker = super().begin("--free-memory-floor", "100%")
        task = self.detach("hog", "1", "1")
        worker.wait_log("free memory is below its floor")
        self.wait_scarce()
        stage.wait_until(lambda: self.state(task) == "ready", "it is given back")
        self.assertEqual(worker.end(), 0)

    def test_there_is_a_floor_by_default_and_0_is_none(self):
        self.broker()
        self.free(100)
        self.worker("--proc", self.path("proc"), "--name", "b")
        self.worker("--proc", self.path("proc"), "--free-memory-floor", "0", "--name", "c", module=HOGS)
        self.wait_workers(2)
        says = {worker["name"]: worker["memory"] for worker in self.status()["workers"]}
        self.assertIn("7.8 GiB usable, nothing starts below 400 MiB free", says["b"])
        self.assertIn("7.8 GiB usable, no floor", says["c"])
        self.assertIn("7.8 GiB usable, nothing starts below 400 MiB free", self.quern("status").stdout)
        self.assertTrue(self.ask("hog", "1", "1")["ok"])
        self.quern("submit", "square", "7", "--detach")
        self.wait_status(lambda status: "memory" in [worker["scarce"] for worker in status["workers"]], "short")


class Killer(Memory):
    """The kernel's memory killer is played by us: it counts whom it killed in vmstat."""

    def count(self, number):
        os.makedirs(self.path("proc"), exist_ok=True)
        with open(self.path("proc", "new"), "w", encoding="ascii") as file:
            file.write(f"pgfault 7\noom_kill {number}\nswap_ra 0\n")
        os.rename(self.path("proc", "new"), self.path("proc", "vmstat"))

    @staticmethod
    def name_of(pid):
        try:
            with open(f"/proc/{pid}/comm", encoding="ascii") as file:
                return file.read().strip()
        except OSError:
            return None

    def killed(self, number):
        """The failure of a task whose slot was killed, with that count of the kernel's then."""
        task = self.detach("beside", json.dumps(self.path("notes")), LONG_MS)
        stage.wait_until(lambda: self.state(task) == "running", "it runs")
        slots = [pid for pid in self.descendants(self.worker_pid) if self.name_of(pid) == "quern-slot"]
        self.count(number)
        for slot in slots:
            os.kill(slot, signal.SIGKILL)
        failure = stage.wait_until(lambda: self.show(task)["failures"], "its slot has died")[0]
        self.quern("cancel", "--force", task)
        self.quern("result", task, "--wait", status=None)
        return failure

    def test_a_death_by_a_killer_that_was_at_work_says_so_and_is_a_crash_all_the_same(self):
        self.count(5)
        self.worker_pid = self.begin("--proc", self.path("proc"), "--cgroup", "off", slots=1).pid
        failure = self.killed(5)
        self.assertNotIn("memory", failure["message"])
        failure = self.killed(6)
        self.assertIn("killed, probably by the kernel's memory killer", failure["message"])
        self.assertEqual((failure["cause"], failure["signal"]), ("crashed", 9))


class Figures(Memory):
    """What a task took is told of that task alone, though its slot has run others."""

    def figures(self, *words):
        shown = self.show(self.ask(*words)["id"])
        self.assertEqual(shown["state"], "done", shown["message"])
        return shown

    def test_the_cpu_time_of_a_handler_is_its_own(self):
        self.begin(slots=1)
        burnt = self.figures("burn", "150")
        self.assertTrue(140000 <= burnt["cpu_us"] <= burnt["run_us"] + 20000, burnt)
        slept = self.figures("hog", "1", "200")
        self.assertLess(slept["cpu_us"], 100000)
        self.assertGreaterEqual(slept["run_us"], 200000)
        burnt = self.figures("burn", "100")
        self.assertTrue(90000 <= burnt["cpu_us"] < 140000 + slept["cpu_us"], burnt)

    def test_the_cpu_time_of_one_that_was_stopped_is_its_own_too(self):
        self.begin(slots=1)
        self.figures("burn", "300")
        shown = self.show(self.ask("burn", LONG_MS, "--timeout", "0.2")["id"])
        self.assertEqual(shown["cause"], "timeout")
        self.assertTrue(0 < shown["cpu_us"] < shown["run_us"] + 100000, shown)

    def test_the_peak_of_a_handler_is_told(self):
        """Of its process: a slot that has once had as much says so of later ones."""
        self.begin(slots=1)
        self.assertLess(self.figures("burn", "5")["peak_kib"], 60 * 1024 if not stage.is_sanitized() else 1 << 30)
        self.assertGreater(self.figures("hog", "80", "20")["peak_kib"], 80 * 1024)


class Alone(Memory):
    def check_alone(self, task, other):
        """It failed beside the other, and ran again when nothing else did."""
        for each in (other, task):
            self.quern("result", each, "--wait")
        self.assertEqual([failure["cause"] for failure in self.show(task)["failures"]], ["memory"])
        number = {name: str(int(name.split("-")[0]) << 32 | int(name.split("-")[1])) for name in (other, task)}
        self.assertEqual(self.notes("notes"), [["begin", number[other]], ["end", number[other]],
                                               ["begin", number[task]], ["end", number[task]]])

    def test_after_it_took_too_much_memory_it_runs_again_alone(self):
        self.begin(slots=3)
        path = json.dumps(self.path("notes"))
        other = self.detach("beside", path, "2000")
        stage.wait_until(lambda: self.notes("notes"), "the other runs")
        task = self.detach("hogs_first", path, "20", "--attempts", "2", "--backoff", "0.001", "--memory", "50M",
                           "--alone-on-retry")
        stage.wait_until(lambda: self.show(task)["failures"], "it is stopped")
        self.assertEqual(self.state(other), "running")
        self.check_alone(task, other)

    def tell(self, retry, *words):
        done = subprocess.run([TELLER, *words], env={**self.env, "TELLER_RETRY": retry}, cwd=self.directory, text=True,
                              capture_output=True, check=True, timeout=stage.PATIENCE_S)
        return {name: bytes.fromhex(value).decode() for name, _, value in
                (line.partition(" ") for line in done.stdout.splitlines()) if name in ("id", "cause", "attempts")}

    def test_a_c_program_asks_for_more_memory_for_the_next_attempt(self):
        self.begin()
        told = self.tell("grow", "hog", "+150", "+3000" if stage.is_sanitized() else "+400")  # ms: it must be seen
        self.assertEqual((told["cause"], told["attempts"]), ("none", "3"), told)
        self.assertEqual([failure["cause"] for failure in self.show(told["id"])["failures"]], ["memory", "memory"])

    def test_a_c_program_asks_that_the_next_attempt_runs_alone(self):
        self.begin(slots=3)
        other = self.detach("beside", json.dumps(self.path("notes")), "2000")
        stage.wait_until(lambda: self.notes("notes"), "the other runs")
        told = self.tell("alone", "hogs_first", self.path("notes"), "+20")
        self.assertEqual((told["cause"], told["attempts"]), ("none", "2"), told)
        self.check_alone(told["id"], other)

    def test_nothing_runs_beside_it_and_what_comes_later_waits_for_it(self):
        self.begin(slots=4)
        path = self.path("notes")
        tasks = [self.detach("beside", json.dumps(path), "300") for _ in range(3)]
        stage.wait_until(lambda: len(self.notes("notes")) >= 1, "the first runs")
        alone = self.detach("beside", json.dumps(path), "200", "--alone")
        tasks += [self.detach("beside", json.dumps(path), "50") for _ in range(6)]
        for task in tasks + [alone]:
            self.quern("result", task, "--wait")
        notes = [(word, int(number)) for word, number in self.notes("notes")]
        series, sequence = map(int, alone.split("-"))
        at = notes.index(("begin", series << 32 | sequence))
        self.assertEqual(notes[at + 1], ("end", series << 32 | sequence))
        begun = [number for word, number in notes[:at] if word == "begin"]
        ended = [number for word, number in notes[:at] if word == "end"]
        self.assertEqual(sorted(begun), sorted(ended))
        self.assertEqual(len(begun), 3)

    def test_only_from_its_second_attempt_on(self):
        self.begin(slots=3)
        path = json.dumps(self.path("notes"))
        other = self.detach("beside", path, "4000")
        stage.wait_until(lambda: self.notes("notes"), "the other runs")
        task = self.detach("fails_first", path, "20", "--attempts", "2", "--backoff", "0.001", "--alone-on-retry")
        for each in (other, task):
            self.quern("result", each, "--wait")
        number = {name: str(int(name.split("-")[0]) << 32 | int(name.split("-")[1])) for name in (other, task)}
        self.assertEqual(self.notes("notes"), [
            ["begin", number[other]],
            ["begin", number[task]], ["end", number[task]],  # beside the other: it fails,
            ["end", number[other]],
            ["begin", number[task]], ["end", number[task]]])  # and again when nothing else runs


if __name__ == "__main__":
    stage.main()
