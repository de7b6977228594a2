"""Reads a backup directory without the worker: an oracle written from the storage format alone.

`Backup(path, id).verify()` checks everything that the format promises of a complete backup made by the worker;
records() and digests() say what is in it.
"""
import hashlib
import json
import pathlib
import re
import struct
import zlib
from typing import NamedTuple, Optional

import lz4.block
import zstandard

import records as rec
from records import FormatError, Record

CODECS = {0: "none", 1: "zstd", 2: "lz4"}
EXTENSIONS = {"none": "", "zstd": ".zst", "lz4": ".lz4"}
INDEX_MAGIC = b"KBFRIDX1"
WINDOW_LIMIT = 2**27
ZERO_HASH = "0" * 64


def _must(condition, what):
    if not condition:
        raise FormatError(what)


class FrameEntry(NamedTuple):
    position: int
    compressed: int
    uncompressed: int
    first: int
    last: int
    min_time: int
    max_time: int
    count: int
    crc: int


class FrameIndex(NamedTuple):
    flags: int
    partition: int
    start: int  # "from"
    to: int
    min_time: int
    max_time: int
    raw_bytes: int
    data_bytes: int
    max_record: int
    attempt_id: bytes
    topic_id: bytes
    key_hash: bytes
    digest: str
    entries: tuple


class Segment(NamedTuple):
    codec: str
    count: int
    first: int
    last: int
    area: bytes
    index: Optional[FrameIndex]

    def records(self, partition=0):
        return list(rec.decode(self.area, partition))


def object_hash(data):
    """SHA-256 in the order in which the writer knows the bytes: from 32 on, then the header."""
    return hashlib.sha256(data[32:] + data[:32]).hexdigest()


def _unzstd(body):
    """The frames of a zstd body: (position in the body, length, content); content is None for skippable ones."""
    at = 0
    while at < len(body):
        _must(len(body) - at >= 8, "bytes that are no frame")
        magic, size = struct.unpack_from("<II", body, at)
        if magic & 0xFFFFFFF0 == 0x184D2A50:
            _must(at + 8 + size <= len(body), "skippable frame cut off")
            yield at, 8 + size, None
            at += 8 + size
            continue
        _must(magic == 0xFD2FB528, "bytes that are no frame")
        frame = zstandard.ZstdDecompressor(max_window_size=WINDOW_LIMIT).decompressobj()
        content = frame.decompress(body[at:])
        _must(frame.eof, "truncated frame")
        length = len(body) - at - len(frame.unused_data)
        yield at, length, content
        at += length


def _read_index(payload):
    _must(payload[:8] == INDEX_MAGIC and payload[-8:] == INDEX_MAGIC, "index magic")
    length, crc = struct.unpack_from("<II", payload, len(payload) - 16)
    _must(length == len(payload) and crc == zlib.crc32(payload[:-16]), "index length or CRC")
    version, head, entry_length, flags, count = struct.unpack_from("<HHHHI", payload, 8)
    _must(version == 1 and head >= 160 and entry_length >= 56, "index version or lengths")
    _must(head + count * entry_length + 16 == len(payload), "index size")
    partition, start, to, min_time, max_time, raw, data, largest, zero = struct.unpack_from("<iqqqqQQII", payload, 20)
    _must(zero == 0, "index reserved field")
    entries = tuple(FrameEntry(*struct.unpack_from("<QIIqqqqII", payload, head + i * entry_length))
                    for i in range(count))
    return FrameIndex(flags, partition, start, to, min_time, max_time, raw, data, largest, payload[80:96],
                      payload[96:112], payload[112:128], payload[128:160].hex(), entries)


def _check_index(index, data, frames, header, decoded):
    """The index must say of the object what the object is. frames: of data, without the skippable ones."""
    count, first, last = header
    _must(index.start <= first and last < index.to, "index: from/to")
    _must(len(index.entries) == len(frames), "index: number of frames")
    _must(index.raw_bytes == sum(len(f[2]) for f in frames), "index: bytes of the record area")
    _must(index.data_bytes == sum(f[1] for f in frames), "index: bytes of data frames")
    position = 0
    for entry, (at, length, content) in zip(index.entries, frames):
        _must((entry.position, entry.compressed, entry.uncompressed) == (at + 32, length, len(content)),
              f"index: frame at {at + 32}")
        _must(at == position, "index: frames do not tile the body")
        position = at + length
        _must(entry.crc == zlib.crc32(data[at + 32:at + 32 + length]), "index: CRC of a frame")
        inside = list(rec.decode(content))
        times = [r.timestamp for r in inside]
        _must((entry.count, entry.first, entry.last, entry.min_time, entry.max_time) ==
              (len(inside), inside[0].offset, inside[-1].offset, min(times), max(times)), "index: a frame's records")
    _must(sum(e.count for e in index.entries) == count, "index: record count")
    times = [r.timestamp for r in decoded]
    _must((index.min_time, index.max_time) == (min(times), max(times)), "index: times")
    _must(index.max_record == max(len(rec.encode_body(r)) for r in decoded), "index: greatest record")
    bare = [rec.without_own_block(r) for r in decoded] if index.flags & 1 else decoded
    _must(not index.flags & 1 or all(rec.own_block_length(r) for r in decoded), "index: own block missing")
    _must(index.digest == rec.digest(bare), "index: record digest")


