"""The subscribers to the runtime's events: health, metrics and logs. Only this module defines how each handles an event."""

from __future__ import annotations

from typing import Any

import structlog

from daemon.codec.times import iso_ms
from daemon.core.answers import Accepted, Done, NoAnswer, PollAnswer, Refused
from daemon.core.step import Step, TaskAccepted
from daemon.telemetry import events as e
from daemon.telemetry.health import Health
from daemon.telemetry.labels import Rebalance, TaskSource
from daemon.telemetry.metrics import Metrics
from daemon.telemetry.projection import count, resend_of

log = structlog.get_logger()

_OTHER_KEY = "put the right API key into the key file"
_REMEDIES = {"PLATFORM.IP_NOT_WHITELISTED": "add our IP address to the allowed addresses of the API key"}
"""What ends a halt, by the API's code."""


def subscribed(health: Health, metrics: Metrics, *others: e.Observer) -> e.Observers:
    """All subscribers of a replica."""
    return e.Observers(HealthSubscriber(health), MetricsSubscriber(metrics), LogSubscriber(), *others)


class HealthSubscriber:
    def __init__(self, health: Health) -> None:
        self._health = health

    def notify(self, event: e.Event) -> None:
        health = self._health
        match event:
            case e.DrainStarted():
                health.draining()
            case e.Halted():
                health.halted(event.code)
            case e.Resumed():
                health.halted(None)
            case e.PartitionsAssigned():
                health.revoked(event.gone)
                health.assigned(event.partitions)
            case e.PartitionRestoring():
                health.restoring(event.partition)
                health.warned(event.partition, event.warning)
            case e.PartitionRunning():
                health.restored(event.partition)
            case e.PartitionBlocked():
                health.blocked(event.partition, event.sentence)
            case e.InputHeldBack():
                health.warned(event.partition, event.sentence)
            case e.InputReleased():
                health.warned(event.partition, None)
            case _:
                pass  # the state of the process does not change


class MetricsSubscriber:
    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def notify(self, event: e.Event) -> None:
        metrics = self._metrics
        match event:
            case e.StepCommitted():
                metrics.commit(event.seconds)
                count(metrics, event.step, event.now)
            case e.PollStarted():
                metrics.poll_started(event.delay)
            case e.BatchAnswered():
                if event.is_open and (reason := resend_of(event.verdict)) is not None:
                    metrics.http_retry(reason)
            case e.PartitionsAssigned():
                metrics.rebalance(Rebalance.ASSIGNED)
            case e.PartitionsRevoked():
                metrics.rebalance(Rebalance.REVOKED)
            case e.PartitionDropped():
                metrics.shard_dropped(event.reason)
            case e.PartitionRestored():
                metrics.task_created(TaskSource.RESTORE, event.tasks)
            case e.PoliciesUsed():
                metrics.policies_read(successful=True)
            case e.PoliciesRejected():
                metrics.policies_read(successful=False)
            case e.RecordsMisplaced():
                metrics.misplaced(event.first.reason, event.count)
            case e.RestoreProgressed():
                metrics.restore_progress(event.records)
            case e.RestoreFinished():
                metrics.restore_finished(event.seconds)
            case _:
                pass  # nothing is counted


class LogSubscriber:
    """Event names and fields of log lines are part of the interface: dashboards and operators search for them."""

    def notify(self, event: e.Event) -> None:
        match event:
            case e.StepCommitted():
                _log_shared_ids(event.step)
            case e.BatchAnswered():
                _log_answer(event)
            case e.PollFailed():
                log.info("task.poll_failed", task=event.task, answer=_answer_text(event.answer))
            case e.KeyProbed():
                log.warning("api.key_probed", key=event.evidence.value, answer=_answer_text(event.answer))
            case e.BatchDelayed():
                log.warning(
                    "batch.waits_for_api_clock",
                    batch=event.batch,
                    integration=event.integration,
                    seconds=round(event.seconds, 1),
                    reason="created_at of an earlier task is ahead of the API's clock (Date)",
                )
            case e.ControlChanged():
                log.info(
                    "control.changed",
                    paused=[pause.integration for pause in event.pauses],
                    given_up=event.given_up,
                )
            case e.ControlUnreadable():
                log.warning("control.unreadable", error=event.error, last_read=iso_ms(event.read_ms))
            case e.ControlRecordInvalid():
                log.warning("control.record_invalid", offset=event.offset, error=event.error)
            case e.DrainStarted():
                log.info("drain.started", timeout_s=event.timeout)
            case e.DrainTimedOut():
                log.warning("drain.timed_out", timeout_s=event.timeout)
            case e.DrainFinished():
                log.info("drain.finished")
            case e.Halted(is_news=True):
                log.error("api.halted", reason=event.reason, action=_REMEDIES.get(event.code, _OTHER_KEY))
            case e.Resumed():
                log.warning("api.resumed", reason=event.reason)
            case e.PoliciesUsed():
                log.info("policies.read", tables=list(event.tables), changed=event.is_news)
            case e.PoliciesRejected():
                log.error(
                    "policies.rejected",
                    mistakes=list(event.mistakes),
                    action="correct the configuration; until then the earlier tables of integrations count",
                )
            case e.RestartNeeded():
                log.warning(
                    "settings.changed",
                    settings=list(event.settings),
                    action="restart this process to use them; only the tables of integrations change without a restart",
                )
            case e.DefectFound(batch=str(batch)):
                log.error("batch.defect", partition=event.partition, batch=batch, exc_info=event.error)
            case e.DefectFound(task=str(task)):
                log.error("task.defect", partition=event.partition, task=task, exc_info=event.error)
            case e.DefectFound():
                log.error("partition.defect", partition=event.partition, exc_info=event.error)
            case e.JournalUnreadable():
                log.warning(
                    "journal.unreadable", partition=event.partition, batch=event.batch, error=event.error
                )
            case _:
                _log_partition(event)


