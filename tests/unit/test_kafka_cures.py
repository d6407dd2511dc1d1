"""The defects of kafka-python that `daemon.log.kafka.cures` cures are still in the pinned version.

A test that fails after an upgrade is good news: the module whose header names it can be deleted. Where a defect needs a
broker to show, the test looks at the code of the library that causes it; tests/log_port shows the cure on a broker.
"""

from __future__ import annotations

import ast
import inspect
import re
import tracemalloc
from collections import deque
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import kafka
import pytest
from kafka import IsolationLevel, KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import AbortTransactionSpec
from kafka.cluster import ClusterMetadata
from kafka.consumer.fetcher import Fetcher
from kafka.coordinator.base import BaseCoordinator
from kafka.coordinator.consumer import ConsumerCoordinator
from kafka.coordinator.heartbeat import Heartbeat
from kafka.errors import Cancelled, CorruptRecordError, KafkaError, NodeNotReadyError, RequestTimedOutError
from kafka.net.compat import KafkaNetClient
from kafka.net.manager import KafkaConnectionManager
from kafka.protocol.consumer import HeartbeatRequest
from kafka.record import MemoryRecords

from daemon.log.kafka.cures.abandoned_join import JoinIsCompleted
from daemon.log.kafka.cures.buffered_records import ResumedRecordsAreDelivered
from daemon.log.kafka.cures.busy_poll import PollWaits
from daemon.log.kafka.cures.fetching import POLL_BYTES_MAX
from daemon.log.kafka.cures.leaking_constructor import construct
from daemon.log.kafka.cures.lost_member_id import MemberIdIsKept
from daemon.log.kafka.cures.moved_cluster import BootstrapIsTheFallback
from daemon.log.kafka.cures.quiet_close import CloseIsQuiet
from daemon.log.kafka.cures.record_batches import RECORD_HEADERS_MAX
from tests import record_batch as wire

ROOT = Path(__file__).parents[2]
DAEMON = ROOT / "daemon"
CURES = DAEMON / "log" / "kafka" / "cures"
TP = TopicPartition("course-changes", 0)
MIB = 1024 * 1024


# --- the package ----------------------------------------------------------------------------------


def test_private_fields_of_other_people_are_touched_in_cures_only() -> None:
    offenders = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in DAEMON.rglob("*.py")
        if not path.is_relative_to(CURES)
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if "SLF001" in line
    ]
    assert offenders == []
    assert sum("SLF001" in path.read_text(encoding="utf-8") for path in CURES.glob("*.py")) > 5


@pytest.mark.parametrize("path", sorted(CURES.glob("[!_]*.py")), ids=lambda path: path.stem)
def test_each_cure_says_what_where_since_when_and_until_when(path: Path) -> None:
    header = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    for entry in ("Defect", "\nUpstream: ", f"\nVersions: {kafka.__version__}.", "\nRemove when: "):
        assert entry in header, f"{path.name} says nothing of {entry.strip()}"
    for file, test in re.findall(r"(tests/[\w/]+\.py)(?:::(\w+))?", header):
        source = (ROOT / file).read_text(encoding="utf-8")
        assert not test or f"def {test}(" in source, f"{file} has no {test}"


def bare(kind: type, **fields: Any) -> Any:
    """An object of the library without what its constructor would start."""
    made: Any = object.__new__(kind)
    vars(made).update(fields)
    return made


def run(coroutine: Any) -> None:
    """To its end; it must not wait for anything."""
    with pytest.raises(StopIteration):
        coroutine.send(None)


# --- the network client ---------------------------------------------------------------------------


def test_metadata_are_still_requested_from_known_brokers_only() -> None:
    asked: list[str] = []

    async def bootstrap(_: int) -> None:
        asked.append("a bootstrap server")

    manager = SimpleNamespace(
        least_loaded_node=lambda: None,  # no known broker can be reached
        update_backoff=lambda _: None,
        bootstrap_async=bootstrap,
    )
    fields = {"_manager": manager, "_refresh_future": None}
    with pytest.raises(NodeNotReadyError):
        bare(ClusterMetadata, **fields).refresh_metadata().send(None)
    assert asked == []
    run(bare(BootstrapIsTheFallback, **fields).refresh_metadata())
    assert asked == ["a bootstrap server"]


