"""validate, describe and list against a real backup that was damaged in every way of the fault list.

One backup is made of a real topic; each test damages a copy of its directory.
"""
import hashlib
import json
import os
import pathlib
import re
import shutil
import struct
import zlib

import pytest

import kbak
from worker import Worker, backup_config

ID = "valid"


@pytest.fixture(scope="module")
def made(kafka, client, tmp_path_factory):
    """A directory with two backups of one topic, `valid` and `later`, of incompressible records in small segments,
    and an older state of `valid` beside it: (directory, older directory).
    """
    root = tmp_path_factory.mktemp("made")
    topic = client.create_topic("validate.data", partitions=2)
    run = Worker(tmp_path_factory.mktemp("runs"))
    backup = {"segment_max_records": 20}
    for directory, name in (("older", ID), ("storage", ID), ("storage", "later")):
        client.generate(topic, 400, size=150, kind="random", time=1_700_000_000_000)
        run.run_ok("backup", backup_config(kafka, root / directory, name, [topic], backup=backup))
    return root / "storage", root / "older"


@pytest.fixture
def storage(made, tmp_path):
    shutil.copytree(made[0], tmp_path / "storage")
    return tmp_path / "storage"


@pytest.fixture
def validate(worker, storage):
    """Runs validate on the copy and compares exit code and verdict: validate("--deep", code=65)."""
    def run(*args, code=0, backup=ID):
        before = fingerprint(storage)
        result = worker.run("validate", None, "--path", storage, "-b", backup, "-f", "json", *args)
        assert result.code == code, f"{result.code}\n{result.stdout}\n{result.stderr}"
        assert fingerprint(storage) == before, "validate changed something"
        assert result.report["exitCode"] == code
        found = result.json()
        assert found["valid"] == (code in (0, 3)) and found["problemCount"] == len(found["problems"])
        if code == 65:
            assert result.report["reason"] == "BackupCorrupt"
            assert found["problems"][0]["key"] in result.report["message"]
        return found
    return run


def fingerprint(directory):
    return {str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(directory.rglob("*")) if path.is_file()}


def segments(storage, backup=ID, partition=None):
    """Keys of the backup, in its order."""
    manifest = json.loads((storage / backup / "manifest.json").read_text())
    return [s["key"] for t in manifest["topics"] for p in t["partitions"] for s in p["segments"]
            if partition in (None, p["partition_id"])]


def of_equal_size(storage, some, others):
    """A key of each list, of objects that are equally long, so that only their content tells."""
    for a in some:
        for b in others:
            if a != b and (storage / a).stat().st_size == (storage / b).stat().st_size:
                return a, b
    raise AssertionError("no two segments are equally long")


def flip(path, at, bit=0):
    data = bytearray(path.read_bytes())
    data[at] ^= 1 << bit
    path.write_bytes(data)


def expect(found, *problems):
    """Exactly these problems: (key, reason)."""
    assert [(p["key"], p["reason"]) for p in found["problems"]] == list(problems)


def make_foreign(storage, backup=ID):
    """As the existing tool leaves it: a manifest and segments."""
    (storage / backup / "backup.json").unlink()
    shutil.rmtree(storage / backup / "journal")


# ---- what is sound ----

@pytest.mark.parametrize("deep", [False, True])
def test_sound_backup_is_valid(validate, storage, deep):
    found = validate(*["--deep"] * deep)
    record = json.loads((storage / ID / "backup.json").read_text())
    assert found["state"] == "complete" and found["deep"] == deep and found["problems"] == []
    assert found["records"] == record["totals"]["records"] == 800
    assert found["segments"] == record["totals"]["segments"] == len(segments(storage))
    assert found["bytes"] == record["totals"]["storedBytes"]
    assert found["gaps"] == [] and found["orphans"] == 0


def test_text_says_valid_and_only_that_is_on_stdout(worker, storage):
    result = worker.run_ok("validate", None, "--path", storage, "-b", ID, "-v", "-v", "--deep")
    assert result.stdout.startswith(f"backup    {ID}: valid\nstate     complete\n")
    assert "level=" not in result.stdout and "level=" in result.stderr


