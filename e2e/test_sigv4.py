"""Our signer against an independent one: random requests have to get the same signature from both."""
import hashlib
import pathlib
import random
import subprocess
import urllib.parse

import botocore.auth
import botocore.awsrequest
import botocore.credentials

from worker import BINARY

SIGNER = pathlib.Path(BINARY).parent / "worker/tests/test_aws_sigv4"
ID, SECRET = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
ALPHABET = "abcXYZ019-._~!$&'()*+,;=:@/ %\"<>[]^`{|}#?äé中"
DAY = "20240229"
REQUESTS = 1000


def text_of(rng, longest, alphabet=ALPHABET):
    return "".join(rng.choice(alphabet) for _ in range(rng.randrange(longest)))


def request_of(rng):
    path = "/" + text_of(rng, 40)
    params = {text_of(rng, 8) + str(i): text_of(rng, 20) for i in range(rng.randrange(6))}
    headers = {f"x-amz-meta-{i}": (" " * rng.randrange(3)).join(text_of(rng, 12, "abc 019=;").split()) + "x"
               for i in range(rng.randrange(5))}
    headers["Host"] = rng.choice(["bucket.s3.amazonaws.com", "127.0.0.1:9000", "minio.local"])
    return {"method": rng.choice(["GET", "PUT", "POST", "DELETE", "HEAD"]), "path": path, "params": params,
            "headers": headers, "region": rng.choice(["us-east-1", "eu-central-1", "cn-north-1"]),
            "time": f"{DAY}T{rng.randrange(24):02}{rng.randrange(60):02}{rng.randrange(60):02}Z",
            "hash": hashlib.sha256(text_of(rng, 50).encode()).hexdigest()}


class Signer(botocore.auth.S3SigV4Auth):
    """botocore's, with the time and the payload hash given."""

    def __init__(self, region, time, payload_hash):
        super().__init__(botocore.credentials.Credentials(ID, SECRET), "s3", region)
        self._given_time, self._hash = time, payload_hash

    def payload(self, request):
        return self._hash

    def sign(self, request):
        request.context["timestamp"] = self._given_time
        request.headers["X-Amz-Date"] = self._given_time
        request.headers["X-Amz-Content-SHA256"] = self._hash
        string = self.string_to_sign(request, self.canonical_request(request))
        headers = self.signed_headers(self.headers_to_sign(request))
        return (f"AWS4-HMAC-SHA256 Credential={self.scope(request)}, SignedHeaders={headers}, "
                f"Signature={self.signature(string, request)}")


def signed_by_botocore(r):
    url = f"http://{r['headers']['Host']}{urllib.parse.quote(r['path'], safe='/-_.~')}"
    query = "&".join(f"{urllib.parse.quote(k, safe='-_.~')}={urllib.parse.quote(v, safe='-_.~')}"
                     for k, v in r["params"].items())
    request = botocore.awsrequest.AWSRequest(r["method"], url + (f"?{query}" if query else ""), dict(r["headers"]))
    return Signer(r["region"], r["time"], r["hash"]).sign(request)


def line_of(r):
    pairs = ["\x1f".join(f"{k}\x1e{v}" for k, v in r[key].items()) for key in ("params", "headers")]
    return "\t".join([r["method"], r["path"], pairs[0], r["region"], pairs[1], r["hash"], r["time"]])


def test_a_thousand_random_requests_are_signed_alike():
    rng = random.Random(20240229)
    requests = [request_of(rng) for _ in range(REQUESTS)]
    done = subprocess.run([SIGNER, "sign"], input="\n".join(map(line_of, requests)) + "\n", stdout=subprocess.PIPE,
                          text=True, check=True)
    lines = done.stdout.splitlines()
    assert len(lines) == REQUESTS
    for request, line in zip(requests, lines):
        assert line == signed_by_botocore(request), request
