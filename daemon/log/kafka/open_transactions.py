"""Open transactions and their producers. Some hang (KIP-664): open on a partition although their coordinator has finished
them.

No broker will end a hanging one, and readers of committed records stop where it starts. Functions take an admin client, block,
and raise the library's `KafkaError`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from kafka import KafkaAdminClient, TopicPartition
from kafka.admin import AbortTransactionSpec, TransactionState
from kafka.errors import (
    AuthorizationError,
    ClusterAuthorizationFailedError,
    KafkaError,
    TransactionalIdNotFoundError,
    for_code,
)

from daemon.log.errors import LogError
from daemon.log.kafka.authorization_errors import denied
from daemon.log.kafka.cures.transaction_end import write_end
from daemon.log.port import TransactionOwner

_ENDED = (TransactionState.EMPTY, TransactionState.COMPLETE_COMMIT, TransactionState.COMPLETE_ABORT)
"""In every other state the coordinator will still end the transaction, at the latest when it times out."""


@dataclass(frozen=True, slots=True)
class OpenTransaction:
    """The part of an open transaction that lies in one partition."""

    topic: str
    partition: int
    start_offset: int
    producer_id: int
    producer_epoch: int
    coordinator_epoch: int

    def __str__(self) -> str:
        return f"{self.topic} partition {self.partition} from offset {self.start_offset}"


def open_transactions(
    client: KafkaAdminClient, partitions: Iterable[TopicPartition]
) -> list[OpenTransaction]:
    """All open transactions, hanging or not, ordered by partition and offset."""
    described = client.describe_producers(list(partitions))
    return sorted(
        (
            OpenTransaction(
                topic=tp.topic,
                partition=tp.partition,
                start_offset=producer.current_transaction_start_offset,
                producer_id=producer.producer_id,
                producer_epoch=producer.producer_epoch,
                coordinator_epoch=producer.coordinator_epoch,
            )
            for tp, state in described.items()
            for producer in state.active_producers
            if producer.current_transaction_start_offset >= 0
        ),
        key=lambda found: (found.topic, found.partition, found.start_offset),
    )


def first_owner(client: KafkaAdminClient, partition: TopicPartition) -> TransactionOwner | None:
    """The producer of the first open transaction in a partition; None if there is none.

    The brokers list only transactional ids that this user may describe.
    """
    opened = open_transactions(client, [partition])
    if not opened:
        return None
    producer_id = opened[0].producer_id
    try:
        listed = client.list_transactions(producer_id_filters=[producer_id])
    except KafkaError:  # it needs all brokers, and the producer's id is the more important part
        return TransactionOwner(producer_id, None)
    ids = (one.transactional_id for listings in listed.values() for one in listings)
    return TransactionOwner(producer_id, next(ids, None))


def coordinated(client: KafkaAdminClient, producer_id: int, transactional_id: str) -> str | None:
    """The transactional id for which a coordinator still has an open transaction of this producer; None if its open
    transactions hang.

    Raises:
        LogError: this user may not describe `transactional_id`, the expected id of the producer. The list of
            transactions omits ids that may not be described, so an active one would look as if it hung.
    """
    try:
        client.describe_transactions([transactional_id])
    except TransactionalIdNotFoundError:
        pass
    except AuthorizationError as error:
        raise LogError(denied("Describe", f"transactional id {transactional_id}")) from error
    # No filter by state: kafka-python 3.0.12 sends the names of its enum, which the broker does not know.
    listed = client.list_transactions(producer_id_filters=[producer_id])
    found = (one for listings in listed.values() for one in listings if one.state not in _ENDED)
    return next((one.transactional_id for one in found), None)


def end_transaction(client: KafkaAdminClient, hanging: OpenTransaction, *, commit: bool) -> None:
    """Write the end marker that the coordinator has not written. Requires the right to `ClusterAction`.

    `kafka-transactions.sh abort` does the same, but can only abort.
    """
    spec = AbortTransactionSpec(
        topic_partition=TopicPartition(hanging.topic, hanging.partition),
        producer_id=hanging.producer_id,
        producer_epoch=hanging.producer_epoch,
        coordinator_epoch=hanging.coordinator_epoch,
    )

    error_code = write_end(client, spec, commit=commit)
    if error_code == ClusterAuthorizationFailedError.errno:
        raise LogError(denied("ClusterAction", "the cluster"))
    if error_code != 0:
        raise for_code(error_code)(f"the end of the transaction in {hanging} was not written")
