"""What a scrape says: all of the catalogue and nothing else, figures that are right, and never an id."""

from __future__ import annotations

import random
import re
from dataclasses import replace
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from daemon.core.answers import NoAnswerReason
from daemon.core.model import Error, Now, Rejection, RejectReason, Result, Status
from daemon.core.step import (
    BatchSealed,
    LateWatched,
    Step,
    TaskAccepted,
    TaskEnded,
    TaskLost,
    TaskOutcome,
    Trigger,
)
from daemon.core.task_durations import SizeClass
from daemon.core.waiting import WaitReason, Waits
from daemon.telemetry import projection
from daemon.telemetry.catalogue import CATALOGUE, PENDING_AGE
from daemon.telemetry.health import Health
from daemon.telemetry.labels import CertificateUsage, DropReason, LogLevel, Rebalance, Resend, TaskSource
from daemon.telemetry.metric import Kind
from daemon.telemetry.metrics import Metrics, pending_ages
from daemon.telemetry.snapshot import Lag, Snapshot, nothing_yet
from tests.tools import metrics_page

NOW = Now(wall=1_790_000_000_000, mono=1000.0)
SERIES_MAX = 350


def make(health: Health | None = None) -> Metrics:
    health = health or Health(("input", "poll"), lambda: NOW)
    return Metrics(health, version="1.2.3", input_topic="course-changes", task_timeout_s=86400.0)


def series(metrics: Metrics) -> dict[str, float]:
    """Each line of the exposition that is a sample: its name and labels as written, and its value."""
    lines = metrics.exposition().decode().splitlines()
    return {
        name: float(value)
        for name, value in (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    }


def with_snapshot(**figures: Any) -> Metrics:
    health = Health(("input",), lambda: NOW)
    health.assigned({0, 1})
    metrics = make(health)
    snapshot = replace(nothing_yet(), now_ms=NOW.wall, **figures)
    metrics.observe(lambda: snapshot)
    return metrics


def ended(
    outcome: TaskOutcome = TaskOutcome.COMPLETED,
    *,
    begun: int = 90,
    completed: int | None = None,
    accepted: int = 88,
    seen: int = 0,
    polls: int = 1,
    items: int = 5,
) -> TaskEnded:
    """Times in seconds before now."""

    def at(ago: int) -> int:
        return NOW.wall - ago * 1000

    completed_at = None if completed is None else at(completed)
    return TaskEnded(outcome, at(begun), completed_at, at(accepted), at(seen), polls, items, "b")


# --- the catalogue --------------------------------------------------------------------------------


def holding_partitions() -> Metrics:
    return with_snapshot(lag={0: Lag(1, NOW.wall)})


def test_a_scrape_has_every_metric_of_the_catalogue_and_no_other() -> None:
    families = text_string_to_metric_families(holding_partitions().exposition().decode())
    scraped = {sample.name for family in families for sample in family.samples}

    described: set[str] = set()
    for metric in CATALOGUE:
        suffixes = {
            Kind.HISTOGRAM: ("_bucket", "_count", "_sum"),
            Kind.GAUGE_HISTOGRAM: ("_bucket", "_gcount", "_gsum"),
        }.get(metric.kind, ("",))
        described.update(metric.name + suffix for suffix in suffixes)

    assert scraped == described


def test_types_and_labels_are_those_of_the_catalogue() -> None:
    text = holding_partitions().exposition().decode()
    types = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))
    for metric in CATALOGUE:
        expected = "histogram" if metric.kind is Kind.GAUGE_HISTOGRAM else metric.kind.value
        assert types[metric.name] == expected, metric.name
        samples = re.findall(rf"^{metric.name}(?:_bucket)?(?:{{(.*)}})? \S+$", text, re.MULTILINE)
        assert samples, metric.name
        for labels in samples:
            names = set(re.findall(r'(\w+)="', labels)) - {"le"}
            assert names == set(metric.label_names), metric.name


