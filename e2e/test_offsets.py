"""Committed offsets of consumer groups: saved with a backup, moved, put back; judged by Kafka's own client."""
import itertools
import json
import os
import random

import pytest

import fidelity
from records import record
from worker import backup_config, kafka_block, restore_config

T = 1_700_000_000_000


def stored_groups(storage, backup_id):
    """{group: {topic: {partition: offset}}} of a backup, as the existing tool would read it."""
    snapshot = json.loads((storage / backup_id / "consumer-groups-snapshot.json").read_text())
    assert isinstance(snapshot["snapshot_time"], int)
    return {g["group_id"]: {t: {int(p): o for p, o in by.items()} for t, by in g["offsets"].items()}
            for g in snapshot["groups"]}


# ---- backup ----

@pytest.fixture
def storage(tmp_path):
    return tmp_path / "storage"


def with_groups(cluster, storage, backup_id, topics, **more):
    return backup_config(cluster, storage, backup_id, topics, backup={"consumer_group_snapshot": True, **more})


def test_backup_keeps_the_offsets_of_groups(kafka3, client3, worker, storage, unique):
    """Of both protocols, on coordinators of several brokers; only topics of the backup, only offsets that exist."""
    topic = client3.create_topic(unique, partitions=3)
    other = client3.create_topic(unique + "-other")
    client3.produce(topic, [record("k", f"v{i}", partition=i % 3) for i in range(30)])
    wanted = {f"{unique}-g{i:02}": {topic: {i % 3: i % 10, (i + 1) % 3: 10}} for i in range(40)}
    client3.commit(wanted)
    client3.commit({f"{unique}-elsewhere": {other: {0: 0}}, f"{unique}-g00": {other: {0: 0}}})
    client3.join(f"{unique}-new", [topic], protocol="consumer", commit=True)
    client3.join(f"{unique}-old", [topic], protocol="classic", commit=True)
    at_end = {topic: {0: 10, 1: 10, 2: 10}}
    result = worker.run_ok("backup", with_groups(kafka3, storage, "b", [topic]))
    client3.leave(f"{unique}-new")
    client3.leave(f"{unique}-old")
    groups = stored_groups(storage, "b")
    assert {g: o for g, o in groups.items() if g in wanted} == wanted
    for name in ("new", "old"):
        assert groups[f"{unique}-{name}"].keys() == at_end.keys()
    assert f"{unique}-elsewhere" not in groups
    index = json.loads((storage / "b" / "backup.json").read_text())
    assert index["groups"]["complete"] is True and index["groups"]["count"] == len(groups)
    assert result.report["groupsFailed"] == 0
    worker.run_ok("validate", None, "--path", storage, "-b", "b", "--deep")


@pytest.mark.parametrize("place", ["offsets_snapshot.before", "offsets_snapshot.after"])
def test_backup_killed_around_the_snapshot_keeps_one(kafka, client, worker, storage, unique, place):
    topic = client.create_topic(unique)
    client.produce(topic, [record("k", "v")])
    client.commit({unique: {topic: {0: 1}}})
    config = with_groups(kafka, storage, "b", [topic])
    assert worker.run("backup", config, failpoint=f"{place}:kill").code == -9
    worker.run_ok("backup", config)
    assert stored_groups(storage, "b")[unique] == {topic: {0: 1}}
    assert json.loads((storage / "b" / "backup.json").read_text())["groups"]["complete"] is True


def test_backup_without_any_group(worker, storage, unique, kafka, client):
    topic = client.create_topic(unique)
    client.produce(topic, [record("k", "v")])
    worker.run_ok("backup", with_groups(kafka, storage, "b", [topic]))
    assert stored_groups(storage, "b") == {}


# ---- offset commands ----

def offsets_config(cluster, storage, groups=(), snapshot_id="s", **offsets):
    return {"target": kafka_block(cluster), "storage": {"backend": "filesystem", "path": str(storage)},
            "metrics": {"enabled": False},
            "offsets": {"groups": list(groups), "snapshot_id": snapshot_id, **offsets}}


@pytest.fixture
def topic(client, unique):
    """Two partitions: offsets 0-9 and 0-9, of which 0-2 of the first are deleted; times T, T + 1, ..."""
    name = client.create_topic(unique, partitions=2)
    client.produce(name, [record("k", f"{p}-{i}", timestamp=T + i, partition=p) for p in range(2) for i in range(10)])
    client.delete_records(name, {0: 3})
    return name


