"""
Sessions that are in the broker's memory only: nothing of them is written, they are lost with the broker and say so at
once, and a broker needs no store to serve them. And sessions that end after a time without a client.
"""
import os
import signal
import subprocess

from stage import BIN, Story, main, wait_until

LOSER = os.path.join(os.path.dirname(BIN), "tests", "loser")
HEIR = os.path.join(os.path.dirname(BIN), "tests", "heir")


class Lost(Story):
    """The broker is killed: what it had in memory is lost, and who waits for it hears so at once."""

    def check_loser(self, *session):
        broker = self.broker(*self.how)
        self.worker(slots=1)
        self.wait_workers()
        loser = self.start(LOSER, *session)
        loser.wait_out("submitted")
        broker.send(signal.SIGKILL)
        broker.status()
        self.broker(*self.how)
        self.assertEqual(loser.status(), 0)
        said = loser.out
        self.assertEqual([line.split(":")[0] for line in said],
                         ["submitted"] + 2 * ["future failed lost completion 0"] + 3 * ["next failed lost completion 0"] +
                         ["future done none completion 1"])
        self.assertIn("the broker was started anew", said[1])

    how = ()

    def test_futures_fail_at_once_and_new_work_goes_on(self):
        self.check_loser()

    def test_a_session_of_the_same_name_is_made_anew(self):
        self.check_loser("work")
        self.assertEqual([(row["name"], row["durable"]) for row in self.quern("--json", "sessions").json],
                         [("work", False)])


class LostWithoutStore(Lost):
    how = ("--volatile",)


class Unwritten(Story):
    def written(self, broker):
        """What is in the files, what the store says it did, and what the kernel says that the process sent to disks."""
        with open(f"/proc/{broker.pid}/io", encoding="ascii") as file:
            bytes_sent = dict(line.split(": ") for line in file.read().splitlines())["write_bytes"]
        files = {}
        for name in os.listdir(os.path.dirname(self.db)):
            stat = os.stat(os.path.join(os.path.dirname(self.db), name))
            files[name] = (stat.st_size, stat.st_mtime_ns)
        stats = self.status()["store_stats"]
        return int(bytes_sent), files, {key: stats[key] for key in ("batches", "rows", "syncs")}

    def test_a_volatile_session_is_never_written(self):
        broker = self.broker()
        self.worker()
        self.wait_workers()
        self.quern("submit", "square", 3)  # whatever a first task brings about
        self.quern("submit", "--volatile", "square", 3)
        before = self.written(broker)
        lines = "".join(f"{i}\n" for i in range(3000))
        answers = self.quern("map", "--volatile", "square", input=lines).stdout.split()
        self.assertEqual(sorted(map(int, answers)), [i * i for i in range(3000)])
        self.quern("map", "--volatile", "--session", "named", "divide", input="0\n", status=1)
        self.quern("submit", "--volatile", "--at-most-once", "square", 4)
        self.quern("submit", "--volatile", "no_such", "--timeout", 1, "--detach")
        self.assertEqual(self.written(broker), before)
        self.quern("map", "square", input=lines)
        self.assertNotEqual(self.written(broker), before, "a durable one is seen to be written")

    def test_a_map_whose_last_items_are_lost_ends_with_failed_items_and_nothing_else(self):
        for session in [], ["--session", "named"]:
            broker = self.broker()
            mapping = self.quern_start("map", "--volatile", *session, "no_such", stdin=subprocess.PIPE)
            mapping.write("1\n2\n")
            mapping.close_stdin()
            self.wait_status(lambda s: s["tasks"]["ready"] == 2, "both items to be there")
            broker.kill9()
            again = self.broker()
            self.assertEqual(mapping.status(), 1)
            self.assertEqual(sum("lost with its session" in line for line in mapping.log), 2, mapping.log)
            self.assertNotIn("no such session", "".join(mapping.log))
            self.assertEqual(self.quern("--json", "sessions").json, [])
            again.kill9()

    def test_what_is_unfinished_is_listed_shown_and_cancelled_like_any_other(self):
        self.broker()
        task = self.quern("submit", "--volatile", "--detach", "square", 7).stdout.strip()
        durable = self.quern("submit", "--detach", "square", 8).stdout.strip()
        rows = {row["id"]: row for row in self.quern("--json", "list").json}
        self.assertEqual((rows[task]["durable"], rows[durable]["durable"]), (False, True))
        self.assertEqual(rows[task]["function"], "square")
        self.assertEqual(self.quern("--json", "show", task).json["durable"], False)
        self.assertIn("volatile", self.quern("show", task).stdout)
        self.assertEqual(self.quern("--json", "explain", task).json["why"], "no_worker")
        self.quern("cancel", task)
        self.assertEqual(self.quern("--json", "list", "--state", "cancelled").json[0]["id"], task)
        again = self.quern("retry", task).stdout.strip()
        self.worker()
        self.assertEqual(self.quern("result", again, "--wait").stdout, "49\n")
        self.quern("show", again, status=4)  # acknowledged: gone, without history
        self.assertEqual(self.quern("result", durable, "--wait").stdout, "64\n")
        self.assertEqual(self.quern("--json", "show", durable).json["durable"], True)

    def test_a_session_keeps_its_durability(self):
        self.broker()
        self.quern("submit", "--session", "a", "--detach", "square", 7)
        self.quern("submit", "--session", "b", "--volatile", "--detach", "square", 7)
        self.assertIn("is durable and stays so",
                      self.quern("map", "--session", "a", "--volatile", "square", status=2).stderr)
        self.assertIn("is volatile and stays so", self.quern("submit", "--session", "b", "square", 1, status=2).stderr)
        self.assertIn("is volatile and stays so", self.quern("attach", "b", status=2).stderr)
        shown = self.quern("sessions").stdout
        self.assertRegex(shown, r"a +open +durable")
        self.assertRegex(shown, r"b +open +volatile")


