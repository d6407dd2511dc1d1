"""Bugs against the rules of shard, commit and journal: R1 to R5, R8, R9."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import msgspec

from daemon.core import journal, journal_fold, settle
from daemon.core.answers import Accepted
from daemon.core.batch import Batch, OpenTask
from daemon.core.journal import Position
from daemon.core.journal_fold import Fold
from daemon.core.memory import Memory
from daemon.core.model import Now
from daemon.core.shard import Shard
from daemon.core.step import Draft, Step
from daemon.log.port import Transaction
from daemon.runtime import failures, opening, operator_messages
from daemon.runtime import partition as partition_module
from daemon.runtime.failures import Failure, Remedy
from daemon.runtime.opening import Opened
from daemon.runtime.partition import Partition
from daemon.runtime.step_transaction import transaction
from tests.embedded_log import EmbeddedLog, EmbeddedShardLog
from tests.sim.mutants.registry import Patch, mutant
from tests.sim.parameters import Kind

# --- R1 The fence is named after what it protects -------------------------------------------------


@mutant(
    "R1",
    "The transactional id belongs to the member instead of the partition, so the previous owner is not fenced.",
)
def fence_per_member(patch: Patch) -> None:
    async def open_shard(log: EmbeddedLog, number: int) -> EmbeddedShardLog:
        await asyncio.sleep(0)
        place = log._cluster.partition(log._topics.journal, number)
        producer = log._cluster.producer(f"{log._member_id}-{number}")
        courses = log._cluster.partition(log._topics.courses, number)
        return EmbeddedShardLog(log._topics, number, place, courses, producer, log._commit_group_offset)

    patch(EmbeddedLog, "open_shard", open_shard)


# --- R2 One step, one transaction -----------------------------------------------------------------


def in_two(patch: Patch, divide: Any) -> None:
    """Every step is committed as two, one after the other; `divide` makes them."""
    take_step = Shard.take_step

    def take(shard: Shard) -> Step | None:
        later = shard.__dict__.pop("_later", None)
        if later is not None:
            return later  # type: ignore[no-any-return]
        step = take_step(shard)
        if step is None:
            return None
        first: Step
        first, shard.__dict__["_later"] = divide(step)
        return first

    patch(Shard, "take_step", take)


NOTHING: dict[str, Any] = {
    "results": [],
    "corrections": [],
    "rejections": [],
    "courses": [],
    "facts": [],
    "consumed": 0,
}


@mutant("R2", "Results are committed before the journal, in a transaction of their own.")
def results_first(patch: Patch) -> None:
    def divide(step: Step) -> tuple[Step | None, Step | None]:
        if not step.results:
            return step, None
        unchanged = [entry for entry in step.journal if entry[0].startswith(b'["none"')]
        first = dataclasses.replace(step, journal=unchanged, facts=[], batches=[], consumed=0)
        return first, dataclasses.replace(step, **{**NOTHING, "facts": step.facts})

    in_two(patch, divide)


@mutant("R2", "The journal is committed before the results, in a transaction of its own.")
def journal_first(patch: Patch) -> None:
    def divide(step: Step) -> tuple[Step | None, Step | None]:
        if not step.results:
            return step, None
        first = dataclasses.replace(step, results=[], corrections=[], rejections=[])
        return first, dataclasses.replace(step, journal=[step.journal[-1]], facts=[], batches=[], consumed=0)

    in_two(patch, divide)


@mutant("R2", "The end of a batch and the batches that follow from it are committed in two transactions.")
def successors_afterwards(patch: Patch) -> None:
    def divide(step: Step) -> tuple[Step | None, Step | None]:
        closing = [entry for entry in step.journal if entry[1] is None]
        opening_ = [entry for entry in step.journal if entry[1] is not None]
        if not closing or len(opening_) == 1:
            return step, None
        places = {key: index for index, (key, _) in enumerate(opening_)}
        batches = [(places[journal.batch_key(batch_id)], batch_id) for _, batch_id in step.batches]
        first = dataclasses.replace(step, journal=closing, facts=[], batches=[])
        return first, dataclasses.replace(
            step, **{**NOTHING, "journal": opening_, "facts": step.facts, "batches": batches}
        )

    in_two(patch, divide)


@mutant("R2", "A shard begins a commit before the previous one has ended.")
def commits_in_flight(patch: Patch) -> None:
    commit = Partition._commit

    async def do_not_wait(partition: Partition, *a: Any) -> None:
        partition.__dict__.setdefault("_commits", []).append(asyncio.create_task(commit(partition, *a)))
        await asyncio.sleep(0)

    patch(Partition, "_commit", do_not_wait)


# --- R3 Nothing leaves before its record is committed ---------------------------------------------


@mutant("R3", "A batch is POSTed when it is sealed, while its record is still being committed.")
def posted_when_sealed(patch: Patch) -> None:
    commit = Partition._commit

    async def act_first(partition: Partition, shard: Shard, shard_log: Any, step: Step) -> None:
        partition._on_facts(partition, shard, step.facts)
        await commit(partition, shard, shard_log, dataclasses.replace(step, facts=[]))

    patch(Partition, "_commit", act_first)


@mutant("R3", "Results are published before the transaction that contains them.")
def results_outside(patch: Patch) -> None:
    commit = Partition._commit
    make = transaction

    async def publish_first(partition: Partition, shard: Shard, shard_log: Any, step: Step) -> None:
        topics = partition._ports.settings.topics
        for message in make(step, partition.number, topics).results:
            shard_log._cluster.append(topics.results, message)
        await commit(partition, shard, shard_log, step)

    def without_results(*a: Any, exports_spans: bool = False) -> Transaction:
        return dataclasses.replace(make(*a, exports_spans=exports_spans), results=())

    patch(Partition, "_commit", publish_first)
    patch(partition_module, "transaction", without_results)


# --- R4 Any error of a transaction drops memory and producer --------------------------------------


@mutant("R4", "After a failed commit, a new producer continues with the old memory.")
def memory_survives_failure(patch: Patch) -> None:
    drop, restore = Partition._drop, opening.restore
    kept: dict[tuple[int, int], Shard] = {}

    async def drop_producer(partition: Partition, *a: Any) -> None:
        if partition.shard is not None:
            kept[id(partition._ports), partition.number] = partition.shard
        await drop(partition, *a)

    async def keep_memory(ports: Any, number: int, *opening_of: Any) -> Opened:
        opened = await restore(ports, number, *opening_of)
        shard = kept.pop((id(ports), number), None)
        return opened if shard is None else dataclasses.replace(opened, shard=shard)

    patch(Partition, "_drop", drop_producer)
    patch(partition_module, "restore", keep_memory)


@mutant("R4", "A new producer is made without checking that the partition is still assigned.")
def unconfirmed_producer(patch: Patch) -> None:
    async def do_not_wait(_ports: Any, _partition: int, _failures: int) -> None:
        return

    patch(partition_module, "wait_for_confirmation", do_not_wait)


@mutant("R4", "A record that the broker refuses temporarily blocks the partition.")
def transient_refusals_block(patch: Patch) -> None:
    failure_of = failures.failure_of

    def harsh(error: Exception, number: int, topics: Any) -> Failure:
        failure = failure_of(error, number, topics)
        if failure.remedy is Remedy.DEFER:
            return dataclasses.replace(failure, remedy=Remedy.REFUSED)
        return failure

    patch(partition_module, "failure_of", harsh)


# --- R5 Memory is reused only after a committed position ------------------------------------------


@mutant("R5", "After a reassignment, reading continues without a commit that proves ownership.")
def rejoin_without_proof(patch: Patch) -> None:
    def rejoin(partition: Partition) -> None:
        life = partition._life
        if life.give_back():
            if life.rejoining and partition.shard is not None:
                life.proven()
                partition.intake.begin(partition.shard)
            partition.wake()

    patch(Partition, "rejoin", rejoin)


@mutant("R5", "Reassignment by the group counts as proof and renews the lease.")
def rejoin_renews_lease(patch: Patch) -> None:
    rejoin = Partition.rejoin

    def renew(partition: Partition) -> None:
        rejoin(partition)
        if partition.shard is not None and partition._life.rejoining:
            partition._life.proven()
            partition._lease.renew(partition._ports.clock.boot())
            partition.intake.begin(partition.shard)
            partition._lease.wake()

    patch(Partition, "rejoin", renew)


# --- R8 Input and journal are what they were ------------------------------------------------------


def _agreeing(patch: Patch, facts_as: Any) -> None:
    """Compare the position with facts in which the fields that `facts_as` returns are replaced."""
    of_position = operator_messages.of_position

    def compare_less(partition: int, position: Position, facts: Any, topics: Any) -> str | None:
        agreeing = dataclasses.replace(facts, **facts_as(position, facts))
        return of_position(partition, position, agreeing, topics)

    patch(operator_messages, "of_position", compare_less)


@mutant(
    "R8",
    "The id of the input topic is not checked, so a topic that was created again is read as the old one.",
    Kind.REPLACED,
)
def any_topic_will_do(patch: Patch) -> None:
    _agreeing(patch, lambda position, facts: {"topic_id": position.topic_id})


@mutant("R8", "The number of partitions is not checked.", Kind.REPLACED)
def any_partition_count_will_do(patch: Patch) -> None:
    _agreeing(patch, lambda position, facts: {"partitions": position.partitions})


@mutant("R8", "Records that expired unread are skipped silently.", Kind.REPLACED)
def expired_records_are_passed_over(patch: Patch) -> None:
    restore = opening.restore

    async def skip(ports: Any, number: int, *opening_of: Any) -> Opened:
        opened = await restore(ports, number, *opening_of)
        facts = await ports.log.input_facts(number)
        opened.shard._next_read = max(opened.shard._next_read, facts.earliest)
        return opened

    _agreeing(patch, lambda position, facts: {"earliest": 0})
    patch(partition_module, "restore", skip)


@mutant(
    "R8", "An empty journal counts as a first start, although the group has committed offsets.", Kind.REPLACED
)
def empty_journal_is_a_first_start(patch: Patch) -> None:
    patch(operator_messages, "without_position", lambda partition, facts, topics: None)


@mutant("R8", "The version of the journal format is not checked.", Kind.REPLACED)
def any_format_will_do(patch: Patch) -> None:
    patch(journal, "_refuse_newer", lambda version: None)


# --- R9 The fold is last value per key ------------------------------------------------------------


@mutant("R9", "The journal stores how far the position moved, and the fold adds this up.")
def position_as_delta(patch: Patch) -> None:
    close, apply = Draft.close, Fold.apply

    def write_delta(draft: Draft, waiting: Any, position: Position, traces: Any) -> Step:
        step = close(draft, waiting, position, traces)
        before = waiting.__dict__.get("_position_written")
        waiting.__dict__["_position_written"] = position.next_offset
        if before is None:
            return step
        delta = msgspec.structs.replace(position, next_offset=position.next_offset - before, format=0)
        step.journal[-1] = (journal.POSITION_KEY, journal.encode_value(delta))
        return step

    def add_up(fold: Fold, offset: int, key: bytes | None, value: bytes | None) -> None:
        before = fold.position
        apply(fold, offset, key, value)
        position = fold.position
        if key == journal.POSITION_KEY and position is not None and position.format == 0:
            total = position.next_offset + (before.next_offset if before is not None else 0)
            fold.position = msgspec.structs.replace(position, next_offset=total, format=journal.FORMAT)

    patch(Draft, "close", write_delta)
    patch(Fold, "apply", add_up)


@mutant("R9", "A record that is read back is not checked against the batch.", Kind.MISREAD)
def read_back_unverified(patch: Patch) -> None:
    async def body(partition: Partition, task: OpenTask) -> bytes:
        assert partition._shard_log is not None
        assert task.offset is not None
        record = await partition._shard_log.read_back(task.offset)
        return bytes(msgspec.json.decode(record.value or b"", type=journal.SealedBatch).body)

    patch(Partition, "body", body)


@mutant("R9", "A record that is read back is checked by its key only, not by its content.", Kind.MISREAD)
def read_back_without_digest(patch: Patch) -> None:
    patch(journal, "digest", lambda body: b"same")
    patch(journal_fold, "digest", lambda body: b"same")


@mutant("R9", "The parts of a key are joined with a colon, so different courses can share a key.")
def keys_collide(patch: Patch) -> None:
    def wait_key(integration_id: str, origin_id: str) -> bytes:
        return msgspec.json.encode(["wait", *f"{integration_id}:{origin_id}".split(":", 1)])

    patch(journal, "wait_key", wait_key)


@mutant("R9", "The fold keeps the first value of a key.")
def first_value_stays(patch: Patch) -> None:
    apply = Fold.apply

    def keep_first(fold: Fold, offset: int, key: bytes | None, value: bytes | None) -> None:
        before = fold.position
        apply(fold, offset, key, value)
        if before is not None and key == journal.POSITION_KEY:
            fold.position = before

    patch(Fold, "apply", keep_first)


@mutant("R9", "An unreadable record stops the restore although a tombstone follows.")
def garbage_outlives_its_tombstone(patch: Patch) -> None:
    apply = Fold.apply

    def remember(fold: Fold, offset: int, key: bytes | None, value: bytes | None) -> None:
        apply(fold, offset, key, value)
        if value is not None:
            journal.decode(key, value)

    patch(Fold, "apply", remember)


@mutant("R9", "A batch that the API has accepted is written again without its body.")
def batch_is_written_again(patch: Patch) -> None:
    submit_answered = settle.submit_answered

    def answered(memory: Memory, batch: Batch, answer: Any, ruling: Any, now: Now) -> None:
        submit_answered(memory, batch, answer, ruling, now)
        if isinstance(answer, Accepted):
            slim = journal.SealedBatch(
                batch.integration_id,
                batch.sealed_at,
                batch.api_floor,
                batch.items.unpack(),
                msgspec.Raw(b"{}"),
            )
            memory.draft.put(journal.batch_key(batch.id), slim)

    patch(settle, "submit_answered", answered)
