"""Retention and prune on a real lineage: what goes, what stays, kills, others at work, buckets that refuse."""
import json
import shutil
import pathlib
import socket
import sys
import time
import urllib.request

import pytest

import kbak
import stores
from lineage_model import DAY_S, GRACE_S, Lineage, Topic, restored
from worker import backup_config, restore_config

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "lab"))
from fault_proxy import FaultProxy  # noqa: E402

POINTS = ["prune.marked", "prune.manifest_deleted", "prune.segment_deleted"]


@pytest.fixture
def topic(client, unique):
    return Topic(client, unique, 2)


@pytest.fixture
def line(kafka, tmp_path, topic):
    return Lineage(kafka, tmp_path, "shop", [topic])


def grow(line, backups, records=150, **more):
    """That many backups, each after new records; their ids."""
    ids = []
    for _ in range(backups):
        for topic in line.topics.values():
            topic.produce(records)
        result = line.backup(**more)
        assert result.code == 0, result.stderr
        ids.append(result.report["backupId"])
    line.check()
    return ids


def pruned(line, *args, code=0, **rules):
    result = line.prune(*args, **rules)
    assert result.code == code, f"code {result.code}\n{result.stderr}"
    line.check()
    return result


def valid(line, backup_id):
    result = line.validate(backup_id, "--deep", "-f", "json")
    assert result.code == 0, result.stdout + result.stderr
    assert result.json()["valid"] and not result.json()["problems"]


def reasons(done):
    return {row["backupId"]: row["why"] for row in done["kept"]}


def test_retention_by_number_leaves_the_rest_exact(kafka, client, line, topic):
    ids = grow(line, 2)
    time.sleep(1.1)  # times in a report are whole seconds
    ids += grow(line, 1)
    marked = pruned(line, backups=2).json()
    assert (marked["marked"], marked["deleted"], marked["objects"]) == ([ids[0]], [], [])
    listed = line.worker.run("list", None, "--path", line.storage, "-f", "json", "-b", "shop").json()
    assert [row["state"] for row in listed] == ["complete", "complete", "pruned"]
    refused = line.validate(ids[0])
    assert refused.code == 65 and refused.report["reason"] == "BackupPruned"
    assert line.validate(ids[0], "--allow-pruned", "--deep").code == 0
    for command, *args in (("describe",), ("restore", restore_config(kafka, line.storage, ids[0]))):
        args = args or [None, "--path", line.storage, "-b", ids[0]]
        refused = line.worker.run(command, *args)
        assert refused.code == 65 and "marked for deletion" in refused.stderr, refused.stderr
    assert line.worker.run("describe", None, "--path", line.storage, "-b", ids[0], "--allow-pruned").code == 0
    line.pass_time(GRACE_S + 1)
    before = line.files()
    done = pruned(line, backups=2)
    assert done.json()["deleted"] == [ids[0]] and done.json()["reclaimedBytes"] > 0
    assert reasons(done.json()) == {ids[2]: "newest", ids[1]: "retention", ids[0]: "others use its segments"}
    assert done.report["pruned"] == 1 and done.report["reclaimedBytes"] == done.json()["reclaimedBytes"]
    assert done.report["retained"] == 2 and [row["backupId"] for row in done.report["catalog"]] == ids[:0:-1]
    assert done.report["lineage"] == "shop" and done.report["earliestTime"] < done.report["latestTime"]
    line.check_tidy(before)
    for backup_id in ids[1:]:
        valid(line, backup_id)
    target = topic.name + ".restored"
    result = line.worker.run("restore", restore_config(kafka, line.storage, ids[1], restore={
        "topic_mapping": {topic.name: target}, "allow_source_cluster": True, "stability_window_secs": 0}))
    assert result.code == 0, result.stderr
    backup = kbak.Backup(line.storage, ids[1])
    restored(client, {p: backup.records(topic.name, p) for p in range(2)}, target, 2)


def test_retention_by_age_counts_by_the_clock_of_the_store(line):
    ids = grow(line, 2)
    line.pass_time(2 * DAY_S)
    ids += grow(line, 1)
    assert pruned(line, max_age_days=3).json()["marked"] == []
    assert pruned(line, max_age_days=2).json()["marked"] == ids[1::-1]
    line.pass_time(400 * DAY_S)
    done = pruned(line, max_age_days=1, backups=1).json()
    assert done["deleted"] == ids[1::-1] and line.complete() == ids[2:]
    valid(line, ids[2])


