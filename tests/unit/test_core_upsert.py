"""Another body means the same and is not the same, neither as bytes nor, where possible, as JSON."""

import json
import random
from itertools import pairwise
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.codec.change import Course, SubmissionItem
from daemon.core.operation import REPLAYS_MAX
from daemon.core.upsert import join, reencode, reencode_item, split
from tests.sandbox.checker import content_digest

TEXTS = st.text(alphabet=st.characters(exclude_categories=["C"]), min_size=1, max_size=5)
URLS = st.sampled_from(
    [
        "https://example.com/a",
        "HTTP://Me:Pass@B\u00fccher.example:8080?x=Y",
        "https://[2001:db8::a]/A#B",
        "https://192.0.2.1/a",
        "https://a\\B",
        "app://Course/a",
        "/relative/A",
    ]
)
SEEDS = st.integers(0, 2**32)
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
FULL = COURSE | {
    "description": "d",
    "thumbnail_url": "https://img.example.com/t.png",
    "duration": 5,
    "languages": ["en"],
}
WITHOUT_HOSTS = FULL | {"course_url": "https://192.0.2.1/a", "thumbnail_url": "t"}


def item_of(course: dict[str, Any], origin_id: str = "a") -> bytes:
    return json.dumps({"origin_id": origin_id, "course": course}, separators=(",", ":")).encode()


def entry(origin_id: str, course: dict[str, Any] = COURSE) -> bytes:
    return item_of(course, origin_id)


def as_json(item: bytes) -> str:
    """What an API compares that does not look at bytes: order of fields and spaces do not count."""
    return json.dumps(json.loads(item), sort_keys=True)


def run_of(item: bytes, rng: random.Random) -> list[bytes]:
    """The bodies that are sent one after the other, while the API answers each with an earlier task."""
    bodies = [item]
    while (reencoded := reencode([bodies[-1]], len(bodies), 10**6, rng)) is not None:
        bodies.append(reencoded[0][1])
    return bodies


@given(ITEMS, SEEDS)
def test_equivalent_items_differ_and_mean_the_same(item: bytes, seed: int) -> None:
    rng = random.Random(seed)
    bodies = [*run_of(item, rng), reencode_item(item, rng)]
    assert len(set(bodies)) == len(bodies)
    assert len({content_digest(json.loads(each)["course"]) for each in bodies}) == 1
    assert {json.loads(each)["origin_id"] for each in bodies} == {json.loads(item)["origin_id"]}
    for each in bodies:
        assert split(join([each])) == [each]  # the white space is part of the frozen bytes
        msgspec.json.decode(each, type=SubmissionItem)


@given(ITEMS, SEEDS)
def test_from_the_second_on_each_differs_from_the_last_one_as_json_or_there_is_none(
    item: bytes, seed: int
) -> None:
    bodies = run_of(item, random.Random(seed))
    if len(bodies) == REPLAYS_MAX:
        for before, after in pairwise(bodies[1:]):
            assert as_json(before) != as_json(after)
    else:
        assert len(bodies) == 2
        assert as_json(bodies[0]) == as_json(bodies[1])


@given(ITEMS, SEEDS)
def test_the_first_language_stays(item: bytes, seed: int) -> None:
    """A tool with one language takes the first one."""
    for each in run_of(item, random.Random(seed)):
        languages = json.loads(each)["course"].get("languages") or [None]
        assert languages[0] == (json.loads(item)["course"].get("languages") or [None])[0]


@given(ITEMS, SEEDS)
def test_nothing_that_people_see_changes_at_first(item: bytes, seed: int) -> None:
    said, rng = json.loads(item)["course"], random.Random(seed)
    for each in (run_of(item, rng)[1], reencode_item(item, rng)):
        course = json.loads(each)["course"]
        assert (course["course_url"], course.get("thumbnail_url")) == (
            said["course_url"],
            said.get("thumbnail_url"),
        )