def test_a_client_still_does_not_report_when_a_broker_last_answered() -> None:
    assert not hasattr(KafkaConnectionManager, "answered_at")
    assert "last_read" not in inspect.getsource(KafkaConnectionManager)
    assert not any("last" in name or "answer" in name for name in dir(KafkaConsumer))


# --- the group ------------------------------------------------------------------------------------


def test_a_finished_join_is_still_started_anew() -> None:
    source = inspect.getsource(BaseCoordinator.join_group_async)
    assert "if self._join_task is None or self._join_task.is_done:" in source


def test_a_running_join_still_does_not_count_as_needed() -> None:
    fields = {
        "_subscription": SimpleNamespace(partitions_auto_assigned=lambda: True, subscription={"t"}),
        "_use_group_apis": True,
        "_assignment_snapshot": {"t": {0}},
        "_metadata_snapshot": {"t": {0}},
        "_joined_subscription": {"t"},
        "rejoin_needed": False,
        "rejoining": True,
        "config": {"group_id": "g", "api_version": (4, 0)},
    }
    assert not bare(ConsumerCoordinator, **fields).need_rejoin()
    assert bare(JoinIsCompleted, **fields).need_rejoin()


def test_an_overdue_heartbeat_still_shortens_a_poll_to_nothing() -> None:
    fields = {"config": {"enable_auto_commit": False}, "time_to_next_heartbeat": lambda: 0.0}
    assert bare(ConsumerCoordinator, **fields).time_to_next_poll() == 0
    assert bare(PollWaits, **fields).time_to_next_poll() > 0
    assert "time_to_next_poll" in inspect.getsource(KafkaConsumer)


def test_a_static_member_that_was_frozen_still_forgets_its_member_id() -> None:
    forgotten: list[str] = []
    fields = {
        "config": {"api_version": (2, 3), "group_instance_id": "replica-0"},
        "_use_group_apis": True,
        "_heartbeat_closed": False,
        "heartbeat": Heartbeat(),
        "reset_generation": lambda: forgotten.append("member id"),
    }
    run(bare(ConsumerCoordinator, **fields).maybe_leave_group_async("frozen"))
    assert forgotten == ["member id"]
    run(bare(MemberIdIsKept, **fields).maybe_leave_group_async("frozen"))
    assert forgotten == ["member id"]


def test_a_request_that_closing_has_cancelled_is_still_an_error(caplog: pytest.LogCaptureFixture) -> None:
    fields = {"_heartbeat_closed": True, "coordinator_id": None}
    bare(ConsumerCoordinator, **fields)._failed_request(1, HeartbeatRequest(), Cancelled())
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    caplog.clear()
    bare(CloseIsQuiet, **fields)._failed_request(1, HeartbeatRequest(), Cancelled())
    assert not caplog.records
    # What a broker does to us is told, and what happens to a member that is not leaving.
    bare(CloseIsQuiet, **fields)._failed_request(1, HeartbeatRequest(), RequestTimedOutError())
    bare(CloseIsQuiet, **fields | {"_heartbeat_closed": False})._failed_request(
        1, HeartbeatRequest(), Cancelled()
    )
    assert [record.levelname for record in caplog.records] == ["ERROR", "ERROR"]


def test_a_consumer_still_does_not_report_its_heartbeats() -> None:
    assert [name for name in dir(KafkaConsumer) if "heartbeat" in name and not name.startswith("_")] == []


# --- reading --------------------------------------------------------------------------------------


class _Part(list[Any]):
    topic_partition = TP
    next_fetch_offset = 0


@pytest.mark.parametrize("kind", [Fetcher, ResumedRecordsAreDelivered])
def test_records_that_are_used_up_still_keep_others_buffered(kind: type) -> None:
    resumed = TopicPartition("course-changes", 1)
    buffered = _Part([None])
    buffered.topic_partition = resumed
    taken: list[Any] = []

    def append(_drained: Any, part: Any, records: int, _update: bool) -> int:
        taken.append(part.topic_partition)
        return records

    fetcher = bare(
        kind,
        config={"max_poll_records": 500},
        _next_in_line_exception_metadata=None,
        _paused_completed_fetches={},
        _paused_partition_records={resumed: buffered},
        _completed_fetches=deque(),
        _next_partition_records=_Part(),
        _subscriptions=SimpleNamespace(is_paused=lambda _: False),
        _append=append,
    )
    fetcher.fetched_records()
    assert taken == ([resumed] if kind is ResumedRecordsAreDelivered else [])


