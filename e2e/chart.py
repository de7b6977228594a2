"""Renders the chart, and judges what it renders: static rules for workloads and rights."""
import functools
import json
import pathlib
import re
import subprocess

import yaml

ROOT = pathlib.Path(__file__).resolve().parent.parent
CHART = ROOT / "helm/kafka-backup-operator"
RELEASE = "kafka-backup-operator"
NAMESPACE = "kafka-backup"
NEWEST = "1.34.4"


@functools.cache
def tool(name):
    """Path of helm or promtool; provided by scripts/tools."""
    return subprocess.run([ROOT / "scripts/tools", name], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def helm(*arguments, values=None):
    """(exit code, stdout, stderr)"""
    command = [tool("helm"), *arguments]
    if values is not None:
        command += ["-f", "-"]
    done = subprocess.run(command, input=json.dumps(values), capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


def render(values=None, kube=NEWEST, release=RELEASE, namespace=NAMESPACE):
    """The text that `helm template` prints."""
    code, out, err = helm("template", release, str(CHART), "-n", namespace, "--kube-version", kube,
                          values={"crds": {"install": False}, **(values or {})})
    assert code == 0, err
    return out


def refusal(values):
    """The sentence with which the chart refuses these values."""
    code, _, err = helm("template", RELEASE, str(CHART), "-n", NAMESPACE, values=values)
    assert code != 0, "was accepted"
    return err


def objects(text):
    return [doc for doc in yaml.safe_load_all(text) if doc]


def of_kind(docs, kind, name=None):
    return [doc for doc in docs if doc["kind"] == kind and name in (None, doc["metadata"]["name"])]


# ---- static rules for workloads ----
VOLUMES = {"projected", "configMap", "emptyDir", "persistentVolumeClaim", "secret", "csi"}
CREDENTIAL_WORDS = ("PASS", "SECRET", "TOKEN", "ACCESS_KEY")


def pod_of(doc):
    """(pod spec, pod template metadata) of a workload, or None."""
    if doc["kind"] == "Pod":
        return doc["spec"], doc["metadata"]
    if doc["kind"] in ("Deployment", "Job"):
        template = doc["spec"]["template"]
    elif doc["kind"] == "CronJob":
        template = doc["spec"]["jobTemplate"]["spec"]["template"]
    else:
        return None
    return template["spec"], template.get("metadata", {})


def container_findings(container, pod_context, needs_probes):
    name = container["name"]
    context = {**pod_context, **container.get("securityContext", {})}
    if context.get("privileged") or context.get("allowPrivilegeEscalation") is not False:
        yield f"{name}: may escalate"
    if context.get("runAsNonRoot") is not True or context.get("runAsUser") == 0:
        yield f"{name}: may run as root"
    if context.get("capabilities", {}).get("drop") != ["ALL"] or context["capabilities"].get("add"):
        yield f"{name}: keeps capabilities"
    if context.get("readOnlyRootFilesystem") is not True:
        yield f"{name}: writable root"
    if context.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        yield f"{name}: no seccomp profile"
    resources = container.get("resources", {})
    if not resources.get("requests") or "memory" not in resources.get("limits", {}):
        yield f"{name}: no requests or no memory limit"
    _, separator, tag = re.search(r"([^:@]*)(@|:|$)(.*)$", container["image"].rpartition("/")[2]).groups()
    if not separator or tag in ("", "latest"):
        yield f"{name}: image without a fixed tag"
    if needs_probes and not {"livenessProbe", "readinessProbe"} <= set(container):
        yield f"{name}: no probes"
    for variable in container.get("env", []):
        if "value" in variable and any(word in variable["name"].upper() for word in CREDENTIAL_WORDS):
            yield f"{name}: literal {variable['name']}"


def workload_findings(doc):
    """What the static rules find in one object; nothing for other kinds."""
    found = pod_of(doc)
    if not found:
        return
    pod, _ = found
    if any(pod.get(field) for field in ("hostNetwork", "hostPID", "hostIPC")):
        yield "host namespace"
    for volume in pod.get("volumes", []):
        if not (set(volume) - {"name"}) <= VOLUMES:
            yield f"volume {volume['name']}: type"
    if pod.get("automountServiceAccountToken") is not False:
        yield "token is mounted by itself"
    if pod.get("serviceAccountName") in (None, "default"):
        yield "no account of its own"
    for container in pod.get("initContainers", []) + pod["containers"]:
        yield from container_findings(container, pod.get("securityContext", {}), doc["kind"] == "Deployment")
    if doc["kind"] in ("Job", "CronJob"):
        yield from job_findings(doc)


def job_findings(doc):
    job = doc["spec"] if doc["kind"] == "Job" else doc["spec"]["jobTemplate"]["spec"]
    if job["template"]["spec"].get("restartPolicy") != "Never":
        yield "restarts containers in place"
    for field in ("backoffLimit", "podFailurePolicy", "activeDeadlineSeconds"):
        if field not in job:
            yield f"no {field}"
    if job.get("podReplacementPolicy") != "Failed":
        yield "replaces pods that still run"
    if doc["kind"] == "CronJob":
        if doc["spec"].get("concurrencyPolicy") != "Forbid":
            yield "may overlap"
        for field in ("timeZone", "startingDeadlineSeconds"):
            if field not in doc["spec"]:
                yield f"no {field}"


# ---- static rules for rights ----
FORBIDDEN_VERBS = {"escalate", "bind", "impersonate"}
FORBIDDEN_SUBRESOURCES = {"exec", "attach", "proxy", "portforward", "token"}
WORKLOADS = {"pods", "jobs", "cronjobs", "deployments", "daemonsets", "statefulsets", "replicasets"}
CLUSTER_OBJECTS = {"customresourcedefinitions", "validatingwebhookconfigurations", "mutatingwebhookconfigurations"}
READING = {"get", "list", "watch"}
WORKLOAD_CREATION = "creates workloads in every namespace"


def rights_findings(doc):
    """What the static rules find in one Role or ClusterRole."""
    if doc["kind"] not in ("Role", "ClusterRole"):
        return
    for rule in doc["rules"]:
        resources, verbs = set(rule.get("resources", [])), set(rule["verbs"])
        if "*" in resources | verbs | set(rule.get("apiGroups", [])) or "nonResourceURLs" in rule:
            yield "wildcard"
        if verbs & FORBIDDEN_VERBS:
            yield f"verb {verbs & FORBIDDEN_VERBS}"
        if any(name.rpartition("/")[2] in FORBIDDEN_SUBRESOURCES for name in resources if "/" in name):
            yield "subresource"
        if "secrets" in resources:
            yield "Secrets"
        if resources & CLUSTER_OBJECTS and verbs - READING:
            yield "writes definitions or webhooks"
        if doc["kind"] == "ClusterRole" and resources & WORKLOADS and "create" in verbs:
            yield WORKLOAD_CREATION


def findings(docs):
    """Object name: finding, for everything that was rendered."""
    for doc in docs:
        for finding in [*workload_findings(doc), *rights_findings(doc)]:
            yield f"{doc['kind']}/{doc['metadata']['name']}: {finding}"
