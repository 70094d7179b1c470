"""A client and a worker in another language, written from PROTOCOL.md alone, work with the programs of this project and
survive what those survive. If these fail and the others do not, the page and the code have parted."""

import fcntl
import os
import signal
import sys

import msgpack

import python_client
import python_wire
import stage
from python_client import Client, digest_step, id_text, value
from python_wire import CANCELLED, CODES, DONE, FAILED, Denied, Peer, encode

HERE = os.path.dirname(os.path.abspath(__file__))

SERVED = '''
import fcntl, os, signal

def square(n):
    return n * n

def slow_square(n, path):
    """Says that it runs, and goes on when the story lets go of its lock."""
    with open(f"{path}-{n}-{os.getpid()}", "w"), open(path) as gate:
        fcntl.flock(gate, fcntl.LOCK_SH)
    return n * n

def divide(a, b):
    return a // b

def crash():
    os.kill(os.getpid(), 11)

def forever(path):
    with open(path, "w") as file:
        file.write(f"{os.getpid()}\\n")
    while True:
        signal.pause()

def size(data):
    return len(data)

def big(count):
    return bytes(count)
'''


class PythonStory(stage.Story):
    def setUp(self):
        super().setUp()
        self.peers = []

    def tearDown(self):
        for peer in self.peers:
            peer.close()
        super().tearDown()

    def client(self, name=None, opened=True, **options):
        client = Client(self.url, name, **options)
        self.peers.append(client)
        if opened:
            client.open()
        return client

    def dies(self, client):
        """As if its process had been killed: nothing more is sent."""
        self.peers.remove(client)
        client.close(bye=False)

    def python_worker(self, name="py-1"):
        path = self.path("served.py")
        with open(path, "w", encoding="utf-8") as file:
            file.write(SERVED)
        return self.start(sys.executable, "-B", os.path.join(HERE, "python_worker.py"), self.url, name, path)

    def take(self, client, count):
        """That many outcomes, each acknowledged."""
        outcomes = []
        for _ in range(count):
            outcomes.append(client.next_outcome(stage.PATIENCE_S))
            self.assertIsNotNone(outcomes[-1], f"outcome {len(outcomes)} of {count} never came")
            client.acknowledge(outcomes[-1])
        return outcomes

    def shut_gate(self):
        """A gate for slow_square: its path; open_gate() lets all through."""
        self.gate = open(self.path("gate"), "w", encoding="utf-8")
        self.addCleanup(self.gate.close)
        fcntl.flock(self.gate, fcntl.LOCK_EX)
        return self.gate.name

    def open_gate(self):
        self.gate.close()

    def at_gate(self):
        """TASK-PID of each attempt of slow_square that was started, ever."""
        return [name.split("-", 1)[1] for name in os.listdir(self.directory) if name.startswith("gate-")]

    def wait(self, client, fact, what):
        self.assertTrue(client.step_until(fact, stage.PATIENCE_S), what)


