"""The sandbox's Kafka: keeps its data over kill -9, says why it does not start, leaves nothing running."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewTopic

from tests.sandbox.broker import Broker
from tests.sandbox.kafka_jars import MissingToolError, fetch_kafka, kafka_version, require_java
from tests.sandbox.process import SandboxError

DEADLINE = 180.0


@pytest.mark.kafka
def test_what_was_acknowledged_survives_a_kill_on_the_same_port(own_broker: Broker) -> None:
    bootstrap = own_broker.bootstrap
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    admin.create_topics([NewTopic("kept", num_partitions=1, replication_factor=1)])
    admin.close()
    producer = KafkaProducer(bootstrap_servers=bootstrap, acks="all")
    producer.send("kept", b"before").get(timeout=DEADLINE)
    producer.close()

    own_broker.kill()
    assert not own_broker.running
    own_broker.start()

    assert own_broker.bootstrap == bootstrap
    assert read_one(bootstrap, TopicPartition("kept", 0)) == b"before"

    own_broker.stop()
    own_broker.start()
    assert read_one(bootstrap, TopicPartition("kept", 0)) == b"before"


@pytest.mark.kafka
@pytest.mark.usefixtures("startable_kafka")
def test_a_broker_that_does_not_come_up_says_why(tmp_path: Path) -> None:
    broker = Broker(tmp_path / "first")
    broker.start()
    try:
        log_folder = tmp_path / "first" / "data"
        (log_folder / "meta.properties").write_text("version=1\nnode.id=7\n")
        broker.kill()
        with pytest.raises(
            SandboxError, match=r"(?s)Kafka ended with exit code 1.*cluster\.id was not found"
        ) as raised:
            broker.start()
        assert str(broker.log) in str(raised.value)
        assert not broker.running
    finally:
        broker.close()


@pytest.mark.kafka
@pytest.mark.usefixtures("startable_kafka")
def test_the_broker_dies_with_a_process_that_is_killed(tmp_path: Path) -> None:
    code = (
        "import time; from pathlib import Path; from tests.sandbox.broker import Broker\n"
        f"broker = Broker(Path({str(tmp_path)!r})); broker.start(); print(broker._child.pid, flush=True)\n"
        "time.sleep(3600)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as starter:
        try:
            assert starter.stdout is not None
            pid = int(starter.stdout.readline())
        finally:
            starter.kill()
    deadline = time.monotonic() + DEADLINE
    while process_exists(pid):
        assert time.monotonic() < deadline, "the broker outlived its starter"
        time.sleep(0.01)


def test_a_missing_java_is_said_in_one_sentence_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with pytest.raises(MissingToolError, match=r"needs Java 17.*apt install openjdk-17.*KAFKA=host:port"):
        require_java()


def test_a_missing_maven_is_said_in_one_sentence_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(MissingToolError, match=r"no mvn on the PATH.*maven.*KAFKA=host:port"):
        fetch_kafka()


@pytest.mark.kafka
@pytest.mark.usefixtures("startable_kafka")
def test_a_fetch_cut_short_is_not_taken_for_a_whole_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    half = tmp_path / "course-sync-daemon" / f"kafka-{kafka_version()}"
    half.mkdir(parents=True)
    (half / "kafka-clients.jar").write_bytes(b"half a jar")

    jars = fetch_kafka()

    assert jars == half
    names = {path.name for path in jars.iterdir()}
    assert f"kafka_2.13-{kafka_version()}.jar" in names
    assert "kafka-clients.jar" not in names
    assert {path.name for path in jars.parent.iterdir()} == {jars.name, f"{jars.name}.lock"}


def read_one(bootstrap: str, partition: TopicPartition) -> bytes:
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, group_id=None, auto_offset_reset="earliest")
    consumer.assign([partition])
    try:
        deadline = time.monotonic() + DEADLINE
        while time.monotonic() < deadline:
            for records in consumer.poll(timeout_ms=500).values():
                return bytes(records[0].value)
        raise AssertionError("no record")
    finally:
        consumer.close()


def process_exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
