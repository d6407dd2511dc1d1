"""The items of a batch in few bytes.

A batch may be open for hours, and a replica may hold a million changes in open batches. As objects, a change takes about 240
bytes, besides its course in `Lane.busy`. Packed as MessagePack it takes about 60, depending on its ids. So a batch holds its
items packed from when it is sealed or restored. An answer that ends nothing does not unpack them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

import msgspec

from daemon.core.model import Item

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[Item, ...]).decode


class Items(msgspec.Struct, frozen=True, gc=False):
    """A sequence of items that is held as bytes. Iterating over it unpacks it; its length and `consumed_at` do not."""

    packed: bytes
    count: int
    consumed_at: int
    """When the oldest of them was consumed; 0 if there are none."""

    @classmethod
    def pack(cls, items: Sequence[Item]) -> Items:
        return cls(_encode(items), len(items), min([item.consumed_at for item in items], default=0))

    def unpack(self) -> tuple[Item, ...]:
        return _unpacked(self.packed)

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Item]:
        return iter(self.unpack())

    def __getitem__(self, place: int) -> Item:
        return self.unpack()[place]


@lru_cache(maxsize=1)
def _unpacked(packed: bytes) -> tuple[Item, ...]:
    """The last result is remembered: `core.judge` and several functions of `core.settle` read the items of one batch right after
    each other, so a verdict unpacks them once.
    """
    return _decode(packed)
