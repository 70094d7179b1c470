"""Backpressure with real processes: each bound of the broker that a submit can meet refuses one that is not to wait, by
name, and lets one that may wait go on when there is room; nothing is lost. Start reading at Bounds."""

import os
import subprocess

import stage


class Bounds(stage.Story):
    def filler(self, *words, **limits):
        """A broker with these limits, and a program that fills it until it waits; how many were taken before."""
        with open(self.path("quern.conf"), "w", encoding="utf-8") as file:
            file.write("limits\n" + "".join(f"    {name} = {value}\n" for name, value in limits.items()))
        self.broker("--config", self.path("quern.conf"))
        if "held" in words:
            self.worker(slots=1)
        program = self.start_program(*words)
        program.wait_out("waiting")
        self.assertRegex(program.out[0], "^took [0-9]+, then +full$")
        self.assertEqual(program.out[1:], ["the future of that says full", "waiting: timeout"])
        return program, int(program.out[0].split()[1].rstrip(","))

    def start_program(self, *words):
        program = stage.Program("filler", [os.path.join(stage.BUILD, "tests", "filler"), "f", *words], self.env,
                                self.directory, stdin=subprocess.PIPE)
        self.programs.append(program)
        return program

    def goes_on(self, program, count):
        self.assertEqual(program.status(), 0, program.log)
        self.assertEqual(program.out[3:], ["durable: ok", f"{count + 2} of {count + 2} are right"])

    def fills_with_tasks(self, *words, **limits):
        """There is room when a worker has come and ended some."""
        program, count = self.filler("live", *words, **limits)
        self.assertEqual(self.status()["tasks"]["ready"], count)
        self.worker(slots=1)
        self.goes_on(program, count)
        return count

    def fills_with_outcomes(self, *words, **limits):
        """There is room when some were acknowledged."""
        program, count = self.filler("held", *words, **limits)
        self.assertEqual(self.status()["unacked"], count)
        program.write("go\n")
        self.goes_on(program, count)
        return count

    def test_the_number_of_live_tasks(self):
        self.assertEqual(self.fills_with_tasks("100", task_count_max=7), 7)

    def test_the_bytes_of_live_tasks(self):
        # One more than what they hold is taken as long as there is any room: 3 of 1000 and some.
        self.assertEqual(self.fills_with_tasks("1000", task_bytes_max=3001), 3)

    def test_the_number_of_outcomes_that_nobody_has_acknowledged(self):
        self.assertEqual(self.fills_with_outcomes("100", unacked_count_max=7), 7)

    def test_the_bytes_of_outcomes_that_nobody_has_acknowledged(self):
        self.assertIn(self.fills_with_outcomes("1000", unacked_bytes_max=6000), range(2, 7))

    def test_the_bytes_of_volatile_sessions(self):
        self.assertIn(self.fills_with_outcomes("1000", "volatile", volatile_bytes_max=6000), range(2, 7))


if __name__ == "__main__":
    stage.main()