def test_last_good_backup_stays_whatever_the_rules_say(line):
    ids = grow(line, 1)
    line.pass_time(3650 * DAY_S)
    for rules in ({"backups": 1}, {"max_age_days": 1}, {"backups": 1, "max_age_days": 1}):
        assert pruned(line, **rules).json()["marked"] == []
    for rules in ({"backups": 0}, {"backups": -1}, {"max_age_days": 0}):
        assert pruned(line, code=78, **rules).report["reason"] == "ConfigInvalid"
    assert line.complete() == ids
    valid(line, ids[0])


def test_dry_run_shows_exactly_what_the_run_removes(line):
    grow(line, 4)
    for rules in ({"backups": 2}, {"backups": 2}, {"backups": 1}, {"backups": 1}, {}):
        before = line.files()
        dry = pruned(line, "--dry-run", **rules)
        assert line.files().keys() == before.keys()
        done = pruned(line, **rules).json()
        assert {**dry.json(), "dryRun": False} == done
        gone = before.keys() - line.files().keys()
        assert gone == set(done["objects"])
        assert sum((1 for key in gone if "/topics/" in key)) == done["segments"]
        text = line.worker.run("prune", None, "--path", line.storage, "-b", "shop", "--dry-run")
        assert text.code == 0 and "would remove 0 objects" in text.stdout, text.stdout
        line.pass_time(GRACE_S + 1)


def test_retention_runs_after_a_backup_and_never_fails_it(line):
    rules = {"retention": {"backups": 2, "grace_secs": GRACE_S}}
    ids = grow(line, 3, **rules)
    assert line.marked() == ids[:1]
    line.pass_time(GRACE_S + 1)
    [newest] = grow(line, 1, **rules)
    assert not (line.storage / ids[0] / "manifest.json").exists()
    damaged = line.storage / ids[2] / "manifest.json"
    text = damaged.read_text()
    damaged.write_text("{")
    line.topics[next(iter(line.topics))].produce(10)
    result = line.backup(**rules)
    assert result.code == 0 and result.report["state"] == "Succeeded", result.stderr
    assert ids[2] in result.report["pruneError"] and "could not be pruned" in result.stderr
    assert result.report["retained"] >= 2 and result.report["catalog"][0]["backupId"] == result.report["backupId"]
    by_hand = line.prune(backups=1)
    assert by_hand.code == 65 and by_hand.report["reason"] == "BackupCorrupt", by_hand.stderr
    damaged.write_text(text)
    line.check()
    assert newest in line.complete()


def test_metrics_count_what_was_pruned(line):
    grow(line, 2)
    pruned(line, backups=1)
    line.pass_time(GRACE_S + 1)
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    run = line.start_prune(backups=1, metrics={"port": port, "bind_address": "127.0.0.1", "keep_alive_seconds": 20})

    def page():
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
                return answer.read().decode()
        except OSError:
            return ""
    run.wait_for(lambda: "run is done" in run.log(), what="the end")
    text = page()
    run.signal()
    assert run.wait().code == 0
    assert 'kafka_backup_prune_backups_deleted_total{lineage="shop"} 1\n' in text, text
    assert 'kafka_backup_prune_held_total{lineage="shop"} 0\n' in text
    assert 'kafka_backup_prune_bytes_reclaimed_total{lineage="shop"} 0\n' not in text


@pytest.fixture(scope="module")
def grown(kafka, client, tmp_path_factory):
    """(lineage, ids, copy of its store): four backups, the last of which needs nothing of the others."""
    topic = Topic(client, "grown", 2)
    line = Lineage(kafka, tmp_path_factory.mktemp("grown"), "shop", [topic])
    ids = grow(line, 3)
    client.delete_records(topic.name, client.offsets(topic.name)["end"])
    ids += grow(line, 1)
    copy = line.dir / "copy"
    shutil.copytree(line.storage, copy, copy_function=shutil.copy2)
    return line, ids, copy


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("action", ["kill", "error"])
def test_killed_prune_is_finished_by_the_next(grown, point, action):
    line, ids, copy = grown
    for nth in (1, 2, 3):
        shutil.rmtree(line.storage)
        shutil.copytree(copy, line.storage, copy_function=shutil.copy2)
        line.seen.clear()
        if point != "prune.marked":
            pruned(line, backups=1)
            line.pass_time(GRACE_S + 1)
        result = line.prune(backups=1, failpoint=f"{point}:{action}:{nth}")
        assert result.code == (-9 if action == "kill" else 75), result.stderr
        line.check()
        assert line.complete()[-1] == ids[-1]
        for _ in range(2):
            line.pass_time(GRACE_S + 1)
            before = line.files()
            pruned(line, backups=1)
        line.check_tidy(before)
        assert line.complete() == ids[-1:]
        valid(line, ids[-1])
        assert pruned(line, backups=1).json()["objects"] == []