@pytest.fixture
def group(unique):
    return unique + "-group"


STRATEGIES = [
    ({"strategy": "earliest"}, {0: 3, 1: 0}),
    ({"strategy": "latest"}, {0: 10, 1: 10}),
    ({"strategy": "timestamp", "timestamp_ms": T + 4}, {0: 4, 1: 4}),
    ({"strategy": "timestamp", "timestamp_ms": T + 100}, {0: 10, 1: 10}),
    ({"strategy": "offset", "offset": 7}, {0: 7, 1: 7}),
    ({"strategy": "offset", "offset": 1}, {0: 3, 1: 1}),
    ({"strategy": "offset", "offset": 99}, {0: 10, 1: 10}),
]


def test_reset_by_every_strategy(kafka, client, worker, storage, topic, group):
    """Dry run tells and changes nothing; the reset does what it told; the rollback undoes it."""
    storage.mkdir()
    for number, (how, wanted) in enumerate(STRATEGIES):
        client.commit({group: {topic: {0: 5, 1: 6}}}, metadata="mine")
        config = offsets_config(kafka, storage, [group], f"s{number}", **how)
        dry = worker.run_ok("offset-reset", config, "--dry-run", "-f", "json")
        assert client.committed(group) == {group: {topic: {0: 5, 1: 6}}}
        assert not list(storage.glob("*.json")) or number
        rows = {p["partition"]: (p["old"], p["new"]) for p in dry.json()["groups"][0]["partitions"]}
        assert rows == {0: (5, wanted[0]), 1: (6, wanted[1])}
        result = worker.run_ok("offset-reset", config)
        assert client.committed(group) == {group: {topic: wanted}}, how
        assert result.report["groupsDone"] == 1 and result.report["groups"][0]["status"] == "success"
        back = worker.run_ok("offset-rollback", offsets_config(kafka, storage, [], f"s{number}"))
        assert client.committed(group) == {group: {topic: {0: 5, 1: 6}}}
        assert client.committed_metadata(group) == {topic: {0: "mine", 1: "mine"}}
        assert "-before-" in back.stdout


def test_reset_from_mapping(kafka, client, worker, storage, topic, group, tmp_path):
    storage.mkdir()
    mapping = tmp_path / "mapping.json"
    mapping.write_text(json.dumps({"groups": {group: {topic: {"0": 4, "1": 2}}}}))
    how = {"strategy": "fromMapping", "mapping_file": str(mapping)}
    worker.run_ok("offset-reset", offsets_config(kafka, storage, [group], **how))
    assert client.committed(group) == {group: {topic: {0: 4, 1: 2}}}
    mapping.write_text(json.dumps({"groups": {group: {topic: {"0": 2}}}}))
    result = worker.run("offset-reset", offsets_config(kafka, storage, [group], "other", **how))
    assert (result.code, result.report["reason"]) == (65, "MappingInvalid") and "offset 2" in result.stderr
    result = worker.run("offset-reset", offsets_config(kafka, storage, [group], "s", **how))
    assert (result.code, result.report["reason"]) == (78, "SnapshotExists")


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_active_group_is_refused(kafka, client, worker, storage, topic, group, protocol):
    """Also with others that could be moved; then it leaves, and is waited for."""
    storage.mkdir()
    client.commit({group + "-idle": {topic: {0: 5}}})
    client.join(group, [topic], protocol=protocol, commit=True, name="somebody")
    before = client.committed(group, group + "-idle")
    config = offsets_config(kafka, storage, [group + "-idle", group], strategy="earliest")
    result = worker.run("offset-reset", config)
    assert (result.code, result.report["reason"]) == (75, "GroupActive")
    assert group in result.stderr and (protocol == "consumer" or "somebody" in result.stderr)
    assert client.committed(group, group + "-idle") == before and not list(storage.iterdir())
    waiting = worker.start("offset-reset", offsets_config(kafka, storage, [group], strategy="earliest",
                                                          wait_for_empty_secs=60))
    waiting.wait_for(lambda: (waiting.report() or {}).get("waitingFor"), what="waiting")
    client.leave(group)
    assert waiting.wait().code == 0
    assert client.committed(group) == {group: {topic: {0: 3, 1: 0}}}


