"""SIGKILL at random moments, again and again, until a run ends by itself: nothing lost, nothing twice.

KB_KILL_ROUNDS: rounds for each kind (5; the release gate is 100). KB_KILL_SEED: the first seed (else random).
A failure prints the seed, which makes the same choices again.
"""
import contextlib
import os
import random
import re
import subprocess
import time

import pytest

import fidelity
import kbak
from kafka import Cluster
from refclient import RefClient
from test_errors import tmpfs
from worker import Worker, backup_config, restore_config

ROUNDS = int(os.environ.get("KB_KILL_ROUNDS") or (100 if os.environ.get("KB_RELEASE_GATE") else 5))
FIRST_SEED = int(os.environ.get("KB_KILL_SEED") or random.randrange(1_000_000))
KILLS = 6  # in one round at most; then a run is left alone
TOPIC = "killed"

pytestmark = pytest.mark.timeout(60 + 40 * ROUNDS)


@pytest.fixture(scope="module")
def source(kafka, client):
    """A topic whose backup takes about a second, and what is in it."""
    client.generate(client.create_topic(TOPIC, partitions=4), 24_000, size=300)
    return fidelity.source_digests(client, [TOPIC])


@pytest.fixture
def storage(tmp_path):
    return tmp_path / "storage"


class Round:
    """The choices of one round: a function of its seed."""

    def __init__(self, seed):
        self.random, self.seed = random.Random(seed), seed
        self.kills = 0

    def moment(self, longest):
        """When to kill: anywhere, and more often near the beginning, where the steps are close together."""
        return self.random.random() ** 1.5 * longest

    def run(self, start, longest, at_kill=lambda: None):
        """Kills what start() begins until it ends by itself, or KILLS times; the result of the last one."""
        while self.kills < KILLS:
            run = start()
            deadline = time.monotonic() + self.moment(longest())
            while run.is_running() and time.monotonic() < deadline:
                time.sleep(0.002)
            if not run.is_running():
                result = run.wait()
                if result.code != 75:
                    return result
                self.kills += 1  # "temporary, running again continues" is an answer, but not the end
                continue
            at_kill()
            result = run.kill()
            if result.code != -9:
                return result
            self.kills += 1
        return start().wait()


def rounds(kind, steps, count=ROUNDS):
    """steps(Round) for each round; a failure names the seed."""
    for number in range(count):
        this = Round(FIRST_SEED + number)
        try:
            steps(this)
        except BaseException:
            print(f"\nreproduce: KB_KILL_ROUNDS=1 KB_KILL_SEED={this.seed} make integration "
                  f"ARGS='test_kill.py -k {kind}'  (after {this.kills} kills)")
            raise


def backup_of(kafka, storage, this, codec="zstd", **limits):
    return backup_config(kafka, storage, f"round-{this.seed}", [TOPIC], limits=limits, backup={
        "compression": codec, "checkpoint_interval_secs": 1,
        "segment_max_bytes": this.random.choice([1 << 18, 1 << 20, 64 << 20]),
        "rate_limit_records_per_sec": this.random.choice([12_000, 10_000_000])})


def check_round(storage, this, result, source, leftovers):
    """Exact, and nothing is there that the manifest does not name (but for codecs that cannot be adopted)."""
    name = f"round-{this.seed}"
    assert result.code == 0 or this.kills and "BackupExists" in result.stderr, result.stderr
    backup = fidelity.check_equal(storage, name, source)
    found = backup.leftovers()
    # A sealed backup has no take-over: what a kill leaves of its last two files is for prune.
    found = [key for key in found if not re.match(rf"{name}/\.(backup|manifest)\.json\.", key)]
    assert leftovers or not found, found
    assert not [key for key in found if key.rsplit("/", 1)[-1].startswith(".")], found


@pytest.mark.parametrize("codec", ["zstd", "lz4"])
def test_backup_killed(kafka, source, worker, storage, codec):
    def steps(this):
        config = backup_of(kafka, storage, this, codec)
        result = this.run(lambda: worker.start("backup", config), lambda: 2.5)
        check_round(storage, this, result, source, codec != "zstd")
        worker.run_ok("validate", None, "--path", storage, "-b", config["backup_id"], "--deep")
    rounds(f"backup_killed and {codec}", steps)


def test_backup_killed_while_the_disk_is_full(kafka, source, worker, tmp_path):
    with tmpfs(tmp_path / "disk", "size=64m") as disk:
        def steps(this):
            config = backup_of(kafka, disk / "s", this)
            ballast = disk / "ballast"

            def fill():
                with contextlib.suppress(OSError), open(ballast, "wb", buffering=0) as f:
                    while f.write(bytes(1 << 16)):
                        pass
                time.sleep(this.random.random() * 0.2)

            def start():
                ballast.unlink(missing_ok=True)
                return worker.start("backup", config)
            result = this.run(start, lambda: 2.5, fill)
            if result.code == 78 and "StorageFull" in result.stderr:
                result = start().wait()
            check_round(disk / "s", this, result, source, False)
            subprocess.run(["rm", "-rf", disk / "s"], check=True)
        rounds("backup_killed_while_the_disk", steps)


