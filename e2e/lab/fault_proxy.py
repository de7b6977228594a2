#!/usr/bin/env python3
"""A proxy before an object store that does what networks and stores do on bad days.

  fault_proxy.py -p PORT --to URL [--rule VERB:NTH:ACTION[=ARG]]...     or as a class: FaultProxy(to)

VERB    HEAD GET PUT POST DELETE, or LIST (GET with list-type), PART (PUT with partNumber), COMPLETE (POST with
        uploadId), ANY
NTH     the nth request of that verb (1 = first), or */N: every Nth
ACTION  status=503   answered without asking the store (429 and 503 with Retry-After: 0)
        reset        connection reset before the store is asked
        lost         the store is asked, and then the connection is reset: the reply is lost
        stall        no answer until the client goes
        short        half of the body, then the connection is closed
        error200     status 200 with an <Error> in the body, after blanks; the store is not asked
        empty200     status 200 and no body; the store is not asked
        range        GET: another range than asked for
        whole        GET: 200 and all of the object instead of the range

Requests pass as they are, Host included, so that their signatures stay good. With `resign` (a function that signs
anew) the condition If-None-Match is taken out: a store that ignores conditions.
"""
import argparse
import http.client
import socket
import struct
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ERROR = b'    \n<Error><Code>InternalError</Code><Message>We encountered an internal error.</Message></Error>'
HOP = {"connection", "keep-alive", "transfer-encoding", "te", "upgrade", "content-length"}


def verbs_of(method, target):
    query = urllib.parse.parse_qs(urllib.parse.urlsplit(target).query, keep_blank_values=True)
    verbs = [method, "ANY"]
    if method == "GET" and ("list-type" in query or "comp" in query):
        verbs.append("LIST")
    if method == "PUT" and ("partNumber" in query or query.get("comp") == ["block"]):
        verbs.append("PART")
    if method == "POST" and "uploadId" in query or query.get("comp") == ["blocklist"]:
        verbs.append("COMPLETE")
    return verbs


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def _reset(self):
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True

    def _send(self, status, headers, body, announced=None):
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in HOP:
                self.send_header(name, value)
        length = dict((n.lower(), v) for n, v in headers).get("content-length") if self.command == "HEAD" else None
        self.send_header("Content-Length", length or str(len(body) if announced is None else announced))
        self.end_headers()
        self.wfile.write(body if self.command != "HEAD" else b"")

    def _forward(self, body, headers):
        to = urllib.parse.urlsplit(self.server.to)
        connection = http.client.HTTPConnection(to.hostname, to.port, timeout=60)
        try:
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in headers:
                if name.lower() not in HOP:
                    connection.putheader(name, value)
            if body or self.command in ("PUT", "POST"):
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body or None)
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            connection.close()

    def _answer(self, action, arg, body):
        if action == "status":
            status = int(arg or 503)
            more = [("Retry-After", "0")] if status in (429, 503) else []
            return self._send(status, more, b"")
        if action == "reset":
            return self._reset()
        if action == "stall":
            self.connection.settimeout(600)
            self.connection.recv(1)  # nothing comes but the end
            self.close_connection = True
            return None
        if action in ("error200", "empty200"):
            return self._send(200, [("Content-Type", "application/xml")], ERROR if action == "error200" else b"")
        headers = list(self.headers.items())
        if action == "range" and "Range" in self.headers:
            first, last = self.headers["Range"][6:].split("-")
            headers = [(n, f"bytes={max(0, int(first) - 1)}-{int(last) - 1}" if n == "Range" else v)
                       for n, v in headers]
        if action == "whole":
            headers = [(n, v) for n, v in headers if n != "Range"]
        if action in ("range", "whole") or self.server.resign:
            headers = self.server.sign_anew(self.command, self.path, headers, body)
        status, answer, data = self._forward(body, headers)
        if action == "lost":
            return self._reset()
        if action == "short" and data:
            self._send(status, answer, data[:len(data) // 2], announced=len(data))
            self.close_connection = True
            return None
        return self._send(status, answer, data)

    def _handle(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        action, arg = self.server.action(self.command, self.path)
        try:
            self._answer(action, arg, body)
        except (OSError, http.client.HTTPException):
            self._reset()

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _handle


class FaultProxy(ThreadingHTTPServer):
    """rules: [(verb, nth, action, arg)]; nth is a number or "*/N". log: what was asked, with the action."""
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, to, port=0, rules=(), resign=None):
        super().__init__(("127.0.0.1", port), Handler)
        self.to, self.resign, self.url = to, resign, f"http://127.0.0.1:{self.server_address[1]}"
        self._lock, self.log = threading.Lock(), []
        self.set_rules(rules)
        self._thread = threading.Thread(target=self.serve_forever, daemon=True)
        self._thread.start()

    def set_rules(self, rules):
        with self._lock:
            self.rules, self._seen = list(rules), {}

    def action(self, method, target):
        with self._lock:
            chosen = (None, None)
            for verb in verbs_of(method, target):
                self._seen[verb] = count = self._seen.get(verb, 0) + 1
                for wanted, nth, action, arg in self.rules:
                    every = int(nth[2:]) if isinstance(nth, str) else 0
                    if wanted == verb and (count % every == 0 if every else count == nth):
                        chosen = (action, arg)
            self.log.append((method, target, chosen[0]))
            return chosen

    def sign_anew(self, method, target, headers, body):
        headers = [(n, v) for n, v in headers if n.lower() != "if-none-match"] if self.resign else headers
        return self.resign(method, target, headers, body) if self.resign else headers

    def handle_error(self, request, client_address):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.shutdown()
        self.server_close()


def rule_of(text):
    verb, nth, action = text.split(":")
    action, _, arg = action.partition("=")
    return verb, nth if nth.startswith("*") else int(nth), action, arg


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("-p", "--port", type=int, required=True)
    parser.add_argument("--to", required=True)
    parser.add_argument("--rule", type=rule_of, action="append", default=[])
    args = parser.parse_args()
    with FaultProxy(args.to, args.port, args.rule) as proxy:
        print(proxy.url, flush=True)
        while True:
            time.sleep(3600)


if __name__ == "__main__":
    main()
