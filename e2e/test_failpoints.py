"""Every failpoint x kill and error x first to third hit, each followed by runs without it, judged by the oracles.

A point that a process passes once is hit in that many attempts one after another instead.
"""
import concurrent.futures
import os
import threading

import pytest

import fidelity
import kbak
from worker import Worker, backup_config, restore_config

ACTIONS = ("kill", "error")
# Where a run passes three times and more.
BACKUP_MANY = ["progress.before", "progress.after", "journal.sent_no_reply", "fetch.reply", "segment.open",
               "segment.part_sent", "segment.before_complete", "segment.sent_no_reply", "segment.after_complete"]
# Where a run passes once; the flag says whether an attempt after a kill there comes by again.
BACKUP_ONCE = {"open.after": True, "seal.after": False, "backupjson.after": True, "manifest.before": True,
               "manifest.sent_no_reply": False, "manifest.after": False, "report.before_write": True}
# An error there is one lost reply, or the loss of a report: the run itself goes on and succeeds.
HARMLESS_ERRORS = {"journal.sent_no_reply", "segment.sent_no_reply", "manifest.sent_no_reply", "progress.before",
                   "progress.after", "report.before_write", "heartbeat.after"}
# The second and third come after two and three minutes; the release gate waits for them.
HEARTBEATS = (1, 2, 3) if os.environ.get("KB_RELEASE_GATE") else (1,)
AT_ONCE = 3  # cases side by side


@pytest.fixture(scope="module")
def source(client):
    """A topic of twelve small segments, and what is in it."""
    client.generate(client.create_topic("failpoints", partitions=3), 1200, size=300, batch_size=4096)
    return fidelity.source_digests(client, ["failpoints"])


def config_of(kafka, storage, backup_id, **backup):
    return backup_config(kafka, storage, backup_id, ["failpoints"], backup={
        "checkpoint_interval_secs": 1, "segment_max_records": 100, "fetch_max_bytes": 4096, **backup})


class BackupCase:
    """One backup id: attempts with a failpoint, then attempts without it, until all is well."""

    def __init__(self, kafka, directory, source, point, action, nth):
        self.name = f"{point}-{action}-{nth}"
        directory = directory / self.name
        directory.mkdir()
        self.kafka, self.source, self.point, self.action, self.nth = kafka, source, point, action, nth
        self.worker, self.storage = Worker(directory), directory / "storage"
        # A retried Job finds its own backup and ends well; a run by hand is told that it exists.
        self.env = {"KB_JOB_UID": "11111111-2222-3333-4444-555555555555"} if nth % 2 else {}

    def attempt(self, failpoint=None, **backup):
        return self.worker.run("backup", config_of(self.kafka, self.storage, self.name, **backup), env=self.env,
                               failpoint=failpoint, timeout=60)

    def is_complete(self):
        return (self.storage / self.name / "manifest.json").exists()

    def check_failed(self, result):
        fired = f"failpoint={self.point}" in result.stderr
        if fired and self.action == "kill":
            assert result.code == -9, result.stderr
        elif fired:
            allowed = {0} if self.point in HARMLESS_ERRORS else {75}
            if self.is_complete() and not self.env:
                allowed.add(78)
            assert result.code in allowed, result.stderr
            if self.point != "report.before_write":
                assert result.report["exitCode"] == result.code, result.report
        assert result.code != 0 or self.is_complete(), "success without a manifest"
        return fired

    def check_end(self):
        """Runs on without the failpoint and applies the oracles."""
        durable = self.segments()
        was_complete = self.is_complete()
        result = self.attempt()
        wanted = 78 if was_complete and not self.env else 0
        assert result.code == wanted, f"code {result.code}\n{result.stderr}"
        if wanted == 78:
            assert result.report["reason"] == "BackupExists", result.report
        backup = fidelity.check_equal(self.storage, self.name, self.source)  # O1, O2
        assert backup.leftovers() == []  # O5
        now = self.segments()
        assert all(now.get(path) == what for path, what in durable.items())  # O7: nothing durable made anew
        self.worker.run_ok("validate", None, "--path", self.storage, "-b", self.name, "--deep")  # O3
        before = fidelity.tree(self.storage)
        again = self.attempt()
        assert again.code == (0 if self.env else 78), again.stderr
        assert fidelity.tree(self.storage) == before

    def segments(self):
        return {path: what for path, what in fidelity.tree(self.storage).items()
                if "/topics/" in path and "/." not in path}

    def reproduction(self):
        return (f"KB_FAILPOINT={self.point}:{self.action}:{self.nth} (test_failpoints.py, case {self.name}, "
                f"logs in {self.worker.dir})")


