"""A broker with real sockets under recorded conversations that are damaged: bytes changed, numbers replaced, frames left
out, repeated, in another order, cut in the middle. It does not die, its memory stays within bounds, it serves a good
peer all the while, it ends cleanly, and it starts again from its store.

    live.py [--seconds N] [--seed N]     the build in QUERN_BUILD; one with sanitizers sees most
    live.py --record                     makes recorded.txt anew: what quern's own programs send

Needs python3-msgpack. Start reading at test_damaged_conversations_hurt_nobody.
"""

import os
import random
import selectors
import socket
import struct
import sys
import threading
import time

import msgpack

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "integration"))
import stage  # noqa: E402

RECORDED = os.path.join(HERE, "recorded.txt")
GREETING = b"\xff" + bytes(8) + b"\x7f\3\0" + b"NULL".ljust(20, b"\0") + bytes(32)
READY = b"\5READY\x0bSocket-Type" + struct.pack(">I", 6) + b"DEALER"
CONNECTION_COUNT = 12
FRAME_KEPT_MAX = 1500
MEMORY_MIB_MAX = 900  # with a sanitizer's own
CONFIG = """limits
    heartbeat_ms = 200
    dead_ms = 1000
    lease_ms = 1000
    claim_ms = 100
    session_gone_ms = 500
    task_count_max = 5000
    unacked_count_max = 5000
    acked_count_max = 1000
"""


def zmtp(body, flags=0):
    if len(body) < 256:
        return bytes((flags, len(body))) + body
    return bytes((flags | 2,)) + struct.pack(">Q", len(body)) + body


def zmtp_split(data):
    """Whole frames (flags, body) of a stream, and what is left of it."""
    frames = []
    while len(data) >= 2:
        head, size = (9, struct.unpack(">Q", data[1:9])[0]) if data[0] & 2 and len(data) >= 9 else (2, data[1])
        if (data[0] & 2 and len(data) < 9) or len(data) < head + size:
            break
        frames.append((data[0], data[head:head + size]))
        data = data[head + size:]
    return frames, data


# ---- recording ----

class Tap(threading.Thread):
    """Between a peer and the broker: passes on, and keeps what the peer sends."""

    def __init__(self, path, broker_path):
        super().__init__(daemon=True)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen()
        self.broker_path = broker_path
        self.streams = []

    def run(self):
        while True:
            peer, _ = self.listener.accept()
            broker = socket.socket(socket.AF_UNIX)
            broker.connect(self.broker_path)
            kept = bytearray()
            self.streams.append(kept)
            threading.Thread(target=self.pass_on, args=(peer, broker, kept), daemon=True).start()
            threading.Thread(target=self.pass_on, args=(broker, peer, None), daemon=True).start()

    @staticmethod
    def pass_on(source, sink, kept):
        try:
            while data := source.recv(65536):
                if kept is not None:
                    kept += data
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def conversations(self):
        for kept in self.streams:
            frames, _ = zmtp_split(bytes(kept[64:]))
            yield [body for flags, body in frames if not flags & 5 and len(body) <= FRAME_KEPT_MAX]


class Record(stage.Story):
    def test_record(self):
        self.broker()
        os.mkdir(self.path("run", "tap"), 0o700)
        tap = Tap(self.path("run", "tap", "broker.sock"), self.url[len("ipc://"):])
        tap.start()
        url = ("--url", "ipc://" + self.path("run", "tap", "broker.sock"))
        worker = self.worker(*url)
        self.wait_workers()
        self.quern(*url, "map", "square", "--session", "books", input="\n".join(map(str, range(5))))
        self.quern(*url, "submit", "square", "7")
        self.quern(*url, "submit", "square", "7", "--detach", "--session", "later", "--priority", "3", "--attempts", "2")
        self.quern(*url, "submit", "fail", "1", status=None)
        for words in (("status",), ("sessions",), ("list",), ("show", "1-1"), ("explain", "1-1"), ("result", "1-1"),
                      ("cancel", "1-1"), ("retry", "1-1"), ("attach", "later"), ("close", "books")):
            self.quern(*url, *words, status=None)
        worker.end()
        with open(RECORDED, "w", encoding="ascii") as out:
            out.write("# What peers sent, a connection after each line with a name; made by live.py --record.\n")
            for number, frames in enumerate(tap.conversations()):
                out.write(f"# {number}\n")
                for body in frames[:30]:
                    out.write(body.hex() + "\n")


