"""Cgroups (v2) of a worker, with real processes: a group for each slot, killed at once, limited by the kernel, and none
left behind. What the machine does not offer is skipped, and why is printed. modules/hogs.c brings the functions."""

import ctypes
import json
import os
import signal
import struct

import stage

HOGS = os.path.join(stage.BUILD, "tests", "hogs.so")
LONG_MS = 60000  # nobody waits for it: it is ended before


def mount_point():
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        for line in file:
            if " - cgroup2 " in line:
                return line.split()[4]
    return None


def group_of(pid):
    """The directory of a process in the hierarchy of v2."""
    with open(f"/proc/{pid}/cgroup", encoding="utf-8") as file:
        path = [line[3:].strip() for line in file if line.startswith("0::")][0]
    return os.path.normpath(mount_point() + path)


def words(directory, name):
    with open(os.path.join(directory, name), encoding="utf-8") as file:
        return file.read().split()


def forbid_clone3():
    """For this process and all that it starts: as in a container whose filter does not know it."""
    nr_clone3, enosys = 435, 38
    load, equals, answer = 0x20, 0x15, 0x06  # BPF: a word of the call's data, a comparison, a verdict
    code = b"".join(struct.pack("HBBI", *one) for one in ((load, 0, 0, 0), (equals, 0, 1, nr_clone3),
                                                          (answer, 0, 0, 0x00050000 | enosys), (answer, 0, 0, 0x7FFF0000)))
    room = ctypes.create_string_buffer(code)
    program = ctypes.create_string_buffer(struct.pack("HP", len(code) // 8, ctypes.addressof(room)))
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    if prctl(38, 1, 0, 0, 0) != 0 or prctl(22, 2, program, 0, 0) != 0:  # NO_NEW_PRIVS, SECCOMP_MODE_FILTER
        raise OSError(ctypes.get_errno(), "no seccomp")


def make_place():
    """A cgroup for one story, below our own, or why there is none."""
    if mount_point() is None:
        return None, "no cgroup v2 is mounted here"
    ours = group_of("self")
    place = os.path.join(ours, f"quern-story-{os.getpid()}")
    try:
        os.makedirs(place, exist_ok=True)
    except OSError as error:
        return None, f"{ours} is not writable here: {error.strerror}"
    return place, None


class Groups(stage.Story):
    needs_memory = False

    def setUp(self):
        self.place, why = make_place()
        if self.place is None:
            self.skipTest(why)
        if self.needs_memory and not self.hands_out_memory():
            controllers = " ".join(words(group_of("self"), "cgroup.controllers")) or "none"
            os.rmdir(self.place)
            self.skipTest(f"the memory controller of cgroup v2 is not to be had here (controllers: {controllers}): "
                          "limits kept by the kernel are not shown")
        super().setUp()

    def tearDown(self):
        super().tearDown()
        with open(os.path.join(self.place, "cgroup.kill"), "w", encoding="ascii") as file:
            file.write("1")
        stage.wait_until(lambda: self.removed(self.place), "the place is empty")

    def removed(self, directory):
        for path, _, _ in os.walk(directory, topdown=False):
            try:
                os.rmdir(path)
            except OSError:
                return False
        return True

    def hands_out_memory(self):
        try:
            with open(os.path.join(group_of("self"), "cgroup.subtree_control"), "w", encoding="ascii") as file:
                file.write("+memory")
        except OSError:
            return False
        return "memory" in words(self.place, "cgroup.controllers")

    def worker_here(self, *args, slots=1, before=lambda: None, **options):
        """A worker that is started in the story's cgroup."""
        def enter():
            with open(os.path.join(self.place, "cgroup.procs"), "w", encoding="ascii") as file:
                file.write(str(os.getpid()))
            before()
        worker = self.worker(*args, slots=slots, module=HOGS, preexec_fn=enter, **options)
        self.wait_workers()
        return worker

    def reopen(self):
        """Whoever starts a worker where one was killed has to enter there: no controller may be handed out meanwhile."""
        for directory in [*(os.path.join(self.place, name) for name in self.below()), self.place]:
            if "memory" in words(directory, "cgroup.subtree_control"):
                with open(os.path.join(directory, "cgroup.subtree_control"), "w", encoding="ascii") as file:
                    file.write("-memory")

    def ask(self, *args):
        return self.quern("--json", "submit", *args, status=None).json

    def show(self, task):
        return self.quern("--json", "show", task).json

    def below(self):
        return sorted(name for name in os.listdir(self.place) if os.path.isdir(os.path.join(self.place, name)))

    def text(self, name):
        try:
            with open(self.path(name), encoding="ascii") as file:
                return file.read().strip()
        except FileNotFoundError:
            return ""

    def begin_family(self):
        """A task with a grandchild in a session of its own: their slot's pid and its."""
        task = self.quern("submit", "--detach", "family_hog", "1", LONG_MS).stdout.strip()
        grandchild = int(stage.wait_until(lambda: self.text("pid"), "the grandchild says its pid"))

        def slots():
            return [int(pid) for pid in words(group_of(grandchild), "cgroup.procs") if self.name_of(pid) == "quern-slot" and
                    int(pid) != grandchild]

        stage.wait_until(lambda: len(slots()) == 1, "the one between them has ended")
        return task, slots()[0], grandchild

    @staticmethod
    def name_of(pid):
        try:
            with open(f"/proc/{pid}/comm", encoding="ascii") as file:
                return file.read().strip()
        except OSError:
            return None


class Killing(Groups):
    def check_groups(self, *args, **options):
        self.broker()
        worker = self.worker_here(*args, env={"HOGS_PID": self.path("pid")}, slots=2, **options)
        _, slot, grandchild = self.begin_family()
        directory = group_of(slot)
        self.assertRegex(directory, f"^{self.place}/quern-worker-{worker.pid}/slot-[12]$")
        self.assertEqual(group_of(grandchild), directory)
        self.assertNotEqual(group_of(worker.pid), directory)
        self.assertIn("cgroup v2", self.status()["workers"][0]["memory"])
        self.assertEqual([line for line in worker.log if "no cgroup" in line], [])

    def test_each_slot_has_a_group_that_holds_all_it_starts(self):
        self.check_groups()

    def test_where_the_kernel_keeps_no_limits_status_says_so(self):
        self.broker()
        if self.hands_out_memory():
            self.skipTest("it keeps them here")
        self.worker_here()
        self.assertIn("; limits watched every 10 to 200 ms; cgroup v2 for killing only: the memory controller is not ",
                      self.quern("status").stdout)

    def test_each_slot_that_is_started_afresh_has_one_too(self):
        self.check_groups("--start", "spawn")

    def test_where_nobody_can_be_born_in_a_group_slots_go_there_by_themselves(self):
        self.check_groups(before=forbid_clone3)

    def test_nor_when_they_are_started_afresh(self):
        self.check_groups("--start", "spawn", before=forbid_clone3)

    def test_what_a_command_starts_knows_nothing_of_groups(self):
        self.broker()
        self.worker_here("--allow-commands")
        said = self.ask("quern.command", json.dumps(["env"]), "{}")["result"]["stdout"]
        self.assertIn("QUERN_URL=", said)
        self.assertNotIn("QUERN_SLOT_GROUP", said)

    def test_a_killed_task_leaves_nobody_when_its_end_is_told_and_its_group_goes(self):
        self.broker()
        self.worker_here(env={"HOGS_PID": self.path("pid")})
        task, slot, grandchild = self.begin_family()
        directory = group_of(slot)
        self.quern("cancel", "--force", task)
        self.quern("result", task, "--wait", status=None)
        self.assertFalse(stage.is_alive(grandchild))
        self.assertFalse(stage.is_alive(slot))
        self.assertTrue(self.ask("hog", "1", "1")["ok"])
        stage.wait_until(lambda: not os.path.exists(directory), "it is gone")

    def test_what_never_stands_still_is_dead_when_the_end_of_its_task_is_told(self):
        self.broker()
        self.worker_here()
        path = self.path("runaway")
        for _ in range(3):
            task = self.quern("submit", "--detach", "runaway", json.dumps(path), LONG_MS).stdout.strip()
            stage.wait_until(lambda: len(self.text("runaway")) > 50, "it runs away")
            self.quern("cancel", "--force", task)
            self.quern("result", task, "--wait", status=None)
            size = os.path.getsize(path)
            self.quern("status")
            self.assertEqual(os.path.getsize(path), size)
            os.unlink(path)

    def test_a_worker_that_is_told_to_end_leaves_no_group(self):
        self.broker()
        for numbers in ([signal.SIGTERM], [signal.SIGTERM, signal.SIGTERM]):
            worker = self.worker_here()
            self.assertNotEqual(self.below(), [])
            self.quern("submit", "--detach", "hog", "1", "100")
            for number in numbers:
                worker.send(number)
            self.assertEqual(worker.status(), 0)
            self.assertEqual(self.below(), [])

    def test_what_a_worker_left_behind_that_was_killed_is_killed_and_removed_by_the_next(self):
        self.broker()
        worker = self.worker_here(env={"HOGS_PID": self.path("pid")})
        _, slot, grandchild = self.begin_family()
        zygote = [pid for pid in self.descendants(worker.pid) if self.name_of(pid) == "quern-zygote"][0]
        worker.send(signal.SIGSTOP)  # so that it does not see the other's end: nobody clears up
        os.kill(zygote, signal.SIGKILL)
        worker.kill9()
        stage.wait_until(lambda: not stage.is_alive(slot), "the slot dies with its supervisor")
        self.assertTrue(stage.is_alive(grandchild))  # it had gone into a session of its own
        self.assertIn(f"quern-worker-{worker.pid}", self.below())
        self.reopen()
        next_worker = self.worker_here("--name", "next")
        stage.wait_until(lambda: not stage.is_alive(grandchild), "the next worker kills it")
        self.assertEqual([name for name in self.below() if name.startswith("quern-worker-")],
                         [f"quern-worker-{next_worker.pid}"])

    def test_living_workers_leave_each_other_alone(self):
        self.broker()
        first = self.worker_here("--name", "a", env={"HOGS_PID": self.path("pid")})
        _, slot, grandchild = self.begin_family()
        self.worker_here("--name", "b")
        self.wait_workers(2)
        self.assertTrue(stage.is_alive(slot) and stage.is_alive(grandchild))
        self.assertIn(f"quern-worker-{first.pid}", self.below())

    def test_none_is_made_where_none_is_wanted(self):
        self.broker()
        self.worker_here("--cgroup", "off")
        self.assertEqual(self.below(), [])
        self.assertIn("cgroup v2: not used (--cgroup off)", self.quern("status").stdout)
        self.assertTrue(self.ask("hog", "1", "1")["ok"])


class Limits(Groups):
    needs_memory = True

    def test_memory_that_the_watch_does_not_see_is_limited_by_the_kernel(self):
        self.broker()
        self.worker_here()
        self.assertIn("kept by the kernel", self.status()["workers"][0]["memory"])
        outcome = self.ask("hog_shared", "300", LONG_MS, "--memory", "100M")
        error = outcome["error"]
        self.assertEqual((error["cause"], error["kind"]), ("memory", "MemoryLimit"), outcome)
        self.assertIn("killed by the kernel at the memory limit", error["message"])
        self.assertIn("may take 100.0 MiB", error["message"])
        taken = float(error["message"].split("had taken ")[1].split(" MiB")[0])
        self.assertTrue(0 <= taken < 140, error)
        shown = self.show(outcome["id"])
        self.assertEqual([(each["cause"], each["signal"]) for each in shown["failures"]], [("memory", 0)])
        self.assertTrue(self.ask("hog_shared", "90", "1", "--memory", "100M")["ok"])

    def test_a_limit_that_grows_grows_in_the_kernel_too(self):
        self.broker()
        self.worker_here()
        outcome = self.ask("hog_shared", "150", "1", "--memory", "50M", "--memory-growth", "2", "--attempts", "5")
        self.assertTrue(outcome["ok"], outcome)
        self.assertEqual(outcome["attempts"], 3)

    def test_what_a_slot_has_already_is_not_counted_against_the_next(self):
        self.broker()
        self.worker_here("--memory-per-task", "80M")
        for _ in range(4):
            self.assertTrue(self.ask("leak", "60", "50")["ok"])
        self.assertEqual(self.ask("hog_shared", "200", LONG_MS)["error"]["cause"], "memory")

    def test_others_are_not_limited(self):
        self.broker()
        self.worker_here()
        self.assertEqual(self.ask("hog_shared", "200", LONG_MS, "--memory", "50M")["error"]["cause"], "memory")
        self.assertTrue(self.ask("hog_shared", "200", "1")["ok"])

    def test_when_there_is_none_left_elsewhere_it_is_nobodys_fault(self):
        self.broker()
        self.worker_here("--free-memory-floor", "0")
        with open(os.path.join(self.place, "memory.max"), "w", encoding="ascii") as file:
            file.write(str(200 << 20))
        outcome = self.ask("hog_shared", "350", LONG_MS)
        shown = self.show(outcome["id"])
        self.assertEqual(shown["cause"], "quarantined")  # tried again by default, as after other crashes
        self.assertEqual([(each["cause"], each["signal"]) for each in shown["failures"]], [("memory", 9)] * 3)
        self.assertIn("killed by the kernel, which had no memory left", json.dumps(shown["failures"]))


if __name__ == "__main__":
    stage.main()
