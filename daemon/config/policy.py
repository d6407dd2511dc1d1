"""The settings that may differ between integrations, read as `policies(integration_id)`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from daemon.config.courses_table import UnchangedSettings
from daemon.config.policy_tables import PolicyTable, applying, merged, own_rate, table_mistakes
from daemon.config.table import (
    BatchSettings,
    PollSettings,
    RetrySettings,
    Settings,
    TaskSettings,
    WaitSettings,
    WindowSettings,
)

REMEMBERED_MAX = 10_000
"""Ids whose policy is remembered. They come from the input, so their number has no other limit."""


@dataclass(frozen=True, slots=True)
class Policy:
    """The settings of one integration, by their group in the table."""

    batch: BatchSettings
    """Without `batch.linger`, which applies to the shard. A change may have up to the common `batch.bytes_max`."""
    window: WindowSettings
    """Without `window.batches_max_per_partition`, which applies to the shard."""
    task: TaskSettings
    poll: PollSettings
    retry: RetrySettings
    wait: WaitSettings
    unchanged: UnchangedSettings
    requests_per_second_max: float | None
    """Calls a second and process for this integration; None if it has no limit of its own."""


class Policies:
    """`policies(integration_id)` returns immediately and does no I/O. There is one instance per process.

    Its answer changes with `use` only. Whoever keeps a value for longer than it takes to use it has to be told then
    (`Engine.use_policies`).
    """

    def __init__(self, settings: Settings, tables: Sequence[PolicyTable] = ()) -> None:
        self._settings = settings
        self.use(tables)

    def use(self, tables: Sequence[PolicyTable]) -> None:
        """From now on, these tables count instead of the earlier ones. They must have no `mistakes`."""
        self.tables = tuple(tables)
        self._default = self._made(())
        made = [(table, self._made(applying(tables, table.name))) for table in tables]
        self._exact = {table.name: policy for table, policy in made if table.prefix is None}
        prefixes = [(table.prefix, policy) for table, policy in made if table.prefix is not None]
        self._prefixes = sorted(prefixes, key=lambda each: len(each[0]), reverse=True)
        self._remembered: dict[str, Policy] = {}

    def mistakes(self, tables: Iterable[PolicyTable]) -> list[str]:
        """Why these tables cannot be used with the settings of this process."""
        return list(table_mistakes(self._settings, tables))

    def __call__(self, integration_id: str) -> Policy:
        policy = self._remembered.get(integration_id)
        if policy is None:
            if len(self._remembered) >= REMEMBERED_MAX:
                self._remembered.clear()
            policy = self._remembered[integration_id] = self._found(integration_id)
        return policy

    def _found(self, integration_id: str) -> Policy:
        exact = self._exact.get(integration_id)
        if exact is not None:
            return exact
        matching = (policy for prefix, policy in self._prefixes if integration_id.startswith(prefix))
        return next(matching, self._default)

    def _made(self, chain: Sequence[PolicyTable]) -> Policy:
        own = merged(self._settings, chain)
        return Policy(
            own.batch, own.window, own.task, own.poll, own.retry, own.wait, own.unchanged, own_rate(chain)
        )
