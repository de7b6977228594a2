"""The chart: renders against golden files, static rules, values that are refused, alerts, metric names.

KB_GOLDEN=write writes the golden files anew.
"""
import json
import os
import pathlib
import re
import subprocess

import pytest
import yaml

import chart
from chart import CHART, NEWEST, ROOT, of_kind, objects, refusal, render

VERSION = re.search(r'KB_VERSION "(.*)"', (ROOT / "common/contract/version.h").read_text())[1]
GOLDEN = pathlib.Path(__file__).parent / "data/chart"
EVERYTHING = {
    "replicaCount": 2,
    "imagePullSecrets": [{"name": "pull"}],
    "priorityClassName": "high",
    "nodeSelector": {"disk": "ssd"},
    "tolerations": [{"key": "a", "operator": "Exists"}],
    "podAnnotations": {"a": "b"},
    "env": [{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}],
    "serviceAccount": {"annotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/x"}, "labels": {"c": "d"}},
    "podDisruptionBudget": {"enabled": True, "maxUnavailable": 1},
    "networkPolicy": {"enabled": True, "ingress": [{"namespaceSelector": {}}]},
    "metrics": {name: {"enabled": True} for name in ("serviceMonitor", "podMonitor", "prometheusRule", "dashboard")},
    "deployment": {"tenantId": "tenant", "workloadIdentityClientId": "client",
                   "syncSecrets": {"keyVaultName": "vault", "envSecrets": {"KAFKA_PASSWORD": "kafka-password"}}},
    "worker": {"networkPolicy": {"enabled": True, "egress": [{"ports": [{"protocol": "TCP", "port": 9092}]}]},
               "image": {"repository": "registry.example/worker", "tag": "1.2.3"}, "logging": {"level": "debug"}},
}
HA = {"replicaCount": 2, "podDisruptionBudget": {"enabled": True}}
LISTED = {"rbac": {"clusterWideWorkloads": False}, "workloadNamespaces": ["team-a", "team-b"]}
CONFINED = {"watchNamespaces": ["team-a", "kafka-backup"]}
# name -> values, version of Kubernetes
MATRIX = {
    "defaults": ({}, NEWEST),
    "ha": (HA, NEWEST),
    "listed": (LISTED, NEWEST),
    "confined": (CONFINED, NEWEST),
    "confined-elsewhere": ({"watchNamespaces": ["team-a"]}, NEWEST),
    "everything": (EVERYTHING, NEWEST),
    "kubernetes-1.20": (HA, "1.20.15"),
    "kubernetes-1.24": (HA, "1.24.17"),
    "kubernetes-1.27": (HA, "1.27.16"),
}


@pytest.fixture(scope="module")
def rendered():
    """Name of the matrix -> text."""
    return {name: render(values, kube) for name, (values, kube) in MATRIX.items()}


# ---- the matrix ----
@pytest.mark.parametrize("name", MATRIX)
def test_render_as_in_matrix_equals_golden_file(rendered, name):
    path = GOLDEN / f"{name}.yaml"
    # the dashboard is a file of its own; here it would only be long
    text = re.sub(r"(kafka-backup\.json: \|-\n)(    .*\n)+", r"\1    (files/dashboard.json)\n", rendered[name])
    if os.environ.get("KB_GOLDEN") == "write":
        path.write_text(text)
    assert text == path.read_text(), f"KB_GOLDEN=write writes {path.name} anew"


@pytest.mark.parametrize("name", MATRIX)
def test_static_rules_on_render_find_only_the_documented_waiver(rendered, name):
    waiver = [f"ClusterRole/{chart.RELEASE}: {chart.WORKLOAD_CREATION}"]
    hardened = name in ("listed", "confined", "confined-elsewhere")
    assert list(chart.findings(objects(rendered[name]))) == ([] if hardened else waiver)


def test_findings_of_bad_workload_name_each_rule():
    bad = {"kind": "CronJob", "metadata": {"name": "x"}, "spec": {"jobTemplate": {"spec": {"template": {"spec": {
        "hostNetwork": True, "volumes": [{"name": "v", "hostPath": {}}],
        "containers": [{"name": "c", "image": "x:latest", "env": [{"name": "DB_PASSWORD", "value": "x"}]}]}}}}}}
    assert len(list(chart.workload_findings(bad))) == 20
    role = {"kind": "ClusterRole", "metadata": {"name": "x"}, "rules": [
        {"apiGroups": [""], "resources": ["secrets", "pods/exec"], "verbs": ["*"]},
        {"apiGroups": ["x"], "resources": ["customresourcedefinitions"], "verbs": ["bind", "create"]}]}
    assert len(list(chart.rights_findings(role))) == 5