def run_cases(cases, steps, at_once=AT_ONCE):
    """steps(case) for all, some side by side; fails with one line for each case that failed."""
    failures = []
    with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
        for case, future in [(case, pool.submit(steps, case)) for case in cases]:
            try:
                future.result()
            except Exception as e:  # all cases shall be seen
                failures.append(f"{case.reproduction()}: {type(e).__name__}: {e}")
    assert not failures, "\n".join(failures)


def cases_of(kafka, tmp_path, source, point):
    return [BackupCase(kafka, tmp_path, source, point, action, nth) for action in ACTIONS for nth in (1, 2, 3)]


@pytest.fixture(scope="module", autouse=True)
def heartbeats(kafka, source, tmp_path_factory):
    """A heartbeat is an entry after 60 s without news: these runs wait for it while other tests go on."""
    runs = []
    for case in (BackupCase(kafka, tmp_path_factory.mktemp("heartbeat"), source, "heartbeat.after", action, nth)
                 for action in ACTIONS for nth in HEARTBEATS):
        config = config_of(kafka, case.storage, case.name, rate_limit_records_per_sec=1, segment_max_records=10_000)
        runs.append((case, case.worker.start("backup", config, env=case.env,
                                             failpoint=f"{case.point}:{case.action}:{case.nth}")))
    yield runs
    for _, run in runs:
        if run.is_running():
            run.kill()


@pytest.mark.parametrize("point", BACKUP_MANY)
def test_backup_point_passed_often(kafka, source, tmp_path, point):
    slow = {"rate_limit_records_per_sec": 250} if point.startswith("progress.") else {}

    def steps(case):
        result = case.attempt(f"{point}:{case.action}:{case.nth}", **slow)
        assert case.check_failed(result), f"never reached\n{result.stderr}"
        case.check_end()
    run_cases(cases_of(kafka, tmp_path, source, point), steps)


@pytest.mark.parametrize("point", BACKUP_ONCE)
def test_backup_point_passed_once(kafka, source, tmp_path, point):
    def steps(case):
        for attempt in range(case.nth):
            result = case.attempt(f"{point}:{case.action}")
            fired = case.check_failed(result)
            assert fired or (attempt and not BACKUP_ONCE[point]) or result.code in (0, 78), "never reached"
            assert fired or attempt, "never reached"
        case.check_end()
    run_cases(cases_of(kafka, tmp_path, source, point), steps)


@pytest.mark.parametrize("command", ["validate", "describe"])
@pytest.mark.parametrize("action", ACTIONS)
def test_read_of_the_index(kafka, source, tmp_path, command, action):
    case = BackupCase(kafka, tmp_path, source, "manifest.read", action, 1)
    assert case.attempt().code == 0
    before = fidelity.tree(case.storage)
    location = ("--path", case.storage, "-b", case.name)
    result = case.worker.run(command, None, *location, failpoint=f"manifest.read:{action}")
    assert "failpoint=manifest.read" in result.stderr and result.code == (-9 if action == "kill" else 75)
    case.worker.run_ok(command, None, *location)
    assert fidelity.tree(case.storage) == before


def test_flipped_bit_before_the_upload_is_found(kafka, source, tmp_path):
    """Data that goes bad in memory is compressed again, never published."""
    case = BackupCase(kafka, tmp_path, source, "segment.flip", "short", 2)
    result = case.attempt("segment.flip:short:2")
    assert "failpoint=segment.flip" in result.stderr, "never reached"
    if result.code:
        assert result.code == 75, result.stderr
    case.check_end()


