"""The index of the known courses: against a dictionary, its bound, and what is loaded beside own decisions."""

from __future__ import annotations

import tracemalloc

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.core.course import CourseState, KnownCourse, course_key
from daemon.core.known_courses import Budget, KnownCourses

ACTIVE, INACTIVE, UNKNOWN = CourseState.ACTIVE, CourseState.INACTIVE, CourseState.UNKNOWN


def course(number: int, course_id: str | None = "id") -> KnownCourse:
    return KnownCourse(ACTIVE, number.to_bytes(16, "big"), course_id, number * 1000)


def index(courses_max: int = 1_000_000) -> KnownCourses:
    return KnownCourses(Budget(courses_max))


names = st.text('ab,"]', max_size=3)
known = st.builds(
    KnownCourse,
    st.sampled_from(CourseState),
    st.none() | st.binary(min_size=16, max_size=16),
    st.none() | st.text("xyzü", min_size=1, max_size=12),
    st.integers(0, 2**32 - 1).map(lambda seconds: seconds * 1000),
)


@given(st.lists(st.tuples(names, names, known), max_size=60))
@settings(max_examples=60, deadline=None)
def test_it_knows_what_was_put_last(puts: list[tuple[str, str, KnownCourse]]) -> None:
    known_courses = index()
    expected: dict[tuple[str, str], KnownCourse] = {}
    known_courses.finish()
    for integration_id, origin_id, each in puts:
        known_courses.put(integration_id, origin_id, each)
        before = expected.get((integration_id, origin_id))
        if each.course_id is None and before is not None:
            each = msgspec.structs.replace(each, course_id=before.course_id)  # noqa: PLW2901
        expected[integration_id, origin_id] = each
    for name, each in expected.items():
        assert known_courses.get(*name) == each
        assert known_courses.course_id(*name) == each.course_id
    assert len(known_courses) == len(expected)
    assert known_courses.get("", "never") is None


def test_nothing_is_known_before_it_is_loaded() -> None:
    known_courses = index()
    known_courses.load(course_key("i", "a"), course(1))
    known_courses.put("i", "b", course(2))
    assert known_courses.get("i", "a") is known_courses.get("i", "b") is None
    assert known_courses.course_id("i", "a") is None
    known_courses.finish()
    assert known_courses.get("i", "a") == course(1)
    assert known_courses.get("i", "b") == course(2)


def test_own_decisions_are_not_replaced_by_what_is_loaded() -> None:
    known_courses = index()
    own = KnownCourse(UNKNOWN, None, None, 9000)
    known_courses.put("i", "a", own)
    known_courses.load(course_key("i", "a"), course(1, "the id"))
    known_courses.load(course_key("i", "a"), None)
    known_courses.finish()
    assert known_courses.get("i", "a") == KnownCourse(UNKNOWN, None, "the id", 9000), "the id stays"


def test_an_own_decision_without_an_id_keeps_the_id_while_the_index_is_loaded() -> None:
    """A process that had just taken over lost the id of a course that it had confirmed itself (found by the simulation)."""
    known_courses = index()
    known_courses.put("i", "a", course(1, "own"))
    known_courses.put("i", "a", KnownCourse(UNKNOWN, None, None, 2000))
    known_courses.load(course_key("i", "b"), course(1, "loaded"))
    known_courses.put("i", "b", KnownCourse(UNKNOWN, None, None, 2000))
    known_courses.finish()
    assert known_courses.course_id("i", "a") == "own"
    assert known_courses.course_id("i", "b") == "loaded"


def test_a_record_without_an_id_erases_none() -> None:
    known_courses = index()
    known_courses.load(course_key("i", "a"), course(1, "the id"))
    known_courses.load(course_key("i", "a"), KnownCourse(UNKNOWN, None, None, 2000))
    known_courses.finish()
    assert known_courses.get("i", "a") == KnownCourse(UNKNOWN, None, "the id", 2000)


def test_an_erased_course_is_not_known_and_may_come_back() -> None:
    known_courses = index()
    for each in (course(1), None):
        known_courses.load(course_key("i", "a"), each)
    known_courses.finish()
    assert known_courses.get("i", "a") is None
    known_courses.put("i", "a", course(3, None))
    assert known_courses.get("i", "a") == course(3, None)


def test_above_the_limit_further_courses_are_not_known() -> None:
    budget = Budget(2)
    one, other = KnownCourses(budget), KnownCourses(budget)
    one.load(course_key("i", "a"), course(1))
    other.put("i", "b", course(2))
    one.put("i", "c", course(3))
    one.load(course_key("i", "c"), course(1))
    other.close()
    one.load(course_key("i", "c"), course(1))  # there is room now, but this owner has decided otherwise
    one.finish()
    assert one.get("i", "a") == course(1)
    assert one.get("i", "c") is None
    one.put("i", "c", course(3))
    assert one.get("i", "c") == course(3)
    one.close()
    assert budget.left == 2


def test_a_course_takes_less_than_a_hundred_bytes() -> None:
    known_courses, count = index(), 20_000
    tracemalloc.start()
    try:
        for number in range(count):
            known_courses.load(course_key("workday:x", f"course-{number}"), course(number, f"{number:024}"))
        used = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert used / count < 100
    assert known_courses.memory <= used
