"""A worker of quern in Python, written from common/PROTOCOL.md alone (section 7); a pattern for other languages.

    Worker(url, "host-py", {"square": lambda n: n * n}).run()

or as a program: python_worker.py URL NAME MODULE serves the public functions of a Python file until SIGTERM.

One thread keeps the connection and decides; each attempt runs in a process of its own, forked for it, so that it can be
timed, killed and lost without harm. The process writes its report into a pipe; the end of the pipe is its end.
"""

import collections
import ctypes
import importlib.util
import inspect
import os
import signal
import socket
import sys
import time
import traceback

import msgpack

from python_wire import (PAYLOAD_SIZE_MAX, Dispatched, Finished, Held, Peer, Receipt, Revoked, Started, Token, encode,
                         item)

LEASED, RUNNING, FINISHED = 0, 1, 2
DONE, FAILED, KILLED = 0, 1, 2
ERROR, CRASHED, TIMEOUT, UNENCODABLE = 1, 2, 3, 8
NO_STORE = bytes(16)
KEPT_SIZE_MAX = 256 << 20  # of outcomes without receipt: at this bound nothing new is started
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None)


class Attempt:
    """One try at running a task, from DISPATCH to RECEIPT."""

    def __init__(self, token, function, args, timeout_ms):
        self.token, self.function, self.args, self.timeout_s = token, function, args, timeout_ms / 1000
        self.state = LEASED
        self.told_started = False
        self.pid = self.pipe = None
        self.output = bytearray()
        self.started_ms, self.began, self.deadline = 0, 0.0, None
        self.killed_as = None  # what to report if this worker killed it and it had not ended by itself
        self.report = None  # Finished


def clip(text, size):
    """At most that many bytes, still UTF-8."""
    return text.encode("utf-8", "replace")[:size].decode("utf-8", "ignore")


def run_function(function, args):
    """What the process of an attempt reports: [state, cause, result, kind, message, detail]."""
    try:
        result = function(*msgpack.unpackb(args, strict_map_key=False))
    except BaseException as error:
        return [FAILED, ERROR, None, clip(type(error).__name__, 128), clip(str(error).split("\n")[0], 4096),
                clip(traceback.format_exc(), 65536).encode()]
    try:
        encoded = msgpack.packb(result)
    except Exception as error:
        return [FAILED, UNENCODABLE, None, "Unencodable", clip(str(error), 4096), None]
    if len(encoded) > PAYLOAD_SIZE_MAX:
        return [FAILED, UNENCODABLE, None, "TooBig", f"the result has {len(encoded)} bytes", None]
    return [DONE, 0, encoded, None, None, None]


