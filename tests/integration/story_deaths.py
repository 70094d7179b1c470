"""Every way in which a slot can die, really done, by name. Each costs one attempt of the one task that it ran; what was
handed to it and had not started goes back without blame; it is replaced; the other slot and the supervisor never notice.
modules/deaths.c brings the deaths."""

import json
import os
import signal
import unittest

import stage

DEATHS = os.path.join(stage.BUILD, "tests", "deaths.so")
BEHIND_COUNT = 12


class Deaths(stage.Story):
    def setUp(self):
        super().setUp()
        self.broker()
        self.program = self.worker(slots=2, module=DEATHS)
        self.wait_workers()
        # It is known that these are quick, so many are handed out ahead.
        self.quern("map", "quick", input="1\n" * 300)

    def detach(self, *args):
        return self.quern("submit", "--detach", *args).stdout.strip()

    def finished(self, task):
        self.quern("result", task, "--wait", status=None)
        return self.quern("--json", "show", task).json

    def touch(self, name):
        with open(self.path(name), "wb"):
            pass

    def slots(self):
        found = set()
        for pid in self.descendants(self.program.pid):
            try:
                with open(f"/proc/{pid}/comm", encoding="utf-8") as file:
                    if file.read().strip() == "quern-slot":
                        found.add(pid)
            except OSError:
                pass
        return found

    def running(self, task):
        return self.quern("--json", "show", task).json["state"] == "running"

    def victim(self, how, *options):
        """One slot is busy with a bystander, the other with the victim; others wait behind it."""
        self.bystander = self.detach("until", json.dumps(self.path("end")))
        stage.wait_until(lambda: self.running(self.bystander), "the bystander to run")
        self.before = self.slots()  # now: where all is slow, a victim's time may be over before all of it is set up
        self.assertEqual(len(self.before), 2)
        task = self.detach("die", json.dumps(how), json.dumps(self.path("go")), json.dumps(self.path("late")), *options)
        stage.wait_until(lambda: self.running(task), "the victim to run")
        self.behind = [self.detach("quick") for _ in range(BEHIND_COUNT)]
        return task

    def check_others(self):
        """Nobody else was blamed or disturbed, and there are two slots again."""
        for one in self.behind:
            shown = self.finished(one)
            self.assertEqual((shown["state"], shown["attempts"]), ("done", 1), shown)
            self.assertEqual(shown["failures"], [])
        self.assertTrue(self.running(self.bystander))
        self.touch("end")
        shown = self.finished(self.bystander)
        self.assertEqual((shown["state"], shown["attempts"]), ("done", 1), shown)
        self.assertIn(self.quern("--json", "result", self.bystander).json["result"], self.before)
        after = stage.wait_until(lambda: len(found := self.slots()) == 2 and found, "two slots")
        self.assertEqual(len(self.before & after), 1)
        # Nothing else of the dead one is left, whatever it had become.
        below = self.descendants(self.program.pid)
        self.assertEqual(len(below), 3, below)
        self.assertTrue(self.program.is_running())
        self.assertEqual(self.status()["counters"]["lost"], 0)

    def check_death(self, how):
        task = self.victim(how)
        self.touch("go")
        shown = self.finished(task)
        self.assertEqual((shown["state"], shown["attempts"], shown["result"]), ("done", 2, 2), shown["message"])
        self.assertEqual([failure["cause"] for failure in shown["failures"]], ["crashed"])
        self.check_others()
        return shown["failures"][0]

    def check_signal(self, how, number):
        failure = self.check_death(how)
        self.assertEqual(failure["signal"], number, failure)

    def check_exit(self, how, status):
        failure = self.check_death(how)
        self.assertEqual((failure["signal"], failure["exit_status"]), (0, status), failure)

    def test_a_signal_segv(self):
        self.check_signal("segv", signal.SIGSEGV)

    def test_a_signal_bus(self):
        self.check_signal("bus", signal.SIGBUS)

    def test_a_signal_ill(self):
        self.check_signal("ill", signal.SIGILL)

    def test_a_signal_fpe(self):
        self.check_signal("fpe", signal.SIGFPE)

    def test_a_signal_term(self):
        self.check_signal("term", signal.SIGTERM)

    def test_a_signal_kill_of_its_own(self):
        self.check_signal("kill", signal.SIGKILL)

    def test_abort(self):
        self.check_signal("abort", signal.SIGABRT)

    def test_exit(self):
        self.check_exit("exit", 3)

    def test_exit_with_status_0(self):
        """It says that all is well; it is not."""
        self.check_exit("exit0", 0)

    def test_quick_exit(self):
        self.check_exit("_exit", 4)

    def test_another_program_in_its_place(self):
        self.check_exit("exec", 0)

    @unittest.skipIf(stage.is_sanitized(), "a sanitizer ends the process in its own way when there is no memory")
    def test_out_of_memory(self):
        self.check_signal("memory", signal.SIGSEGV)

    def test_a_corrupted_heap(self):
        if stage.is_sanitized():  # it ends what is damaged in a way of its own
            self.check_death("heap")
        else:
            self.check_signal("heap", signal.SIGABRT)

    def test_a_stack_overflow(self):
        self.check_signal("stack", signal.SIGSEGV)

    @unittest.skipIf(stage.is_sanitized(), "a sanitizer has a thread of its own, which goes on")
    def test_the_end_of_its_only_thread(self):
        self.check_death("thread-exit")

    def test_closing_of_all_its_descriptors(self):
        self.check_death("close")

    def test_shutting_down_of_all_its_sockets(self):
        self.check_death("shut")

    def test_garbage_in_all_its_sockets(self):
        self.check_exit("garbage", 8)

    def test_garbage_in_all_it_shares(self):
        self.check_exit("scribble", 9)

    def test_a_fork_whose_parent_exits_and_whose_child_returns(self):
        self.check_exit("fork", 6)

    def test_a_fork_whose_parent_exits_and_whose_child_stays(self):
        self.check_exit("fork-stay", 7)

    def test_a_kill_from_outside(self):
        task = self.victim("nothing")
        with open(self.path("go.pid"), encoding="ascii") as file:
            os.kill(int(file.read()), signal.SIGKILL)
        self.touch("go")
        shown = self.finished(task)
        self.assertEqual((shown["state"], shown["attempts"]), ("done", 2), shown)
        self.assertEqual(shown["failures"][0]["signal"], signal.SIGKILL)
        self.check_others()

    # ---- those that hang ----

    def check_hang(self, how):
        """Nothing but its time tells that it is over."""
        task = self.victim(how, "--timeout", "1")
        self.touch("go")
        shown = self.finished(task)
        self.assertEqual((shown["state"], shown["cause"], shown["attempts"]), ("failed", "timeout", 1), shown)
        self.check_others()

    def test_a_slot_that_stops_itself(self):
        self.check_hang("stop")

    def test_atexit_handlers_that_hang(self):
        self.check_hang("atexit")

    # ---- a thread that crashes after its handler has returned ----

    def begin_late(self):
        task = self.victim("late")
        self.touch("go")
        shown = self.finished(task)
        self.assertEqual((shown["state"], shown["attempts"]), ("done", 1))
        for one in self.behind:
            self.finished(one)

    def test_a_thread_that_crashes_when_nothing_runs_costs_nobody_anything(self):
        self.begin_late()
        self.touch("late")
        stage.wait_until(lambda: len(self.slots() & self.before) == 1 and len(self.slots()) == 2, "another slot")
        self.check_others()
        self.assertEqual(self.status()["counters"]["retried"], 0)

    def test_a_thread_that_crashes_later_costs_an_attempt_of_what_runs_then(self):
        self.begin_late()
        task = self.detach("until", json.dumps(self.path("later")))
        stage.wait_until(lambda: self.running(task), "the next to run")
        self.touch("late")
        stage.wait_until(lambda: self.quern("--json", "show", task).json["crashes"] == 1, "its crash")
        self.touch("later")
        shown = self.finished(task)
        self.assertEqual((shown["state"], shown["attempts"]), ("done", 2), shown)
        self.check_others()


if __name__ == "__main__":
    stage.main()