class PythonClient(PythonStory):
    def test_it_gets_results_from_a_c_worker(self):
        self.broker()
        self.worker()
        client = self.client("demo")
        self.assertTrue(client.first_welcome.is_new)
        wanted = {client.submit("square", n): n * n for n in range(3000)}
        outcomes = self.take(client, 3000)
        self.assertEqual({o.task: value(o) for o in outcomes}, wanted)
        self.assertEqual([o.completion for o in outcomes], list(range(1, 3001)))

    def test_a_failure_says_why(self):
        self.broker()
        self.worker()
        client = self.client()
        client.submit("divide", 1, 0)
        client.submit("crash", options=[0, 0, 1, 0, 0, 0, False, 1])
        failures = {o.cause: o for o in self.take(client, 2)}
        self.assertEqual({o.state for o in failures.values()}, {FAILED})
        self.assertEqual(failures[1].kind, "DivisionByZero")
        self.assertEqual(failures[7].signal, signal.SIGSEGV)  # quarantined

    def test_the_c_command_sees_what_it_submitted(self):
        self.broker()
        self.worker()
        client = self.client("shared")
        task = client.submit("cube", 3)
        client.flush()
        self.assertEqual(self.quern("result", id_text(task), "--wait").stdout, "27\n")

    def test_cancel_and_query_are_answered(self):
        self.broker()
        client = self.client("asking")
        task = client.submit("square", 1)
        client.flush()
        shown = client.query("show", id=task)
        self.assertEqual((shown.code, shown.body["id"], shown.body["state"]), (0, id_text(task), "ready"))
        self.assertEqual(client.query("explain", id=task).body["why"], "no_worker")
        self.assertEqual(client.query("result", id=task).code, CODES["not_finished"])
        self.assertEqual(client.cancel(task), CODES["ok"])
        outcome, = self.take(client, 1)
        self.assertEqual((outcome.task, outcome.state), (task, CANCELLED))
        self.assertEqual(client.cancel(task), CODES["ok"])  # cancelled before
        self.assertEqual(client.cancel(77 << 32 | 1), CODES["unknown"])
        self.assertEqual(client.query("nothing").code, CODES["unsupported"])
        self.assertEqual(client.query("show", id="text").code, CODES["invalid"])
        self.assertEqual(client.query("status").body["tasks"]["ready"], 0)

    def test_many_rows_come_in_order_and_whole(self):
        self.broker()
        client = self.client("rows")
        tasks = [client.submit("square", n) for n in range(2000)]
        client.flush()
        rows = client.query("list", session="rows", limit=2000).body
        self.assertEqual([row["id"] for row in rows], [id_text(task) for task in reversed(tasks)])

    def test_retry_makes_a_new_task(self):
        self.broker()
        self.worker()
        client = self.client("again")
        first = client.submit("divide", 8, 0)
        self.take(client, 1)
        reply = client.retry(first)
        self.assertEqual((reply.code, reply.body["session_name"]), (0, "again"))
        outcome, = self.take(client, 1)
        self.assertEqual(id_text(outcome.task), reply.body["id"])

    def test_an_argument_of_16_mib_passes_and_one_byte_more_is_refused(self):
        self.broker()
        self.worker()
        client = self.client()
        data = bytes(python_wire.PAYLOAD_SIZE_MAX - 6)  # the array and the head of the bin take 6
        client.submit("echo", data)
        self.assertEqual(value(*self.take(client, 1)), data)
        with self.assertRaises(ValueError):
            client.submit("echo", data + b"x")
        client.send("SUBMIT", series=client.series, sequence=client.sequence_next, function="echo", queue=None,
                    options=None, delay_ms=0, predecessor=0, items=[(msgpack.packb([data + b"x"]), 0)])
        with self.assertRaises(Denied) as caught:
            client.step_until(lambda: False, stage.PATIENCE_S)
        self.assertEqual(caught.exception.code, CODES["protocol"])
        client.submit("echo", 5)  # with the same sequence: it was not used up
        self.assertEqual(value(*self.take(client, 1)), 5)

    def test_a_small_window_is_kept_and_everything_comes(self):
        """Credit, in both directions: the broker sends only what was granted."""
        self.broker()
        self.worker()
        client = self.client(credit=(10, 1 << 20))
        for n in range(500):
            client.submit("square", n)
        client.flush()
        self.wait_status(lambda s: not any(s["tasks"].values()), "an end of all tasks")
        client.query("status")
        self.assertLessEqual(len(client.ready), 10)
        self.assertEqual([o.completion for o in self.take(client, 500)], list(range(1, 501)))

    def test_a_delayed_task_with_options_waits(self):
        self.broker()
        self.worker()
        client = self.client("later")
        late = client.submit("square", 1, delay_ms=3_600_000, options=[5])
        soon = client.submit("square", 2, options=[-5, 10_000, 3])
        self.assertEqual(self.take(client, 1)[0].task, soon)
        shown = client.query("show", id=late).body
        self.assertEqual((shown["state"], shown["priority"]), ("delayed", 5))


