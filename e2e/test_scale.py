"""Many partitions: fast when there is nothing to do, and inside a small memory limit.

KB_SCALE_PARTITIONS: partitions of the first two tests (1000; the release gate is 5000).
"""
import os
import time

import pytest

import fidelity
import kbak
from kafka import Cluster
from refclient import RefClient
from worker import IS_SANITIZED, backup_config, restore_config

PARTITIONS = int(os.environ.get("KB_SCALE_PARTITIONS") or (5000 if os.environ.get("KB_RELEASE_GATE") else 1000))
LIMIT = 128 << 20

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def wide():
    """One topic with many partitions, on a broker that has nothing else to do."""
    with Cluster() as cluster, RefClient(cluster.bootstrap) as client:
        client.create_topic("wide", partitions=PARTITIONS, segment_index_bytes=4096)
        client.offsets("wide")  # the broker has made all its files
        yield cluster, client


@pytest.fixture
def storage(tmp_path):
    return tmp_path / "storage"


def peak_bytes(worker, *args):
    """Runs the worker and returns (result, peak resident bytes of it)."""
    run = worker.start(*args)
    peak = 0
    while run.is_running():
        try:
            with open(f"/proc/{run.pid}/status", encoding="ascii") as f:
                peak = max([peak] + [int(line.split()[1]) << 10 for line in f if line.startswith("VmHWM")])
        except (FileNotFoundError, ProcessLookupError):
            break
        time.sleep(0.02)
    return run.wait(), peak


def test_nothing_to_do_is_quick(wide, worker, storage):
    cluster, _ = wide
    result = worker.run_ok("backup", backup_config(cluster, storage, "empty", ["wide"]))
    assert result.seconds < 30 * PARTITIONS / 5000 + 4, f"{result.seconds} s for {PARTITIONS} empty partitions"
    backup = kbak.Backup(storage, "empty").verify()
    assert backup.record["totals"]["partitions"] == PARTITIONS and backup.record["totals"]["records"] == 0
    before = time.monotonic()
    worker.run_ok("backup", backup_config(cluster, storage, "empty", ["wide"]), code=78)
    assert time.monotonic() - before < 5


def test_memory_limit_holds_over_many_partitions(wide, worker, storage):
    """Records of 100 bytes to 100 KB in every partition; peak memory stays below the limit for both ways."""
    cluster, client = wide
    client.generate("wide", PARTITIONS * 25, size=400)
    client.generate("wide", 300, size=100_000, kind="random", seed=2)
    limits = {"memory_bytes": LIMIT}
    result, peak = peak_bytes(worker, "backup", backup_config(cluster, storage, "wide", ["wide"], limits=limits))
    assert result.code == 0, result.stderr
    assert IS_SANITIZED or peak < LIMIT, f"backup: peak {peak >> 20} MiB"
    worker.run_ok("validate", None, "--path", storage, "-b", "wide", "--deep")
    config = restore_config(cluster, storage, "wide", ["wide"], limits=limits,
                            restore={"topic_mapping": {"wide": "narrow"}})
    result, peak = peak_bytes(worker, "restore", config)
    assert result.code == 0, result.stderr
    assert IS_SANITIZED or peak < LIMIT, f"restore: peak {peak >> 20} MiB"
    assert fidelity.chains(client, "narrow") == fidelity.chains(client, "wide")


def test_planning_an_increment_over_many_partitions_is_quick(wide, worker, storage):
    """All is compared, listed and taken over; with 5,000 partitions from a manifest of 100,000 segments and more."""
    cluster, client = wide
    client.generate("wide", PARTITIONS * 25, size=100)
    config = backup_config(cluster, storage, None, ["wide"], lineage="many",
                           backup={"segment_max_records": 1 if PARTITIONS >= 5000 else 25})
    del config["backup_id"]
    first = worker.run_ok("backup", config, timeout=800)
    result, peak = peak_bytes(worker, "backup", config)
    assert result.code == 0, result.stderr
    segments = first.report["segmentsCompleted"]
    assert result.report["segmentsCompleted"] == segments >= PARTITIONS and result.report["newBytes"] == 0
    print(f"\n{PARTITIONS} partitions, {segments} segments: {result.seconds:.1f} s, peak {peak >> 20} MiB")
    assert result.seconds < 20 * PARTITIONS / 5000 + 4, f"{result.seconds} s"
    assert IS_SANITIZED or peak < 256 << 20, f"peak {peak >> 20} MiB"


def test_limit_that_cannot_fit_is_refused_with_the_number_needed(kafka, client, unique, worker, storage):
    client.generate(client.create_topic(unique), 10)
    config = backup_config(kafka, storage, "b", [unique], limits={"memory_bytes": 40 << 20})
    result = worker.run("backup", config)
    assert result.code == 78 and result.report["reason"] == "MemoryTooSmall", result.stderr
    assert any(word.isdigit() for word in result.report["message"].replace(",", " ").split()), result.report["message"]
