"""The Kafka layer's own tests, which want a real broker (worker/tests/test_kafka_live.c)."""
import os
import subprocess

from worker import BINARY

PROGRAM = BINARY.parent / "worker/tests/test_kafka_live"


def test_kafka_layer_against_a_real_broker(kafka):
    result = subprocess.run([PROGRAM], env={**os.environ, "KB_TEST_KAFKA": kafka.bootstrap}, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=250)
    assert result.returncode == 0 and "PASSED" in result.stdout, result.stdout[-20000:]
    assert "SKIPPED" not in result.stdout, result.stdout[-20000:]