class Survival(PythonStory):
    def test_it_survives_kill_9_of_the_broker(self):
        broker = self.broker()
        self.worker()
        client = self.client("long")
        outcomes, wanted = [], {}
        for part in range(3):
            wanted.update((client.submit("square", n), n * n) for n in range(part * 4000, part * 4000 + 4000))
            outcomes += self.take(client, 500)
            broker.send(signal.SIGSTOP)  # what is sent from here on is not even read
            asked = {client.submit("square", n): n * n for n in range(50)}
            for _ in range(3):
                client.step(0)
            wanted.update(asked)
            self.assertTrue(client.unanswered)
            broker.kill9()
            self.wait(client, lambda: client.link is None, "the end was not noticed")
            broker = self.broker()
        client.flush()
        outcomes += self.take(client, len(wanted) - len(outcomes))
        self.assertEqual({o.task: value(o) for o in outcomes}, wanted)
        self.assertEqual([o.completion for o in outcomes], list(range(1, len(wanted) + 1)))
        self.assertEqual(client.refused, {})
        self.assertGreaterEqual(client.generation, 4)
        self.assertIsNone(client.next_outcome(0.05))
        sessions = client.query("sessions").body
        self.assertEqual([(s["completed"], s["live"]) for s in sessions if s["name"] == "long"], [(len(wanted), 0)])

    def test_what_was_not_acknowledged_comes_again_to_the_successor(self):
        self.broker()
        self.worker()
        first = self.client("heir")
        for n in range(100):
            first.submit("square", n)
        self.take(first, 40)
        unacknowledged = first.next_outcome()
        first.query("status")  # answered: what was sent before has been read
        self.dies(first)
        second = self.client("heir", take_over=True)
        self.assertFalse(second.first_welcome.is_new)
        self.assertEqual(second.first_welcome.acked_prefix, 40)
        outcomes = self.take(second, 60)
        self.assertEqual(outcomes[0], unacknowledged)
        self.assertEqual([o.completion for o in outcomes], list(range(41, 101)))

    def test_an_acknowledgement_is_not_asked_for_again_after_a_broken_connection(self):
        """TAKEN has no answer; what it said is in the next HELLO."""
        broker = self.broker()
        self.worker()
        client = self.client("acks")
        for n in range(20):
            client.submit("square", n)
        self.take(client, 10)
        broker.kill9()  # before the last TAKEN was sent
        self.broker()
        self.assertEqual([o.completion for o in self.take(client, 10)], list(range(11, 21)))
        self.assertEqual(client.welcome.acked_prefix + client.welcome.untaken, client.welcome.completion_last)

    def test_what_was_given_comes_again_and_is_not_given_twice(self):
        broker = self.broker()
        self.worker()
        client = self.client("twice")
        for n in range(20):
            client.submit("square", n)
        self.take(client, 5)
        given = [client.next_outcome() for _ in range(5)]  # and not acknowledged yet
        self.wait(client, lambda: len(client.ready) == 10, "all outcomes")
        broker.kill9()
        self.wait(client, lambda: client.link is None, "the end was not noticed")
        self.broker()
        self.assertEqual([o.completion for o in given + self.take(client, 10)], list(range(6, 21)))
        self.assertGreaterEqual(client.outcomes_ignored, 5)

    def test_requests_are_asked_again(self):
        broker = self.broker()
        client = self.client("asks")
        task = client.submit("square", 1)
        client.flush()
        broker.kill9()
        self.broker()
        self.assertEqual(client.cancel(task), CODES["ok"])


class Owners(PythonStory):
    def test_an_owned_session_is_in_use(self):
        self.broker()
        first = self.client("mine")
        with self.assertRaises(Denied) as caught:
            self.client("mine")
        self.assertEqual(caught.exception.code, CODES["in_use"])
        self.assertEqual(caught.exception.owner, f"{first.host}:{first.pid}")
        first.submit("square", 1)
        first.flush()  # nothing has changed for the owner

    def test_a_session_is_taken_over_and_its_owner_is_told(self):
        self.broker()
        self.worker()
        first = self.client("mine")
        first.submit("square", 3)
        first.flush()
        second = self.client("mine", take_over=True)
        with self.assertRaises(Denied) as caught:
            first.step_until(lambda: False, stage.PATIENCE_S)
        self.assertEqual(caught.exception.code, CODES["taken_over"])
        self.assertEqual(caught.exception.owner, f"{second.host}:{second.pid}")
        self.assertNotEqual(first.series, second.series)
        with self.assertRaises(Denied) as caught:
            first.open()  # resumes, and is told again
        self.assertEqual(caught.exception.code, CODES["taken_over"])
        second.submit("square", 4)
        self.assertEqual(sorted(value(o) for o in self.take(second, 2)), [9, 16])

    def test_a_session_that_must_exist_is_not_made(self):
        self.broker()
        with self.assertRaises(Denied) as caught:
            self.client("nobody", must_exist=True)
        self.assertEqual(caught.exception.code, CODES["unknown"])

    def test_a_closed_session_refuses_and_goes(self):
        self.broker()
        client = self.client("closing")
        client.submit("square", 1)
        client.flush()
        self.assertEqual(client.close_session(cancel=True), CODES["ok"])
        late = client.submit("square", 2)
        client.flush()
        self.assertEqual(client.refused[late].code, CODES["closed"])
        self.assertEqual(self.take(client, 1)[0].state, CANCELLED)
        self.wait(client, lambda: client.query("sessions").body == [], "its end")
        client.submit("square", 3)
        with self.assertRaises(Denied) as caught:
            client.flush()
        self.assertEqual(caught.exception.code, CODES["closed"])

    def test_the_description_is_given_to_everybody(self):
        self.broker()
        self.dies(self.client("told", description=b"\x00made first"))
        second = self.client("told", description=b"other", take_over=True)
        self.assertEqual(second.first_welcome.description, b"\x00made first")


