"""What the chart does to an install that is used. Last of the files: it ends with an uninstall."""
from chart import CHART
from node import NAMESPACE, RELEASE
from test_flows import backup, finished


def leader(node):
    holder = (node.get(NAMESPACE, "lease", RELEASE) or {}).get("spec", {}).get("holderIdentity") or ""
    return holder.partition("_")[0]


def test_second_replica_takes_over_from_a_killed_leader(node, kafka, client, namespace, unique):
    node.volume(namespace, "backups")
    topic = client.create_topic(unique)
    client.generate(topic, 100)
    node.helm("upgrade", RELEASE, str(CHART), "-n", NAMESPACE, "--set",
              "replicaCount=2,podDisruptionBudget.enabled=true", "--wait", "--timeout", "120s")
    running = node.items(NAMESPACE, "pods", "-l", f"app.kubernetes.io/name={RELEASE}",
                         "--field-selector=status.phase=Running")
    pods = {pod["metadata"]["name"] for pod in running}
    first = node.wait("a leader", lambda: leader(node) in pods and leader(node))
    node.apply(namespace, backup("survivor", kafka, topics=[topic]))
    node.kubectl("delete", "pod", "-n", NAMESPACE, first, "--grace-period=0", "--force")
    node.wait("another leader", lambda: leader(node) not in ("", first), 60)
    done = finished(node, namespace, "survivor")
    assert done["status"]["totals"]["succeeded"] == 1
    assert [job["metadata"]["name"] for job in node.items(namespace, "jobs")] == ["survivor-g1"]


def test_uninstall_with_kept_definitions_leaves_custom_resources(node, kafka, namespace):
    node.apply(namespace, backup("kept", kafka, schedule="0 0 1 1 *"))
    node.wait("the CronJob", lambda: node.get(namespace, "cronjob", "kept"))
    node.helm("upgrade", RELEASE, str(CHART), "-n", NAMESPACE, "--set", "crds.keep=true", "--wait", "--timeout", "120s")
    node.helm("uninstall", RELEASE, "-n", NAMESPACE, "--wait")
    assert node.items(NAMESPACE, "deployments") == []
    assert node.get(namespace, "kafkabackup", "kept") and node.get(namespace, "cronjob", "kept")
    # nothing waits for the operator: a finalizer would
    node.kubectl("delete", "-n", namespace, "kafkabackup", "kept", "--timeout=30s")
    node.wait("the end of the CronJob", lambda: node.get(namespace, "cronjob", "kept") is None, 60)