@pytest.mark.parametrize(
    ("url", "fixed"),
    [
        ("https://example.com/Path?Query#Fragment", "https://"),
        ("https://User:Pass@example.com:8443/a", "https://User:Pass@"),
        ("HTTP://example.com", "HTTP://"),
    ],
)
def test_only_the_host_of_a_url_changes(url: str, fixed: str) -> None:
    course = FULL | {"thumbnail_url": "t", "course_url": url}
    for each in run_of(item_of(course), random.Random(5))[2:]:
        sent = json.loads(each)["course"]["course_url"]
        assert sent != url
        assert sent.startswith(fixed)
        assert urlsplit(sent)._replace(netloc="") == urlsplit(url)._replace(netloc="")
        assert urlsplit(sent).hostname == "example.com"


@pytest.mark.parametrize(
    "url", ["app://Course/a", "https://192.0.2.1:8080/a", "/a", "https:example.com", "https://a\\B"]
)
def test_other_urls_do_not_change(url: str) -> None:
    course = WITHOUT_HOSTS | {"course_url": url}
    assert {
        json.loads(each)["course"]["course_url"].lower() for each in run_of(item_of(course), random.Random(6))
    } == {url.lower()}
    if url != "https://a\\B":
        assert len(run_of(item_of(course), random.Random(6))) == 2


def test_a_picture_changes_before_the_course() -> None:
    """Nobody reads the address of a picture."""
    for each in run_of(
        item_of(FULL | {"thumbnail_url": "https://pictures.of.example.com/t"}), random.Random(7)
    ):
        assert json.loads(each)["course"]["course_url"] == FULL["course_url"]


def test_fields_of_a_newer_version_stay() -> None:
    item = json.loads(item_of(COURSE | {"level": 3})) | {"priority": [1, 2]}
    for each in run_of(json.dumps(item).encode(), random.Random(8)):
        said = json.loads(each)
        assert (said["course"]["level"], said["priority"]) == (3, [1, 2])


@pytest.mark.parametrize("course", [COURSE, FULL, WITHOUT_HOSTS, FULL | {"languages": ["en", "de"]}])
def test_a_course_that_is_published_unchanged_every_night_meets_no_body_of_the_nights_before(
    course: dict[str, Any],
) -> None:
    bodies = {run_of(item_of(course), random.Random(night))[1] for night in range(50)}
    assert len(bodies) == 50


def test_an_api_that_compares_json_knows_few_of_the_bodies_of_a_full_course() -> None:
    bodies = [
        as_json(each) for night in range(50) for each in run_of(item_of(FULL), random.Random(night))[2:]
    ]
    assert len(bodies) == 50 * 6
    assert len(set(bodies)) > 280


# --- whole batches --------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [2, 3, 7, 100])
def test_several_changes_change_places(count: int) -> None:
    entries = [entry(f"c{number}", FULL) for number in range(count)]
    for seed in range(20):
        reencoded = reencode(entries, 1, 10**6, random.Random(seed))
        assert reencoded is not None
        assert [json.loads(item) for _, item in reencoded] != [json.loads(item) for item in entries]
        assert sorted(place for place, _ in reencoded) == list(range(count))
        for place, item in reencoded:
            assert json.loads(item) == json.loads(entries[place])


def test_a_body_that_would_grow_too_long_only_changes_places() -> None:
    entries = [entry("a"), entry("b")]
    size = sum(len(item) for item in entries)
    assert reencode(entries, 1, size, random.Random(2)) == [(1, entries[1]), (0, entries[0])]


@pytest.mark.parametrize(
    ("entries", "ways"),
    [
        ([entry("a", WITHOUT_HOSTS)], 2),
        ([entry("a", FULL)], REPLAYS_MAX),
        ([entry("a", WITHOUT_HOSTS), entry("b", WITHOUT_HOSTS)], REPLAYS_MAX),
        ([entry(f"c{number}") for number in range(100)], REPLAYS_MAX),
    ],
)
def test_there_is_an_end_to_it(entries: list[bytes], ways: int) -> None:
    tries = [reencode(entries, replays, 10**6, random.Random(3)) is not None for replays in range(1, 20)]
    assert tries == [replays < ways for replays in range(1, 20)]


def test_many_languages_and_a_long_url_cost_nothing() -> None:
    course = COURSE | {
        "languages": [f"l{chr(97 + number)}" for number in range(20)],
        "course_url": "https://" + "x" * 400_000,
    }
    reencoded = reencode([entry("a", course)], 2, 10**6, random.Random(4))
    assert reencoded is not None
    (_, body), *_ = reencoded
    assert body != entry("a", course)