class Shown(Story):
    """Wherever a session or a task can be seen, it is seen which kind it is; with words, and for programs."""

    def setUp(self):
        super().setUp()
        self.broker()
        self.tasks = {}
        for name, how in (("sure", ()), ("light", ("--volatile",))):
            self.tasks[name] = self.quern("submit", "--session", name, *how, "--detach", "square", 7).stdout.strip()

    def durable(self, what):
        """What --json says of the task of each, in that order."""
        return [self.quern("--json", what, task).json["durable"] for task in self.tasks.values()]

    def said(self, what):
        return [self.quern(what, task).stdout for task in self.tasks.values()]

    def test_in_status(self):
        status = self.status()
        self.assertEqual((status["durable"], status["sessions"], status["volatile_sessions"]), (True, 2, 1))
        self.assertRegex(self.quern("status").stdout, r"sessions +2, 1 of them volatile")

    def test_in_sessions(self):
        self.assertEqual({row["name"]: row["durable"] for row in self.quern("--json", "sessions").json},
                         {"sure": True, "light": False})
        said = self.quern("sessions").stdout
        self.assertRegex(said, r"sure +open +durable")
        self.assertRegex(said, r"light +open +volatile")

    def test_in_list(self):
        self.assertEqual({row["session"]: row["durable"] for row in self.quern("--json", "list").json},
                         {"sure": True, "light": False})
        said = self.quern("list").stdout
        self.assertIn("light (volatile)", said)
        self.assertNotIn("sure (", said)

    def test_in_show_and_explain_while_it_waits_and_when_it_has_ended(self):
        for _ in range(2):
            self.assertEqual(self.durable("show"), [True, False])
            sure, light = self.said("show")
            self.assertRegex(sure, r"\bdurable\b")
            self.assertRegex(light, r"\bvolatile\b")
            self.assertEqual(self.durable("explain"), [True, False])
            sure, light = self.said("explain")
            self.assertNotIn("volatile", sure)
            self.assertIn("(its session is volatile)", light)
            self.worker()
            self.wait_status(lambda s: s["unacked"] == 2, "both outcomes")

    def test_in_result(self):
        self.worker()
        self.wait_status(lambda s: s["unacked"] == 2, "both outcomes")
        self.assertEqual(self.durable("result"), [True, False])

    def test_in_what_submit_map_and_attach_give_for_programs(self):
        self.worker()
        for how, durable in (((), True), (("--volatile",), False)):
            self.assertEqual(self.quern("submit", "--json", *how, "square", 7).json["durable"], durable)
            self.assertEqual(self.quern("map", "--jsonl", *how, "square", input="7\n").json["durable"], durable)
        self.assertEqual(self.quern("--json", "attach", "sure").json["durable"], True)
        self.assertEqual(self.quern("--json", "attach", "--volatile", "light").json["durable"], False)

    def test_to_who_opens_it_as_the_other_kind(self):
        self.assertIn("session light is volatile", self.quern("attach", "light", status=2).stderr)
        self.assertIn("session sure is durable", self.quern("attach", "--volatile", "sure", status=2).stderr)

    def test_to_a_program(self):
        for name, kind in (("sure", "durable"), ("light", "volatile")):
            heir = self.start(HEIR, "kind", name, kind)
            self.assertEqual(heir.status(), 0, heir.log)
            self.assertEqual(heir.out, [f"{kind} {kind}"], "of the session, of a task")


