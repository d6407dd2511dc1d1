"""What may differ between integrations: asked as `policy(integration_id)`, and nowhere else read from the settings.

One policy holds for all of them now.
"""

from __future__ import annotations

from dataclasses import dataclass

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
    """The settings of one integration, by their groups in the table."""

    batch: BatchSettings
    """Less `batch.linger`, which is the shard's."""
    window: WindowSettings
    """Less `window.batches_max_per_partition`, which is the shard's."""
    task: TaskSettings
    poll: PollSettings
    retry: RetrySettings
    wait: WaitSettings


class Policies:
    """`policies(integration_id)` answers at once, without I/O, and always the same."""

    def __init__(self, settings: Settings) -> None:
        self._default = Policy(
            settings.batch, settings.window, settings.task, settings.poll, settings.retry, settings.wait
        )

    def __call__(self, integration_id: str) -> Policy:
        del integration_id  # all have the same
        return self._default
