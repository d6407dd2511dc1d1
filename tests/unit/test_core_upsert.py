"""Another body means the same and is not the same, neither as bytes nor as JSON."""

import json
import random
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.codec.change import Course, SubmissionItem
from daemon.core.upsert import REPLAYS_MAX, encodings, next_encoding, reencode
from tests.sandbox.checker import content_digest

TEXTS = st.text(alphabet=st.characters(exclude_categories=["C"]), min_size=1, max_size=5)
URLS = st.sampled_from(["https://example.com/a", "https://example.com/b?c=d"])
LANGUAGES = st.lists(st.sampled_from(["en", "de", "fr-CH"]), max_size=4)
UNSET = st.just(msgspec.UNSET)
ITEMS = st.builds(
    SubmissionItem,
    TEXTS,
    st.builds(
        Course,
        st.just("EXTERNAL"),
        TEXTS,
        URLS,
        UNSET | st.none() | TEXTS,
        UNSET | st.none() | URLS,
        UNSET | st.none() | st.integers(1, 99),
        UNSET | st.none() | LANGUAGES,
    ),
).map(msgspec.json.encode)
COURSE = {"type": "EXTERNAL", "title": "A", "course_url": "https://example.com/a"}
ALL = COURSE | {"description": "d", "thumbnail_url": "t", "duration": 5, "languages": ["en"]}


def item_of(course, origin_id="a"):
    return json.dumps({"origin_id": origin_id, "course": course}, separators=(",", ":")).encode()


def entry(origin_id, course=COURSE):
    return item_of(course, origin_id)


def circle(item):
    seen = [item]
    for _ in range(encodings(item) - 1):
        seen.append(next_encoding(seen[-1]))
    return seen


def as_json(item):
    """What an API compares that does not look at bytes: order of fields and spaces do not count."""
    return json.dumps(json.loads(item), sort_keys=True)


@given(ITEMS)
def test_the_encodings_of_an_item_form_a_circle_of_bodies_that_differ_and_mean_the_same(item):
    seen = circle(item)
    assert len({as_json(each) for each in seen}) == encodings(item)
    assert next_encoding(seen[-1]) == item
    assert len({content_digest(json.loads(each)["course"]) for each in seen}) == 1
    assert {json.loads(each)["origin_id"] for each in seen} == {json.loads(item)["origin_id"]}


@given(ITEMS)
def test_every_wording_is_what_the_api_takes(item):
    for each in circle(item):
        assert msgspec.json.encode(msgspec.json.decode(each, type=SubmissionItem)) == each


@pytest.mark.parametrize(
    ("course", "count"),
    [
        (COURSE, 16),
        (ALL, 1),
        (ALL | {"description": None}, 2),
        (ALL | {"languages": ["en", "de", "fr"]}, 6),
        (ALL | {"languages": ["en", "en"]}, 1),
        (ALL | {"languages": []}, 1),
    ],
)
def test_how_many_there_are(course, count):
    assert encodings(item_of(course)) == count


def test_fields_of_a_newer_version_stay():
    item = json.loads(item_of(COURSE | {"level": 3})) | {"priority": [1, 2]}
    for each in circle(json.dumps(item).encode()):
        said = json.loads(each)
        assert (said["course"]["level"], said["priority"]) == (3, [1, 2])


# --- whole batches --------------------------------------------------------------------------------


def test_a_single_change_goes_through_all_its_encodings_where_they_are_few():
    few = ALL | {"description": None, "duration": None}
    entries, rng, seen = [entry("a", few)], random.Random(1), []
    while entries is not None:
        seen.append(entries[0])
        reencoded = reencode(entries, len(seen), 4096, rng)
        entries = reencoded and [item for _, item in reencoded]
    assert len(set(seen)) == len(seen) == 4


def test_where_there_are_many_ways_each_run_takes_others():
    """A course that is published unchanged every night would meet all bodies of the nights before otherwise."""
    second = {reencode([entry("a")], 1, 4096, random.Random(seed))[0][1] for seed in range(50)}
    assert len(second) > 10
    assert entry("a") not in second


@pytest.mark.parametrize("count", [2, 3, 7, 100])
def test_several_changes_change_places(count):
    entries = [entry(f"c{number}", ALL) for number in range(count)]
    for seed in range(20):
        reencoded = reencode(entries, 1, 10**6, random.Random(seed))
        assert [item for _, item in reencoded] != entries
        assert dict(reencoded) == dict(enumerate(entries))


def test_a_body_that_would_grow_too_long_only_changes_places():
    entries = [entry("a"), entry("b")]
    size = sum(len(item) for item in entries)
    assert reencode(entries, 1, size, random.Random(2)) == [(1, entries[1]), (0, entries[0])]


@pytest.mark.parametrize(
    ("entries", "ways"),
    [
        ([entry("a", ALL)], 1),
        ([entry("a", ALL), entry("b", ALL)], 2),
        ([entry("a", ALL), entry("b", ALL), entry("c", ALL)], 6),
        ([entry("a")], REPLAYS_MAX),
        ([entry(f"c{number}") for number in range(100)], REPLAYS_MAX),
    ],
)
def test_there_is_an_end_to_it(entries, ways):
    tries = [reencode(entries, replays, 10**6, random.Random(3)) is not None for replays in range(1, 20)]
    assert tries == [replays < ways for replays in range(1, 20)]
    assert all(before or not after for before, after in pairwise(tries))


def test_many_languages_cost_nothing():
    course = COURSE | {"languages": [f"l{chr(97 + number)}" for number in range(20)]}
    (_, body), *_ = reencode([entry("a", course)], 1, 4096, random.Random(4))
    assert body != entry("a", course)
