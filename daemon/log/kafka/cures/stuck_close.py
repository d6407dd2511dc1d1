"""Closing a producer that has failed waits for records that cannot be sent, and then leaves its thread running.

Defect: `KafkaProducer.close` flushes and joins the sender thread for the whole time-out each before it forces the
    sender to stop, and does not wait for it afterwards. Forcing it first makes both waits short.
Upstream: not reported.
Versions: 3.0.12.
Remove when: tests/unit/test_kafka_cures.py::test_close_still_waits_before_it_forces_the_sender fails.
"""

from __future__ import annotations

from kafka import KafkaProducer


def close_failed(producer: KafkaProducer, timeout: float) -> None:
    """Close a producer whose records are given up; `timeout` in seconds."""
    producer._sender.force_close()  # noqa: SLF001
    producer.close(timeout=timeout)
