"""The worker with S3 as its store: two servers of different make, bad networks, locks, wrong settings.

KB_STORE_ROUNDS: rounds of kills for each server (1; more in the release gate). The release gate also has every fault on
more requests.
"""
import os
import pathlib
import random
import subprocess
import sys
import time

import pytest

import fidelity
import stores
from worker import BINARY, backup_config, restore_config

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "lab"))
from fault_proxy import FaultProxy  # noqa: E402

GATE = bool(os.environ.get("KB_RELEASE_GATE"))
ROUNDS = int(os.environ.get("KB_STORE_ROUNDS") or (30 if GATE else 1))
TOPIC = "stored"


@pytest.fixture(scope="module")
def servers():
    """Function (name, tls=False) -> a server, started once."""
    started = {}

    def get(name, tls=False):
        if (name, tls) not in started:
            started[name, tls] = stores.S3(name, tls)
        return started[name, tls]
    yield get
    for server in started.values():
        server.close()


@pytest.fixture(scope="module", params=["s3", "s3b"])
def server(request, servers):
    return servers(request.param)


@pytest.fixture(scope="module")
def minio(servers):
    return servers("s3")


@pytest.fixture(scope="module")
def source(kafka, client):
    """A topic with more bytes than a part, and what is in it."""
    client.generate(client.create_topic(TOPIC, partitions=2), 8000, size=1500)
    return fidelity.source_digests(client, [TOPIC])


def config_of(kafka, block, backup_id, **more):
    config = backup_config(kafka, "", backup_id, [TOPIC], **more)
    config["storage"] = {"part_size_bytes": 5 << 20, **block}
    return config


def check_equal(server, bucket, prefix, backup_id, wanted, directory):
    server.mirror(bucket, directory, prefix)
    backup = fidelity.check_equal(directory, backup_id, wanted)
    assert backup.leftovers() == []
    assert server.uploads(bucket) == []
    return backup


