"""Every command of `quern` does what its page says: shapes, exit statuses, refusals, and going on after a crash."""

import json
import os
import signal
import subprocess
import unittest

import stage


def numbers(count, first=1):
    return "".join(f"{n}\n" for n in range(first, first + count))


class Submitting(stage.Story):
    def setUp(self):
        super().setUp()
        self.broker()

    def test_arguments_are_positional_json(self):
        self.worker()
        self.assertEqual(self.quern("submit", "divide", "1", "4").json, 0.25)
        self.assertEqual(self.quern("submit", "square", "-5").json, 25)
        self.assertEqual(self.quern("submit", "sum_squares", "[1, 2, 3]").json, 14)

    def test_an_argument_that_is_not_json_is_wrong_usage(self):
        result = self.quern("submit", "echo", "text", status=2)
        self.assertIn("argument 1", result.stderr)

    def test_every_json_value_comes_back_as_it_went(self):
        self.worker()
        for text in ("18446744073709551615", "-9223372036854775808", "1.0", "-0.0", "0.1", "1e300", '"a\\u0000b"',
                     '{"$bin":"AP8Q"}', '{"$str":"Yf8="}', '{"$ext":[-7,"eHl6"]}', '{"$float":"NaN"}',
                     '{"$map":[[1,"a"]]}', '{"$map":[["$bin","AP8Q"]]}', '{"a":[1,{"b":null}],"c":"\u00e9"}'):
            came = self.quern("submit", "echo", text).stdout.strip()
            self.assertEqual(came.replace("e+", "e"), text.replace(" ", ""))

    def test_json_gives_the_object_of_jsonl(self):
        self.worker()
        good = self.quern("submit", "square", "7", "--json").json
        self.assertEqual(list(good), ["id", "line", "input", "ok", "result", "attempts", "worker", "ms", "durable"])
        self.assertEqual((good["line"], good["input"], good["ok"], good["result"], good["attempts"]),
                         (None, [7], True, 49, 1))
        self.assertRegex(good["worker"], r"^.+:\d+$")
        bad = self.quern("--json", "submit", "divide", "0", status=1).json
        self.assertEqual(list(bad), ["id", "line", "input", "ok", "error", "attempts", "worker", "ms", "durable"])
        self.assertEqual(list(bad["error"]), ["cause", "kind", "message", "detail"])
        self.assertEqual((bad["error"]["cause"], bad["error"]["kind"]), ("error", "DivisionByZero"))

    def test_a_timeout_is_told_by_its_cause(self):
        self.worker()
        bad = self.quern("--json", "submit", "sleep", "30", "--timeout", "0.2", status=1).json
        self.assertEqual(bad["error"]["cause"], "timeout")

    def test_attempts_are_made_and_shown(self):
        self.worker()
        bad = self.quern("--json", "submit", "divide", "0", "--attempts", "3", "--backoff", "0.01", status=1).json
        self.assertEqual(bad["attempts"], 3)
        shown = self.quern("--json", "show", bad["id"]).json
        self.assertEqual(len(shown["failures"]), 3)
        self.assertEqual(shown["args"], [0])
        self.assertIn("attempt 2", self.quern("show", bad["id"]).stdout)

    def test_show_tells_limits_of_deaths_and_losses_that_were_set(self):
        plain = self.quern("submit", "--detach", "square", "9", "--json").json["id"]
        self.assertNotRegex(self.quern("show", plain).stdout, r"options .*(crashes|losses)")
        task = self.quern("submit", "--detach", "square", "9", "--crashes", "2", "--losses", "4", "--json").json["id"]
        self.assertRegex(self.quern("show", task).stdout, r"options .*, crashes 2, losses 4")

    def test_detach_prints_the_id_and_result_the_rest(self):
        identity = self.quern("submit", "--detach", "square", "9", "--json").json["id"]
        self.assertIn(identity, self.quern("result", identity, status=4).stderr)
        self.worker()
        self.assertEqual(self.quern("result", identity, "--wait").stdout, "81\n")
        self.wait_status(lambda s: s["unacked"] == 0, "the acknowledgement")
        self.assertEqual(self.quern("result", identity).stdout, "81\n")
        self.wait_status(lambda s: s["sessions"] == 0, "its session to end")

    def test_result_waits_for_a_broker_that_comes_back(self):
        identity = self.quern("submit", "--detach", "square", "5").stdout.strip()
        client = self.quern_start("result", identity, "--wait", "--connect-timeout", "60")
        frames = self.status()["counters"]["frames"]
        self.wait_status(lambda s: s["counters"]["frames"] > frames + 20, "time for its question")
        self.programs[0].kill9()
        self.broker()
        self.worker()
        self.assertEqual(client.status(), 0)
        self.assertEqual(client.out, ["25"])

    def test_interrupted_it_cancels_what_has_not_started(self):
        client = self.quern_start("submit", "square", "9")
        self.wait_status(lambda s: s["tasks"]["ready"] == 1, "the task")
        client.send(signal.SIGINT)
        self.assertEqual(client.status(), 130)
        self.wait_status(lambda s: s["tasks"]["ready"] == 0, "the cancel")
        self.assertEqual([row["state"] for row in self.quern("--json", "list").json], ["cancelled"])

    def test_interrupted_in_a_named_session_it_stays(self):
        client = self.quern_start("submit", "square", "9", "--session", "mine")
        self.wait_status(lambda s: s["tasks"]["ready"] == 1, "the task")
        client.send(signal.SIGTERM)
        self.assertEqual(client.status(), 130)
        self.assertIn("mine", "\n".join(client.log))
        self.assertEqual(self.status()["tasks"]["ready"], 1)
        self.worker()
        self.assertEqual(self.quern("attach", "mine").stdout, "81\n")