def read_segment(data):
    """Decodes one object completely; FormatError names what is wrong."""
    _must(len(data) >= 40 and data[:4] == b"KBAK" and data[-4:] == b"BKAE", "magic or size")
    version, codec = data[4], data[5]
    _must(version == 1, f"version {version}")
    _must(codec in CODECS, f"codec {codec}")
    count, first, last = struct.unpack_from("<Qqq", data, 8)
    _must(struct.unpack_from("<I", data, len(data) - 8)[0] == zlib.crc32(data[:-8]), "CRC")
    body, index, frames = data[32:-8], None, []
    if CODECS[codec] == "zstd":
        for at, length, content in _unzstd(body):
            if content is not None:
                frames.append((at, length, content))
            elif at + length == len(body) and body[at:at + 4] == struct.pack("<I", 0x184D2A5B):
                index = _read_index(body[at + 8:])
        area = b"".join(f[2] for f in frames)
    elif CODECS[codec] == "lz4":
        size = struct.unpack_from("<I", body)[0]
        area = lz4.block.decompress(body[4:], uncompressed_size=size) if size else b""
        _must(len(area) == size, "lz4 size")
    else:
        area = bytes(body)
    decoded = list(rec.decode(area))
    _must(len(decoded) == count, "record count")
    offsets = [r.offset for r in decoded]
    _must(all(a < b for a, b in zip(offsets, offsets[1:])), "offsets not ascending")
    _must((first, last) == ((offsets[0], offsets[-1]) if offsets else (-1, -1)), "first or last offset")
    if index:
        _check_index(index, data, frames, (count, first, last), decoded)
    return Segment(CODECS[codec], count, first, last, area, index)


def self_hash_holds(data):
    """Whether the last field, sha256, is the hash of the file with its 64 digits zeroed."""
    match = re.search(rb'"sha256": ?"([0-9a-f]{64})"\s*}\s*$', data)
    if not match:
        return False
    zeroed = data[:match.start(1)] + ZERO_HASH.encode() + data[match.end(1):]
    return hashlib.sha256(zeroed).hexdigest() == match.group(1).decode()


def _no_duplicates(pairs):
    names = [name for name, _ in pairs]
    _must(len(set(names)) == len(names), f"duplicate names in {names}")
    return dict(pairs)


def parse_json(data):
    return json.loads(data, object_pairs_hook=_no_duplicates)


MANIFEST_FIELDS = ["backup_id", "created_at", "source_cluster_id", "source_brokers", "compression", "topics"]
TOPIC_FIELDS = ["name", "original_partition_count", "partitions"]
SEGMENT_FIELDS = ["key", "start_offset", "end_offset", "start_timestamp", "end_timestamp", "record_count",
                  "uncompressed_size", "compressed_size"]
GAP_FIELDS = ["start_offset", "end_offset", "reason", "detected_at"]


