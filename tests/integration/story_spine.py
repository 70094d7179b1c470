"""A task goes from a client through the broker to a worker and its result comes back; every program starts, refuses and
ends as documented."""

import os
import signal

import stage


class Spine(stage.Story):
    def test_a_submitted_task_returns_its_result(self):
        self.broker()
        self.worker()
        self.assertEqual(self.quern("submit", "square", "7").stdout, "49\n")

    def test_a_detached_task_is_asked_for_later(self):
        self.broker()
        identity = self.quern("submit", "--detach", "cube", "3").stdout.strip()
        self.assertRegex(identity, r"^\d+-\d+$")
        self.quern("result", identity, status=4)  # no worker yet: not finished
        self.worker()
        self.assertEqual(self.quern("result", identity, "--wait").stdout, "27\n")

    def test_map_returns_one_result_per_line(self):
        self.broker()
        self.worker()
        lines = self.quern("map", "square", input="\n".join(map(str, range(1000)))).lines
        self.assertEqual(sorted(map(int, lines)), sorted(n * n for n in range(1000)))

    def test_map_keeps_the_order_if_asked(self):
        self.broker()
        self.worker()
        lines = self.quern("map", "square", "--keep-order", input="\n".join(map(str, range(500)))).lines
        self.assertEqual(lines, [str(n * n) for n in range(500)])

    def test_a_failed_task_says_why_and_gives_status_1(self):
        self.broker()
        self.worker()
        result = self.quern("submit", "divide", "0", status=1)
        self.assertIn("DivisionByZero", result.stderr)
        self.assertEqual(result.stdout, "")

    def test_a_task_that_crashes_its_slot_costs_nobody_else(self):
        self.broker()
        self.worker()
        crash = self.quern_start("submit", "crash")
        lines = self.quern("map", "square", input="\n".join(map(str, range(200)))).lines
        self.assertEqual(len(lines), 200)
        self.assertEqual(crash.status(), 1)
        self.assertIn("signal 11", "\n".join(crash.log))

    def test_commands_run_where_they_are_allowed(self):
        self.broker()
        self.worker("--allow-commands", module=None)
        lines = self.quern("run", "--", "echo", "hello {}", input="a\nb\n").lines
        self.assertEqual(sorted(lines), ["hello a", "hello b"])

    def test_one_million_bytes_go_through_and_come_back(self):
        self.broker()
        self.worker()
        text = "x" * 1_000_000
        self.assertEqual(self.quern("map", "echo", input=f'"{text}"').json, text)


class Starting(stage.Story):
    def test_a_second_broker_on_the_same_store_is_refused(self):
        self.broker()
        second = self.start("quern-broker", "--listen", "ipc://" + self.path("run", "quern", "other.sock"))
        self.assertEqual(second.status(), 1)
        self.assertIn("quern.db", "\n".join(second.log))

    def test_a_second_broker_on_the_same_socket_is_refused(self):
        first = self.broker()
        second = self.start("quern-broker", "--db", self.path("other.db"))
        self.assertEqual(second.status(), 1)
        self.assertIn("broker.sock", "\n".join(second.log))
        self.assertTrue(first.is_running())
        self.quern("status")

    def test_the_next_broker_waits_for_one_that_is_about_to_end(self):
        """kill -9 returns before the process is gone, and with it its locks."""
        first = self.broker()
        second = self.start("quern-broker")
        second.wait_log("waiting for another broker to end")
        first.kill9()
        second.wait_out("ready")
        self.quern("status")

    def test_one_that_waits_for_a_socket_alone_gets_it_too(self):
        first = self.broker()
        second = self.start("quern-broker", "--db", self.path("other.db"))
        second.wait_log("waiting for another broker to end")
        self.assertEqual(first.end(), 0)
        second.wait_out("ready")
        self.quern("status")

    def test_paths_and_modes_are_for_the_user_alone(self):
        self.broker()
        for path, mode in ((self.path("run", "quern"), 0o700), (self.path("run", "quern", "broker.sock"), 0o600),
                           (self.path("state", "quern"), 0o700), (self.db, 0o600)):
            self.assertEqual(os.stat(path).st_mode & 0o777, mode, path)

    def test_a_directory_open_to_others_is_refused(self):
        os.mkdir(self.path("run", "quern"), 0o755)
        os.chmod(self.path("run", "quern"), 0o755)
        broker = self.start("quern-broker")
        self.assertEqual(broker.status(), 1)
        self.assertIn(self.path("run", "quern"), "\n".join(broker.log))

    def test_tcp_needs_its_own_word(self):
        broker = self.start("quern-broker", "--listen", "tcp://127.0.0.1:*")
        self.assertEqual(broker.status(), 1)
        self.assertIn("--insecure-tcp", "\n".join(broker.log))

    def test_a_tcp_listener_says_its_real_port_and_works(self):
        broker = self.broker("--listen", "tcp://127.0.0.1:*", "--insecure-tcp")
        url = broker.urls[0]
        self.assertRegex(url, r"^tcp://127\.0\.0\.1:\d+$")
        self.worker("--url", url)
        self.assertEqual(self.quern("--url", url, "submit", "square", "5").stdout, "25\n")

    def test_several_listeners_serve_the_same_broker(self):
        os.mkdir(self.path("run", "quern"), 0o700)
        broker = self.broker("--listen", self.url, "--listen", "tcp://127.0.0.1:*", "--insecure-tcp")
        stage.wait_until(lambda: len(broker.out) == 2, "two ready lines")
        tcp = broker.out[1].split()[1]
        self.assertEqual(broker.out[0], f"ready {self.url}")
        self.worker("--url", tcp)
        self.assertEqual(self.quern("--url", self.url, "submit", "square", "6").stdout, "36\n")

    def test_the_configuration_file_is_read_and_the_command_line_wins(self):
        with open(self.path("quern.conf"), "w", encoding="utf-8") as file:
            file.write(f"broker\n    listen = ipc://{self.path('run', 'quern', 'file.sock')}\n"
                       f"    db = {self.path('file.db')}\nlimits\n    lease_ms = 14321\n")
        os.mkdir(self.path("run", "quern"), 0o700)
        broker = self.broker("--config", self.path("quern.conf"), "--db", self.path("line.db"))
        self.assertEqual(broker.urls, [f"ipc://{self.path('run', 'quern', 'file.sock')}"])
        self.assertTrue(os.path.exists(self.path("line.db")))
        self.assertFalse(os.path.exists(self.path("file.db")))
        status = self.quern("--url", broker.urls[0], "--json", "status").json
        self.assertEqual(status["limits"]["lease_ms"], 14321)

    def test_an_unknown_setting_is_refused_by_name(self):
        with open(self.path("quern.conf"), "w", encoding="utf-8") as file:
            file.write("limits\n    leese_ms = 1\n")
        broker = self.start("quern-broker", "--config", self.path("quern.conf"))
        self.assertEqual(broker.status(), 1)
        self.assertIn("leese_ms", "\n".join(broker.log))
        self.assertIn("quern.conf", "\n".join(broker.log))

    def test_something_that_is_no_store_is_refused(self):
        with open(self.path("x.db"), "wb") as file:
            file.write(b"this is not a database, and it is long enough to be looked at as one" * 100)
        broker = self.start("quern-broker", "--db", self.path("x.db"))
        self.assertEqual(broker.status(), 1)
        with open(self.path("x.db"), "rb") as file:
            self.assertTrue(file.read().startswith(b"this is not"))


