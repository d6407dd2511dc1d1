"""The changes that are measured with."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

from tests.sandbox.generator import GeneratedRecord, Plan, generate_records, publish_records
from tests.sandbox.stack import Addresses

INTEGRATIONS = 20


def distinct_changes(count: int, seed: int, integrations: int = INTEGRATIONS) -> Iterator[GeneratedRecord]:
    """Good changes, each of another course, in the three forms that the input takes; those of the
    integrations are mixed. Every one of them has to be submitted: nothing collapses, nothing waits for
    its course."""
    return generate_records(
        Plan(
            seed=seed,
            changes=count,
            integrations=integrations,
            courses_per_integration=-(-count // integrations),
            quiet_integrations=0,
            repeat_share=0.0,
            return_share=0.0,
            invalid_share=0.0,
            first_time_ms=time.time_ns() // 1_000_000,
        )
    )


def preload(at: Addresses, records: Iterable[GeneratedRecord]) -> None:
    publish_records(records, at.connection, at.topics.changes)
