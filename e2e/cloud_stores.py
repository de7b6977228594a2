"""Real servers of Azure Blob and Google Cloud Storage for tests (lab/stores-lab), and the clouds' token services.

The clients here are written from the services' descriptions with the standard library alone.
"""
import base64
import datetime
import hashlib
import hmac
import json
import os
import pathlib
import re
import ssl
import subprocess
import tempfile
import urllib.error
import urllib.parse
import urllib.request
import xml.etree.ElementTree as ET

from kafka import PortBlock

LAB = pathlib.Path(__file__).resolve().parent / "lab" / "stores-lab"
AZURE_VERSION = "2020-10-02"


def lab(*args):
    """Runs stores-lab; its KEY=VALUE lines as a dict."""
    done = subprocess.run([LAB, *map(str, args)], stdout=subprocess.PIPE, text=True, check=True)
    return dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)


def bucket_name(name):
    """A legal name of a bucket or container."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower())[-50:].strip("-") + "-b"


class Server:
    """A server of the lab. It ends with close(), or with this process."""

    def __init__(self, name, tls=False):
        lab("install", name)
        self.name, self.tls, self._ports = name, tls, PortBlock()
        self._dir = tempfile.TemporaryDirectory(prefix="store-")
        self.port = self._ports.base
        self.facts = lab("up", name, "-d", self._dir.name, "-p", self.port, "-w", os.getpid(), *(["-t"] if tls else []))
        self.ca_file = self.facts["CA_FILE"]

    def open(self, method, url, headers=None, body=None):
        """The answer (status, headers, body); statuses are no errors."""
        request = urllib.request.Request(url, body, headers or {}, method=method)
        context = ssl.create_default_context(cafile=self.ca_file) if self.tls else None
        handlers = [urllib.request.ProxyHandler({})]
        if context:
            handlers.append(urllib.request.HTTPSHandler(context=context))
        try:
            with urllib.request.build_opener(*handlers).open(request, timeout=30) as answer:
                return answer.status, dict(answer.headers), answer.read()
        except urllib.error.HTTPError as e:
            return e.code, dict(e.headers), e.read()

    def close(self):
        lab("down", self.name, "-p", self.port)
        self._dir.cleanup()
        self._ports.release()


class Mirror:
    """What both clients have: copying a bucket into a directory, for those who read directories (kbak)."""

    def mirror(self, bucket, directory, prefix=""):
        for key in self.keys(bucket):
            if key.startswith(prefix):
                path = pathlib.Path(directory) / key[len(prefix):].lstrip("/")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(self.read(bucket, key))
        return pathlib.Path(directory)


class Azure(Server, Mirror):
    """Azurite: checks SharedKey and SAS; with tls it takes OAuth tokens, too."""

    def __init__(self, tls=False):
        super().__init__("azure", tls)
        self.account, self.key = self.facts["AZURE_ACCOUNT"], self.facts["AZURE_KEY"]
        self.endpoint = self.facts["AZURE_ENDPOINT"]
        if tls:
            self.endpoint = self.endpoint.replace("127.0.0.1", "localhost")

    def _sign(self, text):
        return base64.b64encode(hmac.digest(base64.b64decode(self.key), text.encode(), "sha256")).decode()

    def request(self, method, path, query=None, body=None, **headers):
        now = datetime.datetime.now(datetime.timezone.utc).strftime("%a, %d %b %Y %H:%M:%S GMT")
        own = {"x-ms-date": now, "x-ms-version": AZURE_VERSION, **{k.replace("_", "-"): v for k, v in headers.items()}}
        target = urllib.parse.urlsplit(self.endpoint).path + urllib.parse.quote(path, safe="/")
        query = query or {}
        resource = f"/{self.account}{target}" + "".join(f"\n{k}:{query[k]}" for k in sorted(query))
        length = str(len(body)) if body else ""
        kind = "application/octet-stream" if body is not None else ""
        lines = [method, "", "", length, "", kind, "", "", "", "", "", ""]
        lines += [f"{k}:{own[k]}" for k in sorted(own)] + [resource]
        own["Authorization"] = f"SharedKey {self.account}:{self._sign(chr(10).join(lines))}"
        if body is not None:
            own["Content-Type"] = kind
        url = self.endpoint + urllib.parse.quote(path, safe="/")
        return self.open(method, url + ("?" + urllib.parse.urlencode(query) if query else ""), own, body)

    def bucket(self, name):
        name = bucket_name(name)
        status, _, body = self.request("PUT", f"/{name}", {"restype": "container"})
        assert status == 201, body
        return name

    def keys(self, bucket):
        found, marker = [], ""
        while True:
            query = {"restype": "container", "comp": "list", **({"marker": marker} if marker else {})}
            status, _, body = self.request("GET", f"/{bucket}", query)
            assert status == 200, body
            root = ET.fromstring(body)
            found += [e.findtext("Name") for e in root.iter("Blob")]
            marker = root.findtext("NextMarker")
            if not marker:
                return found

    def read(self, bucket, key):
        status, _, body = self.request("GET", f"/{bucket}/{key}")
        assert status == 200, body
        return body

    def lease(self, bucket, key):
        """Nobody removes it until release() with what this returns."""
        status, headers, body = self.request("PUT", f"/{bucket}/{key}", {"comp": "lease"},
                                             x_ms_lease_action="acquire", x_ms_lease_duration="-1")
        assert status == 201, body
        return {name.lower(): value for name, value in headers.items()}["x-ms-lease-id"]

    def release(self, bucket, key, lease):
        status, _, body = self.request("PUT", f"/{bucket}/{key}", {"comp": "lease"},
                                       x_ms_lease_action="release", x_ms_lease_id=lease)
        assert status == 200, body

    def sas(self, bucket, permissions="rcwdl", seconds=3600):
        """A SAS of the account ("Create an account SAS" of the reference)."""
        day = datetime.datetime.now(datetime.timezone.utc)
        end = (day + datetime.timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")
        start = (day - datetime.timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
        text = "\n".join([self.account, permissions, "b", "sco", start, end, "", "https,http", AZURE_VERSION, ""])
        return urllib.parse.urlencode({"sv": AZURE_VERSION, "ss": "b", "srt": "sco", "sp": permissions, "st": start,
                                       "se": end, "spr": "https,http", "sig": self._sign(text)})

    def connection_string(self):
        return f"AccountName={self.account};AccountKey={self.key};BlobEndpoint={self.endpoint}/"

    def block(self, bucket, prefix="", **more):
        """A storage block for a configuration; what is None in `more` is left out."""
        block = {"backend": "azure", "account_name": self.account, "container_name": bucket, "endpoint": self.endpoint,
                 "allow_http": True, "account_key": self.key, "prefix": prefix, "ca_file": self.ca_file, **more}
        return {k: v for k, v in block.items() if v is not None}

    def location(self, bucket, prefix=""):
        return f"azure://{self.account}/{bucket}/{prefix}?endpoint={self.endpoint}&allow_http=true"

    def secrets(self):
        return [self.key]


class Gcs(Server, Mirror):
    """fake-gcs-server behind a gate that asks for OAuth tokens and V4 signatures."""

    def __init__(self, tls=False):
        super().__init__("gcs", tls)
        self.endpoint, self.account_file = self.facts["GCS_ENDPOINT"], self.facts["GOOGLE_APPLICATION_CREDENTIALS"]

    def request(self, method, target, body=b"", query=""):
        """Signed by an HMAC key (GOOG4-HMAC-SHA256)."""
        stamp = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
        host, digest = urllib.parse.urlsplit(self.endpoint).netloc, hashlib.sha256(body).hexdigest()
        headers = {"host": host, "x-goog-content-sha256": digest, "x-goog-date": stamp}
        names = ";".join(sorted(headers))
        asked = "&".join(sorted(query.split("&"))) if query else ""
        lines = [f"{k}:{headers[k]}" for k in sorted(headers)]
        canonical = "\n".join([method, target, asked, *lines, "", names, digest])
        scope = [stamp[:8], "auto", "storage", "goog4_request"]
        text = f"GOOG4-HMAC-SHA256\n{stamp}\n{'/'.join(scope)}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
        key = b"GOOG4" + self.facts["GCS_HMAC_SECRET"].encode()
        for part in [*scope, text]:
            key = hmac.digest(key, part.encode(), "sha256")
        headers["Authorization"] = (f"GOOG4-HMAC-SHA256 Credential={self.facts['GCS_HMAC_KEY']}/{'/'.join(scope)}, "
                                    f"SignedHeaders={names}, Signature={key.hex()}")
        headers["Content-Type"] = "application/json"
        return self.open(method, self.endpoint + target + ("?" + query if query else ""), headers, body or None)

    def bucket(self, name):
        name = bucket_name(name)
        status, _, body = self.request("POST", "/storage/v1/b", json.dumps({"name": name}).encode(), "project=lab")
        assert status == 200, body
        return name

    def keys(self, bucket):
        found, token = [], ""
        while True:
            query = "maxResults=1000" + (f"&pageToken={urllib.parse.quote(token, safe='')}" if token else "")
            status, _, body = self.request("GET", f"/storage/v1/b/{bucket}/o", query=query)
            assert status == 200, body
            page = json.loads(body)
            found += [item["name"] for item in page.get("items", [])]
            token = page.get("nextPageToken")
            if not token:
                return found

    def read(self, bucket, key):
        target = f"/storage/v1/b/{bucket}/o/{urllib.parse.quote(key, safe='')}"
        status, _, body = self.request("GET", target, query="alt=media")
        assert status == 200, body
        return body

    def block(self, bucket, prefix="", **more):
        block = {"backend": "gcs", "bucket": bucket, "endpoint": self.endpoint, "allow_http": True, "prefix": prefix,
                 "service_account_path": self.account_file, "ca_file": self.ca_file, **more}
        return {k: v for k, v in block.items() if v is not None}

    def location(self, bucket, prefix=""):
        return f"gs://{bucket}/{prefix}?endpoint={self.endpoint}&allow_http=true"

    def secrets(self):
        key = json.loads(pathlib.Path(self.account_file).read_text())["private_key"]
        return [key.splitlines()[3]]


class Tokens(Server):
    """The clouds' token services: OIDC issuer, Entra ID, Google's token endpoint; strict about what they are sent."""

    def __init__(self, tls=True):
        super().__init__("sts", tls)
        self.url = self.facts["AZURE_AUTHORITY_HOST"]

    def projected(self, audience="api://AzureADTokenExchange", **options):
        """A token as a cluster projects it into a pod."""
        query = urllib.parse.urlencode({"aud": audience, **options})
        status, _, body = self.open("GET", f"{self.url}/token?{query}")
        assert status == 200, body
        return body.decode()