# ---- damage ----

def recorded():
    conversations = []
    with open(RECORDED, encoding="ascii") as file:
        for line in file:
            if line.startswith("#"):
                conversations.append([])
            else:
                conversations[-1].append(bytes.fromhex(line.strip()))
    return [frames for frames in conversations if frames]


def values(body):
    unpacker = msgpack.Unpacker(raw=True, strict_map_key=False, max_buffer_size=1 << 24)
    unpacker.feed(body)
    return list(unpacker)


class Chance(random.Random):
    """How a frame is damaged; numbers and identities that the broker said take the place of others."""

    def __init__(self, seed):
        super().__init__(seed)
        self.numbers = [0, 1, 2, 0x7fffffff, 0xffffffff, 0x7fffffffffffffff, 0xffffffffffffffff]
        self.ids = [bytes(16)]

    def learn(self, value):
        if isinstance(value, list):
            for each in value:
                self.learn(each)
        elif isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63:
            self.numbers = (self.numbers + [value])[-400:]
        elif isinstance(value, bytes) and len(value) == 16:
            self.ids = (self.ids + [value])[-40:]

    def twist(self, value, percent):
        if isinstance(value, list):
            items = [self.twist(each, percent) for each in value]
            if self.randrange(1000) < percent:
                items = self.choice((items[:-1], items + items[-1:], items[::-1]))
            return items
        if self.randrange(100) >= percent:
            return value
        if isinstance(value, bool):
            return not value
        if isinstance(value, int):
            return self.choice((value + 1, max(0, value - 1), self.choice(self.numbers), self.choice(self.numbers)))
        if isinstance(value, bytes) and len(value) == 16:
            return self.choice(self.ids)
        return self.choice((None, 0, b"", [], value, self.randbytes(self.randrange(40)), -1, "text", 1.5))

    def frame(self, body, generation):
        """The frame as it is sent, damaged or not."""
        how = self.randrange(10)
        try:
            head, *messages = values(body)
        except ValueError:
            return body
        percent = 0 if how < 4 else self.choice((3, 10, 40))
        messages = [self.nonce(self.twist(message, percent)) for message in messages]
        head = [1, generation if self.randrange(20) else self.choice((0, generation + 1, 7))]
        body = b"".join(msgpack.packb(value, use_bin_type=True) for value in [head, *messages])
        if how == 9 and body:
            changed = bytearray(body)
            for _ in range(self.randrange(1, 4)):
                changed[self.randrange(len(changed))] = self.randrange(256)
            body = bytes(changed)[:self.randrange(1, len(changed) + 1) if self.randrange(4) == 0 else None]
        return body

    def nonce(self, message):
        """The last nonce that was heard echoes: so conversations come to what is behind the challenge."""
        if isinstance(message, list) and len(message) == 2 and message[0] == 5:
            return [5, self.ids[-1]]
        return message


class Peer:
    """One connection that plays a damaged conversation and hears what the broker says."""

    generation = 0

    def __init__(self, path, frames, chance):
        self.stream = socket.socket(socket.AF_UNIX)
        self.stream.connect(path)
        self.stream.setblocking(False)
        Peer.generation += 1
        self.own_generation = Peer.generation
        self.chance = chance
        self.frames = self.arrange(frames)
        self.out = GREETING + zmtp(READY, 4)
        self.heard = b""
        self.is_greeted = False

    def arrange(self, frames):
        chance = self.chance
        frames = list(frames)
        for _ in range(chance.randrange(3)):
            at = chance.randrange(len(frames))
            what = chance.randrange(4)
            if what == 0 and len(frames) > 1 and at > 0:
                del frames[at]
            elif what == 1:
                frames.insert(at, frames[at])
            elif what == 2:
                frames[at:] = chance.sample(frames[at:], len(frames) - at)
            else:
                frames.append(frames[at])
        return frames

    def fileno(self):
        return self.stream.fileno()

    def turn(self, is_readable, is_writable):
        """False: it is over."""
        try:
            if is_readable and not self.hear():
                return False
            if is_writable:
                return self.speak()
        except OSError:
            return False
        return True

    def hear(self):
        data = self.stream.recv(65536)
        self.heard += data
        if not self.is_greeted and len(self.heard) >= 64:
            self.heard = self.heard[64:]
            self.is_greeted = True
        if self.is_greeted:
            frames, self.heard = zmtp_split(self.heard)
            for flags, body in frames:
                if not flags & 4:
                    self.chance.learn(values(body)[1:])
        return bool(data)

    def speak(self):
        if not self.out and self.frames:
            body = self.chance.frame(self.frames.pop(0), self.own_generation)
            flags = 0 if self.chance.randrange(200) else self.chance.choice((1, 4, 2))
            self.out = zmtp(body, flags)
        if self.out:
            self.out = self.out[self.stream.send(self.out):]
            return True
        return self.chance.randrange(40) != 0  # it listens for a while, then it is gone without a word

    def close(self):
        self.stream.close()


