"""When a task may start, until when, and whether anybody could start it: --expires, --at, --known, with real processes.
Start reading at Times."""

import json
import os
import signal
import time

import stage


class Times(stage.Story):
    def setUp(self):
        super().setUp()
        self.started_ms = time.time() * 1000

    def outcome(self, identity):
        return self.quern("--json", "result", identity, "--wait", status=None).json

    def show(self, identity):
        return self.quern("--json", "show", identity).json

    def test_what_nobody_started_in_time_fails_as_expired(self):
        self.broker()
        result = self.quern("submit", "square", "7", "--expires", "0.3", status=1)
        self.assertIn("expired", result.stderr)
        self.assertIn("not started within 0.3 s", result.stderr)
        (row,) = self.quern("--json", "list", "--cause", "expired").json
        self.assertEqual(row["attempts"], 0)
        self.worker()
        self.assertEqual(self.quern("submit", "square", "7", "--expires", "60").stdout, "49\n")
        self.assertEqual(self.show(row["id"])["state"], "failed")

    def test_what_waits_behind_a_long_task_expires_and_the_long_one_does_not(self):
        """Prefetched: the worker holds it, and gives it back unstarted."""
        self.broker()
        self.worker(slots=1)
        long = self.quern("submit", "--detach", "sleep", "3", "--expires", "1").stdout.strip()
        self.wait_status(lambda s: s["tasks"]["running"] == 1, "the long one to start")
        waits = [self.quern("submit", "--detach", "sleep", "0", "--expires", "0.4").stdout.strip() for _ in range(4)]
        outcomes = [self.outcome(identity) for identity in waits]
        self.assertEqual({outcome["error"]["cause"] for outcome in outcomes}, {"expired"}, outcomes)
        self.assertEqual(self.outcome(long)["ok"], True)

    def test_a_map_and_a_run_with_items_that_expire(self):
        self.broker()
        result = self.quern("map", "square", "--expires", "0.3", "--jsonl", input="1\n2\n3\n", status=1)
        self.assertEqual([json.loads(line)["error"]["cause"] for line in result.lines], ["expired"] * 3)
        result = self.quern("run", "--expires", "0.3", "--", "echo", input="1\n", status=1)
        self.assertIn("expired", result.stderr)

    def test_the_time_goes_on_while_the_broker_is_dead(self):
        broker = self.broker()
        early = self.quern("submit", "--detach", "square", "7", "--expires", "0.5").stdout.strip()
        late = self.quern("submit", "--detach", "square", "8", "--expires", "60").stdout.strip()
        self.assertIsNotNone(self.show(late)["expiry_ms"])
        broker.kill9()
        stage.wait_until(lambda: time.time() * 1000 > self.started_ms + 600, "its time to be over")
        self.broker()
        self.assertEqual(self.outcome(early)["error"]["cause"], "expired")
        self.worker()
        self.assertEqual(self.outcome(late)["result"], 64)

    def test_a_volatile_task_expires(self):
        self.broker("--volatile")
        self.assertIn("expired", self.quern("submit", "square", "7", "--volatile", "--expires", "0.2", status=1).stderr)

    def test_show_tells_when_it_is_due_and_when_it_expires(self):
        self.broker()
        identity = self.quern("submit", "--detach", "square", "7", "--at", "2099-12-01T03:00Z").stdout.strip()
        self.assertEqual(self.show(identity)["due_ms"], 4099777200000)
        self.assertRegex(self.quern("show", identity, env={"TZ": "UTC"}).stdout, r"due +2099-12-01T03:00:00\+0000")
        self.assertIn("its delay runs", self.quern("explain", identity).stdout)
        identity = self.quern("submit", "--detach", "square", "7", "--expires", "3600").stdout.strip()
        shown = self.quern("show", identity).stdout
        self.assertIn("expires after 3600 s", shown)
        self.assertRegex(shown, r"expires +2\d{3}-")

    def test_a_task_for_a_time_of_the_clock_starts_at_that_time(self):
        self.broker()
        self.worker()
        at = int(time.time()) + 2
        text = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))
        result = self.quern("submit", "--json", "square", "7", "--at", text).json
        self.assertEqual(result["result"], 49)
        self.assertGreaterEqual(time.time(), at)
        self.assertEqual(self.quern("submit", "square", "7", "--at", "2001-01-01T00:00").stdout, "49\n")

    def test_an_unknown_function_fails_at_once_if_asked(self):
        self.broker()
        self.worker("--queue", "default")
        self.wait_workers()
        result = self.quern("submit", "sqare", "7", "--known", status=1)
        self.assertIn("UnknownFunction", result.stderr)
        self.assertIn("no worker serves function sqare on queue default", result.stderr)
        self.assertEqual(self.quern("submit", "square", "7", "--known").stdout, "49\n")
        self.assertIn("UnknownFunction", self.quern("submit", "square", "7", "--known", "--queue", "slow", status=1).stderr)
        result = self.quern("map", "sqare", "--known", "--jsonl", input="1\n2\n", status=1)
        self.assertEqual([json.loads(line)["error"]["kind"] for line in result.lines], ["UnknownFunction"] * 2)

    def test_a_restarted_broker_waits_for_its_workers_before_it_calls_a_function_unknown(self):
        for number in (signal.SIGKILL, signal.SIGTERM):
            broker = self.broker()
            worker = self.worker()
            self.wait_workers()
            os.kill(broker.pid, number)
            broker.status()
            broker = self.broker()
            self.assertEqual(self.quern("submit", "square", "7", "--known").stdout, "49\n")
            worker.end()
            broker.end()


if __name__ == "__main__":
    stage.main()
