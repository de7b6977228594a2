"""The definitions on a real API server: CEL, defaults, strict examples, status by server-side apply, columns.
"""
import copy
import json
import re
import subprocess

import pytest

import chart
import k8s
from worker import BINARY
from test_crds import CRDS, EXAMPLES, KINDS, MINIMAL, custom, report_schema

pytestmark = pytest.mark.skipif(not k8s.is_installed(), reason="no Kubernetes here: e2e/lab/k8s-lab install")
OPERATOR = BINARY.parent / "kafka-backup-operator"
SERVER = {"bootstrapServers": ["k:9092"]}
S3 = {"storageType": "s3", "s3": {"bucket": "abc"}}
HEADER_BASED = MINIMAL["KafkaOffsetReset"]


class Api:
    """kubectl against a control plane without nodes."""

    def __init__(self, plane):
        self.plane = plane

    def kubectl(self, *arguments, stdin=None):
        """(exit code, stdout, stderr)"""
        done = subprocess.run([k8s.LAB, "kubectl", "-d", self.plane.dir / "lab", *arguments], input=stdin, text=True,
                              capture_output=True)
        return done.returncode, done.stdout, done.stderr

    def ok(self, *arguments, stdin=None):
        code, out, err = self.kubectl(*arguments, stdin=stdin)
        assert code == 0, err
        return out

    def apply(self, docs, *arguments):
        """One object or several."""
        stream = "\n---\n".join(json.dumps(doc) for doc in (docs if isinstance(docs, list) else [docs]))
        return self.kubectl("apply", "--validate=strict", *arguments, "-f", "-", stdin=stream)

    def get(self, doc):
        kind, name = doc["kind"], doc["metadata"]["name"]
        return json.loads(self.ok("get", kind, name, "-o", "json"))

    def patch_status(self, doc, status):
        return self.kubectl("patch", doc["kind"], doc["metadata"]["name"], "--subresource=status", "--type=merge",
                            "-p", json.dumps({"status": status}))


@pytest.fixture(scope="module")
def api():
    with k8s.ControlPlane() as plane:
        api = Api(plane)
        api.ok("apply", "--validate=strict", "-f", str(CRDS))
        for kind in KINDS:
            api.ok("wait", "--for=condition=Established", "--timeout=30s", f"crd/{kind.lower()}s.kafka.oso.sh")
        for crd in json.loads(api.ok("get", "crd", "-o", "json"))["items"]:
            states = {c["type"]: c["status"] for c in crd["status"]["conditions"]}
            assert states == {"NamesAccepted": "True", "Established": "True"}  # NonStructuralSchema is absent
        for namespace in ("kafka-backup", "team-a", "team-b"):
            api.ok("create", "namespace", namespace)
        yield api


def test_examples_are_accepted_by_server_strictly(api):
    for arguments in (["--server-side"], []):
        out = api.ok("apply", "--dry-run=server", "--validate=strict", *arguments, "-f", str(CRDS / "examples"))
        assert len(out.splitlines()) >= len(EXAMPLES)
    code, _, err = api.kubectl("apply", "--dry-run=server", "-f", str(CRDS / "examples/refused/production-backup.yaml"))
    assert code != 0 and "spec: Required value" in err


def kafka(**changes):
    return {"kafkaCluster": {**SERVER, **changes}}


def s3(**changes):
    return {"storage": {"storageType": "s3", "s3": {"bucket": "abc", **changes}}}


def azure(**changes):
    return {"storage": {"storageType": "azure", "azure": {"container": "abc", **changes}}}


