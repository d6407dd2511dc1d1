"""What the two speed-ups of the Kafka client gain: ``python -m tests.bench.client_speed [HOST:PORT]``.

Paired: both ways run in turn in the same process, and the median over the rounds is reported. Without an address a
broker of the sandbox is started. The figures stand in the headers of `daemon.log.kafka.cures.sending` and `partitioner`.
"""

from __future__ import annotations

import sys
import time
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from statistics import median

from kafka import KafkaProducer, TopicPartition
from kafka.partitioner.default import murmur2 as library_murmur2

from daemon.core.placement import place
from daemon.log.kafka.clients import Clients, KafkaConnection
from daemon.log.kafka.cures.sending import encode_all, send_all
from tests.sandbox.broker import Broker

ROUNDS = 21
RECORDS = 2_000
KEY = b"integration-0001/course-000000000042"
VALUE = b"x" * 300


def main() -> None:
    with ExitStack() as stack:
        bootstrap = sys.argv[1] if sys.argv[1:] else stack.enter_context(Broker(brief=False)).bootstrap
        _compare(
            "the partition of a key",
            RECORDS,
            lambda: _hash(library_murmur2),
            lambda: _hash(lambda key: place(key, 12)),
        )
        _compare_sending(bootstrap)


def _hash(function: Callable[[bytes], int]) -> float:
    began = time.thread_time()
    for _ in range(RECORDS):
        function(KEY)
    return time.thread_time() - began


def _compare_sending(bootstrap: str) -> None:
    topic = f"client-speed-{uuid.uuid4()}"
    clients = Clients(KafkaConnection((bootstrap,)))
    with clients.admin() as admin:
        admin.create_topics({topic: {"num_partitions": 1, "replication_factor": 1}}, wait_for_metadata=True)
    producer = clients.producer(topic)
    producer.init_transactions()
    producer.partitions_for(topic)
    _compare(
        "sending a record",
        RECORDS,
        lambda: _send_with_library(producer, topic),
        lambda: _send_all(producer, topic),
    )
    producer.close(timeout=5.0)


def _send_with_library(producer: KafkaProducer, topic: str) -> float:
    producer.begin_transaction()
    began = time.thread_time()
    futures = [producer.send(topic, VALUE, KEY, [], partition=0) for _ in range(RECORDS)]
    took = time.thread_time() - began
    for future in futures:
        future.get(timeout=30.0)
    producer.commit_transaction()
    return took


def _send_all(producer: KafkaProducer, topic: str) -> float:
    producer.begin_transaction()
    began = time.thread_time()
    records = [(KEY, VALUE, ()) for _ in range(RECORDS)]
    sent = send_all(producer, encode_all({TopicPartition(topic, 0): records}, producer.config))
    took = time.thread_time() - began
    for each in sent:
        assert not any(each.errors(time.monotonic() + 30.0))
    producer.commit_transaction()
    return took


def _compare(subject: str, count: int, library: Callable[[], float], ours: Callable[[], float]) -> None:
    pairs = [(library(), ours()) for _ in range(ROUNDS)]
    theirs, own = (median(column) / count * 1e6 for column in zip(*pairs, strict=True))
    share = median(second / first for first, second in pairs)
    print(f"{subject}: {theirs:.2f} µs with the library, {own:.2f} µs here, {share:.0%}")


if __name__ == "__main__":
    main()
