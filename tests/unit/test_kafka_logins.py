"""Tokens for OAUTHBEARER and AWS_MSK_IAM: from a real token endpoint on 127.0.0.1, and from AWS' own signer."""

from __future__ import annotations

import base64
import json
import logging
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from daemon.commands.connections import kafka_connection
from daemon.config import KafkaSettings
from daemon.log.errors import LogError
from daemon.log.kafka import logins, tokens
from daemon.log.kafka.clients import Clients, KafkaConnection
from daemon.log.kafka.logins import OAuthClient, aws_provider, oauth_provider
from daemon.log.kafka.tokens import Token, TokenError, TokenProvider
from tests.tls_files import Authority
from tests.token_server import Answer, TokenServer

SECRET = "canary-2f7d"


@pytest.fixture
def idp() -> Iterator[TokenServer]:
    server = TokenServer("course-sync", SECRET)
    with server.serving():
        yield server


def client(idp: TokenServer, **fields: str) -> OAuthClient:
    return OAuthClient(f"{idp.url}/token", "course-sync", SECRET, **fields)  # type: ignore[arg-type]


def answered(status: int, body: bytes) -> Answer:
    return Answer(status, body)


# --- the token endpoint -----------------------------------------------------------------------------


def test_a_token_is_asked_for_once_and_shared(idp: TokenServer) -> None:
    provider = oauth_provider(client(idp, scope="kafka.read kafka.write"))
    assert provider.token() == provider.token()
    assert idp.forms == [{"grant_type": "client_credentials", "scope": "kafka.read kafka.write"}]


def test_without_a_scope_none_is_sent(idp: TokenServer) -> None:
    oauth_provider(client(idp)).token()
    assert idp.forms == [{"grant_type": "client_credentials"}]


def test_a_secret_of_special_characters_is_encoded(tmp_path: Path) -> None:
    idp = TokenServer("a%3Ab", "%2F%2B%C3%A9%20%3A")  # as RFC 6749 wants them to be sent
    with idp.serving() as url:
        oauth_provider(OAuthClient(url, "a:b", "/+é :")).token()


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        (401, b'{"error":"invalid_client","error_description":"Unknown client"}', "refuses this client with status 401 invalid_client Unknown client; check kafka.sasl_oauth_client_id and kafka.sasl_oauth_client_secret_file"),
        (400, b"not JSON", "refuses this client with status 400; check"),
        (404, b"<html>", "it answers with status 404 and no access_token; check kafka.sasl_oauth_token_url"),
        (302, b"", "it answers with status 302 and no access_token"),
        (503, b"{}", "it answers with status 503 and no access_token"),
        (200, b"[1]", "it answers with status 200 and no access_token"),
        (200, b'{"access_token": 1}', "it answers with status 200 and no access_token"),
        (200, b"[" * 100_000, "it answers with status 200 and no access_token"),
        (200, b" " * 1_000_000, "its answer is too long"),
        (200, b'{"access_token": "a\\u0001auth=Bearer b"}', "has characters that no token may have"),
    ],
)  # fmt: skip
def test_an_answer_without_a_token_is_told(idp: TokenServer, status: int, body: bytes, says: str) -> None:
    idp.answer = lambda: answered(status, body)
    with pytest.raises(TokenError) as caught:
        oauth_provider(client(idp)).token()
    assert says in str(caught.value)
    assert SECRET not in repr(caught.value)