def test_prune_during_a_backup_leaves_its_base(line, topic):
    ids = grow(line, 3)
    topic.produce(200)
    run = line.start_backup(failpoint="segment.before_complete:sleep=4:2")
    run.wait_for(lambda: "failpoint=segment.before_complete" in run.log(), what="the failpoint")
    done = pruned(line, backups=1).json()
    assert reasons(done)[ids[2]] == "newest" and list(line.unfinished().values()) == [ids[2]]
    line.pass_time(400 * DAY_S - 3)
    pruned(line, backups=1, max_age_days=1)
    assert ids[2] in line.complete()
    result = run.wait()
    assert result.code == 0, result.stderr
    line.check()
    line.check_fresh(result.report["backupId"])
    valid(line, result.report["backupId"])
    assert line.backup().code == 0


def test_open_backup_holds_its_marked_base(line, topic):
    ids = grow(line, 2)
    topic.produce(100)
    killed = line.backup(stamp="20260101-000000", failpoint="progress.after:kill:1", **{"retention": {"backups": 1}})
    assert killed.code == -9 and line.unfinished() == {"shop-20260101-000000": ids[1]}
    topic.produce(100)
    newer = line.backup(stamp="20260102-000000")
    assert newer.code == 0, newer.stderr
    done = pruned(line, backups=1).json()
    assert reasons(done).get(ids[1]) == "base of an open backup", done
    resumed = line.backup(stamp="20260101-000000")
    assert resumed.code == 0, resumed.stderr
    line.check()
    valid(line, "shop-20260101-000000")


def test_abandoned_backup_is_closed_and_removed(line, topic):
    topic.produce(300)
    abandoned = line.backup(stamp="20260101-000000", failpoint="segment.after_complete:kill:2")
    assert abandoned.code == -9
    assert pruned(line, backups=1).json()["closed"] == []
    line.pass_time(8 * DAY_S)
    assert pruned(line, backups=1).json()["closed"] == [], "there is no newer complete one"
    [good] = grow(line, 1)
    # the stamp of the good one is older, but it was completed later
    done = pruned(line, backups=1).json()
    assert done["closed"] == ["shop-20260101-000000"] == done["marked"]
    again = line.backup(stamp="20260101-000000")
    assert again.code == 78 and "given up by prune" in again.stderr, again.stderr
    line.pass_time(GRACE_S + 1)
    assert pruned(line, backups=1).json()["deleted"] == ["shop-20260101-000000"]
    assert line.ids() == [good]
    valid(line, good)


def test_orphans_and_temporary_files_go_after_a_week(line, topic):
    [good] = grow(line, 1)
    segment = next(line.storage.glob(f"{good}/topics/*/partition=0/*.zst"))
    orphan = segment.with_name("segment-00000000000000009999.bin.zst")
    orphan.write_bytes(segment.read_bytes())
    temporary = segment.with_name(f".{segment.name}.{'0' * 32}.tmp")
    temporary.write_bytes(b"torn")
    assert pruned(line, backups=1).json()["objects"] == []
    line.pass_time(7 * DAY_S + 60)
    done = pruned(line, backups=1).json()
    assert done["orphans"] == 2 and not orphan.exists() and not temporary.exists()
    assert [path.name for path in (line.storage / good / "journal").iterdir()] == ["00000000.json"]
    valid(line, good)
    topic.produce(50)
    [increment] = grow(line, 1)
    assert kbak.Backup(line.storage, increment).record["base"] == good


def test_restore_that_is_overtaken_by_prune_never_writes_wrong_data(kafka, client, line, topic):
    ids = grow(line, 2, records=600)
    pruned(line, backups=1)
    target = topic.name + ".overtaken"
    config = restore_config(kafka, line.storage, ids[0], restore={
        "topic_mapping": {topic.name: target}, "allow_source_cluster": True, "stability_window_secs": 0,
        "rate_limit_records_per_sec": 100})
    run = line.worker.start("restore", config, "--allow-pruned")
    run.wait_for(lambda: target in client.topics() and sum(d.count for d in client.digest(target).values()) > 0,
                 what="the first record")
    line.pass_time(GRACE_S + 1)
    pruned(line, backups=1)
    shutil.rmtree(line.storage / ids[0] / "topics", ignore_errors=True)
    shutil.rmtree(line.storage / ids[1] / "topics")
    result = run.wait()
    assert result.code == 65 and result.report["reason"] == "BackupPruned", f"{result.code} {result.stderr}"
    found = client.dump(target)
    for p, records in found.items():
        wanted = [topic.produced[topic.id][p][o]._replace(offset=-1) for o in sorted(topic.produced[topic.id][p])]
        got = [r._replace(offset=-1) for r in records]
        assert got == wanted[:len(got)]


