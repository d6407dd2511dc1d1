"""Puts the parts of one replica together around a given event log."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import NamedTuple

from daemon import __version__
from daemon.commands.connections import kombo_client
from daemon.config import Policies, Settings
from daemon.kombo.api_key import ApiKeyFile
from daemon.kombo.client import KomboClient
from daemon.kombo.port import KomboApi
from daemon.log.port import EventLog
from daemon.runtime.clock import SystemClock
from daemon.runtime.engine import Engine
from daemon.runtime.liveness import LOOPS
from daemon.runtime.ports import Ports
from daemon.telemetry.events import Observer
from daemon.telemetry.health import Health
from daemon.telemetry.metrics import Metrics
from daemon.telemetry.subscribers import subscribed
from daemon.telemetry.tracing import Tracing, from_environment


class Instruments(NamedTuple):
    """The parts that exist from the start of the process, before it connects to anything."""

    clock: SystemClock
    health: Health
    metrics: Metrics
    observer: Observer
    tracing: Tracing


def make_instruments(settings: Settings, environment: Mapping[str, str]) -> Instruments:
    """`environment` has the settings of OpenTelemetry."""
    clock = SystemClock()
    health = Health(LOOPS, clock.now)
    metrics = Metrics(
        health,
        version=__version__,
        input_topic=settings.topics.changes,
        task_timeout_s=settings.task.timeout,
    )
    tracing = from_environment(
        environment, version=__version__, topic=settings.topics.changes, group=settings.kafka.group_id
    )
    exporters = [] if tracing.exporter is None else [tracing.exporter]
    return Instruments(clock, health, metrics, subscribed(health, metrics, *exporters), tracing)


def make_api(settings: Settings, api_key: ApiKeyFile, metrics: Metrics) -> KomboClient:
    """Raises `KomboSetupError`."""
    return kombo_client(settings, api_key, in_flight_max=settings.http.in_flight_max, observe=metrics.http)


def make_engine(
    settings: Settings,
    policies: Policies,
    event_log: EventLog,
    api: KomboApi,
    instruments: Instruments,
    key_changed: Callable[[], bool],
) -> Engine:
    """The log must have started before the engine runs. `key_changed` is passed on to `Engine`."""
    ports = Ports(
        settings,
        policies,
        event_log,
        api,
        instruments.clock,
        random.Random(),
        instruments.observer,
        exports_spans=instruments.tracing.exporter is not None,
    )
    engine = Engine(ports, key_changed)
    instruments.metrics.observe(engine.snapshot)
    return engine
