"""The lab itself: what the other tests stand on."""
import pytest

from kafka import Cluster
from records import chain, digest, record
from refclient import RefClient, RefClientError

NASTY = [
    record(b"k", b"v", timestamp=1_700_000_000_000),
    record(None, None, timestamp=1_700_000_000_001),
    record(b"", b"", [("", None), ("", b""), ("a", b"1"), ("a", b"2"), ("a", None)], timestamp=5),
    record(b"k", b"x" * 100_000, [(f"h{i}", b"v") for i in range(5000)], timestamp=4_102_444_800_000),
    record(b"big", bytes(10 << 20), timestamp=1),
]


def without_offsets(dump):
    return [r._replace(offset=-1) for r in dump]


@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_produce_nasty_records_come_back(client, unique, codec):
    client.create_topic(unique)
    assert client.produce(unique, NASTY, compression_type=codec) == [0, 1, 2, 3, 4]
    assert without_offsets(client.dump(unique)[0]) == NASTY


def test_digest_of_both_languages_agrees(client, unique):
    client.create_topic(unique, partitions=3)
    client.produce(unique, [r._replace(partition=i % 3) for i, r in enumerate(NASTY)])
    dump, digests = client.dump(unique), client.digest(unique)
    for partition, records in dump.items():
        d = digests[partition]
        assert (d.digest, d.chain) == (digest(records), chain(records))
        assert (d.count, d.first, d.last) == (len(records), records[0].offset, records[-1].offset)


def test_transactions_are_seen_as_committed(client, unique):
    client.create_topic(unique)
    client.produce(unique, [record(value="kept")], transaction=unique)
    client.produce(unique, [record(value="dropped")], transaction=unique, end="abort")
    client.produce(unique, [record(value="waits")], transaction=unique, end="open")
    assert [r.value for r in client.dump(unique)[0]] == [b"kept"]
    assert [r.value for r in client.dump(unique, "read_uncommitted")[0]] == [b"kept", b"dropped", b"waits"]
    assert client.offsets(unique) == {"start": {0: 0}, "end": {0: 5}, "stable": {0: 4}}
    client.end_transaction(unique)
    assert [(r.offset, r.value) for r in client.dump(unique)[0]] == [(0, b"kept"), (4, b"waits")]


def test_generate_is_a_function_of_its_seed(client, unique):
    topics = [client.create_topic(f"{unique}-{i}", partitions=2) for i in range(2)]
    for topic in topics:
        client.generate(topic, 10_000, size=200, seed=7, time=1_700_000_000_000)
    one, two = (client.digest(topic) for topic in topics)
    assert one == two
    assert one[0].count == one[1].count == 5000


def test_topic_life(client, unique):
    client.create_topic(unique, partitions=2, cleanup_policy="compact")
    described = client.describe(unique)
    assert (described["partitions"], described["configs"]) == (2, {"cleanup.policy": "compact"})
    client.alter_configs(unique, cleanup_policy=None, retention_ms=1000000)
    assert client.describe(unique)["configs"] == {"retention.ms": "1000000"}
    client.create_partitions(unique, 3)
    client.produce(unique, [record(value=str(i), partition=2) for i in range(5)])
    client.delete_records(unique, {2: 3})
    assert client.offsets(unique)["start"] == {0: 0, 1: 0, 2: 3}
    client.delete_topic(unique)
    with pytest.raises(RefClientError, match="UnknownTopicOrPartition"):
        client.describe(unique)


def test_three_brokers_survive_a_kill(kafka3, client3, unique):
    client3.create_topic(unique, replication=3, min_insync_replicas=2)
    kafka3.kill(1)
    client3.produce(unique, NASTY[:3])
    kafka3.start(1)
    assert without_offsets(client3.dump(unique)[0]) == NASTY[:3]


@pytest.mark.parametrize("options", [dict(sasl="plain"), dict(sasl="scram-sha-512", tls=True), dict(mtls=True)],
                         ids=["plain", "scram-tls", "mtls"])
def test_secured_listener_lets_its_client_in(options):
    with Cluster(**options) as cluster, RefClient(cluster.secure, cluster.client_properties) as c:
        c.create_topic("t")
        c.produce("t", NASTY[:1])
        assert without_offsets(c.dump("t")[0]) == NASTY[:1]
