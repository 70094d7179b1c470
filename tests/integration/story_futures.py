"""Futures with real processes: what a killed program left is taken up by another; cancels and groups that stop what
runs. Start reading at Futures."""

import os
import subprocess

import stage


class Futures(stage.Story):
    def heir(self, *words):
        program = stage.Program("heir", [os.path.join(stage.BUILD, "tests", "heir"), *map(str, words)], self.env,
                                self.directory, stdin=subprocess.PIPE)
        self.programs.append(program)
        return program

    def run_heir(self, *words):
        program = self.heir(*words)
        self.assertEqual(program.status(), 0, program.log)
        return program.out

    def test_another_program_takes_up_what_a_killed_one_left(self):
        """Unfinished tasks, outcomes not taken, and those in between; what was taken does not come again."""
        count = 2000
        self.broker()
        left = self.heir("leave", "nightly", count)
        left.wait_out("left")
        left.kill9()
        self.worker()
        squares = sum(i * i for i in range(1, count + 1))
        found, total = [], 0
        for part in (0, 500, count - 500):
            words = self.run_heir("take", "nightly", part)[0].replace(",", "").split()
            found.append(int(words[1]))
            total += int(words[3])
        self.assertEqual(found, [count, count, count - 500])
        self.assertEqual(total, squares)
        self.assertEqual(self.run_heir("take", "nightly", 0), ["found 0, sum 0"])

    def test_what_was_left_is_found_in_many_pages_while_it_is_worked_on(self):
        """More than one answer of the broker holds, with workers that end tasks meanwhile."""
        count = 120_000
        self.broker()
        left = self.heir("leave", "large", count)
        left.wait_out("left")
        left.kill9()
        self.worker()
        self.assertEqual(self.run_heir("take", "large", count),
                         [f"found {count}, sum {sum(i * i for i in range(1, count + 1))}"])

    def test_a_restarted_broker_still_knows_what_was_left(self):
        broker = self.broker()
        left = self.heir("leave", "nightly", 50)
        left.wait_out("left")
        left.kill9()
        broker.kill9()
        self.broker()
        self.worker()
        self.assertEqual(self.run_heir("take", "nightly", 50), [f"found 50, sum {sum(i * i for i in range(51))}"])

    def test_a_running_task_is_stopped_by_force_only(self):
        self.broker()
        self.worker(slots=1)
        self.assertEqual(self.run_heir("cancel", "c"),
                         ["attempt 1 on a worker", "running", "ok", "cancelled", "cancelled"])
        self.assertEqual(self.quern("submit", "square", "7").stdout.strip(), "49")  # the slot is replaced

    def test_what_cannot_be_encoded_fails_its_task_alone_and_all_that_was_said_arrives(self):
        """Of a result, and of texts; neighbours in the same slot are done."""
        self.broker()
        self.worker(slots=1, module=os.path.join(stage.BUILD, "tests", "unruly.so"))
        cannot = "the result cannot be encoded"
        incomplete = f"{cannot}: an array or map was left incomplete"
        several = f"{cannot}: more than one value was written, or something that is no msgpack value"
        self.assertEqual(self.run_heir("tell", "t", "good", "open_array", "open_array_detailed", "good", "two_values",
                                       "fail_half_written", "good"),
                         ["good|done|none|kind=|message=|detail=|result=\\x02",
                          f"open_array|failed|unencodable|kind=Unencodable|message={incomplete}|detail=|result=",
                          f"open_array_detailed|failed|unencodable|kind=Unencodable|message={incomplete}"
                          r"|detail=line 1\x0aline 2|result=",
                          "good|done|none|kind=|message=|detail=|result=\\x02",
                          f"two_values|failed|unencodable|kind=Unencodable|message={several}|detail=|result=",
                          r"fail_half_written|failed|error|kind=Gr??e|message=zu gro?: 7|detail=\xff\x00\xfe|result=",
                          "good|done|none|kind=|message=|detail=|result=\\x02"])

    def test_a_failed_group_stops_what_runs_in_the_groups_within(self):
        self.broker()
        self.worker(slots=2)
        self.assertEqual(self.run_heir("group", "g"), ["task_failed: error"])
        self.wait_status(lambda s: sum(s["tasks"].values()) == 0, "nothing to be left")


if __name__ == "__main__":
    stage.main()
