"""Commit, then send, seen from outside: while the broker's sync is held up, no acceptance, no result, no receipt and no
welcome leaves; execution goes on; and a broker that is killed there has told nobody anything that the disk does not know.
Needs python3-zmq and python3-msgpack."""

import os
import struct

import msgpack
import stage
import zmq

GATE = os.path.join(stage.BUILD, "tests", "sync_gate.so")
HELLO_CLIENT, HELLO_WORKER, CHALLENGE, ECHO, WELCOME_CLIENT, WELCOME_WORKER = 1, 2, 4, 5, 6, 7
PING, PONG, SUBMIT, ACCEPTED, OUTCOME, TAKEN = 10, 11, 20, 21, 24, 25
DISPATCH, FINISHED, RECEIPT = 40, 45, 46
ONCE = [0, 0, 1, 0, 0, 0, True, 0, 0]  # options: at_most_once


class Peer:
    """One connection, told apart by its generation."""

    def __init__(self, story, context, generation=1, instance=None):
        self.socket = context.socket(zmq.DEALER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.connect(story.url)
        story.addCleanup(self.socket.close)
        self.generation = generation
        self.instance = instance or os.urandom(16)
        self.heard = []
        self.pings = 0

    def say(self, *messages):
        self.socket.send(b"".join(msgpack.packb(m) for m in ([1, self.generation], *messages)))

    def listen(self, patience_ms):
        if not self.socket.poll(patience_ms):
            return False
        unpacker = msgpack.Unpacker(strict_map_key=False)
        unpacker.feed(self.socket.recv())
        head, *messages = list(unpacker)
        assert head[1] == self.generation
        self.heard += messages
        return True

    def wait(self, kind):
        """The first message of that kind, also one heard before; it is taken out."""
        for _ in range(1000):
            for message in self.heard:
                if message[0] == kind:
                    self.heard.remove(message)
                    return message
            assert self.listen(20000), f"never heard message {kind}; heard {self.heard}"
        raise AssertionError(f"never heard message {kind}")

    def barrier(self):
        """The broker has read all that was said before this; what it said at once is here."""
        self.pings += 1
        self.say([PING, 1000 + self.pings])
        while self.wait(PONG)[1] != 1000 + self.pings:
            pass

    def resume(self, before):
        """On a new connection, as the same process: session and series of the last WELCOME."""
        self.series = before.series
        self.say([HELLO_CLIENT, self.instance, "host", 1, "story", before.session, before.series, None, None, False, False,
                  False, False, False, 0, [], 1 << 30, 1 << 40])
        self.high = self.wait(WELCOME_CLIENT)[5]
        return self

    def kinds(self):
        return {message[0] for message in self.heard}


class Order(stage.Story):
    def setUp(self):
        super().setUp()
        self.context = zmq.Context()
        self.addCleanup(self.context.term)
        os.mkdir(self.path("gate"))
        with open(self.path("config"), "w", encoding="ascii") as file:
            file.write(f"broker\n    flight-recorder = {self.path('flight')}\n")
        self.program = self.broker("--config", self.path("config"), env={"LD_PRELOAD": GATE, "QUERN_GATE": self.path("gate")})

    def close_gate(self):
        with open(self.path("gate", "closed"), "w", encoding="ascii"):
            pass

    def open_gate(self):
        os.unlink(self.path("gate", "closed"))

    def wait_gate(self):
        """The broker stands at the gate: a batch is in commit."""
        stage.wait_until(lambda: os.path.exists(self.path("gate", "waiting")), "the broker to come to a sync")

    def client(self, **more):
        peer = Peer(self, self.context, **more)
        peer.say([HELLO_CLIENT, peer.instance, "host", 1, "story", 0, 0, None, None, False, False, False, False, False, 0, [],
                  1 << 30, 1 << 40])
        peer.say([ECHO, peer.wait(CHALLENGE)[1]])
        return peer

    def let_one_sync_pass(self):
        with open(self.path("gate", "once"), "w", encoding="ascii"):
            pass
        stage.wait_until(lambda: not os.path.exists(self.path("gate", "once")), "one sync to pass")
        self.wait_gate()

    def welcome_client(self):
        peer = self.client()
        _, _, _, peer.session, peer.series, *_ = peer.wait(WELCOME_CLIENT)
        return peer

    def hello_worker(self, peer, held=()):
        peer.say([HELLO_WORKER, peer.instance, "host", 2, "host-0", bytes(16), 1, 10, 1 << 30, [["square"]], [], list(held)])

    def welcome_worker(self):
        peer = Peer(self, self.context)
        self.hello_worker(peer)
        peer.epoch = peer.wait(WELCOME_WORKER)[2]
        return peer

    def submit(self, client, sequence, options=None):
        client.say([SUBMIT, client.series, sequence, "square", None, options, 0, 0, [[msgpack.packb([7]), 0]]])

    def finish(self, worker, dispatch):
        task, attempt = dispatch[4][0][:2]  # more fields may follow
        worker.say([FINISHED, [[task, worker.epoch, attempt, 0, 0, msgpack.packb(49), None, None, None, 3, 1, 1, 0, 0, 0, 0, None]]])

    def test_nothing_is_told_before_its_sync_while_work_goes_on(self):
        client, worker = self.welcome_client(), self.welcome_worker()
        self.close_gate()
        self.submit(client, 1)
        dispatch = worker.wait(DISPATCH)  # execution overlaps the commit
        self.wait_gate()
        self.finish(worker, dispatch)
        worker.barrier()
        client.barrier()
        self.assertEqual(client.kinds() & {ACCEPTED, OUTCOME}, set())
        self.assertEqual(worker.kinds() & {RECEIPT}, set())
        self.open_gate()
        self.assertEqual(client.wait(ACCEPTED)[1:], [client.series, 1, 1])
        self.assertEqual(client.wait(OUTCOME)[1][0][5], msgpack.packb(49))
        self.assertEqual(worker.wait(RECEIPT)[1][0][3], 0)

    def test_a_batch_that_opens_while_another_commits_waits_for_its_own_sync(self):
        """The end of one sync must not release what rests on the next."""
        client, worker = self.welcome_client(), self.welcome_worker()
        self.close_gate()
        self.submit(client, 1)
        self.wait_gate()
        self.finish(worker, worker.wait(DISPATCH))
        worker.barrier()  # the outcome is in the batch behind the one at the gate
        for _ in range(8):  # a commit may need more than one sync
            self.let_one_sync_pass()
            client.barrier()
            if ACCEPTED in client.kinds():
                break
        worker.barrier()
        self.assertIn(ACCEPTED, client.kinds())
        self.assertNotIn(OUTCOME, client.kinds())
        self.assertNotIn(RECEIPT, worker.kinds())
        self.open_gate()
        client.wait(OUTCOME)
        worker.wait(RECEIPT)

    def test_a_welcome_waits_for_its_sync(self):
        self.close_gate()
        client = self.client()
        worker = Peer(self, self.context)
        self.hello_worker(worker)
        self.wait_gate()
        client.barrier()
        worker.barrier()
        self.assertNotIn(WELCOME_CLIENT, client.kinds())
        self.assertNotIn(WELCOME_WORKER, worker.kinds())
        self.open_gate()
        client.wait(WELCOME_CLIENT)
        worker.wait(WELCOME_WORKER)

    def test_an_at_most_once_task_is_dispatched_after_its_lease_is_on_disk(self):
        client, worker = self.welcome_client(), self.welcome_worker()
        self.close_gate()
        self.submit(client, 1, ONCE)
        client.barrier()
        self.wait_gate()
        worker.barrier()
        self.assertNotIn(DISPATCH, worker.kinds())
        self.open_gate()
        worker.wait(DISPATCH)

    def test_a_kill_that_hits_a_collapsed_batch_loses_nothing_and_doubles_nothing(self):
        """Submitted and finished within a batch that never came to the disk: nobody was told, and it is done once in the end."""
        client, worker = self.welcome_client(), self.welcome_worker()
        self.close_gate()
        self.submit(client, 1)
        first = worker.wait(DISPATCH)
        self.wait_gate()  # the first is in commit; the second comes and goes within the batch behind it
        self.submit(client, 2)
        second = worker.wait(DISPATCH)
        self.finish(worker, second)
        worker.barrier()
        client.barrier()
        self.program.kill9()
        self.open_gate()
        self.assertEqual(self.collapsed(), 1, "the kill hit no collapsed batch: this proves nothing")
        self.assertEqual(client.kinds() & {ACCEPTED, OUTCOME}, set())
        self.assertEqual(worker.kinds() & {RECEIPT}, set())
        self.broker()
        client = Peer(self, self.context, generation=2, instance=client.instance).resume(client)
        worker = Peer(self, self.context, generation=2, instance=worker.instance)
        held = [[task, 1, attempt, state] for (task, attempt, *_), state in ((first[4][0], 1), (second[4][0], 2))]
        self.hello_worker(worker, held)
        worker.epoch = worker.wait(WELCOME_WORKER)[2]
        for sequence in range(client.high + 1, 3):
            self.submit(client, sequence)
        worker.epoch = 1  # the tokens of before
        self.finish(worker, second)
        self.finish(worker, first)
        numbers = [item[0] & 0xffffffff for item in client.wait(OUTCOME)[1]]
        while len(numbers) < 2:
            numbers += [item[0] & 0xffffffff for item in client.wait(OUTCOME)[1]]
        self.assertEqual(sorted(numbers), [1, 2])
        worker.barrier()
        self.assertNotIn(DISPATCH, worker.kinds())

    def collapsed(self):
        with open(self.path("flight"), "rb") as file:
            return struct.unpack("=8Q", file.read(64))[5]

    def test_who_was_killed_before_the_sync_had_promised_nothing(self):
        client, worker = self.welcome_client(), self.welcome_worker()
        self.submit(client, 1)
        self.assertEqual(client.wait(ACCEPTED)[2], 1)
        self.close_gate()
        self.submit(client, 2)
        self.wait_gate()
        client.barrier()
        self.assertEqual(client.kinds() & {ACCEPTED}, set())
        self.program.kill9()
        self.open_gate()
        self.broker()
        listed = {row["id"] for row in self.quern("--json", "list").json}
        self.assertIn(f"{client.series}-1", listed, "an accepted task is gone")


if __name__ == "__main__":
    stage.main()
