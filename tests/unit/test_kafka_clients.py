"""Settings and helpers of the Kafka clients that need no broker."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import kafka.record.util
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka import KafkaConsumer, KafkaProducer
from kafka.cluster import ClusterMetadata
from kafka.coordinator.base import BaseCoordinator
from kafka.coordinator.heartbeat import Heartbeat
from kafka.errors import KafkaError
from kafka.net.compat import KafkaNetClient
from kafka.partitioner.default import DefaultPartitioner
from kafka.producer.record_accumulator import RecordAccumulator

from daemon.log.errors import LogError
from daemon.log.kafka import KafkaConnection
from daemon.log.kafka.clients import _EVERY_CLIENT, Clients
from daemon.log.kafka.cures.lost_request import RequestsAreKept
from daemon.log.kafka.cures.partitioner import KeyPartitioner

PASSWORD = "canary-7f3a"


def secured(**files: Any) -> KafkaConnection:
    return KafkaConnection(
        ("127.0.0.1:1",),
        security_protocol="SASL_PLAINTEXT",
        sasl_mechanism="PLAIN",
        sasl_username="daemon",
        sasl_password=PASSWORD,
        **files,
    )


def test_the_password_is_in_no_repr() -> None:
    assert PASSWORD not in repr(secured())
    assert "daemon" in repr(secured())


def test_the_password_is_in_no_log_line_and_no_error(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(_EVERY_CLIENT, "bootstrap_timeout_ms", 50)
    caplog.set_level(logging.DEBUG)
    clients = Clients(secured())
    for make in (clients.admin, clients.reader, lambda: clients.producer("t")):
        with pytest.raises(KafkaError) as caught:
            make()
        assert PASSWORD not in repr(caught.value)
    assert "security_protocol" in caplog.text  # the library does write its settings down
    assert PASSWORD not in caplog.text


def test_the_password_reaches_the_broker_unchanged() -> None:
    settings = Clients(secured())._settings
    assert settings["sasl_plain_password"].encode() == PASSWORD.encode()
    assert "\0".join(["daemon", settings["sasl_plain_password"]]) == f"daemon\0{PASSWORD}"


def test_without_the_fast_checksum_the_daemon_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka.record.util, "crc32c_c", None)
    with pytest.raises(LogError, match="crc32c"):
        Clients(KafkaConnection(("127.0.0.1:1",)))


@pytest.mark.parametrize(
    ("connection", "named"),
    [
        (KafkaConnection(()), "no Kafka bootstrap server"),
        (KafkaConnection(("127.0.0.1:1",), "TLS"), "PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL"),
        (KafkaConnection(("127.0.0.1:port",)), "port"),
    ],
)
def test_a_connection_that_makes_no_sense_is_refused(connection: KafkaConnection, named: str) -> None:
    with pytest.raises(LogError, match=named):
        Clients(connection).admin()


def test_a_tls_file_that_is_missing_or_no_certificate_is_named(tmp_path: Path) -> None:
    missing = str(tmp_path / "ca.crt")
    with pytest.raises(LogError, match=missing):
        Clients(KafkaConnection(("127.0.0.1:1",), "SSL", tls_ca_file=missing))
    garbage = tmp_path / "garbage.crt"
    garbage.write_text("not a certificate")
    with pytest.raises(LogError, match=str(garbage)):
        Clients(KafkaConnection(("127.0.0.1:1",), "SSL", tls_ca_file=str(garbage)))


def test_a_node_that_cannot_be_reached_is_not_ready_instead_of_an_error() -> None:
    """The producer would drop the request that it was about to send, and its commit would wait forever."""
    client = RequestsAreKept(bootstrap_servers=["127.0.0.1:1"])
    try:
        (node,) = (broker.node_id for broker in client.cluster.bootstrap_brokers())
        with pytest.raises(KafkaError):
            KafkaNetClient.await_ready(client, node, timeout_ms=10)
        assert client.await_ready(node, timeout_ms=10) is False
    finally:
        client.close()


def test_the_fields_that_membership_reads_are_still_there() -> None:
    """A newer kafka-python that names them otherwise must fail here and not in the field."""
    heartbeat = Heartbeat()
    for name in ("last_send", "last_receive", "last_reset"):
        assert isinstance(getattr(heartbeat, name), float)
    heartbeat.fail_heartbeat()
    assert heartbeat.time_to_next_heartbeat() <= heartbeat.config["retry_backoff_ms"] / 1000
    source = BaseCoordinator.__init__.__code__.co_names
    fields = (
        "state",
        "rejoining",
        "rejoin_needed",
        "coordinator_id",
        "_heartbeat_enabled",
        "_heartbeat_wakeup",
    )
    assert set(fields) <= set(source)
    assert {"_coordinator", "_client"} <= set(KafkaConsumer.__init__.__code__.co_names)
    assert callable(ClusterMetadata.topic_id)


def test_the_path_of_a_record_is_still_the_one_that_sending_takes() -> None:
    """As above: `send_all` does what `KafkaProducer.send` and `RecordAccumulator.append` do, in the same order."""
    for function, way in (KafkaProducer.send, _WAY_OF_A_RECORD), (RecordAccumulator.append, _WAY_OF_A_BATCH):
        assert [name for name in function.__code__.co_names if name in way] == way


_WAY_OF_A_RECORD = [
    "_estimate_size_in_bytes",
    "_ensure_valid_record_size",
    "_transaction_manager",
    "maybe_add_partition_to_transaction",
    "_accumulator",
    "append",
    "_sender",
    "wakeup",
]
_WAY_OF_A_BATCH = [
    "_closed",
    "_appends_in_progress",
    "increment",
    "_tp_lock",
    "_batches",
    "decrement",
    "MemoryRecordsBuilder",
    "ProducerBatch",
    "append",
    "_incomplete",
    "add",
]


class _Cluster:
    def __init__(self, partitions: int) -> None:
        self._partitions = set(range(partitions))

    def topics(self) -> set[str]:
        return {"t"}

    def partitions_for_topic(self, topic: str) -> set[int]:
        assert topic == "t"
        return self._partitions

    available_partitions_for_topic = partitions_for_topic


@given(st.binary(max_size=80), st.integers(1, 64))
def test_a_key_goes_where_every_kafka_client_puts_it(key: bytes, partitions: int) -> None:
    cluster = _Cluster(partitions)
    theirs = DefaultPartitioner().partition("t", key, key, None, None, cluster)
    assert KeyPartitioner().partition("t", key, key, None, None, cluster) == theirs


def test_a_record_without_a_key_goes_to_some_partition() -> None:
    assert KeyPartitioner().partition("t", None, None, None, None, _Cluster(3)) in {0, 1, 2}
