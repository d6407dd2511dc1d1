"""The operation that creates or updates a course: a bulk submission, answered with a task.

Its bodies have equivalents: other bytes with the same meaning, for the case that the API answers with an earlier task
(R14). The API creates one task from a body and returns it whenever equal bytes come again. The vendor does not
document whether it compares bytes or parsed JSON. An equivalent body differs in both, as far as that is possible:

* White space after the opening brace of an item is drawn at random. It makes other bytes, but equal JSON.
* An optional field without a value is null, or absent (vendor's OpenAPI description: optional and nullable).
* The languages of a course after the first one are in any order. The first one stays, because it is the only one that
  counts in a tool with one language (vendor's OpenAPI description, ``languages``).
* The items of a batch are in any order.
* The letters of a host name in a URL are upper or lower case (RFC 3986, 6.2.2.1: the host is case-insensitive). This is
  the only difference that people may see, so it is used only after a body without it was answered with an earlier task.

A course of which only the white space can change has no equivalent for an API that compares parsed JSON: every optional
field is set, there are at most two languages, and no URL has a host name.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from itertools import islice

import msgspec

from daemon.core.course import CourseState
from daemon.core.operation import REPLAYS_MAX, Call, Operation

_OPTIONAL = ("description", "thumbnail_url", "duration", "languages")
_FIELDS = ("type", "title", "course_url", *_OPTIONAL)
"""In the order of the first encoding (`codec.change.Course`)."""
_URLS = ("thumbnail_url", "course_url")
"""The picture first: nobody reads its address."""
HOST = re.compile(r"https?://(?:[^/?#\\@]*@)?([^/?#\\@]*)", re.IGNORECASE)
"""Its group is the host, with the port. Other schemes are left alone: apps match the hosts of their own schemes case-sensitively."""
_HOST_LETTERS_MAX = 16
"""They give 65,536 bodies. A URL may be as long as a batch."""

_SHUFFLE_ONLY_ITEMS_MIN = 6
"""From this number of items on, their order alone gives enough bodies (720), and the items stay the same."""
_WHITE_SPACE_CHARS = 16
"""65,536 bodies of one item: far more than the API can remember of a course that is published every day."""
_NULL = b"null"


_Members = dict[str, msgspec.Raw]

_decode = msgspec.json.Decoder(_Members).decode
_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_text = msgspec.json.Decoder(str).decode
_encode = msgspec.json.Encoder().encode


class _Body(msgspec.Struct):
    items: list[msgspec.Raw]


_decode_body = msgspec.json.Decoder(_Body).decode


def join(items: Sequence[bytes]) -> bytes:
    """The request body of these items (vendor's OpenAPI description, PostLmsCoursesBulkRequestBody)."""
    return b'{"items":[' + b",".join(items) + b"]}"


def split(body: bytes) -> list[bytes]:
    """The items of a frozen body, each as it was sealed."""
    return [bytes(item) for item in _decode_body(body).items]


def call(body: bytes) -> Call:
    """The body is sent as it is."""
    return Call(("lms", "courses", "bulk"), body)


def reencode_item(item: bytes, rng: random.Random) -> bytes:
    """Other bytes with the same meaning. They differ as JSON too, unless nothing but host names could."""
    return _reencode_item(item, rng, hosts=False)


def reencode(
    items: Sequence[bytes], replays: int, bytes_max: int, rng: random.Random
) -> list[tuple[int, bytes]] | None:
    """As `Operation.reencode`. A single item changes its encoding. Several items change their order, and each one its
    encoding if the body then has at most `bytes_max` bytes. All choices are random: in a fixed order, content that is
    published repeatedly would first have to try every body of its earlier publications, each of which the API answers
    with an earlier task.
    """
    if replays >= REPLAYS_MAX:
        return None
    hosts = replays > 1
    if len(items) == 1:
        if hosts and not _can_differ_as_json(items[0]):
            return None  # the API compares parsed JSON: it has already ignored other white space
        return [(0, _reencode_item(items[0], rng, hosts=hosts))]
    order = list(range(len(items)))
    rng.shuffle(order)
    if order == sorted(order):
        order.append(order.pop(0))
    shuffled = [(place, items[place]) for place in order]
    if len(shuffled) >= _SHUFFLE_ONLY_ITEMS_MIN:
        return shuffled
    reencoded = [(place, _reencode_item(item, rng, hosts=hosts)) for place, item in shuffled]
    return reencoded if sum(len(item) for _, item in reencoded) <= bytes_max else shuffled


def _reencode_item(item: bytes, rng: random.Random, *, hosts: bool) -> bytes:
    members = _decode(item)
    course = _decode(members["course"])
    empty = [name for name in _OPTIONAL if _is_empty(course, name)]
    letters = _host_letters(course) if hosts else []
    if switches := len(empty) + len(letters):
        flips = rng.randrange(1, 1 << switches)  # at least one
        for number, name in enumerate(empty):
            if flips >> number & 1:
                _toggle_null(course, name)
        _swap_cases(course, [each for number, each in enumerate(letters, len(empty)) if flips >> number & 1])
    _swap_languages(course, rng)
    # `| course` keeps the fields of a newer version.
    ordered = {name: course[name] for name in _FIELDS if name in course} | course
    encoded = _encode(members | {"course": msgspec.Raw(_encode(ordered))})
    white_space = "".join(rng.choices(" \t", k=_WHITE_SPACE_CHARS)).encode()
    return b"{" + white_space + encoded[1:]


def _can_differ_as_json(item: bytes) -> bool:
    course = _decode(_decode(item)["course"])
    return (
        any(_is_empty(course, name) for name in _OPTIONAL)
        or len(set(_languages(course)[1:])) > 1
        or bool(_host_letters(course))
    )


def _is_empty(course: _Members, name: str) -> bool:
    return name not in course or bytes(course[name]) == _NULL


def _toggle_null(course: _Members, name: str) -> None:
    if name in course:
        del course[name]
    else:
        course[name] = msgspec.Raw(_NULL)


def _languages(course: _Members) -> list[bytes]:
    if _is_empty(course, "languages"):
        return []
    return [bytes(language) for language in _decode_list(course["languages"])]


def _swap_languages(course: _Members, rng: random.Random) -> None:
    """Swap two different languages, but not the first one."""
    languages = _languages(course)
    others = [number for number in range(2, len(languages)) if languages[number] != languages[1]]
    if others:
        other = rng.choice(others)
        languages[1], languages[other] = languages[other], languages[1]
        course["languages"] = msgspec.Raw(b"[" + b",".join(languages) + b"]")


def _host_letters(course: _Members) -> list[tuple[str, int]]:
    """The first ASCII letters of the host names: the name of the field, and the index in its text."""
    found: list[tuple[str, int]] = []
    for name in _URLS:
        if not _is_empty(course, name) and (match := HOST.match(_decode_text(course[name]))):
            letters = (
                n for n, char in enumerate(match[1], match.start(1)) if char.isascii() and char.isalpha()
            )
            found += [(name, n) for n in islice(letters, _HOST_LETTERS_MAX - len(found))]
    return found


def _swap_cases(course: _Members, letters: Sequence[tuple[str, int]]) -> None:
    for name in {name for name, _ in letters}:
        text = list(_decode_text(course[name]))
        for _, index in (each for each in letters if each[0] == name):
            text[index] = text[index].swapcase()
        course[name] = msgspec.Raw(_encode("".join(text)))


UPSERT = Operation(
    name="upsert",
    event_type="course.upserted",
    items_max=None,
    makes_task=True,
    makes=CourseState.ACTIVE,
    join=join,
    split=split,
    call=call,
    reencode_item=reencode_item,
    reencode=reencode,
)