class Backup:
    """One backup in a directory. Backups need not be complete; manifest and record are None when absent."""

    def __init__(self, root, backup_id):
        self.root, self.id = pathlib.Path(root), backup_id
        self.dir = self.root / backup_id
        self.manifest = self._json("manifest.json")
        self.record = self._json("backup.json")

    def _json(self, name):
        path = self.dir / name
        return parse_json(path.read_bytes()) if path.exists() else None

    def is_complete(self):
        return self.manifest is not None and self.record is not None

    # ---- what is in it ----
    def partitions(self):
        """{(topic, partition): manifest entry} of all with a segment or a gap."""
        return {(t["name"], p["partition_id"]): p for t in self.manifest["topics"] for p in t["partitions"]}

    def segments(self, topic, partition):
        entry = self.partitions().get((topic, partition), {"segments": []})
        return [read_segment((self.root / s["key"]).read_bytes()) for s in entry["segments"]]

    def records(self, topic, partition, strip=True):
        """All records; `strip` takes the bookkeeping headers of the backup off, where it says that it added them."""
        if self.record:
            strip = strip and self.record["content"]["offsetHeaders"]
        found = [r for s in self.segments(topic, partition) for r in s.records(partition)]
        return [rec.without_own_block(r) for r in found] if strip else found

    def digests(self):
        """{(topic, partition): (record count, record digest)}, to be compared with RefClient.digest."""
        result = {}
        for topic, partition in self.partitions():
            found = self.records(topic, partition)
            result[topic, partition] = (len(found), rec.digest(found))
        return result

    def gaps(self):
        return [(t, p, g["start_offset"], g["end_offset"]) for (t, p), entry in self.partitions().items()
                for g in entry.get("gaps", [])]

    def journal(self):
        """The entries in order. FormatError when the numbers or the hash chain do not hold."""
        entries, previous = [], b""
        paths = sorted((self.dir / "journal").glob("[0-9]*.json"))
        for number, path in enumerate(paths):
            data = path.read_bytes()
            _must(path.name == f"{number:08}.json", f"journal: {path.name} is not number {number}")
            entry = parse_json(data)
            _must(entry["seq"] == number and entry["backupId"] == self.id, f"journal {number}: seq or backupId")
            _must(entry["prevSha256"] == (hashlib.sha256(previous).hexdigest() if number else ""),
                  f"journal {number}: prevSha256")
            _must(self_hash_holds(data), f"journal {number}: sha256")
            entries.append(entry)
            previous = data
        return entries

    def leftovers(self):
        """Files that no reader needs: temporary ones, and segments that the manifest does not list."""
        listed = {s["key"] for p in self.partitions().values() for s in p["segments"]} if self.manifest else set()
        found = []
        for path in sorted(self.dir.rglob("*")):
            key = path.relative_to(self.root).as_posix()
            if path.is_file() and (path.name.startswith(".") or ("/topics/" in key and key not in listed)):
                found.append(key)
        return found

    # ---- is it what the format promises ----
    def verify(self, old_journal=False):
        """Checks a complete backup made by the worker; FormatError names the first thing that is wrong.

        old_journal: prune may have removed the end of the journal, which is done after a week.
        """
        _must(self.manifest is not None, "no manifest.json")
        _must(self.record is not None, "no backup.json")
        self._verify_manifest()
        self._verify_record()
        journal = self.journal()
        _must([e["kind"] for e in journal][:1] == ["open"], "journal does not begin with open")
        _must(old_journal or journal[-1]["kind"] == "seal", "journal does not end with seal")
        return self

    def _verify_manifest(self):
        data, m = (self.dir / "manifest.json").read_bytes(), self.manifest
        _must(data.decode() == json.dumps(m, indent=2, ensure_ascii=False), "manifest: form")
        _must(list(m) == MANIFEST_FIELDS and m["backup_id"] == self.id, "manifest: fields or id")
        names = [t["name"] for t in m["topics"]]
        _must(names == sorted(names, key=str.encode) and len(set(names)) == len(names), "manifest: order of topics")
        keys = []
        for t in m["topics"]:
            _must(list(t) == TOPIC_FIELDS and isinstance(t["original_partition_count"], int), "manifest: topic fields")
            numbers = [p["partition_id"] for p in t["partitions"]]
            _must(numbers == sorted(set(numbers)), f"manifest: partitions of {t['name']}")
            for p in t["partitions"]:
                self._verify_manifest_partition(t["name"], p)
                keys += [s["key"] for s in p["segments"]]
        _must(len(set(keys)) == len(keys), "manifest: a key twice")

    def _verify_manifest_partition(self, topic, p):
        where = f"manifest: {topic}/{p['partition_id']}"
        _must(p["segments"] or p.get("gaps"), f"{where}: neither segment nor gap")
        _must("gaps" not in p or p["gaps"], f"{where}: gaps is empty but there")
        end = -1
        for s in p["segments"]:
            _must(list(s) == SEGMENT_FIELDS, f"{where}: segment fields")
            _must(s["start_offset"] > end, f"{where}: segments overlap at {s['start_offset']}")
            end = s["end_offset"]
            self._verify_segment(topic, p["partition_id"], s)
        for g in p.get("gaps", []):
            _must(list(g) == GAP_FIELDS and g["reason"] == "offset_out_of_range", f"{where}: gap fields")
            _must(g["start_offset"] < g["end_offset"], f"{where}: empty gap")

    def _verify_segment(self, topic, partition, s):
        key = s["key"]
        data = (self.root / key).read_bytes()
        segment = read_segment(data)
        name = rf"{re.escape(topic)}/partition={partition}/segment-{s['start_offset']:020}(-[0-9a-f]{{8}})?\.bin"
        _must(re.fullmatch(rf"[^/]+/topics/{name}{re.escape(EXTENSIONS[segment.codec])}", key), f"{key}: name")
        _must((s["start_offset"], s["end_offset"], s["record_count"]) == (segment.first, segment.last, segment.count),
              f"{key}: offsets or count")
        _must((s["uncompressed_size"], s["compressed_size"]) == (len(segment.area), len(data)), f"{key}: sizes")
        times = [r.timestamp for r in segment.records()]
        _must((s["start_timestamp"], s["end_timestamp"]) == (min(times), max(times)), f"{key}: times")
        _must(segment.codec != "zstd" or segment.index is not None, f"{key}: no frame index")
        if segment.index:
            i = segment.index
            _must(i.partition == partition, f"{key}: partition of the index")
            _must(i.key_hash == hashlib.sha256(key.encode()).digest()[:16], f"{key}: key hash of the index")

    def _verify_record(self):
        data, b = (self.dir / "backup.json").read_bytes(), self.record
        manifest = (self.dir / "manifest.json").read_bytes()
        _must(self_hash_holds(data), "backup.json: sha256")
        _must(b["manifest"] == {"sha256": hashlib.sha256(manifest).hexdigest(), "size": len(manifest)},
              "backup.json: hash of the manifest")
        _must(b["backupId"] == self.id and b["createdAt"] == self.manifest["created_at"], "backup.json: id or time")
        totals = dict.fromkeys(["segments", "records", "rawBytes", "storedBytes", "gaps", "gapOffsets"], 0)
        listed = self.partitions()
        for t in b["topics"]:
            _must([p["partition"] for p in t["partitions"]] == list(range(t["partitionCount"])),
                  f"backup.json: partitions of {t['name']}")
            for p in t["partitions"]:
                self._verify_record_partition(t, p, listed.pop((t["name"], p["partition"]), None), totals)
        _must(not listed, f"manifest lists what backup.json does not: {list(listed)}")
        for name, value in totals.items():
            _must(b["totals"][name] == value, f"backup.json: totals.{name} is {b['totals'][name]}, counted {value}")

    def _verify_record_partition(self, topic, p, entry, totals):
        where = f"backup.json: {topic['name']}/{p['partition']}"
        entry = entry or {"segments": []}
        _must(len(entry["segments"]) == len(p["segments"]), f"{where}: segments")
        gaps = [(g["start_offset"], g["end_offset"]) for g in entry.get("gaps", [])]
        position, digest, count = p["from"], 0, 0
        for s, m in zip(p["segments"], entry["segments"]):
            data = (self.root / m["key"]).read_bytes()
            segment = read_segment(data)
            while gaps and gaps[0][0] == position:
                position = gaps.pop(0)[1]
            _must(s["from"] == position and s["from"] <= s["start"] <= s["end"] < s["to"],
                  f"{where}: segment {s['start']} does not join at {position}")
            position = s["to"]
            _must((s["start"], s["end"], s["count"], s["rawBytes"], s["bytes"], s["codec"], s["minTs"], s["maxTs"]) ==
                  (m["start_offset"], m["end_offset"], m["record_count"], m["uncompressed_size"],
                   m["compressed_size"], segment.codec, m["start_timestamp"], m["end_timestamp"]),
                  f"{where}: segment {s['start']} differs from the manifest")
            _must(s["sha256"] == object_hash(data), f"{where}: hash of segment {s['start']}")
            if segment.index:
                # an adopted segment may have begun below the position at which it joined
                _must(segment.index.start <= s["from"] and segment.index.to == s["to"],
                      f"{where}: from/to of the index of segment {s['start']}")
            found = segment.records(p["partition"])
            if self.record["content"]["offsetHeaders"]:
                _must(all(rec.own_block_length(r) for r in found), f"{where}: own block missing")
                found = [rec.without_own_block(r) for r in found]
            _must(s["digest"] == rec.digest(found), f"{where}: digest of segment {s['start']}")
            digest, count = digest + int(s["digest"], 16), count + s["count"]
            totals["segments"] += 1
            totals["rawBytes"] += s["rawBytes"]
            totals["storedBytes"] += s["bytes"]
        while gaps and gaps[0][0] == position:
            position = gaps.pop(0)[1]
        _must(not gaps, f"{where}: gaps do not join: {gaps}")
        _must(position <= p["to"] <= p["cut"], f"{where}: to")
        _must(p["digest"] == f"{digest % 2**256:064x}" and p["records"] == count, f"{where}: digest or records")
        totals["records"] += count
        totals["gaps"] += len(entry.get("gaps", []))
        totals["gapOffsets"] += sum(g["end_offset"] - g["start_offset"] for g in entry.get("gaps", []))


__all__ = ["Backup", "FormatError", "FrameIndex", "Record", "Segment", "object_hash", "parse_json", "read_segment",
           "self_hash_holds"]
