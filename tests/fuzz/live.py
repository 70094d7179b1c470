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
CONNECTION_COUNT = 40
PAUSE_S = 0.02  # then a peer goes on, answered or not
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
    conversations = [frames for frames in conversations if frames]
    # Those that bring work, or do it, more often than those that ask.
    return conversations + 4 * [frames for frames in conversations
                                if any(message[0] in (2, 20) for frame in frames for message in values(frame)[1:])]


def values(body):
    unpacker = msgpack.Unpacker(unicode_errors="surrogateescape", strict_map_key=False, max_buffer_size=1 << 24)
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

    def frame(self, head, messages):
        """A frame as it is sent, damaged or not."""
        how = self.randrange(10)
        percent = 0 if how < 5 else self.choice((2, 5, 30))
        messages = [self.twist(message, percent) for message in messages]
        body = b"".join(msgpack.packb(value, unicode_errors="surrogateescape") for value in [head, *messages])
        if how == 9:
            changed = bytearray(body)
            for _ in range(self.randrange(1, 4)):
                changed[self.randrange(len(changed))] = self.randrange(256)
            body = bytes(changed)[:self.randrange(1, len(changed) + 1) if self.randrange(4) == 0 else None]
        return body


class Peer:
    """One connection that plays a damaged conversation. Where its undamaged frames name what this very conversation
    gave (nonce, series, sequence, tokens, completions), it is put in: so it comes to what is behind the greeting."""

    def __init__(self, path, frames, chance):
        self.stream = socket.socket(socket.AF_UNIX)
        self.stream.connect(path)
        self.stream.setblocking(False)
        self.chance = chance
        self.frames = self.arrange(frames)
        self.out = GREETING + zmtp(READY, 4)
        self.heard = b""
        self.is_greeted = False
        self.may_speak_at = float("inf")  # once it is greeted; then after an answer, or a while
        self.instance = bytes((chance.randrange(24),)) * 16
        self.nonce = bytes(16)
        self.series = 0
        self.sequence = 1
        self.completion = 0
        self.epoch = 0
        self.tokens = []

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
            elif what == 2 and at > 0:
                frames[at:] = chance.sample(frames[at:], len(frames) - at)
            else:
                frames.append(frames[at])
        return frames

    def fileno(self):
        return self.stream.fileno()

    def turn(self, is_readable, now):
        """False: it is over."""
        try:
            if is_readable and not self.hear(now):
                return False
            return self.speak(now)
        except BlockingIOError:
            return True
        except OSError:
            return False

    # ---- hearing ----

    def hear(self, now):
        data = self.stream.recv(65536)
        self.heard += data
        if not self.is_greeted and len(self.heard) >= 64:
            self.heard = self.heard[64:]
            self.is_greeted = True
        if self.is_greeted:
            frames, self.heard = zmtp_split(self.heard)
            for flags, body in frames:
                self.may_speak_at = now
                for message in [] if flags & 4 else values(body)[1:]:
                    self.note(message)
                    self.chance.learn(message)
        return bool(data)

    def note(self, message):
        kind = message[0]
        if kind == 4:
            self.nonce = message[1]
        elif kind == 6:
            self.epoch, self.series, self.sequence = message[2], message[4], message[5] + 1
        elif kind == 7:
            self.epoch = message[2]
        elif kind == 24:
            self.completion = max([self.completion] + [item[1] for item in message[1]])
        elif kind == 40:
            self.tokens += [[item[0], self.epoch, item[1]] for item in message[4]]

    # ---- speaking ----

    def adapt(self, message):
        """The message with what this conversation gave."""
        if not isinstance(message, list) or not message:
            return message
        kind = message[0]
        if kind == 1:
            message[1], message[7], message[9] = self.instance, self.chance.choice((None, "a", "b")), True
        elif kind == 2:
            message[1], message[4] = self.instance, f"w{self.chance.randrange(6)}"
        elif kind == 5:
            message[1] = self.nonce
        elif kind == 20:
            message[1], message[2] = self.series, self.sequence
            self.sequence += len(message[-1])
        elif kind == 25:
            message[1] = self.completion
        elif kind in (27, 28) and self.series:
            message[2] = self.series << 32 | self.chance.randrange(1, self.sequence + 1)
        elif kind in (44, 45, 47):
            for item in message[1]:
                item[:3] = self.tokens.pop(0) if self.tokens else item[:3]
        return message

    def speak(self, now):
        if not self.out and now >= self.may_speak_at:
            if not self.frames:
                return False  # gone without a word
            _, *messages = values(self.frames.pop(0))
            head = [1, 1 if self.chance.randrange(20) else self.chance.choice((0, 2, 7))]
            body = self.chance.frame(head, [self.adapt(message) for message in messages])
            self.out = zmtp(body, 0 if self.chance.randrange(200) else self.chance.choice((1, 4, 2)))
            self.may_speak_at = now + PAUSE_S
        if self.out:
            self.out = self.out[self.stream.send(self.out):]
        return True

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
                selector.register(Peer(path, chance.choice(conversations), chance), selectors.EVENT_READ)
                played += 1
            readable = {key.fileobj for key, _ in selector.select(PAUSE_S)}
            now = time.monotonic()
            for peer in [key.fileobj for key in selector.get_map().values()]:
                left = len(peer.frames)
                if not peer.turn(peer in readable, now):
                    selector.unregister(peer)
                    peer.close()
                sent += left - len(peer.frames)
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