class Storeless(Story):
    def test_a_broker_without_a_store_writes_no_file(self):
        self.broker("--volatile")
        self.worker()
        self.wait_workers()
        self.assertEqual(self.quern("submit", "--volatile", "square", 7).stdout, "49\n")
        self.assertIn("start the broker with a store", self.quern("submit", "square", 7, status=4).stderr)
        self.assertIn("open a volatile one", self.quern("map", "square", status=4).stderr)
        self.assertEqual(self.status()["durable"], False)
        self.assertIn("no store", self.quern("status").stdout)
        self.assertEqual(os.listdir(self.path("state")), [])

    def test_with_and_without_a_store_at_once_is_wrong_usage(self):
        broker = self.start("quern-broker", "--volatile", "--db", self.path("x.db"))
        self.assertEqual(broker.status(), 2)

    def test_a_map_goes_on_with_the_next_broker(self):
        broker = self.broker("--volatile")
        self.worker(slots=1)
        self.wait_workers()
        mapping = self.quern_start("map", "--volatile", "--jsonl", "--window", 4, "sleep",
                                   stdin=self.input_of("0\n60\n60\n60\n0\n0\n0\n"))
        mapping.wait_out('"line":1')
        broker.send(signal.SIGKILL)
        broker.status()
        self.broker("--volatile")
        self.assertEqual(mapping.status(), 1)
        self.assertEqual(sorted(int(line.split('"line":')[1].split(",")[0]) for line in mapping.out),
                         [1, 2, 3, 4, 5, 6, 7])
        self.assertGreaterEqual(sum("anew" in line for line in mapping.out), 3)

    def input_of(self, text):
        path = self.path("input")
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        stream = open(path, "rb")
        self.addCleanup(stream.close)
        return stream


class Expiring(Story):
    def states(self):
        return {row["name"]: row["state"] for row in self.quern("--json", "sessions").json}

    def test_a_session_ends_after_its_time_without_a_client(self):
        self.broker()
        for name, extra in (("durable", ()), ("volatile", ("--volatile",))):
            self.quern("submit", "--session", name, "--expire", 0.2, "--detach", "square", 7, *extra)
        self.quern("submit", "--session", "other", "--detach", "square", 7)
        wait_until(lambda: self.states().get("durable") == "ending" and self.states().get("volatile") in ("ending", None),
                   "sessions without a client end")
        self.assertEqual(self.states()["other"], "open")
        listed = self.quern("--json", "list", "--session", "durable").json
        self.assertEqual([row["state"] for row in listed], ["cancelled"])

    def test_the_time_is_kept_over_a_restart(self):
        broker = self.broker()
        self.quern("submit", "--session", "soon", "--expire", 60, "--detach", "square", 7)
        self.quern("submit", "--session", "now", "--expire", 0.5, "--detach", "square", 7)
        broker.send(signal.SIGKILL)
        broker.status()
        self.broker()
        wait_until(lambda: self.states()["now"] == "ending", "the session that was restored ends too")
        self.assertEqual({row["name"]: row["expire_ms"] for row in self.quern("--json", "sessions").json}["soon"], 60000)
        self.assertRegex(self.quern("sessions").stdout, r"soon .* in (5\d s|1 min)")

    def test_a_time_without_a_name_is_wrong_usage(self):
        self.assertIn("--session", self.quern("submit", "--expire", 3, "square", 7, status=2).stderr)
        self.assertIn("--session", self.quern("map", "--expire", 3, "square", status=2).stderr)


if __name__ == "__main__":
    main()
