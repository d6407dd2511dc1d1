"""`copy_rate`: what kafka-python alone makes of the same records, the bar that the daemon is held to.

One process consumes the changes and produces, in transactions and with `get()` on every record, the very
results that the daemon made of them, with the daemon's own client settings, but without its cures of the
library, some of which are faster. No journal, no API, no decisions. It runs as a program of its own
(`python -m tests.bench.copying`), with nothing else in it.
"""

from __future__ import annotations

import gc
import sys
import time
import uuid
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
from kafka import KafkaConsumer, TopicPartition

from daemon.log.kafka.clients import _EVERY_CLIENT, _EVERY_CONSUMER, Clients, KafkaConnection
from daemon.log.topic_access import TopicRecord, read_topic
from tests.sandbox.process import Child
from tests.sandbox.stack import Stack

TRANSACTION_RECORDS_MAX = 5_000
TIMEOUT = 60.0
"""Seconds for one acknowledgement, and twice that for all."""


class Copied(msgspec.Struct, frozen=True):
    rate: float
    """Records a second, from the first that was consumed to the last commit."""
    cpu_us: float
    """Microseconds of CPU time for one record."""


def measure_copy(stack: Stack) -> Copied:
    """The results topic holds the result of every change; they are appended to it once more.

    Raises:
        SandboxError: the program failed.
    """
    at = stack.addresses
    child = Child.start(
        "copy",
        [sys.executable, "-m", __name__, at.bootstrap, at.topics.changes, at.topics.results],
        log=stack.directory / "copy.log",
        cwd=Path(__file__).parents[2],
    )
    try:
        return msgspec.json.decode(child.wait_for_line(r"^\{.*\}$", 2 * TIMEOUT)[0], type=Copied)
    finally:
        child.kill()


def bare_reader(connection: KafkaConnection) -> KafkaConsumer:
    """As `Clients.reader`, without the cures."""
    return KafkaConsumer(
        bootstrap_servers=list(connection.bootstrap_servers), group_id=None, **_EVERY_CLIENT | _EVERY_CONSUMER
    )


def copy(connection: KafkaConnection, source: str, target: str, results: list[TopicRecord]) -> Copied:
    """Consume as many records of `source` as there are results, and append the results to `target`."""
    clients = Clients(connection)
    consumer = bare_reader(connection)
    producer = clients.producer(f"bench-copy-{uuid.uuid4()}")
    producer.init_transactions()
    producer.partitions_for(target)
    partitions = [TopicPartition(source, p) for p in consumer.partitions_for_topic(source)]
    consumer.assign(partitions)
    consumer.seek_to_beginning()
    while not (polled := consumer.poll(timeout_ms=100)):
        pass
    began, cpu_began = time.perf_counter(), time.process_time()
    remaining, copied = iter(results), 0
    while copied < len(results):
        producer.begin_transaction()
        futures: list[Any] = []
        while len(futures) < TRANSACTION_RECORDS_MAX and copied + len(futures) < len(results):
            count = sum(map(len, polled.values()))
            futures += [
                producer.send(target, result.value, result.key, list(result.headers))
                for result in islice(remaining, count)
            ]
            polled = consumer.poll(timeout_ms=100)
        for future in futures:
            future.get(timeout=TIMEOUT)
        producer.commit_transaction()
        copied += len(futures)
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - cpu_began
    producer.close()
    consumer.close()
    return Copied(copied / seconds, cpu_seconds / copied * 1e6)


def main(bootstrap: str, source: str, target: str) -> None:
    connection = KafkaConnection(tuple(bootstrap.split(",")))
    results = list(read_topic(connection, target))
    gc.freeze()  # what was read beforehand shall not be looked through while the time runs
    print(msgspec.json.encode(copy(connection, source, target, results)).decode(), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
