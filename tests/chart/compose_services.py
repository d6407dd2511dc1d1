"""The services of compose.yaml as containers of our images, beside a real Kafka. What is not tried: Compose itself, and Kafka's
image.
"""

from __future__ import annotations

import subprocess
import sys
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from daemon.log.port import Topics
from tests.sandbox.ports import free_ports
from tests.sandbox.process import Child

from .container_engine import Engine
from .dockerfile import ROOT

COURSESYNCD = Path(sys.executable).with_name("coursesyncd")
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))


class Services:
    """With ports and topics that nobody else uses."""

    def __init__(self, engine: Engine, kafka: str, topics: Topics, folder: Path) -> None:
        self._engine = engine
        self._folder = folder
        self.admin_port, self.simulator_port = free_ports(2)
        given = COMPOSE["services"]["daemon"]["environment"]
        self._key_file = given["COURSESYNC_KOMBO_API_KEY_FILE"]
        self._key = folder / "api-key"
        self._key.write_text(COMPOSE["configs"][Path(self._key_file).name]["content"])
        self._key.chmod(0o444)
        names = {f"COURSESYNC_TOPICS_{name.upper()}": topic for name, topic in asdict(topics).items()}
        self.variables = (
            given
            | names
            | {
                "COURSESYNC_KAFKA_BOOTSTRAP_SERVERS": kafka,
                "COURSESYNC_KAFKA_GROUP_ID": topics.changes,
                "COURSESYNC_KOMBO_BASE_URL": given["COURSESYNC_KOMBO_BASE_URL"].replace(
                    "8081", str(self.simulator_port)
                ),
                "COURSESYNC_ADMIN_PORT": str(self.admin_port),
            }
        )

    def running(self, name: str) -> AbstractContextManager[Child]:
        words = [
            {"8081": str(self.simulator_port), "0.0.0.0": "127.0.0.1"}.get(word, word)
            for word in COMPOSE["services"][name]["command"]
        ]
        return self._engine.running(
            *words,
            variables=self.variables,
            log=self._folder / f"{name}.log",
            target=COMPOSE["services"][name]["build"]["target"],
            options=[f"--volume={self._key}:{self._key_file}:ro"],
        )

    def generating(self, changes: int) -> AbstractContextManager[Child]:
        """What a person starts in the simulator's container."""
        at = ["--bootstrap-servers", self.variables["COURSESYNC_KAFKA_BOOTSTRAP_SERVERS"]]
        topic = ["--topic", self.variables["COURSESYNC_TOPICS_CHANGES"], "--changes", str(changes)]
        return self._engine.running(
            "generate", *at, *topic, log=self._folder / "generate.log", target="sandbox"
        )

    def outside(self, *words: str) -> str:
        """What a person's coursesyncd prints."""
        variables = self.variables | {"COURSESYNC_KOMBO_API_KEY_FILE": str(self._key)}
        done = subprocess.run(
            [COURSESYNCD, *words], env=variables, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout
