"""A program with a pool of its own: broker and worker come with it and go with it, whatever ends it; the program is
pool_program.c, which does what it is told line by line."""

import os
import re
import shutil
import signal
import subprocess
import threading

import stage

PROGRAM = os.path.join(stage.BUILD, "tests", "pool_program")
CANCEL_QUEUED = 1
NO_WAIT = 2


class PoolStory(stage.Story):
    def setUp(self):
        super().setUp()
        self.env["QUERN_BIN"] = stage.BIN

    def program(self, first="own", path=PROGRAM, env=None, cwd=None, before=(), **options):
        program = stage.Program("pool_program", [*before, path, first], {**self.env, **(env or {})}, cwd or self.directory,
                                stdin=subprocess.PIPE, **options)
        program.told = 0
        self.programs.append(program)
        return program

    def tell(self, program, line):
        """One line to the program; its answer."""
        program.write(line + "\n")
        program.told += 1
        program.wait_out_count(program.told)
        return program.out[program.told - 1]

    def tell_all(self, program, *lines):
        for line in lines:
            self.assertEqual(self.tell(program, line), "ok", line)

    def opened(self, *options, **program):
        program = self.program(**program)
        self.tell_all(program, " ".join(["open", *map(str, options)]))
        return program

    def works(self, program, x=7):
        """A task goes through; its future is the program's next."""
        self.tell_all(program, f"submit square {x}")
        program.futures = getattr(program, "futures", 0) + 1
        self.assertEqual(self.tell(program, f"wait {program.futures - 1}"), f"done {x * x}")

    def processes(self, program, name):
        """Pids below the program whose command line begins with name."""
        found = []
        for pid in self.descendants(program.pid):
            try:
                with open(f"/proc/{pid}/cmdline", "rb") as file:
                    if os.path.basename(file.read().split(b"\0")[0].decode()) == name:
                        found.append(pid)
            except OSError:
                pass
        return found

    def left(self):
        """Directories of pools."""
        return [name for name in os.listdir(self.path("run")) if name.startswith("quern-pool-")]

    def assert_all_gone(self, pids, patience=20):
        stage.wait_until(lambda: not any(map(stage.is_alive, pids)), "all processes of the pool to be gone", patience)
        stage.wait_until(lambda: self.left() == [], "its directory to be gone", patience)

    def error(self, program, *options):
        answer = self.tell(program, " ".join(["open", *options]))
        self.assertEqual(self.descendants(program.pid), [], "a pool that does not open leaves no process")
        self.assertEqual(self.left(), [], "nor a directory")
        return answer


