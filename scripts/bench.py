"""Measures backup and restore of the built worker, and beside them the parts that nothing can avoid.

All numbers come from one run on one machine with the broker on the same cores (the first two, if there are more).
Programs are measured by wait4: user and system time of the worker process alone, and its peak memory. The parts are
bench_parts.c; a ratio is the whole divided by their sum. A shared machine is up to twice as fast in one minute as in
the next, so a ratio compares only what was measured in the same round, the parts before and after the whole; the table
gives the median of KB_BENCH_ROUNDS rounds for every number and every ratio.
"""
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

import yaml

from kafka import Cluster
from refclient import RefClient
from worker import BINARY, backup_config, restore_config

BUILD = pathlib.Path(sys.argv[1])
PARTS = BUILD / "worker/bench/bench_parts"
MIB = int(os.environ.get("KB_BENCH_MIB") or 1024)
ROUNDS = int(os.environ.get("KB_BENCH_ROUNDS") or 3)
COMMANDS = (os.environ.get("KB_BENCH_COMMANDS") or "backup restore").split()
RESULTS = pathlib.Path("worker/bench/RESULTS.txt")
CPU_BAR, WALL_BAR, RSS_BAR_MIB, TIGHT_MIB = 1.25, 1.3, 256, 128
TOPIC = "bench"


class Case(NamedTuple):
    name: str
    kind: str
    size: int
    partitions: int = 4
    memory_mib: int = 0  # limits.memory_bytes; 0: the default


CASES = [Case("json-1k", "json", 1024), Case("json-100", "json", 100), Case("random-1k", "random", 1024),
         Case("partitions-1000", "json", 1024, 1000, TIGHT_MIB)]


class Run(NamedTuple):
    wall: float
    cpu: float
    rss_mib: float


def note(text):
    print(f"bench: {text}", file=sys.stderr, flush=True)


def parts(*args):
    done = subprocess.run([PARTS, *map(str, args)], check=True, stdout=subprocess.PIPE)
    return json.loads(done.stdout)


