"""Runs the built worker as a user would: a config file, a command, an exit code, a report.

KB_WORKER names the binary (default: the test build, build/test/kafka-backup-worker).
"""
import json
import os
import pathlib
import signal
import subprocess
import time
from typing import NamedTuple, Optional

import yaml

ROOT = pathlib.Path(__file__).resolve().parent.parent
BINARY = pathlib.Path(os.environ.get("KB_WORKER") or ROOT / "build/test/kafka-backup-worker").resolve()
# Sanitizers take several times the memory, so a limit says nothing there.
IS_SANITIZED = any(word in BINARY.parts for word in ("asan", "tsan"))

# Under these a run can see no Kubernetes of the machine that it runs on, nor settings of a user.
_DROPPED = ("KB_", "KUBERNETES_", "AWS_", "AZURE_", "GOOGLE_")
SANITIZER_EXIT = 86


class Result(NamedTuple):
    code: int  # exit code; -N when signal N ended it
    stdout: str
    stderr: str
    report: Optional[dict]  # the run report, None when none was written
    seconds: float

    def json(self):
        return json.loads(self.stdout)


class Run:
    """A worker that is running."""

    def __init__(self, process, report_path, log_path, started):
        self.process, self._report_path, self._log_path, self._started = process, report_path, log_path, started

    @property
    def pid(self):
        return self.process.pid

    def is_running(self):
        return self.process.poll() is None

    def signal(self, number=signal.SIGTERM):
        self.process.send_signal(number)

    def kill(self, timeout=30):
        """SIGKILL, and wait."""
        self.process.kill()
        return self.wait(timeout)

    def report(self):
        """The report as it is now; None before the first one."""
        try:
            return json.loads(self._report_path.read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            return None

    def log(self):
        return self._log_path.read_text(errors="replace")

    def wait_for(self, condition, timeout=60, what="the condition"):
        """Polls condition() until it is true; fails when the worker ends or the time is over."""
        deadline = time.monotonic() + timeout
        while not condition():
            ended = not self.is_running()
            if (ended or time.monotonic() > deadline) and not condition():
                raise AssertionError(f"{what} did not happen{' before the end' if ended else ''}:\n{self.log()}")
            time.sleep(0.01)

    def wait(self, timeout=240):
        """The result; kills the worker and fails when it takes longer."""
        try:
            stdout, _ = self.process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired as e:
            self.process.kill()
            self.process.communicate()
            raise AssertionError(f"the worker did not end within {timeout} s:\n{self.log()[-20000:]}") from e
        log = self.log()
        for sign in ("ERROR: AddressSanitizer", "ERROR: LeakSanitizer", "runtime error:", "WARNING: ThreadSanitizer"):
            assert sign not in log, log[log.index(sign):][:20000]
        return Result(self.process.returncode, stdout, log, self.report(), time.monotonic() - self._started)


class Worker:
    """Runs in one directory, which holds configs, logs and reports, numbered."""

    def __init__(self, directory, binary=BINARY):
        self.dir, self.binary, self._number = pathlib.Path(directory), binary, 0
        self.prefix = []  # a command that runs the worker, to change its user, say

    def start(self, command, config=None, *args, env=None, failpoint=None, text=None):
        """Starts a command. config: a dict, written as YAML, or text for the file as it is. failpoint: the value of
        KB_FAILPOINT. An `env` value of None removes a variable.
        """
        self._number += 1
        base = self.dir / f"run-{self._number}"
        line = [*self.prefix, str(self.binary), command]
        if config is not None or text is not None:
            path = base.with_suffix(".yaml")
            path.write_text(text if text is not None else yaml.safe_dump(config, sort_keys=False))
            line += ["--config", str(path)]
        report, log = base.with_suffix(".report"), base.with_suffix(".log")
        variables = {k: v for k, v in os.environ.items() if not k.startswith(_DROPPED)}
        variables.update(KB_TERMINATION_LOG=str(report), LSAN_OPTIONS=f"exitcode={SANITIZER_EXIT}",
                         ASAN_OPTIONS=f"exitcode={SANITIZER_EXIT}:detect_stack_use_after_return=1",
                         UBSAN_OPTIONS="print_stacktrace=1",
                         TSAN_OPTIONS=f"exitcode={SANITIZER_EXIT}:suppressions={ROOT}/scripts/tsan.supp")
        if failpoint:
            variables["KB_FAILPOINT"] = failpoint
        for name, value in (env or {}).items():
            variables.pop(name, None)
            if value is not None:
                variables[name] = str(value)
        with open(log, "wb") as stderr:
            process = subprocess.Popen(line + [str(a) for a in args], stdin=subprocess.DEVNULL, cwd=self.dir,
                                       stdout=subprocess.PIPE, stderr=stderr, text=True, env=variables)
        return Run(process, report, log, time.monotonic())

    def run(self, command, config=None, *args, timeout=240, **options):
        """Starts a command and waits for its result."""
        return self.start(command, config, *args, **options).wait(timeout)

    def run_ok(self, command, config=None, *args, code=0, **options):
        """The same; fails unless it ends with `code`."""
        result = self.run(command, config, *args, **options)
        assert result.code == code, f"exit code {result.code}, wanted {code}\n{result.stdout}\n{result.stderr}"
        return result


def kafka_block(cluster, secure=False, **security):
    """A source or target block; keyword arguments are security settings."""
    block = {"bootstrap_servers": [cluster.secure if secure else cluster.bootstrap]}
    if security:
        block["security"] = security
    return block


def _merge(base, more):
    for key, value in more.items():
        if isinstance(value, dict) and isinstance(base.get(key), dict):
            _merge(base[key], value)
        else:
            base[key] = value
    return base


def backup_config(cluster, storage, backup_id, topics=(), **more):
    """A whole configuration; `more` is merged into it (metrics are off, for their port is the same for all)."""
    return _merge({"mode": "backup", "backup_id": backup_id,
                   "source": {**kafka_block(cluster), "topics": {"include": list(topics)}},
                   "storage": {"backend": "filesystem", "path": str(storage)},
                   "metrics": {"enabled": False}}, more)


def restore_config(cluster, storage, backup_id, topics=(), **more):
    """The same for a restore, with topics created and waiting for stragglers cut to the least."""
    return _merge({"mode": "restore", "backup_id": backup_id,
                   "target": {**kafka_block(cluster), "topics": {"include": list(topics)}},
                   "storage": {"backend": "filesystem", "path": str(storage)},
                   "restore": {"create_topics": True},
                   "metrics": {"enabled": False}}, more)
