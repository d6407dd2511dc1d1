"""Input records from a seed: the same plan gives the same bytes, on every machine.

How it works. Every integration has a catalogue of courses. The generator stores the last contents of each course. For each
record it decides at random

* whether to send an invalid record (`invalid_share`, see `invalid.py`),
* whether to retire a course (`retire_share`): `course.deactivated`, mostly for one that was sent a while ago, so that the LMS has
  it. A third of them name it by its id in the LMS, which in the simulator is the origin id; the others leave it to the daemon.
  A retired course may be changed again,
* whether a course returns to content that it had before, A → B → A (`return_share`),
* whether to change one of the courses that were changed last, so that changes of one course collide
  (`repeat_share`), or otherwise the next course of the catalogue,

and encodes it in one of the three forms that the input topic accepts. Nothing here reads a clock.

The last `republished` records are different: they publish the catalogue again, as a publisher does every night. Each of them has
the last content of its course in other bytes: another order of the fields, and of the languages after the first; null instead of nothing, or the reverse.

A return to earlier content is a problem for the daemon only if a complete request repeats byte for byte, and a request with
many items hardly ever does. So the first `quiet_integrations` integrations have a single course each, which alternates
between two contents: their batches are single items, and repeat.
"""

from __future__ import annotations

import string
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random
from typing import Any, NamedTuple

import msgspec

from tests.sandbox.generator.invalid import InvalidKind, spoil

RECENT_COURSES = 12
"""Number of courses that count as changed recently. It is small enough that repeats fall into one batch window."""

HISTORY_PER_COURSE = 4
"""Number of earlier contents that are kept for a return."""


RETIRED_AFTER = 1500
"""Number of records after which a course that was sent is probably in the LMS."""


