"""The definitions in crds/: static rules, agreement with the run report, examples. No server is needed here."""
import copy
import importlib.util
import json
import pathlib
import re

import jsonschema
import pytest
import yaml

ROOT = pathlib.Path(__file__).resolve().parent.parent
CRDS = ROOT / "crds"
CEL = "x-kubernetes-validations"
KINDS = ("KafkaBackup", "KafkaRestore", "KafkaOffsetReset", "KafkaOffsetRollback")
SHORT = {"KafkaBackup": "kb", "KafkaRestore": "kr", "KafkaOffsetReset": "kor", "KafkaOffsetRollback": "korb"}
# Documented names that end like a unit; nothing may be added.
EXEMPT = {
    ("KafkaBackup", "spec.checkpointIntervalSecs"),
    ("KafkaBackup", "spec.circuitBreaker.resetTimeoutSecs"),
    ("KafkaRestore", "spec.pitr.timestamp"),
    ("KafkaRestore", "spec.pitr.timestampMillis"),
    ("KafkaRestore", "spec.offsetReset.timestamp"),
    ("KafkaOffsetReset", "spec.timestamp"),
    ("KafkaOffsetReset", "spec.timestampMillis"),
    ("KafkaOffsetRollback", "status.snapshotData.timestamp"),
}
MAX_EXACT = 2**53 - 1


def load_generator():
    spec = importlib.util.spec_from_file_location("crds_script", ROOT / "scripts/crds.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


generator = load_generator()
DEFINITIONS = {kind: yaml.safe_load((CRDS / f"{kind.lower()}s.yaml").read_text()) for kind in KINDS}
SCHEMAS = {kind: json.loads((CRDS / f"schemas/{kind.lower()}_v1alpha1.json").read_text()) for kind in KINDS}
EXAMPLES = sorted((CRDS / "examples").glob("*.yaml"))


def root_schema(kind):
    return DEFINITIONS[kind]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]


def walk(node, path):
    """(path, schema) of a schema and everything below; items are [] and map values {}."""
    yield path, node
    for name, child in node.get("properties", {}).items():
        yield from walk(child, f"{path}.{name}" if path else name)
    if isinstance(node.get("items"), dict):
        yield from walk(node["items"], path + "[]")
    if isinstance(node.get("additionalProperties"), dict):
        yield from walk(node["additionalProperties"], path + "{}")


def is_refused(node):
    return any(rule["rule"] == "false" for rule in node.get(CEL, []))


# ---- static rules ----
def test_files_as_source_are_current():
    stale = [path.name for path, content in generator.outputs().items() if path.read_text() != content]
    assert stale == [], "run scripts/crds"


@pytest.mark.parametrize("kind", KINDS)
def test_form_of_definition_is_v1_namespaced_with_status(kind):
    crd = DEFINITIONS[kind]
    assert crd["apiVersion"] == "apiextensions.k8s.io/v1"
    assert crd["spec"]["scope"] == "Namespaced"
    assert crd["spec"]["names"]["shortNames"] == [SHORT[kind]]
    assert crd["spec"]["names"]["categories"] == ["kafka-backup"]
    assert "conversion" not in crd["spec"]
    (version,) = crd["spec"]["versions"]
    assert (version["name"], version["served"], version["storage"]) == ("v1alpha1", True, True)
    assert version["subresources"] == {"status": {}}
    schema = root_schema(kind)
    assert set(schema["properties"]) == {"apiVersion", "kind", "metadata", "spec", "status"}
    assert schema["required"] == ["spec"]


def form_problems(kind):
    for path, node in walk(root_schema(kind), ""):
        if "x-kubernetes-preserve-unknown-fields" in node:
            yield f"{path}: preserves unknown fields"
        for key in node:
            if key.startswith("$") or key.endswith("+") or node[key] is None:
                yield f"{path}: {key} was not expanded"
        if "type" not in node and not node.get("x-kubernetes-int-or-string"):
            yield f"{path}: has no type"
        for name, child in node.get("properties", {}).items():
            if path == "" and name in ("apiVersion", "kind", "metadata"):
                continue
            if not child.get("description", "").strip().endswith("."):
                yield f"{path}.{name}: has no description, or one that is no sentence"


