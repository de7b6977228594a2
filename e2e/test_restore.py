"""What was restored is what was backed up, record for record and in order: judged by Kafka's own client."""
import struct

import pytest

import fidelity
from fidelity import chains, source_digests
from records import chain, record
from worker import backup_config, restore_config

# Timestamps of no record that the tests add; topics of fidelity.make_topics that keep their times.
PLAIN = ("headers", "large", "times", "codecs", "transactions", "deleted", "empty", "sparse", "bulk", "compacted")


@pytest.fixture(scope="module")
def stored(kafka, client, tmp_path_factory):
    """A backup of every kind of topic: (storage, {topic: chains})."""
    from worker import Worker
    directory = tmp_path_factory.mktemp("restore")
    topics = fidelity.make_topics(client, "source")
    Worker(directory).run_ok("backup", backup_config(kafka, directory / "storage", "all", ["source.*"]))
    return directory / "storage", {topic: chains(client, topic) for topic in topics}


@pytest.fixture
def storage(tmp_path):
    return tmp_path / "storage"


def make_backup(kafka, client, worker, storage, topic, records, partitions=1, **configs):
    client.produce(client.create_topic(topic, partitions=partitions, **configs), records)
    worker.run_ok("backup", backup_config(kafka, storage, "b", [topic]))


def bare(records):
    """Without what a restore does not keep."""
    return [r._replace(offset=-1) for r in records]


def refused(result, reason, *words):
    assert result.code == 78 and result.report["reason"] == reason, (result.code, result.stderr)
    for word in words:
        assert word in result.stderr, result.stderr


# ---- record for record ----

@pytest.mark.tsan
def test_every_kind_of_topic_into_another_cluster(other_kafka, other_client, worker, stored):
    storage, wanted = stored
    config = restore_config(other_kafka, storage, "all", ["source.*"])
    result = worker.run_ok("restore", config, "-f", "json")
    for topic, expected in wanted.items():
        if topic != "source.append-time":  # the target's own clock, said so by a warning
            assert chains(other_client, topic) == expected, topic
    assert {p: c for p, (c, _) in chains(other_client, "source.append-time").items()} == \
        {p: c for p, (c, _) in wanted["source.append-time"].items()}
    assert result.report["state"] == "Succeeded" and result.report["percent"] == 100
    total = sum(count for topic in wanted.values() for count, _ in topic.values())
    assert result.json()["records"] == result.report["recordsProcessed"] == total
    # O7: again writes nothing
    ends = {topic: other_client.offsets(topic) for topic in wanted}
    again = worker.run_ok("restore", config, "-f", "json")
    assert {topic: other_client.offsets(topic) for topic in wanted} == ends
    assert again.json()["resumedRecords"] == total


def test_own_configs_after_the_hold(other_client, stored):
    """Held configs are given back when the data is in: those of the source, and no others."""
    assert "source.compacted" in other_client.topics(), "the restore before did not run"
    assert other_client.describe("source.compacted")["configs"]["cleanup.policy"] == "compact"
    assert other_client.describe("source.compacted")["configs"]["delete.retention.ms"] == "86400000"
    assert other_client.describe("source.large")["configs"]["max.message.bytes"] == str(12 << 20)
    for topic in ("source.bulk", "source.compacted", "source.large"):
        configs = other_client.describe(topic)["configs"]
        assert "retention.bytes" not in configs and configs.get("retention.ms") != "-1", (topic, configs)


def test_renamed_beside_the_source(kafka, client, worker, stored):
    storage, wanted = stored
    names = {f"source.{kind}": f"copy.{kind}" for kind in PLAIN}
    worker.run_ok("restore", restore_config(kafka, storage, "all", list(names), restore={"topic_mapping": names}))
    for source, copy in names.items():
        assert chains(client, copy) == wanted[source], copy


@pytest.mark.parametrize("codec", ["lz4", "none"])
def test_other_codecs(kafka, client, worker, storage, unique, codec):
    client.generate(client.create_topic(unique, partitions=3), 5000, size=300)
    worker.run_ok("backup", backup_config(kafka, storage, "b", [unique], backup={"compression": codec}))
    worker.run_ok("restore", restore_config(kafka, storage, "b", [unique],
                                            restore={"topic_mapping": {unique: f"{unique}-copy"}}))
    assert chains(client, f"{unique}-copy") == chains(client, unique)


