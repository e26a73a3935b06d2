"""RQ: jobs and results in Redis.

The workers: `rq worker-pool bench`. The driver: `python rq_peer.py`.
"""

import os

import redis
import rq

import driver

TIMEOUT_S = 120


def noop():
    return driver.now_us()


def submit():
    return queue.enqueue("rq_peer.noop")


def wait(job):
    result = job.latest_result(timeout=TIMEOUT_S)
    if result is None or result.type != result.Type.SUCCESSFUL:
        raise RuntimeError(f"job {job.id} has no result: {result and result.exc_string}")
    return result.return_value


if __name__ == "__main__":
    # Without a timeout, since the driver waits for results.
    connection = redis.Redis.from_url(os.environ["BENCH_REDIS_URL"], socket_timeout=None)
    queue = rq.Queue("bench", connection=connection)
    driver.serve(f"RQ {rq.__version__}", submit, wait)