class Live(stage.Story):
    seconds = 2.0
    seed = None

    def begin(self):
        with open(self.path("broker.conf"), "w", encoding="ascii") as file:
            file.write(CONFIG)
        self.env["ASAN_OPTIONS"] = "quarantine_size_mb=16:" + os.environ.get("ASAN_OPTIONS", "")
        return self.broker("--config", self.path("broker.conf"))

    def rss_mib(self, broker):
        with open(f"/proc/{broker.pid}/status", encoding="ascii") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("VmRSS")) / 1024

    def check_good_peer(self, word):
        """Operators may close any session, also that of the good peer: it may have to try again."""
        for _ in range(5):
            said = self.quern("run", "--", "echo", input=word + "\n", status=None)
            if said.status == 0:
                self.assertEqual(said.stdout, word + "\n")
                return
        self.fail(f"the good peer is not served: {said.stderr}")

    def test_damaged_conversations_hurt_nobody(self):
        seed = self.seed if self.seed is not None else random.randrange(1 << 32)
        print(f"live.py --seed {seed}")
        sys.stdout.flush()
        broker = self.begin()
        self.worker("--allow-commands", module=None)
        self.wait_workers()
        played, sent, served, peak = self.play(broker, Chance(seed))
        counters = self.status()["counters"]
        self.assertEqual(broker.end(), 0, "it ends cleanly")
        self.check_quiet(broker)
        again = self.begin()  # from whatever it was made to store
        self.wait_workers()
        self.check_good_peer("again")
        self.assertEqual(again.end(), 0)
        self.check_quiet(again)
        print(f"live: {played} conversations, {sent} frames, a good peer served {served} times, "
              f"{peak:.0f} MiB at most, no finding")
        print(f"live: {counters}")

    def check_quiet(self, broker):
        for line in broker.log:
            self.assertNotIn("BUG", line)
            self.assertNotIn("ERROR: ", line)
            self.assertNotIn("runtime error", line)

    def play(self, broker, chance):
        conversations = recorded()
        path = self.url[len("ipc://"):]
        selector = selectors.DefaultSelector()
        end = time.monotonic() + self.seconds
        next_look = 0.0
        played = sent = served = 0
        peak = 0.0
        while time.monotonic() < end:
            while len(selector.get_map()) < CONNECTION_COUNT:
                peer = Peer(path, chance.choice(conversations), chance)
                selector.register(peer, selectors.EVENT_READ | selectors.EVENT_WRITE)
                played += 1
            for key, events in selector.select(0.1):
                left = len(key.fileobj.frames)
                if not key.fileobj.turn(events & selectors.EVENT_READ, events & selectors.EVENT_WRITE):
                    selector.unregister(key.fileobj)
                    key.fileobj.close()
                sent += left - len(key.fileobj.frames)
            if time.monotonic() > next_look:
                self.assertTrue(broker.is_running(), "the broker died")
                self.check_good_peer(f"word-{served}")
                served += 1
                peak = max(peak, self.rss_mib(broker))
                self.assertLess(peak, MEMORY_MIB_MAX)
                next_look = time.monotonic() + 1.0
        for key in list(selector.get_map().values()):
            key.fileobj.close()
        selector.close()
        return played, sent, served, peak


if __name__ == "__main__":
    if "--record" in sys.argv:
        sys.argv = [sys.argv[0], "Record"]
    else:
        for option in ("--seconds", "--seed"):
            if option in sys.argv:
                index = sys.argv.index(option)
                setattr(Live, option[2:], float(sys.argv[index + 1]) if option == "--seconds" else
                        int(sys.argv[index + 1]))
                del sys.argv[index:index + 2]
        sys.argv.insert(1, "Live")
    stage.main()
