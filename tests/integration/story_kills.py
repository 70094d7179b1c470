"""kill -9 of each process in the middle of work: every task has exactly one outcome, and nobody restarts anything but what
was killed."""

import collections
import json
import subprocess

import stage


def numbers(count):
    return "\n".join(map(str, range(count))) + "\n"


class Kills(stage.Story):
    def squares(self, lines, count):
        """The verdict: nothing lost, nothing twice, nothing unexpected."""
        got = collections.Counter(map(int, lines))
        self.assertEqual(got, collections.Counter(n * n for n in range(count)))

    def test_broker_killed_in_the_middle_of_a_map(self):
        count = 20000
        broker = self.broker()
        worker = self.worker()
        client = self.quern_start("map", "square", stdin=subprocess.PIPE)
        client.write(numbers(count // 2))
        client.wait_out_count(count // 20)
        broker.kill9()
        client.write("\n".join(map(str, range(count // 2, count))) + "\n")
        client.close_stdin()
        self.broker()
        self.assertEqual(client.status(), 0)
        self.squares(client.out, count)
        self.assertTrue(worker.is_running())

    def test_broker_killed_again_and_again(self):
        count = 30000
        broker = self.broker()
        self.worker()
        client = self.quern_start("map", "square", stdin=subprocess.PIPE)
        client.write(numbers(count))
        client.close_stdin()
        for round in range(5):
            client.wait_out_count((round + 1) * count // 10)
            broker.kill9()
            broker = self.broker()
        self.assertEqual(client.status(), 0)
        self.squares(client.out, count)

    def test_worker_killed_in_the_middle_of_a_map(self):
        count = 20000
        self.broker()
        worker = self.worker()
        client = self.quern_start("map", "square", stdin=subprocess.PIPE)
        client.write(numbers(count))
        client.close_stdin()
        client.wait_out_count(count // 10)
        below = self.descendants(worker.pid)
        worker.kill9()
        self.worker()
        self.assertEqual(client.status(), 0)
        self.squares(client.out, count)
        stage.wait_until(lambda: not any(map(stage.is_alive, below)), "the killed worker's slots to be gone", 10)

    def test_client_killed_goes_on_where_it_was(self):
        """P5: what was printed may come again only if its acknowledgement was lost; nothing else is missing or twice."""
        count = 20000
        self.broker()
        self.worker()
        client = self.quern_start("map", "square", "--session", "mine", "--jsonl", stdin=subprocess.PIPE)
        client.write(numbers(count))
        client.wait_out_count(count // 10)
        client.kill9()
        first = [json.loads(line)["line"] for line in client.out[:-1]]
        again = self.quern("map", "square", "--session", "mine", "--jsonl", input=numbers(count))
        second = [json.loads(line)["line"] for line in again.lines]
        self.assertEqual(len(second), len(set(second)))
        self.assertEqual(set(first) | set(second) | {json.loads(line)["line"] for line in client.out[-1:] if
                                                     line.endswith("}")}, set(range(1, count + 1)))

    def test_a_restart_of_the_broker_does_not_run_a_task_twice(self):
        """P8: workers go on computing and hand in later. A hundred two-second tasks; side effects are counted."""
        count = 100
        broker = self.broker()
        self.worker("--allow-commands", module=None, slots=50)
        script = f'echo "$QUERN_INPUT" >> {self.path("effects")}; sleep 2'
        client = self.quern_start("run", "--", "sh", "-c", script, stdin=subprocess.PIPE)
        client.write(numbers(count))
        client.close_stdin()
        stage.wait_until(lambda: self.effects() and len(self.effects()) >= 5, "five started")
        broker.kill9()
        self.broker()
        self.assertEqual(client.status(), 0)
        self.assertEqual(collections.Counter(self.effects()), collections.Counter(map(str, range(count))))

    def effects(self):
        try:
            with open(self.path("effects"), encoding="utf-8") as file:
                return file.read().split()
        except FileNotFoundError:
            return []

    def test_what_was_cancelled_does_not_come_back_after_a_kill(self):
        broker = self.broker()
        tasks = [self.quern("submit", "--detach", "square", i).stdout.strip() for i in range(3)]
        delayed = self.quern("submit", "--detach", "--delay", 3600, "square", 4).stdout.strip()
        self.quern("cancel", tasks[1], delayed)
        broker.kill9()
        self.broker()
        self.worker()
        for task in (tasks[0], tasks[2]):
            self.quern("result", task, "--wait")
        for task in (tasks[1], delayed):
            self.assertEqual(self.quern("--json", "show", task).json["state"], "cancelled")
            self.assertEqual(self.quern("--json", "show", task).json["started_ms"], None)
        counters = self.status()["counters"]
        self.assertEqual(counters["dispatched"], 2)

    def test_an_accepted_task_survives_the_kill_of_all(self):
        broker = self.broker()
        identity = self.quern("submit", "--detach", "square", "12").stdout.strip()
        broker.kill9()
        self.broker()
        self.worker()
        self.assertEqual(self.quern("result", identity, "--wait").stdout, "144\n")

    def test_a_broker_that_dies_when_all_is_printed_is_no_failure(self):
        """What is left is to end a session without a name; it ends by itself."""
        for how in ((), ("--volatile",)):
            broker = self.broker()
            worker = self.worker()
            client = self.quern_start("map", "square", *how, stdin=subprocess.PIPE)
            client.write("3\n")
            client.wait_out_count(1)
            broker.kill9()
            client.close_stdin()
            self.assertEqual(client.status(), 0, client.log)
            worker.kill9()

    def test_a_result_that_was_seen_is_the_same_after_a_kill(self):
        broker = self.broker()
        self.worker()
        identity = self.quern("submit", "--detach", "square", "13").stdout.strip()
        self.assertEqual(self.quern("result", identity, "--wait").stdout, "169\n")
        broker.kill9()
        self.broker()
        self.assertEqual(self.quern("result", identity).stdout, "169\n")


if __name__ == "__main__":
    stage.main()
