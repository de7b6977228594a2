"""Incremental backups: what a lineage reuses, what it reads anew, and what it says about a log that does not go on.

KB_LINEAGE_RECORDS: records of the topic that grows by 1 % (200,000 of 1 KiB; the release gate 2,000,000).
"""
import os
import signal
import time

import pytest

import fidelity
import kbak
import stores
from kafka import Cluster
from records import record
from refclient import RefClient
from worker import backup_config, restore_config

RECORDS = int(os.environ.get("KB_LINEAGE_RECORDS") or (2_000_000 if os.environ.get("KB_RELEASE_GATE") else 200_000))


class Lineage:
    """Backups number 1, 2, ... of one lineage, with stamps in this order."""

    def __init__(self, worker, cluster, storage, topics, name="line", **backup):
        self.worker, self.cluster, self.storage, self.topics = worker, cluster, storage, topics
        self.name, self.backup = name, backup

    def id(self, number):
        return f"{self.name}-20250101-0000{number:02}"

    def config(self, **more):
        config = backup_config(self.cluster, self.storage, None, self.topics, lineage=self.name,
                               backup=dict(self.backup), **more)
        del config["backup_id"]
        return config

    def start(self, number, *args, failpoint=None, config=None, env=None):
        return self.worker.start("backup", config or self.config(), "-f", "json", *args, failpoint=failpoint,
                                 env={"KB_STAMP": self.id(number)[-15:], **(env or {})})

    def run(self, number, *args, code=0, **options):
        result = self.start(number, *args, **options).wait()
        assert result.code == code, f"exit code {result.code}, wanted {code}\n{result.stdout}\n{result.stderr}"
        return result

    def read(self, number):
        """The backup, whole by its format, valid to the worker, and with nothing but what it lists."""
        backup = kbak.Backup(self.storage, self.id(number)).verify()
        done = self.worker.run("validate", None, "--path", self.storage, "-b", self.id(number), "--deep")
        assert done.code in (0, 3), done.stderr
        return backup

    def exact(self, number, client, to=None):
        """The same, and it holds what the reference client reads now."""
        backup = self.read(number)
        fidelity.check_equal(self.storage, self.id(number), fidelity.source_digests(client, self.topics, to))
        return backup


@pytest.fixture
def storage(tmp_path):
    return tmp_path / "storage"


@pytest.fixture
def line(worker, kafka, storage, unique):
    def make(**backup):
        return Lineage(worker, kafka, storage, [unique], **backup)
    return make


def owners(backup, topic, partition=0):
    """Of each segment: the backup that wrote it."""
    return [s["key"].split("/")[0] for s in backup.partitions()[topic, partition]["segments"]]


def entry(backup, topic, partition=0):
    topic = next(t for t in backup.record["topics"] if t["name"] == topic)
    return next(p for p in topic["partitions"] if p["partition"] == partition)


def state(backup, topic):
    return next(t["state"] for t in backup.record["topics"] if t["name"] == topic)


def reasons(backup):
    return [f["reason"] for f in backup.record["findings"]]


def some(count, tag, partition=0):
    return [record(f"{tag}{i}", f"value of {tag} {i}", partition=partition) for i in range(count)]


# ---- what is reused ----
def test_second_backup_reuses_the_first_and_reads_the_rest(client, line, unique):
    this = line()
    client.produce(client.create_topic(unique, partitions=2), some(100, "a") + some(50, "b", 1))
    this.run(1)
    first = this.exact(1, client)
    assert first.record["base"] is None and first.record["depth"] == 0 and first.record["uses"] == []
    client.produce(unique, some(10, "c"))
    result = this.run(2)
    second = this.exact(2, client)
    assert second.record["base"] == this.id(1) and second.record["depth"] == 1
    assert second.record["lineage"] == this.name and second.record["uses"] == [this.id(1)]
    assert owners(second, unique) == [this.id(1), this.id(2)] and owners(second, unique, 1) == [this.id(1)]
    totals = second.record["totals"]
    assert totals["records"] == 160 and totals["reusedSegments"] == 2 and totals["segments"] == 3
    assert totals["reusedBytes"] == first.record["totals"]["storedBytes"]
    report = result.report
    assert report["base"] == this.id(1) and report["lineage"] == this.name
    assert report["recordsProcessed"] == 160 and report["segmentsCompleted"] == 3
    assert report["bytesProcessed"] == totals["storedBytes"]
    assert report["newBytes"] == totals["storedBytes"] - totals["reusedBytes"]
    # nothing new: everything is reused, nothing is stored
    this.run(3)
    third = this.exact(3, client)
    assert third.record["totals"]["reusedSegments"] == 3 and third.record["depth"] == 2
    assert not (third.dir / "topics").exists()
    assert sorted(third.record["uses"]) == [this.id(1), this.id(2)]