class Ordinals(PythonStory):
    LINES = [msgpack.packb([n]) for n in range(1, 301)]

    def digest(self, count):
        digest = python_client.NO_DIGEST
        for ordinal, args in enumerate(self.LINES[:count], 1):
            digest = digest_step(digest, ordinal, args)
        return digest

    def test_a_second_run_goes_on_behind_what_was_accepted(self):
        broker = self.broker()
        self.worker()
        first = self.client("input")
        for ordinal, args in enumerate(self.LINES[:200], 1):
            first.submit_encoded("square", args, ordinal=ordinal)
        self.wait(first, lambda: first.ordinal_high, "no answer")
        self.dies(first)
        broker.kill9()
        self.broker()
        second = self.client("input")
        high = second.first_welcome.ordinal_high
        self.assertTrue(0 < high <= 200)
        self.assertEqual(second.first_welcome.digest, self.digest(high))
        for ordinal, args in enumerate(self.LINES[high:], high + 1):
            second.submit_encoded("square", args, ordinal=ordinal)
        outcomes = self.take(second, len(self.LINES))
        self.assertEqual(sorted(o.ordinal for o in outcomes), list(range(1, 301)))
        self.assertEqual({o.ordinal: value(o) for o in outcomes}, {n: n * n for n in range(1, 301)})
        self.assertEqual(second.refused, {})
        self.dies(second)
        self.assertEqual(self.client("input", take_over=True).first_welcome.digest, self.digest(300))

    def test_a_repeated_ordinal_and_a_gap_are_refused(self):
        self.broker()
        client = self.client("strict")
        accepted = client.submit("square", 1, ordinal=5)
        client.flush()
        again = client.submit("square", 1, ordinal=5)
        client.flush()
        client.ordinal_last = 7  # which was never submitted
        gap = client.submit("square", 2, ordinal=8)
        behind = client.submit("square", 3, ordinal=9)
        client.flush()
        self.assertEqual({task: refusal.code for task, refusal in client.refused.items()},
                         {again: CODES["duplicate"], gap: CODES["predecessor"], behind: CODES["predecessor"]})
        self.assertEqual(client.refused[gap].ordinal_high, 5)
        self.assertNotIn(accepted, client.refused)
        client.submit("square", 2, ordinal=8)  # from where the refusal said
        client.flush()
        self.assertEqual(client.ordinal_high, 8)