@pytest.fixture(scope="module")
def mortal():
    """A cluster of its own for those who kill it, and its content."""
    with Cluster() as cluster, RefClient(cluster.bootstrap) as c:
        c.generate(c.create_topic(TOPIC, partitions=4), 24_000, size=300)
        yield cluster, c, fidelity.source_digests(c, [TOPIC])


def test_backup_killed_while_the_broker_dies(mortal, worker, storage):
    cluster, _, source = mortal

    def steps(this):
        config = backup_of(cluster, storage, this)
        config["circuit_breaker"] = {"reset_timeout_secs": 1}
        this.kills = KILLS - 1

        def start():
            if not broker_is_up(cluster):
                cluster.start(1)
            return worker.start("backup", config)
        result = this.run(start, lambda: 2.5, lambda: cluster.kill(1))
        check_round(storage, this, result, source, False)
    rounds("backup_killed_while_the_broker", steps, (ROUNDS + 2) // 3)


def broker_is_up(cluster):
    try:
        return os.path.exists(f"/proc/{cluster.pid(1)}")
    except FileNotFoundError:
        return False


def test_backup_goes_on_when_the_broker_comes_back(mortal, worker, storage):
    """The broker dies and returns under a running backup: the run itself succeeds."""
    cluster, _, source = mortal
    if not broker_is_up(cluster):
        cluster.start(1)
    config = backup_config(cluster, storage, "return", [TOPIC], backup={"rate_limit_records_per_sec": 8000})
    config["circuit_breaker"] = {"reset_timeout_secs": 1}
    run = worker.start("backup", config)
    run.wait_for(lambda: (run.report() or {}).get("state") == "Running", what="Running")
    time.sleep(0.5)
    cluster.kill(1)
    cluster.start(1)
    result = run.wait()
    assert result.code == 0, result.stderr
    assert fidelity.check_equal(storage, "return", source).leftovers() == []
    assert kbak.Backup(storage, "return").record["findings"] == []


# ---- restore ----

@pytest.fixture(scope="module")
def stored(kafka, client, source, tmp_path_factory):
    directory = tmp_path_factory.mktemp("stored")
    Worker(directory).run_ok("backup", backup_config(kafka, directory / "s", "all", [TOPIC], backup={
        "segment_max_bytes": 1 << 20}))
    return directory / "s", fidelity.chains(client, TOPIC)


def restore_of(cluster, storage, this, **more):
    rate = this.random.choice([12_000, 10_000_000])
    return restore_config(cluster, storage, "all", [TOPIC], circuit_breaker={"reset_timeout_secs": 1}, restore={
        "restore_id": f"round-{this.seed}-{cluster.dir.name}", "topic_mapping": {TOPIC: f"restored-{this.seed}"},
        "rate_limit_records_per_sec": rate, "produce_batch_size": this.random.choice([50, 1000])}, **more)


def check_restored(client, this, result, wanted):
    assert result.code == 0, result.stderr
    topic = f"restored-{this.seed}"
    assert fidelity.chains(client, topic) == wanted
    configs = client.describe(topic)["configs"]
    assert configs.get("retention.ms") != "-1" and "retention.bytes" not in configs, configs
    client.delete_topic(topic)


@pytest.mark.parametrize("delivery", ["idempotent", "transactional"])
def test_restore_killed(kafka, client, stored, worker, delivery):
    """Each run but the first waits five seconds for stragglers: kills come after that as well as in it."""
    storage, wanted = stored

    def steps(this):
        config = restore_of(kafka, storage, this)
        config["restore"].update(delivery=delivery, restore_id=f"{delivery}-{this.seed}")
        this.kills = KILLS - 3
        longest = [2.0]

        def start():
            run = worker.start("restore", config)
            longest[0] = 8.0
            return run
        result = this.run(start, lambda: longest[0])
        check_restored(client, this, result, wanted)
    rounds(f"restore_killed and {delivery}", steps)


def test_restore_killed_while_the_broker_dies(mortal, stored, worker):
    cluster, client, _ = mortal
    storage, wanted = stored

    def steps(this):
        config = restore_of(cluster, storage, this)
        this.kills = KILLS - 1

        def start():
            if not broker_is_up(cluster):
                cluster.start(1)
            return worker.start("restore", config)
        result = this.run(start, lambda: 2.5, lambda: cluster.kill(1))
        check_restored(client, this, result, wanted)
    rounds("restore_killed_while_the_broker", steps, (ROUNDS + 2) // 3)


def test_restore_goes_on_when_the_broker_comes_back(mortal, stored, worker):
    cluster, client, _ = mortal
    storage, wanted = stored
    if not broker_is_up(cluster):
        cluster.start(1)
    this = Round(FIRST_SEED - 1)
    config = restore_of(cluster, storage, this)
    config["restore"]["rate_limit_records_per_sec"] = 4000
    run = worker.start("restore", config)
    run.wait_for(lambda: (run.report() or {}).get("state") == "Running", what="Running")
    time.sleep(1)
    cluster.kill(1)
    cluster.start(1)
    result = run.wait()
    if result.code == 75:  # what the client does not send again itself is left to the next run
        result = worker.run("restore", config)
    check_restored(client, this, result, wanted)
