"""Addresses, folders and names that several parts use."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.chart.dockerfile import ROOT

CHART = ROOT / "helm" / "course-sync-daemon"
NODES = 2
CONTROL_PLANE = "10.77.0.1"
"""Also of the first node, of Kafka, of the API and of the DNS server."""
KAFKA_HOST, KAFKA_PORT = "kafka.test", 9093
API_HOST, API_PORT, API_PLAIN_PORT = "api.test", 8443, 8081
PARTITIONS = 12
REPLICAS = 3


def node_address(number: int) -> str:
    return f"10.77.0.{number}"


@dataclass(frozen=True)
class Places:
    """Where a run finds and puts its files."""

    work: Path
    """Deleted at the end. Nobody else writes there."""
    logs: Path
    binaries: Path
    image: Path
    """An archive with the images that the nodes need."""
    cgroup: str
    """Prefix of the names of the cgroups, unique to the run."""

    @property
    def keys(self) -> Path:
        return self.work / "keys"

    def log(self, name: str) -> Path:
        return self.logs / f"{name}.log"
