"""What the daemon talks to: Kafka with TLS and a login, the simulated API with TLS, and a DNS server with their names."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Self

import msgspec

from daemon.log.kafka.clients import KafkaConnection
from tests.cluster.places import (
    API_HOST,
    API_PLAIN_PORT,
    API_PORT,
    CONTROL_PLANE,
    KAFKA_HOST,
    KAFKA_PORT,
    Places,
)
from tests.integration.secured_broker import PASSWORD, USER, keystore, logins_with_password
from tests.sandbox import local_http
from tests.sandbox.broker import Broker
from tests.sandbox.process import Child
from tests.sandbox.simulator.faults import DEMO, FaultPlan, TaskEndless
from tests.tls_files import Authority

API_KEY = "key-before-the-rotation"
FAULTS = FaultPlan(
    rules=tuple(
        rule
        for rule in DEMO.rules
        if not isinstance(rule, TaskEndless) and getattr(rule, "how", None) != "hang" and rule.every == 1
    )
)
"""Those of the demo that last less than the disturbances: no hanging answers, endless tasks and customers that must act."""


class Services:
    """A context manager. Everything it started ends with it."""

    def __init__(self, places: Places, authority: Authority) -> None:
        self._places = places
        self._authority = authority
        self._broker = _SecuredBroker(places, authority)
        self._children: list[Child] = []
        self.ca_file = authority.file
        self.password = PASSWORD
        self.connection = KafkaConnection((self._broker.bootstrap,))
        """For this program, without TLS and login."""
        self.simulator_url = f"http://127.0.0.1:{API_PLAIN_PORT}"

    def tell_simulator(self, what: str, body: bytes) -> None:
        """POST to its /_sim/…"""
        local_http.post(f"{self.simulator_url}/_sim/{what}", body)

    def __enter__(self) -> Self:
        self._start_names()
        self._start_api()
        self._broker.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._broker.close()
        for child in self._children:
            child.kill()

    def _start_names(self) -> None:
        names = [f"--address=/{name}/{CONTROL_PLANE}" for name in (KAFKA_HOST, API_HOST)]
        command = ["dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts"]
        command += [
            "--user=root",
            "--pid-file=",
            f"--listen-address={CONTROL_PLANE}",
            "--bind-interfaces",
            *names,
        ]
        self._children.append(Child.start("dnsmasq", command, log=self._places.log("dnsmasq")))

    def _start_api(self) -> None:
        port = str(API_PLAIN_PORT)
        command = [sys.executable, "-m", "tests.sandbox", "simulator", "--port", port]
        command += ["--api-key", API_KEY, "--faults", msgspec.json.encode(FAULTS).decode()]
        simulator = Child.start("the simulated API", command, log=self._places.log("simulator"))
        self._children.append(simulator)
        simulator.wait_for_line("base_url", timeout=60.0)
        files = self._authority.issue("api", host=API_HOST)
        tls = f"OPENSSL-LISTEN:{API_PORT},bind={CONTROL_PLANE},reuseaddr,fork,verify=0"
        tls += f",cert={files.certificate},key={files.key}"
        command = ["socat", tls, f"TCP:127.0.0.1:{port}"]
        self._children.append(Child.start("the API's TLS", command, log=self._places.log("api-tls")))


class _SecuredBroker(Broker):
    """With a listener for the pods, at the name that its certificate is for."""

    def __init__(self, places: Places, authority: Authority) -> None:
        super().__init__(places.work / "kafka", session_timeout=60.0)
        own = self._settings
        own["listeners"] += f",PODS://{CONTROL_PLANE}:{KAFKA_PORT}"
        own["advertised.listeners"] += f",PODS://{KAFKA_HOST}:{KAFKA_PORT}"
        own["listener.security.protocol.map"] += ",PODS:SASL_SSL"
        settings = keystore(authority.issue("kafka", host=KAFKA_HOST)) | logins_with_password()
        own |= {f"listener.name.pods.{name}": value for name, value in settings.items()}


LOGIN = {"sasl_mechanism": "PLAIN", "sasl_username": USER}
"""Settings of the group `kafka`."""
