#!/usr/bin/env python3
"""Strict stand-ins for the clouds' credential services, and a gate that makes a GCS emulator ask for credentials.

  labauth.py sts -p PORT -k KEYDIR [--s3 URL]   OIDC issuer, AWS STS / IMDSv2 / container credentials, Entra and Azure
                                                IMDS tokens, Google tokens
  labauth.py gcs -p PORT -k KEYDIR --to URL     the gate, before fake-gcs-server at URL

KEYDIR holds the keys both must agree on. With --s3 the AWS credentials handed out are real ones, from that
store's own AssumeRole (its root key in LAB_KEY, LAB_SECRET).
"""

import argparse, base64, datetime as dt, hashlib, hmac, http.client, json, os, re, secrets, ssl, threading, time
import urllib.parse as up
import xml.etree.ElementTree as ET
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

ROLE, TENANT = 'lab-role', '11111111-2222-3333-4444-555555555555'
HMAC_KEY, HMAC_SECRET = 'GOOGLABHMACKEY', 'labhmacsecret'
SECRET = 'lab-client-secret'
JWT_BEARER = 'urn:ietf:params:oauth:grant-type:jwt-bearer'
ASSERTION = 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer'


def b64u(b):
    return base64.urlsafe_b64encode(b).rstrip(b'=').decode()


def unb64u(s):
    return base64.urlsafe_b64decode(s + '=' * (-len(s) % 4))


class Bad(Exception):
    def __init__(self, status, code, msg=''):
        self.status, self.code, self.msg = status, code, msg or code


class Keys:
    def __init__(self, d):
        os.makedirs(d, exist_ok=True)
        f = os.path.join(d, 'oidc.pem')
        if not os.path.exists(f):
            for name in ('oidc.pem', 'sa.pem'):
                k = rsa.generate_private_key(public_exponent=65537, key_size=2048)
                with open(os.path.join(d, name), 'wb') as o:
                    o.write(
                        k.private_bytes(
                            serialization.Encoding.PEM,
                            serialization.PrivateFormat.PKCS8,
                            serialization.NoEncryption(),
                        )
                    )
        load = lambda n: serialization.load_pem_private_key(open(os.path.join(d, n), 'rb').read(), None)
        self.oidc, self.sa, self.dir = load('oidc.pem'), load('sa.pem'), d
        self.email = 'lab@lab-project.iam.gserviceaccount.com'

    def account(self, path, token_uri):
        pem = open(os.path.join(self.dir, 'sa.pem')).read()
        with open(path, 'w') as o:
            json.dump(
                {
                    'type': 'service_account',
                    'project_id': 'lab-project',
                    'private_key_id': 'lab1',
                    'private_key': pem,
                    'client_email': self.email,
                    'client_id': '1',
                    'token_uri': token_uri,
                },
                o,
                indent=1,
            )

    def sign(self, claims, spoil=False):
        head = b64u(b'{"alg":"RS256","typ":"JWT","kid":"lab"}') + '.' + b64u(json.dumps(claims).encode())
        sig = bytearray(self.oidc.sign(head.encode(), padding.PKCS1v15(), hashes.SHA256()))
        if spoil:
            sig[9] ^= 1
        return head + '.' + b64u(bytes(sig))

    def verify(self, tok, key, aud, iss=None):
        try:
            h, c, s = tok.split('.')
            key.public_key().verify(unb64u(s), f'{h}.{c}'.encode(), padding.PKCS1v15(), hashes.SHA256())
            head, c = json.loads(unb64u(h)), json.loads(unb64u(c))
        except Exception:
            raise Bad(400, 'invalid', 'not a token, or its signature does not verify')
        now = time.time()
        auds = c.get('aud') if isinstance(c.get('aud'), list) else [c.get('aud')]
        for ok, what in (
            (head.get('alg') == 'RS256', 'alg'),
            (aud in auds, f"aud {c.get('aud')}"),
            (iss is None or c.get('iss') == iss, 'iss'),
            (c.get('iat', now) <= now + 60, 'iat in the future'),
        ):
            if not ok:
                raise Bad(400, 'invalid', 'token refused: ' + what)
        if c.get('exp', 0) < now:
            raise Bad(400, 'expired', 'token expired')
        return c


