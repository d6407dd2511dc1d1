"""Settings of single integrations in the whole daemon: read at the start, from a changed file, and on SIGHUP."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.integration.daemon_world import (
    UNHURRIED,
    await_metric,
    await_results,
    good,
    log_lines,
    publish,
    tasks,
    wait_until,
)
from tests.sandbox.stack import Stack

pytestmark = pytest.mark.kafka
SLOW, FAST = "slow:1", "fast:1"


def largest(stack: Stack, integration_id: str, after: int = 0) -> int:
    """The size of its largest submission among those that the API has taken since it had that many tasks."""
    return max(
        len(task["items"]) for task in tasks(stack)[after:] if task["integration_id"] == integration_id
    )


def test_tables_of_integrations_are_read_again_while_the_daemon_runs(
    tmp_path: Path, kafka_bootstrap: str
) -> None:
    for version, items in (("v1", 2), ("v2", 3)):
        (tmp_path / version).mkdir()
        text = f'[integrations."slow:*"]\nbatch.items_max = {items}\n'
        (tmp_path / version / "integrations.toml").write_text(text)
    link = tmp_path / "..data"
    link.symlink_to("v1")
    settings = {**UNHURRIED, "batch.linger": "1s", "integrations": str(link / "integrations.toml")}
    with Stack(
        tmp_path, faults="none", seed=1, say=print, kafka=kafka_bootstrap, task_seconds=0.1, settings=settings
    ) as stack:

        def publish_both(first: int) -> int:
            """Returns how many tasks the API had before."""
            before = len(tasks(stack))
            numbers = range(first, first + 12)
            publish(stack, *(good(n, integration_id=id_) for n in numbers for id_ in (SLOW, FAST)))
            await_results(stack, 2 * (first + 12))
            return before

        def reads(count: int) -> bool:
            return len(log_lines(stack, "policies.read")) == count

        stack.start_daemon()
        stack.await_ready()
        publish_both(0)
        assert largest(stack, SLOW) == 2
        assert largest(stack, FAST) > 3

        (tmp_path / "..new").symlink_to("v2")
        (tmp_path / "..new").rename(link)
        wait_until(lambda: reads(1), "the changed tables are read")
        before = publish_both(12)
        assert largest(stack, SLOW, before) == 3

        os.kill(stack.daemon_pid, signal.SIGHUP)
        wait_until(lambda: reads(2), "SIGHUP is obeyed")
        assert [line["changed"] for line in log_lines(stack, "policies.read")] == [True, False]

        (tmp_path / "v2" / "integrations.toml").write_text("[integrations.slow]\nbatch.items = 1\n")
        await_metric(stack, 0, "coursesync_policies_last_read_successful")
        (line,) = log_lines(stack, "policies.rejected")
        assert "is not a setting; did you mean batch.items_max?" in line["mistakes"][0]
        before = publish_both(24)
        assert largest(stack, SLOW, before) == 3
        stack.drain_daemon()