class Statuses(stage.Story):
    def test_wrong_usage_is_2_everywhere(self):
        for program in ("quern-broker", "quern-worker", "quern"):
            self.assertEqual(self.start(program, "--no-such-option").status(), 2, program)
        self.assertEqual(self.start("quern-broker", "--log-level", "loud").status(), 2)
        self.assertEqual(self.start("quern-broker", "extra").status(), 2)
        self.assertEqual(self.start("quern-worker").status(), 2)  # nothing to serve

    def test_help_and_version_are_0_everywhere(self):
        for program in ("quern-broker", "quern-worker", "quern"):
            for option in ("--help", "--version"):
                self.assertEqual(self.start(program, option).status(), 0, f"{program} {option}")

    def test_no_broker_is_3(self):
        result = self.quern("--connect-timeout", "0.2", "submit", "square", "1", status=3)
        self.assertIn("quern-broker", result.stderr)  # what to do

    def test_an_unknown_id_is_4(self):
        self.broker()
        self.quern("result", "77-1", status=4)

    def test_sigterm_ends_broker_and_worker_with_0(self):
        broker = self.broker()
        worker = self.worker()
        self.quern("submit", "square", "2")
        self.assertEqual(worker.end(signal.SIGTERM), 0)
        self.assertEqual(broker.end(signal.SIGTERM), 0)

    def test_sigint_ends_a_broker_with_0(self):
        self.assertEqual(self.broker().end(signal.SIGINT), 0)

    def test_a_broker_started_without_standard_files_keeps_its_store(self):
        """Else the database would become file 0, 1 or 2, and a message would be written into it."""
        program = self.start("quern-broker", preexec_fn=lambda: os.closerange(0, 3))
        stage.wait_until(lambda: self.quern("status", status=None).status == 0, "a broker")
        self.assertEqual(program.end(), 0)
        with open(self.db, "rb") as file:
            self.assertEqual(file.read(15), b"SQLite format 3")


class Places(stage.Story):
    def test_without_xdg_state_home_the_store_is_in_the_home(self):
        """What the documentation names as the default place."""
        self.env.pop("XDG_STATE_HOME")
        self.broker()
        self.worker()
        self.assertEqual(self.quern("submit", "square", "7").stdout, "49\n")
        self.assertTrue(os.path.isfile(self.path(".local", "state", "quern", "quern.db")))

    def test_a_worker_takes_only_from_its_queues(self):
        """One worker serves queue a: what is in b waits for another, however idle the first is."""
        self.broker()
        self.worker("--queue", "a")
        waiting = self.quern("submit", "--detach", "square", "8", "--queue", "b").stdout.strip()
        self.assertEqual(self.quern("submit", "square", "7", "--queue", "a").stdout, "49\n")
        self.assertEqual(self.quern("--json", "show", waiting).json["state"], "ready")
        self.worker("--queue", "b")
        self.assertEqual(self.quern("result", waiting, "--wait").stdout, "64\n")


if __name__ == "__main__":
    stage.main()
