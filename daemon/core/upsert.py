"""The operation that creates or updates a course: a bulk submission, answered with a task.

Its bodies have equivalents: other bytes with the same meaning, for the case that the API answers with an earlier task
(R14). The API creates one task from a body and returns it whenever equal bytes come again. The vendor does not
document whether it compares bytes or parsed JSON. So equivalent bodies differ as JSON, but mean the same to a
learning system:

* an optional field without a value may be null, or absent (vendor's OpenAPI description: optional and nullable);
* the languages of a course may be in any order;
* the items of a batch may be in any order.

The encodings of one item form a cycle, and `next_encoding` advances it by one. Advancing it as many times as there
are encodings produces each of them once, without remembering those that were used.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence

import msgspec

from daemon.core.operation import REPLAYS_MAX, Operation

_OPTIONAL = ("description", "thumbnail_url", "duration", "languages")
_FIELDS = ("type", "title", "course_url", *_OPTIONAL)
"""In the order of the first encoding (`codec.change.Course`)."""

_SHUFFLE_ONLY_ITEMS_MIN = 6
"""From this number of items on, their order alone gives enough bodies (720), and their encodings stay the same."""
_STEPS_MAX = 64
"""Each step takes some microseconds."""
_NULL = b"null"
_ENCODINGS_COUNTED_MAX = 1_000_000
"""Larger numbers of encodings are not distinguished."""


_Members = dict[str, msgspec.Raw]

_decode = msgspec.json.Decoder(_Members).decode
_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
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


def encodings(item: bytes) -> int:
    """The number of encodings of this item, itself included."""
    course = _decode(_decode(item)["course"])
    free = sum(_is_empty(course, name) for name in _OPTIONAL)
    return (1 << free) * _orders(_languages(course))


def next_encoding(item: bytes) -> bytes:
    """The next encoding in the cycle; the same bytes if there is no other encoding."""
    members = _decode(item)
    course = _decode(members["course"])
    for name in _OPTIONAL:
        if name not in course:
            course[name] = msgspec.Raw(_NULL)
            break
        if bytes(course[name]) == _NULL:
            del course[name]  # carry over, like an odometer
    else:
        languages = _languages(course)
        if languages:
            following = _next_permutation(languages)
            course["languages"] = msgspec.Raw(b"[" + b",".join(following) + b"]")
    # `| course` keeps the fields of a newer version.
    ordered = {name: course[name] for name in _FIELDS if name in course} | course
    return _encode(members | {"course": ordered})


def reencode(
    items: Sequence[bytes], replays: int, bytes_max: int, rng: random.Random
) -> list[tuple[int, bytes]] | None:
    """As `Operation.reencode`. A single item goes through all its encodings. Several items change their order, and
    each one its encoding if the body then has at most `bytes_max` bytes. If there are more bodies than may be tried,
    one is drawn at random. In a fixed order, content that is published repeatedly would first have to try every
    body of its earlier publications, each of which the API answers with an earlier task.
    """
    bodies = _equivalents(items)
    if replays >= min(bodies, REPLAYS_MAX):
        return None
    if len(items) == 1:
        steps = 1 if bodies <= REPLAYS_MAX else rng.randrange(1, min(bodies, _STEPS_MAX))
        return [(0, _advance(items[0], steps))]
    order = list(range(len(items)))
    rng.shuffle(order)
    if order == sorted(order):
        order.append(order.pop(0))
    shuffled = [(place, items[place]) for place in order]
    if len(shuffled) >= _SHUFFLE_ONLY_ITEMS_MIN:
        return shuffled
    reencoded = [
        (place, _advance(item, rng.randrange(min(encodings(item), _STEPS_MAX)))) for place, item in shuffled
    ]
    return reencoded if sum(len(item) for _, item in reencoded) <= bytes_max else shuffled


def _equivalents(items: Sequence[bytes]) -> int:
    """The number of equivalent bodies, this one included; at most `_ENCODINGS_COUNTED_MAX`."""
    count = 1
    for number, item in enumerate(items, 1):
        count *= number * encodings(item)
        if count > _ENCODINGS_COUNTED_MAX:
            break
    return min(count, _ENCODINGS_COUNTED_MAX)


def _advance(item: bytes, steps: int) -> bytes:
    for _ in range(steps):
        item = next_encoding(item)
    return item


def _is_empty(course: _Members, name: str) -> bool:
    return name not in course or bytes(course[name]) == _NULL


def _languages(course: _Members) -> list[bytes]:
    if _is_empty(course, "languages"):
        return []
    return [bytes(language) for language in _decode_list(course["languages"])]


def _orders(values: Sequence[bytes]) -> int:
    """The number of different orders of these values; equal values are not distinguished."""
    repeated = math.prod(math.factorial(count) for count in Counter(values).values())
    return math.factorial(len(values)) // repeated


def _next_permutation(values: Sequence[bytes]) -> list[bytes]:
    """The next permutation in lexicographic order; the first one follows the last one."""
    following = list(values)
    pivot = len(following) - 2
    while pivot >= 0 and following[pivot] >= following[pivot + 1]:
        pivot -= 1
    if pivot < 0:
        return following[::-1]
    other = len(following) - 1
    while following[other] <= following[pivot]:
        other -= 1
    following[pivot], following[other] = following[other], following[pivot]
    following[pivot + 1 :] = reversed(following[pivot + 1 :])
    return following


UPSERT = Operation("upsert", join, split, next_encoding, reencode)