def test_killed_after_every_group_then_rolled_back(kafka, client, worker, storage, topic, group):
    """The snapshot is there before the first commit; a rerun finishes; rollback removes what was not there before."""
    storage.mkdir()
    groups = [f"{group}-{i}" for i in range(3)]
    before = {groups[0]: {topic: {0: 5, 1: 6}}, groups[1]: {topic: {1: 2}}, groups[2]: {}}
    client.commit({g: o for g, o in before.items() if o})
    config = offsets_config(kafka, storage, groups, strategy="latest", topics=[topic], parallelism=1)
    for _ in range(2):  # one group further each time
        assert worker.run("offset-reset", config, failpoint="commit.nth_group:kill").code == -9
        assert (storage / "s.json").exists()
    assert worker.run("offset-verify", offsets_config(kafka, storage)).code == 3
    worker.run_ok("offset-reset", config)
    assert client.committed(*groups) == {g: {topic: {0: 10, 1: 10}} for g in groups}
    result = worker.run("offset-rollback", offsets_config(kafka, storage), failpoint="commit.nth_group:kill:2")
    assert result.code == -9
    worker.run_ok("offset-rollback", offsets_config(kafka, storage))
    assert client.committed(*groups) == before
    assert worker.run_ok("offset-verify", offsets_config(kafka, storage), "--strict").report["matched"] is True


def test_rollback_refuses_what_somebody_moved(kafka, client, worker, storage, topic, group):
    storage.mkdir()
    client.commit({group: {topic: {0: 5, 1: 6}}})
    worker.run_ok("offset-reset", offsets_config(kafka, storage, [group], strategy="earliest"))
    client.commit({group: {topic: {1: 9}}})
    result = worker.run("offset-rollback", offsets_config(kafka, storage))
    assert (result.code, result.report["reason"]) == (78, "OffsetsMoved")
    assert result.report["differences"] == [
        {"group": group, "topic": topic, "partition": 1, "expected": 0, "actual": 9}]
    assert client.committed(group) == {group: {topic: {0: 3, 1: 9}}}
    dry = worker.run_ok("offset-rollback", offsets_config(kafka, storage, force=True), "--dry-run")
    assert client.committed(group) == {group: {topic: {0: 3, 1: 9}}} and dry.stdout.count(group) == 2
    worker.run_ok("offset-rollback", offsets_config(kafka, storage, force=True))
    assert client.committed(group) == {group: {topic: {0: 5, 1: 6}}}


def test_snapshot_verify_delete(kafka, client, worker, storage, topic, group):
    client.commit({group: {topic: {0: 5}}}, metadata="m")
    other = group + "-without"
    worker.run_ok("offset-snapshot", offsets_config(kafka, storage, [group, other]))
    stored = json.loads((storage / "s.json").read_text())
    place = stored["groups"][group]["topics"][topic]["0"]
    assert (place["offset"], place["metadata"]) == (5, "m") and stored["groups"][other] == {"topics": {}}
    assert stored["plan"] is None and stored["clusterId"] == client.cluster_id()
    worker.run_ok("offset-snapshot", offsets_config(kafka, storage, [group, other]))  # once more, by the same hand
    assert worker.run("offset-snapshot", offsets_config(kafka, storage, [group])).report["reason"] == "SnapshotExists"
    assert worker.run_ok("offset-verify", offsets_config(kafka, storage)).report["matched"] is True
    client.commit({group: {topic: {1: 1}}})
    assert worker.run_ok("offset-verify", offsets_config(kafka, storage)).report["matched"] is True
    strict = worker.run("offset-verify", offsets_config(kafka, storage), "--strict")
    assert (strict.code, strict.report["reason"]) == (65, "VerificationFailed")
    client.commit({group: {topic: {0: 6}}})
    assert worker.run("offset-verify", offsets_config(kafka, storage)).code == 3
    worker.run_ok("offset-delete", offsets_config(kafka, storage))
    assert not (storage / "s.json").exists()
    gone = worker.run("offset-delete", offsets_config(kafka, storage))
    assert (gone.code, gone.report["reason"]) == (3, "SnapshotAbsent")
    assert worker.run("offset-verify", offsets_config(kafka, storage)).report["reason"] == "SnapshotNotFound"


