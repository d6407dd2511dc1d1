"""Record batches of format v2, made byte by byte and sent as they are: what no producer of a test would send.

A batch that decompresses to hundreds of MiB is compressed piece by piece here, so that the test itself stays small.
"""

from __future__ import annotations

import socket
import struct
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import cramjam
import lz4.frame
import zstandard
from crc32c import crc32c
from kafka.record.util import encode_varint

GZIP, SNAPPY, LZ4, ZSTD = 1, 2, 3, 4
"""Numbers of the codecs in a batch's attributes."""

_PIECE = 1024 * 1024
_HEADER = struct.Struct(">qiibIhiqqqhii")
_AFTER_LENGTH = 12
_CRC_OFFSET, _CRC_COVERS = 17, 21
_PRODUCE, _PRODUCE_VERSION = 0, 7
_NOT_YET = (3, 5, 6)
"""Errors of a partition that was made a moment ago."""


def record(
    value: bytes | None,
    offset: int = 0,
    *,
    key: bytes | None = None,
    headers: Iterable[tuple[bytes, bytes | None]] = (),
) -> bytes:
    """One record; `offset` counts within its batch."""
    body = bytearray(b"\0\0")  # attributes, delta of the timestamp
    encode_varint(offset, body.append)
    for part in (key, value):
        _nullable(body, part)
    headers = list(headers)
    encode_varint(len(headers), body.append)
    for name, content in headers:
        _nullable(body, name)
        _nullable(body, content)
    return _length(len(body)) + bytes(body)


def zeros(size: int) -> Iterator[bytes]:
    """One record whose value is so many zeros, in pieces."""
    head = bytearray(b"\0\0\0\1")  # attributes, timestamp, offset, no key
    encode_varint(size, head.append)
    yield _length(len(head) + size + 1) + bytes(head)
    for at in range(0, size, _PIECE):
        yield bytes(min(_PIECE, size - at))
    yield b"\0"  # no headers


def compressed(codec: int, pieces: Iterable[bytes]) -> bytes:
    """The pieces, joined and compressed as producers do it."""
    begin, add, end = _COMPRESSORS[codec]()
    return b"".join([begin, *map(add, pieces), end()])


def batch(
    records: bytes,
    *,
    codec: int = 0,
    count: int = 1,
    base_offset: int = 0,
    last_delta: int | None = None,
    aborted_by: int | None = None,
) -> bytes:
    """A batch of `count` records, which are compressed already if they are to be; of a producer's transaction if
    that is going to be aborted."""
    last = count - 1 if last_delta is None else last_delta
    length = _HEADER.size - _AFTER_LENGTH + len(records)
    now = 1_767_225_600_000
    attributes, producer, epoch = (codec, -1, -1) if aborted_by is None else (codec | 0x10, aborted_by, 0)
    head = _HEADER.pack(
        base_offset, length, 0, 2, 0, attributes, last, now, now, producer, epoch, epoch, count
    )
    return sealed(head + records)


def sealed(batch: bytes) -> bytes:
    """The batch with the checksum that its bytes have."""
    whole = bytearray(batch)
    struct.pack_into(">I", whole, _CRC_OFFSET, crc32c(bytes(whole[_CRC_COVERS:])))
    return bytes(whole)


def bomb(codec: int, size: int) -> bytes:
    """A batch of one record that decompresses to `size` bytes."""
    return batch(compressed(codec, zeros(size)), codec=codec)


def produce(bootstrap: str, topic: str, partition: int, records: bytes, timeout: float = 60.0) -> int:
    """Send a batch as it is to a cluster of one broker; the offset that it got. Blocks.

    Raises:
        AssertionError: the broker refused it.
    """
    deadline = time.monotonic() + timeout
    while True:
        error, offset = _produce(bootstrap, topic, partition, records, timeout)
        if error not in _NOT_YET or time.monotonic() > deadline:
            assert error == 0, f"the broker refused the batch with error {error}"
            return offset
        time.sleep(0.05)


def _produce(bootstrap: str, topic: str, partition: int, records: bytes, timeout: float) -> tuple[int, int]:
    host, _, port = bootstrap.rpartition(":")
    name = topic.encode()
    request = struct.pack(">hhih", _PRODUCE, _PRODUCE_VERSION, 1, -1)
    request += struct.pack(">hhi", -1, -1, int(timeout * 1000))
    request += struct.pack(f">ih{len(name)}s", 1, len(name), name)
    request += struct.pack(">iii", 1, partition, len(records)) + records
    with socket.create_connection((host, int(port)), timeout) as connection:
        connection.sendall(struct.pack(">i", len(request)) + request)
        answer = _receive(connection, struct.unpack(">i", _receive(connection, 4))[0])
    at = 4 + 4 + 2 + len(name) + 4  # correlation, topics, name, partitions
    _, error, offset = struct.unpack_from(">ihq", answer, at)
    return error, offset


def _receive(connection: socket.socket, size: int) -> bytes:
    received = b""
    while len(received) < size:
        piece = connection.recv(size - len(received))
        assert piece, "the broker closed the connection"
        received += piece
    return received


def _length(size: int) -> bytes:
    encoded = bytearray()
    encode_varint(size, encoded.append)
    return bytes(encoded)


def _nullable(body: bytearray, part: bytes | None) -> None:
    encode_varint(-1 if part is None else len(part), body.append)
    body += part or b""


_Compressor = tuple[bytes, Callable[[bytes], bytes], Callable[[], bytes]]


def _gzip() -> _Compressor:
    stream = zlib.compressobj(9, wbits=31)
    return b"", stream.compress, stream.flush


def _snappy() -> _Compressor:
    def add(piece: bytes) -> bytes:
        block = bytes(cramjam.snappy.compress_raw(piece))
        return struct.pack(">i", len(block)) + block

    return b"\x82SNAPPY\0" + struct.pack(">ii", 1, 1), add, bytes


def _lz4() -> _Compressor:
    stream = lz4.frame.LZ4FrameCompressor(block_linked=False, block_size=lz4.frame.BLOCKSIZE_MAX4MB)
    return stream.begin(), stream.compress, stream.flush


def _zstd() -> _Compressor:
    stream: Any = zstandard.ZstdCompressor(level=3).compressobj()
    return b"", stream.compress, stream.flush


_COMPRESSORS: dict[int, Callable[[], _Compressor]] = {GZIP: _gzip, SNAPPY: _snappy, LZ4: _lz4, ZSTD: _zstd}
