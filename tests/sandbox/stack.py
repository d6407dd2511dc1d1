"""The parts that the sandbox runs: Kafka, the topics, the simulator of the API, the daemon.

They are started in this order and always ended in the reverse order. All output is written to one folder. The logs are kept,
the broker's data are deleted.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import IO, Any, Self

import msgspec
from kafka.errors import KafkaError

from daemon.log.kafka.clients import Clients, KafkaConnection
from daemon.log.port import Topics
from tests.sandbox import local_http, profile
from tests.sandbox.broker import Broker, external_kafka
from tests.sandbox.ports import free_ports
from tests.sandbox.process import Child, SandboxError
from tests.sandbox.replica import START_TIMEOUT, Replica

API_KEY = "sandbox-key"


class SimulatorAddress(msgspec.Struct, frozen=True):
    """The line that the simulator prints when it listens."""

    url: str
    """Root URL, for /_sim/…"""
    base_url: str
    """Base URL of the API."""
    pid: int


@dataclass(frozen=True, slots=True)
class Addresses:
    """The addresses of all parts."""

    bootstrap: str
    topics: Topics
    group: str
    simulator: SimulatorAddress
    admin_url: str
    """Root URL of the daemon's /metrics, /readyz and so on."""

    @property
    def connection(self) -> KafkaConnection:
        return KafkaConnection(bootstrap_servers=tuple(self.bootstrap.split(",")))


