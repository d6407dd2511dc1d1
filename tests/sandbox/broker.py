"""A real Apache Kafka on this machine: one node, temporary data, free ports on 127.0.0.1."""

from __future__ import annotations

import base64
import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from kafka import KafkaAdminClient
from kafka.errors import KafkaError

from tests.sandbox.kafka_jars import fetch_kafka, kept_template, require_java
from tests.sandbox.ports import free_ports
from tests.sandbox.process import Child, SandboxError

_LOG4J = Path(__file__).with_name("kafka-log4j2.properties")

_JVM = ("-Xms128m", "-Xmx512m", "-XX:+UseSerialGC", "-Djava.awt.headless=true")
_BRIEF = ("-XX:TieredStopAtLevel=1",)
"""The compiler's second tier costs more CPU than it saves in a broker that lives for seconds or minutes."""

_DATA, _CLASSES = "data", "classes.jsa"
"""In the template of all brokers: a formatted data folder, and the classes of a broker as Java loads them fastest. Together
they save two thirds of the CPU time of a start.
"""

_SETTINGS: Mapping[str, str] = {
    "node.id": "1",
    "process.roles": "broker,controller",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
    "inter.broker.listener.name": "PLAINTEXT",
    # With one node nothing can be replicated. Internal topics with few partitions start faster.
    "default.replication.factor": "1",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "1",
    # A wrong topic name must be an error, as in production.
    "auto.create.topics.enable": "false",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    "broker.heartbeat.interval.ms": "500",
    # Shorter intervals for background work that tests wait for.
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000",
    "log.cleaner.backoff.ms": "1000",
    "log.initial.task.delay.ms": "1000",
    # Less memory and disk than a server would use.
    "log.cleaner.dedupe.buffer.size": "33554432",
    "log.index.size.max.bytes": "1048576",
}


class Broker:
    """A broker that can be started, stopped, killed and restarted on the same data and port.

    As a context manager it is started on entry. On exit it is killed and its data are deleted. It cannot outlive this
    process. The methods block. They can be called from any thread, one at a time.
    """

    def __init__(
        self, directory: Path | None = None, *, session_timeout: float = 2.0, brief: bool = True
    ) -> None:
        """Data and log are written to `directory`; without one, to a temporary folder that `close` deletes.

        `brief` is for all uses except the measurement of rates.

        A killed broker can rejoin when its old session has ended, after `session_timeout` seconds (Kafka's default is 9).
        If it is suspended for longer, its cluster has no broker for a moment.
        """
        self._temporary = directory is None
        self.directory = directory or Path(tempfile.mkdtemp(prefix="course-sync-kafka-"))
        self._port, controller_port = free_ports(2)
        self._settings = {
            **_SETTINGS,
            "listeners": f"PLAINTEXT://127.0.0.1:{self._port},CONTROLLER://127.0.0.1:{controller_port}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{self._port}",
            "controller.quorum.voters": f"1@127.0.0.1:{controller_port}",
            "broker.session.timeout.ms": str(round(session_timeout * 1000)),
            "log.dirs": str(self.directory.absolute() / "data"),
        }
        self._jvm: tuple[str, ...] = (*_JVM, *_BRIEF) if brief else _JVM
        self._child: Child | None = None

    @property
    def bootstrap(self) -> str:
        """``host:port`` for clients. It stays the same over restarts, and changes with `move`."""
        return f"127.0.0.1:{self._port}"

    @property
    def log(self) -> Path:
        return self.directory / "broker.log"

    @property
    def running(self) -> bool:
        return self._child is not None and self._child.running

    @property
    def pid(self) -> int | None:
        """None while it does not run."""
        return self._child.pid if self._child is not None and self._child.running else None

    def start(self, timeout: float = 180.0) -> None:
        """Start it and return when it answers. No-op if it is running. The very first start fetches the jars.

        Raises:
            MissingToolError: Java or Maven is missing.
            SandboxError: it did not start within `timeout` seconds. The message contains the end of its log.
        """
        if self.running:
            return
        self.launch()
        try:
            self.await_answer(timeout)
        except BaseException:
            self.kill()
            raise

    def launch(self) -> None:
        """Start it without waiting until it answers. No-op if it is running. Otherwise as `start`."""
        if self.running:
            return
        java, jars = require_java(), fetch_kafka()
        template = kept_template(java, jars, lambda folder: _make_template(java, jars, folder))
        if not self._properties.exists():
            shutil.copytree(template / _DATA, self.directory / _DATA, dirs_exist_ok=True)
            _name_anew(self.directory / _DATA / "meta.properties")
            self._configure()
        classes = template / _CLASSES
        self._run(
            java, jars, *self._jvm, *((f"-XX:SharedArchiveFile={classes}",) if classes.exists() else ())
        )

    def await_answer(self, timeout: float = 180.0) -> None:
        """Wait until a launched broker answers. A listening port is not sufficient: until the controller has unfenced the
        broker, its cluster metadata contain no brokers.

        Raises:
            SandboxError: it ended, or does not answer within `timeout` seconds.
        """
        child, deadline = self._child, time.monotonic() + timeout
        assert child is not None
        while not (_accepts_connections(self._port) and _knows_a_broker(self.bootstrap)):
            if not child.running:
                raise SandboxError(child.obituary())
            if time.monotonic() > deadline:
                raise SandboxError(f"Kafka does not answer at {self.bootstrap}.\n{child.log_tail()}")
            time.sleep(0.05)

    def freeze(self) -> None:
        """Suspend it (SIGSTOP) until `thaw`."""
        if self._child is not None:
            self._child.freeze()

    def thaw(self) -> None:
        """Resume it. Idempotent."""
        if self._child is not None:
            self._child.thaw()

    def stop(self) -> None:
        """Shut it down gracefully and keep its data. Idempotent."""
        if self._child is not None:
            self._child.stop(grace=20.0)

    def move(self) -> None:
        """Give it another port, at which it listens when it is started next. It has run before and is not running."""
        assert not self.running
        (port,) = free_ports(1)
        text = self._properties.read_text()
        self._properties.write_text(
            text.replace(f"PLAINTEXT://127.0.0.1:{self._port}", f"PLAINTEXT://127.0.0.1:{port}")
        )
        self._port = port

    def kill(self) -> None:
        """End it as kill -9 does and keep its data. Idempotent."""
        if self._child is not None:
            self._child.kill()

    def close(self) -> None:
        """Kill it, and delete its data if they are in a temporary folder. Idempotent."""
        self.kill()
        if self._temporary:
            shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def _properties(self) -> Path:
        return self.directory / "server.properties"

    def _configure(self) -> Path:
        self.directory.mkdir(parents=True, exist_ok=True)
        draft = self._properties.with_suffix(".draft")
        draft.write_text("".join(f"{name}={value}\n" for name, value in self._settings.items()))
        # Renamed last: an incomplete folder is prepared again.
        return draft.rename(self._properties)

    def _run(self, java: str, jars: Path, *jvm: str) -> Child:
        command = [*_java(java, jars, *jvm), "kafka.Kafka", str(self._properties)]
        self._child = Child.start("Kafka", command, log=self.log)
        return self._child