def test_a_wrong_secret_is_refused_and_in_no_message(
    idp: TokenServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    wrong = OAuthClient(f"{idp.url}/token", "course-sync", "wrong-secret-1")
    with pytest.raises(TokenError, match="invalid_client Unknown client or secret"):
        oauth_provider(wrong).token()
    assert "wrong-secret-1" not in caplog.text
    assert "wrong-secret-1" not in repr(wrong)


def test_an_endpoint_that_is_not_there_or_not_trusted_is_told(tmp_path: Path) -> None:
    with pytest.raises(TokenError, match=r"got no token from http://127.0.0.1:1/token: ConnectError"):
        oauth_provider(OAuthClient("http://127.0.0.1:1/token", "c", SECRET)).token()
    (tmp_path / "empty").write_text("no certificate")
    with pytest.raises(LogError, match=r"kafka\.sasl_oauth_ca_file: .*empty cannot be loaded"):
        oauth_provider(OAuthClient("https://127.0.0.1:1/", "c", SECRET, ca_file=str(tmp_path / "empty")))
    oauth_provider(
        OAuthClient("https://127.0.0.1:1/", "c", SECRET, ca_file=str(Authority.make(tmp_path).file))
    )


def test_the_connections_sentence_has_the_reason(idp: TokenServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker that would log in is not needed: the endpoint refuses first."""
    wrong = OAuthClient(f"{idp.url}/token", "course-sync", "wrong")
    connection = KafkaConnection(("127.0.0.1:1",), "SASL_PLAINTEXT", "OAUTHBEARER", sasl_oauth=wrong)
    settings = Clients(connection)._settings
    assert settings["sasl_mechanism"] == "OAUTHBEARER"
    assert "wrong" not in repr(connection)
    with pytest.raises(TokenError):
        settings["sasl_oauth_token_provider"].token()


def test_the_settings_become_the_client(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(f"{SECRET}\n")
    connection = kafka_connection(
        KafkaSettings(
            bootstrap_servers="a:1",
            security_protocol="SASL_SSL",
            sasl_mechanism="OAUTHBEARER",
            sasl_oauth_token_url="https://idp.example.com/token",
            sasl_oauth_client_id="me",
            sasl_oauth_client_secret_file=tmp_path / "secret",
            sasl_oauth_extensions="logicalCluster=lkc-1, identityPoolId=pool-2=",
        )
    )
    assert connection.sasl_oauth == OAuthClient(
        "https://idp.example.com/token",
        "me",
        SECRET,
        extensions=(("logicalCluster", "lkc-1"), ("identityPoolId", "pool-2=")),
    )


# --- renewal ----------------------------------------------------------------------------------------


class Source:
    """Fetches the next of its tokens when it is let."""

    def __init__(self, *found: Token | TokenError) -> None:
        self._found = list(found)
        self.let = threading.Semaphore(0)
        self.asked = threading.Semaphore(0)

    def __call__(self) -> Token:
        self.asked.release()
        self.let.acquire()
        found = self._found.pop(0)
        if isinstance(found, TokenError):
            raise found
        return found


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(tokens, "RENEWAL_WAIT_MAX", 0.01)
    return now


def settle(provider: TokenProvider) -> None:
    """Wait for the fetch that is running."""
    if (fetching := provider._fetching) is not None:
        assert fetching.wait(60)


def test_a_token_is_renewed_while_the_old_one_is_used(clock: list[float]) -> None:
    source = Source(Token("one", 100), Token("two", 100))
    provider = TokenProvider(source, {})
    source.let.release()
    assert provider.token() == "one"
    clock[0] += 79.0
    assert provider.token() == "one"
    assert provider._fetching is None
    clock[0] += 1.0
    assert provider.token() == "one"  # nobody waits long for the new one
    assert provider.token() == "one"
    source.let.release()
    settle(provider)
    assert provider.token() == "two"


def test_a_renewal_that_fails_leaves_the_old_token_until_it_expires(clock: list[float]) -> None:
    source = Source(Token("one", 100), TokenError("away"), TokenError("still away"), Token("two", 100))
    provider = TokenProvider(source, {})
    source.let.release(4)
    assert provider.token() == "one"
    clock[0] += 80.0
    assert provider.token() == "one"
    settle(provider)
    clock[0] += 20.0
    with pytest.raises(TokenError, match="still away"):
        provider.token()
    with pytest.raises(TokenError, match="still away"):
        provider.token()  # the endpoint is not asked again at once
    clock[0] += tokens.RETRY_PAUSE
    assert provider.token() == "two"


def test_a_token_of_unknown_lifetime_is_used_once(idp: TokenServer) -> None:
    given = iter(["one", "two", "three"])
    idp.answer = lambda: answered(200, json.dumps({"access_token": next(given)}).encode())
    provider = oauth_provider(client(idp))
    assert [provider.token() for _ in range(3)] == ["one", "two", "three"]


def test_a_silent_endpoint_does_not_hold_up_the_client(
    idp: TokenServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "WAIT_MAX", 0.1)
    idp.hold.clear()
    provider = oauth_provider(client(idp))
    with pytest.raises(TokenError, match="no token has arrived within"):
        provider.token()
    assert logins.TIMEOUT < logins.ANSWER_SECONDS_MAX < 10


def test_whatever_a_library_raises_is_a_missing_token() -> None:
    def fetch() -> Token:
        raise OSError(f"{SECRET}")

    with pytest.raises(TokenError, match="fetching a token failed: OSError") as caught:
        TokenProvider(fetch, {}).token()
    assert SECRET not in str(caught.value)


# --- AWS --------------------------------------------------------------------------------------------


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Credentials of the environment, and no file or metadata service of this machine."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)


def test_the_token_for_msk_is_a_signed_request(aws: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """What AWS documents: a presigned URL of kafka-cluster:Connect for this region, valid for 15 minutes."""
    monkeypatch.setenv("AWS_SESSION_TOKEN", "of-the-role")
    provider = aws_provider("eu-central-1")
    token = provider.token()
    assert provider.token() == token
    url = urlsplit(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode())
    query = parse_qs(url.query)
    assert (url.scheme, url.hostname) == ("https", "kafka.eu-central-1.amazonaws.com")
    assert query["Action"] == ["kafka-cluster:Connect"]
    assert query["X-Amz-Credential"][0].startswith("AKIDEXAMPLE/")
    assert query["X-Amz-Credential"][0].endswith("/eu-central-1/kafka-cluster/aws4_request")
    assert query["X-Amz-Security-Token"] == ["of-the-role"]
    assert query["X-Amz-Expires"] == ["900"]
    assert len(query["X-Amz-Signature"][0]) == 64
    assert SECRET not in url.geturl()
    assert 600 < provider._renew_at - time.monotonic() < 720  # four fifths of 15 minutes


def test_a_process_without_a_role_is_told(aws: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(
        TokenError, match=r"got no token from AWS for region eu-central-1: no credentials; check the role"
    ):
        aws_provider("eu-central-1").token()


def test_without_the_library_its_installation_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "aws_msk_iam_sasl_signer", None)
    connection = KafkaConnection(("127.0.0.1:1",), "SASL_SSL", "AWS_MSK_IAM", sasl_aws_region="eu-central-1")
    with pytest.raises(
        LogError, match=r"install course-sync-daemon\[aws\], or build the image with --build-arg"
    ):
        Clients(connection)
