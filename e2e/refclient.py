"""The reference client: Apache Kafka's Java client (lab/RefClient.java) as Python calls.

It shares no code with the worker's client library, so it can say what is really in a topic.
"""
import fcntl
import glob
import hashlib
import json
import os
import pathlib
import shutil
import struct
import subprocess
import tempfile
from typing import NamedTuple

import records as rec

LAB = pathlib.Path(__file__).resolve().parent / "lab"
CACHE = pathlib.Path(os.environ.get("KB_CACHE") or pathlib.Path.home() / ".cache/kafka-backup")


class RefClientError(Exception):
    """What Kafka said; the text begins with the name of the Java exception."""


class PartitionDigest(NamedTuple):
    """What was read of a partition; see records.digest and records.chain for the last two."""
    count: int
    first: int
    last: int
    bytes: int
    min_time: int
    max_time: int
    digest: str
    chain: str


def java_command(*args):
    """Java with the jars of the lab and the compiled client; installs and compiles at first use."""
    subprocess.run([LAB / "kafka-lab", "install"], check=True)
    version = subprocess.check_output([LAB / "kafka-lab", "version"], text=True).strip()
    home = CACHE / "kafka" / version
    jars = ":".join(sorted(glob.glob(f"{home}/*.jar")))
    source = LAB / "RefClient.java"
    name = hashlib.sha256(source.read_bytes() + version.encode()).hexdigest()[:16]
    classes = CACHE / f"refclient-{name}"
    with open(CACHE / ".refclient.lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not classes.exists():
            fresh = tempfile.mkdtemp(dir=CACHE)
            subprocess.run(["javac", "-nowarn", "-cp", jars, "-d", fresh, source], check=True)
            os.rename(fresh, classes)
    archive = [f"-XX:SharedArchiveFile={home}/classes.jsa", "-Xlog:cds=off", "-Xlog:cds+dynamic=off"]
    return ["java", "-Xmx1g", "-XX:+UseSerialGC", *(archive if (home / "classes.jsa").exists() else []),
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=error", "-cp", f"{jars}:{classes}", "RefClient",
            *map(str, args)]


class RefClient:
    """One connection to one cluster. Calls block; use a second client to do two things at once."""

    def __init__(self, bootstrap, properties_file=None):
        self._dir = pathlib.Path(tempfile.mkdtemp(prefix="refclient-"))
        properties = self._dir / "client.properties"
        text = properties_file.read_text() if properties_file else ""
        properties.write_text(f"bootstrap.servers={bootstrap}\n{text}")
        self._process = subprocess.Popen(java_command(properties), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                         text=True, encoding="utf-8")
        self._file_number = 0

    def close(self):
        if self._process:
            self._process.stdin.close()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
            shutil.rmtree(self._dir, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def call(self, cmd, **fields):
        """One command; the reply as a dict. RefClientError when it failed."""
        self._process.stdin.write(json.dumps({"cmd": cmd, **fields}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RefClientError(f"the client ended during {cmd}")
        reply = json.loads(line)
        if not reply.pop("ok"):
            raise RefClientError(reply["error"])
        return reply

    # ---- topics ----
    def cluster_id(self):
        return self.call("cluster")["cluster_id"]

    def topics(self):
        return self.call("topics")["topics"]

    def create_topic(self, topic, partitions=1, replication=None, **configs):
        """configs: retention_ms=-1 and so on; returns the topic's name."""
        self.call("create_topic", topic=topic, partitions=partitions, replication=replication,
                  configs={k.replace("_", "."): str(v) for k, v in configs.items()})
        return topic

    def delete_topic(self, topic):
        self.call("delete_topic", topic=topic)

    def create_partitions(self, topic, partitions):
        self.call("create_partitions", topic=topic, partitions=partitions)

    def alter_configs(self, topic, **configs):
        """None removes the override."""
        self.call("alter_configs", topic=topic,
                  configs={k.replace("_", "."): None if v is None else str(v) for k, v in configs.items()})

    def delete_records(self, topic, before):
        """before: {partition: first offset to keep}."""
        self.call("delete_records", topic=topic, before={str(p): o for p, o in before.items()})

    def describe(self, topic):
        """{topic_id, partitions, replication, leaders, configs (the topic's own), effective_configs}."""
        return self.call("describe", topic=topic)

    def offsets(self, topic):
        """{"start", "end" (high watermark), "stable" (last stable offset)}, each {partition: offset}."""
        reply = self.call("offsets", topic=topic)
        return {name: {int(p): o for p, o in by.items()} for name, by in reply.items()}

    # ---- writing ----
    def produce(self, topic, records, transaction=None, end="commit", **config):
        """Writes records in order, each to its partition; returns their offsets.

        transaction: a transactional id; end: "commit", "abort", or "open", after which produce with the same id
        goes on and end_transaction ends it. config: compression_type="zstd" and so on.
        """
        self._file_number += 1
        path = self._dir / f"produce-{self._file_number}"
        with open(path, "wb") as f:
            for r in records:
                f.write(struct.pack("<i", r.partition) + rec.encode(r))
        try:
            return self.call("produce", topic=topic, file=str(path), transaction=transaction, end=end,
                             config={k.replace("_", "."): str(v) for k, v in config.items()})["offsets"]
        finally:
            path.unlink()

    def end_transaction(self, transaction, end="commit"):
        self.call("end_transaction", transaction=transaction, end=end)

    def generate(self, topic, count, size=1024, kind="json", seed=1, keys=True, time=None, **config):
        """Many records, record i to partition i mod N; kind: "json" or "random". time: of the first, then +1 ms."""
        fields = {} if time is None else {"time": time}
        # Every leader answers: a batch that a new one refuses would come out of order, and again until it expires.
        self.offsets(topic)
        self.call("generate", topic=topic, count=count, size=size, kind=kind, seed=seed, keys=keys,
                  config={k.replace("_", "."): str(v) for k, v in config.items()}, **fields)

    # ---- reading ----
    def _read(self, topic, isolation, start, to, directory=None):
        fields = {"isolation": isolation}
        for name, value in (("from", start), ("to", to)):
            if value is not None:
                fields[name] = {str(p): o for p, o in value.items()}
        reply = self.call("read", topic=topic, dir=directory, **fields)["partitions"]
        return {int(p): PartitionDigest(d["count"], d["first"], d["last"], d["bytes"], d.get("min_time"),
                                        d.get("max_time"), d["digest"], d["chain"]) for p, d in reply.items()}

    def digest(self, topic, isolation="read_committed", start=None, to=None):
        """{partition: PartitionDigest}; start, to: {partition: offset}, by default all there is."""
        return self._read(topic, isolation, start, to)

    def dump(self, topic, isolation="read_committed", start=None, to=None):
        """{partition: [Record]} of a topic that fits into memory."""
        directory = self._dir / "dump"
        directory.mkdir()
        try:
            partitions = self._read(topic, isolation, start, to, str(directory))
            return {p: list(rec.decode((directory / str(p)).read_bytes(), p)) for p in partitions}
        finally:
            shutil.rmtree(directory)

    # ---- groups ----
    def commit(self, groups, metadata=""):
        """groups: {group: {topic: {partition: offset}}}; the groups have no members."""
        self.call("commit", metadata=metadata,
                  groups={g: {t: {str(p): o for p, o in by.items()} for t, by in topics.items()}
                          for g, topics in groups.items()})

    def committed(self, *groups):
        """{group: {topic: {partition: offset}}}; a group without offsets has {}."""
        reply = self.call("committed", groups=groups)["groups"]
        return {g: {t: {int(p): o["offset"] for p, o in by.items()} for t, by in topics.items()}
                for g, topics in reply.items()}

    def committed_metadata(self, group):
        """{topic: {partition: metadata}}."""
        reply = self.call("committed", groups=[group])["groups"][group]
        return {t: {int(p): o["metadata"] for p, o in by.items()} for t, by in reply.items()}

    def delete_groups(self, *groups):
        self.call("delete_groups", groups=groups)

    def join(self, group, topics, protocol="classic", commit=False, name="reference"):
        """Joins a group as a member, until leave."""
        self.call("join", group=group, topics=topics, protocol=protocol, commit=commit, client=name)

    def leave(self, group):
        self.call("leave", group=group)

    def next(self, *groups):
        """{group: {topic: {partition: value of the record that it reads next, None at the end}}}."""
        reply = self.call("next", groups=groups, reset="none")["groups"]
        return {g: {t: {int(p): v for p, v in by.items()} for t, by in topics.items()} for g, topics in reply.items()}
