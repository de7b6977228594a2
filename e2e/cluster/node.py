"""A whole Kubernetes node with the chart and the built images, and what a user does with it by kubectl."""
import json
import os
import pathlib
import shutil
import socket
import socketserver
import subprocess
import tempfile
import threading
import time

import chart
import k8s

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
IMAGES = pathlib.Path(os.environ.get("KB_IMAGE_ARCHIVES", ROOT / "build/images"))
RELEASE = "kafka-backup-operator"
NAMESPACE = "kafka-backup"


class Node:
    """One node of the lab; pods are held to Pod Security `restricted`. All of it goes with close()."""

    def __init__(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="kb-node-"))
        self.dir.chmod(0o755)
        try:
            self.lab("up")
            facts = dict(line.split("=", 1) for line in (self.dir / "lab/lab.env").read_text().split() if "=" in line)
            self.host_ip = facts["HOST_IP"]  # this machine, as pods see it
            self.lab("load", *(IMAGES / f"{program}.tar" for program in ("operator", "worker")))
            self.namespace(NAMESPACE)
        except BaseException:
            self.close()
            raise

    def lab(self, verb, *arguments, check=True):
        return subprocess.run([k8s.LAB, verb, "-d", self.dir / "lab", *map(str, arguments)], check=check, text=True,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE).stdout

    def close(self):
        self.lab("down", check=False)
        shutil.rmtree(self.dir, ignore_errors=True)

    # ---- as a user ----
    def run(self, *arguments, stdin=None):
        """(exit code, stdout, stderr) of kubectl."""
        done = subprocess.run([k8s.LAB, "kubectl", "-d", self.dir / "lab", *map(str, arguments)], text=True,
                              input=stdin, capture_output=True)
        return done.returncode, done.stdout, done.stderr

    def kubectl(self, *arguments, stdin=None):
        code, out, err = self.run(*arguments, stdin=stdin)
        assert code == 0, err
        return out

    def helm(self, *arguments):
        done = subprocess.run([chart.tool("helm"), "--kubeconfig", self.dir / "lab/admin.kubeconfig", *arguments],
                              text=True, capture_output=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def namespace(self, name):
        self.kubectl("create", "namespace", name)
        self.kubectl("label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted")
        return name

    def apply(self, namespace, *docs):
        self.kubectl("apply", "--validate=strict", "-n", namespace, "-f", "-",
                     stdin="\n---\n".join(json.dumps(doc) for doc in docs))

    def get(self, namespace, kind, name):
        code, out, _ = self.run("get", "-n", namespace, kind, name, "-o", "json")
        return json.loads(out) if code == 0 else None

    def items(self, namespace, kind, *arguments):
        return json.loads(self.kubectl("get", "-n", namespace, kind, "-o", "json", *arguments))["items"]

    def wait(self, what, condition, timeout=120):
        """The first true value of condition()."""
        deadline = time.monotonic() + timeout
        while True:
            value = condition()
            if value:
                return value
            assert time.monotonic() < deadline, f"{what} did not happen in {timeout} s\n{self.situation()}"
            time.sleep(0.5)

    def situation(self):
        """What a person would look at first."""
        return "\n".join(self.run(*arguments)[1][-6000:] for arguments in (
            ["get", "kafka-backup,cronjobs,jobs,pods", "-A"], ["get", "events", "-A", "--sort-by=.lastTimestamp"],
            ["logs", "-n", NAMESPACE, f"deploy/{RELEASE}", "--tail=40"]))

    def volume(self, namespace, name):
        """A claim of this name and the folder behind it."""
        folder = self.dir / "volumes" / f"{namespace}-{name}"
        folder.mkdir(parents=True)
        os.chown(folder, 1000, 1000)
        size = {"storage": "1Gi"}
        self.apply(namespace, {
            "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": f"{namespace}-{name}"},
            "spec": {"capacity": size, "accessModes": ["ReadWriteOnce"], "storageClassName": "",
                     "hostPath": {"path": str(folder)}, "claimRef": {"name": name, "namespace": namespace}},
        }, {
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name},
            "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "", "resources": {"requests": size},
                     "volumeName": f"{namespace}-{name}"},
        })
        return folder


def condition(resource, kind):
    """(status, reason, message) of a condition; three times None when it is not there."""
    for found in (resource or {}).get("status", {}).get("conditions", []):
        if found["type"] == kind:
            return found["status"], found["reason"], found["message"]
    return None, None, None


class Forwarder(socketserver.ThreadingTCPServer):
    """Lets pods reach a server that listens on loopback only."""

    daemon_threads = allow_reuse_address = True

    def __init__(self, host, target_port):
        class Handler(socketserver.BaseRequestHandler):
            def handle(self):
                with socket.create_connection(("127.0.0.1", target_port)) as out:
                    back = threading.Thread(target=pump, args=(out, self.request), daemon=True)
                    back.start()
                    pump(self.request, out)
                    back.join()
        super().__init__((host, 0), Handler)
        self.port = self.server_address[1]
        threading.Thread(target=self.serve_forever, daemon=True).start()


def pump(source, target):
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass
