"""The story of make demo. Every claim in it is checked; the exit code is 1 when one does not hold."""
import pathlib
import shlex
import sys
import tempfile
import time

import records as rec
from kafka import Cluster
from records import record
from refclient import RefClient
from worker import BINARY, Worker, backup_config, restore_config

HOUR = 3_600_000
STARTED = time.monotonic()


def step(text):
    print(f"\n[{time.monotonic() - STARTED:5.1f} s] {text}", flush=True)


def say(text):
    print(f"          {text}", flush=True)


def fill(client, accident):
    """Four topics. What was written from `accident` (a time) on is what nobody wants back."""
    client.create_topic("orders", partitions=3)
    client.generate("orders", 60_000, size=700, time=accident - 60_000, compression_type="zstd")
    client.generate("orders", 3_000, size=700, seed=2, time=accident, compression_type="lz4")

    client.create_topic("payments", partitions=2)
    for i in range(20):
        batch = [record(f"p{i}-{j}", f'{{"amount": {i * j}}}', [("trace", str(i)), ("trace", None)],
                        accident - HOUR + i * 1000 + j, j % 2) for j in range(100)]
        client.produce("payments", batch, transaction="demo", end="abort" if i % 5 == 4 else "commit")
    client.produce("payments", [record("p-bad", "garbage", timestamp=accident + 1)])

    client.create_topic("profiles", cleanup_policy="compact")
    client.produce("profiles", [record(f"user-{i % 50}", f"version {i}", timestamp=accident - HOUR + i)
                                for i in range(500)])
    client.produce("profiles", [record("user-7", None, timestamp=accident - 5)])

    client.create_topic("odd", partitions=2, message_timestamp_type="CreateTime")
    client.produce("odd", [
        record(None, None, timestamp=1),
        record("", "", [("", None), ("", b""), ("", None)], timestamp=accident - 1, partition=1),
        record("late", "first", timestamp=accident - 2), record("early", "second", timestamp=accident - HOUR),
        record("big", bytes(5 << 20), [(f"h{i}", str(i)) for i in range(2000)], timestamp=accident - 3),
        record("after", "not wanted", timestamp=accident + 5), record("before", "wanted", timestamp=accident - 1)])
    client.create_topic("empty", partitions=4)
    return ["orders", "payments", "profiles", "odd", "empty"]


def proofs(client, topics, before=None):
    """{(topic, partition): (records, chain digest)}, of the records before a time when one is given."""
    found = {}
    for topic in topics:
        for partition, dump in client.dump(topic).items():
            kept = [r for r in dump if before is None or r.timestamp < before]
            found[topic, partition] = (len(kept), rec.chain(kept))
    return found


def run(worker, command, config, *args):
    say(f"$ kafka-backup-worker {shlex.join([command, *args])} --config ...")
    result = worker.run(command, config, *args)
    for line in result.stdout.strip().splitlines()[:12]:
        say(f"  {line}")
    if result.code != 0:
        print(result.stderr[-5000:], file=sys.stderr)
        sys.exit(f"demo: {command} ended with exit code {result.code}")
    say(f"  exit code 0 after {result.seconds:.1f} s")
    return result


def compare(wanted, found):
    wrong = 0
    say(f"{'topic':12}{'partition':>10}{'records':>10}  digest (key, value, headers, timestamp, order)")
    for (topic, partition), (count, digest) in sorted(wanted.items()):
        same = found.get((topic, partition)) == (count, digest)
        wrong += not same
        say(f"{topic:12}{partition:>10}{count:>10}  {digest[:16]}... {'equal' if same else 'DIFFERENT'}")
    wrong += len(found.keys() - wanted.keys())
    return wrong


def main():
    accident = int(time.time() * 1000) - HOUR
    with tempfile.TemporaryDirectory(prefix="kafka-backup-demo-") as directory:
        storage = pathlib.Path(directory) / "backups"
        storage.mkdir()
        worker = Worker(directory)
        step("A real Kafka broker (Apache Kafka, KRaft) starts, and topics are filled.")
        with Cluster() as source, RefClient(source.bootstrap) as client:
            topics = fill(client, accident)
            wanted, everything = proofs(client, topics, accident), proofs(client, topics)
            say(f"{sum(n for n, _ in everything.values())} records in {len(topics)} topics: JSON, transactions (some "
                "aborted), a compacted topic, null keys and values,")
            say("empty and repeated header names, times out of order, a 5 MiB record with 2000 headers, an empty topic")
            step(f"Back up. ({BINARY.name}; one file, no agent, nothing installed on the broker)")
            run(worker, "backup", backup_config(source, storage, "demo", topics))
        step("The cluster is lost: the broker is gone, and its disk with it.")
        run(worker, "validate", backup_config(source, storage, "demo"), "--deep")
        run(worker, "list", backup_config(source, storage, "demo"))
        step("A new, empty broker starts. Restore to the moment before the accident.")
        with Cluster() as target, RefClient(target.bootstrap) as client:
            run(worker, "restore", restore_config(target, storage, "demo", restore={"time_window_end": accident - 1}))
            step("Apache Kafka's own Java client reads what came back and compares it with what was there.")
            wrong = compare(wanted, proofs(client, topics))
            step("The same restore once more: it finds its work done and writes nothing.")
            run(worker, "restore", restore_config(target, storage, "demo", restore={"time_window_end": accident - 1}))
            wrong += proofs(client, topics) != wanted
    if wrong:
        sys.exit(f"demo: {wrong} differences")
    left_out = sum(n for n, _ in everything.values()) - sum(n for n, _ in wanted.values())
    step(f"Done: every record before the accident is back, in order, byte by byte; the {left_out} after it are not.")


if __name__ == "__main__":
    main()