def _log_partition(event: e.Event) -> None:
    match event:
        case e.PartitionsRevoked():
            log.info("partitions.revoked", partitions=sorted(event.partitions))
        case e.PartitionsAssigned():
            log.info("partitions.assigned", partitions=sorted(event.partitions))
        case e.PartitionRestored():
            log.info(
                "partition.restored",
                partition=event.partition,
                offset=event.offset,
                batches=event.batches,
                waiting=event.waiting,
            )
        case e.CoursesLoaded():
            log.info(
                "courses.loaded",
                partition=event.partition,
                courses=event.courses,
                seconds=round(event.seconds, 1),
            )
        case e.CoursesNotLoaded():
            log.warning("courses.not_loaded", partition=event.partition, error=event.error)
        case e.PartitionUnconfirmed():
            log.warning("partition.unconfirmed", partition=event.partition)
        case e.PartitionDropped(error=str(error)):
            log.warning(
                "partition.dropped", partition=event.partition, reason=event.reason.value, error=error
            )
        case e.PartitionBlocked(is_news=True):
            log.error("partition.blocked", partition=event.partition, error=event.sentence)
        case e.PartitionReopened():
            log.warning("partition.reopened", partition=event.partition, reason=event.sentence)
        case e.InputUnreadable():
            log.warning(
                "input.unreadable", partition=event.partition, offset=event.offset, error=event.sentence
            )
        case e.InputUnseen():
            log.warning("input.unseen", partition=event.partition, error=event.error)
        case e.InputHeldBack(is_news=True):
            log.warning("partition.held_back", partition=event.partition, error=event.sentence)
        case e.RecordsMisplaced(is_news=True):
            log.warning(
                "input.misplaced",
                partition=event.partition,
                offset=event.first.offset,
                reason=event.first.reason.value,
                expected_partition=event.first.expected,
                partitioner=event.partitioner,
                action="changes of one course may be in several partitions and overtake each other; run coursesyncd check",
            )
        case e.InputReleased(offset=int(offset)):
            log.info("input.released", partition=event.partition, offset=offset)
        case _:
            pass  # too frequent, or not useful to an operator


def _log_shared_ids(step: Step) -> None:
    for fact in step.facts:
        if isinstance(fact, TaskAccepted) and fact.is_shared:
            log.warning(
                "task.id_shared",
                task=fact.task_id,
                batch=fact.batch_id,
                integration=fact.integration_id,
                reason="the API gave this submission the task id of another open one; report it to the API's support",
            )


def _log_answer(event: e.BatchAnswered) -> None:
    where: dict[str, Any] = {
        "partition": event.partition,
        "batch": event.batch,
        "integration": event.integration,
    }
    if event.is_open:
        where["again_in_s"] = round(event.again_in, 1)
    match event.answer:
        case Accepted() as answer:
            log.debug("batch.accepted", task=answer.task_id, items=event.items, **where)
            for warning in answer.warnings:
                log.warning("api.warning", message=warning, **where)
        case Done() as answer:
            log.debug("batch.done", course=answer.course_id, **where)
            for warning in answer.warnings:
                log.warning("api.warning", message=warning, **where)
        case Refused() as answer:
            log.warning(
                "batch.refused",
                status=answer.status,
                code=answer.error.code,
                message=answer.error.message,
                verdict=event.verdict.value,
                retry_after_s=answer.retry_after,
                **where,
            )
        case NoAnswer() as answer:
            log.warning("batch.unanswered", trouble=answer.reason.value, detail=answer.detail, **where)


def _answer_text(answer: PollAnswer) -> str:
    match answer:
        case NoAnswer():
            return f"{answer.reason.value}: {answer.detail}"
        case Refused():
            return f"HTTP {answer.status} {answer.error.code or ''}: {answer.error.message}"
        case _:
            return type(answer).__name__
