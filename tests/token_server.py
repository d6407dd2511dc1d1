"""An identity provider on 127.0.0.1: a token endpoint for the client credentials flow, and the keys that brokers ask for."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256

AUDIENCE, ISSUER = "kafka", "https://idp.example.com"


class Answer(NamedTuple):
    status: int
    body: bytes


class TokenServer:
    """Knows one client. `answer`, if set, replaces what the token endpoint answers; `hold` makes it wait."""

    def __init__(self, client_id: str, client_secret: str, lifetime: int = 300) -> None:
        self._user = f"{client_id}:{client_secret}"
        self._lifetime = lifetime
        self._key = rsa.generate_private_key(65537, 2048)
        self.forms: list[dict[str, str]] = []
        """Of the requests that got a token."""
        self.answer: Callable[[], Answer] | None = None
        self.hold = Event()
        self.hold.set()
        self.url: str
        """Without a path. The token endpoint is /token, the keys are at /keys."""

    @contextmanager
    def serving(self) -> Iterator[str]:
        """The URL of the token endpoint."""
        respond = self._respond

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._send(respond(self.path, "", b""))

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                self._send(respond(self.path, self.headers.get("Authorization", ""), body))

            def _send(self, answer: Answer) -> None:
                self.send_response(answer.status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(answer.body)))
                self.end_headers()
                self.wfile.write(answer.body)

            def log_message(self, *_: object) -> None:
                pass

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            thread = Thread(target=server.serve_forever, daemon=True)
            thread.start()
            self.url = f"http://127.0.0.1:{server.server_port}"
            try:
                yield f"{self.url}/token"
            finally:
                self.hold.set()
                server.shutdown()
        thread.join()

    def token(self, *, expires_in: float | None = None, audience: str = AUDIENCE) -> str:
        now = time.time()
        head = {"alg": "RS256", "typ": "JWT", "kid": "1"}
        lifetime = self._lifetime if expires_in is None else expires_in
        claims = {"iss": ISSUER, "aud": audience, "sub": "course-sync", "iat": now, "exp": now + lifetime}
        signed = ".".join(_encoded(json.dumps(part).encode()) for part in (head, claims))
        return f"{signed}.{_encoded(self._key.sign(signed.encode(), padding.PKCS1v15(), SHA256()))}"

    def _respond(self, path: str, authorization: str, body: bytes) -> Answer:
        if path == "/keys":
            numbers = self._key.public_key().public_numbers()
            key = {"kty": "RSA", "alg": "RS256", "use": "sig", "kid": "1"}
            key |= {"n": _number(numbers.n), "e": _number(numbers.e)}
            return _json(200, {"keys": [key]})
        self.hold.wait()
        if self.answer is not None:
            return self.answer()
        if base64.b64decode(authorization.removeprefix("Basic ")) != self._user.encode():
            return _json(401, {"error": "invalid_client", "error_description": "Unknown client or secret"})
        self.forms.append(dict(parse_qsl(body.decode())))
        return _json(
            200, {"access_token": self.token(), "expires_in": self._lifetime, "token_type": "Bearer"}
        )


def _json(status: int, value: Any) -> Answer:
    return Answer(status, json.dumps(value).encode())


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _number(number: int) -> str:
    return _encoded(number.to_bytes((number.bit_length() + 7) // 8, "big"))
