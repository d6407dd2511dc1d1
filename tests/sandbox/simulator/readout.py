"""The state for a checker: rows of plain data, all times in milliseconds since the epoch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import msgspec

from tests.sandbox.simulator.state import Simulator
from tests.sandbox.simulator.tasks import SimulatedTask


def course_rows(simulator: Simulator) -> Iterator[dict[str, Any]]:
    """One row for each course of the LMS."""
    for integration_id, origin_id, course in simulator.courses():
        yield {
            "integration_id": integration_id,
            "origin_id": origin_id,
            "course_id": course.course_id,
            "course": course.content,
            "applied_at": course.applied_at,
            "task_id": course.task_id,
            "applications": course.applications,
            "is_active": course.is_active,
        }


def task_row(task: SimulatedTask, now: int) -> dict[str, Any]:
    """A task with its items, its outcome, and what was reported of it.

    For an item: `outcome` and `code` are the decision of the task (None until it is COMPLETED), `reported` is how often the
    result of the task mentions the item, `applied` is whether it was written to the LMS.
    """
    status, fate = task.status(now), task.fate
    completed, applied = status == "COMPLETED", task.applied_at is not None
    items = []
    for index, item in enumerate(task.items):
        error = fate.item_errors.get(index)
        items.append(
            {
                "origin_id": item.origin_id,
                "course": item.course,
                "outcome": None if not completed else "SUCCEEDED" if error is None else "FAILED",
                "code": error.code if completed and error is not None else None,
                "reported": task.reported(index) if completed else 0,
                "applied": applied and error is None,
            }
        )
    return {
        "task_id": task.task_id,
        "integration_id": task.integration_id,
        "body_sha256": task.body_sha256.hex(),
        "status": status,
        "code": None if status != "FAILED" or fate.error is None else fate.error.code,
        "created_at": task.created_at,
        "completed_at": None if status == "PENDING" else fate.ends_at,
        "applied_at": task.applied_at,
        "told_at": task.told_at,
        "polls": task.polls,
        "posts": task.posts,
        "posts_answered": task.posts_answered,
        "foreign": fate.foreign if completed else None,
        "items": items,
        "strangers": [{"origin_id": item.origin_id, "course": item.course} for item in task.strangers],
    }


def deactivation_rows(simulator: Simulator) -> Iterator[dict[str, Any]]:
    """One row for each call that deactivates a course, in order of arrival."""
    return (msgspec.structs.asdict(each) for each in simulator.deactivations)


def stats(simulator: Simulator, now: int) -> dict[str, Any]:
    """Counts of requests by answer, of faults that hit, of tasks by status, and of the LMS."""
    tasks = simulator.tasks.values()
    return {
        "requests": dict(sorted(simulator.requests.items())),
        "faults": dict(sorted(simulator.fault_hits.items())),
        "in_flight_max": simulator.in_flight_max,
        "tasks": dict(Counter(task.status(now) for task in tasks)),
        "items": sum(len(task.items) for task in tasks),
        "polls": sum(task.polls for task in tasks),
        "deactivations": len(simulator.deactivations),
        "inactive": sum(not course.is_active for _, _, course in simulator.courses()),
        "courses": sum(len(courses) for courses in simulator.lms.values()),
        "applications": sum(course.applications for _, _, course in simulator.courses()),
    }
