"""The Kafka layer's own tests, which want a real broker (worker/tests/test_kafka_live*.c)."""
import os
import pathlib
import subprocess

import pytest

from worker import BINARY, ROOT

PROGRAMS = sorted(p.stem for p in pathlib.Path(ROOT / "worker/tests").glob("test_kafka_live*.c"))


@pytest.mark.parametrize("program", PROGRAMS)
def test_kafka_layer_against_a_real_broker(kafka, program):
    result = subprocess.run([BINARY.parent / "worker/tests" / program], text=True, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, timeout=250,
                            env={**os.environ, "KB_TEST_KAFKA": kafka.bootstrap})
    assert result.returncode == 0 and "PASSED" in result.stdout, result.stdout[-20000:]
    assert "SKIPPED" not in result.stdout, result.stdout[-20000:]
