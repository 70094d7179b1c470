"""A disk that fails under whole processes: a sync that does not succeed, and no room (by preload/bad_disk.c, so that no
file system need be mounted; a real small one fills up in story_slow). The broker stops and never goes on without the disk;
after its restart everything is drained and judged: nothing lost, nothing twice, nothing unexpected."""

import collections
import json
import os
import subprocess

import stage

SHIM = os.path.join(stage.BUILD, "tests", "bad_disk.so")
UNRULY = os.path.join(stage.BUILD, "tests", "unruly.so")
STORE_FAILED = 70


class BadDisk(stage.Story):
    def setUp(self):
        super().setUp()
        os.mkdir(self.path("bad"))
        self.with_shim = {"LD_PRELOAD": SHIM, "QUERN_BAD_DISK": self.path("bad")}
        self.start_broker()

    def start_broker(self):
        self.program = self.broker(env=self.with_shim)

    def touch(self, name):
        with open(self.path("bad", name), "wb"):
            pass

    def map_begin(self, count, *options, session="mine"):
        client = self.quern_start("map", *options, "--session", session, "--jsonl", "--connect-timeout", "60",
                                  stdin=subprocess.PIPE)
        self.count = count
        return client

    def check_squares(self, client):
        rows = [json.loads(line) for line in client.out]
        self.assertEqual(collections.Counter(row["line"] for row in rows), collections.Counter(range(1, self.count + 1)))
        self.assertEqual([row for row in rows if not row["ok"] or row["result"] != (row["line"] - 1) ** 2], [])


class Sync(BadDisk):
    def fail_once(self):
        """It stops by itself, with the status that says so, and says why."""
        self.touch("sync-fails")
        self.assertEqual(self.program.status(), STORE_FAILED)
        self.assertFalse(os.path.exists(self.path("bad", "sync-fails")))
        self.assertTrue(any("error" in line for line in self.program.log), self.program.log)

    def test_a_sync_that_fails_stops_the_broker_and_nothing_is_lost_or_twice(self):
        self.worker()
        client = self.map_begin(20000, "square")
        client.write("".join(f"{n}\n" for n in range(self.count)))
        client.close_stdin()
        for turn in range(4):
            client.wait_out_count((turn + 1) * self.count // 8)
            self.fail_once()
            self.start_broker()
        self.assertEqual(client.status(), 0)
        self.check_squares(client)

    def test_what_was_told_before_is_there_afterwards(self):
        """Also what was asked for while it failed: refused or kept, never told and forgotten."""
        self.worker(slots=1)
        told = []
        for turn in range(5):
            told += [self.quern("submit", "--detach", "square", len(told) + n).stdout.strip() for n in range(5)]
            self.touch("sync-fails")
            client = self.quern_start("submit", "--detach", "--connect-timeout", "60", "square", "1000")
            self.assertEqual(self.program.status(), STORE_FAILED)
            self.start_broker()
            client.kill9() if turn % 2 else client.status()
            if client.out:
                self.assertEqual(self.quern("result", "--wait", client.out[0]).stdout, "1000000\n")
        for number, task in enumerate(told):
            self.assertEqual(self.quern("result", "--wait", task).stdout, f"{(number // 5 * 5 + number % 5) ** 2}\n")

    def test_at_most_once_is_that_when_syncs_fail(self):
        self.worker(module=UNRULY)
        client = self.map_begin(4000, "effect", "--raw", "--at-most-once")
        client.write((self.path("effects") + "\n") * self.count)
        client.close_stdin()
        for turn in range(4):
            client.wait_out_count((turn + 1) * self.count // 8)
            self.fail_once()
            self.start_broker()
        self.assertIn(client.status(), (0, 1))
        rows = [json.loads(line) for line in client.out]
        self.assertEqual(sorted(row["line"] for row in rows), list(range(1, self.count + 1)))
        with open(self.path("effects"), encoding="ascii") as file:
            effects = collections.Counter(file.read().split())
        self.assertEqual(set(effects.values()), {1})
        self.assertEqual({row["error"]["cause"] for row in rows if not row["ok"]} - {"lost"}, set())

    def test_one_that_fails_at_the_start_is_a_refusal(self):
        self.assertEqual(self.program.end(), 0)
        self.touch("sync-fails")
        refused = self.start("quern-broker", env=self.with_shim)
        self.assertIn(refused.status(), (1, STORE_FAILED))
        self.start_broker()


class Full(BadDisk):
    def test_a_disk_that_fills_up_and_empties_again_and_again(self):
        """Commits wait for room. Every other time the broker is killed meanwhile."""
        self.worker()
        client = self.map_begin(100000, "square")
        client.write("".join(f"{n}\n" for n in range(self.count)))
        client.close_stdin()
        for turn in range(4):
            client.wait_out_count((turn + 1) * self.count // 8)
            self.program.log.clear()
            self.touch("full")
            self.program.wait_log("disk full, waiting for room")
            if turn % 2:
                self.program.kill9()
            os.unlink(self.path("bad", "full"))
            if turn % 2:
                self.start_broker()
            else:
                self.program.wait_log("disk has room, committing again")
        self.assertEqual(client.status(), 0)
        self.check_squares(client)


if __name__ == "__main__":
    stage.main()
