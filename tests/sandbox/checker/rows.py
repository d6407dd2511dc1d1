"""Turns the rows of the simulator's `/_sim` into evidence."""

from __future__ import annotations

from typing import Any

from tests.sandbox.checker.history import ApiTask, HeldCourse, SentItem, TaskStatus, content_digest


def task_of(row: dict[str, Any]) -> ApiTask:
    """The task in a row of /_sim/tasks."""
    return ApiTask(
        task_id=row["task_id"],
        integration_id=row["integration_id"],
        created_at=row["created_at"],
        completed_at=row["completed_at"],
        applied_at=row["applied_at"],
        status=TaskStatus(row["status"]),
        error_code=row["code"],
        items=[
            SentItem(
                origin_id=item["origin_id"],
                digest=content_digest(item["course"]),
                succeeded=item["outcome"] == "SUCCEEDED" if item["reported"] else None,
                applied=item["applied"],
            )
            for item in row["items"]
        ],
        strangers=[(item["origin_id"], content_digest(item["course"])) for item in row["strangers"]],
    )


def held_course_of(row: dict[str, Any]) -> HeldCourse:
    """The course in a row of /_sim/lms."""
    return HeldCourse(
        row["integration_id"],
        row["origin_id"],
        content_digest(row["course"]),
        row["task_id"],
        row["course_id"],
        row["is_active"],
    )