def name_problems(kind):
    for path, node in walk(root_schema(kind), ""):
        for name in node.get("properties", {}):
            full = f"{path}.{name}" if path else name
            if not re.fullmatch(r"[a-z][A-Za-z0-9]*", name) or re.match(r"is[A-Z]", name):
                yield f"{full}: not a name of the house"
            if is_refused(node["properties"][name]) or (kind, full) in EXEMPT:
                continue
            if re.search(r"(?i)stamp$|(Ms|Millis|Secs|Interval)$", name):
                yield f"{full}: ends like a unit"


def number_problems(kind):
    for path, node in walk(root_schema(kind), ""):
        if node.get("type") == "number":
            yield f"{path}: floating"
        if node.get("type") != "integer":
            continue
        if node.get("format") not in ("int32", "int64"):
            yield f"{path}: not int32 or int64"
        if path.startswith("spec") and not {"minimum", "maximum"} <= set(node):
            yield f"{path}: not bounded"
        if node.get("maximum", 0) > MAX_EXACT or node.get("minimum", 0) < -MAX_EXACT:
            yield f"{path}: bound that a server cannot hold"


def bound_problems(kind):
    for path, node in walk(root_schema(kind)["properties"]["spec"], "spec"):
        kind_of = node.get("type")
        if kind_of == "string" and not ({"maxLength", "enum"} & set(node) or node.get("format") == "date-time"):
            yield f"{path}: string without bound"
        if kind_of == "array" and not {"maxItems", "x-kubernetes-list-type"} <= set(node):
            yield f"{path}: list without bound or type"
        if kind_of == "object" and "additionalProperties" in node and "maxProperties" not in node:
            yield f"{path}: map without bound"
        if node.get("x-kubernetes-int-or-string") and "maxLength" not in node:
            yield f"{path}: quantity without bound"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("problems", [form_problems, name_problems, number_problems, bound_problems])
def test_static_rules_of_definition_find_nothing(kind, problems):
    assert list(problems(kind)) == []


@pytest.mark.parametrize("kind", KINDS)
def test_status_of_definition_has_conditions_by_type(kind):
    status = root_schema(kind)["properties"]["status"]
    assert status["properties"]["observedGeneration"]["format"] == "int64"
    conditions = status["properties"]["conditions"]
    assert conditions["x-kubernetes-list-type"] == "map"
    assert conditions["x-kubernetes-list-map-keys"] == ["type"]
    item = conditions["items"]
    assert set(item["required"]) == {"type", "status", "lastTransitionTime", "reason", "message"}
    assert item["properties"]["status"]["enum"] == ["True", "False", "Unknown"]
    assert "observedGeneration" in item["properties"]
    assert "required" not in status


# From the table of columns: name, JSON path without the dot, type, shown only with -o wide.
CONDITION = 'status.conditions[?(@.type=="{}")].{}'
COMPLETE = [("Complete", CONDITION.format("Complete", "status"), "string", False),
            ("Reason", CONDITION.format("Complete", "reason"), "string", False)]
PHASE = ("Phase", "status.phase", "string", False)
AGE = ("Age", "metadata.creationTimestamp", "date", False)
COLUMNS = {
    "KafkaBackup": [
        ("Schedule", "spec.schedule", "string", False), ("Suspend", "spec.suspend", "boolean", False), PHASE,
        ("Ready", CONDITION.format("Ready", "status"), "string", False),
        ("Reason", CONDITION.format("Ready", "reason"), "string", False),
        ("Last Backup", "status.lastBackupTime", "date", False),
        ("Next", "status.nextScheduledTime", "string", True), ("Size", "status.lastBackupSize", "integer", True),
        ("Records", "status.lastBackupRecords", "integer", True),
        ("Retained", "status.retainedBackups", "integer", True), AGE],
    "KafkaRestore": [
        ("Backup", "spec.backupId", "string", False), PHASE, *COMPLETE,
        ("Progress", "status.run.percent", "integer", False),
        ("Records", "status.restoredRecords", "integer", False),
        ("Started", "status.startTime", "date", True), ("Completed", "status.completionTime", "date", True), AGE],
    "KafkaOffsetReset": [
        ("Strategy", "spec.strategy", "string", False), PHASE, *COMPLETE,
        ("Groups", "status.groupsReset", "integer", False),
        ("Failed groups", "status.groupsFailed", "integer", True),
        ("Snapshot", "status.snapshotId", "string", True), AGE],
    "KafkaOffsetRollback": [
        ("Operation", "spec.operation", "string", False), ("Snapshot", "spec.snapshotId", "string", False), PHASE,
        *COMPLETE, ("Groups", "status.groupsRolledBack", "integer", True), AGE],
}


