"""A command on a topic of its own, as a person uses it: as a process, with pipes, on a real broker."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from daemon.log.kafka.admin import NewTopic, create_topics
from daemon.log.kafka.clients import Clients, KafkaConnection
from daemon.log.topic_access import read_topic
from tests.integration.daemon_world import DEADLINE

COMMAND = str(Path(sys.executable).parent / "coursesyncd")


class World:
    """The topic has one partition."""

    def __init__(self, command: str, bootstrap: str, topic: str) -> None:
        self.connection, self.topic = KafkaConnection((bootstrap,)), topic
        with Clients(self.connection).admin() as admin:
            create_topics(admin, [NewTopic(topic, 1, 1)])
        self.arguments = [COMMAND, command, "--bootstrap-servers", bootstrap, "--topic", topic]
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith("COURSESYNC_")}

    def run(self, *files: Path, stdin: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [*self.arguments, *map(str, files)],
            input=stdin,
            env=self.environment,
            capture_output=True,
            timeout=DEADLINE,
            check=False,
        )

    def start(self, stdout: int = subprocess.PIPE) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self.arguments, stdin=subprocess.PIPE, stdout=stdout, stderr=subprocess.PIPE, env=self.environment
        )

    def values(self) -> list[bytes]:
        return [record.value or b"" for record in read_topic(self.connection, self.topic)]