def _java(java: str, jars: Path, *jvm: str) -> list[str]:
    return [java, *jvm, f"-Dlog4j2.configurationFile={_LOG4J}", "-cp", f"{jars}/*"]


class _First(Broker):
    """The broker that the template of all others is made with."""

    def make_template(self, java: str, jars: Path, folder: Path) -> None:
        """Format a data folder, and run a broker once to see which classes it loads."""
        properties = self._configure()
        options = ("format", "-t", _new_id(), "-c", str(properties))
        done = subprocess.run(
            [*_java(java, jars), "kafka.tools.StorageTool", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise SandboxError(f"Kafka could not format its data folder:\n{done.stdout}")
        shutil.copytree(self.directory / _DATA, folder / _DATA)
        child = self._run(java, jars, *_JVM, f"-XX:ArchiveClassesAtExit={folder / _CLASSES}")
        try:
            self.await_answer()
        finally:
            child.stop(grace=120.0)  # in order: Java writes the classes at the end


def _make_template(java: str, jars: Path, folder: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="course-sync-kafka-") as work:
        _First(Path(work)).make_template(java, jars, folder)


def _name_anew(meta: Path) -> None:
    """Give a data folder ids of its own."""
    text = re.sub(
        r"^((?:cluster|directory)\.id)=.*$",
        lambda found: f"{found[1]}={_new_id()}",
        meta.read_text(),
        flags=re.MULTILINE,
    )
    meta.write_text(text)


def external_kafka() -> str | None:
    """``host:port`` of a running cluster to use instead of starting one: ``KAFKA`` in the environment."""
    return os.environ.get("KAFKA") or None


def _new_id() -> str:
    while (text := base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()).startswith("-"):
        pass  # would be parsed as an option
    return text


def _accepts_connections(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _knows_a_broker(bootstrap: str) -> bool:
    try:
        admin = KafkaAdminClient(
            bootstrap_servers=bootstrap, bootstrap_timeout_ms=2000, request_timeout_ms=2000
        )
    except KafkaError:
        return False
    try:
        return bool(admin.describe_cluster()["brokers"])
    except KafkaError:
        return False
    finally:
        admin.close()
