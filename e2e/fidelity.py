"""Topics with everything that can stand in a log, and what a backup of them must hold."""
import pathlib
import time

import kbak
from records import record

T0 = 1_700_000_000_000

HEADERS = [
    record("null key and value", None),
    record(None, "null key"),
    record(None, None),
    record("", ""),
    record("empty name", "v", [("", "x"), ("", None), ("", "")]),
    record("duplicates", "v", [("a", "1"), ("a", "2"), ("b", "3"), ("a", None), ("a", "1")]),
    record("bookkeeping in disguise", "v", [("x-original-offset", b"\x05" + bytes(7)), ("x-original-timestamp", "7"),
                                            ("x-source-cluster", "other")]),
    record("5000 headers", "v", [(f"h{i}", None if i % 7 == 0 else str(i)) for i in range(5000)]),
    record("200 KB header", "v", [("large", b"\xff\x00" * 100_000)]),
    record("utf-8", "v", [("näme-ключ-名", b"\x00\x01\x02")]),
]
LARGE = [record(f"large-{i}", bytes([i]) * (10 << 20)) for i in range(3)] + [record("small", "after large")]
TIMES = [record("k", "v", timestamp=t) for t in
         (T0, T0 - 5, 1, 4_102_444_800_000, T0 + 1, 1000, T0 + 40 * 86_400_000, 86_400_000, T0)]

NASTY_NAMES = ["a..b", "...", "con", "-leading", "under_score.dot", "n" * 249, "CamelCase", "camelcase"]


def wait_until(condition, what, timeout=60):
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen in {timeout} s"
        time.sleep(0.1)


def make_compacted(client, topic):
    """Keys superseded and cleaned: holes inside, and a tail that is alive."""
    client.create_topic(topic, cleanup_policy="compact", segment_ms=100, min_cleanable_dirty_ratio=0.01,
                        min_compaction_lag_ms=0, delete_retention_ms=86_400_000, max_compaction_lag_ms=1000)
    for generation in range(4):
        client.produce(topic, [record(f"key-{i % 40}", f"value-{generation}-{i}") for i in range(200)])
        time.sleep(0.15)
    client.produce(topic, [record("key-1", None), record("last", "record")])
    time.sleep(0.3)
    client.produce(topic, [record("roll", "the segment")])
    # One record a key: until then a further pass of the cleaner could come between a backup and who judges it.
    wait_until(lambda: client.digest(topic)[0].count == 42, "compaction", 90)


def make_transactional(client, topic):
    """Committed, aborted, interleaved, and one that ends with markers only."""
    client.create_topic(topic, partitions=2)
    for i in range(6):
        end = "abort" if i % 3 == 1 else "commit"
        client.produce(topic, [record(f"{i}-{n}", end, partition=n % 2) for n in range(50)], transaction=f"{topic}-t",
                       end=end)
        client.produce(topic, [record(f"plain-{i}", "v", partition=i % 2)])
    client.produce(topic, [record("gone", "v")], transaction=f"{topic}-t", end="abort")
    await_markers(client, topic)


def await_markers(client, topic):
    """A broker answers the end of a transaction before it has written the markers: the stable end comes later."""
    def settled():
        offsets = client.offsets(topic)
        return offsets["stable"] == offsets["end"]
    wait_until(settled, f"the end of the last transaction on {topic}")


def make_topics(client, prefix):
    """All kinds in one cluster; their names."""
    def name(kind):
        return f"{prefix}.{kind}"
    client.produce(client.create_topic(name("headers")), HEADERS)
    client.produce(client.create_topic(name("large"), max_message_bytes=12 << 20), LARGE, max_request_size=12 << 20)
    client.produce(client.create_topic(name("times")), TIMES)
    client.produce(client.create_topic(name("append-time"), message_timestamp_type="LogAppendTime"),
                   [record(f"k{i}", "v", timestamp=T0) for i in range(100)])
    client.create_topic(name("codecs"))
    for codec in ("none", "gzip", "snappy", "lz4", "zstd"):
        client.produce(name("codecs"), [record(codec, f"{codec}-{i}" * 10) for i in range(300)], compression_type=codec)
    make_transactional(client, name("transactions"))
    client.generate(client.create_topic(name("deleted"), partitions=2), 2000, size=200)
    client.delete_records(name("deleted"), {0: 400, 1: 1000})
    client.create_topic(name("empty"), partitions=3)
    client.produce(client.create_topic(name("sparse"), partitions=5), [record("k", "v", partition=3)])
    client.generate(client.create_topic(name("bulk"), partitions=4), 20_000, size=500)
    make_compacted(client, name("compacted"))
    return [name(k) for k in ("headers", "large", "times", "append-time", "codecs", "transactions", "deleted", "empty",
                              "sparse", "bulk", "compacted")]


def source_digests(client, topics, to=None):
    """{(topic, partition): (record count, record digest)} by the reference client; empty partitions left out."""
    found = {}
    for topic in topics:
        for partition, d in client.digest(topic, to=to.get(topic) if to else None).items():
            if d.count:
                found[topic, partition] = (d.count, d.digest)
    return found


def check_equal(storage, backup_id, wanted):
    """O1 and O2: the backup is whole by the format, and holds exactly `wanted` (of source_digests)."""
    backup = kbak.Backup(storage, backup_id).verify()
    found = {at: d for at, d in backup.digests().items() if d[0] and at[0] in {topic for topic, _ in wanted}}
    assert found == wanted
    return backup


def check_backup(storage, backup_id, client, topics, to=None):
    """The backup is whole by the format, and holds exactly what the reference client reads of the topics."""
    digests = source_digests(client, topics, to)
    backup = check_equal(storage, backup_id, digests)
    assert {t for t, _ in backup.digests()} >= {t for t, _ in digests}
    return backup


def chains(client, topic, **options):
    """{partition: (record count, ordered digest without offsets)}: equal for a topic and what was restored of it."""
    return {p: (d.count, d.chain) for p, d in client.digest(topic, **options).items()}


def tree(directory):
    """{path: (inode, size, time of change)} of all files: equal when nothing was written in between."""
    return {str(p): (s.st_ino, s.st_size, s.st_mtime_ns)
            for p in pathlib.Path(directory).rglob("*") if p.is_file() and (s := p.stat())}
