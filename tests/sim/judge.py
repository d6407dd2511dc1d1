"""The checker of the contract over a simulated history, and what only a simulation can see.

`tests.sandbox.checker` holds input, results, tasks and LMS at the end against the contract; it is the
same that judges a run on a real broker. Added here: what the witness saw on the way, whether everything
came to an end, and claims of results that can only be verified by someone who knows every moment: that a
failure was not our own, a time-out not a clock's, a replay really stale.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from daemon.core.flow import KNOWN_SECONDS
from daemon.runtime.engine import Engine
from daemon.runtime.poll_entries import KEY_PROBE
from tests.sandbox.checker import (
    Limits,
    LogRecord,
    judge,
)
from tests.sim.claims import Claims
from tests.sim.evidence import deactivations, lms, records, tasks
from tests.sim.journal_view import JournalView
from tests.sim.outcome import Outcome
from tests.sim.traces import judge_traces
from tests.sim.world import World

DELAY_MAX = 18.0
"""Virtual seconds from a change to its result where nothing is wrong: twice (a submission of the course may
be open already) linger, POST, task, a poll that comes late, and a commit after each. Seldom more than 7; but
content that was published before takes one submission more, about 2 s, for each earlier task of it (R14).
"""


def unfinished(world: World, changes: int) -> list[str]:
    """Why it has not converged yet; empty when it has."""
    results = sum(
        1 for r in records(world, world.topics.results) if not (r.key or b"").endswith(b'"correction"]')
    )
    found = []
    if results < changes:
        found.append(f"{changes - results} changes have no result")
    cluster, journal = world.cluster, world.topics.journal
    for partition in range(cluster.partition_count(journal)):
        start = cluster.partition(journal, partition).start
        left = JournalView().read(cluster.read_committed(journal, partition, start, 1_000_000)[0]).left()
        if left:
            found.append(f"journal partition {partition} still holds: {', '.join(left)}")
    return found


def calls_in_flight(world: World) -> int:
    """For instance the probe of a key, which no change waits for."""
    return sum(replica.engine._flow.in_flight for replica in world.replicas if replica.engine is not None)


def judge_history(world: World, outcome: Outcome) -> None:
    """Once everything has healed and has had its time."""
    settings, witness = world.settings, world.witness
    integrations = {task.integration_id for task in world.network.simulator.tasks.values()}
    timeouts = [t for i in integrations for (t,) in witness.in_force.ever(i, "task.timeout")]
    timeout_ms = round(min(timeouts, default=settings.task.timeout) * 1000)
    watched_ms = min((witness.watched_ms(i) for i in integrations), default=timeout_ms)
    limits = Limits(  # the shortest of all integrations: the witness knows those of each
        item_bytes_max=settings.batch.bytes_max,
        task_timeout_ms=timeout_ms,
        watch_ms=round(watched_ms) - timeout_ms,
        backlog_rejects=settings.backlog.on_full == "reject",
    )
    verdict = judge(
        records(world, world.topics.changes),
        records(world, world.topics.results),
        tasks(world),
        deactivations(world),
        lms(world),
        limits,
        records(world, world.topics.courses),
    )
    outcome.results = verdict.results
    for kind, count in verdict.counts.items():
        if count:
            outcome.counts[kind.value] += count
    outcome.lines += [f"{v.kind}: {v.line}" for v in verdict.first(20)]
    for line in unfinished(world, outcome.changes):
        outcome.add("unconverged", line)
    Claims(world, outcome).judge()
    judge_dead_letters(world, outcome)
    judge_traces(world, outcome)
    for replica in world.replicas:
        if replica.engine is not None:
            for line in kept_in_memory(replica.engine):
                outcome.add("leaks", f"{replica.name} has nothing left to do, and keeps {line} (C6)")


def judge_dead_letters(world: World, outcome: Outcome) -> None:
    """The original bytes, key and headers of each record that was rejected, once."""
    letters: dict[str, LogRecord] = {}
    for letter in records(world, world.topics.dead_letters):
        source = (dict(letter.headers)["coursesync-source"] or b"").decode()
        if source in letters:
            outcome.add("dead_letters", f"{source} has two dead letters")
        letters[source] = letter
    rejected = set()
    for record in records(world, world.topics.results):
        event = msgspec.json.decode(record.value or b"")
        if event["data"]["status"] == "REJECTED":
            rejected.add(event["id"])
    for record in records(world, world.topics.changes):
        source = f"{record.topic}/{record.partition}/{record.offset}"
        has_letter = source in letters
        letter = letters.pop(source, record)
        if has_letter is not (source in rejected):
            outcome.add("dead_letters", f"{source}: rejected {source in rejected}, dead letter {has_letter}")
        elif has_letter and not _holds(letter, record):
            outcome.add("dead_letters", f"the dead letter of {source} is not the record that it is of")
    for source in letters:
        outcome.add("dead_letters", f"{source}, of which there is a dead letter, is no record of the input")


def _holds(letter: LogRecord, record: LogRecord) -> bool:
    """R7: what is too large is cut."""
    publishers = ("coursesync-repeats", "coursesync-checked")
    own = tuple(
        (name, value)
        for name, value in letter.headers
        if name in publishers or not name.startswith("coursesync-")
    )
    value, whole = letter.value, record.value
    is_cut = any(name == "coursesync-value-size" for name, _ in letter.headers)
    same = (whole or b"").startswith(value or b"") if is_cut else (value or b"") == (whole or b"")
    return same and letter.key == record.key and own == record.headers


def kept_in_memory(engine: Engine) -> Iterator[str]:
    """What an engine holds of changes, of which each has had its result."""
    poller, flow = engine._poller, engine._flow
    polls = [each for each in poller._schedule if each is not KEY_PROBE]
    if poller.blind or polls:
        yield f"{len(polls)} tasks to be polled, {len(poller.blind)} of which nothing is heard"
    queued = len(flow._delayed) + sum(len(state.queue) for state in flow._integrations.values())
    if queued or flow.in_flight:
        yield f"{queued} submissions, and {flow.in_flight} calls in flight"
    later = engine._ports.clock.now().mono
    for wait in (engine._ports.settings.park.probe_max * 2, KNOWN_SECONDS):
        later += wait
        flow.next_submission(later)
    if flow._integrations:
        yield f"{len(flow._integrations)} integrations to which nothing was sent for long"
    if len(flow._own_rates):
        yield f"the own rates of {len(flow._own_rates)} integrations"
    known, limit = 0, engine._ports.settings.courses.index_max
    for number, (partition, _) in engine._partitions.items():
        if partition.shard is None:
            continue
        known += len(partition.shard.known)
        memory = partition.shard._memory
        counts = (len(memory.waiting.lanes), memory.backlog.courses, memory.backlog.bodies)
        if any(counts):
            yield f"in partition {number} {counts[0]} lanes, {counts[1]} courses, {counts[2]} bytes of bodies"
        if memory.traces._by_offset:
            yield f"in partition {number} traces of changes {sorted(memory.traces._by_offset)}"
    if known > limit or known + engine._indexes.budget.left != limit:
        yield f"{known} known courses, and {engine._indexes.budget.left} places for more, of {limit}"


def conclude(world: World, outcome: Outcome) -> None:
    """What every history ends with, and what was seen on the way."""
    outcome.plain = outcome.ok
    for kind, line in world.witness.violations:
        outcome.add(kind, line)
    for line in [*world.deaths, *world.unheard_errors()]:
        outcome.add("deaths", line)
    outcome.steps, outcome.trace = world.steps, world.trace
    outcome.digest = world.witness.digest.hexdigest()


def judge_isolation(world: World, outcome: Outcome, broken: str) -> None:
    """C5: who is well does not wait for who is not. Whatever one integration does says nothing of
    our key.
    """
    for line in world.witness.halts:
        outcome.add("halted", f"{line}, though the key is good (C5)")
    told = {(t.partition, t.offset): t.at for t in world.witness.told}
    for record in records(world, world.topics.changes):
        place = (record.partition, record.offset)
        if (record.key or b"").decode() == broken or place not in told:
            continue
        delay = told[place] - world.published[place]
        if delay > DELAY_MAX:
            outcome.add("delayed", f"change {place} of {record.key!r} took {delay:.1f} s (C5)")


def judge_alone(world: World, outcome: Outcome) -> None:
    """Who follows the answers, and has a limit alone, is never refused for too many."""
    requests = world.network.simulator.requests
    refused = requests["submit 429"] + requests["deactivate 429"]
    if refused:
        outcome.add("crowded", f"{refused} POSTs were refused for too many, and there was nobody else")