REFUSED = [
    ("KafkaBackup", {"schedule": "0 0 0 * * *"}, "must have 5 fields"),
    ("KafkaBackup", {"schedule": "@every 1h"}, "must have 5 fields"),
    ("KafkaBackup", {"schedule": "@reboot"}, "must have 5 fields"),
    ("KafkaBackup", {"timeZone": "Europe/Berlin"}, "timeZone must be used with a schedule"),
    ("KafkaBackup", {"schedule": "CRON_TZ=UTC 0 * * * *", "timeZone": "Europe/Berlin"}, "timeZone must be used"),
    ("KafkaBackup", {"schedule": "0 * * * *", "timeZone": "Local"}, "IANA"),
    ("KafkaBackup", {"compression": "lz4", "compressionLevel": 13}, "no more than 12 with lz4"),
    ("KafkaBackup", kafka(securityProtocol="SASL_SSL"), "saslSecret must be set exactly when"),
    ("KafkaBackup", kafka(saslSecret={"name": "x", "mechanism": "PLAIN"}), "saslSecret must be set exactly when"),
    ("KafkaBackup", kafka(tlsSecret={"name": "x"}), "tlsSecret must be used with"),
    ("KafkaBackup", kafka(caSecret={}), "caSecret is not supported"),
    ("KafkaBackup", {"storage": {"storageType": "pvc", "s3": {"bucket": "abc"}}}, "pvc must be set when"),
    ("KafkaBackup", {"storage": {"storageType": "s4"}}, "storageType: Unsupported value"),
    ("KafkaBackup", {"storage": {"storageType": "configMap"}}, "storageType: Unsupported value"),
    ("KafkaBackup", s3(prefix="a/../b"), "must not contain"),
    ("KafkaBackup", s3(signatureVersion="v2"), "v2 must be used with endpoint"),
    ("KafkaBackup", s3(pathStyle=False), "pathStyle is not a field"),
    ("KafkaBackup", s3(credentialsSecret={"name": "x", "accessKeyIdKey": "k"}), "use accessKeyKey"),
    ("KafkaBackup", azure(), "exactly one of accountName and connectionStringSecret"),
    ("KafkaBackup", azure(accountName="abc", useWorkloadIdentity=True, credentialsSecret={"name": "x"}), "at most one"),
    ("KafkaBackup", {"enterprise": {}}, "enterprise is not a field"),
    ("KafkaBackup", {"volumes": [{}]}, "use storage.pvc"),
    ("KafkaBackup", {"continuous": True}, "continuous must not be true"),
    ("KafkaBackup", {"retention": {"keepLast": 3}}, "use backups"),
    ("KafkaBackup", {"podTemplate": {"labels": {"app.kubernetes.io/name": "x"}}}, "labels must not be"),
    ("KafkaBackup", {"podTemplate": {"annotations": {"kafka.oso.sh/x": "y"}}}, "annotations must not begin"),
    ("KafkaBackup", {"env": [{"name": "HTTPS_PROXY", "value": "http://u:p@h"}]}, "must not carry credentials"),
    ("KafkaBackup", {"env": [{"name": "LD_PRELOAD", "value": "x"}]}, "Unsupported value"),
    ("KafkaBackup", {"resources": {"limits": {"gpu": "1"}}}, "no other keys than"),
    ("KafkaBackup", {"nonsense": True}, 'unknown field "spec.nonsense"'),
    ("KafkaRestore", {"pitr": {"enabled": True}}, "exactly one of timestamp and timestampMillis"),
    ("KafkaRestore", {"pitr": {"timestamp": "yesterday"}}, "timestamp"),
    ("KafkaRestore", {"guards": {"targetTopics": "append"}}, "append must be used with delivery transactional"),
    ("KafkaRestore", {"offsetReset": {"strategy": "offset", "consumerGroups": ["g"]}}, "offset must be set"),
    ("KafkaRestore", {"kafkaCluster": {}}, "use targetCluster"),
    ("KafkaRestore", {"dryRun": True}, "dryRun must not be true"),
    ("KafkaOffsetReset", {"strategy": "latest"}, "kafkaCluster must be set unless"),
    ("KafkaOffsetReset", {"strategy": "timestamp", "kafkaCluster": SERVER}, "exactly one of timestamp"),
    ("KafkaOffsetReset", {"strategy": "fromMapping", "kafkaCluster": SERVER}, "mappingConfigMap must be set"),
    ("KafkaOffsetRollback", {"operation": "snapshot", "kafkaCluster": SERVER}, "consumerGroups must be set"),
    ("KafkaOffsetRollback", {"operation": "verify"}, "kafkaCluster must be set unless operation is delete"),
    ("KafkaOffsetRollback", {"storage": {"storageType": "configmap"}}, "configMap must be set when"),
]


def test_bad_input_is_refused_with_a_sentence(api):
    items = []
    for number, (kind, changes, _) in enumerate(REFUSED):
        items.append(custom(kind, changes))
        items[-1]["metadata"]["name"] = f"refused-{number}"
    _, out, err = api.apply(items, "--dry-run=server")
    assert out == ""
    parts = re.split(r'(?=^The Kafka\w+ "|^Error from server)', err, flags=re.M)
    assert len(parts) - 1 == len(REFUSED)
    assert [(part, sentence) for part, (_, _, sentence) in zip(parts[1:], REFUSED) if sentence not in part] == []


