"""A copy of the store under load, and what it is worth: it is whole, others start from it, a kill in the middle leaves no half
of it; and looking through a store offline."""

import json
import os
import random
import shutil
import signal
import subprocess
import unittest

import stage


class Backup(stage.Story):
    def check(self, path, status=0):
        """What `quern-broker --check --json` says of a store."""
        done = subprocess.run([os.path.join(stage.BIN, "quern-broker"), "--check", "--json", "--db", path],
                              capture_output=True, env=self.env, timeout=stage.PATIENCE_S)
        self.assertEqual(done.returncode, status, done.stdout.decode() + done.stderr.decode())
        return json.loads(done.stdout) if done.stdout else done.stderr.decode()

    def hoard(self, session, count, size):
        """Tasks that wait, so that there is something to copy."""
        program = stage.Program("hoard", [os.path.join(stage.BUILD, "tests", "hoard"), session, str(count), str(size)],
                                self.env, self.directory, stdin=subprocess.PIPE)
        self.programs.append(program)
        program.wait_out("submitted", 300)
        return program

    def copies(self, name):
        return sorted(file for file in os.listdir(self.directory) if file.startswith(name))

    def test_a_copy_under_load_is_whole_and_a_broker_starts_from_it(self):
        broker = self.broker()
        self.worker()
        self.wait_workers()
        before = [self.quern("submit", "--detach", "square", number).stdout.strip() for number in range(5)]
        bench = self.quern_start("bench", "--tasks", 200000)
        stage.wait_until(lambda: self.status()["store_stats"]["rows"] > 2000, "some load")
        said = self.quern("--json", "backup", "copy.db").json
        self.assertEqual(bench.status(300), 0)
        copy = self.path("copy.db")
        self.assertEqual(said, {"file": copy, "bytes": os.stat(copy).st_size})
        self.assertEqual(self.copies("copy.db"), ["copy.db"])
        report = self.check(copy)
        self.assertTrue(report["whole"])
        self.assertEqual(report["faults"], [])
        self.assertGreater(report["rows"]["outcomes"], 0)
        self.assertEqual(self.copies("copy.db"), ["copy.db"])
        store = self.status()["store"]
        self.assertEqual(report["store"], store)
        self.assertEqual(broker.end(), 0)
        self.broker("--db", copy)
        for number, task in enumerate(before):
            self.assertEqual(self.quern("result", task, "--wait").stdout.strip(), str(number * number))
        self.assertNotEqual(self.status()["store"], store)
        self.assertEqual(self.quern("submit", "square", "9").stdout, "81\n")

    def test_nothing_is_overwritten_and_the_reason_is_said(self):
        self.broker()
        self.quern("backup", "copy.db")
        with open(self.path("copy.db"), "rb") as file:
            first = file.read()
        again = self.quern("backup", self.path("copy.db"), status=4)
        self.assertIn("is there already", again.stderr)
        with open(self.path("copy.db"), "rb") as file:
            self.assertEqual(file.read(), first)
        self.assertIn("No such file", self.quern("backup", "nowhere/copy.db", status=4).stderr)
        self.quern("backup", status=2)
        self.assertEqual(self.copies("copy.db"), ["copy.db"])

    def test_strangers_have_no_files_made(self):
        broker = self.broker("--listen", "tcp://127.0.0.1:*", "--insecure-tcp")
        refused = self.quern("--url", broker.urls[0], "backup", "copy.db", status=4)
        self.assertIn("broker's host", refused.stderr)
        self.assertEqual(self.copies("copy.db"), [])

    def test_a_broker_without_a_store_says_so(self):
        self.broker("--volatile")
        self.assertIn("no store", self.quern("backup", "copy.db", status=4).stderr)

    def test_a_kill_in_the_middle_leaves_no_half_under_the_name(self):
        chance = random.Random(7)
        broker = self.broker()
        hoard = self.hoard("many", 30000, 1000)
        hoard.kill9()
        middle = 0
        for _ in range(12):
            asker = self.quern_start("backup", "copy.db")
            steps = chance.randrange(3)
            if steps == 0:  # as soon as there is anything of it
                stage.wait_until(lambda: self.copies("copy.db") or not asker.is_running(), "a beginning")
            else:
                wanted = chance.randrange(1, 40) * 2**20
                stage.wait_until(lambda: not asker.is_running() or os.path.exists(self.path("copy.db")) or (
                    os.path.exists(self.path("copy.db.part")) and os.stat(self.path("copy.db.part")).st_size >= wanted), "a part")
            broker.kill9()
            asker.end(signal.SIGKILL)
            if os.path.exists(self.path("copy.db")):
                self.assertTrue(self.check(self.path("copy.db"))["whole"])
                os.unlink(self.path("copy.db"))
            else:
                middle += 1
            broker = self.broker()
        self.assertGreater(middle, 3)
        self.quern("backup", "copy.db")
        self.assertEqual(self.copies("copy.db"), ["copy.db"])
        self.assertEqual(self.check(self.path("copy.db"))["rows"]["tasks"], 30000)

    def test_a_copy_waits_for_the_broker_that_comes_back(self):
        broker = self.broker()
        self.hoard("many", 20000, 1000).kill9()
        asker = self.quern_start("backup", "copy.db")
        stage.wait_until(lambda: self.copies("copy.db") or not asker.is_running(), "a beginning")
        broker.kill9()
        had_it = os.path.exists(self.path("copy.db"))
        self.broker()
        self.assertEqual(asker.status(), 4 if had_it and asker.process.poll() == 4 else 0)
        self.assertTrue(self.check(self.path("copy.db"))["whole"])

    def test_a_clean_end_does_not_wait_for_a_copy(self):
        broker = self.broker()
        self.hoard("many", 30000, 1000).kill9()
        asker = self.quern_start("backup", "copy.db")
        stage.wait_until(lambda: self.copies("copy.db.part") or not asker.is_running(), "a beginning")
        self.assertEqual(broker.end(), 0)
        self.assertIn(self.copies("copy.db"), ([], ["copy.db"]))
        asker.end()

    def test_a_restored_store_does_not_take_the_log_of_the_other(self):
        broker = self.broker()
        first = self.quern("submit", "--detach", "square", 3).stdout.strip()
        self.quern("backup", "copy.db")
        later = self.quern("submit", "--detach", "square", 4).stdout.strip()
        store = self.status()["store"]
        broker.kill9()
        self.assertGreater(os.stat(self.db + "-wal").st_size, 0)
        shutil.copy(self.path("copy.db"), self.db)
        refused = self.start("quern-broker")
        self.assertEqual(refused.status(), 1)
        self.assertIn("move the log away", "\n".join(refused.log))
        os.unlink(self.db + "-wal")
        self.broker()
        self.assertNotEqual(self.status()["store"], store)
        self.worker()
        self.assertEqual(self.quern("result", first, "--wait").stdout, "9\n")
        self.quern("result", later, status=4)

    def test_a_store_in_use_is_not_checked_and_one_that_is_not_whole_is_told(self):
        broker = self.broker()
        self.worker()
        self.quern("submit", "square", 3)
        self.assertIn(f"in use by the broker with pid {broker.pid}", self.check(self.db, status=1))
        broker.kill9()
        files = sorted(os.listdir(os.path.dirname(self.db)))
        report = self.check(self.db)
        self.assertTrue(report["whole"])
        self.assertFalse(report["clean"])
        self.assertGreater(report["wal_bytes"], 0)
        self.assertEqual(sorted(os.listdir(os.path.dirname(self.db))), files)
        self.broker().end()
        with open(self.db, "r+b") as file:
            file.seek(4096 * 2)
            file.write(b"\xa5" * 4096)
        self.assertFalse(self.check(self.db, status=3)["whole"])
        refused = self.start("quern-broker")
        self.assertEqual(refused.status(), 1)
        self.assertIn("restore a backup", "\n".join(refused.log))
        self.assertIn("name one", subprocess.run([os.path.join(stage.BIN, "quern-broker"), "--check"], capture_output=True,
                                                 text=True, env=self.env).stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)
