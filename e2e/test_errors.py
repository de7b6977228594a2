"""Errors name the thing and the remedy in one line, and end with the right code."""
import contextlib
import os
import re
import signal
import socket
import subprocess

import pytest
import yaml

import fidelity
import kbak
from kafka import Cluster
from records import record
from refclient import RefClient
from worker import Worker, backup_config, kafka_block, restore_config

SOON = {"no_progress_secs": 3}
NOBODY = 65534


@pytest.fixture
def storage(tmp_path):
    return tmp_path / "storage"


@pytest.fixture(scope="module")
def topic(client):
    client.generate(client.create_topic("errors", partitions=2), 2400, size=300)
    return "errors"


@pytest.fixture(scope="module")
def noise(client):
    """A topic that does not compress: 5 MB."""
    client.generate(client.create_topic("noise", partitions=2), 5000, size=1000, kind="random")
    return "noise"


@contextlib.contextmanager
def tmpfs(path, options):
    path.mkdir(exist_ok=True)
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", path], check=False,
                                           stderr=subprocess.DEVNULL).returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", path], check=True)


def error_of(result, code, reason, *words):
    """The one line of the error: with code and reason, all words, and a hint."""
    assert result.code == code, result.stderr
    lines = [line for line in result.stderr.splitlines() if reason in line and ("level=error" in line or ": " in line)]
    assert lines, result.stderr
    line = lines[0]
    for word in words:
        assert word in line, f"{word!r} is not in: {line}"
    assert "hint:" in line, f"no remedy in: {line}"
    assert result.report and (result.report["exitCode"], result.report["reason"]) == (code, reason), result.report
    assert result.report["state"] == "Failed" and result.report["message"]
    return line


class Nowhere:
    """A cluster that is not there."""

    def __init__(self, bootstrap):
        self.bootstrap = self.secure = bootstrap


# ---- Kafka ----

@pytest.mark.parametrize("command", ["backup", "restore"])
def test_wrong_broker(kafka, client, topic, worker, storage, command):
    if command == "restore":
        worker.run_ok("backup", backup_config(kafka, storage, "b", [topic]))
    for address, words in (("127.0.0.1:1", ["refused"]), ("no-such-host.invalid:9092", ["no-such-host.invalid"])):
        make = backup_config if command == "backup" else restore_config
        result = worker.run(command, make(Nowhere(address), storage, "b", [topic], limits=SOON))
        error_of(result, 75, "KafkaUnreachable", "Failed to connect to Kafka broker", address, *words)
        assert result.seconds < 15


def test_broker_that_accepts_and_never_answers(worker, storage):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen(8)
        address = f"127.0.0.1:{s.getsockname()[1]}"
        result = worker.run("backup", backup_config(Nowhere(address), storage, "b", ["t"], limits=SOON))
    assert result.code == 75 and result.seconds < 20, result.stderr
    assert address in result.report["message"]


def test_tls_to_a_plaintext_listener_says_so(kafka, worker, storage):
    config = backup_config(kafka, storage, "b", ["t"], limits=SOON,
                           source=kafka_block(kafka, security_protocol="SSL"))
    error_of(worker.run("backup", config), 75, "KafkaUnreachable", kafka.bootstrap, "PLAINTEXT")


def test_missing_topic(kafka, topic, worker, storage):
    result = worker.run("backup", backup_config(kafka, storage, "b", [topic, "missing"]))
    error_of(result, 78, "TopicNotFound", "Topic 'missing' not found", "on_missing_topic")
    assert not list(storage.rglob("*.json"))
    result = worker.run("backup", backup_config(kafka, storage, "b", ["no-such-*"]))
    error_of(result, 78, "ConfigInvalid", "source.topics.include")


# ---- configuration ----

