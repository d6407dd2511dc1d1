"""The transactional producer of one shard.

This rule avoids the client's defects: begin, send, ``get()`` on *every* future, commit. After any error the producer is
closed and never used again. A record that expired in the client does not fail its transaction, and an error while
committing may be swallowed; only the futures report them. Aborting a transaction and continuing is never safe.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import structlog
from kafka import KafkaProducer, TopicPartition
from kafka.errors import (
    InvalidProducerEpochError,
    InvalidRecordError,
    InvalidTimestampError,
    KafkaError,
    MessageSizeTooLargeError,
    ProducerFencedError,
    RecordListTooLargeError,
    TopicAuthorizationFailedError,
)

from daemon.codec.texts import describe
from daemon.codec.times import iso_ms
from daemon.core.placement import place
from daemon.log.errors import (
    CommitFailedError,
    FencedError,
    LogError,
    RecordRefusedError,
    TransientRefusalError,
)
from daemon.log.kafka.accepted_times import AcceptedTimes
from daemon.log.kafka.authorization_errors import explained
from daemon.log.kafka.clients import DELIVERY_TIMEOUT, Clients
from daemon.log.kafka.cures.sending import Encoded, Record, Sent, encode_all, known_partitions, send_all
from daemon.log.kafka.cures.stuck_close import close_failed
from daemon.log.kafka.worker import report_progress
from daemon.log.port import Committed, Topics, Transaction

_log = structlog.get_logger(__name__)

ACKNOWLEDGED_WITHIN = DELIVERY_TIMEOUT + 2.0
"""Seconds within which every future is done, with a result or an error."""

CLOSE_TIMEOUT = 3.0

_REFUSALS = (MessageSizeTooLargeError, RecordListTooLargeError, InvalidRecordError, InvalidTimestampError)
"""Errors about a record. From the broker, each of them depends on a setting of the topic or on a clock: all records are
well-formed. From the client, which checks the size only, a retry does not help.
"""


def transactional_id(journal: str, partition: int) -> str:
    """R1: named after the journal partition that it protects, so that replicas of another consumer group are fenced too."""
    return f"{journal}-{partition}"


def _reason(error: KafkaError) -> str:
    """Why a record is refused, without the record."""
    # The broker does not always give a reason.
    said = str(error.args[0]) if error.args and error.args[0] else ""
    # The class is not sufficient: the client reports InvalidRecordError for each of several refused records.
    times = AcceptedTimes.of(said)
    if times is None:
        return f"{type(error).__name__}{said and ': '}{said}"
    return (
        f"the times of its records: the clock of this host said {iso_ms(times.record)}, and the broker accepts times "
        f"{times}; synchronise both clocks"
    )


class _Written(NamedTuple):
    """A record of a transaction, as messages describe it."""

    topic: str
    key: bytes | None
    size: int
    """Bytes of the value."""

    def __str__(self) -> str:
        return f"the record with key {self.key!r:.200} for {self.topic}, {self.size:,} bytes"


class Prepared(NamedTuple):
    """A transaction, and its records as they are sent."""

    transaction: Transaction
    batches: Sequence[Encoded]


class ShardProducer:
    """Methods block, except for `prepare` and `give_up`. Call those that block from one thread; only `close` may be called
    from another.
    """

    def __init__(self, clients: Clients, topics: Topics, partition: int) -> None:
        self._clients = clients
        self._topics = topics
        self._partition = partition
        self._producer: KafkaProducer | None = None
        self._failed = False
        self._counts: dict[str, int] = {}
        """Partitions of each topic, as last known."""

    def open(self) -> None:
        """Connect and fence every earlier producer of this journal partition.

        Their committed transactions are then visible, and their open ones are aborted.

        Raises:
            LogError: the cluster did not answer, or refused.
        """
        self._failed = False
        own_id = transactional_id(self._topics.journal, self._partition)
        try:
            producer = self._clients.producer(own_id)
            self._producer = producer
            report_progress()
            producer.init_transactions()
            topics = self._topics
            for topic in (topics.journal, topics.results, topics.dead_letters, topics.courses):
                report_progress()
                self._counts[topic] = len(producer.partitions_for(topic))
        except KafkaError as error:
            self._failed = True
            operation = "Describe" if isinstance(error, TopicAuthorizationFailedError) else "Write"
            why = explained(error, operation, f"transactional id {own_id}")
            raise LogError(
                f"earlier owners of the journal of partition {self._partition} could not be fenced: {why}"
            ) from error

    def prepare(self, transaction: Transaction) -> Prepared:
        """Encode the records. From the thread that has made them: another one, on another CPU, takes three times as long,
        because each of their objects has to be fetched from the first.

        Raises:
            CommitFailedError: close this producer.
        """
        if not any((transaction.journal, transaction.results, transaction.dead_letters, transaction.courses)):
            raise ValueError("an empty transaction proves nothing: a fenced producer commits it too (R5)")
        producer = self._usable()
        try:
            return Prepared(
                transaction, encode_all(self._by_partition(producer, transaction), producer.config)
            )
        except KafkaError as error:
            self._failed = True
            raise self._failure(error, transaction) from error

    def commit(self, prepared: Prepared) -> Committed:
        """Write a transaction.

        Raises:
            FencedError, CommitFailedError: close this producer.
        """
        producer = self._usable()
        try:
            return self._commit(producer, prepared.batches)
        except BaseException as error:
            self._failed = True
            raise self._failure(error, prepared.transaction) from error

    def _usable(self) -> KafkaProducer:
        if self._producer is None or self._failed:
            raise CommitFailedError("this producer has failed or is closed")
        return self._producer

    def _commit(self, producer: KafkaProducer, batches: Sequence[Encoded]) -> Committed:
        producer.begin_transaction()
        journal = TopicPartition(self._topics.journal, self._partition)
        sent = send_all(producer, batches)
        deadline = time.monotonic() + ACKNOWLEDGED_WITHIN
        error = next((e for each in sent for e in each.errors(deadline) if e is not None), None)
        if error is not None:
            self._look_for_refusal(sent, deadline)
            raise error
        report_progress()
        producer.commit_transaction()
        own = [each for each in sent if each.partition == journal]
        offsets = [offset for each in own for offset in each.offsets]
        return Committed(offsets, own[-1].appended_at if own else None)

    def _by_partition(
        self, producer: KafkaProducer, transaction: Transaction
    ) -> Mapping[TopicPartition, Sequence[Record]]:
        """The journal comes first."""
        records_of: dict[TopicPartition, list[Record]] = {}
        for topic, entries in (
            (self._topics.journal, transaction.journal),
            (self._topics.courses, transaction.courses),
        ):
            if entries:
                own = TopicPartition(topic, self._partition)  # these topics have a partition for each shard
                records_of[own] = [(key, value, ()) for key, value in entries]
        for topic, messages in (
            (self._topics.results, transaction.results),
            (self._topics.dead_letters, transaction.dead_letters),
        ):
            if messages:
                count = self._counts[topic] = known_partitions(producer, topic) or self._counts[topic]
                partitions = [TopicPartition(topic, number) for number in range(count)]
                without_key = self._partition % count
                for message in messages:
                    key = message.key
                    number = without_key if key is None else place(key, count)
                    records_of.setdefault(partitions[number], []).append(message)
        return records_of

    def _look_for_refusal(self, sent: Sequence[Sent], deadline: float) -> None:
        """A refused record fails others with it, and their errors may be seen first. Find the refused one.

        Raises:
            TransientRefusalError: names the refused record.
        """
        for each in sent:
            for number, error in enumerate(each.errors(deadline)):
                if isinstance(error, _REFUSALS) and each.reached_the_broker(number):
                    key, value, _ = each.records[number]
                    record = _Written(each.partition.topic, key, len(value or b""))
                    why = _reason(error)
                    summary = f"a record for {record.topic}, {why}"
                    raise TransientRefusalError(self._refusal(record, why), summary) from error

    def _failure(self, error: BaseException, transaction: Transaction) -> CommitFailedError:
        if isinstance(error, TransientRefusalError):
            return error
        if isinstance(error, _REFUSALS):  # by the client itself
            largest = max(_records(self._topics, transaction), key=lambda record: record.size)
            return RecordRefusedError(self._refusal(largest, _reason(error)))
        named = ", ".join(sorted({record.topic for record in _records(self._topics, transaction)}))
        failed = (
            f"commit to partition {self._partition} failed: {explained(error, 'Write', f'topic {named}')}"
        )
        if isinstance(
            error, TopicAuthorizationFailedError
        ):  # a right that was withdrawn may be granted again
            return TransientRefusalError(failed)
        return FencedError(failed) if _is_fencing(error) else CommitFailedError(failed)

    def _refusal(self, record: _Written, why: str) -> str:
        return f"commit to partition {self._partition} failed: {record}, is refused ({why})"

    def close(self) -> None:
        """Idempotent. Takes at most a few seconds and never raises."""
        producer, self._producer = self._producer, None
        if producer is None:
            return
        try:
            if self._failed:
                close_failed(producer, CLOSE_TIMEOUT)
            else:
                producer.close(timeout=CLOSE_TIMEOUT)
        except Exception as error:
            _log.warning("kafka.producer.close_failed", partition=self._partition, error=describe(error))

    def give_up(self) -> None:
        """From any thread: treat the current call as failed."""
        self._failed = True


def _records(topics: Topics, transaction: Transaction) -> Iterator[_Written]:
    """In the order of sending."""
    for key, value in transaction.journal:
        yield _Written(topics.journal, key, len(value or b""))
    for topic, messages in (
        (topics.results, transaction.results),
        (topics.dead_letters, transaction.dead_letters),
    ):
        for message in messages:
            yield _Written(topic, message.key, len(message.value or b""))
    for key, value in transaction.courses:
        yield _Written(topics.courses, key, len(value or b""))


def _is_fencing(error: BaseException | None) -> bool:
    """Whether the error means fencing, also if an earlier error was the fencing and the library reports a follow-up."""
    seen = 0
    while error is not None and seen < 10:
        if isinstance(error, ProducerFencedError | InvalidProducerEpochError):
            return True
        inner = next((arg for arg in error.args if isinstance(arg, BaseException)), None)
        error = inner or error.__cause__ or error.__context__
        seen += 1
    return False
