"""A console as a process of its own, on a real Kafka whose topics have what the daemon would write. No daemon runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx
from click.testing import CliRunner
from kafka import KafkaProducer

from daemon.cli import main
from daemon.codec import encode_control, encode_course, encode_result
from daemon.core import journal
from daemon.core.control import Decision
from daemon.core.course import CourseRecord
from daemon.core.model import Result
from daemon.log.kafka.admin import topic_id
from daemon.log.kafka.clients import Clients, KafkaConnection
from daemon.log.port import Topics
from daemon.log.topic_access import read_topic
from tests.integration.daemon_world import DEADLINE, wait_until
from tests.unit.console_markup import Markup

COMMAND = str(Path(sys.executable).parent / "coursesyncd")
TOKEN = "0123456789abcdef0123"
PARTITIONS = 3


class ConsoleSite:
    """Topics, and the console."""

    def __init__(self, bootstrap: str, topics: Topics, folder: Path, partitions: int = PARTITIONS) -> None:
        self._partitions = partitions
        self.topics = topics
        self.environ = {"COURSESYNC_KAFKA_BOOTSTRAP_SERVERS": bootstrap} | {
            f"COURSESYNC_TOPICS_{name.upper()}": getattr(topics, name)
            for name in ("changes", "journal", "results", "dead_letters", "courses", "control")
        }
        done = CliRunner().invoke(
            main, ["topics", "create", "--partitions", str(partitions)], env=self.environ
        )
        assert done.exit_code == 0, done.output
        self.connection = KafkaConnection((bootstrap,))
        with Clients(self.connection).admin() as admin:
            found = topic_id(admin, topics.changes)
        assert found is not None
        self.input_id = found
        self._producer = KafkaProducer(bootstrap_servers=bootstrap)
        self._folder = folder
        self.token_file = folder / "token"
        self.token_file.write_text(TOKEN)
        self._process: subprocess.Popen[bytes] | None = None
        self.url = ""

    # --- what the daemon would write ----------------------------------------------------------------

    def input(self, partition: int, records: int) -> None:
        self._send(self.topics.changes, partition, *[(b"k", b"{}")] * records)

    def journal(self, partition: int, *records: tuple[bytes, journal.Value | None]) -> None:
        encoded = ((key, None if value is None else journal.encode_value(value)) for key, value in records)
        self._send(self.topics.journal, partition, *encoded)

    def damaged(self, partition: int) -> None:
        """A record of the journal that no version can read."""
        self._send(self.topics.journal, partition, (journal.wait_key("a", "b"), b"damaged"))

    def position(self, partition: int, next_offset: int) -> None:
        position = journal.Position(journal.FORMAT, next_offset, self.input_id, self._partitions, 0)
        self.journal(partition, (journal.POSITION_KEY, position))

    def result(self, partition: int, result: Result) -> None:
        self._send(self.topics.results, partition, self.encoded_result(partition, result))

    def encoded_result(self, partition: int, result: Result) -> tuple[bytes | None, bytes | None]:
        """Key and value."""
        key, value, _ = encode_result(
            result, partition, changes_topic=self.topics.changes, journal_topic=self.topics.journal
        )
        return key, value

    def course(self, partition: int, record: CourseRecord) -> None:
        self._send(
            self.topics.courses,
            partition,
            encode_course(record, partition, changes_topic=self.topics.changes),
        )

    def decide(self, decision: Decision) -> None:
        self._send(self.topics.control, 0, encode_control(decision))

    def decisions(self) -> list[bytes]:
        return [record.value or b"" for record in read_topic(self.connection, self.topics.control)]

    def _send(self, topic: str, partition: int, *records: tuple[bytes | None, bytes | None]) -> None:
        sent = [self._producer.send(topic, value, key, partition=partition) for key, value in records]
        for each in sent:
            each.get(DEADLINE)

    # --- the console --------------------------------------------------------------------------------

    @property
    def log(self) -> str:
        return (self._folder / "console.log").read_text()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self, within: float = DEADLINE) -> None:
        """Wait until it has read the topics to their ends, for at most this many seconds."""
        arguments = [COMMAND, "console", "--port", "0", "--token-file", str(self.token_file)]
        environ = {name: value for name, value in os.environ.items() if not name.startswith("COURSESYNC_")}
        with (self._folder / "console.log").open("wb") as log:
            self._process = subprocess.Popen(
                arguments, env=environ | self.environ | {"COURSESYNC_LOG_FORMAT": "json"}, stderr=log
            )
        wait_until(lambda: "console.started" in self.log, "the console listens")
        (started,) = (line for line in self.log.splitlines() if "console.started" in line)
        self.url = f"http://127.0.0.1:{json.loads(started)['port']}"
        deadline = time.monotonic() + within
        while "Still reading" in self.page("/"):
            assert time.monotonic() < deadline, "the console has not read everything"
            time.sleep(0.05)

    def page(self, address: str) -> str:
        return httpx.get(self.url + address, follow_redirects=True, timeout=DEADLINE, trust_env=False).text

    def shows(self, address: str, words: str) -> None:
        """Waits until the page has these words, apart from the spaces between them."""
        wait_until(
            lambda: words in " ".join(Markup(self.page(address)).text.split()), f"{address} shows {words!r}"
        )

    def stop(self) -> int:
        """Its exit code."""
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(DEADLINE)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait(DEADLINE)
        self._producer.close()


def now_ms() -> int:
    return time.time_ns() // 1_000_000