def test_after_the_loss_of_the_topic(kafka, client, worker, storage, unique):
    """Deleted, then restored under its own name into its own cluster; a backup of it is equal again."""
    client.generate(client.create_topic(unique, partitions=2), 3000, size=200)
    before, digests = chains(client, unique), source_digests(client, [unique])
    worker.run_ok("backup", backup_config(kafka, storage, "b", [unique]))
    client.delete_topic(unique)
    fidelity.wait_until(lambda: unique not in client.topics(), "deletion")
    worker.run_ok("restore", restore_config(kafka, storage, "b", [unique], restore={"allow_source_cluster": True}))
    assert chains(client, unique) == before
    assert source_digests(client, [unique]) == digests
    worker.run_ok("backup", backup_config(kafka, storage, "b2", [unique]))
    fidelity.check_equal(storage, "b2", digests)


# ---- which records ----

T = 1_700_000_000_000


@pytest.mark.parametrize("start,end", [(T, T + 10), (T + 1, T + 9), (T + 9, T + 9), (None, T), (T + 10, None),
                                       (T - 1, T - 1 + 5), (T + 4, T + 5)])
def test_time_window_to_the_millisecond(kafka, client, worker, storage, unique, start, end):
    """Both ends are inclusive; order of timestamps does not matter."""
    times = [T + 5, T, T + 10, T - 1, T + 11, T + 1, T + 9, T + 4, T + 6, T + 5, T - 1, T]
    records = [record(f"k{i}", "v", timestamp=t, partition=i % 2) for i, t in enumerate(times)]
    make_backup(kafka, client, worker, storage, unique, records, partitions=2)
    window = {k: v for k, v in (("time_window_start", start), ("time_window_end", end)) if v is not None}
    copy = f"{unique}-copy"
    worker.run_ok("restore", restore_config(kafka, storage, "b", [unique], restore={
        "topic_mapping": {unique: copy}, **window}))
    found = client.dump(copy)
    for partition in (0, 1):
        wanted = [r for r in records if r.partition == partition and (start is None or r.timestamp >= start)
                  and (end is None or r.timestamp <= end)]
        assert bare(found[partition]) == wanted


def test_time_window_over_frames_and_segments(kafka, client, worker, storage, unique):
    """Whole frames are skipped by their times only where that is exact: times run back and forth."""
    records = [record(f"k{i}", bytes(2000), timestamp=T + (i * 7919) % 5000) for i in range(3000)]
    client.produce(client.create_topic(unique), records)
    worker.run_ok("backup", backup_config(kafka, storage, "b", [unique], backup={"segment_max_bytes": 1 << 21}))
    copy = f"{unique}-copy"
    worker.run_ok("restore", restore_config(kafka, storage, "b", [unique], restore={
        "topic_mapping": {unique: copy}, "time_window_start": T + 1000, "time_window_end": T + 1999}))
    wanted = [r for r in records if T + 1000 <= r.timestamp <= T + 1999]
    assert chains(client, copy) == {0: (len(wanted), chain(wanted))}


def test_no_record_in_the_window(kafka, client, worker, storage, unique):
    make_backup(kafka, client, worker, storage, unique, [record("k", "v", timestamp=T)])
    config = restore_config(kafka, storage, "b", [unique], restore={
        "topic_mapping": {unique: f"{unique}-copy"}, "time_window_start": T + 1})
    refused(worker.run("restore", config), "NoRecordsInRange", "No records found in time range")
    assert f"{unique}-copy" not in client.topics()
    config["restore"]["allow_empty_result"] = True
    worker.run_ok("restore", config)
    assert chains(client, f"{unique}-copy")[0][0] == 0


def test_selected_partitions_and_their_mapping(kafka, client, worker, storage, unique):
    client.generate(client.create_topic(unique, partitions=4), 4000, size=100)
    worker.run_ok("backup", backup_config(kafka, storage, "b", [unique]))
    source, copy = chains(client, unique), f"{unique}-copy"
    worker.run_ok("restore", restore_config(kafka, storage, "b", [unique], restore={
        "topic_mapping": {unique: copy}, "source_partitions": [1, 3], "partition_mapping": {1: 3, 3: 0}}))
    found = chains(client, copy)
    assert (found[3], found[0]) == (source[1], source[3])
    assert all(found[p][0] == 0 for p in found if p not in (0, 3))


