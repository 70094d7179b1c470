"""A map over real processes (tests/bench/map.c, which checks every result): durable and volatile, and through the death of
a broker and of a slot in the middle."""

import json
import os
import signal
import subprocess

import stage


class Map(stage.Story):
    def squares(self, count, *words):
        program = stage.Program("map", [os.path.join(stage.BUILD, "tests", "bench_map"), str(count), *words],
                                {**self.env, "QUERN_URL": self.url}, self.directory, stdin=subprocess.DEVNULL)
        self.programs.append(program)
        return program

    def finished(self, program, count):
        self.assertEqual(program.status(120), 0)
        self.assertEqual(json.loads(program.out[-1])["items"], count)

    def completed(self):
        return sum(session["completed"] for session in self.quern("--json", "sessions").json)

    def test_every_square_comes_in_order(self):
        self.broker()
        self.worker()
        self.finished(self.squares(20000), 20000)
        self.finished(self.squares(20000, "volatile"), 20000)
        self.finished(self.squares(2000, "volatile", "window", "1"), 2000)

    def test_a_client_that_maps_many_inputs_takes_no_more_memory_than_for_few(self):
        self.broker()
        self.worker()
        peaks = []
        for count in (20000, 500000):
            program = self.squares(count, "volatile")
            self.finished(program, count)
            peaks.append(json.loads(program.out[-1])["rss_max_kib"])
        self.assertLess(peaks[1], peaks[0] * 1.25)

    def test_a_map_goes_on_through_the_death_of_the_broker_and_of_a_slot(self):
        broker = self.broker()
        worker = self.worker()
        program = self.squares(200000)
        stage.wait_until(lambda: self.completed() > 1000, "the map is under way")
        broker.kill9()
        broker = self.broker()
        stage.wait_until(lambda: self.completed() > 10000 or not program.is_running(), "the map has gone on")
        slots = [pid for pid in self.descendants(worker.pid) if stage.is_alive(pid)]
        os.kill(slots[-1], signal.SIGKILL)
        self.finished(program, 200000)


if __name__ == "__main__":
    stage.main()
