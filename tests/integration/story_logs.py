"""`quern logs`: what tasks write, kept per attempt, shown afterwards from anywhere, and followed while they run."""

import json
import os
import subprocess
import time

import stage

CRASHES = os.path.join(stage.BUILD, "tests", "crashes.so")


class LogsStory(stage.Story):
    def begin(self, *args, slots=1):
        self.broker()
        worker = self.worker(*args, slots=slots, module=CRASHES)
        self.wait_workers()
        return worker

    def submit(self, *words, session=("--session", "logs", "--take-over")):
        return self.quern("submit", "--detach", *session, *words).stdout.split()[0]

    def finished(self, *words, **options):
        task = self.submit(*words, **options)
        self.quern("result", "--wait", task, status=None)
        return task

    def pieces(self, task, *words, status=0):
        return [(piece["stream"], piece.get("text", piece.get("left_out")))
                for piece in self.quern("--json", "logs", task, *words, status=status).json["output"]]

    def until(self, task, *words):
        """The pieces, once there are some."""
        return stage.wait_until(lambda: self.pieces(task, *words), "output of a task")

    def test_done_and_failed_tasks_show_what_they_wrote(self):
        worker = self.begin()
        done = self.finished("say", '"hello\\n"', '"ok"')
        failed = self.finished("say", '"no end of line"', '"out"')
        silent = self.finished("fail")
        worker.end()
        self.assertEqual(self.pieces(done), [("stderr", "hello\n")])
        self.assertEqual(self.pieces(failed), [("stdout", "no end of line")])
        self.assertEqual(self.pieces(silent), [])
        self.assertEqual(self.quern("logs", failed).stdout, "no end of line")
        shown = self.quern("logs", done)
        self.assertEqual((shown.stdout, shown.stderr), ("", "hello\n"))
        self.assertEqual(self.quern("logs", "--stderr", done).stdout, "hello\n")
        self.assertEqual(self.quern("logs", "--stdout", done).stdout, "")

    def test_each_attempt_has_its_own(self):
        self.begin()
        task = self.finished("say", '"again\\n"', '"null"')
        for attempt in (1, 2, 3):
            self.assertEqual(self.pieces(task, "--attempt", attempt), [("stderr", "again\n")])
        self.assertEqual(self.quern("--json", "logs", task).json["attempt"], 3)
        self.assertIn("the last one is 3", self.quern("logs", task, "--attempt", "9", status=4).stderr)
        self.assertIn("no task 77-7", self.quern("logs", "77-7", status=4).stderr)

    def test_short_tasks_are_told_apart(self):
        """One that writes now and then among many that do not."""
        self.begin()
        ids = []
        for i in range(20):
            self.finished("fail")
            ids.append(self.finished("say", f'"line {i}\\n"', '"ok"'))
        for i, task in enumerate(ids):
            self.assertEqual(self.pieces(task), [("stderr", f"line {i}\n")])

    def test_of_much_the_beginning_and_the_end_are_kept(self):
        self.begin()
        pieces = self.pieces(self.finished("chatter", "100000"))
        text = "".join(text for _, text in pieces if isinstance(text, str))
        left_out = sum(size for _, size in pieces if isinstance(size, int))
        self.assertTrue(text.startswith("line 0 of much\n"))
        self.assertTrue(text.endswith("line 99999 of much\n"))
        self.assertEqual(len(text), 65536)
        self.assertEqual(len(text) + left_out, len("".join(f"line {i} of much\n" for i in range(100000))))

    def test_what_runs_is_shown_and_followed(self):
        self.begin()
        task = self.submit("--timeout", "1", "say", '"waiting\\n"', '"wait"')
        self.assertEqual(self.until(task), [("stderr", "waiting\n")])
        followed = self.quern("logs", "-f", task, status=1)
        self.assertEqual([line for line in followed.stderr.splitlines() if not line.startswith("quern: ")], ["waiting"])
        self.assertIn("attempt 1 ended: timeout", followed.stderr)

    def test_what_is_followed_is_seen_while_the_task_runs(self):
        """It goes on only when its first line was seen."""
        self.begin("--allow-commands")
        os.mkfifo(self.path("go_on"))
        script = json.dumps(["sh", "-c", f"echo first; cat '{self.path('go_on')}'; echo last"])
        task = self.submit("quern.command", script, "{}")
        follower = self.quern_start("logs", "-f", task)
        follower.wait_out("first")
        self.assertIn(self.quern("--json", "show", task).json["state"], ("leased", "running"))  # told a little later
        self.assertEqual(follower.out, ["first"])
        self.assertTrue(follower.is_running())
        with open(self.path("go_on"), "w", encoding="ascii") as fifo:
            fifo.write("middle\n")
        self.assertEqual(follower.status(), 0)
        self.assertEqual(follower.out, ["first", "middle", "last"])

    def test_following_goes_on_with_the_next_attempt(self):
        self.begin()
        task = self.submit("--attempts", "2", "--retry-on", "timeout", "--timeout", "0.3", "say", '"try\\n"', '"wait"')
        followed = self.quern("logs", "--follow", task, status=1).stderr
        self.assertEqual(followed.count("\ntry\n"), 2, followed)
        for line in ("attempt 1 ended: timeout", "attempt 2\n", "attempt 2 ended: timeout"):
            self.assertIn(line, followed)

    def test_a_command_is_followed_and_what_a_killed_one_wrote_is_kept(self):
        self.begin("--allow-commands")
        script = '["sh", "-c", "echo out; echo err >&2; exec sleep 30"]'
        for end in ("timeout", "cancel"):
            with self.subTest(end=end):
                options = ("--timeout", "0.5") if end == "timeout" else ()
                task = self.submit(*options, "quern.command", script, "{}")
                self.assertEqual(self.until(task, "--stdout"), [("stdout", "out\n")])
                if end == "cancel":
                    self.until(task, "--stderr")
                    self.quern("cancel", "--force", task)
                self.quern("result", "--wait", task, status=None)
                self.assertEqual(self.pieces(task), [("stdout", "out\n"), ("stderr", "err\n")])
                shown = self.quern("show", task).stdout
                self.assertIn("\nstdout     out\n", shown)
                self.assertIn("\nstderr     err\n", shown)
        task = self.finished("quern.command", '["sh", "-c", "echo all; exit 3"]', "{}")
        self.assertEqual(self.pieces(task), [("stdout", "all\n")])
        self.assertIn("\nexit       3\n", self.quern("show", task).stdout)

    def test_a_worker_that_stands_still_holds_up_no_answer(self):
        worker = self.begin()
        task = self.submit("say", '"waiting\\n"', '"wait"')
        self.until(task)
        worker.process.send_signal(19)  # SIGSTOP
        try:
            began = time.monotonic()
            self.assertEqual(self.pieces(task), [])
            self.assertLess(time.monotonic() - began, 8)
        finally:
            worker.process.send_signal(18)
        self.quern("cancel", "--force", task)

    def test_a_terminal_is_not_moved(self):
        self.begin()
        task = self.finished("say", '"\\u001b[31mred\\n"', '"out"')
        self.assertEqual(self.quern("logs", task).stdout, "\x1b[31mred\n")
        mine, theirs = os.openpty()
        subprocess.run([os.path.join(stage.BIN, "quern"), "logs", task], stdout=theirs, check=True, env=self.env,
                       timeout=stage.PATIENCE_S)
        os.close(theirs)
        self.assertEqual(os.read(mine, 1000), b"\\x1b[31mred\r\n")
        os.close(mine)

    def test_volatile_tasks_keep_theirs_as_long_as_their_outcome(self):
        self.begin()
        task = self.submit("say", '"in memory\\n"', '"ok"', session=("--session", "v", "--volatile"))
        self.assertEqual(self.until(task), [("stderr", "in memory\n")])


if __name__ == "__main__":
    stage.main()