class Mapping(stage.Story):
    def setUp(self):
        super().setUp()
        self.broker()
        self.worker("--allow-commands")

    def test_failed_and_broken_lines_are_told_and_the_rest_goes_on(self):
        result = self.quern("map", "divide", input="4\n\n0\nnope\n5\n", status=1)
        self.assertEqual(sorted(map(float, result.lines)), [20, 25])
        self.assertIn("line 3", result.stderr)
        self.assertIn("DivisionByZero", result.stderr)
        self.assertIn("line 4: not submitted: not JSON", result.stderr)
        self.assertIn("--raw takes a line as text", result.stderr)

    def test_keep_order_holds_the_place_of_failed_lines(self):
        result = self.quern("map", "divide", "--keep-order", input="4\n\n0\nnope\n5\n", status=1)
        self.assertEqual(list(map(json.loads, result.lines)), [25, None, None, 20])

    def test_jsonl_has_an_object_for_every_item(self):
        result = self.quern("map", "divide", "--jsonl", "--keep-order", input='4\n\n0\nnope\n', status=1)
        rows = list(map(json.loads, result.lines))
        self.assertEqual([row["line"] for row in rows], [1, 3, 4])
        self.assertEqual([row["ok"] for row in rows], [True, False, False])
        self.assertEqual([row["input"] for row in rows], [4, 0, "nope"])
        self.assertIsNone(rows[2]["id"])
        self.assertEqual(list(rows[2]["error"]), ["cause", "kind", "message", "detail"])
        for row in rows[:2]:
            self.assertRegex(row["id"], r"^\d+-\d+$")
            self.assertIsInstance(row["ms"], float)

    def test_jsonl_shows_large_inputs_whole(self):
        text = "y" * 100_000
        row = self.quern("map", "echo", "--jsonl", input=json.dumps(text) + "\n").json
        self.assertEqual(row["input"], text)
        self.assertEqual(row["result"], text)

    def test_raw_lines_are_text_or_binary(self):
        result = self.quern("map", "echo", "--raw", "--keep-order", input=b"1\n \na\xffb\n")
        self.assertEqual(list(map(json.loads, result.lines)), ["1", " ", {"$bin": "Yf9i"}])

    def test_null_ends_items_and_newlines_belong_to_them(self):
        result = self.quern("map", "echo", "--raw", "--null", "--keep-order", input=b"a\nb\0\0c")
        self.assertEqual(list(map(json.loads, result.lines)), ["a\nb", "c"])

    def test_a_small_window_reads_no_further_than_it_must(self):
        client = self.quern_start("map", "square", "--window", "1", stdin=subprocess.PIPE)
        client.write("3\n")
        client.wait_out("9")
        client.write("4\n5\n")
        client.wait_out("25")
        client.close_stdin()
        self.assertEqual(client.status(), 0)

    def test_an_empty_input_is_all_well(self):
        self.assertEqual(self.quern("map", "square").stdout, "")
        self.assertEqual(self.quern("map", "square", "--keep-order", "--session", "s", input="\n\n").stdout, "")

    def test_a_closed_stdout_is_141(self):
        client = subprocess.Popen([os.path.join(stage.BIN, "quern"), "map", "square"], env=self.env,
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        client.stdout.close()
        try:
            client.stdin.write(numbers(1000).encode())
            client.stdin.close()
        except BrokenPipeError:
            pass
        self.assertEqual(client.wait(stage.PATIENCE_S), 141)
        self.wait_status(lambda s: sum(s["tasks"].values()) == 0, "what had not started to be cancelled")

    def test_a_lost_broker_is_told_once_and_waited_for(self):
        client = self.quern_start("map", "sleep", stdin=subprocess.PIPE)
        client.write("0.1\n" * 5)
        client.wait_out_count(1)
        self.programs[0].kill9()
        client.wait_log("waiting for the broker")
        self.broker()
        client.close_stdin()
        self.assertEqual(client.status(), 0)
        self.assertEqual(len(client.out), 5)
        self.assertEqual(sum("waiting for the broker" in line for line in client.log), 1)

    # ---- what nobody could do ----

    def test_who_waits_for_a_function_nobody_knows_is_told_so(self):
        """Once, also where stderr is no terminal; and what was waited for comes when a worker does."""
        self.programs[1].kill9()
        one = self.quern_start("submit", "square", "5")
        elsewhere = self.quern_start("submit", "square", "5", "--queue", "nobody's")
        many = self.quern_start("map", "square", stdin=subprocess.PIPE)
        many.write(numbers(10))
        commands = self.quern_start("run", "--", "true", stdin=subprocess.PIPE)
        commands.write("1\n")
        told = one.wait_log("no connected worker knows 'square'; waiting (`quern explain ")
        self.assertIn("no connected worker serves", self.quern("explain", told.split("`")[1].split()[-1]).stdout)
        many.wait_log("no connected worker knows 'square'; waiting")
        commands.wait_log("no connected worker runs commands (quern-worker --allow-commands); waiting")
        elsewhere.wait_log("no connected worker of queue 'nobody's' knows 'square'; waiting")
        self.worker("--allow-commands")
        many.close_stdin()
        commands.close_stdin()
        self.assertEqual([program.status() for program in (one, many, commands)], [0, 0, 0])
        self.assertEqual([sum("no connected" in line for line in program.log) for program in (one, many, commands)],
                         [1, 1, 1])

    def test_who_waits_for_a_worker_that_works_is_told_nothing(self):
        client = self.quern_start("submit", "sleep", "5")
        self.assertEqual(client.status(), 0)
        self.assertEqual(client.log, [])

    # ---- run ----

    def test_run_replaces_braces_or_appends(self):
        self.assertEqual(self.quern("run", "--", "echo", "<{}>{}", input="a b\n").stdout, "<a b>a b\n")
        self.assertEqual(self.quern("run", "--", "printf", "%s|", "x", input="a b\n").stdout, "x|a b|")

    def test_run_needs_dashes(self):
        self.quern("run", "echo", status=2)
        self.quern("run", status=2)

    def test_run_prints_output_unchanged_also_of_failed_commands(self):
        result = self.quern("run", "--", "sh", "-c", 'printf "out\\377"; echo err >&2; exit $QUERN_INPUT', input="3\n",
                            status=1)
        self.assertEqual(result.bytes, b"out\xff")
        self.assertIn("err\n", result.stderr)
        self.assertIn("exit status 3", result.stderr)

    def test_run_jsonl_has_the_result_of_failed_commands_too(self):
        rows = [json.loads(line) for line in
                self.quern("run", "--jsonl", "--keep-order", "--", "sh", "-c", "echo o; echo e >&2; exit {}",
                           input="0\n4\n", status=1).lines]
        self.assertEqual([row["ok"] for row in rows], [True, False])
        self.assertEqual([row["input"] for row in rows], ["0", "4"])
        self.assertEqual(rows[0]["result"], {"exit_status": 0, "stdout": "o\n", "stderr": "e\n"})
        self.assertEqual(rows[1]["result"]["exit_status"], 4)
        self.assertEqual(rows[1]["error"]["kind"], "ExitStatus")

    def test_show_tells_how_a_command_ended(self):
        self.quern("run", "--session", "mine", "--", "sh", "-c", "{}", input="exit 4\nkill -9 $$\n", status=1)
        ids = [row["id"] for row in self.quern("list", "--json").json]
        shown = sorted((row["exit_status"], row["signal"]) for row in
                       (self.quern("show", identity, "--json").json for identity in ids))
        self.assertEqual(shown, [(0, 9), (4, 0)])
        self.assertIn("exit       4\n", "".join(self.quern("show", identity).stdout for identity in ids))

    def test_run_gives_line_environment_and_directory(self):
        os.mkdir(self.path("here"))
        result = self.quern("run", "--env", "A=1", "--env", "B", "--", "sh", "-c", 'echo "$QUERN_INPUT $A $B $PWD"',
                            input="x;y\n", cwd=self.path("here"), env={"B": "two"})
        self.assertEqual(result.stdout, f"x;y 1 two {self.path('here')}\n")
        self.quern("run", "--env", "NOT_SET_HERE", "--", "true", input="x\n", status=2)

    def test_a_directory_that_is_gone_is_named(self):
        os.mkdir(self.path("gone"))
        client = self.quern_start("run", "--delay", "0.5", "--", "echo", stdin=subprocess.PIPE, cwd=self.path("gone"))
        client.write("1\n")
        self.wait_status(lambda s: s["tasks"]["delayed"] == 1, "the task")
        os.rmdir(self.path("gone"))
        client.close_stdin()
        self.assertEqual(client.status(), 1)
        self.assertIn(self.path("gone"), client.log[-1])

    def test_output_over_the_limit_is_a_failure_by_name(self):
        result = self.quern("run", "--", "head", "-c", "{}", "/dev/zero", input="16777217\n", status=1)
        self.assertIn("OutputTooBig", result.stderr)

    def test_items_of_16_mib_go_through_and_larger_ones_are_named(self):
        text = "x" * (16 * 1024 * 1024 - 6)
        row = self.quern("map", "echo", "--raw", "--jsonl", input=text + "\n").json
        self.assertTrue(row["ok"] and row["input"] == text and row["result"] == text)
        result = self.quern("map", "echo", "--raw", input=text + "y\n" + text + 100 * "y" + "\nz\n", status=1)
        self.assertEqual(result.stdout, '"z"\n')
        self.assertIn("line 1: not submitted: its arguments are 16777217 bytes", result.stderr)
        self.assertIn("line 2: not submitted: it is longer", result.stderr)

    def test_a_line_that_is_not_utf8_reaches_the_command(self):
        self.assertEqual(self.quern("run", "--", "printf", "%s", input=b"a\xff\n").bytes, b"a\xff")

    def test_a_line_with_nul_is_a_failed_item(self):
        self.assertIn("NUL", self.quern("run", "--", "echo", input=b"a\0b\n", status=1).stderr)


class Sessions(stage.Story):
    """map --session: the crash of the client costs nothing, and other work is not taken for the same."""

    def setUp(self):
        super().setUp()
        self.broker()

    def begin(self, lines, *options, function="square", expect=None):
        """A first run that is killed once all its lines are accepted; nobody works yet."""
        client = self.quern_start("map", function, "--session", "night", *options, stdin=subprocess.PIPE)
        client.write(lines)
        accepted = expect if expect is not None else len(lines.split())
        self.wait_status(lambda s: s["tasks"]["ready"] == accepted, "the tasks")
        client.kill9()
        return client

    def test_the_second_run_goes_on_and_closes_the_session(self):
        self.begin(numbers(100))
        self.worker()
        result = self.quern("map", "square", "--session", "night", input=numbers(100))
        self.assertEqual(sorted(map(int, result.lines)), [n * n for n in range(1, 101)])
        self.assertEqual(self.quern("--json", "sessions").json, [])
        again = self.quern("map", "square", "--session", "night", input=numbers(3))
        self.assertEqual(len(again.lines), 3)

    def test_longer_input_goes_on(self):
        self.begin(numbers(10))
        self.worker()
        result = self.quern("map", "square", "--session", "night", "--keep-order", input=numbers(30))
        self.assertEqual(list(map(int, result.lines)), [n * n for n in range(1, 31)])

    def test_order_is_kept_over_runs(self):
        self.begin("\n".join(["0.3", "0.2", "0.1", "nope", "0"]) + "\n", "--keep-order", function="sleep", expect=4)
        self.worker(slots=4)
        result = self.quern("map", "sleep", "--session", "night", "--keep-order", "--jsonl",
                            input="0.3\n0.2\n0.1\nnope\n0\n0\n", status=1)
        self.assertEqual([json.loads(line)["line"] for line in result.lines], [1, 2, 3, 4, 5, 6])

    def refused(self, *command, input, says):
        before = self.status()["counters"]
        result = self.quern(*command, input=input, status=2)
        self.assertEqual(result.stdout, "")
        self.assertIn("night", result.stderr)
        self.assertIn(says, result.stderr)
        after = self.status()
        self.assertEqual(after["tasks"]["ready"], 10)
        return before

    def test_other_work_is_refused_by_field(self):
        self.begin(numbers(10))
        lines = numbers(10)
        session = ("--session", "night")
        self.refused("map", "cube", *session, input=lines, says="function")
        self.refused("map", "square", *session, "--raw", input=lines, says="raw")
        self.refused("map", "square", *session, "--priority", "3", input=lines, says="priority")
        self.refused("map", "square", *session, "--timeout", "2", input=lines, says="timeout")
        self.refused("run", *session, "--", "echo", input=lines, says="command")
        self.refused("map", "square", *session, input=numbers(9), says="the first 10 lines")
        self.refused("map", "square", *session, input=numbers(9) + "11\n", says="the first 10 lines")
        self.refused("map", "square", *session, input="\n" + lines, says="the first 10 lines")
        self.refused("map", "square", *session, input="", says="the first 10 lines")

    def test_another_command_line_is_refused(self):
        client = self.quern_start("run", "--session", "night", "--", "echo", "{}", stdin=subprocess.PIPE)
        client.write("".join(f"{n}\n" for n in range(10)))
        self.wait_status(lambda s: s["tasks"]["ready"] == 10, "the tasks")
        client.kill9()
        lines = "".join(f"{n}\n" for n in range(10))
        self.refused("run", "--session", "night", "--", "echo", "{}!", input=lines, says="argv")
        self.refused("run", "--session", "night", "--env", "A=1", "--", "echo", "{}", input=lines, says="env")

    def test_a_session_of_submit_is_not_one_of_map(self):
        for n in range(10):
            self.quern("submit", "--detach", "--session", "night", "square", n)
        self.refused("map", "square", "--session", "night", input=numbers(10), says="command")

    def test_lines_that_cannot_be_parsed_are_told_in_every_run(self):
        self.begin("1\nnope\n3\n", expect=2)
        self.worker()
        result = self.quern("map", "square", "--session", "night", input="1\nnope\n3\n", status=1)
        self.assertIn("line 2", result.stderr)
        self.assertEqual(sorted(map(int, result.lines)), [1, 9])

    def test_the_exit_status_covers_earlier_runs(self):
        self.worker()
        client = self.quern_start("map", "divide", "--session", "night", stdin=subprocess.PIPE)
        client.write("0\n4\n")
        client.wait_out("25")
        client.wait_log("DivisionByZero")
        client.send(signal.SIGINT)
        self.assertEqual(client.status(), 130)
        self.assertIn("night", client.log[-1])
        result = self.quern("map", "divide", "--session", "night", input="0\n4\n5\n", status=1)
        self.assertEqual(list(map(float, result.lines)), [20])

    def test_what_cannot_be_written_comes_again(self):
        self.worker()
        with open("/dev/full", "wb") as full:
            done = subprocess.run([os.path.join(stage.BIN, "quern"), "map", "square", "--session", "night"],
                                  input=b"1\n2\n", stdout=full, stderr=subprocess.PIPE, env=self.env, check=False)
        self.assertEqual(done.returncode, 4)
        self.assertIn(b"No space left", done.stderr)
        again = self.quern("map", "square", "--session", "night", "--keep-order", input="1\n2\n")
        self.assertEqual(again.stdout, "1\n4\n")

    def test_a_slow_reader_costs_nothing_when_interrupted(self):
        """Exactly what was not written comes again; the line that was cut in the middle is one of them."""
        self.worker()
        lines = b"".join(b"%d" % n + b"a" * 1000 + b"\n" for n in range(1000, 2000))
        with open(self.path("lines"), "wb") as file:
            file.write(lines)
        reader, writer = os.pipe()
        with open(self.path("lines"), "rb") as file:  # no pipe: who cannot write may have stopped reading, too
            client = self.quern_start("map", "echo", "--raw", "--session", "night", stdin=file,
                                      preexec_fn=lambda: os.dup2(writer, 1))
        os.close(writer)
        self.wait_status(lambda s: sum(s["tasks"].values()) == 0 and s["unacked"] > 0, "all results")
        client.send(signal.SIGINT)
        self.assertEqual(client.status(), 130)
        with os.fdopen(reader, "rb") as stream:
            first = stream.read().split(b"\n")[:-1]
        second = self.quern("map", "echo", "--raw", "--session", "night", input=lines).bytes.splitlines()
        self.assertEqual(sorted(first + second), sorted(b'"' + line + b'"' for line in lines.splitlines()))

    def test_a_closed_session_takes_no_further_lines(self):
        self.begin(numbers(2))
        self.quern("close", "night")
        self.assertIn("attach", self.quern("map", "square", "--session", "night", input=numbers(3), status=4).stderr)
        self.worker()
        self.assertEqual(sorted(self.quern("map", "square", "--session", "night", input=numbers(2)).lines), ["1", "4"])

    def test_a_retry_in_a_session_is_printed_too(self):
        self.worker()
        client = self.quern_start("map", "divide", "--session", "night", "--keep-order", stdin=subprocess.PIPE)
        client.write("0\n4\n")
        client.wait_out_count(2)
        self.quern("retry", self.quern("list", "--state", "failed", "--json").json[0]["id"])
        client.write("5\n")
        client.close_stdin()
        self.assertEqual(client.status(), 1)
        self.assertEqual([line for line in client.out if line != "null"], ["25", "20"])
        self.assertEqual(client.out.count("null"), 2)

    def test_jsonl_shows_inputs_of_earlier_runs(self):
        large = json.dumps("z" * 50_000)
        self.begin(f'1\n{large}\n', function="echo", expect=2)
        self.worker()
        result = self.quern("map", "echo", "--session", "night", "--jsonl", "--keep-order", input=f"1\n{large}\n")
        self.assertEqual([json.loads(line)["input"] for line in result.lines], [1, json.loads(large)])

    def test_an_interrupted_unnamed_map_cancels(self):
        client = self.quern_start("map", "square", stdin=subprocess.PIPE)
        client.write(numbers(50))
        self.wait_status(lambda s: s["tasks"]["ready"] == 50, "the tasks")
        client.send(signal.SIGHUP)
        self.assertEqual(client.status(), 130)
        self.wait_status(lambda s: s["tasks"]["ready"] == 0, "the cancel")

    def test_a_killed_unnamed_map_ends_by_itself_and_sessions_says_when(self):
        """Only the command would have printed what comes; nobody else asked to cancel anything."""
        client = self.quern_start("map", "square", stdin=subprocess.PIPE)
        client.write(numbers(50))
        self.wait_status(lambda s: s["tasks"]["ready"] == 50, "the tasks")
        (row,) = self.quern("--json", "sessions").json
        self.assertIsNone(row["end_ms"])
        client.kill9()
        stage.wait_until(lambda: not self.quern("--json", "sessions").json[0]["connected"], "its end to be noticed")
        (row,) = self.quern("--json", "sessions").json
        self.assertLess(abs(row["end_ms"] - row["used_ms"] - 60_000), 5_000)
        self.assertRegex(self.quern("sessions").stdout, r"in (5\d s|1 min)")

    def test_who_waits_for_a_result_or_a_session_is_told_that_nobody_serves_it(self):
        identity = self.quern("submit", "--detach", "--session", "night", "square", "7").stdout.strip()
        for words in (("result", identity, "--wait"), ("attach", "night")):
            waits = self.quern_start(*words)
            waits.wait_log("no connected worker knows 'square'; waiting")
            waits.kill9()
        self.worker()
        self.assertEqual(self.quern("attach", "night", "--take-over").stdout, "49\n")

    def test_a_session_in_use_is_refused_unless_taken_over(self):
        first = self.quern_start("map", "square", "--session", "night", stdin=subprocess.PIPE)
        first.write(numbers(3))
        self.wait_status(lambda s: s["tasks"]["ready"] == 3, "the tasks")
        for command in (("map", "square", "--session", "night"), ("attach", "night"),
                        ("run", "--session", "night", "--", "true"), ("submit", "square", "1", "--session", "night")):
            result = self.quern(*command, status=4)
            self.assertIn(f":{first.pid}", result.stderr)
        self.worker()
        first.wait_out_count(3)
        result = self.quern("map", "square", "--session", "night", "--take-over", input=numbers(4))
        self.assertIn("16", result.lines)
        self.assertEqual(first.status(), 4)
        self.assertIn("taken over", "\n".join(first.log))

    def test_attach_prints_what_map_left(self):
        self.begin(numbers(5))
        self.worker()
        rows = list(map(json.loads, self.quern("attach", "night", "--jsonl").lines))
        self.assertEqual(sorted((row["line"], row["input"], row["result"]) for row in rows),
                         [(n, n, n * n) for n in range(1, 6)])
        self.assertEqual(self.quern("attach", "night").stdout, "")
        self.assertIn("no session", self.quern("attach", "other", status=4).stderr)


class Looking(stage.Story):
    def setUp(self):
        super().setUp()
        self.broker()

    def detach(self, *words):
        return self.quern("submit", "--detach", *words).stdout.strip()

    def test_status_says_what_there_is(self):
        self.worker("--allow-commands")
        self.wait_workers()
        status = self.quern("status", "--json").json
        for key in ("version", "protocol", "store", "epoch", "tasks", "workers", "queues", "store_stats", "limits"):
            self.assertIn(key, status)
        text = self.quern("status").stdout
        self.assertIn("square", text)

    def test_list_is_newest_first_and_selects(self):
        ids = [self.detach("square", str(n)) for n in range(5)]
        rows = self.quern("list", "--json").json
        self.assertEqual([row["id"] for row in rows], ids[::-1])
        self.assertEqual(len(self.quern("list", "--limit", "2", "--json").json), 2)
        self.assertEqual(self.quern("list", "--state", "done", "--json").json, [])
        for state in "delayed waiting ready leased running backoff done failed cancelled".split():
            self.quern("list", "--state", state)
        self.assertIn(ids[0], self.quern("list").stdout)
        self.quern("list", "--state", "quick", status=2)
        self.quern("list", "--session", "nobody", status=4)

    def test_status_shows_limits_when_asked(self):
        self.assertNotIn("limit ", self.quern("status").stdout)
        shown = self.quern("status", "--limits").stdout
        self.assertIn("limit      lease_ms 15000\n", shown)
        self.assertIn(f"limit      frame_size_max {34 << 20}\n", shown)
        limits = self.status()["limits"]
        self.assertEqual((limits["payload_size_max"], limits["dead_ms"]), (16 << 20, 10000))

    def test_explain_says_why(self):
        self.assertIn("square", self.quern("explain", self.detach("square", "1")).stdout)
        delayed = self.detach("square", "1", "--delay", "100")
        self.assertEqual(self.quern("explain", delayed, "--json").json["why"], "delayed")

    def test_cancel_takes_what_has_not_started(self):
        ids = [self.detach("square", "1"), self.detach("square", "2")]
        result = self.quern("cancel", *ids)
        self.assertEqual(result.lines, [f"{identity} cancelled" for identity in ids])
        self.assertEqual(self.quern("result", ids[0], "--json", status=1).json["error"]["cause"], "cancelled")
        self.quern("cancel", ids[0])
        self.quern("cancel", "77-1", status=4)
        self.quern("cancel", "seven", status=2)

    def test_cancel_leaves_alone_what_runs_or_is_finished(self):
        self.worker()
        runs = self.detach("sleep", "60")
        done = self.detach("square", "2")
        self.quern("result", done, "--wait")
        self.wait_status(lambda s: s["tasks"]["running"] == 1, "the sleeper")
        self.assertIn("runs", self.quern("cancel", runs, status=4).stderr)
        self.quern("cancel", done, status=4)

    def test_a_task_that_was_stopped_made_no_attempt_number_0(self):
        self.worker()
        client = self.quern_start("submit", "sleep", "60")
        self.wait_status(lambda s: s["tasks"]["running"] == 1, "the sleeper")
        self.quern("cancel", "--force", self.quern("list", "--json").json[0]["id"])
        self.assertEqual(client.status(), 1)
        self.assertRegex(client.log[-1], r"cancelled: .*\(on \S+:\d+\)$")

    def test_attach_says_that_the_session_stays(self):
        self.assertIn("The session stays", self.quern("attach", "--help").stdout)

    def test_retry_makes_a_new_task(self):
        self.worker()
        self.quern("submit", "divide", "0", "--session", "mine", status=1)
        old = self.quern("list", "--json").json[0]["id"]
        new = self.quern("retry", old, "--json").json
        self.assertEqual((new["retry_of"], new["session"], new["new_session"]), (old, "mine", False))
        self.assertNotEqual(new["id"], old)
        self.quern("result", new["id"], "--wait", status=1)
        self.quern("close", "mine")
        self.wait_status(lambda s: s["sessions"] == 0, "the session to go")
        again = self.quern("retry", old)
        self.assertIn("#", again.stderr)
        self.assertIn("DivisionByZero", self.quern("result", again.stdout.strip(), "--wait", status=1).stderr)

    def test_the_session_of_a_retry_can_be_attached_to(self):
        self.worker()
        self.quern("submit", "square", "3")
        old = self.quern("list", "--json").json[0]["id"]
        new = self.quern("retry", old, "--json").json
        self.assertTrue(new["new_session"])
        self.assertEqual(self.quern("attach", new["session"]).stdout, "9\n")

    def test_close_ends_submitting_and_cancel_cancels(self):
        self.quern("submit", "--detach", "--session", "mine", "square", "1")
        self.quern("close", "mine")
        self.assertEqual(self.quern("--json", "sessions").json[0]["state"], "ending")
        self.quern("submit", "--session", "mine", "square", "2", status=4)
        self.assertEqual(self.status()["tasks"]["ready"], 1)
        self.quern("close", "mine", "--cancel")
        self.assertEqual(self.status()["tasks"]["ready"], 0)
        self.assertIn("mine", self.quern("close", "nobody", status=4).stderr + "mine")

    def test_bench_checks_and_measures(self):
        self.assertIn("no worker", self.quern("bench", "--tasks", "10", status=4).stderr)
        self.worker()
        self.wait_workers()
        figures = self.quern("bench", "--tasks", "500", "--json").json
        self.assertEqual(figures["tasks"], 500)
        self.assertGreater(figures["tasks_per_second"], 0)
        self.assertGreater(figures["one_at_a_time"]["p50_ms"], 0)
        self.assertGreater(figures["rows"], 0)
        self.assertGreater(figures["syncs"], 0)
        self.wait_status(lambda s: s["unacked"] == 0 and s["sessions"] == 0, "nothing to be left")
        self.assertIn("tasks/s", self.quern("bench", "--tasks", "50").stdout)

    def test_bench_says_what_its_figures_depend_on(self):
        self.worker(slots=2)
        self.wait_workers()
        said = self.quern("bench", "--tasks", "200", "--warm-up", "10", "--clients", "4", "--depth", "3", "--json").json
        self.assertEqual((said["durable"], said["slots"], said["clients"], said["depth"], said["warm_up"]), (True, 2, 4, 3, 10))
        self.assertGreater(said["sync_ms"], 0)
        self.assertLessEqual(said["latency"]["p50_ms"], said["latency"]["p999_ms"])
        self.assertRegex(self.quern("bench", "--tasks", "20").stdout, r"^durable; 1 client, 2 slots, \d+ CPUs here; quern [\d.]+, broker [\d.]+; a sync")

    def test_bench_of_a_volatile_session_writes_nothing(self):
        self.worker()
        self.wait_workers()
        said = self.quern("bench", "--tasks", "300", "--volatile", "--json").json
        self.assertFalse(said["durable"])
        self.assertEqual((said["rows"], said["one_at_a_time"]["rows"]), (0, 0))

    def test_bench_with_a_payload_echoes_it(self):
        self.worker()
        self.wait_workers()
        said = self.quern("bench", "--tasks", "40", "--bytes", "100000", "--json").json
        self.assertEqual(said["bytes"], 100000)
        self.assertAlmostEqual(said["mib_per_second"], 40 * 200000 / 2**20 / said["seconds"], delta=0.2)

    def test_bench_at_a_rate_keeps_to_it(self):
        self.worker()
        self.wait_workers()
        said = self.quern("bench", "--tasks", "400", "--rate", "1000", "--json").json
        self.assertGreaterEqual(said["seconds"], 0.399)  # the last of them is due then

    def test_bench_refuses_what_makes_no_sense(self):
        for words, say in ((("--rate", "5", "--depth", "2"), "one of both"), (("--bytes", "3"), "at least 8"),
                           (("--tasks", "2", "--clients", "3"), "at least one for each")):
            self.assertIn(say, self.quern("bench", *words, status=2).stderr)

    def test_errors_say_what_to_do(self):
        for words in (("frob",), ("map",), ("submit",), ("list", "extra"), ("show",), ("show", "x")):
            self.assertRegex(self.quern(*words, status=2).stderr, r"^quern: .*--help|^quern: .*quern list")

    def test_every_command_has_help_with_examples(self):
        for command in ("submit result map run attach status sessions list show explain cancel retry close "
                        "bench").split():
            self.assertIn(f"  quern {command}" if command != "run" else "quern run",
                          self.quern(command, "--help").stdout)
            self.assertIn("xamples", self.quern("help", command).stdout)


if __name__ == "__main__":
    stage.main()
