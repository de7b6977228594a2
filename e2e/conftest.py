"""Fixtures that all tests share: brokers, the reference client, the built worker."""
import os
import re

import pytest

from kafka import Cluster
from refclient import RefClient
from worker import Worker


@pytest.fixture(scope="session")
def kafka():
    """One broker, for everything that does not need a special one. Topics of a test have names of their own."""
    with Cluster() as cluster:
        yield cluster


@pytest.fixture(scope="session")
def kafka3():
    """Three brokers; replication factor 3 by default. A test that stops one starts it again."""
    with Cluster(brokers=3) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def other_kafka():
    """A second cluster, the usual target of a restore."""
    with Cluster() as cluster:
        yield cluster


@pytest.fixture(scope="session")
def secured_kafka():
    """Function (sasl=None, tls=False, mtls=False, ...) -> a cluster with that secure listener, started once."""
    clusters = {}

    def get(**options):
        key = repr(sorted(options.items()))
        if key not in clusters:
            clusters[key] = Cluster(**options)
        return clusters[key]
    yield get
    for cluster in clusters.values():
        cluster.close()


@pytest.fixture(scope="session")
def client(kafka):
    """Reference client of `kafka`."""
    with RefClient(kafka.bootstrap) as c:
        yield c


@pytest.fixture(scope="session")
def client3(kafka3):
    with RefClient(kafka3.bootstrap) as c:
        yield c


@pytest.fixture(scope="session")
def other_client(other_kafka):
    with RefClient(other_kafka.bootstrap) as c:
        yield c


@pytest.fixture
def unique(request):
    """A name that no other test uses; legal as a topic and as a backup id."""
    unique.counter = getattr(unique, "counter", 0) + 1
    return re.sub(r"[^A-Za-z0-9.-]+", "-", request.node.name)[:80].strip("-.") + f"-{unique.counter}"


@pytest.fixture
def worker(tmp_path):
    """The built worker; see worker.py."""
    return Worker(tmp_path)


def pytest_collection_modifyitems(items):
    if os.environ.get("KB_SKIP_SLOW"):
        for item in items:
            if item.get_closest_marker("slow"):
                item.add_marker(pytest.mark.skip(reason="KB_SKIP_SLOW"))


def pytest_terminal_summary(terminalreporter):
    """The numbers for scripts/test."""
    stats = terminalreporter.stats
    passed = len(stats.get("passed", []))
    failed = len(stats.get("failed", [])) + len(stats.get("error", []))
    terminalreporter.write_line(f"integration: {passed} passed, {failed} failed")
    path = os.environ.get("KB_RESULTS")
    if path:
        with open(path, "a", encoding="ascii") as f:
            f.write(f"{passed} {failed}\n")
