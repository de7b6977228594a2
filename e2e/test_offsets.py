"""Committed offsets of consumer groups: saved with a backup, moved, put back; judged by Kafka's own client."""
import json

import pytest

from records import record
from worker import backup_config


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