def test_foreign_backup_is_valid_by_its_manifest(validate, storage):
    make_foreign(storage)
    assert validate("--deep")["state"] == "foreign"


def test_orphan_is_counted_and_no_problem(validate, storage):
    shutil.copy(storage / segments(storage)[0], storage / ID / "topics/validate.data/partition=0/segment-x.bin.zst")
    assert validate("--deep")["orphans"] == 1


def test_skipped_topic_is_exit_3(kafka, client, worker, storage, validate, unique):
    client.create_topic(unique)
    config = backup_config(kafka, storage, "skips", [unique, "not.there"],
                           backup={"on_missing_topic": "warn"}, findings_exit_code=0)
    worker.run_ok("backup", config)
    found = validate(code=3, backup="skips")
    assert [t["name"] for t in found["skippedTopics"]] == ["not.there"]
    config["findings_exit_code"] = 0
    assert worker.run("validate", config).code == 3, "findings_exit_code changes backup and restore only"


def test_gap_is_exit_3(kafka, client, worker, storage, validate, unique):
    client.generate(client.create_topic(unique, segment_bytes=1 << 20), 30_000, size=300)
    config = backup_config(kafka, storage, "gap", [unique], backup={"rate_limit_records_per_sec": 5000},
                           limits={"memory_bytes": 64 << 20})
    run = worker.start("backup", config)
    run.wait_for(lambda: (run.report() or {}).get("state") == "Running", what="Running")
    client.delete_records(unique, {0: 29_000})
    assert run.wait().code == 3
    gap, = validate("--deep", code=3, backup="gap")["gaps"]
    assert gap["topic"] == unique and gap["partition"] == 0 and gap["end"] == 29_000
    assert worker.run("list", None, "--path", storage, "-f", "json").json()[0]["gaps"] == 1


# ---- ST-17: a damaged segment ----

