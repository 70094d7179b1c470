"""The figures of tests/bench: that each of them can still be taken, with hardly any work. What they say is for people."""

import json
import os
import subprocess
import sys

import stage

RUN = os.path.join(stage.ROOT, "tests", "bench", "run")
SCALE = os.path.join(stage.ROOT, "tests", "bench", "scale")
COMPARE = os.path.join(stage.ROOT, "tests", "bench", "compare")


class Bench(stage.Story):
    def test_every_figure_can_be_taken(self):
        done = subprocess.run([sys.executable, "-B", RUN, "--smoke", "--json"], capture_output=True, text=True,
                              env={**self.env, "QUERN_BUILD": stage.BUILD}, timeout=4 * stage.PATIENCE_S)
        self.assertEqual(done.returncode, 0, done.stderr)
        figures = json.loads(done.stdout)
        for name in ("speed", "million", "hoard", "retention", "half", "payload", "floor", "pool", "isolation"):
            self.assertIsNotNone(figures[name], done.stderr)
        for what, ratio in figures["pool"]["ratios"].items():
            self.assertGreater(ratio, 0, what)
        self.assertGreater(figures["floor"]["tasks_per_second"]["floor"], 0)
        self.assertGreater(figures["isolation"]["under_kills"]["ratio"], 0)
        self.assertGreater(sum(one["kills"] for one in figures["isolation"]["under_kills"]["rounds"]["killed"]), 0)
        self.assertEqual(figures["isolation"]["under_kills"]["failed"], 0)  # none that has crashes left
        self.assertGreater(figures["isolation"]["replacement"]["count"], 0)

    def test_every_figure_of_scale_can_be_taken(self):
        done = subprocess.run([sys.executable, "-B", SCALE, "--smoke", "--json"], capture_output=True, text=True,
                              env={**self.env, "QUERN_BUILD": stage.BUILD}, timeout=4 * stage.PATIENCE_S)
        self.assertEqual(done.returncode, 0, done.stderr)
        figures = json.loads(done.stdout)
        for name in ("depth", "workers", "clients", "idle", "ready", "through"):
            self.assertIsNotNone(figures[name], done.stderr)
        self.assertEqual(figures["depth"]["queued"], 10000)
        self.assertEqual(len(figures["idle"]), 5)
        self.assertIn("instructions", figures)  # None without valgrind, or with sanitizers

    def test_quern_can_be_compared_with_every_peer_that_is_installed(self):
        done = subprocess.run([sys.executable, "-B", COMPARE, "--smoke", "--json"], capture_output=True, text=True,
                              env={**self.env, "QUERN_BUILD": stage.BUILD}, timeout=4 * stage.PATIENCE_S)
        self.assertEqual(done.returncode, 0, done.stderr)
        said = json.loads(done.stdout)
        for name in ("quern", "quern-volatile", "python", "bare"):
            self.assertGreater(said["rounds"][name][0]["tasks_per_second"], 0)
        self.assertEqual(len(said["rounds"]) + len(said["missing"]), 11)
        print("not installed:", ", ".join(f"{name} (no {what})" for name, what in said["missing"].items()) or "none")

    def test_a_floor_that_is_told_to_end_leaves_nothing(self):
        floor = stage.Program("bench_floor", [os.path.join(stage.BUILD, "tests", "bench_floor"), "--tasks", "20000000",
                                              "--directory", self.directory], self.env, self.directory)
        self.programs.append(floor)
        stage.wait_until(lambda: len(self.descendants(floor.pid)) == 4, "broker, two workers and a client")
        children = self.descendants(floor.pid)
        self.assertNotEqual(floor.end(), 0)
        self.assertEqual([pid for pid in children if os.path.exists(f"/proc/{pid}")], [])
        self.assertEqual([name for name in os.listdir(self.directory) if name.startswith("quern-floor")], [])


if __name__ == "__main__":
    stage.main()
