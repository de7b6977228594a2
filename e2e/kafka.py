"""Real Kafka brokers for a test session (lab/kafka-lab)."""
import fcntl
import os
import pathlib
import random
import shlex
import shutil
import socket
import subprocess
import tempfile

LAB = pathlib.Path(__file__).resolve().parent / "lab" / "kafka-lab"
BLOCK = 30  # a cluster uses PORT.., PORT+10.., PORT+20..
# Deletion by age would take records with old timestamps at once, and 10 MiB records are part of the tests.
CONFIG = {"log.retention.ms": -1, "message.max.bytes": 20 << 20, "replica.fetch.max.bytes": 20 << 20,
          "log.message.timestamp.after.max.ms": 2**63 - 1, "offsets.retention.check.interval.ms": 600000}


class PortBlock:
    """Free consecutive ports below the ephemeral range; a lock keeps other sessions out of the block."""

    def __init__(self):
        bases = list(range(20010, 32000, BLOCK))
        random.shuffle(bases)
        for self.base in bases:
            self._path = pathlib.Path(tempfile.gettempdir()) / f"kafka-backup-ports-{os.getuid()}-{self.base}"
            self._lock = open(self._path, "w", encoding="ascii")
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                self._lock.close()
                continue
            if all(self._is_free(port) for port in range(self.base, self.base + BLOCK)):
                return
            self._lock.close()
        raise RuntimeError("no free block of ports")

    @staticmethod
    def _is_free(port):
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                s.bind(("127.0.0.1", port))
            except OSError:
                return False
        return True

    def release(self):
        self._path.unlink(missing_ok=True)
        self._lock.close()


class Cluster:
    """Brokers 1..n in one directory. They end with close(), or with this process, however it ends."""

    def __init__(self, brokers=1, sasl=None, tls=False, mtls=False, acl=False, users=(), config=None, version=None,
                 host=None):
        self.brokers = brokers
        self._env = dict(os.environ, **({"KAFKA_LAB_VERSION": version} if version else {}))
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="kafka-"))
        self._ports = PortBlock()
        args = ["-n", str(brokers), "-p", str(self._ports.base), "--owner", str(os.getpid())]
        for key, value in {**CONFIG, **(config or {})}.items():
            args += ["-c", f"{key}={value}"]
        args += ["-a", host, "-b", "0.0.0.0"] if host else []  # host: what clients elsewhere reach this machine by
        args += ["--sasl", sasl] if sasl else []
        args += ["--tls"] * tls + ["--mtls"] * mtls + ["--acl"] * acl
        for name, password in users:
            args += ["--user", f"{name}:{password}"]
        try:
            self._lab("up", *args)
        except BaseException:
            self.close()
            raise
        env = {}
        for line in (self.dir / "lab.env").read_text().splitlines():
            name, _, value = line.partition("=")
            env[name] = "".join(shlex.split(value))
        self.bootstrap = env["BOOTSTRAP"]  # plaintext
        self.secure = env.get("SECURE") or None
        self.client_properties = self.dir / "client.properties" if self.secure else None  # for Java clients
        self.tls_dir = self.dir / "tls"  # ca.crt, client.crt, client.key

    def _lab(self, verb, *args):
        done = subprocess.run([LAB, verb, "-d", self.dir, *args], env=self._env, text=True, check=False,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if done.returncode:
            raise RuntimeError(f"kafka-lab {verb} failed:\n{done.stdout}")
        return done.stdout

    def kill(self, broker):
        """SIGKILL."""
        self._lab("kill", str(broker))

    def stop(self, broker):
        self._lab("stop", str(broker))

    def start(self, broker=None):
        """Starts one broker (or all) and waits until it is ready."""
        self._lab("start", *([] if broker is None else [str(broker)]))

    def pid(self, broker):
        return int((self.dir / f"broker-{broker}.pid").read_text())

    def log(self, broker=1):
        return (self.dir / f"broker-{broker}.log").read_text(errors="replace")

    def close(self):
        if self._ports:
            if (self.dir / "lab.env").exists():
                self._lab("down")
            shutil.rmtree(self.dir, ignore_errors=True)
            self._ports.release()
            self._ports = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
