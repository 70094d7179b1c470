"""A failure explains itself: where it crashed, of what signal, what it took, and the last that it wrote to stderr. With
real crashes of real programs: modules/crashes.c."""

import concurrent.futures
import json
import os
import subprocess
import unittest

import stage

TELLER = os.path.join(stage.BUILD, "tests", "teller")
CRASHES = os.path.join(stage.BUILD, "tests", "crashes.so")


class DiagnosisStory(stage.Story):
    def begin(self, *args, slots=1, **options):
        self.broker()
        worker = self.worker(*args, slots=slots, module=CRASHES, **options)
        self.wait_workers()
        return worker

    def ask(self, function, *args, options=("--at-most-once",)):
        """What became of one task, and what `show` says of it."""
        outcome = self.quern("--json", "submit", *options, function, *map(json.dumps, args), status=None).json
        return outcome, self.quern("--json", "show", outcome["id"]).json

    def crash(self, how):
        outcome, shown = self.ask("crash", how)
        self.assertEqual((outcome["ok"], outcome["error"]["cause"]), (False, "crashed"), outcome)
        return shown

    def works(self):
        self.assertEqual(self.ask("fail")[1]["message"], "as asked")

    def test_a_crash_says_where(self):
        worker = self.begin()
        for how, signal, name in (("null", "SIGSEGV", "read_nothing"), ("abort", "SIGABRT", "give_up"),
                                  ("divide", "SIGFPE", "divide"), ("overflow", "SIGSEGV", "sink"),
                                  ("free", "SIGABRT", "free_twice"), ("heap", "SIGABRT", "spoil_heap"),
                                  ("call", "SIGSEGV", "call_nothing"), ("thread", "SIGSEGV", "read_nothing")):
            if how == "free" and stage.is_sanitized():
                continue  # a sanitizer has an allocator of its own
            with self.subTest(how=how):
                shown = self.crash(how)
                self.assertEqual(shown["signal_name"], signal, shown)
                backtrace = shown["report"]["backtrace"]
                self.assertIn(name, backtrace)
                self.assertIn("crashes.so+0x", backtrace)
                self.assertIn("crashes.c:", backtrace)
                self.assertIn(f" in {name}+0x", shown["message"])
                self.assertNotIn("\n", shown["message"])
                if how not in ("thread", "call"):  # there the way back is not that of the handler, or only the last step is known
                    self.assertTrue(backtrace.splitlines()[-1].split()[1].startswith("crash+0x"), backtrace)
        self.works()
        self.assertTrue(worker.is_running())

    def test_a_deep_recursion_shows_both_ends(self):
        self.begin()
        lines = self.crash("overflow")["report"]["backtrace"].splitlines()
        self.assertLess(len(lines), 70)
        self.assertTrue(any(line.startswith("... ") for line in lines), lines)
        self.assertIn("crash+0x", lines[-1])

    @unittest.skipIf(stage.is_sanitized(), "a sanitizer's own part of a handler of signals needs a stack")
    def test_a_stack_that_is_gone_still_says_the_instruction(self):
        self.begin()
        shown = self.crash("stack")
        self.assertIn("spoil_stack", shown["report"]["backtrace"].splitlines()[1], shown)
        self.works()

    def test_a_null_pointer_is_named(self):
        self.begin()
        self.assertTrue(self.crash("null")["report"]["backtrace"].startswith("no access to address 0x0\n"))

    def test_started_afresh_it_says_where_too(self):
        self.begin("--start", "spawn")
        self.assertIn("read_nothing", self.crash("null")["report"]["backtrace"])

    def test_an_end_that_is_no_crash_has_no_backtrace(self):
        self.begin()
        shown = self.crash("kill")
        self.assertEqual((shown["signal"], shown["signal_name"]), (9, "SIGKILL"))
        self.assertNotIn("backtrace", shown["report"] or {})
        shown = self.crash("exit")
        self.assertEqual((shown["signal"], shown["signal_name"], shown["exit_status"]), (0, None, 7))

    def test_a_core_that_was_dumped_is_named(self):
        self.begin()
        with open("/proc/sys/kernel/core_pattern", encoding="utf-8") as file:
            pattern = file.read().strip()
        shown = self.crash("core")
        if pattern.startswith("|") or os.path.isabs(pattern):
            self.skipTest("where cores go is not ours to say")
        self.assertIs((shown["report"] or {}).get("core_dumped"), True)

    def test_stderr_is_of_this_attempt_alone(self):
        self.begin()
        for i in range(3):
            self.ask("say", f"from done {i}\n", "ok")
            shown = self.ask("say", f"from failed {i}\n", "fail")[1]
            self.assertEqual(shown["report"], {"stderr": f"from failed {i}\n"})
        self.assertIsNone(self.ask("fail")[1]["report"])

    def test_stderr_is_told_apart_among_many(self):
        """Short tasks, one behind the other in the slot, so that outputs stand in the pipe together."""
        self.begin()
        items = "".join(f"{'!' if i % 3 == 0 else ''}line {i}\n" for i in range(600))
        self.quern("map", "--raw", "--session", "many", "say", input=items, status=1)
        failed = self.quern("--json", "list", "--state", "failed", "--limit", "1000").json
        self.assertEqual(len(failed), 200)
        for row in failed[:40]:
            shown = self.quern("--json", "show", row["id"]).json
            self.assertEqual(shown["report"], {"stderr": shown["args"][0]})

    def test_the_end_of_much_is_kept(self):
        self.begin()
        tail = self.ask("chatter", 100000)[1]["report"]["stderr"]
        self.assertTrue(tail.endswith("line 99999 of much\n"))
        self.assertGreater(len(tail), 4000)
        self.assertLessEqual(len(tail), 4096)

    def test_what_a_crash_wrote_before_is_kept(self):
        worker = self.begin()
        shown = self.ask("say", "about to read nothing\n", "null")[1]
        self.assertEqual(shown["report"]["stderr"], "about to read nothing\n")
        worker.wait_log("about to read nothing")

    def test_what_a_timeout_wrote_before_is_kept(self):
        self.begin()
        shown = self.ask("say", "waiting\n", "wait", options=("--timeout", "0.3"))[1]
        self.assertEqual((shown["cause"], shown["report"]["stderr"]), ("timeout", "waiting\n"))

    def test_the_end_of_stdout_is_kept_too(self):
        self.begin()
        outcome, shown = self.ask("say", "no end of line", "out")
        self.assertEqual(shown["report"], {"stdout": "no end of line"})
        self.assertIn("\nstdout     no end of line\n", self.quern("show", outcome["id"]).stdout)

    @unittest.skipIf(stage.is_sanitized(), "a sanitizer has an allocator of its own")
    def test_the_message_of_the_c_library_is_kept(self):
        self.begin()
        self.assertIn("free(): double free", self.crash("free")["report"]["stderr"])

    def test_each_attempt_keeps_its_own(self):
        self.begin()
        shown = self.ask("say", "again\n", "null", options=())[1]
        self.assertEqual((shown["cause"], len(shown["failures"])), ("quarantined", 3))
        for failure in shown["failures"]:
            self.assertEqual(failure["report"]["stderr"], "again\n")
            self.assertIn("read_nothing", failure["report"]["backtrace"])
            self.assertEqual(failure["signal_name"], "SIGSEGV")
            self.assertGreater(failure["run_us"], 0)
            self.assertGreater(failure["peak_kib"], 0)

    def test_show_is_readable(self):
        self.begin()
        outcome, _ = self.ask("say", "the last\nwords \x1b[31m\n", "null")
        text = self.quern("show", outcome["id"]).stdout
        self.assertRegex(text, r"(?m)^because    crashed, Signal: task \S+: slot \d+ on \S+ died of signal 11 \(.*\) in read_nothing")
        self.assertRegex(text, r"(?m)^signal     11 SIGSEGV")
        self.assertRegex(text, r"(?m)^ran        \S+ ms, CPU \S+ ms, memory \S+ MiB at most$")
        self.assertRegex(text, r"(?m)^backtrace  no access to address 0x0\n           #0 read_nothing")
        self.assertRegex(text, r"(?m)^stderr     the last\n           words \\x1b\[31m$")
        line = self.quern("submit", "--at-most-once", "say", '"x"', '"null"', status=None).stderr
        self.assertEqual(len(line.splitlines()), 1, line)

    def told(self, function, *words):
        """What a C program has in the fields of an outcome; and what `show` says of that task."""
        done = subprocess.run([TELLER, function, *words], env=self.env, cwd=self.directory, capture_output=True, text=True,
                              check=True, timeout=stage.PATIENCE_S)
        told = {}
        for line in done.stdout.splitlines():
            name, _, value = line.partition(" ")
            told[name] = bytes.fromhex(value).decode("utf-8", "replace")
        return told, self.quern("--json", "show", told["id"]).json

    def agree(self, told, shown, output):
        """Each noun of a failure, as field and in show; `output`: what stands in stdout and stderr."""
        report = shown["report"] or {}
        self.assertEqual(told["worker"], shown["worker"])
        self.assertRegex(told["worker"], r"^\S+:\d+$")  # host and pid
        for name in ("cause", "message"):
            self.assertEqual(told[name], shown[name])
        for name in ("attempt", "attempts", "signal", "exit_status", "run_us", "cpu_us", "peak_kib"):
            self.assertEqual(int(told[name]), shown[name], name)
        self.assertEqual((told["kind"], told["signal_name"]), (shown["kind"] or "", shown["signal_name"] or ""))
        self.assertEqual(int(told["core_dumped"]), int(report.get("core_dumped", False)))
        self.assertEqual(told["backtrace"], report.get("backtrace", ""))
        self.assertEqual((told["stdout"], told["stderr"]), output)
        self.assertEqual((report.get("stdout", ""), report.get("stderr", "")), output)
        self.assertGreater(int(told["run_us"]), 0)

    def test_a_c_program_has_every_field_of_a_crash(self):
        self.begin()
        told, shown = self.told("say", "the last words\n", "null")
        self.agree(told, shown, ("", "the last words\n"))
        self.assertEqual((told["cause"], told["signal"], told["signal_name"], told["attempt"]), ("crashed", "11", "SIGSEGV", "1"))
        self.assertIn("read_nothing", told["backtrace"])
        self.assertGreater(int(told["peak_kib"]), 0)

    def test_a_c_program_has_every_field_of_a_failure(self):
        self.begin()
        told, shown = self.told("say", "said to stdout", "out")
        self.agree(told, shown, ("said to stdout", ""))
        self.assertEqual((told["cause"], told["kind"], told["message"]), ("error", "Said", "as asked"))

    def test_a_c_program_has_every_field_of_a_command(self):
        self.begin("--allow-commands")
        told, shown = self.told("quern.command", "sh", "-c", "echo to out; echo to err >&2; i=0; "
                                "while [ $i -lt 20000 ]; do i=$((i+1)); done; exit 3")
        self.agree(told, shown, ("to out\n", "to err\n"))
        self.assertEqual((told["cause"], told["kind"], told["exit_status"]), ("error", "ExitStatus", "3"))
        self.assertGreater(int(told["cpu_us"]), 0)
        self.assertIn("to out", told["result"])

    def test_what_it_took_is_told_of_done_tasks_too(self):
        self.begin()
        shown = self.ask("say", "", "ok")[1]
        self.assertGreater(shown["run_us"], 0)

    def test_scribbling_over_all_that_is_shared_hurts_nobody(self):
        worker = self.begin(slots=2)
        for _ in range(3):
            outcome, shown = self.ask("scribble")
            self.assertEqual(outcome["error"]["cause"], "crashed")
        self.works()
        self.assertTrue(worker.is_running())

    def test_a_reader_of_the_log_that_stops_stops_nobody_else(self):
        """The worker's stderr is a pipe that nobody reads: who writes waits, for a second at most, and if anything was lost
        of it then, that is said; other slots and the worker do not wait."""
        self.broker()
        read, write = os.pipe()
        argv = [os.path.join(stage.BIN, "quern-worker"), "--slots", "2", "--module", CRASHES]
        with subprocess.Popen(argv, stderr=write, stdout=subprocess.DEVNULL, env=self.env, cwd=self.directory) as worker:
            try:
                self.wait_workers()
                slow = self.quern("submit", "--detach", "chatter", "100000").stdout.split()[0]
                for _ in range(5):
                    self.works()
                os.close(write)
                with os.fdopen(read, "rb") as stream, concurrent.futures.ThreadPoolExecutor() as reader:
                    text = reader.submit(stream.read)
                    try:
                        shown = self.quern("--json", "result", "--wait", slow, status=None).json
                    finally:
                        worker.terminate()
                    self.assertEqual(shown["error"]["kind"], "Said")
                    self.assertRegex(text.result(), b"line 99999 of much|output of a slot was dropped")
            finally:
                worker.kill()


if __name__ == "__main__":
    stage.main()