def test_every_known_label_value_is_a_series_at_0_from_the_start() -> None:
    found = series(make())
    for metric in CATALOGUE:
        known = [label.values for label in metric.labels if label.values is not None]
        if not metric.labels or len(known) < len(metric.labels):
            continue
        for values in product(*known):
            pairs = sorted(zip(metric.label_names, values, strict=True))
            labels = ",".join(f'{name}="{value}"' for name, value in pairs)
            suffix = "_count" if metric.kind is Kind.HISTOGRAM else ""
            name = f"{metric.name}{suffix}{{{labels}}}"
            assert found[name] == (1.0 if name.endswith('{state="starting"}') else 0.0), name


def test_the_reference_page_is_that_of_the_catalogue() -> None:
    page = Path(__file__).parents[2] / "docs" / "metrics.md"
    assert page.read_text(encoding="utf-8") == metrics_page.page(), (
        "docs/metrics.md differs from the catalogue: python -m tests.tools.metrics_page > docs/metrics.md"
    )


def test_instances_do_not_share_anything() -> None:
    one, other = make(), make()
    one.commit(0.01)
    assert series(one)["coursesync_commits_total"] == 1
    assert series(other)["coursesync_commits_total"] == 0


def test_nothing_is_described_that_nobody_feeds() -> None:
    """Every method that counts is used by the runtime, the command line or the projection."""
    root = Path(__file__).parents[2] / "daemon"
    sources = [path for path in root.rglob("*.py") if path != root / "telemetry" / "metrics.py"]
    used: set[str] = set()
    for path in sources:
        used.update(re.findall(r"\b_?metrics\.(\w+)", path.read_text(encoding="utf-8")))
    assert {name for name, member in vars(Metrics).items() if callable(member) and name[0] != "_"} <= used


# --- bounds ---------------------------------------------------------------------------------------


def step(**contents: Any) -> Step:
    empty = Step(
        journal=[],
        results=[],
        corrections=[],
        rejections=[],
        courses=[],
        facts=[],
        next_offset=1,
        topic_id="topic-id",
        consumed=0,
        changes={},
        batches=[],
    )
    return replace(empty, **contents)


def result(status: Status, integration_id: str = "i", origin_id: str = "o", consumed_at: int = 0) -> Result:
    return Result(
        offset=1,
        status=status,
        integration_id=integration_id,
        origin_id=origin_id,
        change_id=f"chg-{origin_id}",
        consumed_at=consumed_at,
        resolved_at=NOW.wall,
        error=Error("E", f"about {origin_id}"),
        task_id=f"task-{origin_id}",
        batch_id=f"batch-{origin_id}",
    )


def rejection(reason: RejectReason, text: str = "x") -> Rejection:
    return Rejection(1, reason, Error("E", text), text, text, text, 0, text.encode(), text.encode(), ())


def sealed(name: str = "b", trigger: Trigger = Trigger.LINGER) -> BatchSealed:
    return BatchSealed(name, name, items=3, body_bytes=2000, trigger=trigger)


def test_ten_thousand_ids_leave_no_trace_and_make_no_series() -> None:
    dice = random.Random(7)
    ids = [f"{dice.getrandbits(64):016x}" for _ in range(10_000)]
    health = Health(("input", "poll", "batch", "log"), lambda: NOW)
    health.assigned({0})
    metrics = make(health)
    waiting: dict[Any, Waits] = dict.fromkeys(ids, Waits(1, NOW.wall))
    metrics.observe(
        lambda: replace(
            nothing_yet(),
            now_ms=NOW.wall,
            pending_created_ms=(NOW.wall - int(x, 16) % 10**8 for x in ids),
            waiting=waiting,
            imbalance=dict.fromkeys(range(len(ids)), 0),
            http_in_flight=dict.fromkeys(ids, 1),
            lag={n: Lag(n, n) for n in range(len(ids))},
        )
    )
    statuses, reasons = list(Status), list(RejectReason)
    for n, id_ in enumerate(ids):
        health.blocked(0, f"record {id_} cannot be written")
        health.halted(id_)
        metrics.http("submit", id_, 0.1)
        facts = [
            sealed(id_),
            TaskAccepted(id_, id_, id_, is_shared=True),
            TaskLost(id_, id_, bulk=False),
            LateWatched(id_),
            ended(TaskOutcome.FAILED),
        ]
        projection.count(
            metrics,
            step(
                results=[result(statuses[n % len(statuses)], id_, id_)],
                rejections=[rejection(reasons[n % len(reasons)], id_)],
                facts=facts,
                consumed=1,
            ),
            NOW,
        )

    found = series(metrics)
    assert found['coursesync_results_total{status="FAILED"}'] == 1667, "the ids did go through"
    assert len(found) < SERIES_MAX
    text = metrics.exposition().decode()
    assert not [id_ for id_ in ids if id_ in text]


