"""Backup, validate, list and restore in Azure Blob and Google Cloud Storage; logins; errors; silence about secrets."""
import json
import os
import pathlib
import subprocess
import sys
import time
import urllib.parse

import pytest

from cloud_stores import Azure, Gcs, Tokens
from kbak import Backup
from worker import ROOT, backup_config, restore_config

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "lab"))
from fault_proxy import FaultProxy  # noqa: E402

BUILD = pathlib.Path(os.environ.get("KB_WORKER") or ROOT / "build/test/kafka-backup-worker").parent
KINDS = {"azure": Azure, "gcs": Gcs}


@pytest.fixture(scope="module", params=KINDS)
def store(request):
    server = KINDS[request.param]()
    yield server
    server.close()


@pytest.fixture(scope="module")
def azure():
    server = Azure()
    yield server
    server.close()


@pytest.fixture(scope="module")
def azure_tls():
    server = Azure(tls=True)
    yield server
    server.close()


@pytest.fixture(scope="module")
def tokens():
    server = Tokens()
    yield server
    server.close()


@pytest.fixture
def silent(worker):
    """Function (secret, ...): no file of the worker's directory but configs, no output, holds any of them."""
    def check(result, *secrets):
        texts = [result.stdout, result.stderr] + [p.read_text(errors="replace") for p in worker.dir.glob("run-*")
                                                  if p.suffix != ".yaml"]
        for secret in secrets:
            assert secret and not any(secret in text for text in texts), f"'{secret[:6]}...' was told"
    return check


def backup_of(kafka, store, bucket, backup_id, topics, **more):
    config = backup_config(kafka, "unused", backup_id, topics, **more)
    config["storage"] = store.block(bucket, "deep/prefix")
    return config


def test_backup_and_restore(kafka, client, store, worker, silent, unique, tmp_path):
    bucket = store.bucket(unique)
    client.create_topic(unique, partitions=3)
    client.generate(unique, 40_000, size=500)
    config = backup_of(kafka, store, bucket, "b", [unique], backup={"segment_max_bytes": 3_000_000})
    result = worker.run_ok("backup", config, "--log-level", "trace")
    silent(result, *store.secrets())
    directory = store.mirror(bucket, tmp_path / "mirror", "deep/prefix")
    backup = Backup(directory, "b").verify()
    assert backup.digests() == {(unique, p): (d.count, d.digest) for p, d in client.digest(unique).items()}
    assert worker.run_ok("backup", config, code=78).stderr.count("\n") < 20
    worker.run_ok("validate", config, "--deep")
    assert [b["state"] for b in worker.run_ok("list", config, "-f", "json").json()] == ["complete"]
    restored = restore_config(kafka, "unused", "b", [unique], restore={"topic_mapping": {unique: f"{unique}-r"}})
    restored["storage"] = config["storage"]
    silent(worker.run_ok("restore", restored), *store.secrets())
    chains = [{p: d.chain for p, d in client.digest(topic).items()} for topic in (unique, f"{unique}-r")]
    assert chains[0] == chains[1]


def test_killed_backup_goes_on(kafka, client, store, worker, unique, tmp_path):
    bucket = store.bucket(unique)
    client.create_topic(unique, partitions=2)
    client.generate(unique, 30_000, size=800)
    config = backup_of(kafka, store, bucket, "b", [unique],
                       backup={"segment_max_bytes": 20_000_000, "compression": "zstd"})
    assert worker.run("backup", config, failpoint="segment.after_complete:kill:1").code == -9
    assert worker.run("backup", config, failpoint="segment.sent_no_reply:error:1").code in (0, 75)
    worker.run_ok("backup", config) if not any(k.endswith("manifest.json") for k in store.keys(bucket)) else None
    backup = Backup(store.mirror(bucket, tmp_path / "mirror", "deep/prefix"), "b").verify()
    assert backup.digests() == {(unique, p): (d.count, d.digest) for p, d in client.digest(unique).items()}


def test_azure_blocks_of_a_killed_run_do_no_harm(azure, kafka, client, worker, unique, tmp_path):
    bucket = azure.bucket(unique)
    client.generate(client.create_topic(unique), 16_000, size=1500)  # three blocks in one segment
    config = backup_of(kafka, azure, bucket, "b", [unique], backup={"compression": "none"})
    assert worker.run("backup", config, failpoint="segment.part_sent:kill:18").code == -9
    query = {"restype": "container", "comp": "list", "include": "uncommittedblobs"}
    assert b"/segment-" in azure.request("GET", f"/{bucket}", query)[2]
    assert not any("/segment-" in key for key in azure.keys(bucket))
    worker.run_ok("backup", config)
    backup = Backup(azure.mirror(bucket, tmp_path / "mirror", "deep/prefix"), "b").verify()
    assert backup.digests() == {(unique, p): (d.count, d.digest) for p, d in client.digest(unique).items()}