class Base(BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    disable_nagle_algorithm = True

    def log_message(self, *a):
        pass

    def answer(self, status, body=b'', ctype='application/json', extra=()):
        body = (
            json.dumps(body).encode()
            if isinstance(body, (dict, list))
            else body.encode() if isinstance(body, str) else body
        )
        self.send_response(status)
        for k, v in extra:
            self.send_header(k, v)
        self.send_header('Content-Type', ctype)
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        if self.command != 'HEAD':
            self.wfile.write(body)

    def body(self):
        if self.headers.get('Transfer-Encoding', '').lower() == 'chunked':
            out = b''
            while n := int(self.rfile.readline().split(b';')[0], 16):
                out += self.rfile.read(n)
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
            return out
        return self.rfile.read(int(self.headers.get('Content-Length') or 0))

    def handle_one(self):
        u = up.urlsplit(self.path)
        self.u, self.q, self.data = u, dict(up.parse_qsl(u.query, keep_blank_values=True)), self.body()
        try:
            self.serve()
        except Bad as e:
            self.refuse(e)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = do_PATCH = handle_one

    def google_token(self, form):
        """POST /token of oauth2.googleapis.com, for a service account's signed assertion."""
        if form.get('grant_type') != JWT_BEARER:
            return self.answer(400, {'error': 'unsupported_grant_type'})
        try:
            try:
                c = K.verify(form.get('assertion', ''), K.sa, self.origin() + '/token', K.email)
            except Bad:  # Google's own libraries always say this one
                c = K.verify(form.get('assertion', ''), K.sa, 'https://oauth2.googleapis.com/token', K.email)
            if c['exp'] - c.get('iat', 0) > 3600 or not c.get('scope'):
                raise Bad(400, 'invalid', 'lifetime over an hour, or no scope')
        except Bad as e:
            return self.answer(400, {'error': 'invalid_grant', 'error_description': e.msg})
        self.answer(
            200, {'access_token': google_access(c['scope']), 'expires_in': 3599, 'token_type': 'Bearer'}
        )

    def origin(self):
        return f"{'https' if A.cert else 'http'}://{self.headers.get('Host')}"


def google_access(scope, ttl=3599):
    return 'ya29.' + K.sign({'iss': 'google', 'aud': 'gcs', 'scope': scope, 'exp': int(time.time()) + ttl})


# ------------------------------------------------------------------------------------------- the STS
def sig4(secret, parts, to_sign, first='AWS4'):
    k = (first + secret).encode()
    for p in parts + [to_sign]:
        k = hmac.new(k, p.encode(), hashlib.sha256).digest()
    return k.hex()


def store_credentials(url, seconds):
    """AssumeRole at the store itself (SigV4, service sts), so that what is handed out opens the store."""
    body = f'Action=AssumeRole&Version=2011-06-15&DurationSeconds={seconds}'
    host, now = up.urlsplit(url).netloc, dt.datetime.now(dt.timezone.utc)
    amz, hashed = now.strftime('%Y%m%dT%H%M%SZ'), hashlib.sha256(body.encode()).hexdigest()
    scope = [amz[:8], 'us-east-1', 'sts', 'aws4_request']
    canon = f'POST\n/\n\nhost:{host}\nx-amz-date:{amz}\n\nhost;x-amz-date\n{hashed}'
    sig = sig4(
        os.environ['LAB_SECRET'],
        scope,
        f"AWS4-HMAC-SHA256\n{amz}\n{'/'.join(scope)}\n{hashlib.sha256(canon.encode()).hexdigest()}",
    )
    tls = up.urlsplit(url).scheme == 'https'
    c = (
        http.client.HTTPSConnection(host, context=ssl._create_unverified_context())
        if tls
        else http.client.HTTPConnection(host)
    )
    c.request(
        'POST',
        '/',
        body,
        {
            'Host': host,
            'X-Amz-Date': amz,
            'Content-Type': 'application/x-www-form-urlencoded',
            'Authorization': f"AWS4-HMAC-SHA256 Credential={os.environ['LAB_KEY']}/{'/'.join(scope)}, "
            f'SignedHeaders=host;x-amz-date, Signature={sig}',
        },
    )
    r = c.getresponse()
    text = r.read()
    if r.status != 200:
        raise Bad(502, 'InternalFailure', text.decode()[:200])
    x = {e.tag.split('}')[-1]: e.text for e in ET.fromstring(text).iter()}
    return {k: x[k] for k in ('AccessKeyId', 'SecretAccessKey', 'SessionToken')}


class STS(Base):
    imds = {}

    def credentials(self, seconds=3600):
        c = (
            store_credentials(A.s3, seconds)
            if A.s3
            else {
                'AccessKeyId': 'ASIA' + secrets.token_hex(8).upper(),
                'SecretAccessKey': secrets.token_hex(20),
                'SessionToken': secrets.token_urlsafe(60),
            }
        )
        return dict(
            c,
            Expiration=(dt.datetime.now(dt.timezone.utc) + dt.timedelta(seconds=seconds)).strftime(
                '%Y-%m-%dT%H:%M:%SZ'
            ),
        )

    def refuse(self, e):
        if self.u.path == '/' and self.command == 'POST':
            return self.answer(
                e.status,
                f'<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error>'
                f'<Type>Sender</Type><Code>{e.code}</Code>'
                f'<Message>{e.msg}</Message></Error><RequestId>lab</RequestId></ErrorResponse>',
                'text/xml',
            )
        self.answer(e.status, {'error': e.code, 'error_description': e.msg, 'code': e.code, 'message': e.msg})

    def web_identity(self, f):
        arn, name = f.get('RoleArn', ''), f.get('RoleSessionName', '')
        if f.get('Version') != '2011-06-15':
            raise Bad(400, 'InvalidAction', 'no such version')
        if not re.fullmatch(r'arn:aws[\w-]*:iam::\d{12}:role/[\w+=,.@/-]+', arn) or not re.fullmatch(
            r'[\w+=,.@-]{2,64}', name
        ):
            raise Bad(400, 'ValidationError', 'RoleArn or RoleSessionName')
        secs = f.get('DurationSeconds', '3600')
        if not secs.isdigit() or not 900 <= int(secs) <= 43200:
            raise Bad(400, 'ValidationError', 'DurationSeconds')
        try:
            c = K.verify(f.get('WebIdentityToken', ''), K.oidc, 'sts.amazonaws.com', self.origin())
        except Bad as e:
            raise Bad(400, 'ExpiredTokenException' if e.code == 'expired' else 'InvalidIdentityToken', e.msg)
        if not arn.endswith('/' + ROLE):
            raise Bad(403, 'AccessDenied', 'Not authorized to perform sts:AssumeRoleWithWebIdentity')
        cr = ''.join(f'<{k}>{v}</{k}>' for k, v in self.credentials(int(secs)).items())
        self.answer(
            200,
            f'<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">'
            f'<AssumeRoleWithWebIdentityResult>'
            f'<Audience>sts.amazonaws.com</Audience><AssumedRoleUser><AssumedRoleId>AROALAB:{name}</AssumedRoleId>'
            f'<Arn>{arn}/{name}</Arn></AssumedRoleUser>'
            f"<SubjectFromWebIdentityToken>{c.get('sub')}</SubjectFromWebIdentityToken>"
            f"<Credentials>{cr}</Credentials></AssumeRoleWithWebIdentityResult>"
            f'<ResponseMetadata><RequestId>lab</RequestId></ResponseMetadata></AssumeRoleWithWebIdentityResponse>',
            'text/xml',
        )

    def metadata(self, path):
        if 'X-Forwarded-For' in self.headers:
            raise Bad(403, 'Forbidden')
        if path == '/latest/api/token':
            ttl = self.headers.get('X-aws-ec2-metadata-token-ttl-seconds', '')
            if self.command != 'PUT':
                raise Bad(405, 'NotAllowed')
            if not ttl.isdigit() or not 1 <= int(ttl) <= 21600:
                raise Bad(400, 'BadRequest')
            t = secrets.token_urlsafe(40)
            self.imds[t] = time.time() + int(ttl)
            return self.answer(200, t, 'text/plain', [('X-aws-ec2-metadata-token-ttl-seconds', ttl)])
        if self.imds.get(self.headers.get('X-aws-ec2-metadata-token', ''), 0) < time.time():
            raise Bad(401, 'Unauthorized')
        base = '/latest/meta-data/iam/security-credentials/'
        if path in (base, base[:-1]):
            return self.answer(200, ROLE, 'text/plain')
        if path == base + ROLE:
            c = self.credentials()
            return self.answer(
                200,
                {
                    'Code': 'Success',
                    'LastUpdated': '2026-01-01T00:00:00Z',
                    'Type': 'AWS-HMAC',
                    'AccessKeyId': c['AccessKeyId'],
                    'SecretAccessKey': c['SecretAccessKey'],
                    'Token': c['SessionToken'],
                    'Expiration': c['Expiration'],
                },
            )
        if path == '/latest/meta-data/placement/region':
            return self.answer(200, 'us-east-1', 'text/plain')
        raise Bad(404, 'NotFound')

    def entra(self, resource, client='lab-client'):
        now = int(time.time())
        t = K.sign(
            {
                'aud': resource.rstrip('/'),
                'iss': f'https://sts.windows.net/{TENANT}/',
                'iat': now,
                'nbf': now - 60,
                'exp': now + 3600,
                'appid': client,
                'oid': client,
                'sub': client,
                'tid': TENANT,
                'ver': '1.0',
            }
        )
        return {'token_type': 'Bearer', 'access_token': t}

    def serve(self):
        p, q, me = self.u.path, self.q, self.origin()
        form = dict(up.parse_qsl(self.data.decode('utf-8', 'replace'))) if self.command == 'POST' else {}
        if p == '/.well-known/openid-configuration':
            return self.answer(
                200,
                {
                    'issuer': me,
                    'jwks_uri': me + '/jwks',
                    'authorization_endpoint': me + '/auth',
                    'token_endpoint': me + '/oauth',
                    'id_token_signing_alg_values_supported': ['RS256'],
                    'response_types_supported': ['id_token'],
                    'subject_types_supported': ['public'],
                },
            )
        if p == '/jwks':
            n = K.oidc.public_key().public_numbers()
            raw = lambda i: b64u(i.to_bytes((i.bit_length() + 7) // 8, 'big'))
            return self.answer(
                200,
                {
                    'keys': [
                        {
                            'kty': 'RSA',
                            'use': 'sig',
                            'alg': 'RS256',
                            'kid': 'lab',
                            'n': raw(n.n),
                            'e': raw(n.e),
                        }
                    ]
                },
            )
        if p == '/token' and self.command == 'GET':  # what a cluster would project into a pod
            now = int(time.time())
            return self.answer(
                200,
                K.sign(
                    {
                        'iss': me,
                        'aud': q.get('aud', 'sts.amazonaws.com'),
                        'sub': q.get('sub', 'system:serviceaccount:default:lab'),
                        'iat': now,
                        'exp': now + int(q.get('ttl', 3600)),
                        'policy': q.get('policy', 'readwrite'),
                    },
                    'spoil' in q,
                ),
                'text/plain',
            )
        if p == '/token':
            return self.google_token(form)
        if p == '/' and self.command == 'POST':
            if form.get('Action') == 'AssumeRoleWithWebIdentity':
                return self.web_identity(form)
            raise Bad(400, 'InvalidAction', 'only AssumeRoleWithWebIdentity is served here')
        if p.startswith('/latest/'):
            return self.metadata(p)
        if p == '/v1/credentials':  # ECS and EKS pod identity: AWS_CONTAINER_CREDENTIALS_FULL_URI
            if self.headers.get('Authorization') != 'lab-container-token':
                raise Bad(401, 'AccessDeniedException')
            c = self.credentials()
            return self.answer(
                200,
                {
                    'RoleArn': 'arn:aws:iam::123456789012:role/' + ROLE,
                    'AccessKeyId': c['AccessKeyId'],
                    'SecretAccessKey': c['SecretAccessKey'],
                    'Token': c['SessionToken'],
                    'Expiration': c['Expiration'],
                },
            )
        if p == '/metadata/identity/oauth2/token':
            if self.headers.get('Metadata') != 'true':
                raise Bad(400, 'bad_request', 'Required metadata header not specified')
            if q.get('api-version') != '2018-02-01' or not q.get('resource'):
                raise Bad(400, 'invalid_request', 'api-version or resource')
            now = int(time.time())
            return self.answer(
                200,
                dict(
                    self.entra(q['resource'], q.get('client_id', 'mi')),
                    expires_in='3600',
                    expires_on=str(now + 3600),
                    resource=q['resource'],
                ),
            )
        if p == f'/{TENANT}/oauth2/v2.0/token' and self.command == 'POST':
            if form.get('grant_type') != 'client_credentials' or not form.get('scope', '').endswith(
                '/.default'
            ):
                raise Bad(400, 'invalid_request', 'grant_type or scope')
            if form.get('client_assertion_type') == ASSERTION:
                try:
                    K.verify(form.get('client_assertion', ''), K.oidc, 'api://AzureADTokenExchange', me)
                except Bad as e:
                    raise Bad(401, 'invalid_client', e.msg)
            elif form.get('client_secret') != SECRET:
                raise Bad(401, 'invalid_client', 'AADSTS7000215: Invalid client secret provided')
            return self.answer(
                200, dict(self.entra(form['scope'][:-9], form.get('client_id', '')), expires_in=3599)
            )
        if p == '/computeMetadata/v1/instance/service-accounts/default/token':
            if self.headers.get('Metadata-Flavor') != 'Google':
                raise Bad(403, 'Forbidden')
            return self.answer(
                200,
                {'access_token': google_access('cloud-platform'), 'expires_in': 3599, 'token_type': 'Bearer'},
                extra=[('Metadata-Flavor', 'Google')],
            )
        raise Bad(404, 'not_found', p)


# --------------------------------------------------------------------------------------- the GCS gate
class Gate(Base):
    local = threading.local()

    def refuse(self, e):
        if self.u.path.startswith(('/storage/', '/upload/', '/download/', '/batch', '/resumable')):
            return self.answer(
                e.status,
                {
                    'error': {
                        'code': e.status,
                        'message': e.msg,
                        'errors': [{'reason': e.code, 'message': e.msg}],
                    }
                },
                extra=[('WWW-Authenticate', 'Bearer realm="lab"')],
            )
        self.answer(
            e.status,
            f'<?xml version="1.0"?><Error><Code>{e.code}</Code><Message>{e.msg}</Message></Error>',
            'application/xml',
        )

    def bearer(self, tok, need_write):
        try:
            c = K.verify(tok[5:] if tok.startswith('ya29.') else tok, K.oidc, 'gcs', 'google')
        except Bad as e:
            raise Bad(401, 'authError', 'Invalid Credentials: ' + e.msg)
        if need_write and not re.search(r'read_write|full_control|cloud-platform', c['scope']):
            raise Bad(403, 'insufficientPermissions', 'Request had insufficient authentication scopes.')

    def canonical(self, signed, query, payload):
        hs = {}
        for k, v in self.headers.items():
            hs.setdefault(k.lower(), []).append(' '.join(v.split()))
        if 'host' not in signed or any(k.startswith(('x-goog-', 'x-amz-')) and k not in signed for k in hs):
            raise Bad(403, 'AccessDenied', 'a header that must be signed is not')
        q = '&'.join(sorted(x if '=' in x else x + '=' for x in query.split('&') if x))
        lines = (
            [self.command, self.u.path, q]
            + [f"{k}:{','.join(hs.get(k, ['']))}" for k in signed]
            + ['', ';'.join(signed), payload]
        )
        return hashlib.sha256('\n'.join(lines).encode()).hexdigest()

    def fresh(self, stamp, seconds):
        t = dt.datetime.strptime(stamp, '%Y%m%dT%H%M%SZ').replace(tzinfo=dt.timezone.utc).timestamp()
        if time.time() > t + seconds:
            raise Bad(400, 'ExpiredToken', 'The provided token has expired.')
        if t > time.time() + 900:
            raise Bad(403, 'RequestTimeTooSkewed')

    def check_sig(self, alg, cred, stamp, sig, hashed):
        who, scope = cred.split('/', 1)
        parts = scope.split('/')
        if (
            len(parts) != 4
            or parts[0] != stamp[:8]
            or parts[3] != ('aws4_request' if alg.startswith('AWS4') else 'goog4_request')
        ):
            raise Bad(400, 'AuthorizationHeaderMalformed', 'scope')
        text = f'{alg}\n{stamp}\n{scope}\n{hashed}'
        if alg == 'GOOG4-RSA-SHA256':
            try:
                if who != K.email:
                    raise ValueError
                K.sa.public_key().verify(
                    bytes.fromhex(sig), text.encode(), padding.PKCS1v15(), hashes.SHA256()
                )
            except Exception:
                raise Bad(403, 'SignatureDoesNotMatch')
        elif who != HMAC_KEY or not hmac.compare_digest(
            sig4(HMAC_SECRET, parts, text, alg[:5].rstrip('-')), sig
        ):
            raise Bad(403, 'SignatureDoesNotMatch')

    def authorize(self):
        a, q = self.headers.get('Authorization', ''), self.q
        if 'X-Goog-Signature' in q:
            if not 1 <= int(q['X-Goog-Expires']) <= 604800:
                raise Bad(400, 'AuthorizationQueryParametersError')
            rest = '&'.join(x for x in self.u.query.split('&') if not x.startswith('X-Goog-Signature='))
            self.check_sig(
                q['X-Goog-Algorithm'],
                q['X-Goog-Credential'],
                q['X-Goog-Date'],
                q['X-Goog-Signature'],
                self.canonical(
                    q['X-Goog-SignedHeaders'].split(';'),
                    rest,
                    self.headers.get('X-Goog-Content-SHA256', 'UNSIGNED-PAYLOAD'),
                ),
            )
            return self.fresh(q['X-Goog-Date'], int(q['X-Goog-Expires']))
        m = re.fullmatch(
            r'((?:GOOG|AWS)4-HMAC-SHA256) Credential=([^,]+), ?SignedHeaders=([^,]+), ?Signature=([0-9a-f]+)',
            a,
        )
        if m:
            pre = 'X-Goog-' if m[1][0] == 'G' else 'X-Amz-'
            stamp, payload = self.headers.get(pre + 'Date', ''), self.headers.get(
                pre + 'Content-SHA256', 'UNSIGNED-PAYLOAD'
            )
            if payload != 'UNSIGNED-PAYLOAD' and payload != hashlib.sha256(self.data).hexdigest():
                raise Bad(400, 'XAmzContentSHA256Mismatch')
            self.check_sig(m[1], m[2], stamp, m[4], self.canonical(m[3].split(';'), self.u.query, payload))
            return self.fresh(stamp, 900)
        if a.startswith('Bearer '):
            return self.bearer(a[7:], self.command not in ('GET', 'HEAD'))
        if 'upload_id' in q and self.command in ('PUT', 'DELETE'):
            return  # a resumable session's address is its own credential
        raise Bad(401, 'required', 'Anonymous caller does not have storage access')

    def backend(self, method, target, headers=(), body=b''):
        c = getattr(self.local, 'c', None) or http.client.HTTPConnection(
            up.urlsplit(A.to).netloc, timeout=600
        )
        self.local.c = c
        try:
            c.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
            for k, v in list(headers) + [
                ('Host', self.headers.get('Host')),
                ('Content-Length', str(len(body))),
                ('X-Forwarded-Proto', 'https' if A.cert else 'http'),
            ]:
                c.putheader(k, v)
            c.endheaders(body or None)
            r = c.getresponse()
            r.data = r.read()
            return r
        except Exception:
            self.local.c = None
            raise Bad(502, 'backendError')

    def passed(self):
        return [
            (k, v)
            for k, v in self.headers.items()
            if k.lower() not in ('transfer-encoding', 'content-length', 'connection', 'expect', 'host')
        ]

    def relay(self, r, status=None, extra=()):
        self.send_response(status or r.status)
        for k, v in list(r.getheaders()) + list(extra):
            if k.lower() not in ('transfer-encoding', 'connection', 'date', 'server', 'content-length'):
                self.send_header(k, v)
        if (status or r.status) != 204:
            self.send_header(
                'Content-Length',
                r.getheader('Content-Length', '0') if self.command == 'HEAD' else str(len(r.data)),
            )
        self.end_headers()
        if self.command != 'HEAD' and (status or r.status) != 204:
            self.wfile.write(r.data)

    # What follows mends what fake-gcs-server does not do as Google does.
    sessions, uploads = {}, {}

    def resumable(self):
        sid = self.q['upload_id']
        have = self.sessions.get(sid, 0)  # None: complete
        m = re.fullmatch(r'bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)', self.headers.get('Content-Range', ''))
        if self.command == 'PUT' and m and have is not None:
            if m[1] is None and m[3] != str(have):
                return self.answer(308, extra=[('Range', f'bytes=0-{have - 1}')] if have else [])
            if m[1] is not None:
                lo, hi = int(m[1]), int(m[2])
                if lo != have or hi - lo + 1 != len(self.data):
                    raise Bad(
                        400,
                        'invalid',
                        f'Invalid request. The upload offset is {lo}, already uploaded are {have} bytes.',
                    )
                if m[3] != str(hi + 1) and len(self.data) % 262144:
                    raise Bad(400, 'invalid', 'Chunks must be multiples of 256 KiB')
        r = self.backend(self.command, self.path, self.passed(), self.data)
        if r.status == 308 and m and m[2]:
            self.sessions[sid] = int(m[2]) + 1
        elif r.status in (200, 201):
            self.sessions[sid] = None
        self.relay(r)

    def generation(self, target):
        r = self.backend('GET', target)
        return json.loads(r.data)['generation'] if r.status == 200 else '0'

    def xml(self):
        bucket, _, key = up.unquote(self.u.path[1:]).partition('/')
        obj = f"/storage/v1/b/{bucket}/o/{up.quote(key, safe='')}"
        esc = lambda t: t.replace('&', '&amp;').replace('<', '&lt;')
        page = lambda root, inner: self.answer(
            200,
            f'<?xml version="1.0" encoding="UTF-8"?>'
            f'<{root} xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{inner}</{root}>',
            'application/xml',
        )

        def store(body):
            cond = self.headers.get('x-goog-if-generation-match')
            q = f"uploadType=media&name={up.quote(key, safe='')}" + (
                f'&ifGenerationMatch={cond}' if cond else ''
            )
            md5 = base64.b64encode(hashlib.md5(body).digest()).decode()
            if self.headers.get('Content-MD5', md5) != md5:
                raise Bad(400, 'BadDigest')
            r = self.backend(
                'POST',
                f'/upload/storage/v1/b/{bucket}/o?{q}',
                [('Content-Type', self.headers.get('Content-Type', 'application/octet-stream'))],
                body,
            )
            if r.status != 200:
                raise Bad(
                    r.status, {404: 'NoSuchBucket', 412: 'PreconditionFailed'}.get(r.status, 'InternalError')
                )
            return json.loads(r.data)

        tag = lambda b: '"' + hashlib.md5(b).hexdigest() + '"'
        if not key and self.command == 'GET' and 'uploads' not in self.q:
            q = {
                'prefix': self.q.get('prefix'),
                'delimiter': self.q.get('delimiter'),
                'maxResults': self.q.get('max-keys'),
                'pageToken': self.q.get('continuation-token'),
                'startOffset': self.q.get('start-after'),
            }
            r = self.backend(
                'GET', f'/storage/v1/b/{bucket}/o?' + up.urlencode({k: v for k, v in q.items() if v})
            )
            if r.status != 200:
                raise Bad(r.status, 'NoSuchBucket' if r.status == 404 else 'InvalidArgument')
            o = json.loads(r.data)
            nxt = o.get('nextPageToken')
            return page(
                'ListBucketResult',
                f"<Name>{bucket}</Name><IsTruncated>{'true' if nxt else 'false'}</IsTruncated>"
                + (f'<NextContinuationToken>{esc(nxt)}</NextContinuationToken>' if nxt else '')
                + ''.join(
                    f"<Contents><Key>{esc(i['name'])}</Key><Generation>{i['generation']}</Generation>"
                    f"<Size>{i['size']}</Size><LastModified>{i['updated']}</LastModified></Contents>"
                    for i in o.get('items', [])
                    if i['name'] != self.q.get('start-after')
                )
                + ''.join(
                    f'<CommonPrefixes><Prefix>{esc(x)}</Prefix></CommonPrefixes>'
                    for x in o.get('prefixes', [])
                ),
            )
        if key and self.command == 'POST' and 'uploads' in self.q:
            uid = secrets.token_urlsafe(24)
            self.uploads[uid] = {}
            return page(
                'InitiateMultipartUploadResult',
                f'<Bucket>{bucket}</Bucket><Key>{esc(key)}</Key><UploadId>{uid}</UploadId>',
            )
        if 'uploadId' in self.q:
            parts = self.uploads.get(self.q['uploadId'])
            if parts is None:
                raise Bad(404, 'NoSuchUpload')
            if self.command == 'PUT':
                parts[int(self.q['partNumber'])] = self.data
                return self.answer(200, extra=[('ETag', tag(self.data))])
            if self.command == 'DELETE':
                del self.uploads[self.q['uploadId']]
                self.send_response(204)
                return self.end_headers()
            want = [
                (int(p.findtext('{*}PartNumber')), p.findtext('{*}ETag'))
                for p in ET.fromstring(self.data).iter()
                if p.tag.endswith('Part')
            ]
            if [n for n, _ in want] != sorted({n for n, _ in want}):
                raise Bad(400, 'InvalidPartOrder')
            if any(n not in parts or e.strip('"') != tag(parts[n]).strip('"') for n, e in want):
                raise Bad(400, 'InvalidPart')
            if any(len(parts[n]) < 5 << 20 for n, _ in want[:-1]):
                raise Bad(400, 'EntityTooSmall')
            store(b''.join(parts[n] for n, _ in want))
            del self.uploads[self.q['uploadId']]
            return page(
                'CompleteMultipartUploadResult',
                f'<Bucket>{bucket}</Bucket><Key>{esc(key)}</Key><ETag>"{secrets.token_hex(16)}-{len(want)}"</ETag>',
            )
        if key and self.command == 'PUT':
            o = store(self.data)
            return self.answer(
                200,
                extra=[
                    ('ETag', tag(self.data)),
                    ('x-goog-generation', o['generation']),
                    ('x-goog-hash', 'crc32c=' + o['crc32c']),
                ],
            )
        if key and self.command == 'DELETE':
            r = self.backend('DELETE', obj)
            if r.status == 404:
                raise Bad(404, 'NoSuchKey')
            self.send_response(204)
            return self.end_headers()
        r = self.backend(self.command, self.path, self.passed(), self.data)
        if r.status == 404:
            raise Bad(404, 'NoSuchKey')
        self.relay(r)

    def serve(self):
        if self.u.path == '/token' and self.command == 'POST':
            return self.google_token(dict(up.parse_qsl(self.data.decode())))
        self.authorize()
        if 'upload_id' in self.q:
            return self.resumable()
        if not self.u.path.startswith(('/storage/', '/upload/', '/download/', '/batch')):
            return self.xml()
        if self.command in ('GET', 'DELETE') and '/o/' in self.u.path:
            yes, no = self.q.get('ifGenerationMatch'), self.q.get('ifGenerationNotMatch')
            has = self.generation(self.u.path.replace('/download/', '/', 1)) if yes or no else None
            if yes and yes != has:
                raise Bad(
                    412, 'conditionNotMet', 'At least one of the pre-conditions you specified did not hold.'
                )
            if no and no == has:
                raise Bad(304, 'notModified')
        r = self.backend(self.command, self.path, self.passed(), self.data)
        self.relay(r, 204 if self.command == 'DELETE' and r.status == 200 else None)


if __name__ == '__main__':
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument('mode', choices=['sts', 'gcs'])
    ap.add_argument('-p', '--port', type=int, required=True)
    ap.add_argument('-k', '--keys', required=True)
    ap.add_argument('--sa', help='write the service account there')
    ap.add_argument('--to')
    ap.add_argument('--s3')
    ap.add_argument('--cert')
    ap.add_argument('--key')
    A = ap.parse_args()
    K = Keys(A.keys)
    if A.sa:
        K.account(A.sa, f"{'https' if A.cert else 'http'}://127.0.0.1:{A.port}/token")
    ThreadingHTTPServer.request_queue_size = 128
    srv = ThreadingHTTPServer(('127.0.0.1', A.port), STS if A.mode == 'sts' else Gate)
    srv.daemon_threads = True
    if A.cert:
        ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        ctx.load_cert_chain(A.cert, A.key)
        srv.socket = ctx.wrap_socket(srv.socket, server_side=True, do_handshake_on_connect=False)
    srv.serve_forever()
