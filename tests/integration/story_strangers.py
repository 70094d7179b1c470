"""Strangers in great numbers, and peers that say what is well formed and not true: connections that say nothing, half a
greeting, frames at a byte a second, floods beyond the window, results for tasks of others, forged tokens, foreign sessions
(P10, P9, P3). Each is bounded in memory and time and told in the log once; good peers are served meanwhile: how fast is
printed. Needs python3-zmq and python3-msgpack. What is malformed: story_hostile.py.
"""

import collections
import os
import random
import resource
import select
import socket
import struct
import sys
import threading

import msgpack

import python_wire as wire
import stage
from story_hostile import greet, receive

MANY = 10000
DESCRIPTORS_WANTED = 2 * MANY
BOUND_MIB = 3000 if stage.is_sanitized() else 500  # with ten thousand connections; a connection is to cost tens of KiB
P99_BOUND_MS = 10000  # nobody is shut out; the figure itself is printed
OWN_LINES = 10  # of the log, that are about no stranger
ALONE_COUNT = 300
ALONE_S = 10
FLOOD_COUNT = 100000
FLOODER_COUNT = 2
FORGED_COUNT = 100  # many more than OWN_LINES
# In a process of its own: the stranger's is busy.
GOOD_CLIENT = """
import sys, time
from python_client import Client
client = Client(sys.argv[1], is_volatile=sys.argv[4] == "volatile")
client.open()
until = time.monotonic() + float(sys.argv[3])
for number in range(int(sys.argv[2])):
    began = time.monotonic()
    client.submit("square", number)
    outcome = client.next_outcome()
    client.acknowledge(outcome)
    print((time.monotonic() - began) * 1000, flush=True)
    if time.monotonic() > until:
        break
client.close_session()
client.close()
"""
# A process of its own for each of several: in threads they would wait for each other. It tells each flood.
FLOODER = """
import sys, types
import story_strangers
floods = types.SimpleNamespace(url=sys.argv[1], stranger_count=0)
while True:
    submits, is_thrown_out = story_strangers.flood(floods)
    print(submits, int(is_thrown_out), flush=True)
"""


class Stranger:
    """A connection by hand, as a DEALER; nothing is said on it but what is asked for."""

    def __init__(self, story, handshake=True):
        self.stream = socket.socket(socket.AF_UNIX)
        self.stream.settimeout(stage.PATIENCE_S)
        self.generation = 1
        story.stranger_count += 1
        try:
            self.stream.connect(story.url.removeprefix("ipc://"))
            if handshake:
                greet(self.stream)
        except OSError:
            self.stream.close()
            raise

    def frame(self, *messages):
        body = msgpack.packb([wire.MAJOR, self.generation]) + b"".join(messages)
        return b"\2" + struct.pack(">Q", len(body)) + body

    def say(self, *messages):
        self.stream.sendall(self.frame(*messages))

    def hear(self):
        """The messages of the next frame; None at the end of the connection."""
        try:
            flags = receive(self.stream, 1)[0]
            size = struct.unpack(">Q", receive(self.stream, 8))[0] if flags & 2 else receive(self.stream, 1)[0]
            return list(wire.decode_frame(receive(self.stream, size), self.generation))
        except (ConnectionResetError, BrokenPipeError):
            return None

    def await_message(self, *names):
        """The first message of such a name; None if the connection ends before."""
        while True:
            messages = self.hear()
            if messages is None:
                return None
            for message in messages:
                if type(message).__name__ in names:
                    return message

    def is_ended(self):
        """Reads until the end; the time-out of the stream is the safety net."""
        try:
            while self.stream.recv(65536):
                pass
        except ConnectionResetError:
            pass
        return True

    def close(self):
        self.stream.close()


def hello_client(instance, session=0, series=0, name=None):
    return wire.encode("HELLO_CLIENT", instance=instance, host="here", pid=1, program="stranger", session=session, series=series,
                       name=name, description=None, take_over=False, is_volatile=False, must_exist=False, keep=False,
                       want_args=False, taken_prefix=0, taken=[], credit_count=100, credit_bytes=1 << 20)


def hello_worker(instance, name, held=()):
    return wire.encode("HELLO_WORKER", instance=instance, host="here", pid=1, name=name, store=bytes(16), slots=1,
                       capacity_count=0, capacity_bytes=0, functions=[["sleep"]], queues=[], held=[list(one) for one in held],
                       memory=None)