def test_restore_of_every_backup_is_exact(kafka, client, worker, storage, line, unique):
    this = line(segment_max_records=40)
    client.create_topic(unique)
    wanted = {}
    for number in (1, 2, 3):
        client.produce(unique, some(60, f"run{number}-"))
        this.run(number)
        wanted[number] = fidelity.chains(client, unique)
    for number, chains in wanted.items():
        target = f"{unique}.r{number}"
        worker.run_ok("restore", restore_config(kafka, storage, this.id(number), [unique],
                                                restore={"topic_mapping": {unique: target}}))
        assert fidelity.chains(client, target) == chains


def test_name_of_a_lineage_means_its_newest_complete_backup(kafka, client, worker, storage, line, unique):
    this = line()
    client.create_topic(unique)
    for number in (1, 2):
        client.produce(unique, some(10, f"run{number}-"))
        this.run(number)
    assert worker.run("validate", None, "--path", storage, "-b", this.name, "-f", "json").json()["backupId"] == \
        this.id(2)
    assert worker.run("describe", None, "--path", storage, "-b", this.name, "-f", "json").json()["backupId"] == \
        this.id(2)
    target = f"{unique}.restored"
    worker.run_ok("restore", restore_config(kafka, storage, this.name, [unique],
                                            restore={"topic_mapping": {unique: target}}))
    assert fidelity.chains(client, target) == fidelity.chains(client, unique)
    assert worker.run("validate", None, "--path", storage, "-b", "nothing").code == 78


