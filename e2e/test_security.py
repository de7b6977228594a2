"""Secured brokers, and silence about their secrets (O6)."""
import pytest

import fidelity
from kafka import Cluster
from refclient import RefClient
from worker import backup_config, kafka_block, restore_config

PASSWORD = "canary-7f3a9-password"
USER = "backup-user"
KINDS = {"plain": dict(sasl="plain"), "scram-256": dict(sasl="scram-sha-256"),
         "scram-512-tls": dict(sasl="scram-sha-512", tls=True), "tls": dict(tls=True), "mtls": dict(mtls=True)}


class Secured:
    """A cluster, its client, and the security block that fits."""

    def __init__(self, cluster, options):
        self.cluster, self.options = cluster, options
        self.sasl, self.tls = options.get("sasl"), options.get("tls") or options.get("mtls")

    def block(self, **change):
        security = {"security_protocol": ("SASL_" if self.sasl else "") + ("SSL" if self.tls else "PLAINTEXT")}
        if self.sasl:
            security.update(sasl_mechanism=self.sasl.upper(), sasl_username=USER, sasl_password=PASSWORD)
        if self.tls:
            security["ssl_ca_location"] = str(self.cluster.tls_dir / "ca.crt")
        if self.options.get("mtls"):
            security.update(ssl_certificate_location=str(self.cluster.tls_dir / "client.crt"),
                            ssl_key_location=str(self.cluster.tls_dir / "client.key"))
        security.update(change)
        return kafka_block(self.cluster, secure=True, **{k: v for k, v in security.items() if v is not None})

    def backup(self, storage, backup_id, topics, **change):
        config = backup_config(self.cluster, storage, backup_id, limits={"no_progress_secs": 5})
        config["source"] = {**self.block(**change), "topics": {"include": topics}}
        return config

    def restore(self, storage, backup_id, topics, **restore):
        config = restore_config(self.cluster, storage, backup_id, restore=restore)
        config["target"] = {**self.block(), "topics": {"include": topics}}
        return config


@pytest.fixture(scope="module", params=KINDS)
def secured(request):
    with Cluster(users=[(USER, PASSWORD)], **KINDS[request.param]) as cluster:
        with RefClient(cluster.bootstrap) as client:
            client.generate(client.create_topic("secured", partitions=2), 500, size=200)
            found = Secured(cluster, KINDS[request.param])
            found.client = client
            yield found


@pytest.fixture
def storage(tmp_path):
    return tmp_path / "storage"


def check_silent(worker, result):
    """The password is in nothing that the worker wrote; only in the configuration that it was given."""
    assert PASSWORD not in result.stdout + result.stderr
    for path in worker.dir.rglob("*"):
        if path.is_file() and path.suffix != ".yaml":
            assert PASSWORD.encode() not in path.read_bytes(), path


def test_backup_and_restore(secured, worker, storage):
    result = worker.run_ok("backup", secured.backup(storage, "b", ["secured"]), "--log-level", "trace")
    fidelity.check_backup(storage, "b", secured.client, ["secured"])
    check_silent(worker, result)
    config = secured.restore(storage, "b", ["secured"], topic_mapping={"secured": "copy"})
    result = worker.run_ok("restore", config, "--log-level", "trace")
    assert fidelity.chains(secured.client, "copy") == fidelity.chains(secured.client, "secured")
    check_silent(worker, result)


def failed(worker, config, code, reason, *words):
    result = worker.run("backup", config, "--log-level", "debug")
    assert result.code == code and result.report["reason"] == reason, (result.code, result.stderr)
    lines = [line for line in result.stderr.splitlines() if "run failed" in line]
    assert len(lines) == 1 and "hint:" in lines[0], result.stderr
    for word in words:
        assert word in lines[0], lines[0]
    check_silent(worker, result)
    return result


def test_wrong_password(secured, worker, storage):
    if not secured.sasl:
        pytest.skip("no password here")
    result = failed(worker, secured.backup(storage, "b", ["secured"], sasl_password=PASSWORD + "-wrong"), 77,
                    "KafkaAuthenticationFailed", "SASL authentication failed", secured.cluster.secure)
    assert result.seconds < 30


def test_password_from_a_file_with_a_newline(secured, worker, storage):
    if not secured.sasl:
        pytest.skip("no password here")
    path = worker.dir / "password.yaml"  # the suffix that check_silent leaves out
    path.write_text(PASSWORD + "\n")
    result = worker.run_ok("backup", secured.backup(storage, "b", ["secured"], sasl_password=None,
                                                    sasl_password_file=str(path)))
    check_silent(worker, result)


def test_unknown_authority(secured, worker, storage):
    if not secured.tls:
        pytest.skip("no certificate here")
    failed(worker, secured.backup(storage, "b", ["secured"], ssl_ca_location=None), 77, "KafkaAuthenticationFailed",
           "TLS", secured.cluster.secure)


def test_missing_client_certificate(secured, worker, storage):
    if not secured.options.get("mtls"):
        pytest.skip("no client certificate is asked for")
    config = secured.backup(storage, "b", ["secured"], ssl_certificate_location=None, ssl_key_location=None)
    result = worker.run("backup", config)
    assert result.code in (75, 77) and secured.cluster.secure in result.stderr, result.stderr


def test_secrets_are_stars_in_the_effective_configuration(secured, worker, storage):
    if not secured.sasl:
        pytest.skip("no password here")
    result = worker.run_ok("backup", secured.backup(storage, "b", ["secured"]), "--check-config")
    check_silent(worker, result)
    assert "***" in result.stdout