def test_unknown_keys_with_line_and_column(worker, tmp_path):
    """All of them, not only the first."""
    text = ("mode: backup\nbackup_id: b\nsource:\n  bootstrap_servers: [x:1]\n  topcis: {include: [t]}\n"
            "storage:\n  backend: filesystem\n  path: /nowhere\nbackup:\n    compresion: zstd\n")
    result = worker.run("backup", text=text)
    line = error_of(result, 78, "ConfigInvalid", ":5:3: source.topcis: unknown key", "did you mean 'topics'?")
    assert ".yaml:" in line
    assert ":10:5: backup.compresion: unknown key" in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize("change,words", [
    ({"retention": {"backups": 3}}, ["retention"]),
    ({"backup": {"incremental": True}}, ["incremental", "lineage: NAME"]),
    ({"backup_id": "b-{stamp}", "offset_storage": {"backend": "sqlite"}}, ["backup_id", "{stamp}"]),
    ({"storage": {"backend": "memory"}}, ["memory"]),
])
def test_setting_that_is_not_there_is_refused_by_name(kafka, topic, worker, storage, change, words):
    config = {**backup_config(kafka, storage, "b", [topic]), **change}
    if config["backup_id"] is None:
        del config["backup_id"]
    result = worker.run("backup", config)
    assert result.code == 78, result.stderr
    assert all(w in result.stderr for w in words), result.stderr
    assert not storage.exists()


def test_sasl_without_a_mechanism_is_refused(kafka, worker, storage):
    """Regression case: never 'no authentication'."""
    config = backup_config(kafka, storage, "b", ["t"], source=kafka_block(kafka, security_protocol="SASL_SSL"))
    result = worker.run("backup", config)
    assert result.code == 78 and "source.security.sasl_mechanism: is required" in result.stderr


def test_wrong_command_lines(worker):
    for arguments in (["frobnicate"], ["backup", "--nope"], ["list", "-f", "xml"], ["validate", "--sample", "9/3"]):
        result = worker.run(arguments[0], None, *arguments[1:])
        assert result.code == 64 and "UsageError" in result.stderr, result.stderr
        assert re.search(r"hint|expected|needs", result.stderr), result.stderr
        assert result.stdout == ""


# ---- storage ----

def test_full_disk_then_resume(kafka, client, noise, worker, tmp_path):
    """78 names path and errno; nothing torn is visible; after space was made the same backup goes on."""
    with tmpfs(tmp_path / "full", "size=4m") as full:
        config = backup_config(kafka, full / "s", "b", [noise], backup={"segment_max_records": 300})
        result = worker.run("backup", config)
        error_of(result, 78, "StorageFull", str(full), "No space left on device")
        assert not (full / "s/b/manifest.json").exists()
        for path in (full / "s/b/topics").rglob("segment*"):
            kbak.read_segment(path.read_bytes())
        subprocess.run(["mount", "-o", "remount,size=64m", full], check=True)
        worker.run_ok("backup", config)
        assert fidelity.check_backup(full / "s", "b", client, [noise]).leftovers() == []


@pytest.mark.parametrize("size", ["8k", "16k", "24k", "1m"])
def test_disk_full_at_any_step(kafka, client, topic, worker, tmp_path, size):
    with tmpfs(tmp_path / "full", f"size={size}") as full:
        config = backup_config(kafka, full / "s", "b", [topic], backup={"segment_max_records": 100})
        result = worker.run("backup", config)
        if result.code:
            error_of(result, 78, "StorageFull", str(full), "No space left on device")
        subprocess.run(["mount", "-o", "remount,size=64m", full], check=True)
        worker.run("backup", config)
        assert fidelity.check_backup(full / "s", "b", client, [topic]).leftovers() == []


def test_read_only_file_system(kafka, topic, worker, tmp_path):
    with tmpfs(tmp_path / "ro", "ro") as path:
        result = worker.run("backup", backup_config(kafka, path / "s", "b", [topic]))
        error_of(result, 77, "StorageAccessDenied", str(path), "Read-only file system")


def test_directory_without_permission(kafka, topic, worker, tmp_path):
    if os.geteuid() != 0:
        pytest.skip("becoming another user needs root")
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o755)
    binary = tmp_path / "kafka-backup-worker"
    binary.write_bytes(worker.binary.read_bytes())
    binary.chmod(0o755)
    work = tmp_path / "work"
    work.mkdir(mode=0o777)
    work.chmod(0o777)
    for path in (tmp_path, *tmp_path.parents):
        if not path.stat().st_mode & 0o001 and path.owner() == "root" and str(path) != "/root":
            path.chmod(path.stat().st_mode | 0o011)
    other = Worker(work, binary)
    other.prefix = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    result = other.run("backup", backup_config(kafka, closed / "s", "b", [topic]))
    error_of(result, 77, "StorageAccessDenied", str(closed), "Permission denied")