def test_one_flipped_bit_is_a_mismatch(validate, storage):
    for number, key in enumerate(segments(storage)[:6]):
        size = (storage / key).stat().st_size
        at = [0, 9, 40, size // 2, size - 60, size - 1][number]
        flip(storage / key, at, number)
        expect(validate("--deep", code=65), (key, "mismatch"))
        flip(storage / key, at, number)
    validate("--deep")


def test_shallow_check_does_not_read_segments(validate, storage):
    flip(storage / segments(storage)[0], 100)
    validate()


@pytest.mark.parametrize("pick", ["same partition", "other partition", "other backup"])
def test_two_swapped_segments_are_foreign(validate, storage, pick):
    others = {"same partition": segments(storage, partition=0), "other partition": segments(storage, partition=1),
              "other backup": segments(storage, "later")}[pick]
    a, b = of_equal_size(storage, segments(storage, partition=0), others)
    first, second = (storage / a).read_bytes(), (storage / b).read_bytes()
    (storage / a).write_bytes(second)
    (storage / b).write_bytes(first)
    validate()
    mine = sorted((k for k in (a, b) if k.startswith(f"{ID}/")), key=segments(storage).index)
    expect(validate("--deep", code=65), *[(key, "foreign") for key in mine])


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("size", ["minus 1", "half", "empty", "plus 1"])
def test_other_length_is_size(validate, storage, size, deep):
    key = segments(storage)[3]
    data = (storage / key).read_bytes()
    (storage / key).write_bytes({"minus 1": data[:-1], "half": data[:len(data) // 2], "empty": b"",
                                 "plus 1": data + b"\0"}[size])
    expect(validate(*["--deep"] * deep, code=65), (key, "size"))


@pytest.mark.parametrize("instead", ["nothing", "symlink", "directory", "fifo"])
def test_object_that_is_no_file_is_missing(validate, storage, made, instead):
    key = segments(storage)[3]
    path = storage / key
    path.unlink()
    if instead == "symlink":
        path.symlink_to(made[0] / key)
    elif instead == "directory":
        path.mkdir()
    elif instead == "fifo":
        os.mkfifo(path)
    expect(validate("--deep", code=65), (key, "missing"))


def test_all_problems_are_listed_in_order(validate, storage):
    keys = segments(storage)
    flip(storage / keys[1], 77)
    (storage / keys[4]).unlink()
    flip(storage / keys[5], 78)
    (storage / keys[7]).write_bytes(b"x")
    expect(validate("--deep", code=65), (keys[1], "mismatch"), (keys[4], "missing"), (keys[5], "mismatch"),
           (keys[7], "size"))


def test_samples_together_find_what_one_deep_check_finds(validate, storage):
    key = segments(storage)[5]
    flip(storage / key, 99)
    codes = []
    for n in (1, 2, 3):
        try:
            expect(validate("--sample", f"{n}/3", code=65), (key, "mismatch"))
            codes.append(65)
        except AssertionError:
            validate("--sample", f"{n}/3")
            codes.append(0)
    assert sorted(codes) == [0, 0, 65]


def test_text_names_key_and_reason(worker, storage):
    keys = segments(storage)
    (storage / keys[2]).unlink()
    result = worker.run_ok("validate", None, "--path", storage, "-b", ID, code=65)
    assert f"backup    {ID}: NOT VALID\n" in result.stdout
    assert f"problem   {keys[2]}: missing: is not in the store\n" in result.stdout
    assert "reason=BackupCorrupt" in result.stderr and keys[2] in result.stderr


# ---- HX-10, HX-20: right sums, wrong content ----

def change_header(path, at, form, delta):
    """Changes a number of the segment's header and makes the CRC right again."""
    data = bytearray(path.read_bytes())
    value, = struct.unpack_from(form, data, at)
    struct.pack_into(form, data, at, value + delta)
    struct.pack_into("<I", data, len(data) - 8, zlib.crc32(data[:-8]))
    path.write_bytes(data)


@pytest.mark.parametrize("foreign", [False, True])
@pytest.mark.parametrize("at, form, delta", [(8, "<Q", 1), (8, "<Q", -1), (16, "<q", 1), (24, "<q", 1), (4, "<B", 1)],
                         ids=["count+1", "count-1", "first offset", "last offset", "version"])
def test_header_that_lies_is_a_mismatch(validate, storage, at, form, delta, foreign):
    key = segments(storage)[2]
    if foreign:
        make_foreign(storage)
    change_header(storage / key, at, form, delta)
    found = validate("--deep", code=65)
    expect(found, (key, "mismatch"))
    assert at != 4 or "needs a newer reader" in found["problems"][0]["detail"]


def test_segment_encrypted_by_somebody_is_a_mismatch(validate, storage):
    key = segments(storage)[2]
    (storage / key).write_bytes(os.urandom((storage / key).stat().st_size))
    expect(validate("--deep", code=65), (key, "mismatch"))


def test_encryption_is_refused_by_name(worker, kafka, storage):
    config = backup_config(kafka, storage, ID, ["x"])
    config["storage"]["encryption"] = {"enabled": True}
    result = worker.run_ok("validate", config, code=78)
    assert "storage.encryption" in result.stderr


# ---- ST-18: a damaged index ----

MANIFEST, RECORD = f"{ID}/manifest.json", f"{ID}/backup.json"


@pytest.mark.parametrize("key", [MANIFEST, RECORD])
@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "garbage", "duplicate"])
def test_damaged_index_is_named_and_the_rest_is_checked(validate, worker, storage, key, damage):
    path = storage / key
    data = path.read_bytes()
    path.write_bytes({"flip": data[:200] + bytes([data[200] ^ 1]) + data[201:], "cut": data[:-1], "empty": b"",
                      "garbage": os.urandom(500), "duplicate": b'{\n  "topics": [],' + data[1:]}[damage])
    missing = segments(storage, "later")[0].replace("later/", "")  # the two begin with the same segment
    (storage / ID / missing).unlink()
    found = validate(code=65)
    expect(found, (key, "mismatch"), (f"{ID}/{missing}", "missing"))
    assert found["state"] == "damaged"
    result = worker.run_ok("describe", None, "--path", storage, "-b", ID, code=65)
    assert key in result.stderr and result.stdout == ""
    other = "--from-backup-json" if key == MANIFEST else "--from-manifest"
    worker.run_ok("describe", None, "--path", storage, "-b", ID, other)


