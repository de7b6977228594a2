"""The operator's runtime against a real API server (operator/tests/test_kube_live.c)."""
import os
import subprocess

import pytest

import k8s
from worker import BINARY

pytestmark = pytest.mark.skipif(not k8s.is_installed(), reason="no Kubernetes here: e2e/lab/k8s-lab install")
PROGRAM = BINARY.parent / "operator/tests/test_kube_live"


@pytest.fixture(scope="module")
def control_plane():
    with k8s.ControlPlane() as plane:
        yield plane


def test_runtime_against_a_real_api_server(control_plane):
    result = subprocess.run([PROGRAM], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120,
                            env={**os.environ, "KB_TEST_KUBECONFIG": str(control_plane.kubeconfig)})
    assert result.returncode == 0 and "PASSED" in result.stdout, result.stdout[-20000:]
    assert "SKIPPED" not in result.stdout, result.stdout[-20000:]