class Worker(Peer):
    def __init__(self, url, name, functions, slots=2, ahead=8, capacity_bytes=64 << 20):
        """name: no other living worker's, and that of its successor. ahead: attempts held beyond the slots."""
        super().__init__(url)
        self.name, self.functions, self.slots = name, functions, slots
        self.capacity = (slots + ahead, capacity_bytes)
        self.held = collections.OrderedDict()  # token -> Attempt, in the order of dispatch
        self.store = NO_STORE
        self.pings_always = True
        self.pings = {}  # number -> when it was sent
        self.hello_at = 0.0
        self.lease_until = 0.0
        self.draining = False

    # ---- connection and lease ----

    def hello(self):
        self.hello_at = time.monotonic()
        self.pings.clear()
        for attempt in self.held.values():
            attempt.told_started = attempt.state != LEASED
        return encode("HELLO_WORKER", instance=self.instance, host=self.host, pid=self.pid, name=self.name,
                      store=self.store, slots=self.slots, capacity_count=0 if self.draining else self.capacity[0],
                      capacity_bytes=self.capacity[1], functions=[[name] for name in sorted(self.functions)],
                      queues=[], held=[Held(*a.token, a.state) for a in self.held.values()], memory=None)

    def _on_welcome(self, message):
        if self.store not in (NO_STORE, message.store):  # another store: nothing of this counts there
            for attempt in list(self.held.values()):
                self._drop(attempt)
        self.store = message.store
        self.welcomed(message)
        self.lease_until = self.hello_at + message.lease_ms / 1000
        for attempt in self.held.values():
            if attempt.state == FINISHED:
                self._send_finished(attempt)
            elif attempt.state == RUNNING and not attempt.told_started:  # started after HELLO
                self._send_started(attempt)

    def ping_sent(self, number, now):
        self.pings[number] = now

    def on_pong(self, number):
        sent = self.pings.pop(number, None)
        if sent is not None and self.welcome:
            self.lease_until = max(self.lease_until, sent + self.welcome.lease_ms / 1000)

    # ---- what the broker says ----

    def handle(self, name, message):
        if name == "WELCOME_WORKER":
            self._on_welcome(message)
        elif name == "DISPATCH":
            for fields in message.items:
                dispatched = item(Dispatched, fields)
                token = Token(dispatched.task, self.welcome.epoch, dispatched.attempt)
                self.held[token] = Attempt(token, message.function, dispatched.args, message.timeout_ms)
            if self.draining:
                self._return_unstarted()
        elif name == "REVOKE":
            for fields in message.items:
                self._revoke(item(Revoked, fields))
        elif name == "DROP":
            for fields in message.items:
                attempt = self.held.get(item(Token, fields))
                if attempt is not None:
                    self._drop(attempt)
        elif name == "RECEIPT":
            for fields in message.items:
                receipt = item(Receipt, fields)
                self.held.pop(Token(*receipt[:3]), None)  # whatever the verdict

    def _revoke(self, revoked):
        attempt = self.held.get(Token(*revoked[:3]))
        if attempt is None or attempt.state == FINISHED:
            return
        if attempt.state == LEASED:
            del self.held[attempt.token]  # it cannot start any more
            self.send("RETURNED", items=[attempt.token])
        elif revoked.force:
            attempt.killed_as = [KILLED, 0, None, None, None, None]
            self._kill(attempt)  # the end of its pipe brings FINISHED

    def _drop(self, attempt):
        del self.held[attempt.token]
        if attempt.state == RUNNING:
            self._kill(attempt)
            self._reap(attempt)

    def _return_unstarted(self):
        unstarted = [a.token for a in self.held.values() if a.state == LEASED]
        for token in unstarted:
            del self.held[token]
        if unstarted and self.welcome:
            self.send("RETURNED", len(unstarted), items=unstarted)

    def _send_started(self, attempt):
        attempt.told_started = True
        self.send("STARTED", items=[Started(*attempt.token, attempt.pid)])

    def _send_finished(self, attempt):
        self.send("FINISHED", items=[attempt.report])

    # ---- attempts ----

    def _start_what_may(self):
        running = sum(1 for a in self.held.values() if a.state == RUNNING)
        kept = sum(len(a.report.result or b"") for a in self.held.values() if a.state == FINISHED)
        for attempt in list(self.held.values()):
            if running >= self.slots or kept >= KEPT_SIZE_MAX or time.monotonic() >= self.lease_until:
                return
            if attempt.state == LEASED:
                self._start(attempt)
                running += attempt.state == RUNNING

    def _start(self, attempt):
        attempt.started_ms, attempt.began = int(time.time() * 1000), time.monotonic()
        function = self.functions.get(attempt.function)
        if function is None:
            self._finish(attempt, [FAILED, ERROR, None, "NoFunction", f"no function {attempt.function}", None])
            return
        read, write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        attempt.state = RUNNING
        attempt.pid = os.fork()
        if attempt.pid == 0:
            self._be_the_process(attempt, function, write)
        os.close(write)
        attempt.pipe = read
        attempt.args = None
        attempt.deadline = attempt.began + attempt.timeout_s if attempt.timeout_s else None
        self.files[read] = lambda: self._read(attempt)
        if self.welcome:
            self._send_started(attempt)

    def _be_the_process(self, attempt, function, write):
        """In the forked process. It dies with its worker, leads a group of its own, holds no socket of the worker."""
        try:
            LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() == self.pid:
                os.setsid()
                for number in (signal.SIGTERM, signal.SIGINT):
                    signal.signal(number, signal.SIG_DFL)
                signal.set_wakeup_fd(-1)
                os.dup2(write, 3)
                os.closerange(4, os.sysconf("SC_OPEN_MAX"))
                os.set_blocking(3, True)
                report = memoryview(msgpack.packb(run_function(function, attempt.args)))
                while report:
                    report = report[os.write(3, report):]
        finally:
            os._exit(0)

    def _read(self, attempt):
        """Its process has written something, or ended."""
        data = os.read(attempt.pipe, 1 << 20)
        if data:
            attempt.output += data
            return
        self._kill(attempt)  # with whatever it started and left behind
        status, usage = self._reap(attempt)
        signal_number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        try:
            report, signal_number = msgpack.unpackb(attempt.output), 0
        except ValueError:  # it died before it had said everything
            report = attempt.killed_as or [FAILED, CRASHED, None, None, f"ended by signal {signal_number}", None]
        self._finish(attempt, report, signal_number, usage)

    def _finish(self, attempt, report, signal_number=0, usage=None):
        attempt.state = FINISHED
        attempt.args = attempt.output = None
        attempt.report = Finished(
            *attempt.token, *report, pid=attempt.pid or 0, started=attempt.started_ms,
            run_us=int((time.monotonic() - attempt.began) * 1e6), signal=signal_number, exit_status=0,
            cpu_us=int((usage.ru_utime + usage.ru_stime) * 1e6) if usage else 0, peak=usage.ru_maxrss if usage else 0,
            report=None)
        if self.welcome:
            self._send_finished(attempt)

    def _kill(self, attempt):
        for kill in (os.killpg, os.kill):  # it may not lead its group yet
            try:
                kill(attempt.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def _reap(self, attempt):
        del self.files[attempt.pipe]
        os.close(attempt.pipe)
        _, status, usage = os.wait4(attempt.pid, 0)
        return status, usage

    def _stop_what_is_over(self):
        now = time.monotonic()
        for attempt in self.held.values():
            if attempt.state == RUNNING and attempt.deadline and now >= attempt.deadline and not attempt.killed_as:
                attempt.killed_as = [FAILED, TIMEOUT, None, None, f"stopped after {attempt.timeout_s} s", None]
                self._kill(attempt)

    # ---- the loop ----

    def step(self, timeout=0.0):
        self._stop_what_is_over()
        if not self.draining:
            self._start_what_may()
        deadlines = [a.deadline for a in self.held.values() if a.state == RUNNING and a.deadline and not a.killed_as]
        if deadlines:
            timeout = min(timeout, max(0.0, min(deadlines) - time.monotonic()))
        super().step(timeout)

    def drain(self):
        """From now on nothing is started; run() returns when all reports have their receipt."""
        self.draining = True
        if self.welcome:
            self.send("CAPACITY", count=0, bytes=0, nested=0, depth=0, scarce=0)
        self._return_unstarted()

    def run(self):
        """Serves until SIGTERM or SIGINT."""
        ended = []
        wake, signalled = socket.socketpair()
        for end in (wake, signalled):
            end.setblocking(False)
        self.files[wake.fileno()] = lambda: wake.recv(64)
        signal.set_wakeup_fd(signalled.fileno())
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda n, _: ended.append(n))
        while not (self.draining and not self.held):
            self.step(60.0)
            if ended and not self.draining:
                self.drain()
        self.close()


def main():
    url, name, path = sys.argv[1:]
    spec = importlib.util.spec_from_file_location("served", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    functions = {key: value for key, value in vars(module).items() if inspect.isfunction(value) and key[0] != "_"}
    Worker(url, name, functions).run()


if __name__ == "__main__":
    main()