def test_a_quantile_of_a_duration_is_known_to_a_factor_of_little_more_than_three() -> None:
    for metric in CATALOGUE:
        if metric.kind is Kind.HISTOGRAM and metric.name.endswith("_seconds"):
            bounds = metric.buckets
            assert max(above / below for below, above in pairwise(bounds)) <= 10 / 3, (metric.name, bounds)


def test_no_label_value_from_outside_the_enums_is_taken() -> None:
    metrics = make()
    outside: Any = "course-17"  # which the types do not let through
    with pytest.raises(KeyError):
        metrics.results(outside, 1.0)
    with pytest.raises(KeyError):
        metrics.http_retry(outside)
    with pytest.raises(KeyError):
        metrics.http("course-17", "2xx", 1.0)
    assert "course-17" not in metrics.exposition().decode()


# --- what happens ---------------------------------------------------------------------------------


def test_a_committed_step_is_counted() -> None:
    metrics = make()
    projection.count(
        metrics,
        step(
            consumed=5,
            rejections=[rejection(RejectReason.MALFORMED), rejection(RejectReason.COURSE)],
            results=[
                result(Status.SUCCEEDED, consumed_at=NOW.wall - 70_000),
                result(Status.SUPERSEDED),
                result(Status.REJECTED),
                result(Status.REJECTED),
            ],
            facts=[
                sealed(trigger=Trigger.ITEMS),
                TaskAccepted("b", "i", "t", is_shared=False),
                TaskAccepted("c", "i", "t", is_shared=True),
                ended(completed=20, polls=4),
            ],
        ),
        NOW,
    )
    found = series(metrics)
    assert found['coursesync_changes_consumed_total{type="course.upserted"}'] == 4
    assert found['coursesync_changes_consumed_total{type="other"}'] == 1
    assert found['coursesync_changes_rejected_total{reason="malformed"}'] == 1
    assert found['coursesync_changes_rejected_total{reason="course"}'] == 1
    assert found["coursesync_changes_superseded_total"] == 1
    assert found['coursesync_results_total{status="SUCCEEDED"}'] == 1
    assert found['coursesync_results_total{status="REJECTED"}'] == 2
    assert found['coursesync_result_latency_seconds_sum{status="SUCCEEDED"}'] == 70
    assert found['coursesync_batches_sealed_total{trigger="items"}'] == 1
    assert found["coursesync_batch_items_sum"] == 3
    assert found["coursesync_batch_bytes_sum"] == 2000
    assert found['coursesync_tasks_created_total{source="submit"}'] == 2
    assert found["coursesync_task_ids_shared_total"] == 1
    assert found['coursesync_tasks_finished_total{outcome="completed"}'] == 1
    assert found['coursesync_task_duration_seconds_sum{outcome="completed"}'] == 70
    assert found['coursesync_task_polls_sum{size="2-20"}'] == 4
    assert found['coursesync_detection_lag_seconds_sum{size="2-20"}'] == 20