@pytest.mark.slow
def test_heartbeat(heartbeats):
    for case, run in heartbeats:
        if case.action == "error":  # the entry is sent again and the run goes on, for twenty minutes
            run.wait_for(lambda: "failpoint=heartbeat.after" in run.log(), 220, "the heartbeat")
            run.wait_for(lambda: any(e["kind"] == "progress" for e in kbak.Backup(case.storage, case.name).journal()),
                         10, "the entry")
            assert run.is_running()
            run.kill()
        else:
            assert run.wait(220).code == -9
            assert "failpoint=heartbeat.after" in run.log(), "never reached"
        case.check_end()


# ---- restore ----

RESTORE_POINTS = ["start.after", "produce.sent_no_reply", "produce.acked_before_progress", "manifest.read"]


@pytest.fixture(scope="module")
def stored(kafka, client, source, tmp_path_factory):
    """A backup to restore from, and what must come out of it."""
    directory = tmp_path_factory.mktemp("stored")
    Worker(directory).run_ok("backup", config_of(kafka, directory / "storage", "all"))
    return directory / "storage", fidelity.chains(client, "failpoints")


class RestoreCase:
    def __init__(self, kafka, directory, stored, delivery, point, action, nth):
        self.name = f"{delivery}-{point}-{action}-{nth}"
        directory = directory / self.name
        directory.mkdir()
        self.storage, self.wanted = stored
        self.point, self.action, self.nth = point, action, nth
        self.worker, self.topic = Worker(directory), f"restored-{self.name}"
        self.config = restore_config(kafka, self.storage, "all", ["failpoints"], restore={
            "restore_id": self.name, "delivery": delivery, "topic_mapping": {"failpoints": self.topic},
            "produce_batch_size": 100})

    def attempt(self, failpoint=None):
        return self.worker.run("restore", self.config, failpoint=failpoint, timeout=120)

    def check_failed(self, result):
        fired = f"failpoint={self.point}" in result.stderr
        if fired and self.action == "kill":
            assert result.code == -9, result.stderr
        elif fired:
            # A transaction that failed is aborted and begun again by the same run.
            again = self.config["restore"]["delivery"] == "transactional" and self.point.startswith("produce.")
            assert result.code == (0 if again else 75), result.stderr
            assert result.report["exitCode"] == result.code, result.report
        return fired

    def check_end(self, look):
        """Runs on without the failpoint until all is in, and once more, which writes nothing."""
        result = self.attempt()
        assert result.code == 0, f"code {result.code}\n{result.stderr}"
        assert result.report["recordsProcessed"] == sum(count for count, _ in self.wanted.values())
        with look:
            client = look.client
            assert fidelity.chains(client, self.topic) == self.wanted  # O1, O2
            configs = client.describe(self.topic)["configs"]
            assert configs.get("retention.ms") != "-1" and "retention.bytes" not in configs, configs
            ends = client.offsets(self.topic)
        again = self.attempt()
        assert again.code == 0, again.stderr  # O7
        with look:
            assert look.client.offsets(self.topic) == ends

    reproduction = BackupCase.reproduction


class Look:
    """The reference client, for one thread at a time."""

    def __init__(self, client):
        self.client, self._lock = client, threading.Lock()

    def __enter__(self):
        self._lock.acquire()

    def __exit__(self, *_):
        self._lock.release()


@pytest.mark.parametrize("point", RESTORE_POINTS)
@pytest.mark.parametrize("delivery", ["idempotent", "transactional"])
def test_restore_point(kafka, client, stored, tmp_path, delivery, point):
    look = Look(client)

    def steps(case):
        if point == "start.after":  # once in an attempt
            for attempt in range(case.nth):
                assert case.check_failed(case.attempt(f"{point}:{case.action}")), f"never reached in {attempt}"
        else:
            nth = min(case.nth, 2) if point == "manifest.read" else case.nth  # reached twice
            result = case.attempt(f"{point}:{case.action}:{nth}")
            assert case.check_failed(result), f"never reached\n{result.stderr}"
        case.check_end(look)
    cases = [RestoreCase(kafka, tmp_path, stored, delivery, point, action, nth)
             for action in ACTIONS for nth in (1, 2, 3)]
    run_cases(cases, steps, len(cases))  # most of their time they wait for stragglers