def test_both_index_objects_damaged_are_two_problems(validate, storage):
    flip(storage / MANIFEST, 30)
    (storage / RECORD).write_bytes(b"{")
    found = validate("--deep", code=65)
    expect(found, (RECORD, "mismatch"), (MANIFEST, "mismatch"))
    assert found["segments"] == 0 and found["topics"] == 0


def test_older_manifest_put_back_is_refused(validate, storage, made):
    shutil.copy(made[1] / MANIFEST, storage / MANIFEST)
    expect(validate(code=65), (MANIFEST, "mismatch"))


@pytest.mark.parametrize("foreign", [False, True])
def test_manifest_of_another_backup_is_refused(validate, storage, foreign):
    if foreign:
        make_foreign(storage)
    shutil.copy(storage / "later/manifest.json", storage / MANIFEST)
    found = validate(code=65)
    expect(found, (MANIFEST, "mismatch"))


def test_no_backup_json_beside_a_journal_is_missing(validate, storage):
    (storage / RECORD).unlink()
    expect(validate("--deep", code=65), (RECORD, "missing"))


def test_no_manifest_is_not_found(worker, storage):
    (storage / MANIFEST).unlink()
    result = worker.run_ok("validate", None, "--path", storage, "-b", ID, code=78)
    assert f"Backup '{ID}' not found" in result.stderr and result.stdout == ""


def rehash(data):
    """backup.json with its self-hash made right again."""
    data = re.sub(rb'"sha256": "[0-9a-f]{64}"\n}$', b'"sha256": "' + b"0" * 64 + b'"\n}', data)
    return data.replace(b'"' + b"0" * 64 + b'"\n}', b'"' + hashlib.sha256(data).hexdigest().encode() + b'"\n}')


def test_newer_format_needs_a_newer_reader(validate, storage):
    data = (storage / RECORD).read_bytes()
    assert rehash(data) == data
    (storage / RECORD).write_bytes(rehash(data.replace(b'"minReader": 1', b'"minReader": 2')))
    found = validate(code=65)
    expect(found, (RECORD, "mismatch"))
    assert "needs a newer reader" in found["problems"][0]["detail"]


@pytest.mark.parametrize("old, new", [
    (b'"records": 800', b'"records": 801'), (b'"from": 0', b'"from": 1'), (b'"cut": 400', b'"cut": 401'),
    (b'"partitionCount": 2', b'"partitionCount": 3')])
def test_index_that_contradicts_itself_is_refused(validate, storage, old, new):
    data = (storage / RECORD).read_bytes()
    assert old in data
    (storage / RECORD).write_bytes(rehash(data.replace(old, new, 1)))
    found = validate(code=65)
    assert {p["key"] for p in found["problems"]} <= {RECORD, MANIFEST}


@pytest.mark.parametrize("change, word", [
    (lambda m, s: m.update(backup_id="x"), "backup"), (lambda m, s: s.update(key="../" + s["key"]), "key"),
    (lambda m, s: s.update(key="/etc/passwd"), "key"), (lambda m, s: s.update(key="other/" + s["key"]), "key"),
    (lambda m, s: s.update(record_count=-1), "record_count"), (lambda m, s: s.update(end_offset=-5), "end_offset"),
    (lambda m, s: s.update(record_count=s["record_count"] + 1), "record")])
def test_foreign_manifest_that_lies_is_refused(validate, storage, change, word):
    make_foreign(storage)
    manifest = json.loads((storage / MANIFEST).read_text())
    change(manifest, manifest["topics"][0]["partitions"][0]["segments"][0])
    (storage / MANIFEST).write_text(json.dumps(manifest, indent=2))
    found = validate(code=65)
    expect(found, (MANIFEST, "mismatch"))
    assert word in found["problems"][0]["detail"]


