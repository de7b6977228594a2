"""A backup holds exactly the records that were there: compared with what Kafka's own client reads."""
import pytest

import fidelity
import kbak
from fidelity import check_backup
from records import record
from worker import backup_config


@pytest.fixture(scope="module")
def topics(client):
    return fidelity.make_topics(client, "fidelity")


@pytest.fixture
def storage(tmp_path):
    return tmp_path / "storage"


@pytest.mark.tsan
@pytest.mark.parametrize("codec", ["zstd", "lz4", "none"])
def test_every_kind_of_topic_is_equal(kafka, client, worker, storage, topics, codec):
    config = backup_config(kafka, storage, "all", ["fidelity.*"], backup={"compression": codec})
    result = worker.run_ok("backup", config, "-f", "json")
    check_backup(storage, "all", client, topics)
    assert result.json()["backupId"] == "all"
    assert result.report["state"] == "Succeeded" and result.report["percent"] == 100
    worker.run_ok("validate", None, "--path", storage, "-b", "all", "--deep")


def test_without_offset_headers_records_are_stored_as_they_are(kafka, client, worker, storage, topics):
    config = backup_config(kafka, storage, "plain", ["fidelity.headers", "fidelity.times"],
                           backup={"include_offset_headers": False})
    worker.run_ok("backup", config)
    backup = check_backup(storage, "plain", client, topics[:1] + topics[2:3])
    assert [r.headers for r in backup.records("fidelity.headers", 0, strip=False)] == \
        [r.headers for r in fidelity.HEADERS]


def test_own_block_is_appended_and_nothing_else(kafka, worker, storage, topics):
    config = backup_config(kafka, storage, "own", ["fidelity.headers"], backup={"source_cluster_id": "prod-1"})
    worker.run_ok("backup", config)
    stored = kbak.Backup(storage, "own").verify().records("fidelity.headers", 0, strip=False)
    for original, found in zip(fidelity.HEADERS, stored):
        assert found.headers[:len(original.headers)] == original.headers
        names = [name for name, _ in found.headers[len(original.headers):]]
        assert names == [b"x-original-offset", b"x-original-timestamp", b"x-source-cluster"]


def test_names_that_are_nasty_as_paths_come_back_one_to_one(other_kafka, other_client, worker, storage):
    for number, name in enumerate(fidelity.NASTY_NAMES):
        other_client.produce(other_client.create_topic(name), [record(name, str(number))])
    worker.run_ok("backup", backup_config(other_kafka, storage, "names", fidelity.NASTY_NAMES))
    check_backup(storage, "names", other_client, fidelity.NASTY_NAMES)


def test_small_segments_and_a_stop_by_records_tile_the_partition(kafka, client, worker, storage, topics):
    config = backup_config(kafka, storage, "tiles", ["fidelity.bulk"],
                           backup={"segment_max_bytes": 50_000, "segment_max_records": 33})
    worker.run_ok("backup", config)
    backup = check_backup(storage, "tiles", client, ["fidelity.bulk"])
    assert all(s.count <= 33 for s in backup.segments("fidelity.bulk", 0))
    assert len(backup.partitions()["fidelity.bulk", 0]["segments"]) >= 150


def test_open_transaction_holds_the_cut_back(kafka, client, worker, storage, unique):
    client.create_topic(unique)
    client.produce(unique, [record("before", "v")])
    client.produce(unique, [record("open", "v")], transaction=unique, end="open")
    client.produce(unique, [record("behind", "v")])
    try:
        result = worker.run_ok("backup", backup_config(kafka, storage, "open", [unique]))
        check_backup(storage, "open", client, [unique])
        assert result.report["lsoLag"] == 2
        assert [r.key for r in kbak.Backup(storage, "open").records(unique, 0)] == [b"before"]
    finally:
        client.end_transaction(unique)


def test_record_above_the_cut_is_not_written(kafka, client, worker, storage, unique):
    """Regression case: writing goes on while the backup runs; nothing at or above the cut is in it."""
    client.generate(client.create_topic(unique, partitions=2), 20_000, size=300)
    config = backup_config(kafka, storage, "cut", [unique], backup={"rate_limit_records_per_sec": 20_000})
    run = worker.start("backup", config)
    run.wait_for(lambda: (run.report() or {}).get("state") == "Running", what="Running")
    client.generate(unique, 5000, size=300, seed=2)
    assert run.wait().code == 0
    backup = check_backup(storage, "cut", client, [unique], {unique: {0: 10_000, 1: 10_000}})
    assert backup.record["topics"][0]["partitions"][0]["cut"] == 10_000


