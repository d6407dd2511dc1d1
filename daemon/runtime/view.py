"""Takes a snapshot of the runtime, for the metrics and the state page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from daemon.core.flow import Flow
from daemon.core.model import Now
from daemon.core.waiting import WaitReason, Waits, combined
from daemon.runtime.batch_ref import BatchRef
from daemon.runtime.control_following import ControlFollower
from daemon.runtime.partition import Partition
from daemon.runtime.poller import Poller
from daemon.runtime.ports import Ports
from daemon.runtime.submitter import Submitter
from daemon.telemetry.health import KAFKA_SILENCE_MAX_S
from daemon.telemetry.labels import Endpoint
from daemon.telemetry.snapshot import BackOff, Lag, Snapshot


class View:
    def __init__(
        self,
        ports: Ports,
        flow: Flow[BatchRef],
        poller: Poller,
        submitter: Submitter,
        control: ControlFollower,
    ) -> None:
        self._ports = ports
        self._control = control
        self._flow = flow
        self._poller = poller
        self._submitter = submitter

    def snapshot(self, partitions: Sequence[Partition]) -> Snapshot:
        commits = [p.commit_since_ms for p in partitions if p.commit_since_ms is not None]
        now = self._ports.clock.now()
        return Snapshot(
            now_ms=now.wall,
            pending_created_ms=_created(partitions),
            pending_tasks_max=self._ports.settings.window.batches_max_per_partition
            * sum(p.shard is not None for p in partitions),
            pending_timeout_ratio=_timeout_ratio(partitions, now.wall),
            pending_items=_items(partitions),
            waiting=_waiting(partitions),
            blind_tasks=len(self._poller.blind),
            blind_since_ms=min(self._poller.blind.values(), default=None),
            http_in_flight={
                Endpoint.SUBMIT: self._submitter.in_flight,
                Endpoint.POLL: self._poller.in_flight,
            },
            integrations=self._flow.states(now.mono),
            back_offs=[
                BackOff(
                    group.state,
                    group.reason,
                    group.integrations,
                    _wall(group.first_until, now),
                    _wall(group.last_until, now),
                )
                for group in self._flow.back_offs()
            ],
            commit_since_ms=min(commits, default=None),
            paused=sum(p.paused for p in partitions),
            stopped=sum(p.shard is not None and p.shard.rejection_limit.stop is not None for p in partitions),
            restore_remaining=sum(p.restore_remaining for p in partitions),
            known_courses=sum(len(p.shard.known) for p in partitions if p.shard is not None),
            courses_loading=sum(p.shard is not None and not p.shard.known.is_loaded for p in partitions),
            pauses=len(self._control.control.pauses),
            control_read_ms=self._control.read_ms,
            imbalance={p.number: p.imbalance for p in partitions if p.shard is not None},
            topic_partitions=next(
                (p.intake.topic_partitions for p in partitions if p.intake.topic_partitions), None
            ),
            lag={
                p.number: Lag(p.lag if self._end_is_known() else None, p.intake.last_record_ms)
                for p in partitions
            },
        )

    def _end_is_known(self) -> bool:
        """While Kafka does not answer, the end of the input as last seen says nothing about the present one."""
        unanswered = self._ports.log.unanswered()
        return unanswered is not None and unanswered < KAFKA_SILENCE_MAX_S


def _wall(mono: float | None, now: Now) -> int | None:
    return None if mono is None else now.wall + round((mono - now.mono) * 1000)


def _created(partitions: Sequence[Partition]) -> Iterator[int]:
    for partition in partitions:
        if partition.shard is not None:
            yield from partition.shard.created()


def _timeout_ratio(partitions: Sequence[Partition], now_ms: int) -> float:
    ratios = [p.shard.timeout_ratio(now_ms) for p in partitions if p.shard is not None]
    return max(ratios, default=0.0)


def _items(partitions: Sequence[Partition]) -> int:
    return sum(partition.shard.pending_items for partition in partitions if partition.shard is not None)


def _waiting(partitions: Sequence[Partition]) -> dict[WaitReason, Waits]:
    waits = [partition.shard.waits() for partition in partitions if partition.shard is not None]
    return {reason: combined(*(each[reason] for each in waits)) for reason in WaitReason}
