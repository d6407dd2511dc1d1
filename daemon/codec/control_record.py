"""The wire format of the control topic: what operators have decided (R19).

Key: ``["pause", integration or pattern]``, ``["give-up", integration]`` or ``["give-up", integration, course]``. The topic is
compacted, so the last decision of each key stays, with who decided it, when and why.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta

from daemon.codec.times import iso_ms
from daemon.core.control import Decision, GiveUp, Pause

_Time = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
_By = Annotated[str, Meta(description="Who decided it, as the command was told or as `user@host`.")]
_Reason = Annotated[str | None, Meta(description="Why, in the operator's words.")]
_At = Annotated[_Time, Meta(description="When, by the clock of the operator's host.")]


class PauseRecord(msgspec.Struct, frozen=True, tag="pause", tag_field="kind"):
    """An integration is paused or resumed. `coursesyncd pause` and `resume` write it."""

    integration: Annotated[
        str,
        Meta(description="Id of the integration, or a pattern: the first characters of ids and `*`."),
    ]
    paused: Annotated[bool, Meta(description="false: it goes on.")]
    by: _By
    decided_at: _At
    until: Annotated[_Time | None, Meta(description="When the pause ends by itself; null: never.")] = None
    reason: _Reason = None


class GiveUpRecord(msgspec.Struct, frozen=True, tag="give-up", tag_field="kind"):
    """Changes of an integration are given up. `coursesyncd give-up` writes it."""

    integration_id: str
    topic_id: Annotated[str, Meta(description="The unique id of the input topic.")]
    before: Annotated[
        tuple[Annotated[int, Meta(ge=0)], ...],
        Meta(description="For each input partition, the first offset whose change is not given up."),
    ]
    by: _By
    decided_at: _At
    origin_id: Annotated[str | None, Meta(description="The course; null: all courses.")] = None
    open_tasks: Annotated[bool, Meta(description="Whether open tasks end as well.")] = False
    reason: _Reason = None


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(PauseRecord | GiveUpRecord).decode


def encode_control(decision: Decision) -> tuple[bytes, bytes]:
    """Key and value of the record."""
    at = iso_ms(decision.decided_at)
    record: PauseRecord | GiveUpRecord
    if isinstance(decision, Pause):
        key = ["pause", decision.integration]
        until = None if decision.until is None else iso_ms(decision.until)
        record = PauseRecord(decision.integration, decision.paused, decision.by, at, until, decision.reason)
    else:
        key = ["give-up", decision.integration_id]
        if decision.origin_id is not None:
            key.append(decision.origin_id)
        record = GiveUpRecord(
            decision.integration_id,
            decision.topic_id,
            decision.before,
            decision.by,
            at,
            decision.origin_id,
            decision.open_tasks,
            decision.reason,
        )
    return _encode(key), _encode(record)


def decode_control(value: bytes) -> Decision:
    """The decision in the value of a record.

    Raises:
        ValueError: it is not a record of this format.
    """
    try:
        record = _decode(value)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
    at = _ms(record.decided_at)
    if isinstance(record, PauseRecord):
        until = None if record.until is None else _ms(record.until)
        return Pause(record.integration, record.paused, until, record.by, record.reason, at)
    return GiveUp(
        record.integration_id,
        record.origin_id,
        record.open_tasks,
        record.topic_id,
        record.before,
        record.by,
        record.reason,
        at,
    )


def _ms(time: str) -> int:
    parsed = datetime.fromisoformat(time)
    if parsed.tzinfo is None:  # it would be another time on each host
        raise ValueError(f"the time {time!r} has no time zone")
    return round(parsed.timestamp() * 1000)