def fetched_by_the_library(data: bytes) -> Any:
    return Fetcher.PartitionRecords(
        0,
        TP,
        MemoryRecords(data),
        isolation_level=IsolationLevel.READ_COMMITTED,
        on_drain=lambda _: None,
    )


def test_a_poll_is_still_not_limited_in_bytes() -> None:
    value = bytes(MIB)
    records = [wire.record(value, offset) for offset in range(POLL_BYTES_MAX // MIB + 4)]
    taken = fetched_by_the_library(wire.batch(b"".join(records), count=len(records))).take(500)
    assert sum(len(record.value) for record in taken) > POLL_BYTES_MAX + MIB


def test_paused_partitions_still_keep_their_batches() -> None:
    source = inspect.getsource(Fetcher)
    assert "self._paused_partition_records[tp] = self._next_partition_records" in source
    assert "bytes" not in inspect.getsource(Fetcher._fetchable_partitions)


def test_an_error_in_a_batch_still_names_no_partition() -> None:
    damaged = bytearray(wire.batch(wire.record(b"v", headers=[(b"\xff", b"")])))
    part = fetched_by_the_library(wire.sealed(bytes(damaged)))
    with pytest.raises(Exception) as caught:
        part.take(1)
    assert TP.topic not in repr(vars(caught.value)) + str(caught.value)
    assert part, "it is left behind, as if there were more to read"
    assert part.take(1) == []
    assert part


def test_a_batch_is_still_decompressed_whole() -> None:
    size = 64 * MIB
    bomb = wire.bomb(wire.ZSTD, size)
    tracemalloc.start()
    try:
        fetched_by_the_library(bomb).take(1)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak > size


def test_headers_are_still_unlimited() -> None:
    many = wire.record(b"v", headers=[(b"", None)] * (RECORD_HEADERS_MAX + 1))
    (record,) = fetched_by_the_library(wire.batch(many)).take(1)
    assert len(record.headers) == RECORD_HEADERS_MAX + 1


def test_a_header_name_that_is_not_utf_8_still_fails() -> None:
    with pytest.raises(CorruptRecordError, match="UnicodeDecodeError"):
        fetched_by_the_library(wire.batch(wire.record(b"v", headers=[(b"\xff", b"")]))).take(1)


def test_position_still_asks_the_coordinator_first() -> None:
    assert "_refresh_committed_offsets" in KafkaConsumer.position.__code__.co_names


def test_a_consumer_still_has_no_public_topic_id() -> None:
    assert [name for name in dir(KafkaConsumer) if "topic_id" in name] == []


# --- writing, and all clients ---------------------------------------------------------------------


def test_close_still_waits_before_it_forces_the_sender() -> None:
    steps = ("flush", "initiate_close", "join", "force_close")
    called = [name for name in KafkaProducer.close.__code__.co_names if name in steps]
    assert called == list(steps)


def test_the_admin_client_can_still_only_abort_a_transaction() -> None:
    assert list(inspect.signature(KafkaAdminClient.abort_transaction).parameters) == ["self", "spec"]
    assert not any(
        "commit" in name or "result" in name for name in inspect.signature(AbortTransactionSpec).parameters
    )
    assert not any("commit" in name and "transaction" in name for name in dir(KafkaAdminClient))


def test_a_constructor_that_fails_still_leaves_its_network_client_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    closed: list[KafkaNetClient] = []
    close = KafkaNetClient.close

    def noted_close(self: KafkaNetClient, *args: Any) -> None:
        closed.append(self)
        close(self, *args)

    monkeypatch.setattr(KafkaNetClient, "close", noted_close)
    made: list[KafkaNetClient] = []

    def net_client(**settings: Any) -> KafkaNetClient:
        made.append(KafkaNetClient(**settings))
        return made[-1]

    settings = {"bootstrap_servers": ["127.0.0.1:1"], "bootstrap_timeout_ms": 50}
    for kind in (KafkaAdminClient, KafkaConsumer, KafkaProducer):
        with pytest.raises(KafkaError):
            kind(kafka_client=net_client, **settings)
    assert len(made) == 3
    assert closed == []
    for client in made:
        client.close()
    closed.clear()
    with pytest.raises(KafkaError):
        construct(KafkaAdminClient, **settings)
    assert len(closed) == 1