def test_two_prunes_at_once_and_a_backup(line, topic):
    grow(line, 5)
    pruned(line, backups=3)
    line.pass_time(GRACE_S + 1)
    topic.produce(200)
    for run in [line.start_prune(backups=2), line.start_backup(), line.start_prune(backups=1)]:
        result = run.wait()
        assert result.code == 0, result.stderr
    line.check()
    line.pass_time(GRACE_S + 1)
    before = line.files()
    pruned(line, backups=1)
    line.check_tidy(before)
    valid(line, line.complete()[-1])


def test_prune_needs_a_lineage(line):
    result = line.worker.run("prune", None, "--path", line.storage)
    assert result.code == 78 and "-b LINEAGE" in result.stderr
    result = line.worker.run("prune", None, "--path", line.storage, "-b", "shop", "-f", "json")
    assert result.code == 0 and json.loads(result.stdout)["kept"] == []


# ---- buckets ----

@pytest.fixture(scope="module")
def minio():
    server = stores.S3()
    yield server
    server.close()


def bucket_backups(kafka, minio, worker, topic, bucket, count):
    """That many backups of a lineage in a bucket; their ids."""
    ids = []
    for number in range(count):
        topic.produce(100)
        config = backup_config(kafka, "", None, [topic.name], lineage="shop")
        del config["backup_id"]
        result = worker.run_ok("backup", {**config, "storage": minio.block(bucket)},
                               env={"KB_STAMP": f"20250101-0{number}0000"})
        ids.append(result.report["backupId"])
    return ids


def bucket_prune(minio, worker, bucket, *args, code=0, endpoint=None):
    config = {"lineage": "shop", "storage": minio.block(bucket, endpoint=endpoint), "metrics": {"enabled": False},
              "retention": {"backups": 1, "grace_secs": 1}}
    return worker.run_ok("prune", config, "-f", "json", *args, code=code)


@pytest.mark.parametrize("lock", [False, True], ids=["plain", "locked"])
def test_prune_of_a_bucket(kafka, minio, worker, topic, unique, tmp_path, lock):
    bucket = minio.bucket(unique, lock=lock)
    ids = bucket_backups(kafka, minio, worker, topic, bucket, 3)
    assert bucket_prune(minio, worker, bucket).json()["marked"] == ids[1::-1]
    time.sleep(2.1)  # services tell whole seconds
    before = set(minio.keys(bucket))
    dry = bucket_prune(minio, worker, bucket, "--dry-run").json()
    assert set(minio.keys(bucket)) == before
    done = bucket_prune(minio, worker, bucket, "--strict").json()
    assert done["deleted"] == ids[1::-1] and done["objects"] == dry["objects"] and done["held"] == 0
    assert before - set(minio.keys(bucket)) == set(done["objects"])
    assert (done["hidden"], done["reclaimedBytes"] > 0) == ((2, False) if lock else (0, True))
    valid = worker.run("validate", None, "--path", minio.location(bucket), "-b", ids[2], "--deep", env=minio.env())
    assert valid.code == 0, valid.stderr
    minio.mirror(bucket, tmp_path / "mirror")
    backup = kbak.Backup(tmp_path / "mirror", ids[2]).verify()
    for p in range(2):
        assert {r.offset: r for r in backup.records(topic.name, p)} == topic.produced[topic.id][p]


def test_refused_removals_are_held_and_tried_again(kafka, minio, worker, topic, unique):
    bucket = minio.bucket(unique)
    ids = bucket_backups(kafka, minio, worker, topic, bucket, 2)
    bucket_prune(minio, worker, bucket)
    time.sleep(2.1)
    # a server without the request for many keys, and one that removes nothing
    rules = [("POST", "*/1", "status", "501"), ("DELETE", "*/1", "status", "403")]
    with FaultProxy(minio.endpoint, rules=rules) as proxy:
        result = bucket_prune(minio, worker, bucket, "--strict", code=3, endpoint=proxy.url)
        assert result.report["reason"] == "RetentionHeld" and result.report["held"] == 1
        assert result.json()["deleted"] == [] and result.json()["objects"] == []
        assert bucket_prune(minio, worker, bucket, endpoint=proxy.url).report["held"] == 1
    assert bucket_prune(minio, worker, bucket, "--strict").json()["deleted"] == ids[:1]