def test_names_too_long_are_refused(api):
    for kind, limit in (("KafkaBackup", 112), ("KafkaRestore", 200)):
        doc = custom(kind, {})
        doc["metadata"]["name"] = "x" * limit
        assert api.apply(doc, "--dry-run=server")[0] == 0
        doc["metadata"]["name"] += "x"
        assert "metadata.name must be no longer" in api.apply(doc, "--dry-run=server")[2]


def test_defaults_are_written_by_server(api):
    doc = custom("KafkaBackup", {})
    doc["metadata"]["name"] = "defaults"
    assert api.apply(doc)[0] == 0
    spec = api.get(doc)["spec"]
    assert spec["topics"] == ["*"] and spec["compression"] == "zstd" and spec["suspend"] is False
    assert spec["circuitBreaker"] == {"enabled": True, "failureThreshold": 5, "resetTimeoutSecs": 60}
    assert spec["job"] == {"backoffLimit": 3, "activeDeadlineSeconds": 86400, "ttlSecondsAfterFinished": 86400}
    assert spec["storage"]["s3"] == {"bucket": "abc", "prefix": "", "signatureVersion": "v4"}


def sample(schema):
    """A value that fills the schema to its bounds."""
    kind = schema["type"]
    if kind == "object":
        return {name: sample(child) for name, child in schema["properties"].items()}
    if kind == "array":
        return [sample(schema["items"])] * schema["maxItems"]
    if kind == "string":
        if schema.get("format") == "date-time":
            return "2026-11-01T00:00:00Z"
        return schema["enum"][-1] if "enum" in schema else "x" * schema["maxLength"]
    if kind == "boolean":
        return True
    return 2**31 - 1 if schema["format"] == "int32" else 2**63 - 1


@pytest.mark.parametrize("kind", KINDS)
def test_full_report_is_applied_to_status(api, kind):
    doc = custom(kind, {})
    doc["metadata"]["name"] = "report"
    assert api.apply(doc)[0] == 0
    run = {name: sample(schema) for name, schema in report_schema().items()}
    body = {**{key: doc[key] for key in ("apiVersion", "kind", "metadata")}, "status": {"run": run}}
    arguments = ("apply", "--server-side", "--subresource=status", "--field-manager=kafka-backup-worker",
                 "--force-conflicts", "-f", "-")
    api.ok(*arguments, stdin=json.dumps(body))
    assert api.get(doc)["status"]["run"] == run
    body["status"]["run"]["unknownField"] = 1
    assert api.kubectl(*arguments, stdin=json.dumps(body))[0] != 0


def test_spec_of_started_run_is_immutable(api):
    docs = [custom(kind, {}) for kind in KINDS[1:]]
    for doc in docs:
        doc["metadata"]["name"] = "frozen"
    edited = copy.deepcopy(docs)
    for doc in edited:
        doc["spec"]["job"] = {"backoffLimit": 1}
    assert api.apply(docs)[0] == 0
    assert api.apply(edited)[0] == 0
    for doc in docs:
        assert api.patch_status(doc, {"startTime": "2026-11-01T00:00:00Z"})[0] == 0
    assert api.apply(docs)[2].count("spec is immutable once the run has started") == len(docs)
    assert api.apply(edited)[0] == 0


LOCATIONS = [
    (S3, {"storageType": "s3", "s3": {"bucket": "abcd"}}),
    (S3, {"storageType": "s3", "s3": {"bucket": "abc", "prefix": "p"}}),
    (S3, {"storageType": "pvc", "pvc": {"claimName": "c"}, "s3": {"bucket": "abc"}}),
    ({"storageType": "gcs", "gcs": {"bucket": "abc"}}, {"storageType": "gcs", "gcs": {"bucket": "abd"}}),
    ({"storageType": "pvc", "pvc": {"claimName": "c"}}, {"storageType": "pvc", "pvc": {"claimName": "d"}}),
    ({"storageType": "azure", "azure": {"container": "abc", "accountName": "acc"}},
     {"storageType": "azure", "azure": {"container": "abc", "accountName": "other"}}),
]
MOVES = [
    (S3, {"storageType": "s3", "s3": {"bucket": "abc", "credentialsSecret": {"name": "new"}, "region": "eu-1"}}),
    (S3, {"storageType": "s3", "s3": {"bucket": "abc"}, "gcs": {"bucket": "unused"}}),
]


