"""Virtual time, the replicas in it, and who runs next."""

from __future__ import annotations

import asyncio
import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from daemon.config import Policies, Settings, Topics
from daemon.core.model import Now
from daemon.log.errors import FatalLogError, LogError
from daemon.runtime.engine import Engine
from daemon.runtime.ports import Ports
from daemon.telemetry.events import Event, Halted, Observers, PartitionDropped
from daemon.telemetry.labels import DropReason
from daemon.telemetry.subscribers import LogSubscriber
from tests.sim.faulty import FaultyCluster, FaultyLog
from tests.sim.loop import SteppedLoop
from tests.sim.network import Network, SimulatedApi
from tests.sim.obedience import Known
from tests.sim.policies import NOTICED_MAX, Tables
from tests.sim.seen import Who
from tests.sim.witness import Witness

EPOCH_MS = 1_790_000_000_000
"""Virtual time 0, in ms since the epoch."""


CLOCK_READS_MAX = 100_000
"""In one step of an event loop, which takes no virtual time."""
BUSY_MAX = 20_000
"""Steps at one moment of virtual time; a whole history takes a few thousand."""


class Bystander:
    """Subscribes to the events of one process, for the witness."""

    def __init__(self, witness: Witness, who: Who) -> None:
        self._witness = witness
        self._who = who

    def notify(self, event: Event) -> None:
        match event:
            case Halted(reason=reason):
                self._witness.halted(self._who, reason)
            case PartitionDropped(partition=number, reason=DropReason.REVOKED):
                self._witness.takeovers.left(self._who, number)


class ReplicaClock:
    def __init__(self, world: World, replica: Replica) -> None:
        self._world = world
        self._replica = replica

    def now(self) -> Now:
        self._world.clock_reads += 1
        if self._world.clock_reads > CLOCK_READS_MAX:
            raise RuntimeError("a busy loop: the clock is read without end in one step")
        return Now(self._world.wall_ms() + self._replica.clock_offset_ms, self._world.time)

    def boot(self) -> float:
        return self._world.time


@dataclass(eq=False)
class Replica:
    """A static member of the group, over all of its processes."""

    name: str
    loop: SteppedLoop | None = None
    engine: Engine | None = None
    main: asyncio.Task[None] | None = None
    key: str = "key-0"
    clock_offset_ms: int = 0
    paused: bool = False
    lives: int = 0

    @property
    def alive(self) -> bool:
        return self.loop is not None

    @property
    def runnable(self) -> bool:
        return self.loop is not None and not self.paused and self.loop.ready