def submits(series, sequence, count, function="square"):
    return wire.encode("SUBMIT", series=series, sequence=sequence, function=function, queue="default", options=None, delay_ms=0,
                       predecessor=0, items=[[msgpack.packb([1]), 0] for _ in range(count)])


def welcome(peer, instance, session=0, series=0):
    peer.say(hello_client(instance, session, series))
    answer = peer.await_message("CHALLENGE", "WELCOME_CLIENT", "DENIED")
    if type(answer).__name__ == "CHALLENGE":
        peer.say(wire.encode("ECHO", nonce=answer.nonce))
        answer = peer.await_message("WELCOME_CLIENT", "DENIED")
    return answer


def flood(story):
    """One that heeds neither credit nor answers: how many submits it got rid of, and whether it was thrown out."""
    peer = Stranger(story)
    count = 0
    try:
        series = welcome(peer, os.urandom(16)).series
        while count < FLOOD_COUNT:
            peer.say(submits(series, 1 + count, 1000, function="nobody"))
            count += 1000
        return count, False
    except OSError:
        return count, True
    finally:
        peer.close()


class Strangers(stage.Story):
    bound_mib = BOUND_MIB

    def setUp(self):
        super().setUp()
        self.open = []
        self.stranger_count = 0
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if hard < DESCRIPTORS_WANTED:
            self.skipTest(f"{DESCRIPTORS_WANTED} descriptors are wanted, RLIMIT_NOFILE allows {hard}")
        resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS_WANTED, hard))
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))

    def begin(self, *args):
        self.process = self.broker(*args)
        self.worker()
        self.wait_workers()
        self.quern("map", "square", input="1\n" * 1000)
        self.memory = self.rss_mib()

    def tearDown(self):
        for peer in self.open:
            peer.close()
        super().tearDown()

    def stranger(self, **options):
        peer = Stranger(self, **options)
        self.open.append(peer)
        return peer

    def rss_mib(self):
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("VmRSS")) / 1024

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def python(self, name, program, *args):
        env = {**self.env, "PYTHONPATH": os.path.dirname(os.path.abspath(__file__))}
        started = stage.Program(name, [sys.executable, "-B", "-c", program, self.url, *args], env, self.directory)
        self.programs.append(started)
        return started

    def good_peers(self, what, sessions=("durable",)):
        """Clients come, work and leave, one in a session of each kind at once; how long single tasks take them."""
        clients = [(kind, self.python(f"good {kind} client", GOOD_CLIENT, str(ALONE_COUNT), str(ALONE_S), kind)) for kind in sessions]
        for kind, client in clients:
            self.assertEqual(client.status(), 0, client.log[-5:])
        for kind, client in clients:
            times = sorted(map(float, client.out))
            p99_ms = times[int(len(times) * 0.99)]
            print(f"{what}: good {kind} peers' p50 {times[len(times) // 2]:.2f} ms, p99 {p99_ms:.2f} ms of {len(times)}; broker "
                  f"{self.rss_mib():.0f} MiB (before: {self.memory:.0f}), {self.descriptors()} descriptors", flush=True)
            self.assertGreaterEqual(len(times), 3)
            self.assertLess(p99_ms, P99_BOUND_MS)

    def check_alive(self):
        """Good peers are served, what the strangers cost is bounded, and each of them is told of once."""
        self.assertTrue(self.process.is_running())
        self.assertLess(self.rss_mib(), self.memory + self.bound_mib)
        lines = [line for line in self.process.log if "quern-broker ready" not in line]
        self.assertLessEqual(len(lines), self.stranger_count + OWN_LINES, lines[-5:])
        self.assertEqual(self.quern("submit", "square", "9").stdout, "81\n")

    def while_it_goes_on(self, step, what, **good):
        """Good peers work while step() is called again and again by somebody else."""
        is_over = threading.Event()
        errors = []

        def go_on():
            try:
                while not is_over.is_set():
                    step()
            except Exception as error:  # told below
                errors.append(error)

        thread = threading.Thread(target=go_on)
        thread.start()
        try:
            self.good_peers(what, **good)
        finally:
            is_over.set()
            thread.join()
        self.assertEqual(errors, [])