def test_groups_that_cannot_be_moved_fail_the_command(kafka, client, worker, storage, topic, group):
    """Never 0 while one failed; with continue_on_error the others are moved."""
    storage.mkdir()
    client.commit({group: {topic: {0: 5}}})
    nobody = group + "-nobody"
    result = worker.run("offset-reset", offsets_config(kafka, storage, [group, nobody], strategy="earliest"))
    assert (result.code, result.report["reason"]) == (65, "GroupsFailed")
    assert client.committed(group) == {group: {topic: {0: 5}}}
    config = offsets_config(kafka, storage, [group, nobody], strategy="earliest", continue_on_error=True)
    result = worker.run("offset-reset", config)
    assert result.code == 65 and client.committed(group) == {group: {topic: {0: 3}}}
    assert {g["group"]: g["status"] for g in result.report["groups"]} == {group: "success", nobody: "failure"}
    assert worker.run("offset-reset", config).code == 65
    result = worker.run("offset-reset", offsets_config(kafka, storage, [group], "t", strategy="latest",
                                                       topics=["no-such-topic"]))
    assert result.code == 65 and "Topic 'no-such-topic' not found" in result.stderr


# ---- restore ----

GROUPS = int(os.environ.get("KB_OFFSET_GROUPS", "40"))


def first_not_read(client, topics, groups, wanted=lambda r: True):
    """{group: {topic: {partition: value}}}: what each group would read next of the records that are wanted."""
    dumps = {t: client.dump(t) for t in topics}
    result = {}
    for group, by_topic in groups.items():
        result[group] = {}
        for name, offsets in by_topic.items():
            result[group][name] = {}
            for p, offset in offsets.items():
                rest = [r for r in dumps[name].get(p, []) if r.offset >= offset and wanted(r)]
                result[group][name][p] = rest[0].value.decode() if rest else None
    return result


def renamed(groups, names):
    return {g: {names.get(t, t): by for t, by in topics.items()} for g, topics in groups.items()}


def random_groups(rng, topics, client, prefix):
    """Groups with offsets on some partitions: at the start, in holes, at the end, anywhere."""
    bounds = {t: client.offsets(t) for t in topics}
    groups = {}
    for number in range(GROUPS):
        offsets = {}
        for t in rng.sample(topics, rng.randint(1, len(topics))):
            parts = bounds[t]["end"]
            offsets[t] = {p: rng.choice([0, bounds[t]["start"][p], parts[p], rng.randint(0, parts[p])])
                          for p in rng.sample(sorted(parts), rng.randint(1, len(parts)))}
        groups[f"{prefix}-{number}"] = offsets
    return groups


@pytest.fixture(scope="module")
def holes(kafka, client, tmp_path_factory):
    """Topics with holes of every kind, groups at random places, and a backup of both:
    (storage, topics, groups)."""
    rng = random.Random(int(os.environ.get("KB_OFFSET_SEED", "7")))
    topics = [client.create_topic(f"holes-{kind}", partitions=3) for kind in ("plain", "aborted", "deleted", "times")]
    plain, aborted, deleted, times = topics
    values = itertools.count()

    def some(count, **fields):
        return [record(f"k{i}", f"v{next(values)}", partition=i % 3, **{"timestamp": T + i, **fields})
                for i in range(count)]
    for topic in (plain, deleted):
        client.produce(topic, some(90))
    for turn in range(6):
        client.produce(aborted, some(6), transaction="holes", end="abort" if turn % 2 else "commit")
    client.delete_records(deleted, {0: 7, 1: 30})
    client.produce(times, [r._replace(timestamp=T + rng.randint(0, 100)) for r in some(90)])
    groups = random_groups(rng, topics, client, "holes")
    client.commit(groups)
    from worker import Worker
    directory = tmp_path_factory.mktemp("holes")
    Worker(directory).run_ok("backup", with_groups(kafka, directory / "storage", "b", ["holes-*"],
                                                   segment_max_records=13))
    return directory / "storage", topics, groups