class Opening(PoolStory):
    def test_functions_of_the_program_itself_are_run(self):
        program = self.opened("slots=2")
        self.works(program)
        self.tell_all(program, "submit pid 0", "close 0")
        self.assertEqual(self.descendants(program.pid), [])
        self.assertEqual(self.left(), [])
        program.close_stdin()
        self.assertEqual(program.status(), 0)

    def test_functions_of_a_module_are_run_and_need_no_word_in_main(self):
        program = self.opened(f"module={stage.MODULE}", first="forgot")
        self.works(program)
        self.assertNotEqual(self.processes(program, "quern-worker"), [])
        self.tell_all(program, "close 0")

    def test_what_was_forgotten_in_main_is_said_and_nothing_is_started(self):
        self.assertRegex(self.error(self.program("forgot")), "error invalid: .*quern_pool_main")
        self.assertRegex(self.error(self.program("none")), "error invalid: .*no module")

    def test_a_module_that_does_not_load_is_named(self):
        self.assertRegex(self.error(self.program("none"), "module=/none/such.so"), r"error io: .*/none/such\.so")

    def test_an_initialiser_that_fails_is_told_in_its_words(self):
        program = self.program(env={"STORY_INITIALISER_FAILS": "1"})
        self.assertRegex(self.error(program), "error io: .*the story wants it to fail")

    def test_a_database_that_is_in_use_is_told_with_its_name(self):
        self.broker()
        self.assertRegex(self.error(self.program(), f"database={self.db}", "timeout=1000"), r"error io: .*quern\.db")

    def test_arguments_that_quern_worker_does_not_take_are_told_in_its_words(self):
        self.assertRegex(self.error(self.program(), "worker_arg=--queue="), "error io: .*--queue")

    def test_options_out_of_range_are_told_before_anything_starts(self):
        program = self.program()
        for option, word in (("slots=1025", "slots"), ("session=name", "session"), ("timeout=0", "timeout"),
                             ("start=7", "start")):
            self.assertRegex(self.error(program, option), f"error invalid: .*{word}")

    def test_programs_that_are_not_there_are_told_with_where_was_looked(self):
        copy = self.path("pool_program")  # not beside them
        shutil.copy(PROGRAM, copy)
        os.mkdir(self.path("empty"))
        program = self.program(path=copy, env={"QUERN_BIN": self.path("empty"), "PATH": self.path("empty")})
        answer = self.error(program)
        self.assertRegex(answer, "error unknown: quern-broker was not found")
        self.assertIn(self.path("empty"), answer)

    def test_one_that_is_not_ready_in_time_is_ended(self):
        unruly = os.path.join(stage.BUILD, "tests", "unruly.so")  # its initialiser does not return
        program = self.program("none", env={"UNRULY": "hang"})
        self.assertRegex(self.error(program, f"module={unruly}", "timeout=700"), "error timeout: quern-worker")

    def test_the_program_may_be_elsewhere_when_it_opens(self):
        """Found through PATH or a relative name, and main has changed the directory since."""
        for path, env, cwd in (("pool_program", {"PATH": os.path.dirname(PROGRAM) + ":/usr/bin:/bin"}, None),
                               ("./pool_program", {}, os.path.dirname(PROGRAM))):
            program = self.program(path=path, env=env, cwd=cwd)
            self.tell_all(program, "chdir /", "open slots=1")
            self.works(program)
            self.tell_all(program, "close 0")

    def test_handlers_have_the_programs_environment_and_their_print_goes_to_its_stderr(self):
        program = self.opened("slots=1", env={"STORY_VARIABLE": "1"})
        self.tell_all(program, "submit surroundings 0")
        self.assertEqual(self.tell(program, "wait 0"), "done 1")
        program.wait_log("printed by a handler")
        self.tell_all(program, "close 0")

    def test_a_program_that_ignores_its_children_or_has_no_stderr_can_have_one(self):
        program = self.program()
        self.tell_all(program, "ignore_children", "close_stderr", "open slots=1", "open slots=1")
        self.works(program)
        self.tell_all(program, "close 0")
        self.assertEqual(len(self.left()), 1)  # of the first, which the program has forgotten
        below = self.descendants(program.pid)
        program.write("return\n")
        self.assertEqual(program.status(), 0)
        self.assert_all_gone(below)

    def test_what_the_program_has_open_does_not_reach_its_pool(self):
        """Whoever reads from a program until its end waits for the program alone."""
        ours, theirs = os.pipe()
        program = self.program(pass_fds=[theirs])
        os.close(theirs)
        self.tell_all(program, "open slots=1")
        for pid in self.descendants(program.pid):
            for fd in os.listdir(f"/proc/{pid}/fd"):
                self.assertNotEqual(os.readlink(f"/proc/{pid}/fd/{fd}"), os.readlink(f"/proc/self/fd/{ours}"), fd)
        self.tell_all(program, "close 0")
        os.close(ours)

    def test_a_slot_is_replaced_after_as_many_tasks_as_were_given(self):
        program = self.opened("slots=1", "max_tasks=2")
        self.tell_all(program, "submit pid 0 6")
        pids = [self.tell(program, f"wait {i}") for i in range(6)]
        self.assertEqual([pids.count(pid) for pid in pids], [2] * 6)
        self.tell_all(program, "close 0")

    def test_a_slot_that_has_grown_is_replaced_after_its_task(self):
        for memory, tasks_of_each in ((30 << 20, [2] * 6), (0, [6] * 6)):  # the second task is the one too many
            program = self.opened("slots=1", f"memory={memory}")
            pids = []
            for i in range(6):
                self.tell_all(program, f"submit grow {20 << 20}")
                pids.append(self.tell(program, f"wait {i}"))
            self.assertEqual([pids.count(pid) for pid in pids], tasks_of_each)
            self.tell_all(program, "close 0")

    def test_a_task_with_which_its_slot_has_grown_over_its_limit_is_stopped(self):
        """Unlike above: at once, and only where a limit is given."""
        program = self.opened("slots=1", f"limit={60 << 20}")
        self.tell_all(program, f"submit grow {20 << 20}", f"submit keep {100 << 20}", "submit square 3")
        self.assertRegex(self.tell(program, "wait 0"), "^done ")
        self.assertRegex(self.tell(program, "wait 1"), "^failed memory .*its slot had taken .* may take 60.0 MiB")
        self.assertEqual(self.tell(program, "wait 2"), "done 9")
        self.tell_all(program, "close 0")

    def test_slots_may_be_fresh_starts_of_the_program(self):
        for start, word in ((1, b"--quern-slot"), (0, b"--quern-zygote")):  # of the process it was forked from
            program = self.opened("slots=1", f"start={start}")
            self.tell_all(program, "submit pid 0")
            pid = int(self.tell(program, "wait 0").split()[1])
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                self.assertIn(word, file.read())
            with open(f"/proc/{pid}/exe", "rb"):
                self.assertEqual(os.path.realpath(f"/proc/{pid}/exe"), os.path.realpath(PROGRAM))
            self.tell_all(program, "close 0")

    def test_a_function_can_be_a_client_of_its_own_pool_on_one_slot(self):
        """The function says nothing of durability: it need not know whether the pool has a database."""
        for database in ((), (f"database={self.path('pool.db')}",)):
            program = self.opened("slots=1", *database)
            self.tell_all(program, "submit nested 5")
            self.assertEqual(self.tell(program, "wait 0"), "done 55")
            self.tell_all(program, "close 0")

    def test_opening_and_closing_leaves_nothing_in_the_program(self):
        program = self.program()
        counts = []
        for _ in range(12):
            self.tell_all(program, "open slots=1")
            self.tell_all(program, "submit square 2", "close 0", "release")
            counts.append(tuple(len(os.listdir(f"/proc/{program.pid}/{what}")) for what in ("fd", "task")))
        self.assertEqual(counts[1], counts[-1])  # the first may leave something for all
        self.assertEqual(self.descendants(program.pid), [])

    def test_two_pools_of_two_programs_do_not_meet(self):
        programs = [self.opened("slots=1") for _ in range(2)]
        self.assertEqual(len(self.left()), 2)
        for program in programs:
            self.works(program)
        for program in programs:
            self.tell_all(program, "close 0")
        self.assertEqual(self.left(), [])

    def test_a_broker_of_others_is_used_when_a_url_names_it(self):
        self.broker()
        self.worker()
        program = self.opened(f"url={self.url}")
        self.works(program)
        self.assertEqual(self.descendants(program.pid), [])
        self.tell_all(program, "close 0")
        program = self.opened("slots=1", env={"QUERN_POOL_URL": self.url})
        self.works(program)
        self.assertEqual(self.descendants(program.pid), [])
        self.tell_all(program, "close 0")
        self.assertEqual(self.quern("submit", "square", "3").stdout, "9\n")  # it goes on without us


