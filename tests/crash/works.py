"""The works that chaos.py disturbs, one class for each kind: what is put in, what may come out, and what the witnesses say
of it. A witness (modules/witness.c, or a command) writes down every start in a file by itself: quern is not asked.

Start reading at Work.
"""

import collections
import json
import os
import signal

# A task that was unlucky often enough fails so, whatever it is; the verdict counts such failures as outcomes.
UNLUCKY = frozenset(("crashed", "quarantined", "lost"))
# Of one command: those it leaves behind are detached in two ways, deaf, and carry the mark that chaos.py looks for.
TREE = """
echo "$QUERN_INPUT $PPID 0" >> "$WITNESS_DIR/starts"
export CHAOS_TASK="$QUERN_INPUT" CHAOS_SLOT="$PPID"
exec 3>/dev/null
setsid sh -c 'trap "" TERM; sleep 600 & sleep 600' >&3 2>&3 &
(setsid sleep 600 >&3 2>&3 &)
case $QUERN_INPUT in *hang*) sleep 600 ;; esac
echo "$QUERN_INPUT"
"""


class Work:
    """Rounds of one map or run. Each is a session of its own, started again with the same input whenever it is killed,
    and judged when it has come to its end."""

    name = None
    count = 100  # lines of a round
    options = ()
    function = ("map", "witness", "--raw")
    is_durable = True
    causes = UNLUCKY  # that a failure may have

    def __init__(self, story, chance):
        self.story = story
        self.chance = chance
        self.round = 0
        self.program = None
        self.rounds_done = 0
        self.printed = 0
        self.lives_all = 0
        self.failed = collections.Counter()
        self.ended = {}  # key → its row, of every round

    def key(self, number):
        return f"{self.name}-{self.round}-{number}"

    def line(self, number):
        return f"{self.key(number)} ok 0"

    # ---- a round ----

    def begin(self):
        self.round += 1
        self.rows = []
        self.lives = 0
        self.is_judged = False
        self.broker_lives = self.story.broker_lives
        self.lines = [self.line(number) for number in range(self.count)]
        with open(self.story.path(f"{self.name}-{self.round}.in"), "w", encoding="ascii") as file:
            file.write("".join(f"{line}\n" for line in self.lines))
        self.start()

    def argv(self):
        session = ["--session", f"{self.name}-{self.round}"] if self.is_durable else ["--volatile"]
        verb, *rest = self.function
        after = rest.index("--") if "--" in rest else len(rest)
        return [verb, *rest[:after], *session, "--jsonl", *self.options, *rest[after:]]

    def start(self):
        with open(self.story.path(f"{self.name}-{self.round}.in"), "rb") as file:
            self.program = self.story.quern_start("--connect-timeout", "60", *self.argv(), stdin=file)
        self.read = 0
        self.lives += 1

    def is_over(self):
        return not self.program.is_running()

    def kill(self):
        """A program that has printed everything may have closed its session: started again it would begin anew."""
        self.program.kill9()
        self.look()
        if len({row["line"] for row in self.rows}) < self.count:
            self.start()

    def look(self):
        """Takes in what was printed since."""
        out = self.program.out
        while self.read < len(out):
            try:
                row = json.loads(out[self.read])
            except ValueError:
                row = None  # a kill cut it short
            self.read += 1
            if row is not None:
                self.rows.append(row)
                self.ended[str(row["input"]).split(" ")[0]] = row

    def end(self, starts):
        """Judges the round that is over."""
        status = self.program.status()
        self.look()
        self.story.assertIn(status, (0, 1, -signal.SIGKILL), f"{self.name}: {self.program.log[-5:]}")
        self.judge(starts)
        self.is_judged = True
        self.printed += len(self.rows)
        self.lives_all += self.lives
        self.rounds_done += 1
        # Nothing of it is needed any more; a long run must not keep it.
        self.program.out.clear()
        os.unlink(self.story.path(f"{self.name}-{self.round}.in"))

    # ---- the verdict ----

    def judge(self, starts):
        """Every line has one task and one outcome, seen by every life alike."""
        test = self.story
        by_line = collections.defaultdict(list)
        for row in self.rows:
            by_line[row["line"]].append(row)
        wanted = set(range(1, self.count + 1))
        lost = sorted(wanted - set(by_line))
        unexpected = sorted(set(by_line) - wanted)
        twice = sorted(line for line, rows in by_line.items() if len({row["id"] for row in rows}) > 1 or len(rows) > self.lives)
        test.verdict.update(outcomes=len(by_line), lost=len(lost), unexpected=len(unexpected), twice=len(twice))
        test.assertEqual(lost, [], f"{self.name}-{self.round}: lost")
        test.assertEqual(unexpected, [], f"{self.name}-{self.round}: unexpected")
        for line, rows in by_line.items():
            test.assertEqual(len({row["id"] for row in rows}), 1, f"{self.name}: line {line} became two tasks: {rows}")
            test.assertEqual(len({json.dumps([row["ok"], row["result"] if row["ok"] else row["error"]]) for row in rows}), 1,
                             f"{self.name}: line {line} has two outcomes: {rows}")
            test.assertLessEqual(len(rows), self.lives, f"{self.name}: line {line} came twice to one process")
            self.judge_row(rows[0], self.lines[line - 1], starts)

    def judge_row(self, row, line, starts):
        key = line.split(" ")[0]
        if row["ok"]:
            self.judge_result(row, key)
            self.story.assertGreaterEqual(starts[key], 1, f"done, but it never ran: {row}")
        else:
            self.failed[row["error"]["cause"]] += 1
            self.story.assertIn(row["error"]["cause"], self.causes, str(row))
            self.judge_failure(row, line, starts)

    def judge_result(self, row, key):
        self.story.assertEqual(row["result"], key, str(row))

    def judge_failure(self, row, line, starts):
        pass