@pytest.mark.parametrize(
    ("task", "durations", "lags"),
    [
        pytest.param(ended(completed=20), 70, 20, id="completed"),
        pytest.param(ended(TaskOutcome.FAILED, completed=20), 70, 20, id="failed"),
        pytest.param(
            ended(begun=3600, completed=3000, accepted=40),
            600,
            40,
            id="the submission was sent again, after its task had ended",
        ),
        pytest.param(ended(completed=20, seen=5), 70, 15, id="the commit took 5 s"),
        pytest.param(ended(TaskOutcome.TIMED_OUT), None, None, id="timed out"),
        pytest.param(ended(TaskOutcome.STALE, begun=7200, completed=3600), None, None, id="stale"),
        pytest.param(ended(TaskOutcome.STALE, begun=7200), None, None, id="stale and still pending"),
    ],
)
def test_durations_and_lags_are_those_of_the_task_of_this_submission(
    task: TaskEnded, durations: int | None, lags: int | None
) -> None:
    metrics = make()
    projection.count(metrics, step(facts=[task]), NOW)
    found = series(metrics)
    outcome = f'{{outcome="{task.outcome}"}}'
    assert found[f"coursesync_tasks_finished_total{outcome}"] == 1
    assert found['coursesync_task_polls_count{size="2-20"}'] == 1
    assert found.get(f"coursesync_task_duration_seconds_sum{outcome}", 0) == (durations or 0)
    assert found.get(f"coursesync_task_duration_seconds_count{outcome}", 0) == (durations is not None)
    assert found['coursesync_detection_lag_seconds_sum{size="2-20"}'] == (lags or 0)
    assert found['coursesync_detection_lag_seconds_count{size="2-20"}'] == (lags is not None)


def test_results_that_are_known_without_the_api_have_no_latency() -> None:
    metrics = make()
    for status in Status:
        metrics.results(status, 1.0)
    counted = [name for name, n in series(metrics).items() if "latency_seconds_count" in name and n]
    assert {name.split('"')[1] for name in counted} == {"SUCCEEDED", "FAILED", "TIMED_OUT"}
    assert series(metrics)['coursesync_results_total{status="SUPERSEDED"}'] == 1


def test_a_lost_task_is_a_submission_again() -> None:
    metrics = make()
    projection.count(metrics, step(facts=[TaskLost("b", "b", bulk=False)]), NOW)
    assert series(metrics)['coursesync_http_retries_total{reason="lost"}'] == 1


def test_a_clock_that_was_set_back_makes_no_negative_durations() -> None:
    metrics = make()
    metrics.results(Status.SUCCEEDED, -5.0)
    metrics.task_lasted(TaskOutcome.COMPLETED, -5.0)
    metrics.end_detected(-5.0, SizeClass.SINGLE)
    metrics.poll_started(-0.5)
    found = series(metrics)
    assert found['coursesync_result_latency_seconds_sum{status="SUCCEEDED"}'] == 0
    assert found['coursesync_task_duration_seconds_sum{outcome="completed"}'] == 0
    assert found['coursesync_detection_lag_seconds_sum{size="1"}'] == 0
    assert found["coursesync_schedule_delay_seconds_sum"] == 0


def test_what_the_runtime_tells_is_counted() -> None:
    metrics = make()
    metrics.task_created(TaskSource.RESTORE, 7)
    metrics.http_retry(Resend.RETRY)
    metrics.commit(0.25)
    metrics.shard_dropped(DropReason.FENCED)
    metrics.restore_progress(500)
    metrics.restore_progress(20)
    metrics.restore_finished(1.5)
    metrics.rebalance(Rebalance.ASSIGNED)
    metrics.log_message(LogLevel.WARNING)
    metrics.certificate(CertificateUsage.KAFKA_CLIENT, 1_800_000_000)
    found = series(metrics)
    assert found['coursesync_tasks_created_total{source="restore"}'] == 7
    assert found['coursesync_http_retries_total{reason="retry"}'] == 1
    assert found["coursesync_commits_total"] == 1
    assert found["coursesync_commit_duration_seconds_sum"] == 0.25
    assert found['coursesync_shard_drops_total{reason="fenced"}'] == 1
    assert found["coursesync_restore_records_total"] == 520
    assert found["coursesync_restore_duration_seconds"] == 1.5
    assert found['coursesync_kafka_rebalances_total{event="assigned"}'] == 1
    assert found['coursesync_log_messages_total{level="warning"}'] == 1
    assert (
        found['coursesync_tls_certificate_not_after_timestamp_seconds{usage="kafka_client"}'] == 1_800_000_000
    )


