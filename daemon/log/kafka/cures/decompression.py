"""Decompressing the records of one batch up to a limit.

Defect: the library decompresses a batch whole, whatever its size (see `record_batches`, which uses this module). Each
    function here stops as soon as the output exceeds `limit`, so it never holds more than `limit` and one `CHUNK`. The
    formats are those of Kafka's message format v2. Compressed streams are read as the library reads them.
Upstream: not reported.
Versions: 3.0.12.
Remove when: tests/unit/test_kafka_cures.py::test_a_batch_is_still_decompressed_whole fails.
"""

from __future__ import annotations

import gzip
import io
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Final

import cramjam
import lz4.frame
import zstandard

CHUNK = 1024 * 1024
"""Bytes per step. Most batches fit into one step, and larger buffers cost more to allocate."""

_GZIP_WINDOW = 31
"""zlib's `wbits` for the largest window, with gzip header and trailer."""

_XERIAL_MAGIC = b"\x82SNAPPY\x00"
_XERIAL_HEADER_BYTES = 16
_BLOCK_SIZE = struct.Struct(">i")
_VARINT_BYTES_MAX = 5


class TooLargeError(Exception):
    """The output exceeds `limit` bytes."""


class DamagedError(Exception):
    """The compressed data are invalid. The message says why."""


def decompress(codec: int, data: memoryview, limit: int) -> bytes:
    """The decompressed records of a batch. `codec` is the number in its attributes.

    Raises:
        TooLargeError: the output exceeds `limit` bytes.
        DamagedError: the data are invalid, or the codec is unknown.
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
        cramjam.DecompressionError,
        OSError,
        EOFError,
        RuntimeError,
    ) as error:
        raise DamagedError(f"its {name} data are damaged: {error or type(error).__name__}") from error
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def codec_name(codec: int) -> str:
    """The name that Kafka's settings use."""
    return _READERS[codec][0] if codec in _READERS else f"codec {codec}"


def _gzip(data: memoryview, limit: int) -> Iterator[bytes]:
    member = zlib.decompressobj(_GZIP_WINDOW)
    rest: memoryview | bytes = data
    while not member.eof:
        piece = member.decompress(rest, CHUNK)
        rest = member.unconsumed_tail
        if not piece and not rest and not member.eof:
            raise EOFError("they are truncated")
        yield piece
    if member.unused_data:  # more members; rare, and this reader is slower
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
        rest = b""  # the frame keeps what it has not consumed
        if not piece and not frame.eof:
            raise EOFError("they are truncated")
        yield piece


def _snappy(data: memoryview, limit: int) -> Iterator[bytes]:
    """Snappy decompresses whole blocks only, so the declared size of each is checked first. A false size is an error."""
    if bytes(data[: len(_XERIAL_MAGIC)]) != _XERIAL_MAGIC or len(data) <= _XERIAL_HEADER_BYTES:
        yield _snappy_block(data, limit)
        return
    at = _XERIAL_HEADER_BYTES
    while at < len(data):
        if at + _BLOCK_SIZE.size > len(data):
            raise EOFError("they are truncated")
        (length,) = _BLOCK_SIZE.unpack_from(data, at)
        at += _BLOCK_SIZE.size
        if not 0 <= length <= len(data) - at:
            raise EOFError(f"a block declares {length} bytes, but only {len(data) - at} are left")
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
    return bytes(cramjam.snappy.decompress_raw(bytes(block)))


_READERS: Final[Mapping[int, tuple[str, Callable[[memoryview, int], Iterator[bytes]]]]] = MappingProxyType(
    {1: ("gzip", _gzip), 2: ("snappy", _snappy), 3: ("lz4", _lz4), 4: ("zstd", _zstd)}
)
"""By the codec's number in the attributes of a batch."""
