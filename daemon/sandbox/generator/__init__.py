"""Course changes by dice: `generate_records` makes them, `publish_records` sends them at a rate."""

from daemon.sandbox.generator.command import generate
from daemon.sandbox.generator.invalid import InvalidKind
from daemon.sandbox.generator.publisher import publish_records
from daemon.sandbox.generator.records import GeneratedRecord, Plan, generate_records

__all__ = ["GeneratedRecord", "InvalidKind", "Plan", "generate", "generate_records", "publish_records"]
