"""A lineage under test: what was produced, what each backup must therefore hold, and what may lie in its store.

The model knows every record that was ever produced, by topic id, partition and offset. A complete backup holds exactly
those of its ranges that its gaps do not name; of a compacted topic at least what could still be read. Time passes by
ageing the files: the worker computes all ages of a store by the store's own clock.
"""
import base64
import datetime
import os
import time

import kbak
from records import record
from worker import Worker, backup_config

GRACE_S = 120  # the least on a file system
DAY_S = 86_400
JOB = {"KB_JOB_UID": "00000000-0000-4000-8000-000000000001", "KB_JOB_NAME": "lineage-test"}


class Topic:
    """One topic through all its lives."""

    def __init__(self, client, name, partitions, compacted=False):
        self.client, self.name, self.partitions, self.compacted = client, name, partitions, compacted
        self.produced = {}  # {topic id: {partition: {offset: record}}}
        self.sequence = 0
        self.create()

    def create(self):
        configs = {"cleanup_policy": "compact", "segment_ms": 100, "min_cleanable_dirty_ratio": 0.01,
                   "min_compaction_lag_ms": 0, "max_compaction_lag_ms": 100,
                   "delete_retention_ms": 3_600_000} if self.compacted else {}
        self.client.create_topic(self.name, partitions=self.partitions, **configs)
        self.id = self.client.describe(self.name)["topic_id"]
        self.produced[self.id] = {p: {} for p in range(self.partitions)}

    def recreate(self):
        self.client.delete_topic(self.name)
        deadline = time.monotonic() + 30
        while self.name in self.client.topics():
            assert time.monotonic() < deadline, f"{self.name} is not deleted"
            time.sleep(0.05)
        self.create()

    def produce(self, count, keys=1000):
        wanted = []
        for _ in range(count):
            self.sequence += 1
            value = None if self.compacted and self.sequence % 11 == 0 else f"value-{self.sequence}" * 5
            wanted.append(record(f"key-{self.sequence % keys}", value, [("n", str(self.sequence))],
                                 timestamp=1_700_000_000_000 + self.sequence,
                                 partition=self.sequence * 7 % self.partitions))
        for r, offset in zip(wanted, self.client.produce(self.name, wanted)):
            self.produced[self.id][r.partition][offset] = r._replace(offset=offset)

    def live(self):
        """{partition: {offset: record}} as a reader sees it now."""
        return {p: {r.offset: r for r in found} for p, found in self.client.dump(self.name).items()}


