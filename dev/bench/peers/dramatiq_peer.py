"""Dramatiq: RabbitMQ as broker, results in Redis.

The workers: `dramatiq dramatiq_peer`. The driver: `python dramatiq_peer.py`.
"""

import os

import dramatiq
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

import driver

TIMEOUT_MS = 120_000

broker = RabbitmqBroker(url=os.environ["BENCH_AMQP_URL"], confirm_delivery=True)
# Without a timeout, since the driver waits for results.
results = RedisBackend(url=os.environ["BENCH_REDIS_URL"], socket_timeout=None)
broker.add_middleware(Results(backend=results))
dramatiq.set_broker(broker)


@dramatiq.actor(store_results=True)
def noop():
    return driver.now_us()


if __name__ == "__main__":
    driver.serve(
        f"Dramatiq {dramatiq.__version__}",
        noop.send,
        lambda message: message.get_result(block=True, timeout=TIMEOUT_MS),
    )