@pytest.mark.parametrize("kind", KINDS)
def test_columns_of_definition_are_documented_and_exist(kind):
    columns = DEFINITIONS[kind]["spec"]["versions"][0]["additionalPrinterColumns"]
    found = [(c["name"], c["jsonPath"].removeprefix("."), c["type"], c.get("priority", 0) == 1) for c in columns]
    assert found == COLUMNS[kind]
    fields = {path for path, _ in walk(root_schema(kind), "")}
    for _, path, _, _ in found:
        assert path.startswith(("metadata.", "status.conditions[")) or path in fields


def test_shared_blocks_of_kinds_are_equal():
    specs = {kind: root_schema(kind)["properties"]["spec"]["properties"] for kind in KINDS}

    def bare(node):
        return {key: value for key, value in node.items() if key != "description"}
    clusters = [bare(specs[kind]["targetCluster" if kind == "KafkaRestore" else "kafkaCluster"]) for kind in KINDS]
    assert all(cluster == clusters[0] for cluster in clusters)
    assert bare(specs["KafkaBackup"]["storage"]) == bare(specs["KafkaRestore"]["storage"])
    for block in ("resources", "podTemplate", "logging", "env", "serviceAccountName"):
        assert all(specs[kind][block] == specs["KafkaBackup"][block] for kind in KINDS)
    deadlines = {kind: specs[kind]["job"]["properties"]["activeDeadlineSeconds"]["default"] for kind in KINDS}
    assert deadlines == {"KafkaBackup": 86400, "KafkaRestore": 86400, "KafkaOffsetReset": 3600,
                         "KafkaOffsetRollback": 3600}


# ---- status.run is the run report ----
REPORT_TYPES = {
    "INT32": {"type": "integer", "format": "int32"},
    "INT64": {"type": "integer", "format": "int64"},
    "BOOL": {"type": "boolean"},
    "TIME": {"type": "string", "format": "date-time"},
}


def report_schema():
    """The schema that the tables of run_report.h and run_report.c stand for."""
    header = (ROOT / "common/contract/run_report.h").read_text().replace("\\\n", " ")
    states = re.findall(r"\[KB_RUN_\w+\] = \"(\w+)\"", (ROOT / "common/contract/run_report.c").read_text())

    def one(kind, bound):
        if kind == "STRING":
            return {"type": "string", "maxLength": int(bound)}
        if kind == "STATE":
            return {"type": "string", "enum": states}
        return REPORT_TYPES[kind]
    columns = {}
    for match in re.finditer(r"#define KB_REPORT_(\w+)_COLUMNS\(X\)(.*)", header):
        columns[match[1]] = {name: one(kind, bound)
                             for name, kind, bound in re.findall(r'X\("(\w*)", (\w+), (\d+)\)', match[2])}
    table = re.search(r"#define KB_RUN_REPORT_FIELDS\(X\)(.*)", header)[1]
    fields = {}
    for name, kind, bound, rows in re.findall(r'X\(\w+, "(\w+)", (\w+), (\d+), (\w+)\)', table):
        row = {"type": "object", "properties": columns[rows]}
        if kind == "OBJECT":
            fields[name] = row
        elif kind in ("LIST", "NAMES"):
            item = columns[rows][""] if kind == "NAMES" else row
            fields[name] = {"type": "array", "x-kubernetes-list-type": "atomic", "maxItems": int(bound), "items": item}
        else:
            fields[name] = one(kind, bound)
    return fields