def test_compacted_topic_is_followed_until_its_end(kafka, client, worker, storage, unique):
    client.create_topic(unique, cleanup_policy="compact")
    client.generate(unique, 20_000, size=300)
    config = backup_config(kafka, storage, "follow", [unique], backup={"rate_limit_records_per_sec": 15_000})
    run = worker.start("backup", config)
    run.wait_for(lambda: (run.report() or {}).get("state") == "Running", what="Running")
    client.generate(unique, 3000, size=300, seed=2)
    assert run.wait().code == 0
    backup = check_backup(storage, "follow", client, [unique])
    assert backup.record["topics"][0]["partitions"][0]["cut"] == 23_000


def test_records_deleted_while_reading_are_a_gap(kafka, client, worker, storage, unique):
    """Regression case: the position falls below the log start; reading goes on there and says so."""
    client.generate(client.create_topic(unique, segment_bytes=1 << 20), 60_000, size=300)
    config = backup_config(kafka, storage, "gap", [unique], backup={"rate_limit_records_per_sec": 5000},
                           limits={"memory_bytes": 64 << 20})
    run = worker.start("backup", config)
    run.wait_for(lambda: (run.report() or {}).get("state") == "Running", what="Running")
    client.delete_records(unique, {0: 59_000})
    result = run.wait()
    assert result.code == 3, result.stderr
    assert result.report["state"] == "DoneWithFindings" and result.report["reason"] == "RetentionGap"
    backup = kbak.Backup(storage, "gap").verify()
    gaps = backup.gaps()
    assert len(gaps) == 1 and gaps[0][:2] == (unique, 0) and gaps[0][3] == 59_000
    offsets = [r.offset for r in backup.records(unique, 0)]
    assert offsets == list(range(gaps[0][2])) + list(range(59_000, 60_000))
    worker.run_ok("validate", None, "--path", storage, "-b", "gap", "--deep", code=3)


def test_topic_deleted_while_reading_keeps_what_was_journaled(kafka, client, worker, storage, unique):
    gone, kept = client.create_topic(f"{unique}-gone"), client.create_topic(f"{unique}-kept")
    client.generate(gone, 60_000, size=300)
    client.generate(kept, 1000, size=300)
    config = backup_config(kafka, storage, "deleted", [gone, kept], backup={
        "rate_limit_records_per_sec": 10_000, "segment_max_records": 2000, "checkpoint_interval_secs": 1})
    run = worker.start("backup", config)
    run.wait_for(lambda: (run.report() or {}).get("state") == "Running", what="Running")
    client.delete_topic(gone)
    result = run.wait()
    assert result.code == 3 and result.report["reason"] == "Discontinuity", result.stderr
    backup = kbak.Backup(storage, "deleted").verify()
    states = {t["name"]: t["state"] for t in backup.record["topics"]}
    assert states == {gone: "deleted", kept: "ok"}
    assert len(backup.records(kept, 0)) == 1000


def test_topic_made_anew_while_reading_is_not_mixed(kafka, client, worker, storage, unique):
    client.create_topic(unique)
    client.generate(unique, 60_000, size=300)
    config = backup_config(kafka, storage, "anew", [unique], backup={
        "rate_limit_records_per_sec": 10_000, "segment_max_records": 2000, "checkpoint_interval_secs": 1})
    run = worker.start("backup", config)
    run.wait_for(lambda: (run.report() or {}).get("state") == "Running", what="Running")
    before = {r.offset: r.value for r in client.dump(unique, to={0: 3000})[0]}
    client.delete_topic(unique)
    fidelity.wait_until(lambda: unique not in client.topics(), "deletion")
    client.create_topic(unique)
    client.generate(unique, 60_000, size=300, seed=99)
    result = run.wait()
    assert result.code == 3 and result.report["reason"] == "Discontinuity", result.stderr
    backup = kbak.Backup(storage, "anew").verify()
    assert backup.record["topics"][0]["state"] == "recreated"
    for r in backup.records(unique, 0):
        if r.offset in before:
            assert r.value == before[r.offset]


def test_start_offsets(kafka, client, worker, storage, unique):
    client.generate(client.create_topic(unique, partitions=2), 1000)
    for name, start, wanted in (("latest", "latest", {0: 0, 1: 0}),
                                ("specific", {unique: {1: 480}}, {0: 500, 1: 20})):
        worker.run_ok("backup", backup_config(kafka, storage, name, [unique], backup={"start_offset": start}))
        digests = kbak.Backup(storage, name).verify().digests()
        assert {p: digests.get((unique, p), (0,))[0] for p in (0, 1)} == wanted


def test_missing_topic_with_warn_is_a_finding(kafka, client, worker, storage, unique):
    client.produce(client.create_topic(unique), [record("k", "v")])
    config = backup_config(kafka, storage, "warn", [unique, f"{unique}-nope"], backup={"on_missing_topic": "warn"})
    result = worker.run_ok("backup", config, code=3)
    assert result.report["reason"] == "TopicsSkipped" and result.report["skippedTopics"] == 1
    assert kbak.Backup(storage, "warn").verify().record["skippedTopics"] == [
        {"name": f"{unique}-nope", "reason": "missing"}]
