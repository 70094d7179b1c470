"""Functions that are clients of their own broker: what they wait for runs, also where there is one slot."""

import json
import os
import signal
import socket
import subprocess
import threading

import stage

NESTED = os.path.join(stage.BUILD, "lib", "quern", "nested.so")
NEST = os.path.join(stage.BUILD, "tests", "nest.so")
DEPTH_MAX = 64
WAITING_MAX = 64


class Nested(stage.Story):
    def begin(self, slots=1, module=NEST, **options):
        self.broker()
        worker = self.worker(slots=slots, module=module, **options)
        self.wait_workers()
        return worker

    def touch(self, name):
        with open(self.path(name), "wb"):
            pass

    def lines(self, name):
        try:
            with open(self.path(name), encoding="ascii") as file:
                return file.read().split()
        except FileNotFoundError:
            return []

    def detach(self, *words):
        return self.quern("submit", "--detach", *words).stdout.strip()

    def show(self, task):
        return self.quern("--json", "show", task).json

    def slots_of(self, worker):
        """Processes of the worker that are slots: children of its zygote."""
        below = self.descendants(worker.pid)
        return [pid for pid in below if self.name_of(pid) == "quern-slot"]

    @staticmethod
    def name_of(pid):
        try:
            with open(f"/proc/{pid}/comm", encoding="ascii") as file:
                return file.read().strip()
        except OSError:
            return None

    # ---- trees ----

    def test_fibonacci_through_the_queue_on_one_slot(self):
        self.begin(module=NESTED)
        self.assertEqual(self.quern("submit", "fib_nested", "11").stdout, "89\n")

    def test_fibonacci_through_the_queue_on_three_slots(self):
        self.begin(slots=3, module=NESTED)
        self.assertEqual(self.quern("submit", "fib_nested", "12").stdout, "144\n")

    def test_a_sum_over_a_tree_on_two_workers(self):
        self.begin(slots=1, module=NESTED)
        self.worker(slots=2, module=NESTED)
        self.wait_workers(2)
        self.assertEqual(self.quern("submit", "tree_sum", "1", "100000", "1000").stdout, "5000050000\n")

    # ---- without a store ----

    def test_in_a_slot_who_does_not_ask_for_durability_gets_what_the_broker_has(self):
        """Functions and commands alike; a session with a name is asked for, and so is one outside of a slot."""
        for volatile in (True, False):
            broker = self.broker(*["--volatile"] * volatile)
            worker = self.worker("--allow-commands", module=NEST)
            self.wait_workers()
            self.assertEqual(self.quern("submit", *["--volatile"] * volatile, "descend", "2").stdout, "2\n")

            def submit_in_a_slot(*words, **options):
                return self.quern("run", *["--volatile"] * volatile, "--", os.path.join(stage.BIN, "quern"), "submit",
                                  *words, "leaf", "{}", input="3\n", **options)

            self.assertEqual(submit_in_a_slot().stdout, "3\n")
            task = submit_in_a_slot("--detach").stdout.strip()
            self.assertEqual(self.show(task)["durable"], not volatile)
            named = submit_in_a_slot("--session", "s", status=None)
            self.assertEqual("no store" in named.stderr, volatile)
            self.quern("submit", "leaf", "3", status=4 if volatile else 0)
            worker.send(signal.SIGTERM)
            worker.status()
            broker.send(signal.SIGTERM)
            broker.status()

    # ---- many that wait ----

    def test_two_hundred_tasks_that_wait_for_three_each_on_one_slot(self):
        worker = self.begin()
        self.assertEqual(self.quern("map", "fan", input="3\n" * 200).lines, ["3"] * 200)
        self.assertLess(len(self.slots_of(worker)), 10)

    def test_a_chain_as_deep_as_it_may_be_on_one_slot(self):
        self.begin()
        self.assertEqual(self.quern("submit", "descend", str(DEPTH_MAX)).stdout, f"{DEPTH_MAX}\n")

    def test_one_deeper_is_refused_in_words(self):
        self.begin()
        result = self.quern("submit", "descend", str(DEPTH_MAX + 1), status=None)
        self.assertNotEqual(result.status, 0)
        self.assertIn("64 deep", result.stderr)

    def test_the_sixty_fifth_that_waits_fails_in_words_and_the_others_go_on(self):
        """Two chains of 64 at once, on one slot: for both there are not places enough."""
        self.begin()
        tasks = [self.detach("descend", str(DEPTH_MAX), json.dumps(self.path("met")), "2") for _ in range(2)]
        shown = [stage.wait_until(lambda task=task: self.final(task), task) for task in tasks]
        self.assertEqual(sorted(task["state"] for task in shown), ["done", "failed"])
        failed = [task for task in shown if task["state"] == "failed"][0]
        self.assertEqual(failed["kind"], "full")
        self.assertIn("tasks of this worker wait", failed["message"])

    def final(self, task):
        shown = self.show(task)
        return shown if shown["state"] in ("done", "failed", "cancelled") else None

    # ---- ends ----

    def test_a_waiting_slot_that_is_killed_costs_one_attempt(self):
        worker = self.begin()
        task = self.detach("parent", json.dumps(self.path("go")))
        stage.wait_until(lambda: self.lines("go.pid"), "the parent")
        self.wait_status(lambda s: s["tasks"]["running"] >= 2, "the child")
        os.kill(int(self.lines("go.pid")[0]), signal.SIGKILL)
        stage.wait_until(lambda: self.show(task)["crashes"] == 1, "its crash")
        self.assertIn(self.show(task)["state"], ("ready", "leased"))  # the child has the one place
        self.touch("go")
        shown = stage.wait_until(lambda: self.final(task), "its outcome")
        self.assertEqual(shown["state"], "done")
        counters = self.status()["counters"]
        self.assertEqual((counters["retried"], counters["lost"]), (1, 0))
        self.assertEqual(len(self.lines("go.pid")), 2)
        self.assertTrue(worker.is_running())

    def test_a_timeout_counts_while_it_waits(self):
        self.begin()
        result = self.quern("submit", "--timeout", "0.3", "parent", json.dumps(self.path("go")), status=None)
        self.assertIn("timeout", result.stderr)
        self.touch("go")

    def test_a_worker_told_to_end_finishes_what_waits(self):
        worker = self.begin()
        task = self.detach("descend", "3", json.dumps(self.path("met")), "2")
        stage.wait_until(lambda: os.path.exists(self.path("met")), "its start")
        worker.send(signal.SIGTERM)
        worker.wait_log("draining")
        with open(self.path("met"), "ab") as file:
            file.write(b".")
        self.assertEqual(worker.status(), 0)
        self.assertEqual(self.show(task)["state"], "done")

    def test_slots_made_for_waiting_end_when_nobody_waits(self):
        worker = self.begin()
        self.assertEqual(self.quern("submit", "descend", "20").stdout, "20\n")
        self.assertGreater(len(self.slots_of(worker)), 20)
        stage.wait_until(lambda: len(self.slots_of(worker)) == 1, "one slot")
        self.assertEqual(self.quern("submit", "descend", "3").stdout, "3\n")

    # ---- commands ----

    def commands(self, slots=1):
        self.env["PATH"] = os.path.join(stage.BUILD, "bin") + ":" + os.environ["PATH"]
        self.broker()
        worker = self.worker("--allow-commands", "--queue", "default", slots=slots)
        self.wait_workers()
        return worker

    def test_a_run_inside_a_run_inside_a_run_on_one_slot(self):
        self.commands()
        inner = "echo c | quern run -- echo a b"
        middle = f"echo x | quern run -- sh -c '{inner}'"
        result = self.quern("run", "--", "sh", "-c", middle, input="1\n")
        self.assertEqual(result.stdout, "a b c\n")

    def test_a_map_and_a_submit_inside_a_run_on_one_slot(self):
        self.commands()
        result = self.quern("run", "--", "sh", "-c", "seq 100 | quern map square --keep-order | tail -n 1", input="1\n")
        self.assertEqual(result.stdout, "10000\n")
        result = self.quern("run", "--", "sh", "-c", 'quern submit square "$QUERN_INPUT"', input="7\n")
        self.assertEqual(result.stdout, "49\n")
        result = self.quern("run", "--", "sh", "-c", 'quern result "$(quern submit --detach cube 3)" --wait', input="7\n")
        self.assertEqual(result.stdout, "27\n")

    def test_many_commands_that_each_map_on_two_slots(self):
        self.commands(slots=2)
        result = self.quern("run", "--keep-order", "--", "sh", "-c", 'seq "$QUERN_INPUT" | quern map square | wc -l',
                            input="".join(f"{n}\n" for n in range(1, 21)))
        self.assertEqual(result.stdout.split(), [str(n) for n in range(1, 21)])

    def test_several_processes_of_one_command_wait_at_once(self):
        self.commands()
        script = "for i in 1 2 3 4; do quern submit square $i & done; wait"
        result = self.quern("run", "--", "sh", "-c", script, input="1\n")
        self.assertEqual(sorted(map(int, result.lines)), [1, 4, 9, 16])

    def test_a_command_knows_its_task_and_how_deep_it_stands(self):
        self.commands()
        result = self.quern("--json", "submit", "quern.command", '["sh", "-c", "echo $QUERN_TASK $QUERN_SLOT"]').json
        task, slot = result["result"]["stdout"].split()
        self.assertEqual(task, result["id"])
        self.assertRegex(slot, r"^quern-slot-[0-9a-f]{32}:1$")

    def test_a_process_that_dies_waiting_does_not_leave_its_slot_as_waiting(self):
        """The only slot is held by a command: nothing runs beside it any more once its waiting process is dead."""
        worker = self.commands()
        script = ("quern submit --queue nobody square 1 & pid=$!; "
                  "until [ -e beside ]; do sleep 0.05; done; "
                  "kill -9 $pid; wait $pid; echo >killed; until [ -e end ]; do sleep 0.05; done; echo ended >>order")
        waits = self.quern_start("run", "--", "sh", "-c", script, stdin=subprocess.PIPE)
        waits.write("1\n")
        waits.close_stdin()
        self.quern("submit", "quern.command", '["sh", "-c", "echo >beside"]')  # it has the place of the one that waits
        stage.wait_until(lambda: os.path.exists(self.path("killed")), "the death of the waiting process")
        stage.wait_until(lambda: len(self.slots_of(worker)) == 1, "the slot that was made for its place to end")
        later = self.detach("quern.command", '["sh", "-c", "echo later >>order"]')
        self.assertIn(self.show(later)["state"], ("ready", "leased"))
        self.touch("end")
        self.quern("result", later, "--wait")
        self.assertEqual(self.lines("order"), ["ended", "later"])
        self.assertEqual(waits.status(), 0)

    def test_a_timeout_ends_a_command_that_waits(self):
        self.commands()
        result = self.quern("run", "--timeout", "0.5", "--", "quern", "submit", "--queue", "nobody", "square", input="1\n",
                            status=1)
        self.assertIn("timeout", result.stderr)
        self.assertEqual(self.quern("submit", "square", "7").stdout, "49\n")

    def test_a_chain_of_commands_as_deep_as_it_may_be_and_one_deeper_on_one_slot(self):
        self.commands()
        with open(self.path("chain.sh"), "w", encoding="ascii") as file:
            file.write('[ "$1" = 0 ] && exit 0\n'
                       'exec quern submit quern.command "[\\"sh\\", \\"chain.sh\\", \\"$(($1 - 1))\\"]" >/dev/null\n')
        self.quern("submit", "quern.command", f'["sh", "chain.sh", "{DEPTH_MAX}"]')
        self.quern("submit", "quern.command", f'["sh", "chain.sh", "{DEPTH_MAX + 1}"]', status=1)
        said = [self.show(row["id"])["result"]["stderr"] for row in self.quern("--json", "list", "--state", "failed").json]
        self.assertEqual(sum("64 deep" in text for text in said), 1, said)
        self.assertEqual(len(said), DEPTH_MAX + 1)

    def test_a_process_of_a_command_that_may_not_wait_says_so(self):
        """As many wait as may; here the door is the test's own, and refuses everybody."""
        self.broker()
        door = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.addCleanup(door.close)
        name = "quern-test-" + os.path.basename(self.directory)
        door.bind("\0" + name)
        door.listen(16)

        def refuse():
            try:
                while True:
                    with door.accept()[0] as who:
                        who.send(b"r")
            except OSError:
                return

        threading.Thread(target=refuse, daemon=True).start()
        for words, lines in ((("submit", "square", "7"), ""), (("map", "square"), "7\n")):
            result = self.quern(*words, input=lines, env={"QUERN_SLOT": name + ":1"}, status=4)
            self.assertIn("tasks of this worker wait", result.stderr)


if __name__ == "__main__":
    stage.main()
