"""The differences between the sandbox and production: all durations, in one place.

Production waits hours for a task and a minute between polls, which is too slow to watch. All durations are scaled down so
that everything that can happen happens within a minute. Other numbers keep their defaults, so that batches and limits of
the sandbox are those of production.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from daemon.config.units import parse_duration
from daemon.log.port import Topics
from tests.sandbox.checker.judging import Limits
from tests.sandbox.generator import Plan

TIMES: Mapping[str, str] = {
    "batch.linger": "300ms",
    "http.deadline": "2s",
    "fence.lease": "2s",
    "kafka.session_timeout": "6s",  # the minimum that a broker accepts by default
    "poll.first_after": "300ms",
    "poll.interval_max": "2s",
    # Slow tasks of the simulator take up to 7 s and must not time out. Endless tasks that apply their items late do so
    # within 2 s, and the API starts no request later than `http.deadline`.
    "task.timeout": "10s",
    "task.watch_after_timeout": "5s",
    "retry.backoff_min": "100ms",
    "retry.backoff_max": "2s",
    "park.probe_min": "500ms",
    "park.probe_max": "2s",
    "drain.timeout": "4s",
}

PARTITIONS = 6
RETIRE_SHARE = 0.04
"""Share of the generated changes that retire a course."""
TASK_SECONDS = 1.0
"""Average duration of an ordinary task in the simulator."""


@dataclass(frozen=True, slots=True)
class Demo:
    """The parameters of `demo`. The defaults are those of `make demo`."""

    changes: int = 5000
    integrations: int = 20
    courses_per_integration: int = 50
    rate: float = 400.0
    """Changes published per second."""
    republish_share: float = 0.15
    """Share of the changes, the last ones, that publish the catalogue again."""
    republish_at: float = 0.8
    """They are published when this share of the changes before them has its result. Earlier, most of them would replace changes
    that were not sent yet."""
    seed: int = 1
    kill_at: float = 0.4
    """The daemon is killed when this share of the changes has its result."""
    deadline: float = 110.0
    """Seconds from the first change to the last result. A change without a result by then counts as lost."""

    @property
    def republished(self) -> int:
        """Number of changes that publish the catalogue again."""
        return int(self.republish_share * self.changes)

    def may_republish(self, results: int) -> bool:
        """Whether so many results are enough to publish the catalogue again."""
        return results >= self.republish_at * (self.changes - self.republished)

    def plan(self, first_time_ms: int) -> Plan:
        """What is published. `first_time_ms` as in `Plan`."""
        return Plan(
            seed=self.seed,
            changes=self.changes,
            integrations=self.integrations,
            courses_per_integration=self.courses_per_integration,
            retire_share=RETIRE_SHARE,
            republished=self.republished,
            first_time_ms=first_time_ms,
        )


def check_limits() -> Limits:
    """The daemon's durations that the checker needs."""
    return Limits(
        task_timeout_ms=round(parse_duration(TIMES["task.timeout"]) * 1000),
        watch_ms=round(parse_duration(TIMES["task.watch_after_timeout"]) * 1000),
    )


def environment(
    inherited: Mapping[str, str],
    *,
    bootstrap: str,
    topics: Topics,
    group: str,
    base_url: str,
    api_key_file: Path,
    admin_port: int,
    instance: int = 0,
    settings: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, str]:
    """The environment with which `coursesyncd` runs. `instance` numbers the replicas of one group. `settings`, by name,
    override the sandbox's durations. The user's own settings are removed, because they are for another cluster."""
    settings = {
        **TIMES,
        **settings,
        "kafka.bootstrap_servers": bootstrap,
        "kafka.group_id": group,
        "kafka.group_instance_id": f"{group}-{instance}",
        "topics.changes": topics.changes,
        "topics.journal": topics.journal,
        "topics.results": topics.results,
        "topics.dead_letters": topics.dead_letters,
        "topics.courses": topics.courses,
        "topics.control": topics.control,
        "kombo.base_url": base_url,
        "kombo.api_key_file": str(api_key_file.absolute()),
        "admin.host": "127.0.0.1",
        "admin.port": str(admin_port),
    }
    return {
        **{name: value for name, value in inherited.items() if not name.startswith("COURSESYNC_")},
        **{f"COURSESYNC_{name}".replace(".", "_").upper(): value for name, value in settings.items()},
    }
