"""Peers that are hostile or wrong: counted, answered where possible, dropped if they go on; never a crash or a stall of
others (P10). Needs python3-zmq and python3-msgpack."""

import os
import random
import socket
import struct
import threading

import msgpack
import zmq

import stage

PROTOCOL_MAJOR = 1


def frame(generation, *messages):
    return msgpack.packb([PROTOCOL_MAJOR, generation]) + b"".join(msgpack.packb(message) for message in messages)


def receive(stream, size):
    data = b""
    while len(data) < size:
        more = stream.recv(size - len(data))
        if not more:
            raise ConnectionResetError("the end")
        data += more
    return data


def greet(stream):
    """ZMTP 3.0 by hand: greeting and READY, both ways."""
    stream.sendall(b"\xff" + bytes(8) + b"\x7f\3\0" + b"NULL".ljust(20, b"\0") + bytes(32))
    ready = b"\5READY\x0bSocket-Type" + struct.pack(">I", 6) + b"DEALER"
    stream.sendall(bytes((4, len(ready))) + ready)
    head = receive(stream, 64 + 2)[64:]
    receive(stream, head[1])


class Hostile(stage.Story):
    def setUp(self):
        super().setUp()
        self.context = zmq.Context()
        self.sockets = []
        self.process = self.broker()
        self.worker()
        self.wait_workers()

    def tearDown(self):
        for peer in self.sockets:
            peer.close(linger=0)
        self.context.term()
        super().tearDown()

    def dealer(self, url=None):
        peer = self.context.socket(zmq.DEALER)
        peer.linger = 0
        peer.sndhwm = 0
        peer.reconnect_ivl = -1
        self.sockets.append(peer)
        peer.connect(url or self.url)
        return peer

    def check_alive(self):
        self.assertTrue(self.process.is_running())
        self.assertEqual(self.quern("submit", "square", "9").stdout, "81\n")

    def rss_mib(self):
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("VmRSS")) / 1024

    def test_random_bytes(self):
        seed = int(os.environ.get("QUERN_SEED", "1"))
        chance = random.Random(seed)
        for _ in range(20):
            peer = self.dealer()
            for _ in range(100):
                peer.send(chance.randbytes(chance.choice((0, 1, 2, 7, 30, 300, 5000))))
        self.check_alive()

    def test_random_messages_in_good_frames(self):
        chance = random.Random(2)

        def value(depth):
            kind = chance.randrange(9 if depth < 4 else 6)
            return (None, chance.random() < 0.5, chance.randrange(2**63), -chance.randrange(2**40),
                    chance.randbytes(chance.randrange(40)), "x" * chance.randrange(200),
                    [value(depth + 1) for _ in range(chance.randrange(5))] if kind == 6 else 1.5,
                    {"k": value(depth + 1)} if kind == 7 else 2,
                    [[value(depth + 1)] * 3] if kind == 8 else 3)[kind]

        for _ in range(20):
            peer = self.dealer()
            for _ in range(100):
                peer.send(frame(1, [chance.randrange(48), *(value(0) for _ in range(chance.randrange(14)))]))
        self.check_alive()

    def test_bombs(self):
        """Five bytes that announce four billion elements, and arrays a hundred thousand deep."""
        before = self.rss_mib()
        for bytes_ in (b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\x91" * 100000):
            peer = self.dealer()
            peer.send(frame(1) + bytes_)
            peer.send(bytes_)
        self.check_alive()
        self.assertLess(self.rss_mib(), before + 100)

    def test_a_peer_that_goes_on_is_dropped(self):
        peer = self.dealer()
        monitor = peer.get_monitor_socket(zmq.EVENT_DISCONNECTED | zmq.EVENT_CLOSED)
        self.sockets.insert(0, monitor)
        for _ in range(100):
            peer.send(b"\xc1")
        self.assertTrue(monitor.poll(stage.PATIENCE_S * 1000), "still connected")
        self.check_alive()

    def test_a_frame_beyond_the_limit_does_not_reach_memory(self):
        before = self.rss_mib()
        peers = [self.dealer() for _ in range(4)]
        for peer in peers:
            peer.send(b"\0" * (60 * 2**20), copy=False)
        self.check_alive()
        self.assertLess(self.rss_mib(), before + 150)

    def check_parts_without_end(self, stream):
        """ZeroMQ keeps the parts of a message until the last one has come, and shows nobody anything of them."""
        before = self.rss_mib()
        greet(stream)
        part = b"\3" + struct.pack(">Q", 2**20) + b"\0" * 2**20  # long, and more to come
        try:
            for number in range(2048):
                if number % 64 == 1:
                    self.check_alive()
                    self.assertLess(self.rss_mib(), before + 150)
                stream.sendall(part)
            self.fail("2 GiB of one message were taken")
        except (BrokenPipeError, ConnectionResetError):
            pass
        self.assertLess(self.rss_mib(), before + 150)
        self.process.wait_log("peer dropped")
        self.check_alive()

    def test_a_message_of_endless_parts_does_not_reach_memory(self):
        with socket.socket(socket.AF_UNIX) as stream:
            stream.settimeout(stage.PATIENCE_S)
            stream.connect(self.url.removeprefix("ipc://"))
            self.check_parts_without_end(stream)

    def test_nor_does_it_on_tcp(self):
        with socket.create_connection(("127.0.0.1", self.listen_on_tcp()), stage.PATIENCE_S) as stream:
            self.check_parts_without_end(stream)

    def test_a_newer_major_version_is_answered(self):
        peer = self.dealer()
        peer.send(msgpack.packb([PROTOCOL_MAJOR + 1, 1]) + msgpack.packb([1, "whatever comes then"]))
        self.assertTrue(peer.poll(stage.PATIENCE_S * 1000), "no answer")
        unpacker = msgpack.Unpacker()
        unpacker.feed(peer.recv())
        head, *messages = list(unpacker)
        self.assertEqual(head, [PROTOCOL_MAJOR, 1])
        self.assertGreater(len(messages), 0)
        self.check_alive()

    def test_an_unknown_connection_is_told_to_say_hello(self):
        peer = self.dealer()
        peer.send(frame(3, [200, 1, 2]))
        self.assertTrue(peer.poll(stage.PATIENCE_S * 1000), "no answer")
        self.check_alive()

    def test_others_are_served_meanwhile(self):
        """Three strangers come, send rubbish as fast as they can, and leave, again and again."""
        stop = threading.Event()

        def flood(seed):
            chance = random.Random(seed)
            with zmq.Context() as context:
                while not stop.is_set():
                    with context.socket(zmq.DEALER) as peer:
                        peer.setsockopt(zmq.LINGER, 0)
                        peer.setsockopt(zmq.RECONNECT_IVL, -1)
                        peer.connect(self.url)
                        for _ in range(50):
                            peer.send(chance.randbytes(200))
                        peer.poll(20)  # an answer, as a rule: else all leaves with the socket

        threads = [threading.Thread(target=flood, args=(seed,)) for seed in range(3)]
        for thread in threads:
            thread.start()
        try:
            for number in range(20):
                self.assertEqual(self.quern("submit", "square", number).stdout, f"{number * number}\n")
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        self.check_alive()

    def listen_on_tcp(self):
        """A new broker, on TCP too; the port."""
        self.assertEqual(self.process.end(), 0)
        self.process = self.broker("--listen", self.url, "--listen", "tcp://127.0.0.1:*", "--insecure-tcp")
        stage.wait_until(lambda: len(self.process.out) == 2, "two listeners")
        return int(self.process.out[1].rsplit(":", 1)[1])

    def test_raw_bytes_on_tcp(self):
        port = self.listen_on_tcp()
        chance = random.Random(5)
        for _ in range(30):
            with socket.create_connection(("127.0.0.1", port)) as stream:
                try:
                    stream.sendall(chance.choice((b"GET / HTTP/1.0\r\n\r\n", chance.randbytes(2000), b"\xff" * 10)))
                except OSError:
                    pass
        self.check_alive()


class Store(stage.Story):
    def test_a_database_replaced_under_the_broker_stops_it_with_70(self):
        """It is looked for with commits, at most once a second."""
        broker = self.broker()
        os.rename(self.db, self.db + ".gone")

        def submit_until_it_ends():
            client = self.quern_start("--connect-timeout", "0.1", "submit", "square", "1", "--detach")
            stage.wait_until(lambda: not (client.is_running() and broker.is_running()), "an answer")
            client.kill9()  # a broker that ends while it is asked leaves the client waiting for the next one
            return not broker.is_running()

        stage.wait_until(submit_until_it_ends, "the end of the broker")
        self.assertEqual(broker.status(), 70)


if __name__ == "__main__":
    stage.main()