def without_descriptions(node):
    if not isinstance(node, dict):
        return node
    return {key: without_descriptions(value) for key, value in node.items()
            if not (key == "description" and isinstance(value, str))}


@pytest.mark.parametrize("kind", KINDS)
def test_status_run_of_definition_is_the_run_report(kind):
    run = root_schema(kind)["properties"]["status"]["properties"]["run"]
    expected = report_schema()
    assert len(expected) > 50
    assert without_descriptions(run["properties"]) == expected


# ---- the operator reads what the definitions declare ----
def spec_fields():
    """(name, schema) of every field of a spec that is not refused and not inside of a map."""
    for kind in KINDS:
        for path, node in walk(root_schema(kind)["properties"]["spec"], ""):
            for name, child in node.get("properties", {}).items():
                refused = any(rule["rule"] in ("false", "!self") for rule in child.get(CEL, []))
                if not refused and "[]" not in path:
                    yield name, child


def test_fields_of_definitions_are_those_that_the_operator_decodes():
    source = (ROOT / "operator/model/spec.c").read_text()
    rows = re.findall(r'\b[A-Z0-9_]+\(kb_spec\w*, "(\w+)"', source)
    assert {*rows, *re.findall(r'\.name = "(\w+)"', source)} == {name for name, _ in spec_fields()}


def test_bounds_and_defaults_of_definitions_are_those_of_the_operator():
    source = (ROOT / "operator/model/spec.c").read_text()
    constants = dict(re.findall(r"#define (KB_\w+) (\d+)", source)) | {"deadline": "deadline"}

    def number(text):
        text = constants.get(text.strip(), text.strip()).removesuffix("LL")
        return text if text == "deadline" else int(text)
    declared = {}
    for name, schema in spec_fields():
        if schema["type"] == "integer":
            default = "deadline" if name == "activeDeadlineSeconds" else schema.get("default")
            declared.setdefault(name, set()).add((schema["minimum"], schema["maximum"], default))
        elif schema["type"] == "string" and "enum" not in schema and schema.get("default"):
            declared.setdefault(name, set()).add(schema["default"])
    read = {}
    for line in re.findall(r'\bI64\(\w+, ("[^)]*)\)', re.sub(r"\s*\\?\n\s*", " ", source)):
        name, _, low, high, default = line.split(", ")
        read.setdefault(name.strip('"'), set()).add((number(low), number(high), number(default)))
    for name, low, high in re.findall(r'\bOPT\(\w+, "(\w+)", [^,]+, ([^,]+), ([^,)]+)\)', source):
        read.setdefault(name, set()).add((number(low), number(high), None))
    for name, default in re.findall(r'\bTEXT\(\w+, "(\w+)", [^,]+, "([^"]+)"\)', source):
        read.setdefault(name, set()).add(default)
    assert read == declared


# ---- servers without CEL ----
def cel_messages(kind):
    """Sentences of the rules that the operator checks again; rules on the whole object need the old one."""
    for path, node in walk(root_schema(kind), ""):
        if path:
            yield from (rule["message"] for rule in node.get(CEL, []))


def test_operator_refuses_with_the_sentences_of_the_definitions():
    source = (ROOT / "operator/model/validation.c").read_text()
    literals = re.sub(r'"\s*\n\s*"', "", source)
    missing = {message for kind in KINDS for message in cel_messages(kind) if f'"{message}"' not in literals}
    assert missing == set()


def test_without_cel_nothing_else_is_lost(tmp_path):
    assert generator.main(["without-cel", str(tmp_path)]) == 0
    for kind in KINDS:
        plain = yaml.safe_load((tmp_path / f"{kind.lower()}s.yaml").read_text())
        assert CEL not in json.dumps(plain)
        assert plain == generator.without_cel(copy.deepcopy(DEFINITIONS[kind]))


# ---- examples ----
def documents(path):
    return [doc for doc in yaml.safe_load_all(path.read_text()) if doc]


def problems_of(doc):
    return [error.message for error in jsonschema.Draft7Validator(SCHEMAS[doc["kind"]]).iter_errors(doc)]


