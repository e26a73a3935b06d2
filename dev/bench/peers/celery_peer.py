"""Celery: RabbitMQ as broker, results in Redis.

The worker: `celery -A celery_peer worker`. The driver: `python celery_peer.py`.
"""

import os

import celery

import driver

TIMEOUT_S = 120

app = celery.Celery(
    "celery_peer",
    broker=os.environ["BENCH_AMQP_URL"],
    backend=os.environ["BENCH_REDIS_URL"],
)
app.conf.update(
    # A message is acknowledged after its job, and each slot holds one.
    task_acks_late=True,
    worker_prefetch_multiplier=1,
    broker_transport_options={"confirm_publish": True},
)


@app.task(name="noop")
def noop():
    return driver.now_us()


if __name__ == "__main__":
    driver.serve(f"Celery {celery.__version__}", noop.delay, lambda job: job.get(timeout=TIMEOUT_S))