class Lineage:
    """Backups of some topics under one name, in a directory of their own."""

    def __init__(self, kafka, directory, name, topics):
        self.kafka, self.name, self.topics = kafka, name, {t.name: t for t in topics}
        self.dir, self.storage = directory, directory / "storage"
        self.storage.mkdir(parents=True)
        self.worker = Worker(directory)
        self.now = datetime.datetime(2025, 1, 1)  # of the next backup's slot
        self.sums = {}  # backup id -> digests at first sight
        self.seen = {}  # key -> (inode, size) of what a complete backup consists of

    # ---- runs ----
    def config(self, **more):
        config = backup_config(self.kafka, self.storage, None, sorted(self.topics),
                               backup={"checkpoint_interval_secs": 1, "segment_max_records": 60}, lineage=self.name)
        del config["backup_id"]
        for key, value in more.items():
            config[key] = {**config.get(key, {}), **value} if isinstance(value, dict) else value
        return config

    def next_stamp(self):
        self.now += datetime.timedelta(hours=1)
        return self.now.strftime("%Y%m%d-%H%M%S")

    def start_backup(self, *args, stamp=None, failpoint=None, **more):
        env = {**JOB, "KB_STAMP": stamp or self.next_stamp()}
        return self.worker.start("backup", self.config(**more), *args, env=env, failpoint=failpoint)

    def backup(self, *args, **options):
        return self.start_backup(*args, **options).wait(120)

    def start_prune(self, *args, failpoint=None, metrics=None, **retention):
        config = {"lineage": self.name, "storage": {"backend": "filesystem", "path": str(self.storage)},
                  "retention": {"grace_secs": GRACE_S, **retention}, "metrics": metrics or {"enabled": False}}
        return self.worker.start("prune", config, "-f", "json", *args, failpoint=failpoint)

    def prune(self, *args, **options):
        return self.start_prune(*args, **options).wait(60)

    def validate(self, backup_id, *args):
        return self.worker.run("validate", None, "--path", self.storage, "-b", backup_id, *args)

    # ---- files ----
    def files(self, below=""):
        """{key: age in seconds} of everything, hidden files too."""
        now = time.time()
        return {path.relative_to(self.storage).as_posix(): now - path.lstat().st_mtime
                for path in sorted((self.storage / below).rglob("*")) if path.is_file()}

    def pass_time(self, seconds):
        """Makes all files older by that."""
        for key in self.files():
            path = self.storage / key
            stat = path.stat()
            os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns - int(seconds * 1e9)))

    def ids(self):
        return sorted(path.name for path in self.storage.iterdir() if not path.name.startswith("."))

    def _has(self, backup_id, name):
        return (self.storage / backup_id / name).exists()

    def complete(self, marked=False):
        """Ids of complete backups without (or also with) a mark, oldest first."""
        return [i for i in self.ids() if self._has(i, "manifest.json") and self._has(i, "backup.json") and
                (marked or not self._has(i, "pruned.json"))]

    def marked(self):
        return [i for i in self.ids() if self._has(i, "pruned.json")]

    def unfinished(self):
        """{id: base of the last plan} of open and sealed backups."""
        found = {}
        for i in self.ids():
            if self._has(i, "manifest.json") or self._has(i, "pruned.json"):
                continue
            entries = kbak.Backup(self.storage, i).journal()
            if entries and entries[-1]["kind"] != "close":
                found[i] = [e["plan"]["base"] for e in entries if "plan" in e][-1]
        return found

    # ---- oracles ----
    def check(self, deep=True):
        """Every complete backup is whole and holds what the model says, today as at first sight.

        Not deep: of backups that were read before only that their files are still the same ones.
        """
        for backup_id in self.complete():
            backup = kbak.Backup(self.storage, backup_id)
            self._check_files(backup)
            if not deep and backup_id in self.sums:
                continue
            sums = backup.verify(old_journal=True).digests()
            if backup_id not in self.sums:
                self.check_contents(backup)
                self.sums[backup_id] = sums
            assert sums == self.sums[backup_id], f"{backup_id} changed"

    def _check_files(self, backup):
        keys = [f"{backup.id}/manifest.json", f"{backup.id}/backup.json"]
        keys += [s["key"] for p in backup.partitions().values() for s in p["segments"]]
        for key in keys:
            path = self.storage / key
            assert path.exists(), f"{key} is gone, and {backup.id} lists it"
            stat = path.stat()
            known = self.seen.setdefault(key, (stat.st_ino, stat.st_size))
            assert known == (stat.st_ino, stat.st_size), f"{key} is another file than before"

    def check_contents(self, backup):
        for t in backup.record["topics"]:
            topic = self.topics[t["name"]]
            for p in t["partitions"]:
                self._check_partition(backup, topic, self._produced(topic, t), t["name"], p)

    @staticmethod
    def _produced(topic, entry):
        for topic_id, partitions in topic.produced.items():
            if same_id(topic_id, entry["topicId"]):
                return partitions
        raise AssertionError(f"{entry['name']}: topic id {entry['topicId']} was never there")

    @staticmethod
    def _check_partition(backup, topic, produced, name, p):
        where = f"{backup.id} {name}/{p['partition']}"
        wanted = produced[p["partition"]]
        found = {r.offset: r for r in backup.records(name, p["partition"])}
        wrong = [o for o, r in found.items() if wanted.get(o) != r]
        assert not wrong, f"{where}: never produced at {wrong[:5]}"
        gaps = [(g["start"], g["end"]) for g in p["gaps"]]
        due = {o for o in wanted if p["from"] <= o < p["to"] and not any(a <= o < b for a, b in gaps)}
        if topic.compacted:
            assert set(found) <= due, f"{where}: beyond its range"
        else:
            assert set(found) == due, f"{where}: differs at {sorted(set(found) ^ due)[:10]}"
        assert p["from"] <= p["logStart"] or p["from"] >= p["cut"] or not wanted, f"{where}: begins late"

    def check_fresh(self, backup_id):
        """A backup that was just made, undisturbed: nothing that can be read now is missing in it."""
        backup = kbak.Backup(self.storage, backup_id)
        for topic in self.topics.values():
            for p, live in topic.live().items():
                found = {r.offset: r for r in backup.records(topic.name, p)}
                missing = [o for o, r in live.items() if found.get(o) != r]
                assert not missing, f"{backup_id} {topic.name}/{p}: lacks {missing[:10]}"

    def listed(self, ids):
        keys = set()
        for backup_id in ids:
            for p in kbak.Backup(self.storage, backup_id).partitions().values():
                keys |= {s["key"] for s in p["segments"]}
        return keys

    def check_tidy(self, before):
        """After a prune that ended well; `before` = files() just before it. Nothing is left that should be gone."""
        files = self.files()
        bases = set(self.unfinished().values())
        readable = self.complete(marked=True)
        fresh = [i for i in self.marked() if before.get(f"{i}/pruned.json", 0) < GRACE_S]
        roots = self.listed([i for i in readable if i in self.complete() or i in fresh or i in bases])
        for key, age in files.items():
            backup_id, _, name = key.partition("/")
            is_old_mark = backup_id in self.marked() and backup_id not in fresh and backup_id not in bases
            if is_old_mark and self.complete():
                assert key in roots or not name.startswith("topics/"), f"{key} is left of a pruned backup"
                assert name not in ("manifest.json", "backup.json"), f"{key} is left of a pruned backup"
            if backup_id in self.complete() and before.get(key, 0) > 7 * DAY_S + 5:
                is_orphan = name.startswith("topics/") and key not in roots
                assert not is_orphan, f"{key} is an orphan of {age / DAY_S:.1f} days"


def same_id(reference, stored):
    """Topic ids in any of the base64 forms."""
    def plain(text):
        text = text.replace("-", "+").replace("_", "/").rstrip("=")
        return base64.b64decode(text + "=" * (-len(text) % 4))
    return plain(reference) == plain(stored)


def restored(client, source, target, partitions):
    """Asserts that a restored topic holds the records of {partition: [record]}, offsets aside."""
    found = client.dump(target)
    for p in range(partitions):
        wanted = [r._replace(offset=-1) for r in source.get(p, [])]
        got = [r._replace(offset=-1) for r in found.get(p, [])]
        assert got == wanted, f"{target}/{p}: {len(got)} records restored, {len(wanted)} wanted"
