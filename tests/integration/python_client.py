"""A client of quern in Python, written from common/PROTOCOL.md alone; a pattern for other languages.

    client = Client(url, name="demo")
    client.open()
    task = client.submit("square", 7)        # its id, known at once; on disk when it has left client.unanswered
    outcome = client.next_outcome()          # in completion order
    print(value(outcome))                    # 49
    client.acknowledge(outcome)              # it never comes again
    client.close()

One thread does everything, inside the calls: call something every few seconds, else the broker takes the client for
gone (which harms nothing: it connects again and goes on). Left out: a fresh series after 2^30 tasks (section 6.2).
"""

import collections
import hashlib

import msgpack

from python_wire import BATCH_COUNT_SOFT, BATCH_SIZE_SOFT, DONE, PAYLOAD_SIZE_MAX, Outcome, Peer, encode, item

NO_DIGEST = bytes(32)  # before the first ordinal

# What one SUBMIT can hold: tasks of equal `call`. The predecessor is kept with each task, so that a run may begin
# anywhere when it is sent again.
Submit = collections.namedtuple("Submit", "call args ordinal predecessor")
Call = collections.namedtuple("Call", "function queue options delay_ms has_ordinal")


class RequestLost(Exception):
    """The connection broke before the answer to a RETRY: it may or may not have been done."""


def value(outcome):
    """The result of a done task as a Python value."""
    if outcome.state != DONE:
        raise ValueError(f"{outcome.kind}: {outcome.message}")
    return msgpack.unpackb(outcome.result, strict_map_key=False)


def digest_step(digest, ordinal, args):
    """Section 6.4."""
    return hashlib.blake2b(digest + ordinal.to_bytes(8, "little") + args, digest_size=32).digest()


def id_text(task):
    return f"{task >> 32}-{task & 0xffffffff}"