def murmur2(data):
    """Kafka's own partitioner, from its published constants."""
    mask, m = 0xffffffff, 0x5bd1e995
    h = (0x9747b28c ^ len(data)) & mask
    whole = len(data) & ~3
    for i in range(0, whole, 4):
        k = struct.unpack_from("<I", data, i)[0] * m & mask
        k = (k ^ k >> 24) * m & mask
        h = h * m & mask ^ k
    for shift, byte in reversed(list(enumerate(data[whole:]))):
        h ^= byte << 8 * shift
    if len(data) > whole:
        h = h * m & mask
    h = (h ^ h >> 13) * m & mask
    return h ^ h >> 15


@pytest.mark.parametrize("strategy", ["murmur2", "automatic"])
def test_repartitioned(kafka, client, worker, storage, unique, strategy):
    """A merge by (timestamp, partition, offset), then a hash of the key, or a counter for those without."""
    records = [record(None if i % 5 == 0 else "" if i % 11 == 0 else f"key-{i % 97}", f"v{i}", timestamp=T + i // 3,
                      partition=i % 3) for i in range(900)]
    make_backup(kafka, client, worker, storage, unique, records, partitions=3)
    copy = f"{unique}-copy"
    worker.run_ok("restore", restore_config(kafka, storage, "b", [unique], restore={
        "topic_mapping": {unique: copy}, "repartitioning": {copy: {"strategy": strategy, "target_partitions": 5}}}))
    wanted, counter = {p: [] for p in range(5)}, 0
    for r in sorted(records, key=lambda r: (r.timestamp, r.partition)):
        if strategy == "murmur2" and r.key is not None:
            target = (murmur2(r.key) & 0x7fffffff) % 5
        else:
            target, counter = counter % 5, counter + 1
        wanted[target].append(r._replace(partition=target))
    assert {p: bare(found) for p, found in client.dump(copy).items()} == wanted


def test_two_topics_merged_into_one(kafka, client, worker, storage, unique):
    sources, copy = [f"{unique}-{i}" for i in range(2)], f"{unique}-copy"
    records = {t: [record(t, f"v{i}", timestamp=T + 2 * i + n) for i in range(200)] for n, t in enumerate(sources)}
    for topic, content in records.items():
        client.produce(client.create_topic(topic), content)
    worker.run_ok("backup", backup_config(kafka, storage, "b", sources))
    config = restore_config(kafka, storage, "b", sources, restore={"topic_mapping": dict.fromkeys(sources, copy)})
    result = worker.run("restore", config)
    assert result.code in (65, 78) and "allow_merge" in result.stderr, result.stderr
    config["restore"]["allow_merge"] = True
    worker.run_ok("restore", config)
    wanted = sorted((r for content in records.values() for r in content), key=lambda r: r.timestamp)
    assert bare(client.dump(copy)[0]) == wanted


def test_original_offset_headers_on_request(kafka, client, worker, storage, unique):
    records = [record(f"k{i}", "v", [("own", str(i))], timestamp=T + i, partition=1) for i in range(5)]
    make_backup(kafka, client, worker, storage, unique, records, partitions=2)
    copy = f"{unique}-copy"
    worker.run_ok("restore", restore_config(kafka, storage, "b", [unique], restore={
        "topic_mapping": {unique: copy}, "include_original_offset_header": True}))
    for i, r in enumerate(client.dump(copy)[1]):
        assert r.headers == ((b"own", str(i).encode()), (b"x-original-offset", struct.pack("<q", i)),
                             (b"x-original-timestamp", struct.pack("<q", T + i)),
                             (b"x-source-partition", struct.pack("<i", 1)))


def test_own_block_stays_when_it_is_not_to_be_stripped(kafka, client, worker, storage, unique):
    make_backup(kafka, client, worker, storage, unique, [record("k", "v", timestamp=T)])
    copy = f"{unique}-copy"
    worker.run_ok("restore", restore_config(kafka, storage, "b", [unique], restore={
        "topic_mapping": {unique: copy}, "strip_offset_headers": False}))
    assert [n for n, _ in client.dump(copy)[0][0].headers] == [b"x-original-offset", b"x-original-timestamp"]


