"""Random life of a lineage: after each step every complete backup holds what was there at its cut.

KB_PROPERTY_STEPS (default 150; the release gate takes 2000) and KB_PROPERTY_SEED choose the run; a failure prints the
line that repeats it. Time passes by ageing the files of the store.
"""
import os
import random
import time

import pytest

import kbak
from kafka import Cluster
from lineage_model import DAY_S, GRACE_S, Lineage, Topic, restored
from refclient import RefClient
from worker import restore_config

STEPS = int(os.environ.get("KB_PROPERTY_STEPS") or (2000 if os.environ.get("KB_RELEASE_GATE") else 150))
SEED = int(os.environ.get("KB_PROPERTY_SEED") or random.SystemRandom().randrange(10**6))

BACKUP_POINTS = ["open.after", "progress.before", "progress.after", "segment.open", "segment.before_complete",
                 "segment.after_complete", "seal.after", "backupjson.after", "manifest.before", "manifest.after",
                 "journal.sent_no_reply", "segment.sent_no_reply", "manifest.sent_no_reply", "manifest.read"]
PRUNE_POINTS = ["prune.marked", "prune.manifest_deleted", "prune.segment_deleted"]


class Life:
    """The steps; each takes the oracles' word for nothing."""

    def __init__(self, kafka, client, directory, seed):
        self.random = random.Random(seed)
        self.kafka, self.client = kafka, client
        self.plain = Topic(client, "plain", 2)
        self.reborn = Topic(client, "reborn", 1)
        self.compacted = Topic(client, "compacted", 1, compacted=True)
        self.lineage = Lineage(kafka, directory, "life", [self.plain, self.reborn, self.compacted])
        self.open_stamp = None  # of a backup that was killed and may be taken up again
        self.restores = 0
        self.log = []

    def step(self):
        weights = {"produce": 30, "delete_records": 5, "compact": 4, "recreate": 2, "backup": 20, "killed_backup": 9,
                   "prune": 12, "killed_prune": 6, "pass_time": 10, "restore": 2}
        name = self.random.choices(list(weights), list(weights.values()))[0]
        self.log.append(name)
        began = time.monotonic()
        getattr(self, name)()
        self.lineage.check(deep=len(self.log) % 10 == 0)
        self.log[-1] += f" ({time.monotonic() - began:.1f} s)"

    # ---- the topics ----
    def produce(self):
        topic = self.random.choice([self.plain, self.plain, self.reborn, self.compacted])
        topic.produce(self.random.choice([1, 5, 40, 150]), keys=8 if topic.compacted else 1000)

    def delete_records(self):
        topic = self.random.choice([self.plain, self.reborn])
        offsets = self.client.offsets(topic.name)
        before = {p: self.random.randint(offsets["start"][p], offsets["end"][p]) for p in offsets["end"]}
        self.client.delete_records(topic.name, before)

    def compact(self):
        for _ in range(3):
            self.compacted.produce(20, keys=4)
            time.sleep(0.12)
        time.sleep(0.5)

    def recreate(self):
        self.reborn.recreate()
        if self.random.random() < 0.7:
            self.reborn.produce(self.random.choice([1, 60]))

    # ---- backups ----
    def backup(self):
        stamp = self.open_stamp if self.open_stamp and self.random.random() < 0.6 else None
        is_new = stamp is None
        args = ["--full"] if self.random.random() < 0.05 else []
        retention = {"retention": {"backups": 3, "grace_secs": GRACE_S}} if self.random.random() < 0.3 else {}
        result = self.lineage.backup(*args, stamp=stamp, **retention)
        newest = self.lineage.complete()[-1:] if is_new else []
        if result.code == 78 and not is_new:
            assert "given up by prune" in result.stderr, result.stderr
        else:
            assert result.code in (0, 3), f"code {result.code}\n{result.stderr}"
            assert "pruneError" not in result.report, result.report
            assert not is_new or result.report["backupId"] in newest, result.report
        self.open_stamp = None
        if is_new:
            self.lineage.check_fresh(result.report["backupId"])

    def killed_backup(self):
        point = self.random.choice(BACKUP_POINTS)
        action = self.random.choice(["kill", "kill", "error"])
        spec = f"{point}:{action}:{self.random.choice([1, 1, 2, 3])}"
        stamp = self.open_stamp if self.open_stamp and self.random.random() < 0.5 else self.lineage.next_stamp()
        result = self.lineage.backup(stamp=stamp, failpoint=spec)
        self.log[-1] += f" {spec} {stamp} -> {result.code}"
        assert result.code in (-9, 0, 3, 75, 78), f"code {result.code}\n{result.stderr}"
        self.open_stamp = stamp if result.code in (-9, 75) else None

    # ---- prune ----
    def _rules(self):
        return self.random.choice([{"backups": 1}, {"backups": 2}, {"backups": 4}, {"max_age_days": 1},
                                   {"backups": 3, "max_age_days": 9}, {}])

    def prune(self):
        rules = self._rules()
        before, good = self.lineage.files(), self.lineage.complete()
        dry = self.lineage.prune("--dry-run", **rules)
        assert dry.code == 0, dry.stderr
        assert self.lineage.files().keys() == before.keys(), "a dry run changed the store"
        result = self.lineage.prune(**rules)
        assert result.code == 0, result.stderr
        planned, done = dry.json(), result.json()
        assert {**planned, "dryRun": False} == done
        assert before.keys() - self.lineage.files().keys() == set(done["objects"])
        assert not good or self.lineage.complete(), "the last good backup is gone"
        assert not good or good[-1] in self.lineage.complete(), "the newest good backup is gone"
        self.lineage.check_tidy(before)

    def killed_prune(self):
        action = self.random.choice(["kill", "error"])
        spec = f"{self.random.choice(PRUNE_POINTS)}:{action}:{self.random.choice([1, 2, 3])}"
        good = self.lineage.complete()
        result = self.lineage.prune(failpoint=spec, **self._rules())
        self.log[-1] += f" {spec} -> {result.code}"
        assert result.code in (-9, 0, 75), result.stderr
        assert not good or good[-1] in self.lineage.complete(), "the newest good backup is gone"

    def pass_time(self):
        self.lineage.pass_time(self.random.choice([GRACE_S + 5, GRACE_S + 5, DAY_S, 8 * DAY_S]))

    # ---- restore ----
    def restore(self):
        ids = self.lineage.complete()
        if not ids:
            return
        backup_id = self.random.choice(ids)
        backup = kbak.Backup(self.lineage.storage, backup_id)
        self.restores += 1
        names = {t: f"r{self.restores}.{t}" for t in self.lineage.topics}
        config = restore_config(self.kafka, self.lineage.storage, backup_id, restore={
            "topic_mapping": names, "allow_source_cluster": True, "allow_gaps": True, "stability_window_secs": 0,
            "allow_empty_result": True})
        result = self.lineage.worker.run("restore", config)
        assert result.code in (0, 3), result.stderr
        for name, target in names.items():
            if target not in self.client.topics():
                continue
            partitions = self.lineage.topics[name].partitions
            restored(self.client, {p: backup.records(name, p) for p in range(partitions)}, target, partitions)
            self.client.delete_topic(target)


@pytest.fixture(scope="module")
def fast_kafka():
    """A broker whose cleaner does not rest."""
    with Cluster(config={"log.cleaner.backoff.ms": 100, "delete.topic.enable": "true"}) as cluster:
        with RefClient(cluster.bootstrap) as client:
            yield cluster, client


@pytest.mark.timeout(300 + 20 * STEPS)
def test_random_lives_keep_every_backup_exact(fast_kafka, tmp_path):
    kafka, client = fast_kafka
    print(f"seed {SEED}, {STEPS} steps")
    life = Life(kafka, client, tmp_path, SEED)
    for number in range(STEPS):
        try:
            life.step()
        except BaseException:
            print(f"step {number}: {life.log[-12:]}\n"
                  f"again: KB_PROPERTY_SEED={SEED} KB_PROPERTY_STEPS={STEPS} (test_lineage_property.py)\n"
                  f"files in {tmp_path}")
            raise
    assert life.lineage.complete(), "no backup in the end"
    life.lineage.check()