FAULTS = {
    "status": [("ANY", "*/6", "status", "503"), ("PUT", 1, "status", "500"), ("POST", 1, "status", "429"),
               ("COMPLETE", 1, "status", "500"), ("GET", 1, "status", "408")],
    "reset": [("ANY", "*/7", "reset", None), ("PART", 1, "reset", None), ("GET", 2, "reset", None)],
    "lost": [("PUT", 1, "lost", None), ("PUT", "*/5", "lost", None), ("POST", 1, "lost", None),
             ("POST", "*/4", "lost", None), ("COMPLETE", 1, "lost", None)],
    "short": [("GET", "*/3", "short", None), ("POST", 2, "short", None)],
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_change_nothing(kafka, client, store, worker, unique, tmp_path, fault):
    bucket = store.bucket(unique)
    client.create_topic(unique, partitions=2)
    client.generate(unique, 12_000, size=1500)  # for Azure more than a block
    place = urllib.parse.urlsplit(store.endpoint)
    with FaultProxy(f"http://{place.netloc}", rules=FAULTS[fault]) as proxy:
        config = backup_of(kafka, store, bucket, "b", [unique], circuit_breaker={"enabled": False},
                           backup={"compression_level": 1})
        config["storage"]["endpoint"] = proxy.url + place.path
        worker.run_ok("backup", config)
        assert any(action for _, _, action in proxy.log)
        worker.run_ok("validate", config, "--deep")
    backup = Backup(store.mirror(bucket, tmp_path / "mirror", "deep/prefix"), "b").verify()
    assert backup.digests() == {(unique, p): (d.count, d.digest) for p, d in client.digest(unique).items()}
    assert backup.leftovers() == []


def test_two_backups_of_one_id_at_once_are_one(kafka, client, store, worker, unique, tmp_path):
    bucket = store.bucket(unique)
    client.generate(client.create_topic(unique), 5000, size=300)
    config = backup_of(kafka, store, bucket, "b", [unique], backup={"rate_limit_records_per_sec": 2500})
    first = worker.start("backup", config)
    second = worker.start("backup", config)
    codes = sorted([first.wait().code, second.wait().code])
    assert codes[0] == 0 and codes[1] in (75, 78), codes
    backup = Backup(store.mirror(bucket, tmp_path / "mirror", "deep/prefix"), "b").verify()
    assert backup.digests() == {(unique, p): (d.count, d.digest) for p, d in client.digest(unique).items()}


def test_lineage_and_prune(kafka, client, store, worker, unique, tmp_path):
    bucket, ids = store.bucket(unique), []
    client.create_topic(unique)
    for number in range(3):
        client.generate(unique, 300, size=100)
        config = backup_of(kafka, store, bucket, None, [unique], lineage="line")
        del config["backup_id"]
        result = worker.run_ok("backup", config, env={"KB_STAMP": f"20250101-0{number}0000"})
        ids.append(result.report["backupId"])
    config = {"lineage": "line", "storage": config["storage"], "metrics": {"enabled": False},
              "retention": {"backups": 1, "grace_secs": 1}}
    assert worker.run_ok("prune", config, "-f", "json").json()["marked"] == ids[1::-1]
    time.sleep(2.1)  # services tell whole seconds
    lease = None
    if store.name == "azure":
        lease = store.lease(bucket, f"deep/prefix/{ids[0]}/manifest.json")
        result = worker.run_ok("prune", config, "-f", "json", "--strict", code=3)
        assert (result.report["reason"], result.report["held"]) == ("RetentionHeld", 1)
        store.release(bucket, f"deep/prefix/{ids[0]}/manifest.json", lease)
    done = worker.run_ok("prune", config, "-f", "json", "--strict").json()
    assert done["held"] == 0 and done["deleted"] == (ids[:1] if lease else ids[1::-1])
    backup = Backup(store.mirror(bucket, tmp_path / "mirror", "deep/prefix"), ids[2]).verify()
    assert backup.digests() == {(unique, p): (d.count, d.digest) for p, d in client.digest(unique).items()}
    assert not any(key.endswith("manifest.json") and ids[2] not in key for key in store.keys(bucket))


@pytest.mark.slow
@pytest.mark.timeout(700)
@pytest.mark.parametrize("program", ["azure", "gcs"])
def test_conformance(program, unique):
    """The suite that every driver passes (worker/tests/conformance_storage.c)."""
    binary = BUILD / f"worker/tests/test_storage_{program}_live"
    if not binary.exists():
        pytest.skip(f"{binary} is not built")
    server = KINDS[program]()
    try:
        bucket = server.bucket(unique)
        if program == "azure":
            variables = {"KB_TEST_AZURE_ENDPOINT": server.endpoint, "KB_TEST_AZURE_ACCOUNT": server.account,
                         "KB_TEST_AZURE_KEY": server.key}
        else:
            variables = {"KB_TEST_GCS": server.location(bucket, "pre/fix"),
                         "GOOGLE_APPLICATION_CREDENTIALS": server.account_file}
        done = subprocess.run([binary], cwd=ROOT, env={**os.environ, **variables}, text=True, timeout=600,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert done.returncode == 0, done.stdout[-5000:]
        assert "PASSED" in done.stdout
    finally:
        server.close()


# ---- locations ----

def test_gcs_location(worker, silent, unique):
    server = Gcs()
    try:
        bucket = server.bucket(unique)
        env = {"GOOGLE_APPLICATION_CREDENTIALS": server.account_file}
        result = worker.run_ok("list", None, "--path", server.location(bucket), "-f", "json", env=env)
        assert result.json() == []
        result = worker.run("validate", None, "--path", server.location(bucket, "p"), "-b", "none", env=env)
        assert result.code == 78 and "Backup 'none' not found" in result.stderr
        silent(result, *server.secrets())
    finally:
        server.close()


def test_azure_location_with_workload_identity(azure_tls, tokens, worker, silent, unique, tmp_path):
    bucket = azure_tls.bucket(unique)
    token, ca = tmp_path / "token", tmp_path / "trust"
    ca.mkdir()
    (ca / "ca.crt").write_text(pathlib.Path(azure_tls.ca_file).read_text())
    token.write_text(tokens.projected())
    env = {"AZURE_FEDERATED_TOKEN_FILE": token, "AZURE_AUTHORITY_HOST": tokens.url, "AZURE_CLIENT_ID": "lab",
           "AZURE_TENANT_ID": tokens.facts["AZURE_TENANT_ID"]}
    location = f"azure://{azure_tls.account}/{bucket}?endpoint={azure_tls.endpoint}"
    result = worker.run_ok("list", {"trust_dir": str(ca)}, "--path", location, "-f", "json", env=env)
    assert result.json() == []
    silent(result, token.read_text())
    token.write_text(tokens.projected(spoil=1))
    result = worker.run("list", {"trust_dir": str(ca)}, "--path", location, env=env)
    assert result.code == 77 and "invalid_client" in result.stderr and "federated credential" in result.stderr
    silent(result, token.read_text())


# ---- logins ----

def azure_logins(azure, bucket, tmp_path):
    """{name: storage block} of every way in by keys, by value and by file."""
    values = {"account_key": azure.key, "sas_token": "?" + azure.sas(bucket),
              "connection_string": azure.connection_string()}
    blocks = {}
    for key, value in values.items():
        plain = {"account_key": None}
        if key == "connection_string":
            plain.update(account_name=None, endpoint=None)
        path = tmp_path / key
        path.write_text(value + "\n")
        blocks[key] = azure.block(bucket, **{**plain, key: value})
        blocks[key + "_file"] = azure.block(bucket, **{**plain, key + "_file": str(path)})
    return blocks, values


def test_azure_keys(azure, worker, silent, unique, tmp_path):
    bucket = azure.bucket(unique)
    blocks, values = azure_logins(azure, bucket, tmp_path)
    for name, block in blocks.items():
        result = worker.run("list", {"storage": block}, "-f", "json", "--log-level", "trace")
        assert (result.code, result.stdout.strip()) == (0, "[]"), f"{name}: {result.stderr}"
        silent(result, azure.key, values["sas_token"].split("sig=")[1])


def test_azure_sas_rotated_in_mid_run(azure, kafka, client, worker, silent, unique, tmp_path):
    bucket = azure.bucket(unique)
    client.generate(client.create_topic(unique), 12_000, size=100)
    path = tmp_path / "sas"
    first = azure.sas(bucket, seconds=4)
    path.write_text(first)
    config = backup_of(kafka, azure, bucket, "b", [unique],
                       backup={"rate_limit_records_per_sec": 1500, "checkpoint_interval_secs": 1,
                               "segment_max_records": 1500})
    config["storage"] = azure.block(bucket, account_key=None, sas_token_file=str(path))
    run = worker.start("backup", config)
    run.wait_for(lambda: any("journal" in key for key in azure.keys(bucket)), what="the first entry of the journal")
    fresh = tmp_path / "fresh"
    fresh.write_text(azure.sas(bucket))
    fresh.rename(path)
    result = run.wait()
    assert result.code == 0 and result.seconds > 4, result.stderr
    silent(result, first.split("sig=")[1], path.read_text().split("sig=")[1])


def test_azure_client_secret(azure_tls, tokens, worker, silent, unique, tmp_path):
    bucket = azure_tls.bucket(unique)
    secret = tokens.facts["AZURE_CLIENT_SECRET"]
    path = tmp_path / "secret"
    path.write_text(secret)
    block = azure_tls.block(bucket, account_key=None, client_secret_file=str(path), client_id="lab",
                            tenant_id=tokens.facts["AZURE_TENANT_ID"], allow_http=None)
    env = {"AZURE_AUTHORITY_HOST": tokens.url}
    worker.run_ok("list", {"storage": block}, env=env)
    path.write_text("canary-of-a-secret")
    result = worker.run("list", {"storage": block}, env=env)
    assert result.code == 77 and "AADSTS7000215" in result.stderr
    silent(result, secret, "canary-of-a-secret")


def test_azure_two_logins_are_refused(azure, worker):
    block = azure.block("any", sas_token="sv=1&sig=canary")
    result = worker.run("list", {"storage": block})
    assert result.code == 78 and "more than one way" in result.stderr and "canary" not in result.stderr


def test_google_account_files(worker, silent, unique, tmp_path):
    server = Gcs()
    try:
        bucket = server.bucket(unique)
        good = json.loads(pathlib.Path(server.account_file).read_text())
        cases = {
            "executable": ({"type": "external_account", "audience": "a", "subject_token_type": "t",
                            "token_url": "https://sts.googleapis.com/v1/token",
                            "credential_source": {"executable": {"command": "/bin/canary"}}}, "never run"),
            "http": ({**good, "token_uri": "http://example.com/token"}, "https://"),
            "broken": ({**good, "private_key": "canary"}, "PEM"),
            "other": ({"type": "authorized_user", "refresh_token": "canary"}, "service_account or external_account"),
        }
        path = tmp_path / "account.json"
        for name, (account, says) in cases.items():
            path.write_text(json.dumps(account))
            result = worker.run("list", {"storage": server.block(bucket, service_account_path=str(path))})
            assert result.code == 77 and says in result.stderr, f"{name}: {result.stderr}"
            silent(result, "canary", *server.secrets())
    finally:
        server.close()


# ---- refusals ----

def test_refusals_name_the_place(store, worker, silent, unique, tmp_path):
    absent = store.block("kb-absent-bucket")
    result = worker.run("list", {"storage": absent})
    assert result.code == 78 and "kb-absent-bucket" in result.stderr and "hint:" in result.stderr
    silent(result, *store.secrets())
    if store.name == "azure":
        wrong = store.block("kb-absent-bucket", account_key="Y2FuYXJ5Y2FuYXJ5")
        result = worker.run("list", {"storage": wrong})
        assert result.code == 77 and "Access denied to Azure container 'kb-absent-bucket'" in result.stderr
        silent(result, "Y2FuYXJ5Y2FuYXJ5")
    plain = {k: v for k, v in absent.items() if k != "allow_http"}
    result = worker.run("list", {"storage": plain})
    assert result.code == 78 and "allow_http" in result.stderr


def test_azure_sas_without_a_permission(azure, kafka, client, worker, unique):
    bucket = azure.bucket(unique)
    client.generate(client.create_topic(unique), 10)
    config = backup_of(kafka, azure, bucket, "b", [unique])
    config["storage"] = azure.block(bucket, account_key=None, sas_token=azure.sas(bucket, "rl"))
    result = worker.run("backup", config)
    assert result.code == 77 and f"Access denied to Azure container '{bucket}'" in result.stderr
    assert azure.keys(bucket) == []
