"""Static rules for what the operator makes: the golden files of operator/tests/test_workloads.c."""
import json
import pathlib

import pytest

import chart

GOLDEN = pathlib.Path(__file__).resolve().parent.parent / "operator/tests/data"
FILES = sorted(GOLDEN.glob("*.workload.json"))
# What servers before 1.25, 1.26 and 1.29 cannot be told.
WAIVERS = {
    "s3-role": {"replaces pods that still run"},
    "old-server": {"replaces pods that still run", "no podFailurePolicy", "no timeZone"},
}


def name(path):
    return path.name.partition(".")[0]


def pod_of(path):
    return chart.pod_of(json.loads(path.read_text()))[0]


@pytest.mark.parametrize("path", FILES, ids=name)
def test_static_rules_on_workload_find_nothing(path):
    found = {finding.partition(": ")[2] for finding in chart.findings([json.loads(path.read_text())])}
    assert found == WAIVERS.get(name(path), set())


@pytest.mark.parametrize("path", FILES, ids=name)
def test_pod_of_workload_gets_secrets_as_files_only(path):
    pod = pod_of(path)
    (container,) = pod["containers"]
    for variable in container["env"]:
        assert "secretKeyRef" not in variable.get("valueFrom", {})
    assert "envFrom" not in container
    mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
    assert set(mounts) == {volume["name"] for volume in pod["volumes"]}
    for volume in pod["volumes"]:
        sources = volume.get("projected", {}).get("sources", [])
        if any("secret" in source for source in sources):
            assert volume["projected"]["defaultMode"] == 0o400
            assert "subPath" not in mounts[volume["name"]] and mounts[volume["name"]]["readOnly"] is True
            assert all("items" in source["secret"] for source in sources)
    assert "fsGroup" in pod["securityContext"]


@pytest.mark.parametrize("path", FILES, ids=name)
def test_files_named_in_configuration_are_mounted(path):
    config = json.loads((GOLDEN / f"{name(path)}.config.json").read_text())
    places = [mount["mountPath"] for mount in pod_of(path)["containers"][0]["volumeMounts"]]

    def paths(node):
        if isinstance(node, dict):
            for value in node.values():
                yield from paths(value)
        elif isinstance(node, str) and node.startswith("/"):
            yield node
    named = set(paths(config))
    assert all(any(name == place or name.startswith(place + "/") for place in places) for name in named)