class PythonWorker(PythonStory):
    def test_a_c_client_gets_results_from_it(self):
        self.broker()
        self.python_worker()
        self.assertEqual(self.quern("submit", "square", "7").stdout, "49\n")
        lines = self.quern("map", "square", input="\n".join(map(str, range(300)))).lines
        self.assertEqual(sorted(map(int, lines)), sorted(n * n for n in range(300)))

    def test_a_failure_and_a_crash_are_told_apart(self):
        self.broker()
        self.python_worker()
        client = self.client()
        client.submit("divide", 1, 0)
        client.submit("crash", options=[0, 0, 1, 0, 0, 0, False, 1])
        client.submit("big", python_wire.PAYLOAD_SIZE_MAX)
        failures = {o.cause: o for o in self.take(client, 3)}
        self.assertEqual(sorted(failures), [1, 7, 8])
        self.assertEqual(failures[1].kind, "ZeroDivisionError")
        self.assertIn(b"Traceback", failures[1].detail)
        self.assertEqual(failures[7].signal, signal.SIGSEGV)

    def test_16_mib_reach_it(self):
        self.broker()
        self.python_worker()
        client = self.client()
        client.submit("size", bytes(python_wire.PAYLOAD_SIZE_MAX - 6))
        client.submit("big", python_wire.PAYLOAD_SIZE_MAX - 5)
        self.assertEqual(sorted(o.state for o in self.take(client, 2)), [DONE, DONE])

    def test_what_runs_too_long_is_stopped(self):
        self.broker()
        self.python_worker()
        client = self.client()
        client.submit("forever", self.path("pid"), options=[0, 300])
        outcome, = self.take(client, 1)
        self.assertEqual((outcome.state, outcome.cause), (FAILED, 3))
        with open(self.path("pid"), encoding="utf-8") as file:
            self.assertFalse(stage.is_alive(int(file.read())))

    def test_a_forced_cancel_kills_what_runs(self):
        self.broker()
        self.python_worker()
        client = self.client()
        task = client.submit("forever", self.path("pid"))
        self.wait(client, lambda: os.path.exists(self.path("pid")) and os.path.getsize(self.path("pid")), "no start")
        self.assertEqual(client.cancel(task), CODES["running"])
        self.assertEqual(client.cancel(task, force=True), CODES["ok"])
        self.assertEqual(self.take(client, 1)[0].state, CANCELLED)

    def test_what_waits_behind_is_given_back(self):
        """Leased and not started: CANCEL becomes REVOKE, RETURNED, cancelled; the function never sees it."""
        self.broker()
        self.python_worker()
        client = self.client()
        gate = self.shut_gate()
        tasks = [client.submit("slow_square", n, gate) for n in range(6)]
        self.wait(client, lambda: len(self.at_gate()) == 2, "two that run")
        self.wait(client, lambda: client.query("show", id=tasks[5]).body["state"] == "leased", "a lease")
        self.assertEqual(client.cancel(tasks[5]), CODES["ok"])
        self.open_gate()
        outcomes = {o.task: o.state for o in self.take(client, 6)}
        self.assertEqual(outcomes, {task: CANCELLED if task == tasks[5] else DONE for task in tasks})
        self.assertFalse([name for name in self.at_gate() if name.startswith("5-")])

    def test_killed_and_started_again_it_loses_no_task(self):
        self.broker()
        worker = self.python_worker()
        client = self.client()
        gate = self.shut_gate()
        wanted = {client.submit("slow_square", n, gate): n * n for n in range(20)}
        self.wait(client, lambda: len(self.at_gate()) == 2, "two that run")
        processes = [int(name.split("-")[1]) for name in self.at_gate()]
        worker.kill9()
        for pid in processes:
            stage.wait_until(lambda p=pid: not stage.is_alive(p), "an attempt that outlives its worker")
        self.open_gate()
        self.python_worker()  # of the same name: what the former one held is lost, and is tried again
        outcomes = self.take(client, 20)
        self.assertEqual({o.task: value(o) for o in outcomes}, wanted)
        self.assertTrue(2 <= [o.attempts for o in outcomes].count(2) <= 10)  # those it held, started or not
        self.assertIsNone(client.next_outcome(0.05))

    def test_at_most_once_is_not_tried_again_when_it_dies(self):
        self.broker()
        worker = self.python_worker()
        client = self.client()
        gate = self.shut_gate()
        client.submit("slow_square", 3, gate, options=[0, 0, 1, 0, 0, 0, True])
        self.wait(client, lambda: self.at_gate(), "a start")
        worker.kill9()
        self.python_worker()
        outcome, = self.take(client, 1)
        self.assertEqual((outcome.state, outcome.cause), (FAILED, 6))
        self.assertEqual(len(self.at_gate()), 1)

    def test_it_goes_on_while_the_broker_is_dead(self):
        broker = self.broker()
        self.python_worker()
        client = self.client("gap")
        gate = self.shut_gate()
        wanted = {client.submit("slow_square", n, gate): n * n for n in range(6)}
        client.flush()
        self.wait(client, lambda: len(self.at_gate()) == 2, "two that run")
        broker.kill9()
        self.open_gate()
        stage.wait_until(lambda: len(self.at_gate()) >= 3, "the next attempt, which nobody could dispatch now")
        self.broker()
        outcomes = self.take(client, 6)
        self.assertEqual({o.task: value(o) for o in outcomes}, wanted)
        self.assertEqual({o.attempts for o in outcomes}, {1})
        self.assertEqual(len(self.at_gate()), 6)

    def test_another_store_makes_it_forget_what_it_held(self):
        broker = self.broker()
        self.python_worker()
        client = self.client("before")
        gate = self.shut_gate()
        for n in range(4):
            client.submit("slow_square", n, gate)
        self.wait(client, lambda: len(self.at_gate()) == 2, "two that run")
        broker.kill9()
        self.broker("--db", self.path("other.db"))
        for pid in [int(name.split("-")[1]) for name in self.at_gate()]:
            stage.wait_until(lambda p=pid: not stage.is_alive(p), "an attempt of another store that goes on")
        with self.assertRaises(Denied) as caught:
            client.step_until(lambda: False, stage.PATIENCE_S)
        self.assertEqual(caught.exception.code, CODES["unknown"])
        self.assertEqual(self.quern("submit", "square", "7").stdout, "49\n")
        self.assertEqual(len(self.at_gate()), 2)

    def test_sigterm_drains_it(self):
        self.broker()
        worker = self.python_worker()
        client = self.client()
        gate = self.shut_gate()
        tasks = [client.submit("slow_square", n, gate) for n in range(6)]
        self.wait(client, lambda: len(self.at_gate()) == 2, "two that run")
        worker.send(signal.SIGTERM)
        self.wait(client, lambda: client.query("show", id=tasks[5]).body["state"] == "ready", "what it gave back")
        self.open_gate()
        self.assertEqual({o.state for o in self.take(client, 2)}, {DONE})
        self.assertEqual(worker.status(), 0)
        self.assertEqual(len(self.at_gate()), 2)


