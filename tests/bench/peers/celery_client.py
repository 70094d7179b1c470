#!/usr/bin/python3
"""Celery over redis: submits squares with delay() and waits with get(), as its users do. celery_client.py TASKS ALONE
prints one line of JSON; the worker (celery -A celery_tasks worker) is started by tests/bench/compare."""

import json
import sys
import time

import celery_tasks

WARM_UP_COUNT = 50


def main():
    tasks, alone = int(sys.argv[1]), int(sys.argv[2])
    times = []
    for x in range(min(WARM_UP_COUNT, alone)):
        assert celery_tasks.square.delay(x).get(timeout=60) == x * x
    for x in range(alone):
        began = time.perf_counter()
        assert celery_tasks.square.delay(x).get(timeout=60) == x * x
        times.append(time.perf_counter() - began)
    began = time.perf_counter()
    results = [celery_tasks.square.delay(x) for x in range(tasks)]
    for x, result in enumerate(results):
        assert result.get(timeout=60) == x * x
    seconds = time.perf_counter() - began
    times.sort()
    print(json.dumps({"tasks_per_second": tasks / seconds, "p50_us": times[(alone + 1) // 2 - 1] * 1e6,
                      "p99_us": times[(alone * 99 + 99) // 100 - 1] * 1e6}))


main()