class Stack:
    """A context manager: inside it, Kafka and the simulator run. The methods start and end the daemon.

    Only one process at a time can use a folder. Raises `SandboxError`, and `daemon.log.errors.LogError` if the cluster cannot
    be used.
    """

    def __init__(
        self,
        directory: Path,
        *,
        faults: str,
        seed: int,
        say: Callable[[str], None],
        kafka: str | None = None,
        own_kafka: bool = False,
        task_seconds: float = profile.TASK_SECONDS,
        settings: Mapping[str, str] = MappingProxyType({}),
        partitions: int = profile.PARTITIONS,
        program: Sequence[str] | None = None,
    ) -> None:
        """`faults` and `task_seconds` are the values of the simulator's options of these names. `say` is called with
        progress messages. `kafka` is the ``host:port`` of a running cluster. Without it, the cluster in the environment's
        ``KAFKA`` is used, or a new one is started; with `own_kafka`, a new one is always started. `settings` of the daemon,
        by name, override the sandbox's. `partitions` of the input, and so of the journal. `program` is the command that is
        run in place of the daemon, with its environment. It has no admin port, so `await_ready` cannot be used.
        """
        self.directory = directory
        self._external = None if own_kafka else kafka or external_kafka()
        self._task_seconds = task_seconds
        self._settings = settings
        self._partitions = partitions
        self._program = program
        self._faults = faults
        self._seed = seed
        self._say = say
        self._cleanup = contextlib.ExitStack()
        self._children: list[Child] = []
        self._broker: Broker | None = None
        self._replicas: list[Replica] = []
        self._addresses: Addresses | None = None
        self.api_key_file = directory / "api-key"

    @property
    def addresses(self) -> Addresses:
        assert self._addresses is not None, "only inside the context"
        return self._addresses

    @property
    def broker(self) -> Broker:
        """The Kafka that this stack has started."""
        assert self._broker is not None, "not available with an external cluster"
        return self._broker

    @property
    def environment(self) -> dict[str, str]:
        """The daemon's environment. It also suits every other command of `coursesyncd`."""
        return self._environment(0, self.addresses.admin_url)

    def _environment(self, instance: int, admin_url: str) -> dict[str, str]:
        a = self.addresses
        return profile.environment(
            os.environ,
            bootstrap=a.bootstrap,
            topics=a.topics,
            group=a.group,
            base_url=a.simulator.base_url,
            api_key_file=self.api_key_file,
            admin_port=int(admin_url.rpartition(":")[2]),
            instance=instance,
            settings=self._settings,
        )

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as cleanup:
            self._start(cleanup)
            self._cleanup = cleanup.pop_all()
        self._make_replica("coursesyncd", self.addresses.admin_url)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._cleanup.close()

    # --- the daemon -------------------------------------------------------------------------------

    def start_daemon(self) -> None:
        """Start or restart it. `await_ready` waits until it works."""
        self.daemon.start()

    def await_ready(self) -> None:
        """Wait until the daemon reports that it is ready. Raises SandboxError if it does not."""
        self.daemon.await_ready()

    @property
    def daemon_running(self) -> bool:
        return self.daemon.running

    @property
    def daemon_pid(self) -> int:
        return self.daemon.process.pid

    def kill_daemon(self) -> None:
        """End it as kill -9 does."""
        self.daemon.process.kill()

    def drain_daemon(self) -> None:
        """End it as an operator does. Raises SandboxError if it did not end with exit code 0."""
        self.daemon.drain()

    def add_replica(self) -> Replica:
        """Add a replica of the daemon to the same group. It is not started yet, and is ended with everything else."""
        number = len(self._replicas)
        admin_url = f"http://127.0.0.1:{free_ports(1)[0]}"
        return self._make_replica(f"coursesyncd-{number}", admin_url)

    @property
    def daemon(self) -> Replica:
        """The first replica. It is the only one unless others are added."""
        return self._replicas[0]

    def _make_replica(self, name: str, admin_url: str) -> Replica:
        replica = Replica(
            name,
            [_coursesyncd(), "run"] if self._program is None else list(self._program),
            self._environment(len(self._replicas), admin_url),
            admin_url,
            self.directory / f"{name}.log",
            hold_sigterm=self._program is None,
        )
        self._replicas.append(replica)
        self._cleanup.callback(replica.close)
        return replica

    # --- all of it --------------------------------------------------------------------------------

    def assert_running(self) -> None:
        """Raises SandboxError if a part has ended unexpectedly."""
        if self._broker is not None and not self._broker.running:
            raise SandboxError(f"Kafka ended unexpectedly; see {self._broker.log}")
        for child in (*self._children, *(replica.process for replica in self._replicas if replica.started)):
            if not child.running:
                raise SandboxError(child.obituary())

    def ask_simulator(self, path: str) -> Any:
        """The JSON answer of the simulator to a GET of /_sim/….

        Raises:
            SandboxError: it does not answer.
        """
        try:
            return msgspec.json.decode(local_http.get(f"{self.addresses.simulator.url}/_sim/{path}"))
        except (OSError, msgspec.DecodeError) as error:
            raise SandboxError(f"the simulator does not answer: {error}") from error

    def tell_simulator(self, path: str, body: bytes) -> None:
        """POST this to /_sim/….

        Raises:
            SandboxError: it does not answer, or refuses.
        """
        try:
            local_http.post(f"{self.addresses.simulator.url}/_sim/{path}", body)
        except OSError as error:
            raise SandboxError(f"the simulator did not accept the request: {error}") from error

    # --- starting ---------------------------------------------------------------------------------

    def _start(self, cleanup: contextlib.ExitStack) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        cleanup.enter_context(_only_one(self.directory))
        for old in self.directory.glob("*.log"):
            old.unlink()
        self.api_key_file.write_text(f"{API_KEY}\n")
        external = self._external
        group = f"sandbox-{uuid.uuid4().hex[:8]}" if external else "course-sync-daemon"
        self._addresses = Addresses(
            bootstrap=external or self._start_broker(cleanup),
            topics=_topics_of(group) if external else Topics(),
            group=group,
            simulator=self._start_simulator(cleanup),
            admin_url=f"http://127.0.0.1:{free_ports(1)[0]}",
        )
        if external:
            self._say(f"Using the Kafka at {external}, with topics {group}-…")
            cleanup.callback(_delete_topics, self._addresses)
        self._create_topics()

    def _start_broker(self, cleanup: contextlib.ExitStack) -> str:
        self._say("Starting Kafka (on the first start, Maven fetches 44 MB) …")
        folder = self.directory / "kafka"
        shutil.rmtree(folder, ignore_errors=True)
        self._broker = Broker(folder)
        cleanup.callback(shutil.rmtree, folder / "data", ignore_errors=True)
        cleanup.callback(self._broker.kill)
        self._broker.start()
        return self._broker.bootstrap

    def _create_topics(self) -> None:
        """Create the topics with the command that operators use."""
        words = ["topics", "create", "--partitions", str(self._partitions)]
        child = self._child("topics", [_coursesyncd(), *words], env=self.environment)
        if child.wait(START_TIMEOUT) != 0:
            raise SandboxError(child.obituary())

    def _start_simulator(self, cleanup: contextlib.ExitStack) -> SimulatorAddress:
        options = {
            "--faults": self._faults,
            "--seed": str(self._seed),
            "--task-seconds": str(self._task_seconds),
            "--api-key": API_KEY,
        }
        command = [sys.executable, "-m", "tests.sandbox.simulator"]
        child = self._child("simulator", [*command, *(word for pair in options.items() for word in pair)])
        cleanup.callback(child.stop)
        self._children.append(child)
        line = child.wait_for_line(r"^\{.*\}$", START_TIMEOUT)[0]
        return msgspec.json.decode(line, type=SimulatorAddress)

    def _child(self, name: str, command: list[str], env: dict[str, str] | None = None) -> Child:
        return Child.start(name, command, log=self.directory / f"{name}.log", env=env)


@contextlib.contextmanager
def _only_one(directory: Path) -> Iterator[None]:
    """Hold the folder's lock. The system releases it however this process ends."""
    lock: IO[str]
    with (directory / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SandboxError(f"A sandbox is already running in {directory.absolute()}.") from None
        yield


def _coursesyncd() -> str:
    return str(Path(sys.executable).with_name("coursesyncd"))


def _topics_of(group: str) -> Topics:
    """Unique names, for a cluster that others use too."""
    return Topics(
        changes=f"{group}-changes",
        journal=f"{group}-journal",
        results=f"{group}-results",
        dead_letters=f"{group}-dead-letters",
        courses=f"{group}-courses",
        control=f"{group}-control",
    )


def _delete_topics(at: Addresses) -> None:
    """Delete the sandbox's topics from an external cluster."""
    names = list(at.topics.names)
    try:
        with Clients(at.connection).admin() as admin:
            admin.delete_topics(names)
    except KafkaError as error:
        raise SandboxError(f"the topics {', '.join(names)} could not be deleted: {error}") from error
