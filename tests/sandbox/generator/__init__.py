"""Random course changes: `generate_records` creates them, `publish_records` sends them at a given rate."""

from tests.sandbox.generator.command import generate
from tests.sandbox.generator.invalid import InvalidKind
from tests.sandbox.generator.publisher import publish_records
from tests.sandbox.generator.records import GeneratedRecord, Plan, generate_records

__all__ = ["GeneratedRecord", "InvalidKind", "Plan", "generate", "generate_records", "publish_records"]