class Silent(Strangers):
    def test_ten_thousand_connections_that_say_nothing(self):
        """Half of them have not even greeted."""
        self.begin()
        for number in range(MANY):
            try:
                self.stranger(handshake=number % 2 == 0)
            except (ConnectionError, BlockingIOError) as error:
                self.fail(f"connection {number}: {error}")
        self.good_peers(f"{MANY} silent connections")
        self.assertLess(self.rss_mib(), self.memory + BOUND_MIB)
        for peer in self.open:
            peer.close()
        stage.wait_until(lambda: self.descriptors() < 200, "the descriptors to be free again")
        self.check_alive()
        self.check_log(MANY)

    def check_log(self, peers):
        """At most a line for each."""
        lines = [line for line in self.process.log if " peer" in line or "connection" in line]
        self.assertLessEqual(len(lines), peers + 10, lines[:5])

    def test_one_that_says_nothing_is_shut_down_in_time(self):
        self.begin()
        peers = [self.stranger(handshake=number % 2 == 0) for number in range(100)]
        for peer in peers:
            self.assertTrue(peer.is_ended())
        self.check_alive()

    def test_more_connections_than_descriptors(self):
        """Who was connected goes on; who comes is served when there is room again."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
        try:
            self.process = self.broker()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        self.worker()
        self.wait_workers()
        self.memory = self.rss_mib()
        client = self.quern_start("map", "square", stdin=-1)
        client.write("1\n")
        client.wait_out_count(1)
        for _ in range(2000):
            try:
                self.stranger(handshake=False)
            except OSError:
                break
        for number in range(2, 50):
            client.write(f"{number}\n")
            client.wait_out_count(number)
        client.close_stdin()
        self.assertEqual(client.status(), 0)
        self.assertTrue(self.process.is_running())
        for peer in self.open:
            peer.close()
        self.good_peers("after more connections than descriptors")
        self.check_alive()


class Slow(Strangers):
    def test_half_a_greeting(self):
        self.begin()
        whole = b"\xff" + bytes(8) + b"\x7f\3\0" + b"NULL".ljust(20, b"\0") + bytes(32)
        for size in range(len(whole)):
            for _ in range(4):
                self.stranger(handshake=False).stream.sendall(whole[:size])
        self.good_peers("half a greeting")
        for peer in self.open:
            self.assertTrue(peer.is_ended())  # in time, all of them
        self.check_alive()

    def test_a_greeting_and_then_garbage(self):
        self.begin()
        chance = random.Random(7)

        def step():
            peer = Stranger(self, handshake=False)
            try:
                greet(peer.stream)
                peer.stream.sendall(chance.randbytes(chance.choice((1, 10, 1000, 20000))))
                peer.stream.settimeout(0.02)
                peer.stream.recv(100)
            except OSError:
                pass  # thrown out, or not even let in: it is one of many
            peer.close()

        self.while_it_goes_on(step, "a greeting and then garbage")
        self.check_alive()
        self.assertLess(self.rss_mib(), self.memory + 100)

    def test_frames_that_announce_more_than_there_can_be(self):
        self.begin()
        for size in (2**26, 2**31, 2**32 + 1, 2**62, 2**63 - 1, 2**64 - 1):
            peer = self.stranger()
            peer.stream.sendall(b"\2" + struct.pack(">Q", size) + b"x" * 100)
            self.assertTrue(peer.is_ended(), size)
        self.check_alive()
        self.assertLess(self.rss_mib(), self.memory + 50)

    def test_frames_of_full_size_that_never_end(self):
        """Each may be as long as one of ours. What is announced is not taken for there."""
        self.begin()
        for _ in range(50):
            peer = self.stranger()
            peer.stream.sendall(b"\2" + struct.pack(">Q", 30 << 20) + b"x" * 100)
        self.good_peers("fifty frames of 30 MiB of which 100 bytes came")
        self.assertLess(self.rss_mib(), self.memory + BOUND_MIB)
        for peer in self.open:
            self.assertTrue(peer.is_ended())  # in time, all of them
        self.check_alive()

    def test_frames_at_a_byte_at_a_time(self):
        """They say hello in the end, and are welcome."""
        self.begin()
        peers = [self.stranger() for _ in range(200)]
        hellos = [peer.frame(hello_client(os.urandom(16))) for peer in peers]
        at = [0]

        def step():
            for peer, hello in zip(peers, hellos):
                if at[0] < len(hello) - 1:
                    peer.stream.sendall(hello[at[0]:at[0] + 1])
            at[0] += 1
            select.select([], [], [], 0.05)

        self.while_it_goes_on(step, "two hundred frames at a byte at a time")
        for peer, hello in list(zip(peers, hellos))[:20]:
            peer.stream.sendall(hello[min(at[0], len(hello) - 1):])
            self.assertIsNotNone(peer.await_message("CHALLENGE", "WELCOME_CLIENT"))


class Liars(Strangers):
    def test_a_burst_beyond_the_window(self):
        """It heeds no credit, and the disk is behind: it is thrown out before it fills the memory."""
        with open(self.path("config"), "w", encoding="ascii") as file:
            file.write("limits\n    client_window_count = 100\n    batch_row_count_max = 100\n")
        self.begin("--config", self.path("config"))
        peer = self.stranger()
        mine = welcome(peer, os.urandom(16))
        self.assertEqual(mine.credit_count, 100)
        try:
            peer.stream.sendall(b"".join(peer.frame(submits(mine.series, 1 + 1000 * n, 1000)) for n in range(100)))
        except (BrokenPipeError, ConnectionResetError):
            pass
        denied = peer.await_message("DENIED")
        self.assertIn("beyond the credit", denied.text)
        self.assertEqual(self.status()["counters"]["protocol_errors"], 1)
        self.check_alive()

    def test_floods_of_valid_submits(self):
        """As fast as they go, by one that heeds neither credit nor answers and comes again and again. Nobody serves them."""
        self.begin()
        outcome = collections.Counter()

        def step():
            count, is_thrown_out = flood(self)
            outcome.update({"submits": count, "thrown out": int(is_thrown_out), "floods": 1})

        self.while_it_goes_on(step, "floods of submits", sessions=("durable", "volatile"))
        self.check_floods(outcome)

    def test_floods_by_several_at_once(self):
        self.begin()
        flooders = [self.python(f"flooder {n}", FLOODER) for n in range(FLOODER_COUNT)]
        for flooder in flooders:
            flooder.wait_out_count(1)
        self.good_peers(f"floods of submits by {FLOODER_COUNT} at once", sessions=("durable", "volatile"))
        outcome = collections.Counter()
        for flooder in flooders:
            self.assertTrue(flooder.is_running(), flooder.log[-5:])
            flooder.kill9()
            told = [tuple(map(int, line.split())) for line in flooder.out]
            outcome.update({"submits": sum(count for count, _ in told) + FLOOD_COUNT, "floods": len(told) + 1,
                            "thrown out": sum(is_thrown_out for _, is_thrown_out in told)})
        self.stranger_count += outcome["floods"]
        self.check_floods(outcome)

    def check_floods(self, outcome):
        accepted = self.status()["counters"]["submitted"]
        print(f"    {dict(outcome)}, {accepted} accepted", flush=True)
        # What was accepted is kept: some hundred bytes for each, and what is under way.
        self.bound_mib = BOUND_MIB + accepted * 512 / 2**20
        self.check_alive()

    def running(self):
        """A task of somebody else, running: its token, and how to let it end."""
        task = self.quern("submit", "--detach", "sleep", "1.5").stdout.strip()
        stage.wait_until(lambda: self.quern("--json", "show", task).json["state"] == "running", "it to run")
        series, sequence = map(int, task.split("-"))
        return task, (series << 32 | sequence, self.status()["epoch"], self.quern("--json", "show", task).json["attempt"])

    def check_untouched(self, task):
        self.assertEqual(self.quern("result", task, "--wait").stdout, "1.5\n")
        shown = self.quern("--json", "show", task).json
        self.assertEqual((shown["state"], shown["attempts"], shown["failures"]), ("done", 1, []), shown)

    def finished(self, token):
        fields = dict(zip(("task", "epoch", "attempt"), token), state=0, cause=0, result=msgpack.packb("stolen"), pid=1, started=1,
                      run_us=1, signal=0, exit_status=0, cpu_us=1, peak=1)
        item = [fields.get(name) for name in wire.Finished._fields]
        return wire.encode("FINISHED", items=[item])

    def test_results_for_tasks_of_others(self):
        """By one who knows the token: it was not given to him."""
        self.begin()
        task, token = self.running()
        thief = self.stranger()
        thief.say(hello_worker(os.urandom(16), "thief"))
        self.assertIsNotNone(thief.await_message("WELCOME_WORKER"))
        thief.say(self.finished(token), wire.encode("STARTED", items=[[*token, 1]]),
                  wire.encode("RETURNED", items=[list(token)]), wire.encode("PROGRESS", items=[[*token, 0.5, "mine"]]))
        receipt = thief.await_message("RECEIPT")
        self.assertIsNotNone(receipt)
        self.assertNotEqual(wire.item(wire.Receipt, receipt.items[0]).verdict, 0)
        self.check_untouched(task)
        self.check_alive()

    def test_a_claim_of_what_another_holds(self):
        """Its HELLO lists what was given to somebody who is there."""
        self.begin()
        for state in (0, 1, 2):
            task, token = self.running()
            thief = self.stranger()
            thief.say(hello_worker(os.urandom(16), f"thief{state}", held=[(*token, state)]))
            self.assertIsNotNone(thief.await_message("WELCOME_WORKER"))
            thief.say(self.finished(token))
            receipt = thief.await_message("RECEIPT", "DROP")
            self.assertIsNotNone(receipt)
            self.check_untouched(task)
            thief.close()
        self.check_alive()

    def test_forged_tokens(self):
        """Other attempts, other epochs, tasks that are not there, as many as go into a frame."""
        self.begin()
        task, (number, epoch, attempt) = self.running()
        thief = self.stranger()
        thief.say(hello_worker(os.urandom(16), "thief"))
        self.assertIsNotNone(thief.await_message("WELCOME_WORKER"))
        forged = [(number, epoch, attempt + 1), (number, epoch + 1, attempt), (number, epoch + 1, attempt + 1), (number, 0, 0),
                  (number + 1, epoch, attempt), (2**62, epoch, 1), (1, 1, 1), (number, epoch, 2**31), (number, 2**32 - 1, 2**31 - 1)]
        for n in range(FORGED_COUNT - len(forged)):
            forged.append(((number, epoch, attempt + 2 + n), (number, epoch + 2 + n, attempt), (number + 2 + n, epoch, attempt),
                           (2**62, epoch, 2 + n))[n % 4])
        for token in forged:
            thief.say(self.finished(token))
        verdicts = []
        while len(verdicts) < FORGED_COUNT:
            receipt = thief.await_message("RECEIPT")
            self.assertIsNotNone(receipt, "thrown out")
            verdicts += [wire.item(wire.Receipt, one).verdict for one in receipt.items]
        self.assertNotIn(0, verdicts)
        stage.wait_until(lambda: self.quern("--json", "show", task).json["state"] == "done", "it to end")
        self.check_untouched(task)
        self.check_alive()

    def test_a_foreign_session(self):
        """To open it, to submit into its series, to take its outcomes: none of it, while its owner is there or not."""
        self.begin()
        owner = self.stranger()
        mine = welcome(owner, os.urandom(16))
        owner.say(submits(mine.series, 1, 3))
        self.assertIsNotNone(owner.await_message("ACCEPTED"))
        other = self.stranger()
        self.assertEqual(type(welcome(other, os.urandom(16), mine.session, mine.series)).__name__, "DENIED")
        other = self.stranger()
        theirs = welcome(other, os.urandom(16))
        other.say(submits(mine.series, 4, 3))
        answer = other.await_message("ERROR", "DENIED", "ACCEPTED", "REFUSED")
        self.assertNotEqual(type(answer).__name__, "ACCEPTED", answer)
        self.assertNotEqual(theirs.session, mine.session)
        other = self.stranger()
        welcome(other, os.urandom(16))
        other.say(wire.encode("TAKEN", prefix=3, ranges=[]))
        seen = set()
        while len(seen) < 3:
            message = owner.await_message("OUTCOME")
            self.assertIsNotNone(message, "the owner was thrown out")
            seen |= {wire.item(wire.Outcome, one).completion for one in message.items}
        self.assertEqual(seen, {1, 2, 3})
        listed = self.quern("--json", "list").json
        self.assertEqual(len([row for row in listed if row["session"] == f"#{mine.session}"]), 3)
        self.check_alive()


if __name__ == "__main__":
    stage.main()