@pytest.mark.parametrize("name, more", [("s3", {}), ("s3b", {}), *([("s3", {"KB_TEST_S3_V2": "1"})] if GATE else [])])
def test_conformance(servers, name, more, unique):
    server = servers(name)
    bucket = server.bucket(unique)
    program = pathlib.Path(BINARY).parent / "worker/tests/test_storage_s3_live"
    done = subprocess.run([program], env={**os.environ, **server.env(), **more,
                                          "KB_TEST_S3": server.location(bucket, "c")},
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0 and "[  PASSED  ]" in done.stdout, done.stdout


def test_backup_and_restore_are_exact(kafka, client, server, worker, unique, source, tmp_path):
    bucket = server.bucket(unique)
    config = config_of(kafka, server.block(bucket, "a b/ü+%"), "exact")
    result = worker.run_ok("backup", config, "-f", "json")
    assert result.report["conditionalPut"] is True
    check_equal(server, bucket, "a b/%C3%BC+%25/", "exact", source, tmp_path / "mirror")
    where = ["--path", server.location(bucket, "a b/ü+%")]
    for command in (["list"], ["describe", "-b", "exact"], ["validate", "--deep", "-b", "exact"]):
        done = worker.run_ok(command[0], None, *where, *command[1:], env=server.env())
        assert "exact" in done.stdout and stores.SECRET not in done.stdout + done.stderr
    target = f"{unique}-target"
    restore = restore_config(kafka, "", "exact", restore={"topic_mapping": {TOPIC: target}})
    restore["storage"] = config["storage"]
    worker.run_ok("restore", restore)
    assert fidelity.chains(client, target) == fidelity.chains(client, TOPIC)


def test_backup_killed_at_random_moments_is_exact(kafka, server, worker, unique, source, tmp_path):
    for number in range(ROUNDS):
        seed = random.randrange(1_000_000)
        rng = random.Random(seed)
        bucket = server.bucket(f"{unique}-{number}")
        config = config_of(kafka, server.block(bucket, "k"), "killed", backup={
            "checkpoint_interval_secs": 1, "rate_limit_records_per_sec": rng.choice([12_000, 10_000_000]),
            "segment_max_bytes": rng.choice([1 << 18, 1 << 20, 64 << 20])})
        for _ in range(4):
            run = worker.start("backup", config, env={"KB_JOB_UID": "one-job", "KB_JOB_NAME": "one-job",
                                                      "KB_POD_UID": str(rng.random())})
            time.sleep(rng.random() ** 1.5 * 2.0)
            if not run.is_running():
                break
            run.kill()
        result = worker.run("backup", config, env={"KB_JOB_UID": "one-job", "KB_JOB_NAME": "one-job"})
        assert result.code == 0 or "BackupExists" in result.stderr, (seed, result.stderr)
        server.mirror(bucket, tmp_path / f"m{number}", "k/")
        fidelity.check_equal(tmp_path / f"m{number}", "killed", source)


FAULTS = {
    "503": [("ANY", "*/6", "status", "503"), ("PUT", 1, "status", "500"), ("COMPLETE", 1, "status", "503"),
            ("LIST", 1, "status", "429")],
    "reset": [("ANY", "*/7", "reset", None), ("PART", 1, "reset", None), ("HEAD", 1, "reset", None)],
    "lost": [("PUT", 1, "lost", None), ("PUT", "*/4", "lost", None), ("COMPLETE", 1, "lost", None),
             ("POST", 1, "lost", None), ("DELETE", 1, "lost", None)],
    "short": [("GET", "*/3", "short", None), ("LIST", 1, "short", None)],
    "200": [("COMPLETE", 1, "error200", None), ("COMPLETE", 2, "empty200", None), ("POST", 1, "error200", None),
            ("LIST", 1, "empty200", None), ("LIST", 2, "error200", None)],
    "range": [("GET", "*/3", "range", None), ("GET", "*/5", "whole", None)],
    "stall": [("PART", 1, "stall", None), ("GET", 2, "stall", None)],
}


@pytest.mark.parametrize("fault", list(FAULTS))
def test_faults_of_every_kind_change_nothing(kafka, client, minio, worker, unique, source, fault, tmp_path):
    bucket = minio.bucket(unique)
    with FaultProxy(minio.endpoint, rules=FAULTS[fault], resign=None) as proxy:
        if fault == "range":
            proxy.sign_anew = lambda method, target, headers, body: stores.resign(method, target, headers, body)
        block = minio.block(bucket, "f", endpoint=proxy.url, request_timeout_secs=1 if fault == "stall" else 60)
        config = config_of(kafka, block, "fault", circuit_breaker={"enabled": False})
        worker.run_ok("backup", config)
        hit = {action for _, _, action in proxy.log if action}
        minio.mirror(bucket, tmp_path / "mirror", "f/")
        fidelity.check_equal(tmp_path / "mirror", "fault", source)
        restore = restore_config(kafka, "", "fault", restore={"topic_mapping": {TOPIC: f"{unique}-t"}},
                                 circuit_breaker={"enabled": False})
        restore["storage"] = block
        worker.run_ok("restore", restore)
        assert fidelity.chains(client, f"{unique}-t") == fidelity.chains(client, TOPIC)
        assert hit


def test_a_store_that_is_down_ends_the_run_as_temporary(kafka, worker, minio, source):
    block = minio.block("any-bucket", endpoint="http://127.0.0.1:9")
    config = config_of(kafka, block, "down", circuit_breaker={"enabled": False})
    run = worker.start("backup", config)
    time.sleep(2)
    run.signal()
    assert run.wait(60).code == 143


def test_an_outage_behind_the_breaker_is_waited_out(kafka, minio, worker, unique, source, tmp_path):
    bucket = minio.bucket(unique)
    with FaultProxy(minio.endpoint) as proxy:
        config = config_of(kafka, minio.block(bucket, endpoint=proxy.url), "outage",
                           backup={"rate_limit_records_per_sec": 7000, "segment_max_bytes": 1 << 20},
                           circuit_breaker={"failure_threshold": 2, "reset_timeout_secs": 1})
        run = worker.start("backup", config)
        run.wait_for(lambda: (run.report() or {}).get("state") == "Running", what="Running")
        proxy.set_rules([("ANY", "*/1", "status", "503")])
        time.sleep(4)
        proxy.set_rules([])
        result = run.wait()
        assert result.code == 0 and "requests wait" in result.stderr, result.stderr
    minio.mirror(bucket, tmp_path / "mirror")
    fidelity.check_equal(tmp_path / "mirror", "outage", source)


def test_a_locked_bucket_is_enough_for_a_backup(kafka, minio, worker, unique, source, tmp_path):
    bucket = minio.bucket(unique, lock=True)
    worker.run_ok("backup", config_of(kafka, minio.block(bucket), "locked"))
    minio.mirror(bucket, tmp_path / "mirror")
    fidelity.check_equal(tmp_path / "mirror", "locked", source)
    versions = minio.client.list_object_versions(Bucket=bucket)
    assert "DeleteMarkers" not in versions
    assert len({v["Key"] for v in versions["Versions"]}) == len(versions["Versions"])  # nothing written twice


def test_an_old_store_is_written_by_signature_version_2(kafka, minio, worker, unique, source, tmp_path):
    """Whole segments, nothing relied on that such a store lacks, and the signature of long ago."""
    bucket = minio.bucket(unique)
    with FaultProxy(minio.endpoint, rules=[("PUT", 3, "lost", None), ("GET", 3, "short", None)]) as proxy:
        block = minio.block(bucket, endpoint=proxy.url, signature_version="v2", segment_buffer_bytes=5 << 20)
        result = worker.run_ok("backup", config_of(kafka, block, "old"))
        assert result.report["conditionalPut"] is False
        worker.run_ok("validate", {"backup_id": "old", "storage": block}, "--deep")
        wrong = worker.run("list", {"storage": {**block, "secret_key": "canary-wrong"}})
        assert wrong.code == 77 and "canary" not in wrong.stderr
        assert not [target for _, target, _ in proxy.log if "uploadId" in target or "list-type" in target]
    minio.mirror(bucket, tmp_path / "mirror")
    fidelity.check_equal(tmp_path / "mirror", "old", source)


def test_a_store_that_ignores_conditions_is_found_out(kafka, minio, worker, unique, source, tmp_path):
    bucket = minio.bucket(unique)
    with FaultProxy(minio.endpoint, resign=stores.resign) as proxy:
        block = minio.block(bucket, endpoint=proxy.url)
        config = config_of(kafka, block, "weak")
        refused = worker.run("backup", config_of(kafka, {**block, "require_conditional_put": True}, "strict"))
        assert refused.code == 78 and "require_conditional_put" in refused.stderr
        result = worker.run_ok("backup", config)
        assert result.report["conditionalPut"] is False
    minio.mirror(bucket, tmp_path / "mirror")
    fidelity.check_equal(tmp_path / "mirror", "weak", source)
    names = [key for key in minio.keys(bucket) if "/topics/" in key and key.startswith("weak/")]
    assert names and all(len(pathlib.Path(key).name.split(".")[0].split("-")) == 3 for key in names)


# ---- wrong settings: each names the thing and the remedy in one line ----

WRONG = {
    "secret": ({"secret_key": "canary-wrong"}, 77, ["Access denied to S3 bucket", "secret key does not belong"]),
    "key": ({"access_key": "nobody"}, 77, ["Access denied to S3 bucket", "not known there"]),
    "token": ({"session_token": "canary-token"}, 77, ["Access denied to S3 bucket"]),
    "region": ({"region": "eu-west-1"}, 78, ["storage.region: us-east-1"]),
    "bucket": ({"bucket": "no-such-bucket"}, 78, ["no-such-bucket", "NoSuchBucket", "storage.bucket"]),
    "http": ({"allow_http": False}, 78, ["allow_http"]),
    "prefix": ({"prefix": "/x"}, 78, ["prefix"]),
}


@pytest.mark.parametrize("wrong", list(WRONG))
def test_a_wrong_setting_is_named(kafka, server, worker, unique, source, wrong):
    more, code, words = WRONG[wrong]
    if wrong == "token" and server.name == "s3b":
        pytest.skip("that server has no session tokens")
    bucket = server.bucket(unique)
    result = worker.run("backup", config_of(kafka, {**server.block(bucket), **more}, "wrong"))
    assert result.code == code, result.stderr
    for word in words:
        assert word in result.stderr
    assert not [s for s in ("canary", stores.SECRET) if s in result.stderr + result.stdout + str(result.report)]


def test_a_denied_verb_is_named(kafka, minio, worker, unique, source):
    """A bucket whose policy forbids writing."""
    bucket = minio.bucket(unique)
    with FaultProxy(minio.endpoint, rules=[("PUT", "*/1", "status", "403")]) as proxy:
        result = worker.run("backup", config_of(kafka, minio.block(bucket, endpoint=proxy.url), "denied"))
        assert result.code == 77, result.stderr
        assert "Access denied to S3 bucket" in result.stderr and "s3:PutObject" in result.stderr
        assert len([1 for method, _, _ in proxy.log if method == "PUT"]) <= 2


def test_redirects_are_never_followed(kafka, minio, worker, unique, source):
    with FaultProxy(minio.endpoint, rules=[("ANY", "*/1", "status", "307")]) as proxy:
        result = worker.run("backup", config_of(kafka, minio.block("some-bucket", endpoint=proxy.url), unique))
        assert result.code == 78 and "storage.region" in result.stderr
        assert len(proxy.log) <= 2


def test_tls_needs_the_right_authority(servers, worker, unique, tmp_path):
    server = servers("s3", tls=True)
    bucket = server.bucket(unique)
    block = server.block(bucket)
    del block["allow_http"]
    untrusted = worker.run("list", {"storage": block})
    assert untrusted.code == 78 and "ca_file" in untrusted.stderr, untrusted.stderr
    worker.run_ok("list", {"storage": {**block, "ca_file": server.ca_file}})
    worker.run_ok("list", {"storage": {**block, "ca_file": server.ca_file, "path_style": False}})
    trust = tmp_path / "trust"
    trust.mkdir()
    (trust / "lab.crt").write_bytes(pathlib.Path(server.ca_file).read_bytes())
    worker.run_ok("list", {"storage": block, "trust_dir": str(trust)})
    # no certificate covers a bucket with a dot in virtual-hosted style
    dotted = worker.run("list", {"storage": {**block, "ca_file": server.ca_file, "bucket": "a.b", "path_style": False}})
    assert dotted.code == 78 and "not trusted" in dotted.stderr, dotted.stderr


def test_rotated_keys_are_read_anew(minio, worker, unique, kafka, source, tmp_path):
    """The key files change in mid-run: the run goes on with the new ones."""
    bucket = minio.bucket(unique)
    files = {name: tmp_path / name for name in ("access_key", "secret_key")}
    files["access_key"].write_text("not-yet\n")
    files["secret_key"].write_text("not-yet\n")
    block = {k: v for k, v in minio.block(bucket).items() if k not in files}
    block.update({f"{name}_file": str(path) for name, path in files.items()})
    assert worker.run("backup", config_of(kafka, block, "rotated")).code == 77
    files["access_key"].write_text(f"{stores.KEY}\n")
    files["secret_key"].write_text(f"{stores.SECRET}\n")
    config = config_of(kafka, block, "rotated", backup={"rate_limit_records_per_sec": 7000})
    run = worker.start("backup", config)
    run.wait_for(lambda: (run.report() or {}).get("state") == "Running", what="Running")
    assert run.wait().code == 0


# ---- credentials of services: real ones of the store, handed out by strict stand-ins ----

@pytest.fixture(scope="module")
def sts(minio):
    with stores.Sts(minio) as service:
        yield service


def test_web_identity_opens_the_store(minio, sts, worker, unique, tmp_path):
    where = ["--path", minio.location(minio.bucket(unique))]
    token = tmp_path / "token"
    token.write_text(sts.token())
    env = {"AWS_ROLE_ARN": sts.facts["STS_ROLE_ARN"], "AWS_WEB_IDENTITY_TOKEN_FILE": token,
           "AWS_ENDPOINT_URL_STS": sts.url}
    worker.run_ok("list", None, *where, env=env)
    token.write_text("not a token")
    refused = worker.run("list", None, *where, env=env)
    assert refused.code == 77 and "STS_ROLE_ARN" not in refused.stderr and "lab-role" in refused.stderr
    assert worker.run("list", None, *where, env={**env, "AWS_WEB_IDENTITY_TOKEN_FILE": "/nonexistent"}).code == 77


def test_container_and_instance_open_the_store(minio, sts, worker, unique, tmp_path):
    where = ["--path", minio.location(minio.bucket(unique))]
    pod = tmp_path / "pod-token"
    pod.write_text(sts.facts["AWS_CONTAINER_AUTHORIZATION_TOKEN"])
    env = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": sts.facts["AWS_CONTAINER_CREDENTIALS_FULL_URI"],
           "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": pod}
    worker.run_ok("list", None, *where, env=env)
    pod.write_text("wrong")
    assert worker.run("list", None, *where, env=env).code == 77
    instance = {"AWS_EC2_METADATA_SERVICE_ENDPOINT": sts.url}
    worker.run_ok("list", None, *where, env=instance)
    missing = worker.run("list", None, *where, env={**instance, "AWS_EC2_METADATA_DISABLED": "true", "HOME": tmp_path})
    assert missing.code == 77 and "StorageCredentialsMissing" in missing.stderr
