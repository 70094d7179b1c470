"""What a task's future promises, with real processes, where no other story has it alone. Start reading at Promises."""

import json
import os
import subprocess

import stage

QUERN_CLOSE_CANCEL = 1

UNRULY = os.path.join(stage.BUILD, "tests", "unruly.so")
HOGS = os.path.join(stage.BUILD, "tests", "hogs.so")


class Promises(stage.Story):
    def ask(self, *words):
        """The outcome of one task, as an object."""
        return json.loads(self.quern("submit", "--json", *words, status=None).stdout)

    def cause_of(self, *words):
        answer = self.ask(*words)
        return None if answer["ok"] else answer["error"]["cause"]

    def test_every_cause_of_a_failure_is_told_by_its_word(self):
        self.broker()
        worker = self.worker("--module", UNRULY, "--name", "one", slots=1)
        self.worker(module=HOGS, slots=1)
        self.wait_workers(2)
        held = self.quern_start("submit", "sleep", 1)
        self.wait_status(lambda s: s["tasks"]["running"] == 1, "the slot to be busy")
        causes = {"expired": self.cause_of("square", 1, "--expires", 0.01)}
        self.assertEqual(held.status(), 0)
        causes.update(
            error=self.cause_of("divide", 1, 0),
            crashed=self.cause_of("abort", "--at-most-once"),
            timeout=self.cause_of("sleep", 60, "--timeout", 0.05),
            memory=self.cause_of("hog", 100, 60000, "--memory", "20M"),
            quarantined=self.cause_of("abort"),
            unencodable=self.cause_of("raw"))
        lost = self.quern_start("submit", "--json", "sleep", 60, "--at-most-once")
        self.wait_status(lambda s: s["tasks"]["running"] == 1, "the last one to run")
        worker.kill9()
        self.worker("--name", "one")  # it speaks for the one that is gone
        self.assertEqual(lost.status(), 1)
        causes["lost"] = json.loads(lost.out[0])["error"]["cause"]
        self.assertEqual(causes, {word: word for word in causes})
        said = self.quern("list", "--help").stdout.replace("\n", " ").split("CAUSE: ", 1)[1].split(".", 1)[0]
        self.assertEqual(set(said.split(", ")), set(causes), "and there are no others")

    def test_a_handler_that_fails_keeps_its_slot(self):
        self.broker()
        self.worker("--module", UNRULY, slots=1)
        pid = self.ask("own_pid")["result"]
        for words in (("divide", 1, 0), ("square", '"nine"'), ("return_code",), ("raw",), ("long_text",)):
            answer = self.ask(*words)
            self.assertFalse(answer["ok"], words)
            self.assertTrue(answer["error"]["message"], words)
            self.assertEqual(self.ask("own_pid")["result"], pid, words)

    def test_looking_cancelling_and_retrying_need_no_ownership(self):
        """While the owner of the session is connected, and stays so."""
        self.broker()
        owner = self.quern_start("map", "--session", "theirs", "square", stdin=subprocess.PIPE)
        owner.write('1\n"two"\n')
        self.wait_status(lambda s: s["tasks"]["ready"] == 2, "its tasks")
        second, first = [row["id"] for row in self.quern("--json", "list", "--session", "theirs").json]
        self.assertEqual(self.quern("--json", "show", first).json["session"], "theirs")
        self.assertEqual(self.quern("--json", "explain", first).json["why"], "no_worker")
        self.assertEqual(self.quern("--json", "sessions").json[0]["name"], "theirs")
        self.quern("cancel", second)
        self.worker()
        owner.wait_out("1")
        again = self.quern("retry", second).stdout.strip()
        self.assertIn("takes", self.quern("result", again, "--wait", status=1).stderr)
        (row,) = self.quern("--json", "sessions").json
        self.assertTrue(row["connected"] and row["owner"].endswith(f":{owner.pid}"), row)
        owner.close_stdin()
        self.assertEqual(owner.status(), 1)

    def test_closing_a_client_cancels_nothing_unless_asked(self):
        """In C, by the flags of quern_client_close; on the command line, by another that closes the session."""
        self.broker()
        for flags, state in ((0, "ready"), (QUERN_CLOSE_CANCEL, "cancelled")):
            words = [os.path.join(stage.BUILD, "tests", "heir"), "part", f"by-{flags}", str(flags)]
            program = stage.Program("heir", words, self.env, self.directory, stdin=subprocess.DEVNULL)
            self.programs.append(program)
            self.assertEqual(program.status(), 0, program.log)
            rows = self.quern("--json", "list", "--session", f"by-{flags}").json
            self.assertEqual([row["state"] for row in rows], [state] * 2)
        left = self.quern("submit", "--detach", "square", 7).stdout.strip()
        named = self.quern("submit", "--detach", "--session", "kept", "square", 8).stdout.strip()
        ended = self.quern("submit", "--detach", "--session", "ended", "square", 9).stdout.strip()
        self.quern("close", "--cancel", "ended")
        self.worker()
        self.assertEqual(self.quern("result", left, "--wait").stdout, "49\n")
        self.assertEqual(self.quern("result", named, "--wait").stdout, "64\n")
        self.assertEqual(self.quern("--json", "show", ended).json["state"], "cancelled")


if __name__ == "__main__":
    stage.main()
