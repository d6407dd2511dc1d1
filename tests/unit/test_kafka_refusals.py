"""What the error of a commit means: that it can never be written, not now, or that nobody knows."""

from __future__ import annotations

import pytest
from kafka.errors import (
    InvalidRecordError,
    InvalidTimestampError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    NotEnoughReplicasError,
    ProducerFencedError,
    TopicAuthorizationFailedError,
)

from daemon.log.errors import CommitFailedError, FencedError, RecordRefusedError, TransientRefusalError
from daemon.log.kafka import KafkaConnection
from daemon.log.kafka.clients import Clients
from daemon.log.kafka.producer import ShardProducer, _reason, _Written
from daemon.log.port import Message, Topics, Transaction

TOPICS = Topics()
STEP = Transaction([(b"k", b"v")], [Message(b"r", b"x" * 5_000)])
OUT_OF_RANGE = (
    "Timestamp 1796000000000 of message with offset 0 is out of range. The timestamp should be within "
    "[-9223370241000000000, 1795999999999]"
)


@pytest.fixture
def producer() -> ShardProducer:
    return ShardProducer(Clients(KafkaConnection(("127.0.0.1:1",))), TOPICS, 3)


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (MessageSizeTooLargeError("larger than max_request_size"), RecordRefusedError, "5,000 bytes"),
        (
            TopicAuthorizationFailedError({TOPICS.results}),
            TransientRefusalError,
            f"Write on topic {TOPICS.results}",
        ),
        (NotEnoughReplicasError(), CommitFailedError, "NotEnoughReplicasError"),
        (KafkaTimeoutError("Expiring 1 record(s)"), CommitFailedError, "Expiring"),
        (ProducerFencedError(), FencedError, "ProducerFencedError"),
        (RuntimeError("anything else"), CommitFailedError, "anything else"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_each_error_has_its_meaning(
    producer: ShardProducer, error: Exception, kind: type[CommitFailedError], said: str
) -> None:
    failure = producer._failure(error, STEP)
    assert type(failure) is kind
    assert said in str(failure)
    assert str(failure).startswith("commit to partition 3 failed: ")


@pytest.mark.parametrize("kind", [InvalidTimestampError, InvalidRecordError])
def test_a_refused_time_is_told_with_that_of_the_host_and_those_that_the_broker_accepts(
    producer: ShardProducer, kind: type[Exception]
) -> None:
    """The library reports either class: the latter if more than one record of a batch was refused."""
    said = producer._refusal(_Written(TOPICS.journal, b"key", 12), _reason(kind(OUT_OF_RANGE)))
    assert said == (
        f"commit to partition 3 failed: the record with key b'key' for {TOPICS.journal}, 12 bytes, is refused (the times of "
        "its records: the clock of this host said 2026-11-30T00:53:20.000Z, and the broker accepts times up to "
        "2026-11-30T00:53:19.999Z; synchronise both clocks)"
    )


@pytest.mark.parametrize("args", [(), (None,), ("without key",)])
def test_another_reason_is_told_as_the_broker_gave_it(
    producer: ShardProducer, args: tuple[str | None, ...]
) -> None:
    said = producer._refusal(_Written(TOPICS.journal, None, 0), _reason(InvalidRecordError(*args)))
    reason = ": without key" if args == ("without key",) else ""
    assert said.endswith(f"is refused (InvalidRecordError{reason})")
