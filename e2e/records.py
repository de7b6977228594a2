"""A Kafka record as the tests see it, its bytes, and its digests.

The encoding is the record area of a segment (u32 length, timestamp, offset, key, value, headers; little-endian).
It is written here anew, from the format's description: nothing of the worker is used to judge the worker.
"""
import hashlib
import struct
from typing import NamedTuple, Optional

NO_TIMESTAMP = -(2**63)


class Record(NamedTuple):
    key: Optional[bytes] = None
    value: Optional[bytes] = None
    headers: tuple = ()  # of (name, value); names are bytes, values bytes or None
    timestamp: int = NO_TIMESTAMP
    partition: int = 0
    offset: int = -1


def record(key=None, value=None, headers=(), timestamp=NO_TIMESTAMP, partition=0):
    """A record to produce; text is taken as UTF-8."""
    def as_bytes(x):
        return x.encode() if isinstance(x, str) else x
    return Record(as_bytes(key), as_bytes(value), tuple((as_bytes(n), as_bytes(v)) for n, v in headers),
                  timestamp, partition)


def _sized(data):
    return struct.pack("<i", -1) if data is None else struct.pack("<i", len(data)) + data


def encode_body(r, with_offset=True, headers=None):
    """r of the record digest: everything after the length."""
    headers = r.headers if headers is None else headers
    parts = [struct.pack("<q", r.timestamp), struct.pack("<q", r.offset) if with_offset else b"",
             _sized(r.key), _sized(r.value), struct.pack("<H", len(headers))]
    for name, value in headers:
        parts += [struct.pack("<H", len(name)), name, _sized(value)]
    return b"".join(parts)


def encode(r):
    body = encode_body(r)
    return struct.pack("<I", len(body)) + body


class FormatError(Exception):
    """Bytes that do not follow their format."""


class _Cursor:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, n):
        if n < 0 or self.at + n > len(self.data):
            raise FormatError(f"{n} bytes wanted at {self.at} of {len(self.data)}")
        self.at += n
        return bytes(self.data[self.at - n:self.at])

    def number(self, form):
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def sized(self):
        length = self.number("<i")
        if length < -1:
            raise FormatError(f"length {length}")
        return None if length == -1 else self.take(length)


def decode(area, partition=0):
    """The records of a record area; FormatError on the first byte that is wrong."""
    at, view = 0, memoryview(area)
    while at < len(view):
        if at + 4 > len(view):
            raise FormatError("record length cut off")
        total = struct.unpack_from("<I", view, at)[0]
        if not 26 <= total <= 2**30 or at + 4 + total > len(view):
            raise FormatError(f"total_len {total} at {at}")
        c = _Cursor(view[at + 4:at + 4 + total])
        timestamp, offset = c.number("<q"), c.number("<q")
        key, value = c.sized(), c.sized()
        headers = []
        for _ in range(c.number("<H")):
            name = c.take(c.number("<H"))
            headers.append((name, c.sized()))
        yield Record(key, value, tuple(headers), timestamp, partition, offset)
        at += 4 + total


def own_block_length(r):
    """How many headers at the end of r are bookkeeping of the backup: 0, 2 or 3."""
    def is_own(block):
        return [name for name, _ in block[:2]] == [b"x-original-offset", b"x-original-timestamp"] and \
            block[0][1] == struct.pack("<q", r.offset) and block[1][1] == struct.pack("<q", r.timestamp)
    if len(r.headers) >= 2 and is_own(r.headers[-2:]):
        return 2
    if len(r.headers) >= 3 and r.headers[-1][0] == b"x-source-cluster" and is_own(r.headers[-3:-1]):
        return 3
    return 0


def without_own_block(r):
    n = own_block_length(r)
    return r._replace(headers=r.headers[:len(r.headers) - n]) if n else r


def digest(records):
    """Record digest: SHA-256 of each record with its offset, summed modulo 2^256. Hex."""
    total = sum(int.from_bytes(hashlib.sha256(encode_body(r)).digest(), "big") for r in records)
    return f"{total % 2**256:064x}"


def chain(records):
    """Digest of the records in order, without their offsets: what a restore must keep. Hex."""
    state = bytes(32)
    for r in records:
        content = hashlib.sha256(encode_body(r, with_offset=False)).digest()
        state = hashlib.sha256(state + content).digest()
    return state.hex()