# ---- describe and list ----

def test_describe_json_is_the_stored_index(worker, storage):
    result = worker.run_ok("describe", None, "--path", storage, "-b", ID, "-f", "json", "-v", "-v")
    assert result.stdout.encode() == (storage / RECORD).read_bytes() + b"\n"
    make_foreign(storage)
    result = worker.run_ok("describe", None, "--path", storage, "-b", ID, "-f", "json")
    assert result.stdout.encode() == (storage / MANIFEST).read_bytes() + b"\n"


def test_describe_text_shows_topics_with_their_digest(worker, storage):
    text = worker.run_ok("describe", None, "--path", storage, "-b", ID).stdout
    digests = kbak.Backup(storage, ID).verify().digests()
    total = sum(int(digest, 16) for _, digest in digests.values()) % 2**256
    row, = re.findall(r"^validate\.data .*$", text, re.M)
    assert row.split()[:4] == ["validate.data", "ok", "2", "800"] and row.split()[-1] == f"{total:064x}"
    assert re.search(rf"^Backup +{ID}$", text, re.M) and re.search(r"^State +complete$", text, re.M)


def test_list_shows_every_state_newest_first(worker, kafka, client, storage, unique):
    client.generate(client.create_topic(unique), 20_000, size=300)
    run = worker.start("backup", backup_config(kafka, storage, "broken-off", [unique],
                                               backup={"rate_limit_records_per_sec": 2000}))
    run.wait_for(lambda: (storage / "broken-off/journal/00000000.json").exists(), what="the journal")
    run.kill()
    shutil.copytree(storage / ID, storage / "of-another-id")
    (storage / "of-another-id/manifest.json").write_text("{")
    (storage / "nothing").mkdir()
    (storage / "file.txt").write_text("x")
    result = worker.run_ok("list", None, "--path", storage, "-f", "json")
    rows = result.json()
    states = {row["backupId"]: row["state"] for row in rows}
    assert states[ID] == states["later"] == "complete" and states["broken-off"] == "open"
    assert states["of-another-id"] == "damaged" and "nothing" not in states and "file.txt" not in states
    created = [row["createdAt"] for row in rows if row["createdAt"]]
    assert created == sorted(created, reverse=True) and rows[0]["backupId"] == "broken-off"
    record = json.loads((storage / RECORD).read_text())
    row, = [row for row in rows if row["backupId"] == ID]
    assert {k: row[k] for k in ("createdAt", "snapshotTime", "completedAt", "base")} == \
        {k: record[k] for k in ("createdAt", "snapshotTime", "completedAt", "base")}
    assert row["records"] == 800 and row["ownBytes"] == row["storedBytes"] == record["totals"]["storedBytes"]


def test_list_text_has_aligned_columns(worker, storage):
    lines = worker.run_ok("list", None, "--path", storage).stdout.splitlines()
    assert lines[0].split("  ")[0] == "BACKUP ID" and len({len(line) for line in lines}) == 1 and len(lines) == 3
    column = lines[0].index("STATE")
    assert all(line[column:].startswith("complete") for line in lines[1:])


def test_list_of_an_empty_storage_prints_nothing(worker, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    assert worker.run_ok("list", None, "--path", empty).stdout == ""
    assert worker.run_ok("list", None, "--path", empty, "-f", "json").stdout == "[]\n"


@pytest.mark.parametrize("command", ["list", "validate", "describe"])
def test_missing_directory_is_named(worker, tmp_path, command):
    absent = tmp_path / "absent"
    result = worker.run_ok(command, None, "--path", absent, *([] if command == "list" else ["-b", ID]), code=78)
    assert str(absent) in result.stderr and result.stdout == "" and not pathlib.Path(absent).exists()


@pytest.mark.parametrize("command", ["validate", "describe"])
def test_absent_backup_is_named(worker, storage, command):
    result = worker.run_ok(command, None, "--path", storage, "-b", "nope", code=78)
    assert "Backup 'nope' not found" in result.stderr
