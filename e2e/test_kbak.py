"""The oracle against the format's published vectors."""
import pathlib
import struct

import pytest

import kbak
import records as rec

DATA = pathlib.Path(__file__).resolve().parent.parent / "worker/tests/data"
T = 1_700_000_000_000
GOLD = [
    rec.Record(b"k", b"v1", ((b"h", b"x"), (b"n", None), (b"x-original-offset", struct.pack("<q", 42)),
                             (b"x-original-timestamp", struct.pack("<q", T))), T, 0, 42),
    rec.Record(None, None, (), T + 1, 0, 44),
    rec.Record(b"", b"", (), -1, 0, 45),
]


@pytest.mark.parametrize("name, codec", [("none", "none"), ("zstd", "zstd"), ("lz4", "lz4"), ("frames", "zstd")])
def test_read_segment_golden_file_gives_its_records(name, codec):
    segment = kbak.read_segment((DATA / f"gold-{name}.bin").read_bytes())
    assert (segment.codec, segment.count, segment.first, segment.last) == (codec, 3, 42, 45)
    assert segment.records() == GOLD
    assert segment.area == b"".join(map(rec.encode, GOLD))


def test_read_segment_golden_index_is_read():
    data = (DATA / "gold-frames.bin").read_bytes()
    index = kbak.read_segment(data).index
    assert (index.start, index.to, index.flags, len(index.entries)) == (40, 46, 0, 2)
    assert (index.attempt_id, index.topic_id) == (bytes(range(16)), bytes(range(16, 32)))
    assert index.digest == "bfce2323b3f363f8c02cf665247174063c76d1cddea8e42245f730be741dca86"
    assert kbak.object_hash(data) == "61a1f8343b4a914d7588ad69d3fe9f5df1ee48ef4450c7c5b3fb4a6712a0c16c"


@pytest.mark.parametrize("name", ["none", "zstd", "lz4", "frames"])
def test_read_segment_any_flipped_bit_is_found(name):
    data = (DATA / f"gold-{name}.bin").read_bytes()
    for at in range(len(data)):
        damaged = bytearray(data)
        damaged[at] ^= 1
        if at in (6, 7):  # written 0, ignored on reading, but part of the CRC
            damaged[-8:-4] = struct.pack("<I", kbak.zlib.crc32(damaged[:-8]))
            kbak.read_segment(bytes(damaged))
        else:
            with pytest.raises(kbak.FormatError):
                kbak.read_segment(bytes(damaged))


def test_own_block_is_the_tail_only():
    assert [rec.own_block_length(r) for r in GOLD] == [2, 0, 0]
    stripped = rec.without_own_block(GOLD[0])
    assert stripped.headers == ((b"h", b"x"), (b"n", None))
    assert rec.own_block_length(GOLD[0]._replace(headers=GOLD[0].headers + ((b"late", b""),))) == 0
    assert rec.own_block_length(GOLD[0]._replace(headers=GOLD[0].headers + ((b"x-source-cluster", b"c"),))) == 3
    assert rec.own_block_length(GOLD[0]._replace(offset=43)) == 0
