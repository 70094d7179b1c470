"""Arguments and results of 16 MiB pass and survive kill -9; a byte more is refused by name; bytes stay as they are."""

import base64
import json
import os
import signal
import subprocess
import unittest

import stage

PAYLOAD_SIZE_MAX = 16 * 1024 * 1024
# An item of this size makes arguments of 16 MiB: an array of one text, and the header of a text.
ITEM_SIZE_MAX = PAYLOAD_SIZE_MAX - 6
# stdout and stderr of a command travel in one map with its exit status.
OUTPUT_SIZE_MAX = PAYLOAD_SIZE_MAX - 128


def text_of(size):
    """Not a constant: what is cut, repeated or laid over would show."""
    block = "".join(f"{n:07d} " for n in range(size // 8 + 1))
    return block[:size]


def bytes_of(value):
    return value.encode() if isinstance(value, str) else base64.b64decode(value["$bin"])


class Large(stage.Story):
    def setUp(self):
        super().setUp()
        self.text = text_of(ITEM_SIZE_MAX)

    def begin(self, text, *command):
        """A client that is killed once its one item is accepted; nobody works yet."""
        client = self.quern_start("map", *command, "--raw", "--session", "large", stdin=subprocess.PIPE)
        client.write(text + "\n")
        self.wait_status(lambda s: sum(s["tasks"].values()) == 1, "the task")
        client.kill9()

    def taken(self):
        """What the session's one result is, to the client that comes back."""
        return self.quern("attach", "large").json

    def test_16_mib_that_wait_to_be_taken_survive_the_kill_of_the_broker(self):
        """Between done and taken: the result is told to nobody yet, and only the disk has it."""
        broker = self.broker()
        self.begin(self.text, "echo")
        broker.kill9()  # the arguments come back from the disk too
        broker = self.broker()
        worker = self.worker(slots=1)
        self.wait_status(lambda s: s["unacked"] == 1, "the result")
        self.assertEqual(worker.end(), 0)
        broker.kill9()
        self.broker()
        self.assertTrue(self.taken() == self.text, "the result is not what was sent")

    @unittest.skipIf(stage.is_sanitized(), "a sanitizer keeps memory that was freed")
    def test_memory_of_large_payloads_goes_back_when_no_more_come(self):
        broker = self.broker()
        self.worker(slots=1)
        self.wait_workers()
        self.quern("bench", "--volatile", "--bytes", "1000000", "--tasks", "100")
        peak = self.memory_kib(broker, "VmHWM")
        self.assertGreater(peak, 60 * 1000)  # else there is nothing to be seen
        stage.wait_until(lambda: self.memory_kib(broker, "VmRSS") < peak / 2, "memory to go back")

    @unittest.skipIf(stage.is_sanitized(), "a sanitizer keeps memory that was freed")
    def test_memory_of_what_waited_goes_back_when_a_worker_that_stood_still_goes_on(self):
        """Freed in another order than it came, and by other threads, here and there."""
        broker = self.broker()
        worker = self.worker(slots=1)
        self.wait_workers()
        self.quern("bench", "--bytes", "100000", "--tasks", "50")
        before = [self.memory_kib(program, "VmRSS") for program in (broker, worker)]
        bench = self.quern_start("bench", "--bytes", "100000", "--tasks", "1000", "--depth", "800")
        os.kill(worker.pid, signal.SIGSTOP)
        stage.wait_until(lambda: self.memory_kib(broker, "VmRSS") > before[0] + 40000, "tasks that wait")
        os.kill(worker.pid, signal.SIGCONT)
        self.assertEqual(bench.status(), 0)
        for program, at in zip((broker, worker), before):
            stage.wait_until(lambda: self.memory_kib(program, "VmRSS") < at + 12000, "memory to go back")

    def memory_kib(self, program, key):
        with open(f"/proc/{program.pid}/status", encoding="ascii") as file:
            return next(int(line.split()[1]) for line in file if line.startswith(key))

    def test_16_mib_that_a_worker_has_survive_the_kill_of_the_broker(self):
        """The slot is held up: the broker dies while the worker has the task, and the result is made meanwhile."""
        broker = self.broker()
        worker = self.worker(slots=1)
        self.wait_workers()
        self.assertEqual(self.quern("submit", "square", "3").stdout, "9\n")
        below = self.descendants(worker.pid)
        for pid in below:
            os.kill(pid, signal.SIGSTOP)
        self.begin(self.text, "echo")
        self.wait_status(lambda s: s["tasks"]["leased"] == 1, "the lease")
        broker.kill9()
        for pid in below:
            os.kill(pid, signal.SIGCONT)
        self.broker()
        self.wait_status(lambda s: s["unacked"] == 1, "the result")
        rows = self.quern("--json", "list", "--session", "large").json
        self.assertEqual([(row["attempts"], row["state"]) for row in rows], [(1, "done")])
        self.assertTrue(self.taken() == self.text, "the result is not what was sent")

    def test_output_of_a_command_that_runs_over_the_kill_of_the_broker(self):
        broker = self.broker()
        self.worker("--allow-commands", module=None, slots=1)
        script = 'echo >> started; until [ -e go ]; do sleep 0.01; done; head -c "$0" /dev/zero'
        client = self.quern_start("run", "--jsonl", "--", "sh", "-c", script, stdin=subprocess.PIPE)
        client.write(f"{OUTPUT_SIZE_MAX}\n")
        client.close_stdin()
        self.wait_status(lambda s: s["tasks"]["running"] == 1, "the command")
        broker.kill9()
        with open(self.path("go"), "w", encoding="ascii"):
            pass
        self.broker()
        self.assertEqual(client.status(), 0)
        row = json.loads(client.out[0])
        self.assertEqual(len(client.out), 1)
        self.assertEqual((row["ok"], row["attempts"], row["result"]["exit_status"]), (True, 1, 0))
        self.assertTrue(row["result"]["stdout"] == "\0" * OUTPUT_SIZE_MAX, "the output is not what was written")
        with open(self.path("started"), encoding="ascii") as file:
            self.assertEqual(file.read(), "\n", "it was run twice")

    def test_a_byte_more_is_refused_by_name_and_nothing_is_stored(self):
        self.broker()
        over = f"its arguments are {PAYLOAD_SIZE_MAX + 1} bytes; the limit is {PAYLOAD_SIZE_MAX}"
        for more, says in ((1, over), (2**20, "it is longer")):
            result = self.quern("map", "echo", "--raw", input=self.text + more * "y", status=1)
            self.assertEqual(result.stdout, "")
            for word in ("line 1: not submitted", says, "into a file"):  # to what, what happened, what to do
                self.assertIn(word, result.stderr)
        row = self.quern("map", "echo", "--raw", "--jsonl", input=self.text + "y", status=1).json
        self.assertEqual((row["id"], row["ok"]), (None, False))
        status = self.status()
        self.assertEqual((sum(status["tasks"].values()), status["unacked"], status["acked"]), (0, 0, 0))
        self.assertEqual(status["counters"]["submitted"], 0)
        self.assertLess(os.stat(self.db).st_size + os.stat(self.db + "-wal").st_size, PAYLOAD_SIZE_MAX // 4)

    def test_a_result_over_the_limit_is_a_failure_by_name(self):
        """The arguments are small enough; what they make is not: an integer of one byte becomes one of nine."""
        self.broker()
        self.worker(slots=1)
        pair = json.dumps([[1] * 2_000_000, 2**40])
        row = self.quern("map", "multiply_row", "--jsonl", input=pair, status=1).json
        self.assertEqual((row["error"]["cause"], row["error"]["kind"]), ("unencodable", "Unencodable"))
        self.assertIn("16 MiB", row["error"]["message"])
        self.assertEqual(self.quern("submit", "square", "4").stdout, "16\n")  # the slot goes on


class Output(stage.Story):
    def setUp(self):
        super().setUp()
        self.broker()
        self.worker("--allow-commands", slots=1)

    def test_output_up_to_the_limit_comes_whole_and_a_byte_more_is_refused_by_name(self):
        head = ("run", "--", "head", "-c", "{}", "/dev/zero")
        result = self.quern(*head, input=str(OUTPUT_SIZE_MAX))
        self.assertTrue(result.bytes == bytes(OUTPUT_SIZE_MAX), "the output is not what was written")
        result = self.quern(*head, input=str(OUTPUT_SIZE_MAX + 1), status=1)
        self.assertEqual(result.bytes, b"")
        self.assertIn("OutputTooBig", result.stderr)
        self.assertIn(f"over {OUTPUT_SIZE_MAX} bytes; let it write to a file", result.stderr)

    def test_both_outputs_count_together(self):
        half = OUTPUT_SIZE_MAX // 2
        both = ("run", "--jsonl", "--", "sh", "-c", 'head -c "$0" /dev/zero >&2; head -c "$1" /dev/zero', "{}", half)
        row = self.quern(*both, input=str(OUTPUT_SIZE_MAX - half)).json
        sizes = [len(row["result"][name]) for name in ("stdout", "stderr")]
        self.assertEqual(sizes, [half, OUTPUT_SIZE_MAX - half])
        row = self.quern(*both, input=str(OUTPUT_SIZE_MAX - half + 1), status=1).json
        self.assertEqual(row["error"]["kind"], "OutputTooBig")

    def test_a_command_that_never_ends_its_output_is_stopped(self):
        result = self.quern("run", "--", "cat", input="/dev/zero", status=1)
        self.assertIn("OutputTooBig", result.stderr)
        self.assertEqual(self.quern("submit", "square", "5").stdout, "25\n")


class Bytes(stage.Story):
    def test_binary_goes_through_map_and_back(self):
        """Every byte but NUL, which ends items; valid UTF-8 stays text, everything else is binary, nothing mended."""
        self.broker()
        self.worker()
        items = [bytes(range(1, 256)), b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"a\nb\xe4\n",
                 "text \u00e4\U0001f600\n".encode(), b"\xe4" * 100_000, b" ", b"\n"]
        result = self.quern("map", "echo", "--raw", "--null", "--keep-order", "--jsonl", input=b"\0".join(items))
        rows = [json.loads(line) for line in result.lines]
        for key in ("input", "result"):
            self.assertEqual([bytes_of(row[key]) for row in rows], items, key)
        self.assertEqual([isinstance(row["result"], str) for row in rows],
                         [False, False, False, False, False, False, True, False, True, True])

    def test_binary_output_of_commands_is_printed_unchanged(self):
        self.broker()
        self.worker("--allow-commands", module=None)
        every = bytes(range(256)) * 100
        with open(self.path("every"), "wb") as file:
            file.write(every)
        self.assertEqual(self.quern("run", "--", "cat", input=self.path("every")).bytes, every)
        row = self.quern("run", "--jsonl", "--", "cat", input=self.path("every")).json
        self.assertEqual(bytes_of(row["result"]["stdout"]), every)


if __name__ == "__main__":
    stage.main()
