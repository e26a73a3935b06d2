"""Executes the loads that warmq-bench sends, for the peers in Python.

The protocol is documented in dev/bench/src/peers/external/protocol.rs.
"""

import json
import os
import socket
import time
from concurrent.futures import ThreadPoolExecutor

# Submitting threads; with open-loop loads, also the jobs that are awaited at a time.
THREADS = 32

# Delay of an open-loop load's first job, s.
LEAD_S = 0.1


def now_us():
    """Returns the Unix time, microseconds."""
    return time.time_ns() // 1000


def serve(name, submit, wait):
    """Executes loads until warmq-bench disconnects.

    `submit()` submits a no-op job that returns its start time, and returns the job; `wait(job)`
    waits for its result and returns that.
    """
    host, port = os.environ["BENCH_DRIVER"].rsplit(":", 1)
    with socket.create_connection((host, int(port))) as connection:
        with connection.makefile("rw", encoding="utf-8") as lines, ThreadPoolExecutor(THREADS) as pool:
            answer(lines, {"name": name})
            for line in lines:
                load = json.loads(line)
                if "burst" in load:
                    answer(lines, burst(pool, load["burst"], submit, wait))
                else:
                    answer(lines, open_loop(pool, load["at_us"], submit, wait))


def answer(lines, value):
    lines.write(json.dumps(value) + "\n")
    lines.flush()


def burst(pool, jobs, submit, wait):
    begun_us = now_us()
    submitted = list(pool.map(lambda _: submit(), range(jobs)))
    submitted_us = now_us()
    ended = list(pool.map(lambda job: (wait(job), now_us()), submitted))
    return {"begun_us": begun_us, "submitted_us": submitted_us, "jobs": ended}


def open_loop(pool, at_us, submit, wait):
    def run():
        job = submit()
        submitted_us = now_us()
        return (wait(job), now_us(), submitted_us)

    begun_us = now_us() + int(LEAD_S * 1e6)
    running = []
    for offset_us in at_us:
        time.sleep(max(0, begun_us + offset_us - now_us()) / 1e6)
        running.append(pool.submit(run))
    ended = [job.result() for job in running]
    return {
        "begun_us": begun_us,
        "submitted_us": max(submitted_us for _, _, submitted_us in ended),
        "jobs": [(started_us, result_us) for started_us, result_us, _ in ended],
    }