@pytest.mark.slow
def test_topic_that_grows_by_one_percent(kafka, client, worker, storage, line, unique):
    this = line()
    client.generate(client.create_topic(unique, partitions=4), RECORDS, size=1024, kind="random")
    first = this.run(1)
    one = kbak.Backup(storage, this.id(1)).record
    before = fidelity.chains(client, unique)
    client.generate(unique, RECORDS // 100, size=1024, kind="random", seed=2)
    second = this.run(2)
    two = kbak.Backup(storage, this.id(2)).record
    after = fidelity.chains(client, unique)
    new = sum(p.stat().st_size for p in (storage / this.id(2) / "topics").rglob("*") if p.is_file())
    assert new <= 0.012 * one["totals"]["storedBytes"]
    assert two["totals"]["storedBytes"] - two["totals"]["reusedBytes"] == new
    share = new / one["totals"]["storedBytes"]
    print(f"\nfirst {first.seconds:.2f} s, second {second.seconds:.2f} s, new bytes {share:.4f}")
    if RECORDS >= 1_000_000:
        assert second.seconds <= 0.1 * first.seconds
    for number, chains in ((1, before), (2, after)):
        target = f"{unique}.r{number}"
        worker.run_ok("restore", restore_config(kafka, storage, this.id(number), [unique],
                                                restore={"topic_mapping": {unique: target}}))
        assert fidelity.chains(client, target) == chains


def test_full_backup_of_a_lineage_has_no_base(client, line, unique):
    this = line()
    client.produce(client.create_topic(unique), some(20, "a"))
    this.run(1)
    this.run(2, "--full")
    second = this.exact(2, client)
    assert second.record["base"] is None and owners(second, unique) == [this.id(2)]
    this.backup["incremental"] = False
    this.run(3)
    assert this.exact(3, client).record["base"] is None
    del this.backup["incremental"]
    this.run(4)
    assert this.exact(4, client).record["base"] == this.id(3)


def test_other_content_makes_a_full_backup(client, line, unique):
    this = line()
    client.produce(client.create_topic(unique), some(20, "a"))
    this.run(1)
    this.backup["include_offset_headers"] = False
    this.run(2)
    assert this.exact(2, client).record["base"] is None
    this.backup["compression"] = "lz4"  # not part of the content: segments of two codecs side by side
    client.produce(unique, some(20, "b"))
    this.run(3)
    third = this.exact(3, client)
    assert third.record["base"] == this.id(2) and owners(third, unique) == [this.id(2), this.id(3)]
    this.backup["include_offset_headers"] = True
    this.run(4)
    assert this.exact(4, client).record["base"] == this.id(1)


def test_compacted_topic_is_read_in_full(client, line, unique):
    this = line()
    client.create_topic(unique, cleanup_policy="compact")
    client.produce(unique, some(20, "a"))
    this.run(1)
    client.produce(unique, some(5, "b"))
    this.run(2)
    second = this.exact(2, client)
    assert second.record["base"] == this.id(1) and set(owners(second, unique)) == {this.id(2)}
    client.alter_configs(unique, cleanup_policy=None)
    this.run(3)  # it was compacted in the base
    assert set(owners(this.exact(3, client), unique)) == {this.id(3)}
    this.run(4)
    assert set(owners(this.exact(4, client), unique)) == {this.id(3)}


def test_many_small_segments_at_the_end_are_read_again(client, line, unique):
    this = line()
    client.create_topic(unique)
    for number in range(1, 17):
        client.produce(unique, some(3, f"run{number}-"))
        this.run(number)
    assert len(owners(this.exact(16, client), unique)) == 16
    client.produce(unique, some(3, "last-"))
    this.run(17)
    assert owners(this.exact(17, client), unique) == [this.id(17)]
    client.produce(unique, some(3, "more-"))
    this.run(18)
    assert owners(this.exact(18, client), unique) == [this.id(17), this.id(18)]


def test_segments_closed_for_being_full_are_not_small(client, line, unique):
    this = line(segment_max_records=2)
    client.create_topic(unique)
    client.produce(unique, some(60, "a"))
    this.run(1)
    client.produce(unique, some(2, "b"))
    this.run(2)
    assert owners(this.exact(2, client), unique) == [this.id(1)] * 30 + [this.id(2)]


def test_retention_overtakes_the_reading_of_small_segments(client, line, unique):
    """What the log lost meanwhile comes from the base after all, also for an attempt that goes on."""
    this = line()
    client.create_topic(unique)
    for number in range(1, 17):
        client.produce(unique, some(5, f"run{number}-"))
        this.run(number)
    wanted = kbak.Backup(this.storage, this.id(16)).records(unique, 0)
    client.produce(unique, some(5, "last-"))
    # planned, then killed before anything was read
    assert this.start(17, failpoint="open.after:kill:1").wait().code == -9
    plan = kbak.Backup(this.storage, this.id(17)).journal()[0]["plan"]["topics"][0]["partitions"][0]
    assert plan["reuseUpTo"] == 0 and plan["from"] == 0 and plan["cut"] == 85
    client.delete_records(unique, {0: 60})
    this.run(17)
    backup = this.read(17)
    assert backup.records(unique, 0)[:80] == wanted and len(backup.records(unique, 0)) == 85
    assert reasons(backup) == [] and owners(backup, unique) == [this.id(n) for n in range(1, 18)]
    assert [p["reuseUpTo"] for e in backup.journal() for p in e.get("partitions", []) if "reuseUpTo" in p] == [80]


# ---- logs that do not go on where the base ended ----
def test_records_removed_before_they_were_backed_up_are_a_gap(client, line, unique):
    this = line()
    client.produce(client.create_topic(unique), some(20, "a"))
    this.run(1)
    client.produce(unique, some(20, "b"))
    client.delete_records(unique, {0: 30})
    result = this.run(2, code=3)
    second = this.exact(2, client)
    assert result.report["reason"] == "RetentionGap" and reasons(second) == ["RetentionGap"]
    assert second.gaps() == [(unique, 0, 20, 30)] and owners(second, unique) == [this.id(2)]
    assert result.report["gaps"] == 1 and result.report["gapOffsets"] == 10
    client.produce(unique, some(20, "c"))
    this.run(3)
    third = this.exact(3, client)
    assert third.gaps() == [] and owners(third, unique) == [this.id(2), this.id(3)]


def test_segments_below_the_log_start_drop_out(client, line, unique):
    this = line(segment_max_records=10)
    client.produce(client.create_topic(unique), some(40, "a"))
    this.run(1)
    all_records = kbak.Backup(this.storage, this.id(1)).records(unique, 0)
    client.produce(unique, some(10, "b"))
    client.delete_records(unique, {0: 25})
    this.run(2)
    second = this.read(2)
    assert [(s["start"], s.get("in")) for s in entry(second, unique)["segments"]] == \
        [(20, this.id(1)), (30, this.id(1)), (40, None)]
    assert second.records(unique, 0)[:20] == all_records[20:] and second.gaps() == []
    assert entry(second, unique)["from"] == 20


def test_recreated_topic_is_read_in_full(client, line, unique):
    this = line()
    client.produce(client.create_topic(unique), some(20, "a"))
    this.run(1)
    client.delete_topic(unique)
    time.sleep(1)
    client.create_topic(unique)
    client.produce(unique, some(30, "b"))
    result = this.run(2, code=3)
    second = this.exact(2, client)
    assert reasons(second) == ["Discontinuity"] and state(second, unique) == "recreated"
    assert owners(second, unique) == [this.id(2)] and result.report["discontinuities"] == 1
    client.produce(unique, some(1, "c"))
    this.run(3)
    third = this.exact(3, client)
    assert owners(third, unique) == [this.id(2), this.id(3)] and state(third, unique) == "ok"


def truncate(cluster, topic, keep):
    """Stops the broker and cuts the only log file of the topic's partition 0 down to `keep` bytes."""
    cluster.kill(1)
    folder = next(cluster.dir.rglob(f"{topic}-0"))
    log = folder / "00000000000000000000.log"
    data = log.read_bytes()
    log.write_bytes(data[:keep(data)])
    for path in folder.iterdir():
        if path.suffix in (".index", ".timeindex", ".snapshot") or path.name == "leader-epoch-checkpoint":
            path.unlink()
    for path in folder.parent.rglob(".kafka_cleanshutdown"):
        path.unlink()
    cluster.start(1)


def first_batch(data):
    return 12 + int.from_bytes(data[8:12], "big")


def test_truncated_and_diverged_logs(worker, storage):
    with Cluster() as cluster, RefClient(cluster.bootstrap) as client:
        this = Lineage(worker, cluster, storage, ["torn"])
        client.create_topic("torn")
        client.produce("torn", some(10, "a"))
        client.produce("torn", some(10, "b"))
        this.run(1)
        truncate(cluster, "torn", first_batch)
        with RefClient(cluster.bootstrap) as again:
            assert again.offsets("torn")["end"] == {0: 10}
            result = this.run(2, code=3)
            second = this.exact(2, again)
            assert reasons(second) == ["Discontinuity"] and owners(second, "torn") == [this.id(2)]
            assert "truncated" in second.record["findings"][0]["detail"] and result.seconds >= 30
            again.produce("torn", some(10, "c"))
            this.run(3)
            assert owners(this.exact(3, again), "torn") == [this.id(2), this.id(3)]
        truncate(cluster, "torn", first_batch)
        with RefClient(cluster.bootstrap) as again:
            again.produce("torn", some(15, "d"))
            this.run(4, code=3)
            fourth = this.exact(4, again)
            assert "diverged" in fourth.record["findings"][0]["detail"] and owners(fourth, "torn") == [this.id(4)]


def test_missing_object_of_the_base_is_read_again(client, line, unique):
    this = line(segment_max_records=10)
    client.produce(client.create_topic(unique, partitions=2), some(20, "a") + some(20, "b", 1))
    this.run(1)
    next((this.storage / this.id(1) / "topics" / unique / "partition=0").iterdir()).unlink()
    this.run(2)
    second = this.exact(2, client)
    assert set(owners(second, unique)) == {this.id(2)} and set(owners(second, unique, 1)) == {this.id(1)}


def test_damaged_backup_is_no_base(client, line, unique):
    this = line()
    client.produce(client.create_topic(unique), some(20, "a"))
    this.run(1)
    client.produce(unique, some(5, "b"))
    this.run(2)
    manifest = this.storage / this.id(2) / "manifest.json"
    manifest.write_text(manifest.read_text() + " ")
    this.run(3)
    assert this.exact(3, client).record["base"] == this.id(1)


def test_marked_backup_is_no_base(client, line, unique):
    this = line()
    client.produce(client.create_topic(unique), some(20, "a"))
    this.run(1)
    this.run(2)
    (this.storage / this.id(2) / "pruned.json").write_text("{}")
    this.run(3)
    assert this.exact(3, client).record["base"] == this.id(1)


def test_base_that_is_marked_after_the_plan_is_replaced(client, line, unique):
    this = line()
    client.produce(client.create_topic(unique), some(20, "a"))
    this.run(1)
    this.run(2)
    assert this.start(3, failpoint="open.after:kill:1").wait().code == -9
    (this.storage / this.id(2) / "pruned.json").write_text("{}")
    this.run(3)
    third = this.exact(3, client)
    assert third.record["base"] == this.id(1)
    assert [e["plan"]["base"] for e in third.journal() if "plan" in e] == [this.id(2), this.id(1)]


def test_start_at_the_latest_holds_for_the_first_backup_only(client, line, unique):
    this = line(start_offset="latest")
    client.produce(client.create_topic(unique), some(20, "a"))
    this.run(1)
    assert this.read(1).record["totals"]["records"] == 0
    client.produce(unique, some(5, "b"))
    this.run(2)
    assert [r.offset for r in this.read(2).records(unique, 0)] == list(range(20, 25))
    client.produce(unique, some(5, "c"))
    this.run(3)
    assert [r.offset for r in this.read(3).records(unique, 0)] == list(range(20, 30))


def test_new_topics_and_partitions_are_read_from_their_start(client, line, unique):
    this = line()
    this.topics = [f"{unique}*"]
    client.produce(client.create_topic(unique), some(20, "a"))
    this.run(1)
    client.create_partitions(unique, 2)
    client.produce(unique, some(5, "b", 1))
    client.produce(client.create_topic(f"{unique}.new"), some(7, "c"))
    this.run(2)
    second = this.read(2)
    fidelity.check_equal(this.storage, this.id(2), fidelity.source_digests(client, [unique, f"{unique}.new"]))
    assert reasons(second) == [] and owners(second, unique, 1) == [this.id(2)]


def test_offset_storage_makes_the_id_a_lineage(kafka, client, worker, storage, unique):
    client.produce(client.create_topic(unique), some(20, "a"))
    config = backup_config(kafka, storage, "old-style", [unique], offset_storage={"backend": "sqlite"})
    worker.run_ok("backup", config, env={"KB_STAMP": "20250101-000001"})
    worker.run_ok("backup", config, env={"KB_STAMP": "20250101-000002"})
    second = kbak.Backup(storage, "old-style-20250101-000002").verify()
    assert second.record["base"] == "old-style-20250101-000001" and second.record["lineage"] == "old-style"


# ---- other runs of the lineage ----
def test_lineage_of_another_cluster_or_owner_is_refused(client, worker, storage, line, unique):
    this = line()
    client.produce(client.create_topic(unique), some(20, "a"))
    this.run(1)
    with Cluster() as other, RefClient(other.bootstrap) as other_client:
        other_client.produce(other_client.create_topic(unique), some(20, "a"))
        result = Lineage(worker, other, storage, [unique]).run(2, "--adopt-lineage", code=78)
        assert result.report["reason"] == "ForeignBackup"
    this.run(3)


def test_sealed_backup_of_the_lineage_is_finished_first(client, line, unique):
    this = line()
    client.produce(client.create_topic(unique), some(20, "a"))
    this.run(1)
    client.produce(unique, some(20, "b"))
    assert this.start(2, failpoint="seal.after:kill:1").wait().code == -9
    this.run(3)
    second, third = this.exact(2, client), this.exact(3, client)
    assert third.record["base"] == this.id(2) and second.record["base"] == this.id(1)
    assert owners(second, unique) == [this.id(1), this.id(2)]


def test_live_backup_of_the_lineage_is_waited_for(client, line, unique):
    this = line(rate_limit_records_per_sec=200, checkpoint_interval_secs=1)
    client.produce(client.create_topic(unique), some(1500, "a"))
    first = this.start(1)
    first.wait_for(lambda: (first.report() or {}).get("state") == "Running", what="reading")
    second = this.start(2)
    second.wait_for(lambda: (second.report() or {}).get("state") == "WaitingForLock", what="waiting")
    assert first.wait().code == 0
    done = second.wait()
    assert done.code == 0, done.stderr
    assert this.exact(2, client).record["base"] == this.id(1)


def test_two_at_once_are_both_whole(client, line, unique):
    this = line()
    client.produce(client.create_topic(unique), some(500, "a"))
    this.run(1)
    client.produce(unique, some(500, "b"))
    for runs in ((2, 3), (4, 5, 6)):
        running = [this.start(number) for number in runs]
        for run in running:
            done = run.wait()
            assert done.code == 0, done.stderr
        for number in runs:
            this.exact(number, client)


def test_retried_job_finds_its_backup_of_the_lineage(client, line, unique):
    this = line()
    client.produce(client.create_topic(unique), some(20, "a"))
    this.run(1)
    client.produce(unique, some(20, "b"))
    env = {"KB_JOB_UID": "11111111-2222-3333-4444-555555555555", "KB_STAMP": None}
    assert this.start(2, failpoint="progress.after:kill:1", env=env).wait().code == -9
    done = this.start(2, env=env).wait()
    assert done.code == 0, done.stderr
    name = done.json()["backupId"]
    assert kbak.Backup(this.storage, name).verify().journal()[-1]["attempt"] == 2
    again = this.start(2, env=env).wait()
    assert again.code == 0 and again.json()["backupId"] == name
    assert len([p for p in this.storage.iterdir() if p.name.startswith(this.name)]) == 2


@pytest.mark.parametrize("point", ["open.after", "segment.before_complete", "segment.after_complete",
                                   "progress.before", "progress.after", "seal.after", "backupjson.after",
                                   "manifest.before", "manifest.after"])
def test_killed_increment_goes_on_and_is_exact(client, line, unique, point):
    this = line(segment_max_records=50, checkpoint_interval_secs=1)
    client.produce(client.create_topic(unique, partitions=2), some(200, "a") + some(200, "b", 1))
    this.run(1)
    client.produce(unique, some(200, "c") + some(200, "d", 1))
    assert this.start(2, failpoint=f"{point}:kill:1").wait().code == -9
    done = this.start(2).wait()
    assert done.code == (78 if point == "manifest.after" else 0), done.stderr
    second = this.exact(2, client)
    assert second.record["base"] == this.id(1) and second.leftovers() == []


def test_stopped_increment_goes_on(client, line, unique):
    this = line(rate_limit_records_per_sec=300, checkpoint_interval_secs=1)
    client.produce(client.create_topic(unique), some(100, "a"))
    this.run(1)
    client.produce(unique, some(1500, "b"))
    run = this.start(2)
    run.wait_for(lambda: (run.report() or {}).get("state") == "Running", what="reading")
    time.sleep(1)
    run.signal(signal.SIGTERM)
    assert run.wait().code == 143
    this.backup.clear()
    this.run(2)
    assert this.exact(2, client).record["base"] == this.id(1)


# ---- a series ----
def series(this):
    return sorted(p.name for p in this.storage.iterdir() if (p / "manifest.json").exists()) \
        if this.storage.exists() else []


def test_continuous_makes_complete_backups_until_it_is_stopped(client, line, unique):
    this = line(continuous=True, cycle_interval_secs=1)
    client.produce(client.create_topic(unique), some(20, "a"))
    run = this.start(1, env={"KB_STAMP": None, "KB_JOB_UID": "11111111-2222-3333-4444-555555555555"})
    run.wait_for(lambda: len(series(this)) == 1, what="the first backup")
    time.sleep(3)
    assert len(list(this.storage.iterdir())) == 1  # nothing new, nothing written
    client.produce(unique, some(5, "b"))
    run.wait_for(lambda: len(series(this)) == 2, what="the second backup")
    assert run.report()["base"] == series(this)[0] and run.report()["recordsProcessed"] == 25
    time.sleep(2)
    run.signal(signal.SIGTERM)
    assert run.wait().code == 143
    assert len(series(this)) == 2
    for number, name in enumerate(series(this)):
        backup = kbak.Backup(this.storage, name).verify()
        assert backup.record["totals"]["records"] == (20, 25)[number] and backup.record["depth"] == number


# ---- an object store ----
def test_increments_in_a_bucket_are_exact(kafka, client, worker, unique, tmp_path):
    server = stores.S3("s3")
    try:
        bucket = server.bucket(unique)
        this = Lineage(worker, kafka, tmp_path / "mirror", [unique], segment_max_records=50)
        config = {**this.config(), "storage": server.block(bucket, "deep/prefix")}
        client.produce(client.create_topic(unique, partitions=2), some(200, "a") + some(100, "b", 1))
        this.run(1, config=config)
        client.produce(unique, some(20, "c"))
        assert this.start(2, config=config, failpoint="progress.after:kill:1").wait().code == -9
        this.run(3, config=config)  # the holder is known to be dead, so nobody waits for it
        this.run(2, config=config)
        client.produce(unique, some(20, "d"))
        assert this.start(4, config=config, failpoint="seal.after:kill:1").wait().code == -9
        this.run(5, config=config)
        server.mirror(bucket, this.storage, "deep/prefix/")
        fourth, fifth = this.exact(4, client), this.exact(5, client)
        assert fifth.record["base"] == this.id(4) and fourth.record["totals"]["reusedSegments"] >= 7
        done = worker.run_ok("validate", None, "--path", server.location(bucket, "deep/prefix"), "-b", this.name,
                             "--deep", "-f", "json", env=server.env())
        assert done.json()["backupId"] == this.id(5)
    finally:
        server.close()
