"""Static rules for what the operator makes: the golden files of operator/tests/test_workload_golden.c."""
import json
import pathlib

import pytest

import chart

GOLDEN = pathlib.Path(__file__).resolve().parent.parent / "operator/tests/data/workloads"
FILES = sorted(path for path in GOLDEN.glob("*.json") if path.stem != "cases")
# What servers before 1.25, 1.26 and 1.29 cannot be told.
WAIVERS = {
    "cronjob-1.27": {"replaces pods that still run"},
    "cronjob-1.24": {"replaces pods that still run", "no podFailurePolicy", "no timeZone"},
    "cronjob-1.20": {"replaces pods that still run", "no podFailurePolicy", "no timeZone"},
}


def workload(path):
    config, job = json.loads(path.read_text())
    return config, job


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_static_rules_on_workload_find_nothing(path):
    found = {finding.partition(": ")[2] for finding in chart.findings(json.loads(path.read_text()))}
    assert found == WAIVERS.get(path.stem, set())


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_pod_of_workload_gets_secrets_as_files_only(path):
    config, job = workload(path)
    pod, _ = chart.pod_of(job)
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
    assert config["immutable"] is True
    assert "fsGroup" in pod["securityContext"] or path.stem == "ids-by-platform"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_files_named_in_configuration_are_mounted(path):
    config, job = workload(path)
    pod, _ = chart.pod_of(job)
    places = [mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]]

    def paths(node):
        if isinstance(node, dict):
            for value in node.values():
                yield from paths(value)
        elif isinstance(node, str) and node.startswith("/"):
            yield node
    named = set(paths(json.loads(config["data"]["config.yaml"])))
    assert all(any(name == place or name.startswith(place + "/") for place in places) for name in named)