def test_patterns_select_source_names(kafka, client, worker, storage, unique):
    names = [f"{unique}-{x}" for x in ("a1", "a2", "b1")]
    for name in names:
        client.produce(client.create_topic(name), [record(name, "v", timestamp=T)])
    worker.run_ok("backup", backup_config(kafka, storage, "b", names))
    mapping = {n: f"{n}-copy" for n in names}
    config = restore_config(kafka, storage, "b", [f"~{unique}-a[0-9]"], restore={"topic_mapping": mapping})
    config["target"]["topics"]["exclude"] = ["*-a2"]
    worker.run_ok("restore", config)
    assert [n for n in client.topics() if n.startswith(unique) and n.endswith("-copy")] == [f"{unique}-a1-copy"]


# ---- checks of the target ----

@pytest.fixture
def small(kafka, client, worker, storage, unique):
    """A backup "b" of a topic of two partitions; the topic's name."""
    make_backup(kafka, client, worker, storage, unique,
                [record(f"k{i}", "v", timestamp=T + i, partition=i % 2) for i in range(100)], partitions=2)
    return unique


def to_copy(kafka, storage, topic, **restore):
    return restore_config(kafka, storage, "b", [topic], restore={"topic_mapping": {topic: f"{topic}-copy"}, **restore})


def test_target_not_empty(kafka, client, worker, storage, small):
    copy = client.create_topic(f"{small}-copy", partitions=2)
    client.produce(copy, [record("foreign", "v", partition=1)])
    before = client.offsets(copy)
    refused(worker.run("restore", to_copy(kafka, storage, small)), "TargetNotEmpty", copy)
    assert client.offsets(copy) == before
    # purged on request
    worker.run_ok("restore", to_copy(kafka, storage, small, purge_topics=True))
    assert chains(client, copy) == chains(client, small)


def test_target_that_must_be_absent(kafka, client, worker, storage, small):
    client.create_topic(f"{small}-copy", partitions=2)
    refused(worker.run("restore", to_copy(kafka, storage, small, target_policy="absent")), "TargetNotEmpty")
    worker.run_ok("restore", to_copy(kafka, storage, small))
    assert chains(client, f"{small}-copy") == chains(client, small)


def test_target_that_must_be_there(kafka, client, worker, storage, small):
    result = worker.run("restore", to_copy(kafka, storage, small, create_topics=False))
    assert result.code == 78 and f"{small}-copy" in result.stderr and "create_topics" in result.stderr, result.stderr
    assert f"{small}-copy" not in client.topics()


def test_target_with_other_partitions(kafka, client, worker, storage, small):
    client.create_topic(f"{small}-copy", partitions=3)
    refused(worker.run("restore", to_copy(kafka, storage, small)), "TargetMismatch", f"{small}-copy")
    worker.run_ok("restore", to_copy(kafka, storage, small, allow_partition_mismatch=True))
    assert {p: c for p, c in chains(client, f"{small}-copy").items() if p < 2} == chains(client, small)


def test_source_is_target(kafka, client, worker, storage, small):
    before = client.offsets(small)
    config = restore_config(kafka, storage, "b", [small])
    refused(worker.run("restore", config), "SourceIsTarget", small)
    config["restore"]["allow_source_cluster"] = True  # the very topic of the backup: always
    refused(worker.run("restore", config), "SourceIsTarget", small)
    config["restore"]["purge_topics"] = True
    refused(worker.run("restore", config), "SourceIsTarget", small)
    assert client.offsets(small) == before


def test_dry_run_writes_nothing(kafka, client, worker, storage, small):
    before, topics = fidelity.tree(storage), client.topics()
    config = to_copy(kafka, storage, small)
    assert worker.run_ok("restore", config, "--dry-run", "-f", "json").json()["dryRun"] is True
    config["restore"]["dry_run"] = True
    worker.run_ok("restore", config)
    assert fidelity.tree(storage) == before and client.topics() == topics
    client.create_topic(f"{small}-copy", partitions=5)
    refused(worker.run("restore", config), "TargetMismatch")  # the same checks
    assert fidelity.tree(storage) == before


