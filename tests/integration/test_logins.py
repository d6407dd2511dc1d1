"""The login OAUTHBEARER with an identity provider, on a broker that validates the tokens itself (KIP-768)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from daemon.log.topic_access import Publisher
from tests.integration.daemon_world import DEADLINE, UNHURRIED, await_results, good, wait_until
from tests.integration.secured_broker import SecuredBroker
from tests.sandbox.process import Child
from tests.sandbox.stack import Stack
from tests.tls_files import Authority
from tests.token_server import AUDIENCE, ISSUER, Answer, TokenServer

pytestmark = pytest.mark.kafka

COURSESYNCD = str(Path(sys.executable).with_name("coursesyncd"))
CLIENT, SECRET = "course-sync", "canary/2f7d+ é"
LIFETIME = 10
"""Seconds of a token, and so of a session with the broker."""


class World(NamedTuple):
    idp: TokenServer
    broker: SecuredBroker
    authority: Authority
    stack: Stack
    environ: Mapping[str, str]

    def coursesyncd(self, *words: str, **settings: str) -> subprocess.CompletedProcess[str]:
        environ = {**self.environ, **variables(settings)}
        return subprocess.run(
            [COURSESYNCD, *words],
            env=environ, capture_output=True, text=True, timeout=DEADLINE, check=False,
        )  # fmt: skip

    def check(self, **settings: str) -> str:
        """What it says about Kafka."""
        done = self.coursesyncd("check", **settings)
        (line,) = [line for line in done.stdout.splitlines() if " kafka: " in line]
        return line


def variables(settings: Mapping[str, str]) -> dict[str, str]:
    return {f"COURSESYNC_KAFKA_{name.upper()}": value for name, value in settings.items()}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, startable_kafka: None) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("logins")
    authority = Authority.make(folder)
    idp = TokenServer(CLIENT, "canary%2F2f7d%2B%20%C3%A9", LIFETIME)
    with idp.serving() as token_url:
        keys = f"{idp.url}/keys"
        handler = "org.apache.kafka.common.security.oauthbearer.OAuthBearerValidatorCallbackHandler"
        settings = {
            "sasl.enabled.mechanisms": "OAUTHBEARER",
            "oauthbearer.sasl.server.callback.handler.class": handler,
            "oauthbearer.sasl.jaas.config": (
                "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required;"
            ),
            "oauthbearer.connections.max.reauth.ms": "60000",
            "sasl.oauthbearer.jwks.endpoint.url": keys,
            "sasl.oauthbearer.expected.audience": AUDIENCE,
            "sasl.oauthbearer.expected.issuer": ISSUER,
        }
        jvm = (f"-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls={keys}",)
        with (
            SecuredBroker(authority, {"oauth": ("SASL_SSL", settings)}, jvm) as broker,
            Stack(
                folder / "stack",
                faults="none",
                seed=1,
                say=print,
                kafka=broker.bootstrap,
                task_seconds=0.2,
                settings=UNHURRIED,
            ) as stack,
        ):
            (folder / "secret").write_text(SECRET, encoding="utf-8")
            login = {
                "bootstrap_servers": broker.address["oauth"],
                "security_protocol": "SASL_SSL",
                "tls_ca_file": str(authority.file),
                "sasl_mechanism": "OAUTHBEARER",
                "sasl_oauth_token_url": token_url,
                "sasl_oauth_client_id": CLIENT,
                "sasl_oauth_client_secret_file": str(folder / "secret"),
                "sasl_oauth_scope": "kafka",
            }
            yield World(
                idp, broker, authority, stack, {**os.environ, **stack.environment, **variables(login)}
            )


@pytest.fixture(autouse=True)
def as_it_was(world: World) -> Iterator[None]:
    yield
    world.idp.answer = None


def test_the_daemon_works_across_the_ends_of_its_sessions(world: World, tmp_path: Path) -> None:
    """Each connection logs in again before its token expires, with a new token, and nothing is interrupted."""
    assert world.check().startswith("ok ")
    log = tmp_path / "run.log"
    child = Child.start("run", [COURSESYNCD, "run"], log=log, env=world.environ)
    try:
        at = world.stack.addresses
        published = 0
        with Publisher(at.connection, at.topics.changes) as publisher:
            for _ in range(3):
                used = len(world.idp.forms)
                for _ in range(5):
                    publisher.send(*good(published))
                    published += 1
                publisher.flush()
                found = await_results(world.stack, published)
                assert {data["status"] for data in found} == {"SUCCEEDED"}
                wait_until(lambda: len(world.idp.forms) > used, "a renewed token")  # noqa: B023
        assert child.running
    finally:
        child.terminate()
        ended = child.wait(DEADLINE)
    assert ended == 0
    assert "Authentication" not in log.read_text()
    assert "canary" not in log.read_text()
    assert world.idp.forms[-1] == {"grant_type": "client_credentials", "scope": "kafka"}


def test_a_refused_client_is_told_by_check(world: World, tmp_path: Path) -> None:
    (tmp_path / "wrong").write_text("canary-wrong")
    told = world.check(sasl_oauth_client_secret_file=str(tmp_path / "wrong"))
    address = world.broker.address["oauth"]
    assert told.startswith(
        f"WRONG   kafka: Kafka at {address} was not asked for the login OAUTHBEARER of {CLIENT}: "
    )
    assert (
        "refuses this client with status 401 invalid_client Unknown client or secret; check kafka.sasl_oauth_"
        in told
    )
    assert "canary" not in told


def test_a_token_that_the_broker_refuses_is_told_by_check(world: World) -> None:
    token = world.idp.token(audience="another cluster")
    world.idp.answer = lambda: Answer(200, json.dumps({"access_token": token, "expires_in": 300}).encode())
    told = world.check()
    assert f"refused the login OAUTHBEARER of {CLIENT}: " in told
    assert "check the settings kafka.sasl_" in told
    assert token not in told


def test_an_expired_token_is_told_by_check(world: World) -> None:
    token = world.idp.token(expires_in=-600)
    world.idp.answer = lambda: Answer(200, json.dumps({"access_token": token, "expires_in": 300}).encode())
    assert f"refused the login OAUTHBEARER of {CLIENT}: " in world.check()


def test_an_identity_provider_that_is_away_is_told_by_check(world: World) -> None:
    told = world.check(sasl_oauth_token_url="http://127.0.0.1:1/token")
    assert "got no token from http://127.0.0.1:1/token: ConnectError" in told
    assert "check kafka.sasl_oauth_token_url" in told
