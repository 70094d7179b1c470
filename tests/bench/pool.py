#!/usr/bin/python3
"""Python's side of the comparison with a process pool: what pool.c does, with concurrent.futures.ProcessPoolExecutor.
pool.py one|submit|map|open COUNT SLOTS: prints one line of JSON."""

import concurrent.futures
import json
import sys
import time

WARM_UP_COUNT = 100
CHUNK_SIZE = 500


def noop():
    return None


def square(x):
    return x * x


def percentile_us(times, percent):
    """The smallest time that percent of all do not exceed."""
    return sorted(times)[max(len(times) * percent // 100, 1) - 1] * 1e6


def bench_one(pool, count):
    times = []
    for _ in range(WARM_UP_COUNT):
        pool.submit(noop).result()
    for _ in range(count):
        began = time.perf_counter()
        pool.submit(noop).result()
        times.append(time.perf_counter() - began)
    return {f"p{percent}_us": percentile_us(times, percent) for percent in (50, 90, 99)}


def bench_submit(pool, count):
    began = time.perf_counter()
    futures = [pool.submit(noop) for _ in range(count)]
    done = sum(1 for future in concurrent.futures.as_completed(futures) if future.result() is None)
    seconds = time.perf_counter() - began
    assert done == count
    return {"seconds": seconds, "per_second": count / seconds}


def bench_map(pool, count):
    began = time.perf_counter()
    for x, result in enumerate(pool.map(square, range(count), chunksize=CHUNK_SIZE)):
        assert result == x * x
    seconds = time.perf_counter() - began
    return {"seconds": seconds, "per_second": count / seconds}


def bench_open(_pool, _count):
    return {}


def main():
    what, count, slots = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    began = time.perf_counter()
    with concurrent.futures.ProcessPoolExecutor(slots) as pool:
        pool.submit(noop).result()
        figures = {"what": what, "count": count, "open_ms": (time.perf_counter() - began) * 1000}
        figures.update(globals()[f"bench_{what}"](pool, count))
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
