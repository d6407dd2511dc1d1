"""The dependencies of every part of the runtime: the ports to the outside, and the observer of its events."""

from __future__ import annotations

import random
from dataclasses import dataclass

from daemon.config import Policies, Settings
from daemon.kombo.port import KomboApi
from daemon.log.port import EventLog
from daemon.runtime.clock import Clock
from daemon.telemetry.events import Observer


@dataclass(frozen=True, slots=True)
class Ports:
    settings: Settings
    policies: Policies
    log: EventLog
    api: KomboApi
    clock: Clock
    rng: random.Random
    observer: Observer
    exports_spans: bool = False
    """One of the observers exports the spans of changes, and their results name them."""