class Fast(Work):
    """Squares as fast as they go: many in each batch of the store."""
    name = "fast"
    count = 60000
    function = ("map", "square")
    options = ("--window", "50000")

    def line(self, number):
        return str(number)

    def look(self):
        super().look()
        self.ended.clear()

    def judge_row(self, row, line, starts):
        if row["ok"]:
            self.story.assertEqual(row["result"], int(line) ** 2, str(row))
        else:
            self.failed[row["error"]["cause"]] += 1
            self.story.assertIn(row["error"]["cause"], self.causes, str(row))


class Slow(Work):
    """Tasks that are running when their worker, slot or broker dies."""
    name = "slow"
    count = 200
    options = ("--queue", "slow")

    def line(self, number):
        return f"{self.key(number)} sleep {number % 50}"


class Once(Work):
    """What may run at most once, never does so twice: the witness counts."""
    name = "once"
    count = 1000
    options = ("--at-most-once",)

    def line(self, number):
        return f"{self.key(number)} sleep {number % 7}"

    def judge_row(self, row, line, starts):
        super().judge_row(row, line, starts)
        self.story.assertLessEqual(starts[line.split(" ")[0]], 1, f"at most once, but it was started again: {row}")


class OnceCommands(Once):
    name = "once-commands"
    count = 150
    function = ("run", "--", "sh", "-c", 'echo "$QUERN_INPUT" "$PPID" 0 >> "$WITNESS_DIR/starts"; echo "$QUERN_INPUT"')

    def line(self, number):
        return self.key(number)

    def judge_result(self, row, key):
        self.story.assertEqual(row["result"]["stdout"], f"{key}\n", str(row))


class Retries(Work):
    """They fail up to three times and have six attempts: none may fail for good of its own failures."""
    name = "retries"
    count = 150
    options = ("--attempts", "6", "--backoff", "0.01:0.05")

    def line(self, number):
        return f"{self.key(number)} fail {number % 4}"


class Timeouts(Work):
    """They never end by themselves, and leave processes that are hard to find."""
    name = "timeouts"
    count = 6
    options = ("--timeout", "0.3")
    causes = UNLUCKY | {"timeout"}

    def line(self, number):
        return f"{self.key(number)} hang 0"

    def judge_result(self, row, key):
        self.story.fail(f"done, but it never ends: {row}")


