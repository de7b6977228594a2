"""A Kubernetes control plane of the lab: etcd, API server and controller manager, without root and without pods."""
import os
import pathlib
import re
import subprocess
import tempfile

LAB = pathlib.Path(__file__).parent / "lab" / "k8s-lab"


def is_installed():
    """Whether `k8s-lab install` has been run: it builds Kubernetes, which takes long."""
    ours = pathlib.Path(os.environ.get("KB_CACHE") or pathlib.Path.home() / ".cache/kafka-backup") / "k8s"
    cache = pathlib.Path(os.environ.get("K8S_LAB_HOME") or ours)
    version = os.environ.get("K8S_LAB_KUBE") or re.search(r"K8S_LAB_KUBE:-([0-9.]+)", LAB.read_text()).group(1)
    return (cache / f"kube-{version}" / "kube").exists()


class ControlPlane:
    """One control plane; everything it keeps is in a folder that goes with it."""

    def __init__(self):
        self._dir = tempfile.TemporaryDirectory(prefix="kb-k8s-")
        self.dir = pathlib.Path(self._dir.name)
        self.kubeconfig = self.dir / "lab" / "admin.kubeconfig"
        try:
            self._lab("up", "--control-plane-only")
        except subprocess.CalledProcessError:
            self.close()
            raise

    def _lab(self, verb, *args):
        subprocess.run([LAB, verb, "-d", self.dir / "lab", *args], check=True, stdin=subprocess.DEVNULL)

    def kubectl(self, *args, stdin=None):
        """What kubectl prints."""
        return subprocess.run([LAB, "kubectl", "-d", self.dir / "lab", *args], check=True, text=True, input=stdin,
                              stdout=subprocess.PIPE).stdout

    def stop(self, component):
        """kill -9 of etcd, kube-apiserver, ...; it stays away until start()."""
        self._lab("stop", component)

    def start(self, component):
        self._lab("start", component)

    def close(self):
        try:
            self._lab("down")
        finally:
            self._dir.cleanup()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
