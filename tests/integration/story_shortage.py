"""Memory that is used up at any moment: the N-th allocation of a broker at its start, of a broker at work, of a worker
at its start and at work fails. Whoever meets it ends at once and says so, or goes on; nothing that was accepted is
lost, nothing is done twice, and the next start goes on from there.

Some N of each in every run, every N with QUERN_ALL=1 (at work: until a whole map needs no more, a number of times). The client library answers an error instead and
goes on: tests/unit/test_client_memory.c. Sanitizers have an allocator of their own: skipped there.
Start reading at Shortage.
"""

import os
import random
import struct
import subprocess
import unittest

import stage

SHORTAGE = os.path.join(stage.BUILD, "tests", "shortage.so")
ALL = os.environ.get("QUERN_ALL") == "1"
LINES = [str(number) for number in range(30)]
SQUARES = "".join(f"{number * number}\n" for number in range(30))
# What quern says, and the store's SQLite makes it say.
WORDS = ("memory", "cannot allocate", "ended the process while it was loaded")
# Where it fails inside of these, they end the process in their own way: an exception, an assertion, a crash in a thread.
OTHERS = ("libzmq", "libpgm", "libstdc++", "ld-linux", "libczmq", "libdw", "libgmp")
WORK_COUNT_MAX = 5000  # and a map of thirty lines
MISSES_ENOUGH = 20  # so many maps in a row that did not come to that allocation
START_COUNT_MAX = 200000  # a start that allocates more often than this has no end


def is_sanitized():
    symbols = subprocess.run(["ldd", os.path.join(stage.BIN, "quern-broker")], capture_output=True, text=True,
                             check=False).stdout
    return "libasan" in symbols or "libtsan" in symbols