class Client(Peer):
    def __init__(self, url, name=None, program="python", description=None, take_over=False, must_exist=False,
                 keep=False, want_args=False, credit=(10000, 64 << 20), is_volatile=False, expire_ms=0):
        """credit: outcomes and bytes of them that may be on their way or wait here."""
        super().__init__(url)
        self.options = dict(program=program, name=name, description=description, take_over=take_over,
                            is_volatile=is_volatile, must_exist=must_exist, keep=keep, want_args=want_args,
                            expire_ms=expire_ms)
        self.session = self.series = 0
        self.first_welcome = None  # what the session was like when it was opened
        # submitting
        self.sequence_next = 1
        self.unanswered = collections.OrderedDict()  # sequence -> Submit, rising
        self.unsent = collections.deque()  # sequences of it that were not sent on this connection
        self.refused = {}  # task -> REFUSED
        self.ordinal_high = self.ordinal_last = 0  # accepted; submitted
        self.credit = [0, 0]  # tasks, bytes: totals of this connection
        self.credit_left = [0, 0]  # the last task may make it negative
        # outcomes
        self.window = credit
        self.ready = collections.deque()  # came, not given to the application
        self.completion_given = 0
        self.completion_seen = 0  # of this connection or given before it
        self.taken = self.taken_sent = 0
        self.received = [0, 0]  # outcomes, bytes, of this connection
        self.granted = [0, 0]
        self.outcomes_ignored = 0  # how many came again although they were given already
        # requests
        self.request_next = 1
        self.requests = collections.OrderedDict()  # number -> (name, encoded message)
        self.rows = {}  # number -> what came with `more`
        self.replies = {}  # number -> REPLY, or None if lost

    # ---- opening ----

    def open(self, timeout=60.0):
        """Until the session is ours. Raises Denied: in_use (with the owner), unknown, unsupported."""
        if not self.step_until(lambda: self.welcome, timeout):
            raise TimeoutError(f"no broker at {self.url}")
        return self.first_welcome

    def hello(self):
        self.completion_seen = self.completion_given
        self.received, self.granted = [0, 0], list(self.window)
        self.taken_sent = self.taken
        return encode("HELLO_CLIENT", instance=self.instance, host=self.host, pid=self.pid, session=self.session,
                      series=self.series, taken_prefix=self.taken, taken=[], credit_count=self.window[0],
                      credit_bytes=self.window[1], **self.options)

    def _on_welcome(self, message):
        self.welcomed(message)
        self.session, self.series = message.session, message.series
        if self.first_welcome is None:
            self.first_welcome = message
            self.taken = self.taken_sent = self.completion_given = self.completion_seen = message.acked_prefix
            self.sequence_next = message.submitted_high + 1
        if not self.unanswered:
            self.ordinal_high = self.ordinal_last = message.ordinal_high
        self.credit = [message.credit_count, message.credit_bytes]
        self.credit_left = list(self.credit)
        self.unsent = collections.deque(self.unanswered)  # everything without an answer goes again, in sequence
        for _, encoded in self.requests.values():
            self.link.send(encoded)

    def lost(self):
        self.ready.clear()  # it all comes again
        self.rows.clear()
        for number in [n for n, (name, _) in self.requests.items() if name == "RETRY"]:
            del self.requests[number]
            self.replies[number] = None

    # ---- submitting ----

    def submit(self, function, *args, **options):
        """One task; its id. Options: as submit_encoded()."""
        return self.submit_encoded(function, msgpack.packb(list(args)), **options)

    def submit_encoded(self, function, args, queue=None, options=None, delay_ms=0, ordinal=0):
        """options: the list of section 10. With an ordinal: after a refusal wait until nothing is unanswered, then go
        on with the first ordinal above ordinal_high."""
        if not self.series:
            raise ValueError("open() first")
        if len(args) > PAYLOAD_SIZE_MAX:  # the broker would answer ERROR, and wait for this sequence ever after
            raise ValueError(f"the arguments have {len(args)} bytes")
        sequence = self.sequence_next
        self.sequence_next += 1
        call = Call(function, queue, options and tuple(options), delay_ms, bool(ordinal))
        self.unanswered[sequence] = Submit(call, args, ordinal, self.ordinal_last if ordinal else 0)
        self.unsent.append(sequence)
        self.ordinal_last = ordinal or self.ordinal_last
        return self.series << 32 | sequence

    def flush(self, timeout=60.0):
        """Until every submit has its answer: it is on disk, or in self.refused."""
        if self.unanswered and not self.step_until(lambda: not self.unanswered, timeout):
            raise TimeoutError(f"{len(self.unanswered)} submits without answer")

    def _send_submits(self):
        while self.unsent and min(self.credit_left) > 0:
            first = self.unsent[0]
            if first not in self.unanswered:  # its outcome came before it was sent again
                self.unsent.popleft()
                continue
            head = self.unanswered[first]
            items, size = [], 0
            while (min(self.credit_left) > 0 and size < BATCH_SIZE_SOFT and len(items) < BATCH_COUNT_SOFT
                   and self.unsent and self.unsent[0] == first + len(items)):
                submit = self.unanswered.get(self.unsent[0])
                if submit is None or submit.call != head.call:
                    break
                self.unsent.popleft()
                items.append((submit.args, submit.ordinal))
                size += len(submit.args)
                self.credit_left[0] -= 1
                self.credit_left[1] -= len(submit.args)
            call = head.call
            self.send("SUBMIT", len(items), series=self.series, sequence=first, function=call.function,
                      queue=call.queue, options=call.options, delay_ms=call.delay_ms, predecessor=head.predecessor,
                      items=items)

    def _accepted(self, sequence):
        submit = self.unanswered.pop(sequence, None)
        if submit is not None:
            self.ordinal_high = max(self.ordinal_high, submit.ordinal)

    def _answered(self, name, message):
        """ACCEPTED, REFUSED, FORGOTTEN: each for a range of sequences."""
        for sequence in range(message.sequence, message.sequence + message.count):
            if name == "REFUSED":
                self.unanswered.pop(sequence, None)
                self.refused[message.series << 32 | sequence] = message
            else:
                self._accepted(sequence)
        if name == "REFUSED":
            self.ordinal_high = max(self.ordinal_high, message.ordinal_high)
        if not self.unanswered:
            self.ordinal_last = self.ordinal_high

    # ---- outcomes ----

    def next_outcome(self, timeout=60.0):
        """The next one in completion order, or None when the time is over."""
        if not self.step_until(lambda: self.ready, timeout):
            return None
        outcome = self.ready.popleft()
        self.completion_given = outcome.completion
        return outcome

    def acknowledge(self, outcome):
        """This one and all before it: the application has them safe."""
        self.taken = max(self.taken, outcome.completion)

    def _outcome(self, outcome):
        self.received[0] += 1
        self.received[1] += sum(len(field or b"") for field in (outcome.result, outcome.detail, outcome.args,
                                                                 outcome.report))
        if outcome.task >> 32 == self.series:
            self._accepted(outcome.task & 0xffffffff)  # ACCEPTED may come later
        if outcome.completion <= self.completion_seen:
            self.outcomes_ignored += 1
        else:
            self.completion_seen = outcome.completion
            self.ready.append(outcome)

    def _send_taken_and_credit(self):
        if self.taken > self.taken_sent:
            self.send("TAKEN", prefix=self.taken, ranges=[])
            self.taken_sent = self.taken
        held = (len(self.ready), sum(len(outcome.result or b"") for outcome in self.ready))
        wanted = [self.received[i] - held[i] + self.window[i] for i in (0, 1)]
        if any(wanted[i] - self.granted[i] >= max(1, self.window[i] // 2) for i in (0, 1)):
            self.granted = [max(pair) for pair in zip(self.granted, wanted)]
            self.send("CREDIT", count=self.granted[0], bytes=self.granted[1])

    # ---- requests (section 8) ----

    def request(self, name, timeout=60.0, /, **fields):
        """Its REPLY; the rows of several are put together. Asked again on the next connection, except RETRY."""
        number = self.request_next
        self.request_next += 1
        encoded = encode(name, request=number, **fields)
        self.requests[number] = (name, encoded)
        if self.welcome:
            self.link.send(encoded)
        if not self.step_until(lambda: number in self.replies, timeout):
            raise TimeoutError(name)
        reply = self.replies.pop(number)
        if reply is None:
            raise RequestLost(name)
        return reply

    def cancel(self, task, force=False):
        return self.request("CANCEL", task=task, force=force).code

    def retry(self, task):
        return self.request("RETRY", task=task)

    def query(self, what, **params):
        return self.request("QUERY", what=what, params=params or None)

    def close_session(self, cancel=False, drop=False):
        return self.request("CLOSE", session=self.session, name=None, cancel=cancel, drop=drop).code

    def _reply(self, message):
        if message.request not in self.requests:
            return
        if message.more or message.request in self.rows:
            self.rows.setdefault(message.request, []).extend(message.body or [])
        if not message.more:
            del self.requests[message.request]
            rows = self.rows.pop(message.request, None)
            self.replies[message.request] = message if rows is None else message._replace(body=rows)

    # ---- the loop ----

    def step(self, timeout=0.0):
        if self.welcome:
            self._send_submits()
            self._send_taken_and_credit()
        super().step(timeout)

    def handle(self, name, message):
        if name == "CHALLENGE":
            self.send("ECHO", nonce=message.nonce)
        elif name == "WELCOME_CLIENT":
            self._on_welcome(message)
        elif name in ("ACCEPTED", "REFUSED", "FORGOTTEN"):
            self._answered(name, message)
        elif name == "OUTCOME":
            for fields in message.items:
                self._outcome(item(Outcome, fields))
        elif name == "CREDIT":
            self.credit_left[0] += message.count - self.credit[0]
            self.credit_left[1] += message.bytes - self.credit[1]
            self.credit = [message.count, message.bytes]
        elif name == "REPLY":
            self._reply(message)

    def close(self, bye=True):
        if self.welcome and bye:
            self._send_taken_and_credit()
        super().close(bye)
