"""What a client and a worker of quern share: messages, frames, one connection, and the loop that keeps one open.

Written from common/PROTOCOL.md alone, as a pattern for other languages; the section numbers are of that page. One
thread does everything: whoever owns a Peer calls step() again and again. Start reading at Peer.
"""

import collections
import os
import random
import socket
import time

import msgpack
import zmq
from zmq.utils.monitor import recv_monitor_message

MAJOR = 1
FRAME_SIZE_MAX = 35651584
PAYLOAD_SIZE_MAX = 16777216
BATCH_SIZE_SOFT = 262144
BATCH_COUNT_SOFT = 4096
HEARTBEAT_MS = 3000  # until WELCOME says otherwise
DEAD_MS = 10000
RETRY_S = (0.05, 2.0)

CODES = dict(ok=0, invalid=1, too_big=5, full=6, disk=7, closed=8, unknown=9, in_use=10, taken_over=11, predecessor=12,
             duplicate=13, forgotten=14, not_finished=15, running=16, finished=17, protocol=18, version=19,
             unsupported=21, need_hello=30, draining=31)
FINAL_CODES = [CODES[word] for word in (  # of DENIED: to try again is no use (section 4)
    "in_use", "taken_over", "closed", "version", "unsupported", "unknown", "protocol")]
DONE, FAILED, CANCELLED = 7, 8, 9  # states of outcomes

# Items of lists: section 16.
Held = collections.namedtuple("Held", "task epoch attempt state")
Started = collections.namedtuple("Started", "task epoch attempt pid")
Finished = collections.namedtuple("Finished", "task epoch attempt state cause result kind message detail pid started "
                                              "run_us signal exit_status cpu_us peak report output", defaults=(None,))
Dispatched = collections.namedtuple("Dispatched", "task attempt args")
Revoked = collections.namedtuple("Revoked", "task epoch attempt force")
Token = collections.namedtuple("Token", "task epoch attempt")
Receipt = collections.namedtuple("Receipt", "task epoch attempt verdict")
Outcome = collections.namedtuple("Outcome", "task completion ordinal state cause result kind message detail attempts "
                                            "worker created started finished run_us signal exit_status args attempt "
                                            "cpu_us peak report")

# Messages: section 15. Kind, name, fields in their order.
MESSAGES = {}
KINDS = {}
for _kind, _name, _fields in (
        (1, "HELLO_CLIENT", "instance host pid program session series name description take_over is_volatile "
                            "must_exist keep want_args taken_prefix taken credit_count credit_bytes expire_ms"),
        (2, "HELLO_WORKER", "instance host pid name store slots capacity_count capacity_bytes functions queues held "
                            "memory"),
        (3, "HELLO_OPERATOR", "instance host pid program"),
        (4, "CHALLENGE", "nonce"),
        (5, "ECHO", "nonce"),
        (6, "WELCOME_CLIENT", "store epoch session series submitted_high completion_last acked_prefix ordinal_high "
                              "digest description is_new is_ending live failed heartbeat_ms dead_ms credit_count "
                              "credit_bytes untaken is_volatile"),
        (7, "WELCOME_WORKER", "store epoch lease_ms heartbeat_ms dead_ms"),
        (8, "WELCOME_OPERATOR", "store epoch heartbeat_ms dead_ms"),
        (9, "DENIED", "code text owner endpoint"),
        (10, "PING", "number"),
        (11, "PONG", "number"),
        (12, "BYE", "code"),
        (13, "ERROR", "code kind text"),
        (20, "SUBMIT", "series sequence function queue options delay_ms predecessor items"),
        (21, "ACCEPTED", "series sequence count"),
        (22, "REFUSED", "series sequence count code ordinal_high text"),
        (23, "FORGOTTEN", "series sequence count"),
        (24, "OUTCOME", "items"),
        (25, "TAKEN", "prefix ranges"),
        (26, "CREDIT", "count bytes"),
        (27, "CANCEL", "request task force"),
        (28, "RETRY", "request task"),
        (29, "CLOSE", "request session name cancel drop"),
        (30, "QUERY", "request what params"),
        (31, "REPLY", "request code text more body"),
        (40, "DISPATCH", "function timeout_ms at_most_once items"),
        (41, "REVOKE", "items"),
        (42, "DROP", "items"),
        (43, "RETURNED", "items"),
        (44, "STARTED", "items"),
        (45, "FINISHED", "items"),
        (46, "RECEIPT", "items"),
        (47, "PROGRESS", "items"),
        (48, "CAPACITY", "count bytes nested depth scarce"),
        (49, "LOOK", "request task epoch attempt stdout_known stderr_known"),
        (50, "OUTPUT", "request is_running output")):
    MESSAGES[_name] = MESSAGES[_kind] = collections.namedtuple(_name, _fields)
    KINDS[_name] = _kind