@pytest.mark.parametrize("kind", KINDS)
def test_published_schema_is_a_schema(kind):
    jsonschema.Draft7Validator.check_schema(SCHEMAS[kind])


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_is_accepted_by_the_strict_schema(path):
    ours = [doc for doc in documents(path) if doc["kind"] in KINDS]
    assert ours and path.read_text().startswith("# ")
    for doc in ours:
        assert problems_of(doc) == []
        assert doc["metadata"]["name"] == path.stem


def test_introductory_manifests_are_among_the_examples():
    names = {path.stem for path in EXAMPLES}
    assert {"hourly-backup", "pitr-restore", "reset-after-restore", "my-first-backup"} <= names
    refused = documents(CRDS / "examples/refused/production-backup.yaml")[0]
    assert refused["spec"] is None and problems_of(refused) != []


MINIMAL = {
    "KafkaBackup": {"kafkaCluster": {"bootstrapServers": ["k:9092"]},
                    "storage": {"storageType": "s3", "s3": {"bucket": "abc"}}},
    "KafkaRestore": {"backupId": "b-1"},
    "KafkaOffsetReset": {"strategy": "headerBased", "consumerGroups": ["g"]},
    "KafkaOffsetRollback": {"operation": "delete", "snapshotId": "s"},
}
REFUSED = [
    ("KafkaBackup", {"storage": {"storageType": "s4"}}),
    ("KafkaBackup", {"kafkaCluster": {}}),
    ("KafkaBackup", {"kafkaCluster": {"bootstrapServers": ["no-port"]}}),
    ("KafkaBackup", {"topics": []}),
    ("KafkaBackup", {"topics": ["a/b"]}),
    ("KafkaBackup", {"compressionLevel": 23}),
    ("KafkaBackup", {"enterprise": {}}),
    ("KafkaBackup", {"volumes": []}),
    ("KafkaBackup", {"continuous": True}),
    ("KafkaBackup", {"retention": {"keepLast": 3}}),
    ("KafkaBackup", {"nonsense": 1}),
    ("KafkaBackup", {"env": [{"name": "LD_PRELOAD", "value": "x"}]}),
    ("KafkaBackup", {"job": {"ttlSecondsAfterFinished": 60}}),
    ("KafkaBackup", {"podTemplate": {"hostNetwork": True}}),
    ("KafkaBackup", {"resources": {"limits": {"memory": "lots"}}}),
    ("KafkaRestore", {"backupId": "-bad"}),
    ("KafkaRestore", {"kafkaCluster": {"bootstrapServers": ["k:9092"]}}),
    ("KafkaRestore", {"dryRun": True}),
    ("KafkaRestore", {"offsetReset": {"strategy": "headerBased"}}),
    ("KafkaOffsetReset", {"offset": -1}),
    ("KafkaOffsetReset", {"consumerGroups": []}),
    ("KafkaOffsetRollback", {"operation": "undo"}),
    ("KafkaOffsetRollback", {"snapshotId": ".hidden"}),
]
ACCEPTED = [
    ("KafkaBackup", {"continuous": False}),
    ("KafkaBackup", {"resources": {"limits": {"cpu": 2, "memory": "2Gi"}}}),
    ("KafkaRestore", {"dryRun": False, "purgeTopics": False}),
    ("KafkaOffsetRollback", {"storage": {"storageType": "configmap", "configMap": {"name": "x"}}}),
]


def custom(kind, changes):
    spec = {**copy.deepcopy(MINIMAL[kind]), **changes}
    return {"apiVersion": "kafka.oso.sh/v1alpha1", "kind": kind, "metadata": {"name": "x"}, "spec": spec}


@pytest.mark.parametrize("kind, changes", REFUSED, ids=lambda value: str(value)[:40])
def test_published_schema_refuses_bad_input(kind, changes):
    assert problems_of(custom(kind, {})) == []
    assert problems_of(custom(kind, changes)) != []


@pytest.mark.parametrize("kind, changes", ACCEPTED, ids=lambda value: str(value)[:40])
def test_published_schema_accepts_unusual_input(kind, changes):
    assert problems_of(custom(kind, changes)) == []