def test_storage_that_is_a_file(kafka, topic, worker, tmp_path):
    (tmp_path / "file").write_text("x")
    result = worker.run("backup", backup_config(kafka, tmp_path / "file", "b", [topic]))
    error_of(result, 78, "ConfigInvalid", str(tmp_path / "file"), "is not a directory")


# ---- backups ----

@pytest.fixture
def backup(kafka, topic, worker, storage):
    worker.run_ok("backup", backup_config(kafka, storage, "b", [topic]))
    return storage / "b"


def test_backup_exists(kafka, topic, worker, storage, backup):
    before = fidelity.tree(storage)
    result = worker.run("backup", backup_config(kafka, storage, "b", [topic]))
    error_of(result, 78, "BackupExists", "'b'", "{stamp}")
    assert fidelity.tree(storage) == before


def test_backup_not_found(worker, storage, backup):
    for command in ("validate", "describe"):
        result = worker.run(command, None, "--path", storage, "-b", "nope")
        error_of(result, 78, "BackupNotFound", "Backup 'nope' not found")
        assert result.stdout == ""


def flip(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("damage,word", [
    (lambda p: flip(p, 100), "CRC"),
    (lambda p: p.write_bytes(p.read_bytes()[:-3]), "size"),
    (lambda p: p.write_bytes(b""), "size"),
    (lambda p: p.unlink(), "missing"),
    (lambda p: p.write_bytes(next(q for q in sorted(p.parents[1].rglob("segment*")) if q != p).read_bytes()), ""),
], ids=["bit", "cut", "empty", "gone", "swapped"])
def test_damaged_segment(worker, storage, backup, damage, word):
    path = sorted(backup.rglob("segment*"))[0]
    damage(path)
    result = worker.run("validate", None, "--path", storage, "-b", "b", "--deep")
    line = error_of(result, 65, "BackupCorrupt", path.relative_to(storage).as_posix(), word)
    assert "not valid" in line
    assert "NOT VALID" in result.stdout


def test_damaged_manifest(worker, storage, backup):
    flip(backup / "manifest.json", 40)
    error_of(worker.run("validate", None, "--path", storage, "-b", "b"), 65, "BackupCorrupt", "manifest.json")


def test_foreign_manifest_is_read_and_named_so(kafka, topic, worker, storage, backup):
    (backup / "backup.json").unlink()
    for path in (backup / "journal").iterdir():
        path.unlink()
    result = worker.run_ok("validate", None, "--path", storage, "-b", "b", "--deep", "-f", "json")
    assert result.json()["state"] == "foreign"
    before = fidelity.tree(storage)
    error_of(worker.run("backup", backup_config(kafka, storage, "b", [topic])), 78, "BackupExists", "'b'")
    assert fidelity.tree(storage) == before


# ---- two at once, signals, pipes ----

SLOW = {"rate_limit_records_per_sec": 400, "checkpoint_interval_secs": 1, "segment_max_records": 100}


def running(run):
    run.wait_for(lambda: (run.report() or {}).get("state") == "Running", what="Running")
    return run


def test_two_workers_on_one_id(kafka, client, topic, worker, storage):
    first = running(worker.start("backup", backup_config(kafka, storage, "b", [topic], backup=SLOW)))
    second = worker.run("backup", backup_config(kafka, storage, "b", [topic], limits={"lock_wait_secs": 1}))
    line = error_of(second, 75, "BackupLocked", socket.gethostname())
    assert re.search(r"since \d{4}-", line), line
    assert first.wait().code == 0
    assert fidelity.check_backup(storage, "b", client, [topic]).leftovers() == []


@pytest.mark.slow
def test_second_worker_waits_and_finds_the_backup_made(kafka, client, topic, worker, storage):
    config = backup_config(kafka, storage, "b", [topic], backup={**SLOW, "rate_limit_records_per_sec": 800})
    first = running(worker.start("backup", config))
    second = worker.start("backup", config)
    second.wait_for(lambda: (second.report() or {}).get("state") == "WaitingForLock", what="WaitingForLock")
    assert first.wait().code == 0
    assert second.wait().code == 78
    assert fidelity.check_backup(storage, "b", client, [topic]).leftovers() == []


@pytest.mark.parametrize("number,code", [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_stop_signal_then_resume(kafka, client, topic, worker, storage, number, code):
    """What was read is published, the lock released; the next run goes on and adopts nothing."""
    config = backup_config(kafka, storage, "b", [topic], backup=SLOW)
    run = running(worker.start("backup", config))
    run.wait_for(lambda: len(list(storage.rglob("journal/0*.json"))) > 1, what="progress")
    run.signal(number)
    result = run.wait(30)
    assert result.code == code, result.stderr
    assert result.report["state"] == "Interrupted" and result.report["reason"] == "Interrupted"
    journal = kbak.Backup(storage, "b").journal()
    assert journal[-1]["kind"] == "release"
    listed = {f"{p['topic']}/{p['partition']}/{s['start']}" for e in journal for p in e.get("partitions", [])
              for s in p["segments"]}
    assert len(listed) == len(list(storage.rglob("segment-*"))), "a segment was published and not journaled"
    durable = {p: what for p, what in fidelity.tree(storage).items() if "/topics/" in p}
    result = worker.run_ok("backup", backup_config(kafka, storage, "b", [topic], backup={
        **SLOW, "rate_limit_records_per_sec": 100_000}))
    assert result.report["attempt"] == 2
    assert fidelity.check_backup(storage, "b", client, [topic]).leftovers() == []
    now = fidelity.tree(storage)
    assert all(now[p] == what for p, what in durable.items())


def test_closed_standard_output_and_error_stop_nothing(kafka, client, topic, worker, storage):
    path, wanted = worker.dir / "closed.yaml", fidelity.source_digests(client, [topic])
    ways = ("1>&-", "2>&-", "1>&- 2>&-", "0<&- 1>&- 2>&-", "| true", "2>&1 | true", "1>/dev/full 2>/dev/full")
    for number, how in enumerate(ways):
        name = f"b{number}"
        path.write_text(yaml.safe_dump(backup_config(kafka, storage, name, [topic])))
        script = f"set -o pipefail; '{worker.binary}' backup -v -c '{path}' {how}"
        done = subprocess.run(["bash", "-c", script], stdin=subprocess.DEVNULL, capture_output=True, timeout=60,
                              check=False)
        assert done.returncode == 0, (how, done.stderr)
        fidelity.check_equal(storage, name, wanted)


def test_result_is_the_only_thing_on_standard_output(kafka, topic, worker, storage, backup):
    for command in (["describe", "-b", "b"], ["list"], ["validate", "-b", "b"]):
        worker.run_ok(command[0], None, "--path", storage, *command[1:], "-f", "json", "--log-level", "trace").json()


def test_records_are_not_in_a_log(kafka, client, unique, worker, storage):
    """Keys and values are never logged."""
    client.produce(client.create_topic(unique), [record("canary-key", "canary-value", [("canary-header", "x")])])
    result = worker.run_ok("backup", backup_config(kafka, storage, "b", [unique]), "--log-level", "trace")
    assert "canary-" not in result.stderr + result.stdout


def test_batch_that_is_damaged_on_the_broker(worker, storage):
    """The records before it and the offset are told; nothing after it is taken, and nothing is called complete."""
    with Cluster() as cluster, RefClient(cluster.bootstrap) as client:
        client.create_topic("rotten")
        for number in range(5):
            client.generate("rotten", 100, size=500, seed=number)
        cluster.stop(1)
        log, = cluster.dir.rglob("rotten-0/00000000000000000000.log")
        with open(log, "r+b") as f:
            f.seek(log.stat().st_size // 2)
            old = f.read(1)[0]
            f.seek(-1, os.SEEK_CUR)
            f.write(bytes([old ^ 0x10]))
        cluster.start()
        result = worker.run("backup", backup_config(cluster, storage, "b", ["rotten"]))
        error = error_of(result, 65, "RecordInvalid", "rotten/0", "offset")
        assert 0 < int(re.search(r"offset (\d+)", error).group(1)) < 500
        assert not (storage / "b" / "manifest.json").exists()
