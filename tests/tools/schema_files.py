"""``python -m tests.tools.schema_files schemas``: the JSON Schemas of the wire formats, from the structs of the daemon.

It writes them into the folder of that name. A test fails if the published
files and the code differ.
"""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import Any

import msgspec

from daemon.codec import repeats
from daemon.codec.change import (
    CourseChange,
    CourseChangeEvent,
    CourseDeactivation,
    CourseDeactivationEvent,
)
from daemon.codec.control_record import GiveUpRecord, PauseRecord
from daemon.codec.course_record import KnownCourseRecord
from daemon.codec.dead_letter import HEADERS, HEADERS_ALWAYS
from daemon.codec.result import SyncCorrectionEvent, SyncResultEvent
from daemon.core.model import RejectReason

_DIALECT = "https://json-schema.org/draft/2020-12/schema"

STRUCTS: dict[str, type] = {
    "course-change": CourseChange,
    "course-change-event": CourseChangeEvent,
    "course-deactivation": CourseDeactivation,
    "course-deactivation-event": CourseDeactivationEvent,
    "sync-result": SyncResultEvent,
    "sync-correction": SyncCorrectionEvent,
    "known-course": KnownCourseRecord,
    "control-pause": PauseRecord,
    "control-give-up": GiveUpRecord,
}


def schemas() -> dict[str, bytes]:
    """Maps the file name of every schema to its content."""
    documents = {name: msgspec.json.schema(struct) for name, struct in STRUCTS.items()}
    documents["dead-letter-headers"] = _dead_letter_headers()
    documents["repeat-headers"] = _repeat_headers()
    return {f"{name}.schema.json": _rendered(name, document) for name, document in documents.items()}


def write(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in schemas().items():
        (folder / name).write_bytes(content)


def _dead_letter_headers() -> dict[str, Any]:
    properties: dict[str, Any] = {
        name: {"description": meaning, "type": "string"} for name, meaning in HEADERS.items()
    }
    properties["coursesync-reason"]["enum"] = [reason.value for reason in RejectReason]
    return {
        "title": "DeadLetterHeaders",
        "description": (
            "The headers that the daemon adds to a rejected record in the dead letters, as one object of names and "
            "texts (UTF-8). Key, value and the record's own headers are the publisher's bytes.\n\nREAD THE DEAD LETTERS "
            "WITH `isolation.level=read_committed`, like the results."
        ),
        "type": "object",
        "properties": properties,
        "required": list(HEADERS_ALWAYS),
    }


def _repeat_headers() -> dict[str, Any]:
    patterns = {repeats.REPEATS: "^.+/[0-9]+/[0-9]+$", repeats.CHECKED: "^[0-9]+$"}
    return {
        "title": "RepeatHeaders",
        "description": (
            "The headers of a change that repeats an older one, as one object of names and texts. `coursesyncd republish` writes "
            "them. If a newer change of the course was accepted since, the repeat ends SUPERSEDED and is not sent. Key, value and "
            "other headers are those of the repeated record."
        ),
        "type": "object",
        "properties": {
            name: {"description": meaning, "type": "string", "pattern": patterns[name]}
            for name, meaning in repeats.HEADERS.items()
        },
        "required": list(repeats.HEADERS),
    }


def _rendered(name: str, document: dict[str, Any]) -> bytes:
    whole = {
        "$schema": _DIALECT,
        "$id": f"urn:course-sync-daemon:schema:{name}",
        **_with_plain_text(document),
    }
    return msgspec.json.format(msgspec.json.encode(whole), indent=2) + b"\n"


def _with_plain_text(node: Any) -> Any:
    """The same document. In descriptions, line breaks remain only between paragraphs, not where the source wraps."""
    if isinstance(node, list):
        return [_with_plain_text(entry) for entry in node]
    if not isinstance(node, dict):
        return node
    changed = {name: _with_plain_text(entry) for name, entry in node.items()}
    if isinstance(changed.get("description"), str):
        paragraphs = inspect.cleandoc(changed["description"]).split("\n\n")
        changed["description"] = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
    return changed


if __name__ == "__main__":
    write(Path(sys.argv[1] if len(sys.argv) > 1 else "schemas"))