@pytest.mark.parametrize("status", ["2xx", "3xx", "4xx", "429", "5xx", *NoAnswerReason])
def test_calls_are_counted_by_how_they_ended(status: str) -> None:
    metrics = make()
    metrics.http("poll", status, 0.2)
    found = series(metrics)
    counted = {name for name, value in found.items() if "http_requests_total" in name and value}
    assert counted == {f'coursesync_http_requests_total{{endpoint="poll",status="{status}"}}'}
    assert found['coursesync_http_request_duration_seconds_sum{endpoint="poll"}'] == 0.2


def test_a_status_that_http_does_not_have_is_a_protocol_error() -> None:
    metrics = make()
    metrics.http("submit", "9xx", 0.2)
    found = series(metrics)
    assert found['coursesync_http_requests_total{endpoint="submit",status="protocol_error"}'] == 1


# --- what is --------------------------------------------------------------------------------------


def test_before_there_is_a_runtime_nothing_is_pending() -> None:
    found = series(make())
    assert found["coursesync_pending_tasks"] == 0
    assert found["coursesync_pending_oldest_created_timestamp_seconds"] == 0
    assert found["coursesync_pending_age_seconds_gcount"] == 0
    assert found['coursesync_lifecycle_state{state="starting"}'] == 1
    assert found['coursesync_build_info{version="1.2.3"}'] == 1
    assert found["coursesync_process_start_timestamp_seconds"] == NOW.wall / 1000
    assert found["coursesync_task_timeout_seconds"] == 86400


def test_pending_tasks_are_told_by_age() -> None:
    ages_s = [5, 10, 11, 7200, 90_000]
    found = series(
        with_snapshot(
            pending_created_ms=(NOW.wall - age * 1000 for age in ages_s),
            pending_items=321,
            pending_timeout_ratio=0.75,
        )
    )
    assert found["coursesync_pending_tasks"] == 5
    assert found["coursesync_pending_items"] == 321
    assert found["coursesync_pending_timeout_ratio"] == 0.75
    assert found["coursesync_pending_oldest_created_timestamp_seconds"] == NOW.wall / 1000 - 90_000
    assert found['coursesync_pending_age_seconds_bucket{le="10.0"}'] == 2
    assert found['coursesync_pending_age_seconds_bucket{le="60.0"}'] == 3
    assert found['coursesync_pending_age_seconds_bucket{le="86400.0"}'] == 4
    assert found['coursesync_pending_age_seconds_bucket{le="+Inf"}'] == 5
    assert found["coursesync_pending_age_seconds_gcount"] == 5
    assert found["coursesync_pending_age_seconds_gsum"] == sum(ages_s)


@given(st.lists(st.integers(min_value=-50_000_000, max_value=100_000_000)))
def test_pending_ages_are_what_counting_them_one_by_one_gives(ages_ms: list[int]) -> None:
    family = pending_ages(sorted(NOW.wall - age for age in ages_ms), NOW.wall)
    ages_s = [max(age, 0) / 1000 for age in ages_ms]
    values = {(sample.name, sample.labels.get("le")): sample.value for sample in family.samples}
    for bound in PENDING_AGE.buckets:
        assert values[PENDING_AGE.name + "_bucket", f"{bound:.1f}"] == sum(age <= bound for age in ages_s)
    assert values[PENDING_AGE.name + "_gcount", None] == len(ages_s)
    assert values[PENDING_AGE.name + "_gsum", None] == pytest.approx(sum(ages_s))