@pytest.mark.parametrize("how", ["plain", "window", "transactional"])
def test_next_record_after_restore_is_the_first_not_read(other_kafka, other_client, client, worker, holes, how):
    """For every group, renamed topics, filtered records; and again without any change."""
    storage, topics, groups = holes
    names = {t: f"{t}-{how}" for t in topics}
    settings = {"topic_mapping": names, "consumer_groups": list(groups), "rollback_snapshot_id": f"before-{how}",
                "offset_report": str(worker.dir / "map.json")}
    wanted = lambda r: True  # noqa: E731
    if how == "window":
        settings.update(time_window_start=T + 20, time_window_end=T + 70)
        wanted = lambda r: T + 20 <= r.timestamp <= T + 70  # noqa: E731
    if how == "transactional":
        settings["delivery"] = "transactional"
    expected = renamed(first_not_read(client, topics, groups, wanted), names)
    config = restore_config(other_kafka, storage, "b", topics, restore=settings)
    result = worker.run_ok("restore", config)
    assert result.report["groupsDone"] == len(groups)
    mine = {g: {t: o for t, o in by.items() if t in names.values()} for g, by in other_client.next(*groups).items()}
    assert mine == expected
    offsets = other_client.committed(*groups)
    worker.run_ok("restore", config)
    assert other_client.committed(*groups) == offsets
    if how == "plain":  # of the other two the one is like it and the other has no map
        check_map(json.loads((worker.dir / "map.json").read_text()), client, other_client, names)
    # everything as it was before: no group had offsets there
    worker.run_ok("offset-rollback", offsets_config(other_kafka, storage, [], f"before-{how}"))
    left = other_client.committed(*groups)
    assert not [t for by in left.values() for t in by if t in names.values()]


def check_map(export, client, other_client, names):
    """Exact for every source offset, as a reader of the existing tool computes it: element below plus distance."""
    for source, target in names.items():
        there, here = client.dump(source), other_client.dump(target)
        for p, records in ((p, records) for p, records in there.items() if records):
            by_value = {r.value: r.offset for r in here[p]}
            details = export["detailed_mappings"][f"{target}/{p}"]
            entry = export["entries"][f"{target}/{p}"]
            assert (entry["source_first_offset"], entry["source_last_offset"]) == \
                (records[0].offset, records[-1].offset)
            for wanted in range(records[0].offset, records[-1].offset + 1):
                below = [d for d in details if d["source_offset"] <= wanted][-1]
                answer = below["target_offset"] + wanted - below["source_offset"]
                assert answer == by_value[[r for r in records if r.offset >= wanted][0].value], (target, p, wanted)


def test_groups_after_merge_and_repartitioning(other_kafka, other_client, client, worker, holes):
    """At least once: nothing that a group had not read lies before where it goes on."""
    storage, topics, groups = holes
    source, target = topics[0], "holes-repartitioned"
    mine = {g: by[source] for g, by in groups.items() if source in by}
    config = restore_config(other_kafka, storage, "b", [source], restore={
        "topic_mapping": {source: target}, "consumer_groups": list(mine),
        "repartitioning": {target: {"strategy": "murmur2", "target_partitions": 2}}})
    worker.run_ok("restore", config)
    origin = {r.value: (p, r.offset) for p, records in client.dump(source).items() for r in records}
    here, committed = other_client.dump(target), other_client.committed(*mine)
    for group, offsets in mine.items():
        for p, records in here.items():
            unread = [r.offset for r in records if origin[r.value][1] >= offsets.get(origin[r.value][0], 0)]
            end = records[-1].offset + 1 if records else 0
            assert committed[group][target][p] == (unread[0] if unread else end), (group, p)


def test_groups_of_a_restore_are_checked_first(other_kafka, other_client, worker, holes):
    storage, topics, groups = holes
    name, target = sorted(groups)[0], "holes-checked"
    waiting = other_client.create_topic("holes-waiting")
    source = sorted(groups[name])[0]
    config = restore_config(other_kafka, storage, "b", [source], restore={
        "topic_mapping": {source: target}, "consumer_groups": [name]})
    other_client.join(name, [waiting], name="somebody")
    result = worker.run("restore", config)
    assert (result.code, result.report["reason"]) == (75, "GroupActive") and "somebody" in result.stderr
    assert target not in other_client.topics()
    other_client.leave(name)
    config["restore"]["consumer_groups"] = [name, "nobody-knows"]
    assert worker.run("restore", config, failpoint="commit.nth_group:kill").code == -9
    result = worker.run("restore", config)
    assert (result.code, result.report["reason"]) == (3, "GroupsIncomplete") and "nobody-knows" in result.stderr
    assert target in other_client.committed(name)[name]


def test_reset_by_headers_finds_the_same(other_kafka, other_client, client, worker, holes):
    """offset-reset headerBased with the backup's snapshot, after a restore that added the headers."""
    storage, topics, groups = holes
    names = {t: t for t in topics}
    settings = {"include_original_offset_header": True, "offset_reset": {"strategy": "earliest"}}
    worker.run_ok("restore", restore_config(other_kafka, storage, "b", topics, restore=settings))
    config = {**offsets_config(other_kafka, storage, list(groups), "by-headers", strategy="headerBased",
                               topics=topics), "backup_id": "b"}
    worker.run_ok("offset-reset", config)
    expected = renamed(first_not_read(client, topics, groups), names)
    mine = {g: {t: o for t, o in by.items() if t in topics} for g, by in other_client.next(*groups).items()}
    assert mine == expected


