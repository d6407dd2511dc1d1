"""The settings that may differ between integrations, read as `policy(integration_id)`.

At present one policy applies to all integrations.
"""

from __future__ import annotations

from dataclasses import dataclass

from daemon.config.courses_table import UnchangedSettings
from daemon.config.table import (
    BatchSettings,
    PollSettings,
    RetrySettings,
    Settings,
    TaskSettings,
    WaitSettings,
    WindowSettings,
)


@dataclass(frozen=True, slots=True)
class Policy:
    """The settings of one integration, by their group in the table."""

    batch: BatchSettings
    """Without `batch.linger`, which applies to the shard."""
    window: WindowSettings
    """Without `window.batches_max_per_partition`, which applies to the shard."""
    task: TaskSettings
    poll: PollSettings
    retry: RetrySettings
    wait: WaitSettings
    unchanged: UnchangedSettings


class Policies:
    """`policies(integration_id)` returns immediately, does no I/O, and always returns the same policy."""

    def __init__(self, settings: Settings) -> None:
        self._default = Policy(
            settings.batch,
            settings.window,
            settings.task,
            settings.poll,
            settings.retry,
            settings.wait,
            settings.unchanged,
        )

    def __call__(self, integration_id: str) -> Policy:
        del integration_id  # one policy applies to all
        return self._default
