"""The node with the chart installed, and brokers and a store that its pods reach."""
import pytest

import stores
from kafka import Cluster
from node import NAMESPACE, RELEASE, Forwarder, Node
from refclient import RefClient
from chart import CHART


@pytest.fixture(scope="session")
def node():
    node = Node()
    try:
        node.helm("install", RELEASE, str(CHART), "-n", NAMESPACE, "--wait", "--timeout", "120s")
        yield node
    finally:
        node.close()


@pytest.fixture(scope="session")
def kafka(node):
    with Cluster(host=node.host_ip) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def client(kafka):
    with RefClient(kafka.bootstrap) as client:
        yield client


@pytest.fixture(scope="session")
def s3(node):
    """A store; `url` is where pods reach it."""
    store = stores.S3("s3")
    forwarder = Forwarder(node.host_ip, store.port)
    store.url = f"http://{node.host_ip}:{forwarder.port}"
    yield store
    forwarder.shutdown()
    store.close()


@pytest.fixture
def namespace(node, unique):
    """A namespace of the test's own, gone after it."""
    name = node.namespace(unique.lower().replace(".", "-")[-50:].strip("-"))
    yield name
    node.run("delete", "namespace", name, "--wait=false")