def item(shape, fields):
    """Fields beyond those known are stepped over, missing ones are 0 (section 14)."""
    count = len(shape._fields)
    return shape(*(list(fields) + [0] * count)[:count])


def encode(name, /, **fields):
    """One message as bytes; fields at its end that are not given are left out, as an older peer does it."""
    names = MESSAGES[name]._fields
    return msgpack.packb([KINDS[name], *(fields[names[i]] for i in range(len(fields)))])


def decode_frame(frame, generation):
    """The messages of a frame that this program knows; of another generation: none (section 4)."""
    unpacker = msgpack.Unpacker(max_buffer_size=FRAME_SIZE_MAX, strict_map_key=False, unicode_errors="replace")
    unpacker.feed(frame)
    head = next(unpacker)
    if head[0] != MAJOR or head[1] != generation:
        return
    for fields in unpacker:
        if fields[0] in MESSAGES:
            yield item(MESSAGES[fields[0]], fields[1:])


class Denied(Exception):
    """The broker ended it, and to try again is no use."""

    def __init__(self, message):
        super().__init__(f"code {message.code}: {message.text}")
        self.code, self.text = message.code, message.text
        self.owner = getattr(message, "owner", None)


class Link:
    """One connection: a socket of its own, never used again (section 2). Messages gather in a frame until flush()."""

    def __init__(self, context, url, generation):
        self.generation = generation
        self.socket = context.socket(zmq.DEALER)
        for option, value in ((zmq.RECONNECT_IVL, -1), (zmq.LINGER, 1000), (zmq.RCVHWM, 0), (zmq.SNDHWM, 0),
                              (zmq.MAXMSGSIZE, FRAME_SIZE_MAX)):
            self.socket.setsockopt(option, value)
        self.monitor = self.socket.get_monitor_socket(
            zmq.EVENT_CLOSED | zmq.EVENT_DISCONNECTED | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
            | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL)
        self.socket.connect(url)
        self.frame, self.count = bytearray(), 0
        self.ended = False
        self.sent_at = self.received_at = time.monotonic()

    def send(self, message, items=1):
        """Bytes of encode(). A frame is closed when it is big enough."""
        if self.count and (len(self.frame) + len(message) > BATCH_SIZE_SOFT or self.count + items > BATCH_COUNT_SOFT):
            self.flush()
        if not self.count:
            self.frame += msgpack.packb([MAJOR, self.generation])
        self.frame += message
        self.count += items

    def flush(self):
        if self.count:
            try:
                self.socket.send(bytes(self.frame), zmq.DONTWAIT)
            except zmq.Again:  # nothing there any more
                self.ended = True
            self.frame, self.count = bytearray(), 0
            self.sent_at = time.monotonic()

    def receive(self):
        """Every message that is there. The end is looked at first: what came before it is still read."""
        while self.monitor.poll(0):
            recv_monitor_message(self.monitor)
            self.ended = True
        messages = []
        while self.socket.poll(0):
            self.received_at = time.monotonic()
            messages.extend(decode_frame(self.socket.recv(), self.generation))
        return messages

    def close(self):
        self.flush()
        self.socket.disable_monitor()
        self.monitor.close()
        self.socket.close()