class Options(PoolStory):
    """What a pool is given, seen from inside: its broker is asked."""

    def asked(self):
        (directory,) = self.left()
        return self.quern("--url", f"ipc://{self.path('run', directory)}/broker.sock", "--json", "status").json

    def slots(self, program):
        self.works(program)
        (worker,) = self.asked()["workers"]
        self.tell_all(program, "close 0")
        return worker["slots"]

    def test_slots_are_as_many_as_were_asked_for(self):
        for count in (1, 3):
            self.assertEqual(self.slots(self.opened(f"slots={count}")), count)

    def test_without_a_number_or_with_0_slots_are_the_cpus_that_the_program_may_use(self):
        allowed = sorted(os.sched_getaffinity(0))
        for cpus in {1, len(allowed)}:
            for options in ((), ("slots=0",)):
                program = self.opened(*options, preexec_fn=lambda: os.sched_setaffinity(0, allowed[:cpus]))
                # A quota of this machine's may be smaller still; it is the same for both.
                self.assertEqual(self.slots(program), min(cpus, self.granted() or cpus))

    def granted(self):
        """CPUs by the quota of our own cgroup and those above, rounded up; 0: none."""
        return min((quota for quota in map(self.quota_of, self.own_groups()) if quota), default=0)

    def own_groups(self):
        with open("/proc/self/cgroup", encoding="ascii") as file:
            paths = [line[3:].strip("/\n") for line in file if line.startswith("0::")]
        with open("/proc/self/mountinfo", encoding="utf-8") as file:
            roots = [line.split()[4] for line in file if " - cgroup2 " in line]
        if not paths or not roots:
            return []
        parts = paths[0].split("/") if paths[0] else []
        return [os.path.join(roots[0], *parts[:depth]) for depth in range(len(parts) + 1)]

    def quota_of(self, group):
        try:
            with open(os.path.join(group, "cpu.max"), encoding="ascii") as file:
                quota, period = file.read().split()
        except OSError:
            return 0
        return 0 if quota == "max" else -(-int(quota) // int(period))

    def test_without_a_number_slots_are_no_more_than_the_quota_of_the_cgroup(self):
        """The program runs in a cgroup whose cpu.max says one CPU; where the controller is not to be had, the file is
        laid over it."""
        groups = self.own_groups()
        place = os.path.join(groups[-1], f"quern-story-{os.getpid()}") if groups else None
        fake = self.path("group")
        os.mkdir(fake)
        with open(os.path.join(fake, "cpu.max"), "w", encoding="ascii") as file:
            file.write("100000 100000\n")
        try:
            if place is None:
                self.skipTest("no cgroup v2 is mounted here")
            os.mkdir(place)
        except OSError as error:
            self.skipTest(f"no cgroup can be made here: {error.strerror}")
        self.addCleanup(lambda: stage.wait_until(lambda: self.is_removed(place), "the cgroup to be empty"))
        enter = f'echo $$ > {place}/cgroup.procs && mount --bind {fake} {place} && exec "$0" "$@"'
        words = ["unshare", "--mount", "sh", "-c", enter]
        if subprocess.run([*words, "true"], capture_output=True, check=False).returncode != 0:
            self.skipTest("a cgroup cannot be entered and laid over here")
        program = self.program(before=words)
        self.tell_all(program, "open worker_arg=--cgroup=off")
        self.assertEqual(self.slots(program), 1)
        program.close_stdin()
        self.assertEqual(program.status(), 0)

    def is_removed(self, place):
        try:
            os.rmdir(place)
        except OSError:
            return not os.path.exists(place)
        return True

    def test_arguments_for_worker_and_broker_reach_them(self):
        for words, says in ((("broker_arg=--log-level=info",), True), (("broker_arg=--log-level=error",), False)):
            program = self.opened("slots=1", "worker_arg=--name=miller", *words)
            self.works(program)
            self.assertEqual([worker["name"] for worker in self.asked()["workers"]], ["miller"])
            self.tell_all(program, "close 0", "release")
            program.close_stdin()
            self.assertEqual(program.status(), 0)
            self.assertEqual(any("info  quern-broker" in line for line in program.log), says)

    def test_a_session_of_that_name_is_opened_and_kept_in_the_database(self):
        program = self.opened("slots=1", f"database={self.path('own.db')}", "session=nightly")
        (directory,) = self.left()
        url = f"ipc://{self.path('run', directory)}/broker.sock"
        (row,) = self.quern("--url", url, "--json", "sessions").json
        self.assertEqual((row["name"], row["durable"], row["connected"]), ("nightly", True, True))
        self.tell_all(program, "close 0")
        self.assertTrue(os.path.exists(self.path("own.db")))


class Looking(PoolStory):
    def test_what_a_handler_tells_of_its_progress_is_seen_in_its_future(self):
        for database in ((), (f"database={self.path('pool.db')}",)):
            program = self.opened("slots=1", *database)
            self.tell_all(program, "submit quarter 600000")
            stage.wait_until(lambda: "0.25" in self.tell(program, "info 0"), "its progress")
            self.assertRegex(self.tell(program, "info 0"),
                             r'^running attempt=1 failed=0 0\.25 "a quarter" in order \S+:\d+$')
            self.assertRegex(self.tell(program, "cancel 0"), "error running")
            self.tell_all(program, "cancel 0 force")
            self.assertRegex(self.tell(program, "info 0"), r"^cancelled attempt=1 failed=0 .* in order")
            self.tell_all(program, "release", "close 0")


class Ending(PoolStory):
    def end_by(self, how, status, line=None):
        program = self.opened("slots=2")
        self.works(program)
        self.tell_all(program, "submit take 600000")
        # One slot does the work; the other may still be starting. Broker, worker, zygote, slots.
        stage.wait_until(lambda: len(self.descendants(program.pid)) >= 5, "all processes of the pool")
        below = self.descendants(program.pid)
        if line is not None:
            program.write(line + "\n")
        else:
            how(program)
        self.assertEqual(program.status(), status)
        self.assert_all_gone(below)

    def test_return_from_main(self):
        self.end_by(None, 0, "return")

    def test_exit(self):
        self.end_by(None, 3, "exit")

    def test_abort(self):
        self.end_by(None, -signal.SIGABRT, "abort")

    def test_sigkill(self):
        self.end_by(lambda program: program.send(signal.SIGKILL), -signal.SIGKILL)

    def test_what_a_task_has_detached_is_gone_too(self):
        """In a session of its own, orphaned, deaf to SIGTERM; the program is killed while the task runs."""
        for options in ((), ("worker_arg=--cgroup=off",)):
            program = self.opened("slots=1", *options)
            self.tell_all(program, "submit detach 600000")
            said = stage.wait_until(lambda p=program: re.search(r'^running .*"(\d+)"', self.tell(p, "info 0")), "its pid")
            pid = int(said[1])
            self.assertTrue(stage.is_alive(pid))
            below = self.descendants(program.pid)
            program.kill9()
            self.assert_all_gone({*below, pid})

    def test_sigterm(self):
        self.end_by(lambda program: program.send(signal.SIGTERM), -signal.SIGTERM)

    def mine(self):
        """Living processes of this test, by their environment."""
        found = []
        for name in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{name}/environ", "rb") as file:
                    if self.directory.encode() in file.read() and stage.is_alive(int(name)):
                        found.append(int(name))
            except OSError:
                pass
        return found

    def test_sigkill_while_it_opens(self):
        """At every number of processes on the way; the kill may come a little later than that."""
        for count in range(6):
            program = self.program()
            program.write("open slots=2\n")
            stage.wait_until(lambda: len(self.descendants(program.pid)) >= count, f"{count} processes")
            program.kill9()
            stage.wait_until(lambda: self.mine() == [], f"all to be gone after {count}", 20)
        program = self.opened("slots=1")  # what only a directory was left of is found by the next one
        self.tell_all(program, "close 0")
        self.assertEqual(self.left(), [])

    def test_exec_of_another_program(self):
        program = self.opened("slots=1")
        below = self.descendants(program.pid)
        program.write("exec\n")
        self.assert_all_gone(below)
        self.assertTrue(program.is_running())

    def test_a_forked_child_that_stays_does_not_keep_the_pool(self):
        """It holds every descriptor of the program."""
        program = self.opened("slots=1")
        child = int(self.tell(program, "fork_and_stay").split()[1])
        try:
            below = [pid for pid in self.descendants(program.pid) if pid != child]
            self.assertGreaterEqual(len(below), 4)
            program.send(signal.SIGKILL)
            self.assert_all_gone(below)
            self.assertTrue(stage.is_alive(child))
        finally:
            os.kill(child, signal.SIGKILL)

    def test_in_a_forked_child_every_call_says_so_and_the_pool_lives_on(self):
        program = self.opened("slots=1")
        self.works(program)
        self.assertEqual(self.tell(program, "fork_and_use"), "closed closed closed null")
        self.works(program)
        self.tell_all(program, "close 0")

    def test_a_directory_whose_program_and_broker_were_killed_at_once_goes_with_the_next_pool(self):
        program = self.opened("slots=1")
        below = self.descendants(program.pid)
        broker = self.processes(program, "quern-broker")[0]
        program.send(signal.SIGSTOP)  # so that it does not see its broker's end before its own
        os.kill(broker, signal.SIGKILL)
        program.kill9()
        stage.wait_until(lambda: not any(map(stage.is_alive, below)), "all to be gone", 20)
        self.assertEqual(len(self.left()), 1)
        other = self.opened("slots=1")
        self.assertEqual(len(self.left()), 1)
        self.tell_all(other, "close 0")
        self.assertEqual(self.left(), [])

    def test_a_directory_that_holds_something_else_is_left(self):
        program = self.opened("slots=1")
        below = self.descendants(program.pid)
        directory = self.path("run", self.left()[0])
        with open(os.path.join(directory, "mine"), "w", encoding="utf-8"):
            pass
        program.kill9()
        stage.wait_until(lambda: not any(map(stage.is_alive, below)), "all to be gone", 20)
        self.assertEqual(sorted(os.listdir(directory)), ["mine", "pool"])


class ShuttingDown(PoolStory):
    def test_it_waits_for_all_outcomes_and_futures_keep_them(self):
        program = self.opened("slots=2")
        self.tell_all(program, "submit take 5 40", "shutdown 0")
        self.assertEqual(self.tell(program, "tally"), "done=40 cancelled=0 open=0")
        self.assertEqual(self.descendants(program.pid), [])
        self.assertEqual(self.left(), [])
        self.assertEqual(self.tell(program, "wait 39"), "done 5")
        self.assertRegex(self.tell(program, "submit square 1"), "^error closed")
        self.tell_all(program, "shutdown 0", "close 0")

    def test_outcomes_that_nobody_held_are_there_after_it(self):
        program = self.opened("slots=2")
        self.tell_all(program, "submit square 3 20", "release", "shutdown 0")
        for _ in range(20):
            self.assertEqual(self.tell(program, "next"), "done 9")
        self.assertRegex(self.tell(program, "next"), "^error closed")
        self.tell_all(program, "close 0")

    def test_more_outcomes_than_the_window_holds_up_nothing(self):
        program = self.opened("slots=2")
        self.tell_all(program, "submit square 3 15000", "shutdown 0")
        self.assertEqual(self.tell(program, "tally"), "done=15000 cancelled=0 open=0")
        self.tell_all(program, "close 0")

    def test_cancel_queued_leaves_only_what_has_started(self):
        """One that runs is waited for. Behind it are some that would never end, and some that nobody can run."""
        program = self.opened("slots=1")
        self.tell_all(program, "submit take 1000", "flush")
        stage.wait_until(lambda: self.tell(program, "info 0").startswith("running"), "the first to run")
        self.tell_all(program, "submit take 600000 250", "submit no_such_function 1 250", f"shutdown {CANCEL_QUEUED}")
        self.assertEqual(self.tell(program, "tally"), "done=1 cancelled=500 open=0")
        self.assertEqual(self.tell(program, "wait 0"), "done 1000")
        self.tell_all(program, "close 0")

    def test_closing_with_tasks_open_waits_for_them_and_futures_keep_what_they_got(self):
        program = self.opened("slots=2")
        self.tell_all(program, "submit take 20 20", "close 0")
        self.assertEqual(self.tell(program, "tally"), "done=20 cancelled=0 open=0")
        self.assertEqual(self.descendants(program.pid), [])
        self.assertEqual(self.tell(program, "wait 19"), "done 20")
        self.tell_all(program, "release")

    def test_closing_with_cancel_queued_does_not_start_what_has_not_started(self):
        """Nor does a task hold it up that nobody can run."""
        program = self.opened("slots=1")
        self.tell_all(program, "submit take 1000", "submit no_such_function 1 50", "submit take 600000 50",
                      f"close {CANCEL_QUEUED}")
        tally = self.tell(program, "tally")
        done, cancelled = map(int, re.fullmatch(r"done=(\d+) cancelled=(\d+) open=0", tally).groups())
        self.assertEqual((done + cancelled, cancelled >= 99), (101, True), "only the first may have started")
        self.assertEqual(self.descendants(program.pid), [])
        self.assertRegex(self.tell(program, "wait 100"), "^cancelled")

    def test_closing_with_both_returns_at_once_and_only_what_has_started_ends(self):
        program = self.opened("slots=1")
        self.tell_all(program, "submit take 500", "submit take 600000 50", "flush")
        stage.wait_until(lambda: self.tell(program, "info 0").startswith("running"), "the first to run")
        self.tell_all(program, f"close {CANCEL_QUEUED | NO_WAIT}")
        self.assertEqual(self.tell(program, "wait 0"), "done 500")
        self.assertRegex(self.tell(program, "wait 50"), "^cancelled")
        stage.wait_until(lambda: self.descendants(program.pid) == [] and self.left() == [], "its end")

    def test_no_wait_returns_at_once_and_the_rest_runs_on(self):
        program = self.opened("slots=1")
        self.tell_all(program, "submit take 300 5", f"shutdown {NO_WAIT}")
        self.assertNotIn("open=0", self.tell(program, "tally"))
        self.assertRegex(self.tell(program, "submit square 1"), "^error closed")
        self.assertEqual(self.tell(program, "wait 4"), "done 300")
        self.tell_all(program, "close 0")
        self.assertEqual(self.descendants(program.pid), [])

    def test_a_pool_let_go_without_waiting_ends_by_itself(self):
        program = self.opened("slots=1")
        self.tell_all(program, "submit take 100 5", f"close {NO_WAIT}")
        self.assertEqual(self.tell(program, "wait 4"), "done 100")
        stage.wait_until(lambda: self.descendants(program.pid) == [] and self.left() == [], "its end")

    def test_no_wait_and_then_the_programs_end_ends_it(self):
        program = self.opened("slots=1")
        self.tell_all(program, "submit take 600000", f"close {NO_WAIT}")
        below = self.descendants(program.pid)
        program.write("return\n")
        self.assertEqual(program.status(), 0)
        self.assert_all_gone(below)

    def test_many_threads_may_shut_down(self):
        program = self.opened("slots=2")
        self.tell_all(program, "submit take 50 10", "together")
        self.assertEqual(self.tell(program, "tally"), "done=10 cancelled=0 open=0")
        self.tell_all(program, "close 0")

    def test_a_second_pool_after_the_first(self):
        program = self.opened("slots=1")
        self.works(program)
        self.tell_all(program, "close 0", "open slots=1")
        self.works(program, 9)
        self.tell_all(program, "close 0")


class Database(PoolStory):
    def test_a_second_run_finds_the_results_of_the_first(self):
        database = self.path("own.db")
        program = self.opened("slots=1", f"database={database}", "session=nightly")
        self.tell_all(program, "submit square 11", "submit take 3000000", "submit square 12", "flush")
        self.assertEqual(self.tell(program, "wait 0"), "done 121")
        below = self.descendants(program.pid)
        program.kill9()
        program = self.opened("slots=3", f"database={database}", "session=nightly")
        first = self.tell(program, "next")  # what was taken may come once more; the long one runs again
        self.assertEqual(self.tell(program, "next") if first == "done 121" else first, "done 144")
        self.assert_all_gone_but_one(below)

    def assert_all_gone_but_one(self, below):
        stage.wait_until(lambda: not any(map(stage.is_alive, below)), "the first pool's processes to be gone", 20)
        self.assertEqual(len(self.left()), 1)

    def test_cancel_queued_keeps_a_named_session(self):
        database = self.path("own.db")
        program = self.opened("slots=1", f"database={database}", "session=nightly")
        self.tell_all(program, "submit take 1000", "submit square 3 50", f"shutdown {CANCEL_QUEUED}")
        tally = self.tell(program, "tally")
        done, cancelled = map(int, re.fullmatch(r"done=(\d+) cancelled=(\d+) open=0", tally).groups())
        self.assertEqual(done + cancelled, 51)
        self.assertGreater(cancelled, 25)
        self.tell_all(program, "release", "close 0")
        program.close_stdin()
        self.assertEqual(program.status(), 0)
        program = self.opened("slots=1", f"database={database}", "session=nightly")
        self.works(program)
        self.tell_all(program, "close 0")


class Deaths(PoolStory):
    def test_a_worker_that_dies_is_started_again(self):
        program = self.opened(f"module={stage.MODULE}", "slots=1", first="forgot")
        self.works(program)
        worker = self.processes(program, "quern-worker")[0]
        os.kill(worker, signal.SIGKILL)
        self.works(program, 8)
        self.tell_all(program, "close 0")
        self.assertEqual(self.left(), [])

    def test_a_durable_pools_broker_that_dies_is_started_again_and_nothing_is_lost(self):
        program = self.opened("slots=1", f"database={self.path('own.db')}")
        self.works(program)
        self.tell_all(program, "submit take 500", "submit square 5", "flush")
        os.kill(self.processes(program, "quern-broker")[0], signal.SIGKILL)
        self.assertEqual(self.tell(program, "wait 1"), "done 500")
        self.assertEqual(self.tell(program, "wait 2"), "done 25")
        self.tell_all(program, "close 0")

    def test_a_volatile_pools_broker_that_dies_loses_what_was_open_at_once_and_the_pool_goes_on(self):
        program = self.opened("slots=1")
        self.works(program)
        self.tell_all(program, "submit take 600000 2", "flush")
        os.kill(self.processes(program, "quern-broker")[0], signal.SIGKILL)
        self.assertRegex(self.tell(program, "wait 1"), "^failed lost")
        self.assertRegex(self.tell(program, "wait 2"), "^failed lost")
        program.futures = 3
        self.works(program)  # its slot is free again
        self.tell_all(program, "close 0")

    def test_a_pool_without_database_writes_none(self):
        program = self.opened("slots=1")
        self.works(program)
        self.assertEqual(sorted(name for name in os.listdir(self.path("run", self.left()[0])) if ".db" in name), [])
        self.assertEqual(os.listdir(self.path("state")), [])
        self.tell_all(program, "close 0")

    def test_a_volatile_pools_worker_that_dies_costs_its_tasks_an_attempt(self):
        program = self.opened(f"module={stage.MODULE}", "slots=1", first="forgot")
        self.tell_all(program, "submit sleep 1", "submit square 5", "flush")
        os.kill(self.processes(program, "quern-worker")[0], signal.SIGKILL)
        self.assertEqual(self.tell(program, "wait 1"), "done 25")
        self.assertRegex(self.tell(program, "wait 0"), "^done")
        self.tell_all(program, "close 0")

    def test_a_pool_whose_broker_dies_again_and_again_gives_up_and_says_so(self):
        program = self.opened("slots=1")
        self.tell_all(program, "submit take 600000")
        over = threading.Event()

        def kill_brokers():
            while not over.is_set():
                for pid in self.processes(program, "quern-broker"):
                    try:
                        os.kill(pid, signal.SIGKILL)
                    except OSError:
                        pass
                over.wait(0.02)

        killer = threading.Thread(target=kill_brokers)
        killer.start()
        try:
            # A broker that lived long enough to answer makes the future fail as lost; the next one is waited for then.
            answer = self.tell(program, "wait 0")
            count = 1
            while answer.startswith("failed lost") and self.tell(program, "submit take 600000") == "ok":
                answer = self.tell(program, f"wait {count}")
                count += 1
            if answer.startswith("failed lost"):
                answer = self.tell(program, "flush")  # the pool gave up in between: it took no further submit
            self.assertRegex(answer, "error io: .*given up.*signal 9")
        finally:
            over.set()
            killer.join()
        self.assertRegex(self.tell(program, "close 0"), "error io")
        self.assertEqual(self.descendants(program.pid), [])
        self.assertEqual(self.left(), [])


if __name__ == "__main__":
    stage.main()
