"""Another body that means the same: the way out when the API answers with an earlier task (R14, API trap 1).

The API makes a task out of a body once and returns it whenever equal bytes come again; whether it compares bytes
or parsed JSON is not known. So bodies have to differ as JSON, and mean the same to a learning system:

* an optional field that is not there may be null, or absent (vendor's OpenAPI: optional and nullable);
* the languages of a course may stand in any order;
* so may the items of a batch.

All wordings of one item form a circle, and `next_wording` goes one step on it: whoever goes as many steps as there
are has seen each of them once, without having to remember any.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence

import msgspec

from daemon.core.model import Item

REPLAYS_MAX = 8
"""Bodies of one batch that may turn out to be known to the API, one after the other, before its changes end. A
catalogue that is published unchanged every night needs one more each night until the API forgets.
"""

_OPTIONAL = ("description", "thumbnail_url", "duration", "languages")
_FIELDS = ("type", "title", "course_url", *_OPTIONAL)
"""In the order in which they are sent first (`codec.change.Course`)."""

_ENOUGH = 6
"""Items that can change places in so many ways (720) that their wordings need not change too."""
_STEPS_MAX = 64
"""A step takes some microseconds."""
_NULL = b"null"
_COUNTED_MAX = 1_000_000
"""Beyond it the number of wordings does not matter."""


_Members = dict[str, msgspec.Raw]

_decode = msgspec.json.Decoder(_Members).decode
_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode

Entry = tuple[Item, bytes]
"""A change and its item as it goes into a body."""


def wordings(item: bytes) -> int:
    """How many there are of this item, itself included."""
    course = _decode(_decode(item)["course"])
    free = sum(_is_empty(course, name) for name in _OPTIONAL)
    return (1 << free) * _orders(_languages(course))


def next_wording(item: bytes) -> bytes:
    """The next one on the circle; the same bytes when there is no other."""
    members = _decode(item)
    course = _decode(members["course"])
    for name in _OPTIONAL:
        if name not in course:
            course[name] = msgspec.Raw(_NULL)
            break
        if bytes(course[name]) == _NULL:
            del course[name]  # and carry on, as an odometer does
    else:
        languages = _languages(course)
        if languages:
            following = _next_permutation(languages)
            course["languages"] = msgspec.Raw(b"[" + b",".join(following) + b"]")
    ordered = {
        name: course[name] for name in _FIELDS if name in course
    } | course  # with fields of a newer version
    return _encode(members | {"course": ordered})


def reword(entries: Sequence[Entry], replays: int, bytes_max: int, rng: random.Random) -> list[Entry] | None:
    """The items of another body for a batch of which `replays` bodies, the last one included, were known to the
    API; None when there is nothing left to try.

    A single change goes through all its wordings. Several change places; and each one its wording, if the body
    then has at most `bytes_max` bytes. Where there are more ways than may be tried, one is taken by chance, so
    that what is published again and again does not have to go past all bodies of earlier times.
    """
    ways = _ways(entries)
    if replays >= min(ways, REPLAYS_MAX):
        return None
    if len(entries) == 1:
        item, body = entries[0]
        steps = 1 if ways <= REPLAYS_MAX else rng.randrange(1, min(ways, _STEPS_MAX))
        return [(item, _go(body, steps))]
    shuffled = list(entries)
    rng.shuffle(shuffled)
    if [item.origin_id for item, _ in shuffled] == [item.origin_id for item, _ in entries]:
        shuffled.append(shuffled.pop(0))
    if len(shuffled) >= _ENOUGH:
        return shuffled
    reworded = [(item, _go(body, rng.randrange(min(wordings(body), _STEPS_MAX)))) for item, body in shuffled]
    return reworded if sum(len(body) for _, body in reworded) <= bytes_max else shuffled


def _ways(entries: Sequence[Entry]) -> int:
    ways = 1
    for number, (_, body) in enumerate(entries, 1):
        ways *= number * wordings(body)
        if ways > _COUNTED_MAX:
            break
    return min(ways, _COUNTED_MAX)


def _go(item: bytes, steps: int) -> bytes:
    for _ in range(steps):
        item = next_wording(item)
    return item


def _is_empty(course: _Members, name: str) -> bool:
    return name not in course or bytes(course[name]) == _NULL


def _languages(course: _Members) -> list[bytes]:
    if _is_empty(course, "languages"):
        return []
    return [bytes(language) for language in _decode_list(course["languages"])]


def _orders(values: Sequence[bytes]) -> int:
    """In how many orders these can stand; equal ones can not be told apart."""
    repeated = math.prod(math.factorial(count) for count in Counter(values).values())
    return math.factorial(len(values)) // repeated


def _next_permutation(values: Sequence[bytes]) -> list[bytes]:
    """In lexicographic order; after the last one comes the first."""
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
