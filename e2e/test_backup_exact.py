"""A backup holds exactly what a reference consumer reads, in every codec, with and without bookkeeping headers."""
import pytest

from kbak import Backup
from records import record
from test_lab import NASTY
from worker import backup_config


@pytest.mark.tsan
@pytest.mark.parametrize("offset_headers", [True, False], ids=["headers", "bare"])
@pytest.mark.parametrize("codec", ["zstd", "none", "lz4"])
def test_backup_every_codec_is_exact(client, kafka, worker, unique, tmp_path, codec, offset_headers):
    storage = tmp_path / "storage"
    storage.mkdir()
    client.create_topic(unique, partitions=3)
    client.produce(unique, [r._replace(partition=i % 2) for i, r in enumerate(NASTY)])
    client.generate(unique, 30_000, size=500)
    client.produce(unique, [record(value="dropped")], transaction=unique, end="abort")
    worker.run_ok("backup", backup_config(kafka, storage, "b", [unique], backup={
        "compression": codec, "include_offset_headers": offset_headers, "segment_max_bytes": 2_000_000}))
    backup = Backup(storage, "b").verify()
    assert backup.leftovers() == []
    assert backup.digests() == {(unique, p): (d.count, d.digest) for p, d in client.digest(unique).items()}
    assert backup.records(unique, 0) == client.dump(unique)[0]
    worker.run_ok("validate", backup_config(kafka, storage, "b"), "--deep")


def test_backup_headers_beside_an_empty_value_are_kept(client, kafka, worker, unique, tmp_path):
    storage = tmp_path / "storage"
    storage.mkdir()
    client.create_topic(unique)
    client.produce(unique, [record(None, "", [("a", "1")]), record(None, None, [("b", "2")]), record("", "")])
    worker.run_ok("backup", backup_config(kafka, storage, "b", [unique]))
    assert Backup(storage, "b").records(unique, 0) == client.dump(unique)[0]