class Raw(Peer):
    """Says what it is told to, and keeps the answers."""

    def __init__(self, url):
        super().__init__(url)
        self.answers = []

    def hello(self):
        return encode("HELLO_OPERATOR", instance=self.instance, host=self.host, pid=self.pid, program="raw")

    def _handle(self, message):
        if type(message).__name__ in ("ERROR", "DENIED"):
            self.answers.append(message)
        elif type(message).__name__ == "WELCOME_OPERATOR":
            self.welcomed(message)
        else:
            super()._handle(message)

    def handle(self, name, message):
        self.answers.append(message)


class Strangers(PythonStory):
    def raw(self):
        peer = Raw(self.url)
        self.peers.append(peer)
        self.wait(peer, lambda: peer.welcome, "no welcome")
        return peer

    def test_an_unknown_kind_is_answered_and_stepped_over(self):
        self.broker()
        peer = self.raw()
        peer.link.send(msgpack.packb([4711, "of", {"the": "future"}, [1, [2, [3]]]]))
        peer.send("QUERY", request=9, what="status", params=None)
        self.wait(peer, lambda: len(peer.answers) == 2, "two answers")
        error, reply = peer.answers
        self.assertEqual((error.code, error.kind), (CODES["unsupported"], 4711))
        self.assertEqual((reply.request, reply.code), (9, 0))

    def test_further_fields_are_stepped_over(self):
        self.broker()
        peer = self.raw()
        peer.link.send(msgpack.packb([30, 5, "status", None, "further", [1, {"a": 2}], 3]))
        self.wait(peer, lambda: peer.answers, "an answer")
        self.assertEqual((peer.answers[0].request, peer.answers[0].code), (5, 0))

    def test_what_is_not_for_an_operator_is_refused(self):
        self.broker()
        peer = self.raw()
        peer.send("TAKEN", prefix=1, ranges=[])
        self.wait(peer, lambda: peer.answers, "an answer")
        self.assertEqual((peer.answers[0].code, peer.answers[0].kind), (CODES["protocol"], python_wire.KINDS["TAKEN"]))

    def test_the_eighth_malformed_message_ends_the_connection(self):
        self.broker()
        peer = self.raw()
        for _ in range(8):
            peer.link.send(msgpack.packb([30, "no number"]))
        link = peer.link
        self.wait(peer, lambda: peer.link is not link, "an end")
        self.assertEqual({answer.code for answer in peer.answers}, {CODES["protocol"]})
        self.wait(peer, lambda: peer.welcome, "a new connection")  # with the next generation

    def test_who_says_no_hello_is_told_so(self):
        self.broker()
        peer = Raw(self.url)
        self.peers.append(peer)
        peer.hello = lambda: encode("QUERY", request=1, what="status", params=None)
        self.wait(peer, lambda: peer.answers, "an answer")
        self.assertEqual(peer.answers[0].code, CODES["need_hello"])

    def test_a_newer_major_version_is_denied_in_the_old_one(self):
        self.broker()
        peer = self.raw()
        peer.link.socket.send(msgpack.packb([2, peer.generation]) + msgpack.packb([1]))
        self.wait(peer, lambda: peer.answers, "an answer")
        self.assertEqual(peer.answers[0].code, CODES["version"])


if __name__ == "__main__":
    stage.main()
