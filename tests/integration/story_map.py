"""A map over real processes (tests/bench/map.c, which checks every result): durable and volatile, and through the death of
a broker and of a slot in the middle."""

import collections
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

    def test_an_item_whose_attempt_crashes_or_fails_is_tried_again_and_no_other_item_is(self):
        self.broker()
        self.worker(module=os.path.join(stage.BUILD, "tests", "witness.so"), env={"WITNESS_DIR": self.directory})
        actions = {f"k{i}": "sleep 1" for i in range(200)}
        actions.update(k60="die 1", k61="fail 1", k100="sleep 600000", k140="die 9", k141="fail 9")
        lines = "".join(f'"{key} {action}"\n' for key, action in actions.items())
        timeout = 15 if stage.is_sanitized() else 2  # a crash takes its time there
        done = self.quern("map", "--jsonl", "--attempts", 2, "--timeout", timeout, "witness", input=lines, status=1)
        rows = {row["input"].split()[0]: row for row in map(json.loads, done.lines)}
        self.assertEqual(len(rows), 200)
        with open(self.path("starts"), encoding="ascii") as file:
            starts = collections.Counter(line.split()[0] for line in file)
        # Twice where the second try went well; three crashes quarantine, two failures or time-outs are all that was
        # asked for.
        self.assertEqual({key: count for key, count in starts.items() if count != 1},
                         {"k60": 2, "k61": 2, "k100": 2, "k140": 3, "k141": 2})
        self.assertEqual({key: row["error"]["cause"] for key, row in rows.items() if not row["ok"]},
                         {"k100": "timeout", "k140": "quarantined", "k141": "error"})

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