@dataclass
class World:
    rng: random.Random
    settings: Settings
    topics: Topics
    session_timeout: float
    tables: Tables = ()
    """Of integrations, in the file."""
    time: float = 0.0
    broker_offset_ms: int = 0
    """By how much the clock of the broker is off."""
    replicas: list[Replica] = field(default_factory=list)
    key_file: str = "key-0"
    trace: list[tuple[float, str]] = field(default_factory=list)
    orders: list[Known] = field(default_factory=list)
    """What operators have decided so far."""
    clock_reads: int = 0
    """In the present step."""
    deaths: list[str] = field(default_factory=list)
    """Processes that ended by an error which no fault explains."""
    steps: int = 0
    published: dict[tuple[int, int], float] = field(default_factory=dict)
    """When each change became visible, by partition and offset."""
    cluster: FaultyCluster = field(init=False)
    network: Network = field(init=False)
    api_now: Callable[[], int] = field(init=False)
    witness: Witness = field(init=False)
    stepping: Replica | None = None
    """Whose code runs at this moment."""
    graveyard: list[Any] = field(default_factory=list)
    after_step: Callable[[Replica], None] | None = None
    """Told after every single callback: a fault may strike between any two."""
    _events: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    _sequence: int = 0
    _busy: int = 0

    def wall_ms(self) -> int:
        return EPOCH_MS + round(self.time * 1000)

    def broker_ms(self) -> int:
        return self.wall_ms() + self.broker_offset_ms

    def note(self, text: str) -> None:
        self.trace.append((self.time, text))

    def after(self, delay: float, event: Callable[[], None]) -> None:
        self._sequence += 1
        heapq.heappush(self._events, (self.time + delay, self._sequence, event))

    def is_paused(self, name: str) -> bool:
        return any(replica.name == name and replica.paused for replica in self.replicas)

    # --- replicas ---------------------------------------------------------------------------------

    def start(self, replica: Replica) -> None:
        if replica.alive:
            return
        replica.lives += 1
        replica.paused = False
        replica.key = self.key_file
        self.note(f"{replica.name} starts (life {replica.lives})")
        loop = SteppedLoop(lambda: self.time, replica.name)  # type: ignore[abstract]  # has what is called
        replica.loop = loop
        asyncio._set_running_loop(loop)
        try:
            replica.main = loop.create_task(self._live(replica))
        finally:
            asyncio._set_running_loop(None)
        replica.main.add_done_callback(lambda task: self._ended(replica, loop, task))

    async def _live(self, replica: Replica) -> None:
        who = (replica.name, replica.lives)
        log = FaultyLog(self.cluster, self.topics, who)
        while True:
            try:
                await log.start()
                break
            except LogError:
                await asyncio.sleep(1.0)
        clock = ReplicaClock(self, replica)
        api = SimulatedApi(self.network, who, lambda: replica.key, self.settings.http.deadline)
        rng = random.Random(self.rng.random())
        bystander = Bystander(self.witness, who)
        policies = Policies(self.settings, self.tables)
        self.witness.in_force.used(who, self.tables)
        ports = Ports(
            self.settings,
            policies,
            log,
            api,
            clock,
            rng,
            Observers(bystander, LogSubscriber()),
        )
        replica.engine = Engine(ports, lambda: self._key_changed(replica))
        await replica.engine.run()

    def _key_changed(self, replica: Replica) -> bool:
        changed = replica.key != self.key_file
        replica.key = self.key_file
        return changed

    def _ended(self, replica: Replica, loop: SteppedLoop, task: asyncio.Task[None]) -> None:
        if replica.loop is not loop:
            return
        error = None if task.cancelled() else task.exception()
        if isinstance(error, FatalLogError):
            self.note(f"{replica.name} ends: {error}")
        elif error is not None:
            self.note(f"{replica.name} DIED: {error!r}")
            self.deaths.append(f"{replica.name}: {error!r}")
        else:
            self.note(f"{replica.name} ends in order")
            engine = replica.engine
            held = () if engine is None else engine._partitions.keys()
            self.witness.ended_in_order((replica.name, replica.lives), frozenset(held))
        self.kill(replica)
        if self.deaths:
            return
        self.after(self.rng.uniform(0.1, 2.0), lambda: self.start(replica))

    def change_tables(self, tables: Tables) -> None:
        """The file changes, and each process reads it a little later."""
        self.tables = tables
        self.note("the tables of integrations change")
        for replica in self.replicas:
            if replica.loop is not None:
                loop, life = replica.loop, replica.lives
                self.after(self.rng.uniform(0.0, NOTICED_MAX), partial(self._reads, replica, loop, life))

    def _reads(self, replica: Replica, loop: SteppedLoop, life: int) -> None:
        def use() -> None:
            if replica.engine is not None and replica.lives == life:
                self.witness.in_force.used((replica.name, life), self.tables)
                replica.engine.use_policies(self.tables)

        if replica.loop is loop:
            loop.call_soon(use)

    def kill(self, replica: Replica) -> None:
        """As kill -9; the group notices after the session time-out, unless it is back before."""
        if replica.loop is None:
            return
        loop, life = replica.loop, replica.lives
        self.witness.takeovers.disturbed((replica.name, life))
        loop.kill()
        self.graveyard.append((replica.name, loop, replica.main, replica.engine))
        replica.loop = replica.main = replica.engine = None
        replica.paused = False

        def expire() -> None:
            if replica.lives == life:
                self.cluster.expire(replica.name)

        self.after(self.session_timeout, expire)

    def pause(self, replica: Replica, duration: float) -> None:
        """As SIGSTOP, and SIGCONT later: longer than the session time-out makes it a zombie."""
        if replica.loop is None or replica.paused:
            return
        replica.paused = True
        self.witness.takeovers.disturbed((replica.name, replica.lives))
        self.witness.known.paused((replica.name, replica.lives))
        loop = replica.loop

        def expire() -> None:
            if replica.loop is loop and replica.paused:
                self.cluster.expire(replica.name)

        def resume() -> None:
            if replica.loop is loop:
                self.note(f"{replica.name} goes on")
                self.witness.obedience.reading((replica.name, replica.lives))
                self.witness.known.went_on((replica.name, replica.lives))
                replica.paused = False

        if duration > self.session_timeout:
            self.after(self.session_timeout, expire)
        self.after(duration, resume)

    def unheard_errors(self) -> list[str]:
        """Exceptions of the daemon's own that nobody has looked at: a task that died in silence."""
        loops = [
            *((r.name, r.loop) for r in self.replicas if r.loop),
            *((name, loop) for name, loop, *_ in self.graveyard),
        ]
        return [f"{name}: {trouble}" for name, loop in loops for trouble in loop.unheard()]

    # --- time -------------------------------------------------------------------------------------

    def run(self, until: float, done: Callable[[], bool] | None = None) -> bool:
        """Go on until this time, or until `done`, which is asked now and then; tells whether it was."""
        asked_at = self.time
        while self.time < until and not self.deaths:
            runnable = [replica for replica in self.replicas if replica.runnable]
            if runnable:
                replica = runnable[0] if len(runnable) == 1 else self.rng.choice(runnable)
                assert replica.loop is not None
                self.stepping = replica
                self.clock_reads = 0
                replica.loop.step()
                self.stepping = None
                self.steps += 1
                self._busy += 1
                if self._busy > BUSY_MAX:
                    self.deaths.append(
                        f"{replica.name}: {BUSY_MAX} steps without any time passing: a busy loop"
                    )
                if self.after_step is not None:
                    self.after_step(replica)
                continue
            if done is not None and self.time >= asked_at + 0.5:
                asked_at = self.time
                if done():
                    return True
            self._advance(until)
        return done() if done is not None else False

    def _advance(self, until: float) -> None:
        awake = [r.loop for r in self.replicas if r.loop is not None and not r.paused]
        times = [time for loop in awake if (time := loop.next_timer()) is not None]
        if self._events:
            times.append(self._events[0][0])
        self.time = max(self.time, min([*times, until]))
        self._busy = 0
        while self._events and self._events[0][0] <= self.time:
            heapq.heappop(self._events)[2]()
        for loop in awake:
            loop.wake_timers()
