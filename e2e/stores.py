"""Real object stores for tests (lab/stores-lab), and an independent client that looks into them."""
import hashlib
import os
import pathlib
import re
import subprocess
import tempfile
import urllib.parse
import urllib.request

import botocore.auth
import botocore.awsrequest
import botocore.config
import botocore.credentials
import botocore.session

from kafka import PortBlock

LAB = pathlib.Path(__file__).resolve().parent / "lab" / "stores-lab"
KEY, SECRET, REGION = "labadmin", "labsecretkey", "us-east-1"


def lab(*args):
    """Runs stores-lab; its KEY=VALUE lines as a dict."""
    done = subprocess.run([LAB, *map(str, args)], stdout=subprocess.PIPE, text=True, check=True)
    return dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)


class S3:
    """One server: s3 (MinIO) or s3b (Versity gateway). It ends with close(), or with this process."""

    def __init__(self, name="s3", tls=False):
        lab("install", name)
        self.name, self.ports = name, PortBlock()
        self._dir = tempfile.TemporaryDirectory(prefix="store-")
        self.port = self.ports.base
        self.facts = lab("up", name, "-d", self._dir.name, "-p", self.port, "-w", os.getpid(), *(["-t"] if tls else []))
        self.endpoint = self._plain = self.facts["S3_ENDPOINT"]
        self.ca_file = self.facts["CA_FILE"]
        if tls:  # a name that has buckets below it; not every resolver of Python knows it
            self.endpoint = self.endpoint.replace("127.0.0.1", "s3.localhost")
        self.client = self.client_of(KEY, SECRET)

    def client_of(self, key, secret):
        return botocore.session.get_session().create_client(
            "s3", REGION, endpoint_url=self._plain, aws_access_key_id=key, aws_secret_access_key=secret,
            verify=self.ca_file, config=botocore.config.Config(s3={"addressing_style": "path"},
                                                               retries={"max_attempts": 1}, proxies={}))

    def bucket(self, name, lock=False):
        """A new bucket; its legal name. lock: with Object Lock and a default retention of a day."""
        name = re.sub(r"[^a-z0-9-]+", "-", name.lower()).strip("-")[:55].strip("-")
        self.client.create_bucket(Bucket=name, **({"ObjectLockEnabledForBucket": True} if lock else {}))
        if lock:
            self.client.put_object_lock_configuration(Bucket=name, ObjectLockConfiguration={
                "ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 1}}})
        return name

    def block(self, bucket, prefix="", endpoint=None, **more):
        """A storage block for a configuration."""
        return {"backend": "s3", "bucket": bucket, "region": REGION, "endpoint": endpoint or self.endpoint,
                "allow_http": True, "access_key": KEY, "secret_key": SECRET, **({"prefix": prefix} if prefix else {}),
                **more}

    def location(self, bucket, prefix="", **options):
        """The same for --path; credentials are in env()."""
        query = urllib.parse.urlencode({"endpoint": self.endpoint, "region": REGION, "allow_http": "true", **options},
                                       safe=":/")
        return f"s3://{bucket}{'/' + prefix if prefix else ''}?{query}"

    def env(self):
        return {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}

    def keys(self, bucket):
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        return [item["Key"] for page in pages for item in page.get("Contents", [])]

    def uploads(self, bucket):
        return self.client.list_multipart_uploads(Bucket=bucket).get("Uploads", [])

    def mirror(self, bucket, directory, prefix=""):
        """Copies all objects below the prefix into a directory, for those who read directories (kbak)."""
        for key in self.keys(bucket):
            if key.startswith(prefix):
                path = pathlib.Path(directory) / key[len(prefix):].lstrip("/")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(self.client.get_object(Bucket=bucket, Key=key)["Body"].read())
        return pathlib.Path(directory)

    def close(self):
        lab("down", self.name, "-p", self.port)
        self._dir.cleanup()
        self.ports.release()


class Sts:
    """Stand-ins for STS, container and instance metadata; with a store, what they hand out opens it."""

    def __init__(self, store):
        lab("install", "sts")
        self._ports, self._dir = PortBlock(), tempfile.TemporaryDirectory(prefix="sts-")
        self.facts = lab("up", "sts", "-d", self._dir.name, "-p", self._ports.base, "-w", os.getpid(),
                         "-s", store.facts["S3_ENDPOINT"])
        self.url = self.facts["STS_ENDPOINT"]

    def token(self):
        """A web identity token."""
        with urllib.request.urlopen(self.facts["OIDC_TOKEN_URL"]) as answer:
            return answer.read().decode().strip()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        lab("down", "sts", "-p", self._ports.base)
        self._dir.cleanup()
        self._ports.release()


def resign(method, target, headers, body):
    """Signs a request anew, as a proxy has to that changes it."""
    kept = {n: v for n, v in headers if n.lower() not in ("authorization", "x-amz-date", "x-amz-content-sha256")}
    host = next(v for n, v in headers if n.lower() == "host")
    request = botocore.awsrequest.AWSRequest(method, f"http://{host}{target}", kept, body)
    request.headers["X-Amz-Content-SHA256"] = hashlib.sha256(body).hexdigest()
    botocore.auth.S3SigV4Auth(botocore.credentials.Credentials(KEY, SECRET), "s3", REGION).add_auth(request)
    return list(request.headers.items())