@unittest.skipIf(is_sanitized(), "sanitizers have an allocator of their own")
class Shortage(stage.Story):
    def setUp(self):
        super().setUp()
        self.countdown = self.path("countdown")
        self.arm(0)
        self.short = {"LD_PRELOAD": SHORTAGE, "QUERN_SHORTAGE": self.countdown}  # it logs where it was, too
        self.seed = int(os.environ.get("QUERN_SEED") or random.randrange(1 << 32))
        self.chance = random.Random(self.seed)
        self.ended = self.went_on = self.by_others = self.misses = 0

    def arm(self, n):
        mode = "r+b" if os.path.exists(self.countdown) else "wb"
        with open(self.countdown, mode) as file:
            file.write(struct.pack("=q", n))

    def left(self):
        with open(self.countdown, "rb") as file:
            return struct.unpack("=q", file.read(8))[0]

    def numbers(self, few, count):
        """Of 1..count: all, or a few, the first ones among them."""
        if ALL:
            return range(1, count + 1)
        return sorted(set(range(1, few // 4 + 1)) | {self.chance.randrange(1, count + 1) for _ in range(few)})

    def numbers_at_work(self, few, count):
        """A few by chance; or 1, 2, 3 ... until maps need no more: how many they need differs a little."""
        if not ALL:
            yield from (self.chance.randrange(1, count) for _ in range(few))
            return
        self.misses = 0
        for n in range(1, WORK_COUNT_MAX):
            if self.misses == MISSES_ENOUGH:
                print(f"shortage: every allocation up to the {n - 1}th")
                return
            yield n
        self.fail("there is no end to it")

    def disarm(self):
        self.misses = self.misses + 1 if self.left() > 0 else 0
        self.arm(0)

    def allocations_of_a_start(self, start):
        """How many allocations it takes until it is ready."""
        self.arm(START_COUNT_MAX)
        program = start()
        program.wait_out("ready ")
        count = START_COUNT_MAX - self.left()
        self.arm(0)
        program.end()
        self.assertGreater(count, 50)
        return count

    def check_end(self, program, n):
        """It has ended because of that, and says what it was, unless a library that cannot fail met it."""
        status = program.status()
        stack = [line for line in program.log if "[0x" in line]
        said = "\n".join(line for line in program.log if "[0x" not in line).lower()
        self.assertNotEqual(status, 0, f"allocation {n}")
        is_of_others = any(name in line for line in stack for name in OTHERS)
        self.assertTrue(is_of_others or any(word in said for word in WORDS),
                        f"allocation {n}: status {status}, said: {said[-600:]}\n" + "\n".join(stack[:12]))
        self.ended += 1
        self.by_others += is_of_others

    def try_start(self, start, n):
        """The program, if it became ready all the same."""
        self.arm(n)
        program = start()
        try:
            program.wait_out("ready ")
        except AssertionError:  # its output has ended, so it has too, or never will
            self.arm(0)
            self.check_end(program, n)
            return None
        self.arm(0)
        self.went_on += 1
        return program

    def forget(self, program):
        """Many programs: their pipes are not kept until the end of the story."""
        program.status()
        self.programs.remove(program)
        for stream in (program.process.stdin, program.process.stdout, program.process.stderr):
            if stream is not None:
                stream.close()

    def say(self, what):
        print(f"shortage: {what}: {self.ended} ended ({self.by_others} by libraries), {self.went_on} went on "
              f"(QUERN_SEED={self.seed})")

    # ---- at the start ----

    def test_a_broker_that_starts(self):
        broker = self.broker()
        self.quern("submit", "square", "7", "--detach", "--session", "kept")
        broker.end()

        def start():
            return self.start("quern-broker", env=self.short)

        count = self.allocations_of_a_start(start)
        for n in self.numbers(16, count):
            program = self.try_start(start, n)
            if program is not None:
                program.end(patience=20)
            self.forget(self.programs[-1])
        self.broker()
        self.worker()
        self.assertEqual(self.quern("attach", "kept").stdout, "49\n")
        self.say(f"a broker's start of {count} allocations")

    def test_a_worker_that_starts(self):
        self.broker()

        def start():
            return self.start("quern-worker", "--slots", "1", "--module", stage.MODULE, env=self.short)

        count = self.allocations_of_a_start(start)
        for n in self.numbers(16, count):
            program = self.try_start(start, n)
            if program is not None:
                program.end(patience=20)
            self.forget(self.programs[-1])
        self.worker()
        self.assertEqual(self.quern("submit", "square", "7").stdout, "49\n")
        self.say(f"a worker's start of {count} allocations")

    # ---- at work ----

    def check_squares(self, waiting):
        """All of them; but a task in whose slot it happened may have failed by it."""
        status = waiting.status()
        failed = [line for line in waiting.log if "memory is used up" in line]
        self.assertEqual(status, 1 if failed else 0, waiting.log)
        self.assertEqual(len(waiting.out) + len(failed), len(LINES), waiting.log)
        self.assertLessEqual(set(waiting.out), set(SQUARES.split()))

    def test_a_broker_at_work(self):
        broker = self.broker(env=self.short)
        self.worker()
        self.wait_workers()
        for n in self.numbers_at_work(8, 600):
            waiting = self.quern_start("map", "square", "--keep-order", "--session", f"s{n}",
                                       stdin=subprocess.PIPE)
            self.arm(n)
            waiting.write("\n".join(LINES).encode())
            waiting.close_stdin()
            stage.wait_until(lambda: not broker.is_running() or not waiting.is_running(), "an end", 40)
            self.disarm()
            if broker.is_running():
                self.went_on += 1
            else:
                self.check_end(broker, n)
                self.forget(broker)
                broker = self.broker(env=self.short)
            self.assertEqual(waiting.status(), 0, waiting.log)
            self.assertEqual("\n".join(waiting.out) + "\n", SQUARES)
            self.forget(waiting)
        self.say("a broker at work")

    def test_a_worker_at_work(self):
        self.broker()
        worker = self.worker(env=self.short)
        self.wait_workers()
        for n in self.numbers_at_work(8, 400):
            if not worker.is_running():
                self.check_end(worker, n)
                self.forget(worker)
                worker = self.worker(env=self.short)
            else:
                self.went_on += 1
            self.arm(n)
            waiting = self.quern_start("map", "square", "--keep-order", stdin=subprocess.PIPE)
            waiting.write("\n".join(LINES).encode())
            waiting.close_stdin()
            stage.wait_until(lambda: not worker.is_running() or not waiting.is_running(), "an end", 40)
            self.disarm()
            if not worker.is_running():
                self.check_end(worker, n)
                self.forget(worker)
                worker = self.worker(env=self.short)
            self.check_squares(waiting)
            self.forget(waiting)
        self.say("a worker at work")


if __name__ == "__main__":
    stage.main()