def test_what_the_runtime_holds_is_read_at_each_scrape() -> None:
    held: list[Snapshot] = []
    metrics = make()
    metrics.observe(lambda: held[-1])
    held.append(
        replace(
            nothing_yet(),
            waiting={WaitReason.WINDOW: Waits(4, 3000)},
            restore_remaining=1234,
            imbalance={0: 2, 1: -2},
            blind_tasks=2,
            blind_since_ms=5000,
            http_in_flight={"poll": 3},
            commit_since_ms=7000,
            paused=2,
            topic_partitions=12,
        )
    )
    found = series(metrics)
    assert found['coursesync_changes_waiting{reason="window"}'] == 4
    assert found['coursesync_changes_waiting{reason="backoff"}'] == 0
    assert found['coursesync_waiting_oldest_consumed_timestamp_seconds{reason="window"}'] == 3
    assert found['coursesync_waiting_oldest_consumed_timestamp_seconds{reason="parked"}'] == 0
    assert found["coursesync_restore_remaining_records"] == 1234
    assert found["coursesync_contract_imbalance"] == 4, (
        "what is lost here does not hide what is doubled there"
    )
    assert found["coursesync_poll_blind_tasks"] == 2
    assert found["coursesync_partitions_paused"] == 2
    assert found["coursesync_poll_blind_oldest_timestamp_seconds"] == 5
    assert found['coursesync_http_in_flight_requests{endpoint="poll"}'] == 3
    assert found["coursesync_commit_oldest_pending_timestamp_seconds"] == 7
    assert found['coursesync_kafka_topic_partitions{topic="course-changes"}'] == 12

    held.append(nothing_yet())
    found = series(metrics)
    assert found['coursesync_changes_waiting{reason="window"}'] == 0
    assert found['coursesync_waiting_oldest_consumed_timestamp_seconds{reason="window"}'] == 0
    assert found["coursesync_commit_oldest_pending_timestamp_seconds"] == 0


def test_no_integration_is_healthy_while_the_process_is_halted() -> None:
    health = Health(("input",), lambda: NOW)
    metrics = make(health)
    metrics.observe(lambda: replace(nothing_yet(), integrations={"healthy": 7, "parked": 2}))

    def counted() -> dict[str, float]:
        found = series(metrics).items()
        return {name.split('"')[1]: n for name, n in found if "integrations_by_state" in name and n}

    assert counted() == {"healthy": 7, "parked": 2}
    health.halted("PLATFORM.KEY_INVALID")
    assert counted() == {"halted": 7, "parked": 2}
    health.halted(None)
    assert counted() == {"healthy": 7, "parked": 2}


def test_series_of_a_partition_end_when_it_is_revoked() -> None:
    health = Health(("input",), lambda: NOW)
    health.assigned({0, 1})
    health.blocked(1, "topic id changed")
    metrics = make(health)
    snapshot = replace(nothing_yet(), lag={0: Lag(5, 9000), 1: Lag(None, None)})
    metrics.observe(lambda: snapshot)
    of_0 = 'coursesync_kafka_consumer_lag_records{partition="0",topic="course-changes"}'
    found = series(metrics)
    assert found[of_0] == 5
    assert found[of_0.replace("consumer_lag_records", "last_record_timestamp_seconds")] == 9
    assert not [name for name in found if 'partition="1"' in name], "not known yet is not 0"
    assert found["coursesync_partitions_blocked"] == 1
    assert found['coursesync_kafka_assigned_partitions{topic="course-changes"}'] == 2

    health.revoked({0, 1})
    found = series(metrics)
    assert not [name for name in found if "partition=" in name]
    assert found["coursesync_partitions_blocked"] == 0
    assert found['coursesync_kafka_assigned_partitions{topic="course-changes"}'] == 0


def test_the_lifecycle_and_the_loops_are_those_of_health() -> None:
    health = Health(("input", "poll"), lambda: NOW)
    health.assigned({0})
    health.tick("poll")
    found = series(make(health))
    states = {name: value for name, value in found.items() if "lifecycle_state" in name}
    assert [name for name, value in states.items() if value] == [
        'coursesync_lifecycle_state{state="restoring"}'
    ]
    assert found['coursesync_loop_last_tick_timestamp_seconds{loop="poll"}'] == NOW.wall / 1000
    assert found['coursesync_loop_last_tick_timestamp_seconds{loop="input"}'] == 0
