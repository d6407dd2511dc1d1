"""``check`` and the log of ``run`` say in the same sentence why Kafka cannot be used, on a broker that is right and refuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from kafka.net.transport import KafkaTCPTransport

from daemon.log.errors import LogError
from daemon.log.kafka.admin import Admin
from daemon.log.kafka.clients import Clients, KafkaConnection
from tests.integration.daemon_world import DEADLINE, wait_until
from tests.integration.secured_broker import (
    PASSWORD,
    USER,
    SecuredBroker,
    client_certificates_of,
    logins_with_password,
)
from tests.sandbox.process import Child
from tests.tls_files import Authority

pytestmark = [pytest.mark.endurance, pytest.mark.kafka]

ELSEWHERE = "kafka.invalid:9092"
COURSESYNCD = str(Path(sys.executable).with_name("coursesyncd"))


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.make(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def broker(authority: Authority, startable_kafka: None) -> Iterator[SecuredBroker]:
    listeners = {
        "tls": ("SSL", {}),
        "mutual": ("SSL", client_certificates_of(authority)),
        "login": ("SASL_PLAINTEXT", logins_with_password()),
        "elsewhere": ("PLAINTEXT", {}),
    }
    with SecuredBroker(authority, listeners, advertised={"elsewhere": ELSEWHERE}) as broker:
        yield broker


class Commands:
    """Runs ``coursesyncd`` with these settings of Kafka."""

    def __init__(self, folder: Path, authority: Authority, address: str, protocol: str, **login: str) -> None:
        self._log = folder / "run.log"
        (folder / "key").write_text("any")
        settings = {"bootstrap_servers": address, "security_protocol": protocol}
        if protocol.endswith("SSL"):
            settings["tls_ca_file"] = str(authority.file)
        if login:
            (folder / "password").write_text(login.pop("password"))
            settings |= {"sasl_mechanism": "PLAIN", "sasl_username": USER} | login
            settings["sasl_password_file"] = str(folder / "password")
        self._environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith("COURSESYNC_")},
            **{f"COURSESYNC_KAFKA_{name.upper()}": value for name, value in settings.items()},
            "COURSESYNC_KOMBO_API_KEY_FILE": str(folder / "key"),
            "COURSESYNC_KOMBO_BASE_URL": "http://127.0.0.1:1/v1",
            "COURSESYNC_ADMIN_HOST": "127.0.0.1",
            "COURSESYNC_ADMIN_PORT": "0",
        }

    def check(self) -> str:
        """What ``check`` says about Kafka."""
        done = subprocess.run(
            [COURSESYNCD, "check"],
            env=self._environ, capture_output=True, text=True, timeout=DEADLINE, check=False,
        )  # fmt: skip
        (line,) = [line for line in done.stdout.splitlines() if " kafka: " in line]
        return line

    def both(self) -> tuple[str, str]:
        """What ``check`` says, and the first reason why the daemon cannot start, as it logs it. At the same time, because each
        may try for 15 s."""
        child = Child.start("run", [COURSESYNCD, "run"], log=self._log, env=self._environ)
        try:
            told = self.check()
            (line,) = wait_until(
                lambda: [line for line in child.output().splitlines() if '"kafka.unavailable"' in line][:1],
                "it tells why",
            )
        finally:
            child.terminate()
            child.wait(DEADLINE)
        return told, json.loads(line)["error"]


@pytest.mark.parametrize(
    ("listener", "protocol", "login", "sentence"),
    [
        ("plain", "SSL", {}, "does not speak TLS at this port"),
        ("tls", "PLAINTEXT", {}, "kafka.security_protocol is PLAINTEXT: check which of"),
        ("mutual", "SSL", {}, "it may require a client certificate"),
        ("login", "PLAINTEXT", {}, "kafka.security_protocol is PLAINTEXT: check which of"),
        (
            "login",
            "SASL_PLAINTEXT",
            {"password": "wrong battery"},
            f"refused the login PLAIN of {USER}: SaslAuthenticationFailedError: Authentication failed: Invalid",
        ),
        (
            "login",
            "SASL_PLAINTEXT",
            {"password": PASSWORD, "sasl_mechanism": "SCRAM-SHA-512"},
            f"does not offer the login SCRAM-SHA-512 of {USER}; set kafka.sasl_mechanism",
        ),
        (
            "plain",
            "SASL_PLAINTEXT",
            {"password": PASSWORD},
            "does not accept a login at this port, but kafka.security_protocol is SASL_PLAINTEXT",
        ),
    ],
)
def test_check_and_the_daemon_say_why_in_the_same_sentence(
    broker: SecuredBroker,
    authority: Authority,
    tmp_path: Path,
    listener: str,
    protocol: str,
    login: dict[str, str],
    sentence: str,
) -> None:
    address = broker.address.get(listener, broker.bootstrap)
    commands = Commands(tmp_path, authority, address, protocol, **login)
    told, logged = commands.both()
    assert told.startswith(f"WRONG   kafka: Kafka at {address} ")
    assert sentence in told
    assert "wrong battery" not in told
    assert logged == told.removeprefix("WRONG   kafka: ")


def test_a_refusal_that_is_read_together_with_the_end_of_the_connection_is_told(
    broker: SecuredBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a machine that is too busy to read them one after the other."""
    receive = KafkaTCPTransport._sock_recv

    def receive_late(transport: KafkaTCPTransport) -> object:
        time.sleep(0.5)
        return receive(transport)

    monkeypatch.setattr(KafkaTCPTransport, "_sock_recv", receive_late)
    connection = KafkaConnection((broker.address["login"],), "SASL_PLAINTEXT", "PLAIN", USER, "wrong battery")
    with pytest.raises(LogError, match="refused the login PLAIN"):
        Admin(Clients(connection)).ask(lambda _: None)


def test_an_address_that_the_broker_advertises_and_nobody_can_reach_is_named(
    broker: SecuredBroker, authority: Authority, tmp_path: Path
) -> None:
    commands = Commands(tmp_path, authority, broker.address["elsewhere"], "PLAINTEXT")
    told, logged = commands.both()
    assert told.startswith(f"WRONG   kafka: Kafka at {ELSEWHERE} has a host name that cannot be resolved")
    assert "advertised.listeners" in told
    assert logged == told.removeprefix("WRONG   kafka: ")


def test_what_is_right_is_accepted(broker: SecuredBroker, authority: Authority, tmp_path: Path) -> None:
    tls = Commands(tmp_path, authority, broker.address["tls"], "SSL")
    assert tls.check().startswith("ok ")
    login = Commands(tmp_path, authority, broker.address["login"], "SASL_PLAINTEXT", password=PASSWORD)
    assert login.check().startswith("ok ")
