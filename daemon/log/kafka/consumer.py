"""The one thread that owns the input consumer.

A `KafkaConsumer` is not thread-safe and has no wake-up call. So one thread polls it in short intervals and runs the
commands that the loop has queued between polls. Rebalance listeners run on the client's I/O thread, but only while this
thread waits in ``poll`` or ``close``. The two never run at the same time, so they share state without a lock.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
import uuid
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass

import structlog
from kafka import ConsumerRebalanceListener, KafkaConsumer, OffsetAndMetadata, TopicPartition
from kafka.errors import (
    FencedInstanceIdError,
    GroupAuthorizationFailedError,
    KafkaError,
    LogTruncationError,
    OffsetOutOfRangeError,
    RetriableError,
    UnreleasedInstanceIdError,
)

from daemon.codec.texts import describe
from daemon.log.errors import FatalLogError
from daemon.log.kafka.assigned_partitions import AssignedPartitions
from daemon.log.kafka.authorization_errors import explained
from daemon.log.kafka.clients import Clients
from daemon.log.kafka.cures.fetching import PartitionFetchError, UnreadableBatchError
from daemon.log.kafka.cures.last_answer import answered_at
from daemon.log.kafka.cures.membership import Membership
from daemon.log.kafka.cures.topic_id import known_topic_id
from daemon.log.kafka.loop_queue import LoopQueue
from daemon.log.kafka.transient_errors import UNEXPLAINED_MAX, Streak, is_fatal
from daemon.log.kafka.worker import post_to, resolve
from daemon.log.port import Assigned, Revoked

_log = structlog.get_logger(__name__)

POLL_MS = 50
"""A poll returns as soon as records arrive. Otherwise a command waits at most this long."""
THROTTLED_POLL_MS = 10
RETRY_PAUSE = 0.2
"""Seconds between polls while the cluster is unreachable."""
COMPLAINT_INTERVAL = 10.0
"""Minimum number of seconds between two log lines about errors."""

GROUP_COMMIT_INTERVAL = 1.0
"""Seconds between commits of group offsets, which only lag tools use."""
FINAL_COMMIT_MS = 2_000
CLOSE_MS = 5_000

HEARTBEAT_SILENCE_EXTRA = 60.0
"""Seconds beyond the session time-out that may pass without a heartbeat while the coordinator is known. This is more than
twice the time-out of a request, so only a defect of the client exceeds it."""


@dataclass(slots=True)
class _Confirmation:
    partition: int
    generation: int
    moment: float
    future: asyncio.Future[bool]


class InputConsumer:
    """Group membership and input of one process. Call methods from the loop unless they say otherwise."""

    def __init__(
        self,
        clients: Clients,
        topic: str,
        group_id: str,
        instance_id: str | None,
        session_timeout: float,
        loop_queue: LoopQueue,
    ) -> None:
        self._clients = clients
        self._topic = topic
        self._group_id = group_id
        self._instance_id = instance_id
        self._session_timeout = session_timeout
        self._loop_queue = loop_queue
        self._loop = asyncio.get_running_loop()
        self._commands: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._started: asyncio.Future[None] = self._loop.create_future()
        self._ended = self._loop.create_future()
        self._alive_at = time.monotonic()
        self._positions: dict[int, int] = {}  # to be committed for the group; written by the loop

        # Used by the owner thread only.
        self._consumer: KafkaConsumer
        self._membership: Membership
        self._stopping = False
        self._topic_id: uuid.UUID | None = None
        """As in the client's metadata."""
        self._partitions: AssignedPartitions
        self._generation = 0
        self._confirmations: list[_Confirmation] = []
        self._group_commit_due = time.monotonic() + GROUP_COMMIT_INTERVAL
        self._unreleased, self._unexplained = Streak(), Streak()
        self._complaint_due = 0.0

    # --- called from the loop ----------------------------------------------------------------------

    async def start(self) -> None:
        """Connect and start to join the group.

        Raises:
            KafkaError: the cluster is unreachable or refuses the connection.
        """
        threading.Thread(target=self._run, name="kafka-input", daemon=True).start()
        await asyncio.shield(self._started)

    def abandon(self) -> None:
        """Leave the group as soon as possible, without waiting."""
        self._commands.put(self._stop)

    async def stop(self, timeout: float) -> None:
        """Leave the group. A thread that does not end within `timeout` seconds is abandoned."""
        self.abandon()
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await asyncio.shield(self._ended)

    def silence(self) -> float:
        return time.monotonic() - self._alive_at

    def unanswered(self) -> float | None:
        """Seconds since a broker last answered; None before the first answer. Only after `start`."""
        at = answered_at(self._consumer)
        return None if at is None else time.monotonic() - at

    def begin(self, partition: int, offset: int, token: int) -> None:
        self._commands.put(lambda: self._partitions.begin(partition, offset, token))

    def pause(self, partition: int) -> None:
        self._commands.put(lambda: self._partitions.hold(partition))

    def resume(self, partition: int) -> None:
        self._commands.put(lambda: self._partitions.release(partition))

    def note_position(self, partition: int, offset: int) -> None:
        """Record the next input offset of a partition, to be committed for the group later."""
        self._positions[partition] = offset

    async def confirm(self, partition: int, timeout: float) -> bool:
        if self._ended.done():
            return False
        moment = time.monotonic()
        future: asyncio.Future[bool] = self._loop.create_future()
        self._commands.put(lambda: self._await_confirmation(partition, moment, future))
        try:
            async with asyncio.timeout(timeout):
                return await future
        except TimeoutError:
            return False

    # --- the owner thread ------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._open()
        except BaseException as error:
            post_to(self._loop, resolve, self._started, None, error)
            post_to(self._loop, resolve, self._ended, None, None)
            return
        post_to(self._loop, resolve, self._started, None, None)
        try:
            while not self._stopping:
                self._turn()
        except FatalLogError as error:
            self._loop_queue.fail(error)
        except BaseException as error:
            _log.exception("kafka.consumer.died")
            self._loop_queue.fail(
                FatalLogError(f"the thread of the Kafka consumer failed: {describe(error)}")
            )
        finally:
            self._close()
            post_to(self._loop, resolve, self._ended, None, None)

    def _open(self) -> None:
        self._consumer = self._clients.group_consumer(
            self._group_id, self._instance_id, self._session_timeout
        )
        self._alive_at = time.monotonic()
        self._membership = Membership(self._consumer)
        self._partitions = AssignedPartitions(self._consumer, self._topic, self._loop_queue)
        self._consumer.subscribe([self._topic], listener=_Listener(self))
        # A leader that joins before it knows the topic assigns nothing and must rebalance again.
        self._consumer.partitions_for_topic(self._topic)

    def _turn(self) -> None:
        """Run the queued commands, poll once, hand over the records, and do the periodic work."""
        self._alive_at = time.monotonic()
        self._obey()
        if self._stopping:
            return
        self._partitions.throttle()
        self._poll()
        self._check_membership()
        self._confirm()
        self._partitions.tell_progress()
        self._commit_group_offsets()

    def _obey(self) -> None:
        with suppress(queue.Empty):
            while True:
                self._commands.get_nowait()()

    def _poll(self) -> None:
        try:
            polled = self._consumer.poll(
                timeout_ms=THROTTLED_POLL_MS if self._partitions.throttled else POLL_MS
            )
        except OffsetOutOfRangeError as error:
            self._partitions.lose(error.args[0], "it was deleted, or is beyond the end of the log")
        except LogTruncationError as error:
            cut = {tp: found.offset if found else None for tp, found in error.divergent_offsets.items()}
            self._partitions.lose(cut, "the log was truncated below the offset that had been read")
        except UnreadableBatchError as error:
            self._partitions.unreadable(error)
        except PartitionFetchError as error:
            self._complain(error)
            self._partitions.unserved(error)
            time.sleep(RETRY_PAUSE)
        except UnreleasedInstanceIdError as error:
            self._await_release(error)
        except FencedInstanceIdError as error:
            raise self._fenced() from error
        except RetriableError as error:
            self._complain(error)
            time.sleep(RETRY_PAUSE)
        except KafkaError as error:
            if is_fatal(error) or self._unexplained.note(time.monotonic()) > UNEXPLAINED_MAX:
                raise FatalLogError(f"the Kafka consumer cannot continue: {self._refused(error)}") from error
            self._complain(error)
            time.sleep(RETRY_PAUSE)
        else:
            self._check_topic()
            self._partitions.hand_over(polled)

    def _refused(self, error: KafkaError) -> str:
        of_group = isinstance(error, GroupAuthorizationFailedError)
        return explained(error, "Read", f"group {self._group_id}" if of_group else f"topic {self._topic}")

    def _check_topic(self) -> None:
        """Detect a topic that was deleted and created again, before its records are handed over.

        Records are fetched by topic name. If the new topic is long enough, its records arrive at the old offsets.
        """
        topic_id = known_topic_id(self._consumer, self._topic)
        if topic_id is None or topic_id == self._topic_id:
            return  # None: the metadata does not contain the topic at the moment
        if self._topic_id is not None:
            self._partitions.lose_all("the topic was deleted and created again")
        self._topic_id = topic_id

    def _complain(self, error: KafkaError) -> None:
        now = time.monotonic()
        if now >= self._complaint_due:
            self._complaint_due = now + COMPLAINT_INTERVAL
            _log.warning("kafka.consumer.trouble", error=describe(error))

    # commands

    def _await_confirmation(self, partition: int, moment: float, future: asyncio.Future[bool]) -> None:
        if partition in self._partitions.owned:
            self._confirmations.append(_Confirmation(partition, self._generation, moment, future))
        else:
            post_to(self._loop, resolve, future, False, None)

    def _stop(self) -> None:
        self._stopping = True

    # duties

    def _confirm(self) -> None:
        if not self._confirmations:
            return
        waiting: list[_Confirmation] = []
        for confirmation in self._confirmations:
            if confirmation.future.done():
                continue  # it timed out
            if confirmation.generation != self._generation:
                post_to(self._loop, resolve, confirmation.future, False, None)
            elif self._membership.confirmed_since(confirmation.moment):
                post_to(self._loop, resolve, confirmation.future, True, None)
            else:
                self._membership.hurry(confirmation.moment)
                waiting.append(confirmation)
        self._confirmations = waiting

    def _check_membership(self) -> None:
        if self._membership.fenced:
            raise self._fenced()
        age = self._membership.heartbeat_age
        if age is not None and age > self._session_timeout + HEARTBEAT_SILENCE_EXTRA:
            raise FatalLogError(f"no heartbeat has been sent to the consumer group for {age:.0f} s")

    def _fenced(self) -> FatalLogError:
        return FatalLogError(
            f"another process has joined the consumer group {self._group_id} as {self._instance_id} "
            "(FENCED_INSTANCE_ID): kafka.group_instance_id must be unique in the group"
        )

    def _await_release(self, error: UnreleasedInstanceIdError) -> None:
        """Wait for the session of another member with our instance id, which may have died, to expire.

        Brokers send this error to members of the consumer protocol (KIP-848) only. In the classic protocol, which this
        client speaks, the newer member replaces the older one.
        """
        self._complain(error)
        if self._unreleased.note(time.monotonic()) > self._session_timeout:
            raise FatalLogError(
                f"another member of the group still uses the instance id {self._instance_id} after the session "
                f"time-out of {self._session_timeout:.0f} s (UNRELEASED_INSTANCE_ID)"
            ) from error
        time.sleep(RETRY_PAUSE)

    def _commit_group_offsets(self) -> None:
        now = time.monotonic()
        if now < self._group_commit_due or not self._positions:
            return
        self._group_commit_due = now + GROUP_COMMIT_INTERVAL
        with suppress(KafkaError):  # the next commit covers it
            if offsets := self._take_group_offsets():
                self._consumer.commit_async(offsets)

    def _take_group_offsets(self) -> dict[TopicPartition, OffsetAndMetadata]:
        offsets = {}
        for partition in list(self._positions):
            position = self._positions.pop(partition, None)
            if position is not None and partition in self._partitions.owned:
                offsets[TopicPartition(self._topic, partition)] = OffsetAndMetadata(position, "", -1)
        return offsets

    def _close(self) -> None:
        try:
            with suppress(KafkaError):
                if offsets := self._take_group_offsets():
                    self._consumer.commit(offsets, timeout_ms=FINAL_COMMIT_MS)
            self._consumer.close(autocommit=False, timeout_ms=CLOSE_MS)
        except Exception as error:
            _log.warning("kafka.consumer.close_failed", error=describe(error))

    # --- the listener, on the client's I/O thread, while the owner waits ---------------------------------

    def partitions_gone(self, partitions: Iterable[TopicPartition]) -> None:
        gone = frozenset(tp.partition for tp in partitions)
        self._generation += 1
        self._partitions.gone(gone)
        if gone and not self._stopping:
            self._loop_queue.put(Revoked(gone))

    def partitions_assigned(self, partitions: Iterable[TopicPartition]) -> None:
        self._partitions.assigned(tp.partition for tp in partitions)
        self._loop_queue.put(Assigned(frozenset(self._partitions.owned)))


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    """Must be fast. No heartbeat is sent while it runs."""

    def __init__(self, owner: InputConsumer) -> None:
        self._owner = owner

    def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        self._owner.partitions_gone(revoked)

    def on_partitions_lost(self, lost: Iterable[TopicPartition]) -> None:
        self._owner.partitions_gone(lost)

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        self._owner.partitions_assigned(assigned)
