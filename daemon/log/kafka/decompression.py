"""Decompressing the records of one batch, up to a limit.

The client library decompresses a batch whole, whatever comes out: 22 kB of zstd became 700 MiB. Each function here
stops as soon as more than `limit` bytes have come out, so it never holds more than that and one `CHUNK`. The formats
are those of Kafka's message format v2; the compressors' streams are read as the library reads them.
"""

from __future__ import annotations

import gzip
import io
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Final

import lz4.frame
import snappy
import zstandard

CHUNK = 1024 * 1024
"""Bytes that are asked for at a time: most batches come out in one piece, and a larger one costs more to allocate."""

_GZIP_WINDOW = 31
"""zlib's `wbits` for the largest window, with gzip's header and trailer."""

_XERIAL_MAGIC = b"\x82SNAPPY\x00"
_XERIAL_HEADER_BYTES = 16
_BLOCK_SIZE = struct.Struct(">i")
_VARINT_BYTES_MAX = 5


class TooLargeError(Exception):
    """More than `limit` bytes come out."""


class DamagedError(Exception):
    """The compressed data make no sense. The message says why."""


def decompress(codec: int, data: memoryview, limit: int) -> bytes:
    """The records of a batch; `codec` is the number in its attributes.

    Raises:
        TooLargeError: they have more than `limit` bytes.
        DamagedError: the data are damaged, or the codec is unknown.
    """
    if codec not in _READERS:
        raise DamagedError(f"compression codec {codec} is unknown")
    name, read = _READERS[codec]
    pieces: list[bytes] = []
    size = 0
    try:
        for piece in read(data, limit):
            size += len(piece)
            if size > limit:
                raise TooLargeError
            pieces.append(piece)
    except (
        zlib.error,
        zstandard.ZstdError,
        snappy.UncompressError,
        OSError,
        EOFError,
        RuntimeError,
    ) as error:
        raise DamagedError(f"its {name} data are damaged: {error or type(error).__name__}") from error
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def codec_name(codec: int) -> str:
    """As Kafka's settings spell it."""
    return _READERS[codec][0] if codec in _READERS else f"codec {codec}"


def _gzip(data: memoryview, limit: int) -> Iterator[bytes]:
    member = zlib.decompressobj(_GZIP_WINDOW)
    rest: memoryview | bytes = data
    while not member.eof:
        piece = member.decompress(rest, CHUNK)
        rest = member.unconsumed_tail
        if not piece and not rest and not member.eof:
            raise EOFError("they end too early")
        yield piece
    if member.unused_data:  # more members: rare, and this reader is slower
        yield gzip.GzipFile(fileobj=io.BytesIO(member.unused_data)).read(limit + 1)


def _zstd(data: memoryview, _limit: int) -> Iterator[bytes]:
    with zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True) as reader:
        while piece := reader.read(CHUNK):
            yield piece


def _lz4(data: memoryview, _limit: int) -> Iterator[bytes]:
    frame = lz4.frame.LZ4FrameDecompressor()
    rest: memoryview | bytes = data
    while not frame.eof:
        piece = frame.decompress(rest, max_length=CHUNK)
        rest = b""  # the frame keeps what it has not used
        if not piece and not frame.eof:
            raise EOFError("they end too early")
        yield piece


def _snappy(data: memoryview, limit: int) -> Iterator[bytes]:
    """Whole blocks only, so the size that each announces is looked at before; one that lies is refused."""
    if bytes(data[: len(_XERIAL_MAGIC)]) != _XERIAL_MAGIC or len(data) <= _XERIAL_HEADER_BYTES:
        yield _snappy_block(data, limit)
        return
    at = _XERIAL_HEADER_BYTES
    while at < len(data):
        if at + _BLOCK_SIZE.size > len(data):
            raise EOFError("they end too early")
        (length,) = _BLOCK_SIZE.unpack_from(data, at)
        at += _BLOCK_SIZE.size
        if not 0 <= length <= len(data) - at:
            raise EOFError(f"a block of {length} bytes is announced where {len(data) - at} are left")
        piece = _snappy_block(data[at : at + length], limit)
        limit -= len(piece)
        yield piece
        at += length


def _snappy_block(block: memoryview, limit: int) -> bytes:
    size = 0
    for index, byte in enumerate(block[:_VARINT_BYTES_MAX]):
        size |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            break
    if size > limit:
        raise TooLargeError
    return bytes(snappy.decompress(bytes(block)))


_READERS: Final[Mapping[int, tuple[str, Callable[[memoryview, int], Iterator[bytes]]]]] = MappingProxyType(
    {1: ("gzip", _gzip), 2: ("snappy", _snappy), 3: ("lz4", _lz4), 4: ("zstd", _zstd)}
)
"""By the codec's number in the attributes of a batch."""
