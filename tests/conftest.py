"""A real broker for the tests that need one, topic names of their own for each of them, and Prometheus' own tool."""

from __future__ import annotations

import os
import signal
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from daemon.log.port import Topics
from tests.sandbox.broker import Broker, external_kafka
from tests.sandbox.kafka_jars import MissingToolError, fetch_kafka, require_java

# A slow machine is no fault, and a test that was good is good everywhere: the same examples on every run.
hypothesis.settings.register_profile(
    "any machine",
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("any machine")

# A shell that starts this in the background ignores SIGINT, and programs that are started here would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def kafka_bootstrap() -> Iterator[str]:
    """`host:port` of one broker shared by the whole run, started when the first test asks for it.

    With KAFKA=host:port it is that one. Tests that stop their broker take `own_broker`.
    """
    if external := external_kafka():
        yield external
        return
    _require_kafka()
    with Broker(session_timeout=60.0) as broker:  # nobody kills it, and a busy machine must not
        yield broker.bootstrap


@pytest.fixture(scope="session")
def startable_kafka() -> None:
    """What it takes to start brokers of our own, whatever KAFKA says."""
    _require_kafka()


@pytest.fixture
def own_broker() -> Iterator[Broker]:
    """A running broker of the test's own, which it may kill and start again."""
    _require_kafka()
    with Broker() as broker:
        yield broker


@pytest.fixture
def topic_names() -> Topics:
    """Names that no other test uses; nothing is created."""
    unique = uuid.uuid4().hex[:12]
    return Topics(
        changes=f"{unique}-changes",
        journal=f"{unique}-journal",
        results=f"{unique}-results",
        dead_letters=f"{unique}-dead-letters",
        courses=f"{unique}-courses",
        control=f"{unique}-control",
    )


@pytest.fixture(scope="session")
def promtool() -> str:
    """Its path; it is fetched once when the machine has none."""
    return _of_prometheus("promtool")


@pytest.fixture(scope="session")
def prometheus() -> str:
    """The path of the server; it is fetched once when the machine has none."""
    return _of_prometheus("prometheus")


def _of_prometheus(program: str) -> str:
    find = Path(__file__).parent / "tools" / "prometheus.sh"
    found = subprocess.run([find, program], capture_output=True, text=True, timeout=300, check=False)
    if found.returncode == 0:
        return found.stdout.strip()
    if os.environ.get("CI") == "true":
        pytest.fail(f"NO {program.upper()}: {found.stderr}", pytrace=False)
    pytest.skip(f"NO {program.upper()}: {found.stderr}")


def _require_kafka() -> None:
    """On a developer's machine a loud skip; where CI=true, a run without Kafka has tested too little."""
    try:
        require_java()
        fetch_kafka()
    except MissingToolError as error:
        if os.environ.get("CI") == "true":
            pytest.fail(f"NO KAFKA: {error}", pytrace=False)
        pytest.skip(f"NO KAFKA: {error}")