def test_record_larger_than_the_target_takes(kafka, client, worker, storage, unique):
    make_backup(kafka, client, worker, storage, unique, [record("k", b"\x01" * 300_000, timestamp=T)])
    client.create_topic(f"{unique}-copy", max_message_bytes=100_000)
    result = worker.run("restore", to_copy(kafka, storage, unique))
    assert result.code == 78 and "max.message.bytes" in result.stderr, result.stderr
    assert client.offsets(f"{unique}-copy")["end"] == {0: 0}


def test_damaged_segment_stops_before_anything_of_it_is_produced(kafka, client, worker, storage, small):
    path = sorted((storage / "b").rglob("segment*"))[0]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)
    result = worker.run("restore", to_copy(kafka, storage, small))
    assert result.code == 65 and result.report["reason"] == "BackupCorrupt", result.stderr
    assert path.relative_to(storage).as_posix() in result.stderr
    assert client.offsets(f"{small}-copy")["end"][0] == 0
    path.unlink()
    client.delete_topic(f"{small}-copy")
    result = worker.run("restore", to_copy(kafka, storage, small))
    assert result.code == 65 and path.name in result.stderr
    assert f"{small}-copy" not in client.topics()


def test_foreign_manifest_is_restored(kafka, client, worker, storage, small):
    """A backup of the existing tool: manifest.json and segments, nothing else."""
    (storage / "b/backup.json").unlink()
    for path in (storage / "b/journal").iterdir():
        path.unlink()
    worker.run_ok("restore", to_copy(kafka, storage, small))
    assert chains(client, f"{small}-copy") == chains(client, small)


def test_missing_topic_of_the_backup(kafka, worker, storage, small):
    result = worker.run("restore", restore_config(kafka, storage, "b", [small, "not-there"]))
    assert result.code == 78 and "Topic 'not-there' not found" in result.stderr, result.stderr


def test_backup_that_is_not_there(kafka, worker, storage, small):
    result = worker.run("restore", restore_config(kafka, storage, "nope", [small]))
    refused(result, "BackupNotFound", "Backup 'nope' not found")


def test_gap_needs_leave(kafka, client, worker, storage, unique):
    client.generate(client.create_topic(unique, segment_bytes=1 << 20), 60_000, size=300)
    config = backup_config(kafka, storage, "b", [unique], limits={"memory_bytes": 64 << 20}, backup={
        "rate_limit_records_per_sec": 4000, "segment_max_records": 1000, "checkpoint_interval_secs": 1})
    run = worker.start("backup", config)
    run.wait_for(lambda: len(list(storage.rglob("journal/0*.json"))) > 1, what="progress")
    client.delete_records(unique, {0: 59_000})
    assert run.wait().code == 3
    copy = f"{unique}-copy"
    refused(worker.run("restore", to_copy(kafka, storage, unique)), "GapNotAllowed", unique)
    assert copy not in client.topics()
    worker.run_ok("restore", to_copy(kafka, storage, unique, allow_gaps=True), code=3)
    count = client.digest(copy)[0].count
    assert 2000 <= count < 60_000


def test_timestamp_zero(kafka, client, worker, storage, unique):
    make_backup(kafka, client, worker, storage, unique,
                [record("a", "v", timestamp=T), record("zero", "v", timestamp=0), record("b", "v", timestamp=T)])
    result = worker.run("restore", to_copy(kafka, storage, unique))
    refused(result, "TimestampZero", unique)
    client.delete_topic(f"{unique}-copy") if f"{unique}-copy" in client.topics() else None
    result = worker.run_ok("restore", to_copy(kafka, storage, unique, timestamp_zero="one"), code=3)
    assert result.report["reason"] == "TimestampChanged"
    assert [r.timestamp for r in client.dump(f"{unique}-copy")[0]] == [T, 1, T]


# ---- going on ----

def test_stopped_by_sigterm_then_resumed(kafka, client, worker, storage, unique):
    client.generate(client.create_topic(unique, partitions=2, retention_ms=86_400_000 * 36500), 10_000, size=300)
    worker.run_ok("backup", backup_config(kafka, storage, "b", [unique]))
    copy = f"{unique}-copy"
    slow = to_copy(kafka, storage, unique, rate_limit_records_per_sec=2000)
    run = worker.start("restore", slow)
    run.wait_for(lambda: copy in client.topics() and client.offsets(copy)["end"][0] > 500, what="records")
    assert client.describe(copy)["configs"]["retention.ms"] == "-1", "the configs are not held"
    run.signal()
    result = run.wait(40)
    assert result.code == 143 and result.report["state"] == "Interrupted", result.stderr
    assert result.report["heldTopics"] == [copy]
    landed = sum(client.offsets(copy)["end"].values())
    assert 500 < landed < 10_000
    result = worker.run_ok("restore", to_copy(kafka, storage, unique), "-f", "json")
    assert chains(client, copy) == chains(client, unique)
    assert result.json()["resumedRecords"] == landed
    assert client.describe(copy)["configs"] == {**client.describe(unique)["configs"], "cleanup.policy": "delete"}


