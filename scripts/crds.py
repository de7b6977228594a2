"""crds - makes the custom resource definitions and their JSON schemas from crds/source/.

scripts/crds                      writes crds/*.yaml and crds/schemas/*.json
scripts/crds check                prints those that are not as their source says; exits 1 if any
scripts/crds without-cel FOLDER   writes the definitions for API servers before 1.25, which know no CEL
"""
import copy
import json
import pathlib
import sys

import yaml

ROOT = pathlib.Path(__file__).resolve().parent.parent / "crds"
GROUP = "kafka.oso.sh"
VERSION = "v1alpha1"
KINDS = ("KafkaBackup", "KafkaRestore", "KafkaOffsetReset", "KafkaOffsetRollback")
CEL = "x-kubernetes-validations"
HEADER = "# Made by scripts/crds from crds/source/; changes belong there.\n"
# What a refused field is declared as, so that every value of its old type meets the rule and not the type.
REFUSED = {
    "string": {"type": "string", "maxLength": 253},
    "boolean": {"type": "boolean"},
    "integer": {"type": "integer", "format": "int32", "minimum": 0, "maximum": 2147483647},
    "object": {"type": "object"},
    "array": {"type": "array", "items": {"type": "object"}, "maxItems": 64, "x-kubernetes-list-type": "atomic"},
}


def plural(kind):
    return kind.lower() + "s"


# ---- from source to schema ----
def merge(target, key, value):
    """Puts value at target[key]: mappings are merged, null removes, a key ending in + extends a list.

    Null and + stay as they are while there is nothing yet that they could change.
    """
    if key.endswith("+") and key[:-1] in target:
        target[key[:-1]] = target[key[:-1]] + value
    elif value is None and key in target:
        del target[key]
    elif isinstance(value, dict) and isinstance(target.get(key), dict):
        for inner, its in value.items():
            merge(target[key], inner, its)
    else:
        target[key] = value


def refuse(node):
    message = node["message"]
    wanted = node["$refuse"]
    declared = dict(REFUSED["boolean" if wanted == "true" else wanted])
    rule = "!self" if wanted == "true" else "false"
    return {"description": f"Refused: {message}.", **declared, CEL: [{"rule": rule, "message": message}]}


def expand(node, blocks):
    """The node with every $use and $refuse replaced."""
    if isinstance(node, list):
        return [expand(item, blocks) for item in node]
    if not isinstance(node, dict):
        return node
    if "$refuse" in node:
        return refuse(node)
    result = {}
    for key, value in node.items():
        if key != "$use":
            merge(result, key, expand(value, blocks))
            continue
        for name in [value] if isinstance(value, str) else value:
            for inner, its in expand(copy.deepcopy(blocks[name]), blocks).items():
                merge(result, inner, its)
    return result


def described(node):
    """The description first, as in every good manual."""
    if isinstance(node, list):
        return [described(item) for item in node]
    if not isinstance(node, dict):
        return node
    is_schema = isinstance(node.get("description"), str)
    head = {"description": node["description"]} if is_schema else {}
    return head | {key: described(value) for key, value in node.items() if not (is_schema and key == "description")}


def definition(source, blocks):
    kind = source["kind"]
    status = {"description": "What was observed; written by operator and worker.", "type": "object",
              "properties": expand({**source["status"], "run": blocks["statusRun"]}, blocks)}
    schema = {
        "description": source["description"],
        "type": "object",
        "required": ["spec"],
        CEL: source["rules"],
        "properties": {
            "apiVersion": {"description": "Version of the schema of this object.", "type": "string"},
            "kind": {"description": "Kind of this object.", "type": "string"},
            "metadata": {"type": "object"},
            "spec": expand(source["spec"], blocks),
            "status": status,
        },
    }
    columns = source["columns"] + [{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}]
    version = {"name": VERSION, "served": True, "storage": True, "subresources": {"status": {}},
               "additionalPrinterColumns": columns, "schema": {"openAPIV3Schema": described(schema)}}
    names = {"kind": kind, "listKind": kind + "List", "plural": plural(kind), "singular": kind.lower(),
             "shortNames": [source["shortName"]], "categories": ["kafka-backup"]}
    return {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": f"{plural(kind)}.{GROUP}"},
            "spec": {"group": GROUP, "scope": "Namespaced", "names": names, "versions": [version]}}


def definitions():
    """Kind -> definition."""
    blocks = yaml.safe_load((ROOT / "source/shared.yaml").read_text())
    return {kind: definition(yaml.safe_load((ROOT / f"source/{kind.lower()}.yaml").read_text()), blocks)
            for kind in KINDS}


def without_cel(node):
    if isinstance(node, list):
        return [without_cel(item) for item in node]
    if not isinstance(node, dict):
        return node
    return {key: without_cel(value) for key, value in node.items() if key != CEL}


# ---- JSON schema for editors and checkers ----
def published(node):
    """The schema as plain JSON schema: unknown fields refused, refused fields without a valid value."""
    if isinstance(node, list):
        return [published(item) for item in node]
    if not isinstance(node, dict):
        return node
    rules = [rule["rule"] for rule in node.get(CEL, []) if isinstance(rule, dict)]
    if rules == ["false"]:
        return {"description": node["description"], "not": {}}
    result = {key: published(value) for key, value in node.items() if not key.startswith("x-kubernetes-")}
    if rules == ["!self"]:
        result["const"] = False
    if isinstance(result.get("properties"), dict) and "additionalProperties" not in result:
        result["additionalProperties"] = False
    return result


def json_schema(crd):
    kind = crd["spec"]["names"]["kind"]
    schema = published(crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"])
    schema["properties"]["apiVersion"]["const"] = f"{GROUP}/{VERSION}"
    schema["properties"]["kind"]["const"] = kind
    schema["required"] = ["apiVersion", "kind", "metadata", "spec"]
    return {"$schema": "http://json-schema.org/draft-07/schema#", **schema}


# ---- files ----
class Dumper(yaml.SafeDumper):
    def increase_indent(self, flow=False, indentless=False):
        return super().increase_indent(flow, False)

    def ignore_aliases(self, data):
        return True


def as_yaml(crd):
    return HEADER + yaml.dump(crd, Dumper=Dumper, sort_keys=False, width=116, allow_unicode=True)


def outputs():
    """Path -> content."""
    files = {}
    for kind, crd in definitions().items():
        files[ROOT / f"{plural(kind)}.yaml"] = as_yaml(crd)
        files[ROOT / f"schemas/{kind.lower()}_{VERSION}.json"] = json.dumps(json_schema(crd), indent=1) + "\n"
    return files


def main(arguments):
    if not arguments:
        for path, content in outputs().items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        return 0
    if arguments == ["check"]:
        stale = [path for path, content in outputs().items() if not path.exists() or path.read_text() != content]
        for path in stale:
            print(f"{path.relative_to(ROOT.parent)}: not as crds/source says; run scripts/crds")
        return 1 if stale else 0
    if len(arguments) == 2 and arguments[0] == "without-cel":
        folder = pathlib.Path(arguments[1])
        folder.mkdir(parents=True, exist_ok=True)
        for kind, crd in definitions().items():
            (folder / f"{plural(kind)}.yaml").write_text(as_yaml(without_cel(crd)))
        return 0
    print(__doc__, file=sys.stderr)
    return 64


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