class Trees(Work):
    """Commands that leave detached processes, some of them after their time is up."""
    name = "trees"
    count = 24
    function = ("run", "--", "sh", "-c", TREE)
    options = ("--timeout", "1")
    causes = UNLUCKY | {"timeout"}

    def line(self, number):
        return self.key(number) + ("-hang" if number % 6 == 0 else "")

    def judge_result(self, row, key):
        self.story.assertNotIn("hang", key, str(row))
        self.story.assertEqual(row["result"]["stdout"], f"{key}\n", str(row))


class Dying(Work):
    """Each of them kills its slot, three times."""
    name = "dying"
    count = 6

    def line(self, number):
        return f"{self.key(number)} {('abort', 'exit')[number % 2]} {number}"

    def judge_result(self, row, key):
        self.story.fail(f"done, but it always dies: {row}")

    def judge_failure(self, row, line, starts):
        if row["error"]["cause"] == "quarantined":
            self.story.assertGreaterEqual(starts[line.split(" ")[0]], 3, f"quarantined, but it did not die so often: {row}")


class Hogs(Work):
    """Half of them take more memory than they may."""
    name = "hogs"
    count = 4
    options = ("--memory", "30M", "--attempts", "2")
    causes = UNLUCKY | {"memory"}

    def line(self, number):
        return f"{self.key(number)} {('hog', 'sleep')[number % 2]} 80"

    def judge_failure(self, row, line, starts):
        if row["error"]["cause"] == "memory":
            self.story.assertIn(" hog ", line, f"its memory was no reason: {row}")

    def judge_row(self, row, line, starts):
        super().judge_row(row, line, starts)
        self.story.assertFalse(row["ok"] and " hog " in line, f"done, but it never ends: {row}")


class Cancels(Work):
    """Some are cancelled while they wait or run, with and without force; chaos.py does it."""
    name = "cancels"
    count = 200
    options = ("--timeout", "2")
    causes = UNLUCKY | {"cancelled", "timeout"}

    def line(self, number):
        return f"{self.key(number)} {'hang 0' if number % 100 == 50 else f'sleep {number % 40}'}"

    def ids(self):
        """Some that have no outcome yet, as it seems."""
        if not self.rows:
            return []
        series, sequence = self.chance.choice(self.rows[-20:])["id"].split("-")
        first = int(sequence) + self.chance.randrange(1, 40)
        return [f"{series}-{first + i}" for i in range(4)]


class Nested(Work):
    """They wait for three tasks of their own each."""
    name = "nested"
    count = 30
    function = ("map", "fan")
    causes = UNLUCKY | {"error"}

    def line(self, number):
        return "3"

    def judge_row(self, row, line, starts):
        if row["ok"]:
            self.story.assertEqual(row["result"], 3, str(row))
            return
        self.failed[row["error"]["cause"]] += 1
        self.story.assertIn(row["error"]["cause"], self.causes, str(row))
        # It found no broker in its time, or one that could not commit; or one of its own was unlucky.
        if row["error"]["cause"] == "error" and row["error"]["kind"] != "NoClient":
            self.story.assertRegex(row["error"]["message"], "slot|lost|died|worker", str(row))


class Volatile(Work):
    """In the broker's memory only: what is open when it dies has failed as lost, and nothing else is."""
    name = "volatile"
    count = 1000
    is_durable = False

    def line(self, number):
        return f"{self.key(number)} sleep {number % 3}"

    def kill(self):
        """Nobody can go on with it: another round."""
        self.program.kill9()
        self.begin()

    def judge_failure(self, row, line, starts):
        if row["error"]["cause"] == "lost" and self.story.broker_lives == self.broker_lives:
            self.story.assertNotIn("anew", row["error"]["message"], f"no broker died: {row}")

    def judge(self, starts):
        lines = collections.Counter(row["line"] for row in self.rows)
        self.story.assertEqual(lines, collections.Counter(range(1, self.count + 1)), "volatile: lost, twice or unexpected")
        for row in self.rows:
            self.judge_row(row, self.lines[row["line"] - 1], starts)


ALL = (Fast, Slow, Once, OnceCommands, Retries, Timeouts, Trees, Dying, Hogs, Cancels, Nested, Volatile)
