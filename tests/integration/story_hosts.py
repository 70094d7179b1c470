"""Programs on several hosts: network namespaces with host names of their own, joined by virtual cables to the one where
the broker runs. Needs `unshare`, `nsenter` and `ip`, and as another user than root namespaces of users: without them these
stories are skipped. Start reading at Hosts."""

import json
import os
import shutil
import subprocess
import unittest

import stage

HEIR = os.path.join(stage.BUILD, "tests", "heir")
TOOLS = "/usr/sbin:/usr/bin:/sbin:/bin"
IS_ROOT = os.geteuid() == 0


def why_not():
    """What keeps this machine from having hosts; None: nothing."""
    missing = [name for name in ("unshare", "nsenter", "ip") if shutil.which(name, path=TOOLS) is None]
    if missing:
        return f"not installed: {' '.join(missing)}"
    user = [] if IS_ROOT else ["--user", "--map-root-user"]
    tried = subprocess.run(["unshare", *user, "--uts", "--net", "sh", "-c",
                            "hostname other && ip link add one type veth peer name two"], capture_output=True, check=False)
    return None if tried.returncode == 0 else "namespaces are not allowed here: " + tried.stderr.decode().strip()


@unittest.skipIf(why_not() is not None, why_not())
class Hosts(stage.Story):
    def setUp(self):
        super().setUp()
        self.env["PATH"] = TOOLS
        self.holders = {}
        user = [] if IS_ROOT else ["--user", "--map-root-user"]
        self.mill = self.host("mill", ["unshare", *user])
        broker = self.on("mill", os.path.join(stage.BIN, "quern-broker"), "--listen", "tcp://0.0.0.0:*", "--insecure-tcp")
        self.port = broker.wait_out("ready ").rsplit(":", 1)[1]
        for number, name in enumerate(("first", "second"), 1):
            self.host(name, self.inside("mill", "unshare"))
            self.cable(name, number)

    def host(self, name, words):
        """A process that holds a host's namespaces until the story ends."""
        holder = stage.Program(name, [*words, "--uts", "--net", "sh", "-c",
                                      f"hostname {name} && ip link set lo up && echo up && exec sleep infinity"],
                               self.env, self.directory)
        self.programs.append(holder)
        holder.wait_out("up")
        self.holders[name] = holder.pid
        return holder

    def inside(self, host, *words):
        user = [] if IS_ROOT else ["--user", "--preserve-credentials"]
        return ["nsenter", "--target", str(self.holders[host]), *user, "--uts", "--net", *words]

    def run_on(self, host, *words, status=0):
        done = stage.Result(subprocess.run(self.inside(host, *map(str, words)), env=self.env_of(host), cwd=self.directory,
                                           stdin=subprocess.DEVNULL, capture_output=True, timeout=stage.PATIENCE_S,
                                           check=False))
        self.assertEqual(done.status, status, done.stderr)
        return done

    def on(self, host, *words, **options):
        program = stage.Program(f"{os.path.basename(words[0])} on {host}", self.inside(host, *map(str, words)),
                                self.env_of(host), self.directory, **options)
        self.programs.append(program)
        return program

    def env_of(self, host):
        """Every host has files of its own, and knows the broker by the address of the other end of its cable."""
        number = {"first": 1, "second": 2}.get(host)
        url = {} if number is None else {"QUERN_URL": f"tcp://10.99.{number}.1:{self.port}"}
        for name in ("run", "state"):
            os.makedirs(self.path(host, name), 0o700, exist_ok=True)
        return {**self.env, **url, "XDG_RUNTIME_DIR": self.path(host, "run"), "XDG_STATE_HOME": self.path(host, "state")}

    def cable(self, name, number):
        self.run_on("mill", "ip", "link", "add", name, "type", "veth", "peer", "name", "mill", "netns", self.holders[name])
        for host, device, end in (("mill", name, 1), (name, "mill", 2)):
            self.run_on(host, "ip", "address", "add", f"10.99.{number}.{end}/24", "dev", device)
            self.run_on(host, "ip", "link", "set", device, "up")

    def quern_on(self, host, *words, **options):
        return self.run_on(host, os.path.join(stage.BIN, "quern"), *words, **options)

    def worker_on(self, host):
        self.on(host, os.path.join(stage.BIN, "quern-worker"), "--slots", 2, "--module", stage.MODULE).wait_out("ready ")

    def session(self, host, name):
        (row,) = [row for row in json.loads(self.quern_on(host, "--json", "sessions").stdout) if row["name"] == name]
        return row

    def test_a_session_that_was_left_on_one_host_goes_on_on_another(self):
        count = 500
        left = self.on("first", HEIR, "leave", "nightly", count, stdin=subprocess.PIPE)
        left.wait_out("left")
        row = self.session("second", "nightly")
        self.assertRegex(row["owner"], r"^first:\d+$")
        self.assertEqual((row["connected"], row["live"]), (True, count))
        refused = self.quern_on("second", "attach", "nightly", status=4)
        self.assertIn(row["owner"], refused.stderr)
        left.kill9()
        stage.wait_until(lambda: not self.session("second", "nightly")["connected"], "its client to be gone")

        self.worker_on("second")
        took = self.run_on("second", HEIR, "take", "nightly", count)
        self.assertEqual(took.lines, [f"found {count}, sum {sum(x * x for x in range(1, count + 1))}"])
        self.assertRegex(self.session("first", "nightly")["owner"], r"^second:\d+$")
        rows = json.loads(self.quern_on("first", "--json", "list", "--limit", count).stdout)
        self.assertEqual({row["state"] for row in rows}, {"done"})

    def test_who_cannot_be_reached_is_taken_over_from_at_once_and_told_when_it_is_back(self):
        self.worker_on("second")
        first = self.on("first", os.path.join(stage.BIN, "quern"), "map", "square", "--session", "night",
                        stdin=subprocess.PIPE)
        first.write("1\n2\n3\n")
        first.wait_out_count(3)
        self.run_on("mill", "ip", "link", "set", "first", "down")
        self.assertIn("first:", self.quern_on("second", "attach", "night", status=4).stderr)
        with open(self.path("lines"), "w+b") as lines:
            lines.write(b"1\n2\n3\n4\n")
            lines.seek(0)
            second = self.on("second", os.path.join(stage.BIN, "quern"), "map", "square", "--session", "night", "--take-over",
                             stdin=lines)
            self.assertEqual(second.status(), 0, second.log)
        self.assertIn("16", second.out)
        self.assertTrue(first.is_running(), "it has not heard of it")
        self.run_on("mill", "ip", "link", "set", "first", "up")
        self.assertEqual(first.status(), 4)
        self.assertIn("taken over", "\n".join(first.log))


if __name__ == "__main__":
    stage.main()