def worker(directory, command, config):
    """Runs the worker; its cost by wait4."""
    path, log = directory / "config.yaml", directory / f"{command}.log"
    path.write_text(yaml.safe_dump(config))
    env = {k: v for k, v in os.environ.items() if not k.startswith("KB_")}
    with open(log, "wb") as out:
        started = time.monotonic()
        process = subprocess.Popen([BINARY, command, "--config", path], env=env, stdin=subprocess.DEVNULL,
                                   stdout=out, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.monotonic() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"bench: {command} ended with exit code {process.returncode}:\n{log.read_text()[-5000:]}")
    return Run(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def middle(values, pick):
    """The median of one number over the rounds."""
    return statistics.median(pick(value) for value in values)


class Bench:
    """One case: a filled topic, its areas in a file, and what was measured."""

    def __init__(self, case, cluster, client, directory):
        self.case, self.cluster, self.client, self.dir = case, cluster, client, directory
        self.areas = directory / "areas"
        self.storage = directory / "backups"
        self.rounds = []  # {name: what was measured}, the computed parts as two: before and after
        self.stored_bytes = self.records = self.bytes = 0

    def fill(self):
        mib = MIB if not self.case.memory_mib else max(MIB // 4, 1)
        self.records = (mib << 20) // self.case.size
        self.client.create_topic(TOPIC, partitions=self.case.partitions, retention_ms=-1)
        self.client.offsets(TOPIC)  # every leader answers: a batch refused by a new one would come out of order
        self.client.generate(TOPIC, self.records, size=self.case.size, kind=self.case.kind, linger_ms=20,
                             batch_size=262144 if self.case.partitions < 100 else 32768, buffer_memory=256 << 20,
                             delivery_timeout_ms=300000)

    def limits(self):
        return {"limits": {"memory_bytes": self.case.memory_mib << 20}} if self.case.memory_mib else {}

    def backup(self):
        shutil.rmtree(self.storage, ignore_errors=True)
        self.storage.mkdir()
        config = backup_config(self.cluster, self.storage, "bench", [TOPIC], **self.limits())
        run = worker(self.dir, "backup", config)
        self.stored_bytes = sum(f.stat().st_size for f in self.storage.rglob("*") if f.is_file())
        return run

    def restore(self):
        config = restore_config(self.cluster, self.storage, "bench", [TOPIC], **self.limits())
        config["restore"].update(topic_mapping={TOPIC: "restored"})
        run = worker(self.dir, "restore", config)
        self.client.delete_topic("restored")
        return run

    def written(self, mode):
        """A part that writes into a new topic."""
        self.client.create_topic("written", partitions=self.case.partitions, retention_ms=-1)
        result = parts(mode, self.cluster.bootstrap, "written", self.areas)
        self.client.delete_topic("written")
        return result

    def measure(self):
        """One round: the whole between its parts."""
        bootstrap, partitions = self.cluster.bootstrap, self.case.partitions
        found = {}
        if not self.case.memory_mib:
            found["compute"] = [parts("compute", self.areas)]
            found["consume"] = parts("consume", bootstrap, TOPIC, partitions)
        found["backup"] = self.backup()
        if not self.case.memory_mib:
            found["backup_parts"] = parts("backup", bootstrap, TOPIC, partitions, self.areas)
            found["compute"].append(parts("compute", self.areas))
        if "restore" not in COMMANDS:
            return found
        if not self.case.memory_mib:
            found["produce"] = self.written("produce")
        found["restore"] = self.restore()
        if not self.case.memory_mib:
            found["restore_parts"] = self.written("restore")
            found["compute"].append(parts("compute", self.areas))
        return found

    def run(self):
        note(f"{self.case.name}: filling the topic")
        self.fill()
        read = parts("areas", self.cluster.bootstrap, TOPIC, self.case.partitions, self.areas)
        assert read["records"] == self.records, f"{read} records, {self.records} were written"
        self.bytes = read["bytes"]
        for number in range(ROUNDS):
            note(f"{self.case.name}: round {number + 1} of {ROUNDS}")
            self.rounds.append(self.measure())
        self.client.delete_topic(TOPIC)
        shutil.rmtree(self.dir)
        return self

    # ---- the table ----

    def per_gib(self, cpu):
        return cpu * 2**30 / self.bytes

    @staticmethod
    def backup_costs(found):
        c = [{**c, "sha": c["sha_records"] + c["sha_object"]} for c in found["compute"][:2]]
        return {"consumer": found["consume"]["cpu"], **around(c, {"zstd -3": "zstd", "decompression": "unzstd",
                                                                  "SHA-256": "sha"})}

    @staticmethod
    def restore_costs(found):
        c = [{**c, "sha": c["sha_records"] + c["sha_object"] + c["crc"]} for c in found["compute"][-2:]]
        return {"producer": found["produce"]["cpu"], **around(c, {"decompression": "unzstd", "SHA-256, CRC": "sha"})}

    def whole(self, name):
        runs = [found[name] for found in self.rounds]
        wall, cpu = middle(runs, lambda run: run.wall), middle(runs, lambda run: run.cpu)
        return (f"  {name:8} {self.bytes / wall / 1e6:8.0f} MB/s {self.per_gib(cpu):7.2f} CPU s/GiB "
                f"{wall:7.2f} s {self.peak(name):6.0f} MiB peak {self.stored_bytes / 2**20:8.0f} MiB stored")

    def peak(self, name):
        return max(found[name].rss_mib for found in self.rounds)

    def lines_of(self, name, costs):
        yield self.whole(name)
        shown = {part: middle(self.rounds, lambda found, part=part: costs(found)[part])
                 for part in costs(self.rounds[0])}
        together = middle(self.rounds, lambda found: found[f"{name}_parts"]["wall"])
        yield "    parts  " + " + ".join(f"{part} {self.per_gib(cpu):.2f}" for part, cpu in shown.items()) + \
            f" = {self.per_gib(sum(shown.values())):.2f} CPU s/GiB; together {together:.2f} s"
        yield verdict("CPU, whole / sum of parts",
                      [found[name].cpu / sum(costs(found).values()) for found in self.rounds], CPU_BAR)
        yield verdict("wall, whole / parts together",
                      [found[name].wall / found[f"{name}_parts"]["wall"] for found in self.rounds],
                      WALL_BAR if name == "backup" else None)
        yield verdict("peak memory, MiB", [self.peak(name)], RSS_BAR_MIB)

    def table(self):
        case = self.case
        yield ""
        yield (f"{case.name}: {self.records} records of {case.size} bytes, {case.kind}, {case.partitions} partitions"
               + (f", limits.memory_bytes {case.memory_mib} MiB" if case.memory_mib else ""))
        for name, costs in (("backup", self.backup_costs), ("restore", self.restore_costs)):
            if name not in self.rounds[0]:
                continue
            if not case.memory_mib:
                yield from self.lines_of(name, costs)
            else:
                yield self.whole(name)
                yield verdict("peak memory, MiB", [self.peak(name)], case.memory_mib)


def around(measured, names):
    """The computed parts beside a run: the mean of before and after."""
    return {shown: statistics.mean(c[name] for c in measured) for shown, name in names.items()}


def verdict(what, values, bar):
    value = statistics.median(values)
    text = f"    {what:32} {value:8.2f}"
    if len(values) > 1:
        text += f"  ({min(values):.2f} to {max(values):.2f})"
    return text if bar is None else f"{text}  (bar {bar}) {'ok' if value <= bar else 'MISSED'}"


def head():
    def out(*args):
        return subprocess.run(args, capture_output=True, text=True, check=False).stdout.strip()
    commit = out("git", "rev-parse", "--short=12", "HEAD") + ("+changes" if out("git", "status", "--porcelain") else "")
    model = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo", encoding="ascii")
                  if line.startswith("model name")), "unknown")
    kafka = out("e2e/lab/kafka-lab", "version")
    day = time.strftime("%Y-%m-%d")
    yield f"kafka-backup-worker: {MIB} MiB of keys and values in each case, commit {commit}, {day}"
    yield (f"{len(os.sched_getaffinity(0))} cores of {model}, shared with Kafka {kafka}; {out(BINARY, '--version')}; "
           f"median of {ROUNDS} rounds; load before {os.getloadavg()[0]:.1f}")


def main():
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
    names = (os.environ.get("KB_BENCH_CASES") or " ".join(case.name for case in CASES)).split()
    lines = list(head())
    print(*lines, sep="\n", flush=True)
    with tempfile.TemporaryDirectory(prefix="kafka-backup-bench-") as directory, Cluster() as cluster, \
            RefClient(cluster.bootstrap) as client:
        for case in CASES:
            if case.name in names:
                path = pathlib.Path(directory) / case.name
                path.mkdir()
                table = list(Bench(case, cluster, client, path).run().table())
                lines += table
                print(*table, sep="\n", flush=True)
    text = "\n".join(lines) + "\n"
    (BUILD / "bench.txt").write_text(text)
    if os.environ.get("KB_BENCH_SAVE"):
        RESULTS.write_text(text)


if __name__ == "__main__":
    main()
