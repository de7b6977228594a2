"""The built operator against a control plane, with a stand-in for the kubelet that lets pods run and end."""
import base64
import json
import os
import pathlib
import signal
import socket
import subprocess
import tempfile
import threading
import time

import urllib3
import yaml

from worker import BINARY

OPERATOR = BINARY.parent / "kafka-backup-operator"
GROUP = "/apis/kafka.oso.sh/v1alpha1"
SETTINGS = {"image": {"repository": "worker", "tag": "0.0.1"}, "releaseNamespace": "default"}


def eventually(check, what, seconds=30, every=0.15):
    """Waits until check() is true and gives what it gave."""
    end = time.monotonic() + seconds
    while True:
        result = check()
        if result:
            return result
        assert time.monotonic() < end, f"not within {seconds} s: {what()if callable(what) else what}"
        time.sleep(every)


def now():
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


class Api:
    """The API server by its REST interface, as administrator."""

    def __init__(self, kubeconfig):
        config = yaml.safe_load(pathlib.Path(kubeconfig).read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        self._dir = tempfile.TemporaryDirectory(prefix="kb-api-")
        self.server = cluster["server"]
        self._pool = urllib3.PoolManager(
            ca_certs=self._file("ca.crt", cluster, "certificate-authority"),
            cert_file=self._file("tls.crt", user, "client-certificate"),
            key_file=self._file("tls.key", user, "client-key"), maxsize=8, retries=False,
            timeout=urllib3.Timeout(10))

    def _file(self, name, block, key):
        if key in block:
            return block[key]
        path = pathlib.Path(self._dir.name, name)
        path.write_bytes(base64.b64decode(block[f"{key}-data"]))
        return str(path)

    def call(self, method, path, body=None, kind="application/json", ok=(200, 201, 202)):
        data = json.dumps(body).encode() if body is not None else None
        answer = self._pool.request(method, self.server + path, body=data, headers={"Content-Type": kind})
        if ok and answer.status not in ok:
            raise RuntimeError(f"{method} {path}: {answer.status} {answer.data[:500]!r}")
        return answer.status, json.loads(answer.data or b"{}")

    def get(self, path):
        """The object, None when there is none."""
        status, body = self.call("GET", path, ok=(200, 404))
        return body if status == 200 else None

    def items(self, path):
        return self.call("GET", path)[1].get("items", [])

    def create(self, path, body):
        return self.call("POST", path, body)[1]

    def merge(self, path, body):
        return self.call("PATCH", path, body, "application/merge-patch+json")[1]

    def delete(self, path):
        self.call("DELETE", path, {"propagationPolicy": "Background"}, ok=(200, 202, 404))


class Kubelet(threading.Thread):
    """Lets each pod of a worker run and end, as its object's name says: `fail65-...`, `hold-...`, else success."""

    def __init__(self, api):
        super().__init__(daemon=True)
        self.api, self.stopping = api, threading.Event()
        self.start()

    def run(self):
        while not self.stopping.wait(0.2):
            try:
                for pod in self.api.items("/api/v1/pods"):
                    self.step(pod)
            except (RuntimeError, urllib3.exceptions.HTTPError, ValueError):
                continue  # an outage is what some tests are about

    def step(self, pod):
        phase, meta = pod["status"].get("phase"), pod["metadata"]
        if meta.get("deletionTimestamp"):
            path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}?gracePeriodSeconds=0"
            self.api.call("DELETE", path, ok=(200, 202, 404))
        elif phase == "Pending":
            self.set(pod, "Running", {"running": {"startedAt": now()}})
        elif phase == "Running" and not meta["labels"]["kafka.oso.sh/name"].startswith("hold"):
            self.end(pod)

    def end(self, pod):
        name, labels = pod["metadata"]["labels"]["kafka.oso.sh/name"], pod["metadata"]["labels"]
        code = int(name[4:].split("-")[0]) if name.startswith("fail") else 0
        report = {"version": 1, "jobUid": labels["controller-uid"], "operation": "backup", "exitCode": code,
                  "state": "Failed" if code else "Succeeded", "recordsProcessed": 7, "bytesProcessed": 70}
        if code:
            report.update(reason="BackupCorrupt", message="a test wants it so")
        ended = {"exitCode": code, "reason": "Error" if code else "Completed", "startedAt": now(), "finishedAt": now(),
                 "message": json.dumps(report)}
        self.set(pod, "Failed" if code else "Succeeded", {"terminated": ended})

    def set(self, pod, phase, state):
        meta = pod["metadata"]
        container = {"name": "worker", "image": "worker", "imageID": "", "ready": False, "restartCount": 0,
                     "state": state}
        self.api.call("PATCH", f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}/status",
                      {"status": {"phase": phase, "containerStatuses": [container]}},
                      "application/merge-patch+json", ok=(200, 404, 409))

    def stop(self):
        self.stopping.set()
        self.join()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Operator:
    """One process of the operator; restarts by start()."""

    def __init__(self, kubeconfig, folder, name="op-1", settings=None):
        self.kubeconfig, self.log = kubeconfig, pathlib.Path(folder, f"{name}.log")
        self.name, self.settings, self.process, self.health = name, settings or SETTINGS, None, free_port()

    def start(self, failpoint=None, leader_election=False):
        env = {**os.environ, "KB_WORKER_SETTINGS": json.dumps(self.settings), "KB_NAMESPACE": "default",
               "KB_POD_NAME": self.name}
        env.pop("KB_FAILPOINT", None)
        if failpoint:
            env["KB_FAILPOINT"] = failpoint
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [OPERATOR, f"--kubeconfig={self.kubeconfig}", "--metrics-port=0", f"--health-port={self.health}",
                 f"--leader-election={str(leader_election).lower()}"], stdout=log, stderr=log, env=env)
        return self

    def is_dead(self):
        return self.process.poll() is not None

    def is_ready(self):
        try:
            return urllib3.request("GET", f"http://127.0.0.1:{self.health}/readyz", retries=False).status == 200
        except urllib3.exceptions.HTTPError:
            return False

    def stop(self, kill=False):
        """The exit status."""
        if self.process is None:
            return None
        self.process.send_signal(signal.SIGKILL if kill else signal.SIGTERM)
        status = self.process.wait(timeout=60)
        self.process = None
        return status


def backup(name, **spec):
    return {"apiVersion": "kafka.oso.sh/v1alpha1", "kind": "KafkaBackup", "metadata": {"name": name},
            "spec": {"kafkaCluster": {"bootstrapServers": ["kafka:9092"]},
                     "storage": {"storageType": "s3", "s3": {"bucket": "bucket"}}, **spec}}


def restore(name, **spec):
    return {"apiVersion": "kafka.oso.sh/v1alpha1", "kind": "KafkaRestore", "metadata": {"name": name},
            "spec": {"backupId": "b-20241201-120000", "targetCluster": {"bootstrapServers": ["kafka:9092"]},
                     "storage": {"storageType": "s3", "s3": {"bucket": "bucket"}}, **spec}}


def offsets(kind, name, **spec):
    return {"apiVersion": "kafka.oso.sh/v1alpha1", "kind": f"KafkaOffset{kind}", "metadata": {"name": name},
            "spec": spec}


def condition(thing, kind):
    """(status, reason) of a condition."""
    for item in (thing or {}).get("status", {}).get("conditions", []):
        if item["type"] == kind:
            return item["status"], item["reason"]
    return None, None
