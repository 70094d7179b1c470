"""Functions that are clients of their own broker: what they wait for runs, also where there is one slot."""

import unittest

import stage

NESTED = stage.os.path.join(stage.BUILD, "lib", "quern", "nested.so")
NEST = stage.os.path.join(stage.BUILD, "tests", "nest.so")


class Nested(stage.Story):
    def begin(self, slots=1, module=NESTED, **options):
        self.broker()
        worker = self.worker(slots=slots, module=module, **options)
        self.wait_workers()
        return worker

    def test_fibonacci_through_the_queue_on_one_slot(self):
        self.begin()
        self.assertEqual(self.quern("submit", "fib_nested", "11").stdout, "89\n")

    def test_fibonacci_through_the_queue_on_three_slots(self):
        self.begin(slots=3)
        self.assertEqual(self.quern("submit", "fib_nested", "12").stdout, "144\n")

    def test_a_sum_over_a_tree_of_tasks(self):
        self.begin(slots=2)
        self.assertEqual(self.quern("submit", "tree_sum", "1", "100000", "1000").stdout, "5000050000\n")


if __name__ == "__main__":
    stage.main()