def test_foreign_record_between_two_attempts_is_found(kafka, client, worker, storage, unique):
    """O2: another writer on the target is named, never written over or skipped."""
    client.generate(client.create_topic(unique), 5000, size=300)
    worker.run_ok("backup", backup_config(kafka, storage, "b", [unique]))
    copy = f"{unique}-copy"
    run = worker.start("restore", to_copy(kafka, storage, unique, rate_limit_records_per_sec=1000))
    run.wait_for(lambda: copy in client.topics() and client.offsets(copy)["end"][0] > 100, what="records")
    run.kill()
    client.produce(copy, [record("foreign", "v")])
    end = client.offsets(copy)["end"]
    result = worker.run("restore", to_copy(kafka, storage, unique))
    assert result.code == 78 and result.report["reason"] == "TargetNotEmpty" and copy in result.stderr, result.stderr
    assert client.offsets(copy)["end"] == end


def test_foreign_record_during_a_restore_stops_it(kafka, client, worker, storage, unique):
    client.generate(client.create_topic(unique), 5000, size=300)
    worker.run_ok("backup", backup_config(kafka, storage, "b", [unique]))
    copy = f"{unique}-copy"
    run = worker.start("restore", to_copy(kafka, storage, unique, rate_limit_records_per_sec=1000))
    run.wait_for(lambda: copy in client.topics() and client.offsets(copy)["end"][0] > 100, what="records")
    [foreign] = client.produce(copy, [record("foreign", "v")])
    result = run.wait()
    assert result.code == 65 and result.report["reason"] == "TargetDiverged", result.stderr
    assert str(foreign) in result.stderr


def test_three_brokers_with_replicas(kafka3, client3, worker, storage, unique):
    client3.generate(client3.create_topic(unique, partitions=3, replication=3, min_insync_replicas=2), 5000, size=200)
    worker.run_ok("backup", backup_config(kafka3, storage, "b", [unique]))
    copy = f"{unique}-copy"
    worker.run_ok("restore", to_copy(kafka3, storage, unique))
    assert chains(client3, copy) == chains(client3, unique)
    described = client3.describe(copy)
    assert described["replication"] == 3 and described["configs"] == {
        **client3.describe(unique)["configs"], "cleanup.policy": "delete"}


# ---- transactional delivery ----

def test_transactional_delivery(kafka, client, worker, storage, unique):
    client.generate(client.create_topic(unique, partitions=3), 25_000, size=300)
    worker.run_ok("backup", backup_config(kafka, storage, "b", [unique]))
    config = to_copy(kafka, storage, unique, delivery="transactional")
    worker.run_ok("restore", config)
    copy, wanted = f"{unique}-copy", chains(client, unique)
    assert chains(client, copy) == wanted
    offsets = client.offsets(copy)
    assert all(offsets["end"][p] > wanted[p][0] for p in wanted), "no transaction markers"
    worker.run_ok("restore", config)
    assert client.offsets(copy) == offsets


def test_transactional_delivery_killed_and_resumed(kafka, client, worker, storage, unique):
    """What an open transaction had written is aborted; committed progress is where the next run goes on."""
    client.generate(client.create_topic(unique, partitions=3), 45_000, size=300)
    worker.run_ok("backup", backup_config(kafka, storage, "b", [unique]))
    copy = f"{unique}-copy"
    run = worker.start("restore", to_copy(kafka, storage, unique, delivery="transactional",
                                          rate_limit_records_per_sec=9000))
    run.wait_for(lambda: copy in client.topics() and sum(client.offsets(copy)["stable"].values()) > 5000, what="commit")
    run.kill()
    worker.run_ok("restore", to_copy(kafka, storage, unique, delivery="transactional"))
    assert chains(client, copy) == chains(client, unique)