class GeneratedRecord(NamedTuple):
    """One record for the input topic. `invalid` is its error, or None for a valid record."""

    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()
    invalid: InvalidKind | None = None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to generate. Shares are 0 to 1. `invalid`, `retire`, `return` and `repeat` are tried in this order, each on the records that
    the previous one did not select."""

    seed: int = 1
    changes: int = 1000
    """Total number of records, including invalid ones."""
    integrations: int = 20
    courses_per_integration: int = 50
    quiet_integrations: int = 2
    """Number of integrations with a single course that alternates between two contents."""
    repeat_share: float = 0.3
    return_share: float = 0.05
    invalid_share: float = 0.01
    retire_share: float = 0.0
    republished: int = 0
    """Number of records, the last ones of `changes`, that publish the catalogue again. They are all valid."""
    bulk_share: float = 0.0
    """Of the valid changes."""
    first_time_ms: int = 1_767_225_600_000
    """`time` of the first record in milliseconds since the epoch. Each following record is 1 ms later. The field is
    informational."""

    def __post_init__(self) -> None:
        for name in ("repeat_share", "return_share", "invalid_share", "retire_share", "bulk_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}, which is not between 0 and 1")
        if not 0 <= self.republished <= self.changes:
            raise ValueError(f"republished is {self.republished}, which is not between 0 and `changes`")
        for name, least in (("changes", 0), ("integrations", 1), ("courses_per_integration", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}, which is less than {least}")
        if not 0 <= self.quiet_integrations < self.integrations:
            raise ValueError(
                f"quiet_integrations is {self.quiet_integrations}; of {self.integrations} integrations"
                " at least one has to be an ordinary one"
            )


@dataclass(slots=True, eq=False)
class _Course:
    integration_id: str
    origin_id: str
    subject: str
    history: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=HISTORY_PER_COURSE))
    """Contents that were sent, newest last."""
    revision: int = 0
    published: int = 0
    """Number of the record that published its last content."""
    is_retired: bool = False


def generate_records(plan: Plan) -> Iterator[GeneratedRecord]:
    """Yield `plan.changes` records lazily. Equal plans yield equal records."""
    rng = Random(plan.seed)
    quiet, ordinary = _catalogue(rng, plan)
    recent: deque[_Course] = deque(maxlen=RECENT_COURSES)
    rng.shuffle(ordinary)
    kinds = list(InvalidKind)
    rng.shuffle(kinds)
    sent: dict[int, _Course] = {}  # by the number of the first record
    turn = bad = 0
    for number in range(plan.changes - plan.republished):
        change_id, time = _change_id(plan, number), _rfc3339(plan.first_time_ms + number)
        if rng.random() < plan.invalid_share:
            victim = rng.choice(ordinary)
            change = _change(change_id, time, victim, _new_content(rng, victim))
            kind = kinds[bad % len(kinds)]  # in turn, so that even a few invalid records cover many kinds
            bad += 1
            yield GeneratedRecord(*spoil(kind, change), invalid=kind)
            continue
        # Without retirements, the same plan gives the same bytes as before there were any.
        if plan.retire_share and recent and rng.random() < plan.retire_share:
            old = [sent_at for sent_at in sent if sent_at <= number - RETIRED_AFTER]
            retired = sent[rng.choice(old)] if old and rng.random() < 0.75 else rng.choice(recent)
            if retired not in recent:
                recent.append(retired)
            retired.is_retired = True
            yield _wrap(rng, _with_priority(rng, plan, _deactivation(rng, change_id, time, retired)))
            continue
        course = content = None
        if rng.random() < plan.return_share:
            course, content = _going_back(rng, quiet, recent)
        if course is None:
            if recent and rng.random() < plan.repeat_share:
                course = rng.choice(recent)
            else:
                course = ordinary[turn % len(ordinary)]
                turn += 1
        if content is None:
            content = _new_content(rng, course)
        course.history.append(content)
        course.published, course.is_retired = number, False
        if plan.retire_share and len(course.history) == 1:
            sent[number] = course
        if course not in recent and course not in quiet:
            recent.append(course)
        yield _wrap(rng, _with_priority(rng, plan, _change(change_id, time, course, content)))
    yield from _published_again(rng, plan, ordinary)


def _change_id(plan: Plan, number: int) -> str:
    return f"chg-{plan.seed}-{number}"


def _published_again(rng: Random, plan: Plan, courses: list[_Course]) -> Iterator[GeneratedRecord]:
    """The catalogue as bulk, without retired courses. Those that have not changed for the longest time come first, because the LMS has
    them. If there are fewer courses than records, the catalogue is repeated.
    """
    if not plan.republished:
        return
    catalogue = [course for course in courses if course.history and not course.is_retired]
    if not catalogue:
        raise ValueError("no course was published before the catalogue is to be published again")
    catalogue.sort(key=lambda course: course.published)
    for turn, number in enumerate(range(plan.changes - plan.republished, plan.changes)):
        course = catalogue[turn % len(catalogue)]
        content = _in_other_bytes(rng, course.history[-1])
        time = _rfc3339(plan.first_time_ms + number)
        change = _change(_change_id(plan, number), time, course, content)
        yield _wrap(rng, change | {"priority": "bulk"})


def _in_other_bytes(rng: Random, content: dict[str, Any]) -> dict[str, Any]:
    """The same content: null means the same as nothing, and neither the fields nor the languages after the first have an order."""
    absent = [name for name in _OPTIONAL if content.get(name) is None and rng.random() < 0.5]
    fields = {name: value for name, value in content.items() if value is not None} | dict.fromkeys(absent)
    if fields.get("languages"):
        first, *others = fields["languages"]
        fields["languages"] = [first, *rng.sample(others, k=len(others))]
    return dict(rng.sample(sorted(fields.items()), k=len(fields)))


def _going_back(
    rng: Random, quiet: list[_Course], recent: deque[_Course]
) -> tuple[_Course | None, dict[str, Any] | None]:
    """A course and the content before its last one. Content None requests a new content, because there is no earlier one
    yet. Course None means that no course has earlier content."""
    with_past = [course for course in recent if len(course.history) > 1]
    if quiet and (not with_past or rng.random() < 0.5):
        course = rng.choice(quiet)
        return course, course.history[-2] if len(course.history) > 1 else None
    if not with_past:
        return None, None
    course = rng.choice(with_past)
    return course, course.history[-2]


# --- the catalogue --------------------------------------------------------------------------------

_TOOLS = ("workday", "cornerstone", "successfactors", "docebo", "litmos")
_SUBJECTS = (
    "Introduction to Cybersecurity",
    "Data Privacy Basics",
    "Leadership Fundamentals",
    "Workplace Safety",
    "Französisch für Anfänger",
    "Advanced Spreadsheets",
    "Conflict Resolution",
    "日本語 ビジネス会話",
    "Statistics with Python",
    "Public Speaking",
)
_SENTENCES = (
    "Learn the fundamentals in an afternoon.",
    "With exercises, a quiz and a certificate at the end.",
    "Made for people who start in a new role.",
    'Covers what the auditors call "reasonable measures".',
    "Bring your own examples; we work through them together.",
    "Übungen und Beispiele inbegriffen.",
    "Updated for this year.\nPrevious participants need not repeat it.",
)
_OPTIONAL = ("description", "thumbnail_url", "duration", "languages")
_LANGUAGES = ("en", "en-US", "de", "de-CH", "fr-FR", "pl-PL", "ja", "fil")


def _catalogue(rng: Random, plan: Plan) -> tuple[list[_Course], list[_Course]]:
    """Courses of the quiet integrations, and of all the others."""
    quiet: list[_Course] = []
    ordinary: list[_Course] = []
    for index in range(plan.integrations):
        letters = "".join(rng.choices(string.ascii_letters + string.digits, k=24))
        integration_id = f"{_TOOLS[index % len(_TOOLS)]}:{letters}"
        is_quiet = index < plan.quiet_integrations
        for number in range(1 if is_quiet else plan.courses_per_integration):
            subject = rng.choice(_SUBJECTS)
            slug = "".join(c if c.isascii() and c.isalnum() else "-" for c in subject.lower()).strip("-")
            course = _Course(integration_id, f"{slug or 'course'}-{number + 1}", subject)
            (quiet if is_quiet else ordinary).append(course)
    return quiet, ordinary


def _new_content(rng: Random, course: _Course) -> dict[str, Any]:
    """Content that this course never had before: the title contains the revision. Optional fields are present, null or
    absent, as publishers send them."""
    course.revision += 1
    content: dict[str, Any] = {
        "type": "EXTERNAL",
        "title": f"{course.subject} (revision {course.revision})",
        "course_url": f"https://learn.example.com/{course.integration_id[-6:]}/{course.origin_id}",
    }
    dice = rng.random()
    if dice < 0.8:
        content["description"] = " ".join(rng.sample(_SENTENCES, k=rng.randint(2, 5)))
    elif dice < 0.9:
        content["description"] = None
    if rng.random() < 0.5:
        content["thumbnail_url"] = f"https://img.example.com/{course.origin_id}.png"
    if rng.random() < 0.7:
        content["duration"] = rng.choice((None, 15, 30, 45, 60, 90, 480))
    if rng.random() < 0.7:
        content["languages"] = rng.sample(_LANGUAGES, k=rng.randint(1, 3))
    return content


# --- the three forms of a record ------------------------------------------------------------------


def _change(change_id: str, time: str, course: _Course, content: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": change_id,
        "type": "course.upserted",
        "integration_id": course.integration_id,
        "origin_id": course.origin_id,
        "time": time,
        "course": content,
    }


def _deactivation(rng: Random, change_id: str, time: str, course: _Course) -> dict[str, Any]:
    change: dict[str, Any] = {
        "id": change_id,
        "type": "course.deactivated",
        "integration_id": course.integration_id,
        "origin_id": course.origin_id,
        "time": time,
    }
    return change | {"course_id": f"remote:{course.origin_id}"} if rng.random() < 1 / 3 else change


def _with_priority(rng: Random, plan: Plan, change: dict[str, Any]) -> dict[str, Any]:
    """Without bulk changes, the same plan gives the same bytes as before there were any."""
    if plan.bulk_share and rng.random() < plan.bulk_share:
        change["priority"] = "bulk"
    return change


def _wrap(rng: Random, change: dict[str, Any]) -> GeneratedRecord:
    """Six of ten are plain, the others are CloudEvents. Some have unknown fields."""
    dice = rng.random()
    if rng.random() < 0.1:
        change = {**change, "trace": {"publisher": "catalogue-service", "attempt": 1}}
        if "course" in change:
            change["course"] = {**change["course"], "internal_rating": 4.5}
    key = change["integration_id"].encode()
    names = ("integration_id", "origin_id", "course", "course_id", "priority")
    data = {k: change[k] for k in names if k in change}
    if dice < 0.6:
        return GeneratedRecord(key, msgspec.json.encode(change))
    if dice < 0.8:
        envelope = {
            "specversion": "1.0",
            "id": change["id"],
            "source": "/catalogue",
            "type": change["type"],
            "time": change["time"],
            "datacontenttype": "application/json",
            "data": data,
        }
        structured = (("content-type", b"application/cloudevents+json; charset=UTF-8"),)
        return GeneratedRecord(key, msgspec.json.encode(envelope), structured)
    binary = (
        ("content-type", b"application/json"),
        ("ce_specversion", b"1.0"),
        ("ce_id", change["id"].encode()),
        ("ce_source", b"/catalogue"),
        ("ce_type", change["type"].encode()),
        ("ce_time", change["time"].encode()),
    )
    return GeneratedRecord(key, msgspec.json.encode(data), binary)


def _rfc3339(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