def test_location_of_used_backup_is_immutable(api):
    docs = [custom("KafkaBackup", {"storage": old}) for old, _ in LOCATIONS + MOVES]
    for number, doc in enumerate(docs):
        doc["metadata"]["name"] = f"location-{number}"
    assert api.apply(docs)[0] == 0
    for doc, (_, new) in zip(docs, LOCATIONS + MOVES):
        assert api.patch_status(doc, {"lastBackupId": "b-20261101-000001"})[0] == 0
        doc["spec"]["storage"] = new
    _, out, err = api.apply(docs)
    refused = [number for number in range(len(docs)) if f'"location-{number}" is invalid' in err]
    assert refused == list(range(len(LOCATIONS))), err
    assert err.count("immutable once a backup exists") >= len(LOCATIONS)
    assert len(out.splitlines()) == len(MOVES)


def test_columns_and_short_names_work(api):
    for kind, short in zip(KINDS, ("kb", "kr", "kor", "korb")):
        doc = custom(kind, {})
        doc["metadata"]["name"] = "columns"
        assert api.apply(doc)[0] == 0
        state = {"type": "Complete" if kind != "KafkaBackup" else "Ready", "status": "False", "reason": "WaitingX",
                 "message": "m", "lastTransitionTime": "2026-11-01T00:00:00Z"}
        assert api.patch_status(doc, {"phase": "Pending", "conditions": [state]})[0] == 0
        header, row = api.ok("get", short, "columns").splitlines()
        assert header.split()[0] == "NAME" and header.split()[-1] == "AGE"
        assert "Pending" in row and "WaitingX" in row
    everything = api.ok("get", "kafka-backup", "--all-namespaces")
    assert all(f"{kind.lower()}.kafka.oso.sh/columns" in everything for kind in KINDS)
    assert "PersistentVolumeClaim" in api.ok("explain", "kafkabackup.spec.storage.pvc.claimName")


def test_definitions_without_cel_are_accepted(api, tmp_path):
    from test_crds import generator
    assert generator.main(["without-cel", str(tmp_path)]) == 0
    api.ok("apply", "--dry-run=server", "--validate=strict", "-f", str(tmp_path))


def test_chart_is_accepted_by_server(api):
    rendered = chart.render({"networkPolicy": {"enabled": True}, "podDisruptionBudget": {"enabled": True}})
    docs = [doc for doc in chart.objects(rendered) if doc["kind"] != "Pod"]  # the self-check needs the account
    code, _, err = api.apply(docs, "--dry-run=server")
    assert code == 0, err


def test_workloads_of_operator_are_accepted_by_server(api):
    from test_workloads import FILES, name
    docs = {name(path): json.loads(path.read_text()) for path in FILES if name(path) != "old-server"}
    for title, doc in docs.items():
        doc["metadata"].update(namespace="team-a", name=title)
    code, out, err = api.apply(list(docs.values()), "--dry-run=server")
    assert code == 0, err
    assert len(out.splitlines()) == len(docs)


INSTALLS = {
    "default": {},
    "listed": {"rbac": {"clusterWideWorkloads": False}, "workloadNamespaces": ["team-a"]},
    "confined": {"watchNamespaces": ["team-a", "team-b"]},
}


@pytest.mark.parametrize("install", INSTALLS)
def test_rights_of_install_satisfy_the_self_check_of_the_operator(api, install, tmp_path):
    """As the helm test does in a pod: the operator asks with its account's token what it may do."""
    docs = [doc for doc in chart.objects(chart.render(INSTALLS[install], release=f"kafka-backup-operator-{install}"))
            if doc["kind"] in ("ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding", "Pod")]
    (pod,) = [doc for doc in docs if doc["kind"] == "Pod"]
    docs.remove(pod)
    code, _, err = api.apply(docs)
    assert code == 0, err
    account = pod["spec"]["serviceAccountName"]
    token = api.ok("create", "token", account, "-n", "kafka-backup").strip()
    config = json.loads(api.ok("config", "view", "--raw", "--flatten", "-o", "json"))
    config["users"][0]["user"] = {"token": token}
    (tmp_path / "config").write_text(json.dumps(config))
    (container,) = pod["spec"]["containers"]
    environment = {v["name"]: v["value"] for v in container["env"] if "value" in v}
    command = [OPERATOR, *container["args"], f"--kubeconfig={tmp_path / 'config'}"]
    done = subprocess.run(command, env={"KB_NAMESPACE": "kafka-backup", **environment}, text=True,
                          capture_output=True, timeout=60)
    api.ok("delete", "-f", "-", stdin="\n---\n".join(json.dumps(doc) for doc in docs))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "FAILED" not in done.stdout and done.stdout.count("served") == 4
    denied = subprocess.run(command, env={"KB_NAMESPACE": "kafka-backup", **environment}, text=True,
                            capture_output=True, timeout=60)
    assert denied.returncode != 0