def test_reset_by_headers_after_repartitioning(kafka, client, other_kafka, other_client, worker, storage, unique,
                                               group):
    """Another number of partitions: all records are read. Source offsets are those that the group has there."""
    topic = client.create_topic(unique, partitions=3)
    client.produce(topic, [record(f"k{i}", f"v{i}", partition=i % 3) for i in range(60)])
    worker.run_ok("backup", backup_config(kafka, storage, "b", [topic]))
    worker.run_ok("restore", restore_config(other_kafka, storage, "b", [topic], restore={
        "include_original_offset_header": True,
        "repartitioning": {topic: {"strategy": "murmur2", "target_partitions": 2}}}))
    source = {0: 4, 1: 20, 2: 11}
    client.commit({group: {topic: source}})
    worker.run_ok("backup", with_groups(kafka, storage, "b2", [topic]))
    config = {**offsets_config(other_kafka, storage, [group], strategy="headerBased"), "backup_id": "b2"}
    refused = worker.run("offset-reset", config)
    assert (refused.code, refused.report["reason"]) == (65, "SourceOffsetsMissing")
    assert "scan_all_partitions" in refused.stderr or "UNKNOWN" in refused.stderr, refused.stderr
    config["offsets"]["scan_all_partitions"] = True
    worker.run_ok("offset-reset", config)
    origin = {r.value: (p, r.offset) for p, records in client.dump(topic).items() for r in records}
    for p, records in other_client.dump(topic).items():
        unread = [r.offset for r in records if origin[r.value][1] >= source[origin[r.value][0]]]
        assert other_client.committed(group)[group][topic][p] == (unread[0] if unread else records[-1].offset + 1)


def test_reset_in_place_translates_once(kafka, client, worker, storage, topic, group):
    """Without a backup the group's own offsets are the source offsets; a second run does not translate them again."""
    worker.run_ok("backup", backup_config(kafka, storage, "b", [topic]))
    client.delete_topic(topic)
    fidelity.wait_until(lambda: topic not in client.topics(), "deletion")
    worker.run_ok("restore", restore_config(kafka, storage, "b", [topic], restore={
        "include_original_offset_header": True, "allow_source_cluster": True}))
    client.commit({group: {topic: {0: 5, 1: 6}}})
    config = offsets_config(kafka, storage, [group], strategy="headerBased")
    for _ in range(2):
        worker.run_ok("offset-reset", config)
        assert client.committed(group) == {group: {topic: {0: 2, 1: 6}}}  # the first three were deleted at the source
    config["offsets"]["create_snapshot"] = False
    assert worker.run("offset-reset", config).code == 78


# ---- many ----

@pytest.mark.parametrize("count", [30, pytest.param(10000, marks=pytest.mark.skipif(
    not os.environ.get("KB_RELEASE_GATE"), reason="KB_RELEASE_GATE"))])
def test_many_groups_on_several_coordinators(kafka3, client3, worker, storage, unique, count):
    """Saved, moved and put back; 10,000 of them are saved within a minute."""
    topic = client3.create_topic(unique, partitions=2)
    client3.produce(topic, [record("k", f"v{i}", partition=i % 2) for i in range(20)])
    groups = {f"{unique}-{i}": {topic: {0: i % 10, 1: 5}} for i in range(count)}
    names = list(groups)
    for at in range(0, count, 500):
        client3.commit({g: groups[g] for g in names[at:at + 500]})
    saved = worker.run_ok("offset-snapshot", offsets_config(kafka3, storage, names, "saved"))
    assert saved.seconds < 60 and saved.report["groupsDone"] == count
    worker.run_ok("offset-reset", offsets_config(kafka3, storage, names, "reset", strategy="latest", parallelism=50))
    assert client3.committed(*names[:100]) == {g: {topic: {0: 10, 1: 10}} for g in names[:100]}
    worker.run_ok("offset-rollback", offsets_config(kafka3, storage, [], "reset"))
    assert worker.run_ok("offset-verify", offsets_config(kafka3, storage, [], "saved")).report["matched"] is True
    print(f"{count} groups saved in {saved.seconds:.1f} s")