class Peer:
    """Keeps a connection to the broker: connects, says hello, answers and sends PINGs, notices the end, connects again.

    Derived classes say hello() and take messages in handle(). They set welcome when they are welcomed.
    """

    def __init__(self, url):
        self.url = url
        self.context = zmq.Context()
        self.instance = os.urandom(16)
        self.host, self.pid = socket.gethostname(), os.getpid()
        self.generation = 0
        self.link = None
        self.welcome = None  # of this connection
        self.heartbeat_s, self.dead_s = HEARTBEAT_MS / 1000, DEAD_MS / 1000
        self.connect_at, self.retry_s = 0.0, RETRY_S[0]
        self.pings_always = False  # a worker's PINGs go out whatever else is sent
        self.ping_number, self.ping_at = 0, 0.0
        self.files = {}  # further file descriptors to wait for, and what to call

    def hello(self):
        raise NotImplementedError

    def handle(self, name, message):
        raise NotImplementedError

    def lost(self):
        """The connection has ended; the next one begins from hello()."""

    def send(self, name, items_in_it=1, /, **fields):
        self.link.send(encode(name, **fields), items_in_it)

    def welcomed(self, message):
        self.welcome = message
        self.heartbeat_s, self.dead_s = message.heartbeat_ms / 1000, message.dead_ms / 1000
        self.retry_s = RETRY_S[0]

    def step(self, timeout=0.0):
        """Do what is due, wait until something happens or timeout is over, handle what came."""
        now = time.monotonic()
        if self.link is None and now >= self.connect_at:
            self.generation += 1
            self.link = Link(self.context, self.url, self.generation)
            self.ping_number, self.ping_at = 0, now + self.heartbeat_s
            self.link.send(self.hello())
        if self.link is None:
            self._wait(min(timeout, self.connect_at - now))
            return
        self._ping(now)
        self.link.flush()
        due = min(self.ping_at if self.pings_always else self.link.sent_at + self.heartbeat_s,
                  self.link.received_at + self.dead_s)
        self._wait(min(timeout, due - now))
        for message in self.link.receive():
            self._handle(message)
            if self.link is None:
                return
        if self.link.ended or time.monotonic() > self.link.received_at + self.dead_s:
            self._drop_link()
        else:
            self.link.flush()

    def _wait(self, timeout):
        poller = zmq.Poller()
        if self.link is not None:
            poller.register(self.link.socket, zmq.POLLIN)
            poller.register(self.link.monitor, zmq.POLLIN)
        for file in self.files:
            poller.register(file, zmq.POLLIN)
        for ready, _ in poller.poll(max(0.0, timeout) * 1000 + 1):
            if ready in self.files:
                self.files[ready]()

    def _ping(self, now):
        due = self.ping_at if self.pings_always else self.link.sent_at + self.heartbeat_s
        if now >= due:
            self.ping_number += 1
            self.ping_at = now + self.heartbeat_s
            self.ping_sent(self.ping_number, now)
            self.send("PING", number=self.ping_number)

    def ping_sent(self, number, now):
        """For a worker's lease, as is on_pong()."""

    def on_pong(self, number):
        pass

    def _handle(self, message):
        name = type(message).__name__
        if name == "PING":
            self.send("PONG", number=message.number)
        elif name == "PONG":
            self.on_pong(message.number)
        elif name == "BYE" or (name == "ERROR" and message.code == CODES["need_hello"]):
            self._drop_link()
        elif name == "ERROR":
            raise Denied(message)  # this program has a defect
        elif name == "DENIED":
            self._drop_link()
            if message.code in FINAL_CODES:
                raise Denied(message)
        else:
            self.handle(name, message)

    def _drop_link(self):
        self.link.close()
        self.link = self.welcome = None
        self.connect_at = time.monotonic() + self.retry_s * random.uniform(0.5, 1.0)
        self.retry_s = min(self.retry_s * 2, RETRY_S[1])
        self.lost()

    def step_until(self, fact, timeout=60.0):
        """step() until fact() is true; what it returned, or None when the time is over."""
        end = time.monotonic() + timeout
        while True:
            value = fact()
            if value:
                return value
            left = end - time.monotonic()
            if left <= 0:
                return None
            self.step(min(left, 1.0))

    def close(self, bye=True):
        """Without bye: as if the process had died."""
        if self.link is not None:
            if bye:
                self.send("BYE", code=0)
            else:
                self.link.frame, self.link.count = bytearray(), 0
            self.link.close()
            self.link = self.welcome = None
        self.context.term()