@pytest.mark.parametrize("name", MATRIX)
def test_names_in_render_are_unique_and_labelled(rendered, name):
    docs = objects(rendered[name])
    keys = [(doc["kind"], doc["metadata"].get("namespace"), doc["metadata"]["name"]) for doc in docs]
    assert len(keys) == len(set(keys))
    assert all(doc["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "Helm" for doc in docs)


# ---- what the golden files should say ----
def test_defaults_are_named_like_the_release(rendered):
    docs = objects(rendered["defaults"])
    for kind in ("Deployment", "ServiceAccount", "ClusterRole", "ClusterRoleBinding"):
        assert of_kind(docs, kind, "kafka-backup-operator"), kind
    (deployment,) = of_kind(docs, "Deployment")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert labels["app.kubernetes.io/name"] == "kafka-backup-operator"
    (account,) = of_kind(docs, "ServiceAccount", "kafka-backup-worker")
    assert account["metadata"]["labels"]["kafka.oso.sh/worker"] == "allowed"


def rules_of(docs, kind, namespace):
    for doc in of_kind(docs, kind):
        if doc["metadata"].get("namespace") == namespace and doc["metadata"]["name"] == chart.RELEASE:
            return {(group, resource, verb) for rule in doc["rules"] for group in rule["apiGroups"]
                    for resource in rule["resources"] for verb in rule["verbs"]}
    return set()


def test_rights_of_each_install_are_where_they_belong(rendered):
    create_job = ("batch", "jobs", "create")
    list_backups = ("kafka.oso.sh", "kafkabackups", "list")
    default, listed, confined = (objects(rendered[name]) for name in ("defaults", "listed", "confined"))
    assert {create_job, list_backups} <= rules_of(default, "ClusterRole", None)
    assert [doc["metadata"]["name"] for doc in of_kind(default, "Role")] == ["kafka-backup-operator-leader"]

    assert list_backups in rules_of(listed, "ClusterRole", None)
    assert create_job not in rules_of(listed, "ClusterRole", None)
    for namespace in ("kafka-backup", "team-a", "team-b"):
        assert create_job in rules_of(listed, "Role", namespace)

    assert of_kind(confined, "ClusterRole") == of_kind(confined, "ClusterRoleBinding") == []
    for namespace in ("kafka-backup", "team-a"):
        assert {create_job, list_backups} <= rules_of(confined, "Role", namespace)
    # one install has as many rights in a served namespace as the other
    assert rules_of(default, "ClusterRole", None) == rules_of(confined, "Role", "team-a")
    assert len(of_kind(confined, "Role", "kafka-backup-worker")) == 2


def test_operator_holds_every_right_that_it_hands_on(rendered):
    docs = objects(rendered["defaults"])
    (worker,) = of_kind(docs, "ClusterRole", "kafka-backup-worker")
    held = rules_of(docs, "ClusterRole", None)
    for rule in worker["rules"]:
        for resource in rule["resources"]:
            assert {(rule["apiGroups"][0], resource, verb) for verb in rule["verbs"]} <= held
    assert {("", "configmaps", "get"), ("", "configmaps", "patch")} <= held


def worker_settings(text):
    (deployment,) = of_kind(objects(text), "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    (value,) = [v["value"] for v in container["env"] if v["name"] == "KB_WORKER_SETTINGS"]
    return json.loads(value)


def test_worker_settings_of_deployment_are_the_values(rendered):
    settings = worker_settings(rendered["everything"])
    assert settings["image"] == {"repository": "registry.example/worker", "tag": "1.2.3", "pullPolicy": "IfNotPresent"}
    assert settings["imagePullSecrets"] == [{"name": "pull"}]
    assert settings["resources"]["limits"]["memory"] == "2Gi"
    assert settings["serviceAccount"]["operatorName"] == "kafka-backup-operator"
    assert settings["clusterWideWorkloads"] is True
    assert "networkPolicy" not in settings
    assert worker_settings(rendered["listed"])["workloadNamespaces"] == ["team-a", "team-b"]
    assert worker_settings(rendered["defaults"])["image"]["tag"] == VERSION


def test_flags_of_chart_are_known_to_the_operator(rendered):
    known = set(re.findall(r'^    \{"([a-z-]+)", [A-Z]+, AT', (ROOT / "operator/ctrl/options.c").read_text(), re.M))
    for name, text in rendered.items():
        docs = objects(text)
        pods = [of_kind(docs, "Deployment")[0]["spec"]["template"]["spec"], of_kind(docs, "Pod")[0]["spec"]]
        for pod in pods:
            (container,) = pod["containers"]
            flags = {re.match(r"--([a-z-]+)(=|$)", argument)[1] for argument in container["args"]}
            variables = {v["name"] for v in container["env"] if v["name"].startswith("KB_")}
            assert flags <= known, name
            assert variables <= {"KB_" + flag.upper().replace("-", "_") for flag in known}, name


def test_worker_settings_of_chart_are_read_by_the_operator(rendered):
    source = (ROOT / "operator/model/settings.c").read_text()
    settings = worker_settings(rendered["everything"])
    names = {*settings, *settings["serviceAccount"], *settings["jobHistory"], *settings["image"]}
    assert {name for name in names if f'"{name}"' not in source and f'\\"{name}\\"' not in source} <= {"create"}


@pytest.mark.parametrize("tag, image", [("", f"kafka-backup-operator:{VERSION}"), ("2.0", "kafka-backup-operator:2.0"),
                                        ("sha256:ab", "kafka-backup-operator@sha256:ab")])
def test_image_of_operator_has_tag_or_digest(tag, image):
    (deployment,) = of_kind(objects(render({"image": {"tag": tag}})), "Deployment")
    assert deployment["spec"]["template"]["spec"]["containers"][0]["image"] == image


def test_account_annotations_of_worker_fall_back_to_those_of_the_operator(rendered):
    (account,) = of_kind(objects(rendered["everything"]), "ServiceAccount", "kafka-backup-worker")
    assert account["metadata"]["annotations"] == {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/x"}


def test_budget_of_old_server_is_beta(rendered):
    versions = {name: of_kind(objects(rendered[name]), "PodDisruptionBudget")[0]["apiVersion"]
                for name in ("kubernetes-1.20", "kubernetes-1.24", "ha")}
    assert versions == {"kubernetes-1.20": "policy/v1beta1", "kubernetes-1.24": "policy/v1", "ha": "policy/v1"}


# ---- definitions ----
def definitions(kube, **crds):
    docs = objects(render({"crds": {"install": True, **crds}}, kube))
    return {doc["metadata"]["name"]: doc for doc in of_kind(docs, "CustomResourceDefinition")}


def without_cel(node):
    if isinstance(node, list):
        return [without_cel(item) for item in node]
    if not isinstance(node, dict):
        return node
    return {key: without_cel(value) for key, value in node.items() if key != "x-kubernetes-validations"}


@pytest.mark.parametrize("kube, has_cel", [("1.20.15", False), ("1.24.17", False), ("1.25.0", True), (NEWEST, True)])
def test_definitions_of_chart_are_those_of_crds(kube, has_cel):
    found = definitions(kube)
    assert len(found) == 4
    for path in (ROOT / "crds").glob("*.yaml"):
        expected = yaml.safe_load(path.read_text())
        mine = found[expected["metadata"]["name"]]
        assert mine["spec"] == (expected["spec"] if has_cel else without_cel(expected["spec"]))
        assert "annotations" not in mine["metadata"]


def test_definitions_to_keep_carry_the_annotation():
    for definition in definitions(NEWEST, keep=True).values():
        assert definition["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}


# ---- refused values ----
@pytest.mark.parametrize("values, sentence", [
    ({"enterprise": {"licenseKey": "x"}}, "enterprise is not a value of this chart"),
    ({"workloadNamespaces": ["a"]}, "workloadNamespaces must be used with rbac.clusterWideWorkloads=false"),
    ({"workloadNamespaces": ["a"], "watchNamespaces": ["b"]}, "must not be set together with watchNamespaces"),
    ({"replicaCount": 2, "leaderElection": {"enabled": False}}, "must be used with leaderElection.enabled=true"),
    ({"deployment": {"syncSecrets": {"keyVaultName": "v"}}}, "must be used with deployment.tenantId"),
    ({"replicas": 2}, "replicas"),
    ({"replicaCount": "two"}, "replicaCount"),
    ({"image": {"tag": "latest"}}, "/image/tag"),
    ({"logging": {"level": "loud"}}, "/logging/level"),
    ({"worker": {"resources": {"limits": {"memory": None}}}}, "/worker/resources/limits"),
    ({"watchNamespaces": ["Not A Name"]}, "/watchNamespaces/0"),
])
def test_refused_values_get_a_sentence(values, sentence):
    assert sentence in refusal(values)


def test_schema_of_values_knows_every_value():
    def problems(schema, value, path):
        if schema.get("additionalProperties") is False:
            missing = set(schema["properties"]) ^ set(value) - {"enterprise", "global"}
            if path == "":
                missing -= {"enterprise", "global"}
            yield from (f"{path}.{name}" for name in missing - {"level", "format"})
            for name, inner in value.items():
                yield from problems(schema["properties"].get(name, {}), inner, f"{path}.{name}")
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert list(problems(schema, values, "")) == []


def test_lint_finds_nothing():
    code, out, _ = chart.helm("lint", "--strict", str(CHART))
    assert code == 0, out


def test_version_of_chart_is_that_of_the_programs():
    about = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert (about["version"], about["appVersion"]) == (VERSION, VERSION)


# ---- alerts and dashboard ----
def test_alerts_fire_when_they_should(tmp_path):
    (rule,) = of_kind(objects(render(EVERYTHING)), "PrometheusRule")
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rule["spec"]))
    (tmp_path / "test.yaml").write_text((GOLDEN.parent / "alerts_test.yaml").read_text())
    promtool = chart.tool("promtool")
    for command in (["check", "rules", "rules.yaml"], ["test", "rules", "test.yaml"]):
        done = subprocess.run([promtool, *command], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    tested = set(re.findall(r"alertname: (\w+)", (tmp_path / "test.yaml").read_text()))
    assert tested == {alert["alert"] for group in rule["spec"]["groups"] for alert in group["rules"]}


METRIC = re.compile(r"\bkafka_(?:backup|restore)_[a-z0-9_]+")


def documented_metrics():
    """What e2e/data/metrics.txt lists for operator and worker; histograms with the names of their series."""
    names = {}
    for line in (GOLDEN.parent / "metrics.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            program, kind, name = line.split()
            names[name] = program
            for suffix in ("_bucket", "_sum", "_count") if kind == "histogram" else ():
                names[name + suffix] = program
    return names


def test_metrics_of_dashboard_and_alerts_exist():
    dashboard = json.loads((CHART / "files/dashboard.json").read_text())
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    expressions += [variable["query"] for variable in dashboard["templating"]["list"]]
    expressions += [rule["expr"] for group in yaml.safe_load((CHART / "files/alerts.yaml").read_text())["groups"]
                    for rule in group["rules"]]
    used = {name for expression in expressions for name in METRIC.findall(expression)}
    assert len(used) > 40
    assert used - set(documented_metrics()) == set()


def test_panels_of_dashboard_do_not_overlap():
    dashboard = json.loads((CHART / "files/dashboard.json").read_text())
    taken = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"])
                 for y in range(place["y"], place["y"] + place["h"])}
        assert max(x for x, _ in cells) < 24 and not cells & taken, panel["title"]
        taken |= cells
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


def metrics_in_source(program):
    source = "".join(path.read_text() for path in (ROOT / program).rglob("*.c") if "/tests/" not in str(path))
    prefixed = {f"kafka_backup_{name}" for name in re.findall(r'\bBACKUP\("([a-z0-9_]+)"', source)}
    return prefixed | set(re.findall(r'"(kafka_(?:backup|restore)_[a-z0-9_]+)"', source))


def test_metrics_in_source_are_the_documented_ones():
    lines = [line.split() for line in (GOLDEN.parent / "metrics.txt").read_text().splitlines() if line[0] != "#"]
    documented = {program: {name for owner, _, name in lines if owner == program} for program in ("operator", "worker")}
    assert metrics_in_source("operator") == documented["operator"]
    assert metrics_in_source("worker") - documented["worker"] == set()
