"""Trouble with the log: found, told with the way out, and nothing is passed over in silence (R8)."""

from __future__ import annotations

import asyncio
import re

import msgspec
import pytest

from daemon.commands.repair.journal_repair import RepairError, inspect_partition, renew
from daemon.core.journal import FORMAT, POSITION_KEY, Wait, batch_key, encode_value, wait_key
from daemon.core.model import Item
from daemon.log.errors import CommitFailedError, LogError, RecordRefusedError, TransientRefusalError
from daemon.log.port import Message, Transaction
from daemon.runtime import input_monitor, opening, operator_watch
from daemon.runtime.reopening import REFUSALS_MAX
from tests.embedded_log.client import EmbeddedShardLog
from tests.unit.log_world import LogWorld, now_ms, read, skip


@pytest.fixture(autouse=True)
def _looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operator_watch, "LOOK_INTERVAL", 0.02)
    monkeypatch.setattr(input_monitor, "INTERVAL", 0.02)


def offsets(world: LogWorld, number: int) -> list[int]:
    return sorted(offset for _, p, offset, _ in world.results() if p == number)


async def test_records_that_were_deleted_block_their_partition_alone_and_skip_leads_out() -> None:
    async with LogWorld() as world:
        await world.start()
        await read(world, 0, "abc")
        await world.stop()
        world.publish(0, "defgh")
        world.cluster.delete_before(world.topics.changes, 0, 6)
        await world.start()

        sentence = await world.blocked(0)
        assert "partition 0: the records from offset 3 to 5 were deleted from course-changes" in sentence
        assert "coursesyncd skip --partition 0" in sentence
        assert "runbook.md#records-deleted" in sentence
        await read(world, 1, "xy")

        said = await skip(world, 0)
        assert "          up to 3 records (3 to 5) never get a result" in said
        await world.running(0)
        await world.until(lambda: offsets(world, 0) == [0, 1, 2, 6, 7], "what is left, once each")


async def test_records_that_are_deleted_while_the_partition_is_read_are_told_the_same_way() -> None:
    async with LogWorld() as world:
        await world.start()
        await read(world, 0, "a")
        log = world.cluster.partition(world.topics.changes, 0)
        # As retention does to a reader that is far behind: between two of its looks.
        log.append(now_ms(), Message(b"i", b"{}"))
        log.append(now_ms(), Message(b"i", b"{}"))
        world.cluster.delete_before(world.topics.changes, 0, 2)
        sentence = await world.blocked(0)
        assert "the records from offset 1 to 1 were deleted" in sentence


async def test_an_offset_beyond_the_end_stays_blocked_though_the_input_grows_past_it() -> None:
    async with LogWorld() as world:
        await world.start()
        await read(world, 0, "abc")
        await world.stop()
        position = world.position(0)
        ahead = msgspec.structs.replace(position, next_offset=9)
        world.write_journal(0, POSITION_KEY, encode_value(ahead))
        await world.start()
        sentence = await world.blocked(0)
        assert "the journal has read up to offset 9, course-changes ends at 3" in sentence
        assert "coursesyncd skip --partition 0 --to OFFSET" in sentence

        world.publish(0, "defghijk")
        await read(world, 1, "x")
        assert world.health.partitions[0].reason == sentence
        assert offsets(world, 0) == [0, 1, 2]

        await skip(world, 0, 9)
        await world.until(lambda: offsets(world, 0) == [0, 1, 2, 9, 10], "what lies behind")


@pytest.mark.parametrize("while_running", [True, False])
async def test_a_topic_that_was_created_again_blocks_and_skip_wants_to_be_told_where(
    while_running: bool,
) -> None:
    async with LogWorld() as world:
        await world.start()
        await read(world, 0, "abc")
        if not while_running:
            await world.stop()
        world.cluster.recreate_topic(world.topics.changes)
        world.publish(0, "defg")  # so that the offset of the old topic can be read in the new one
        if not while_running:
            await world.start()
        sentence = await world.blocked(0)
        assert "was deleted and created again (its id was course-changes.1, is course-changes.7)" in sentence
        assert "coursesyncd skip --partition 0 --to earliest" in sentence
        with pytest.raises(RepairError, match="--to earliest, --to latest or --to OFFSET"):
            await skip(world, 0)
        before = len(world.results())
        await skip(world, 0, "earliest")
        await world.until(lambda: len(world.results()) == before + 4, "all records of the new topic")


async def test_more_partitions_are_noticed_while_running_and_the_new_ones_say_that_they_have_no_journal() -> (
    None
):
    async with LogWorld() as world:
        await world.start()
        await read(world, 0, "abc")
        await read(world, 1, "x")
        world.cluster.add_partitions(world.topics.changes, 3)
        sentence = await world.blocked(0)
        assert "course-changes has 3 partitions, the journal was begun with 2" in sentence
        assert "coursesyncd topics grow --partitions 3" in sentence
        assert "so this one has no journal" in await world.blocked(2)


async def test_a_journal_without_position_is_not_taken_for_a_first_start() -> None:
    async with LogWorld() as world:
        await world.start()
        await read(world, 0, "abc")
        await world.stop()
        journal = world.cluster.partition(world.topics.journal, 0)
        world.cluster.delete_before(world.topics.journal, 0, journal.end)
        await world.start()
        sentence = await world.blocked(0)
        assert "holds no position, yet the consumer group has read course-changes up to offset 3" in sentence
        assert "coursesyncd skip --partition 0 --to OFFSET" in sentence
        with pytest.raises(RepairError, match="cannot say where to continue"):
            await skip(world, 0)
        await skip(world, 0, 3)
        await world.running(0)
        await read(world, 0, "d")
        assert offsets(world, 0) == [0, 1, 2, 3]


# --- a record that is refused every time ------------------------------------------------------------


async def test_a_refused_record_blocks_its_partition_though_others_are_written_between_the_attempts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write = EmbeddedShardLog._write

    def refuse(self: EmbeddedShardLog, transaction: Transaction) -> list[int]:
        if any(b'"poison"' in (message.key or b"") for message in transaction.results):
            raise RecordRefusedError("the record with key poison is refused")
        return write(self, transaction)

    monkeypatch.setattr(EmbeddedShardLog, "_write", refuse)
    async with LogWorld() as world:
        await world.start()
        world.publish(0, ["poison"])
        await world.until(lambda: world.fold(0).batches, "its submission")

        async def publish_on() -> None:
            while True:
                world.publish(0, ["other"])
                await asyncio.sleep(0.02)

        publishing = asyncio.create_task(publish_on())
        try:
            sentence = await world.blocked(0)
        finally:
            publishing.cancel()
        assert "refused every time" in sentence
        assert "poison" not in sentence.replace("#poison-commit", ""), "the admin port shows it"
        assert "runbook.md#poison-commit" in sentence
        assert "coursesync_commit_oldest_pending_timestamp_seconds 0.0" in world.scrape()
        await read(world, 1, "xy")

        monkeypatch.undo()
        await world.stop()
        await world.start()
        await world.until(lambda: 0 in offsets(world, 0), "its result, once it is taken")


async def test_a_record_that_is_refused_for_a_while_blocks_nothing_and_is_written_when_it_is_accepted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither do the commits in between make the attempts any more frequent, nor do many refusals block the partition."""
    monkeypatch.setattr(opening, "RETRY_DELAY_MAX", 0.5)
    write = EmbeddedShardLog._write
    refused: list[int] = []
    accepted_at = 5

    def refuse(self: EmbeddedShardLog, transaction: Transaction) -> list[int]:
        is_refused = any(b'"clock"' in (message.key or b"") for message in transaction.results)
        if is_refused and len(refused) < accepted_at:
            refused.append(len(refused))
            raise TransientRefusalError("the record with key clock is refused (the times of its records)")
        return write(self, transaction)

    monkeypatch.setattr(EmbeddedShardLog, "_write", refuse)
    async with LogWorld() as world:
        await world.start()
        world.publish(0, ["clock"])
        await world.until(lambda: world.warning(0), "the warning")
        sentence = world.warning(0) or ""
        assert "the record with key clock is refused (the times of its records)" in sentence
        assert "runbook.md#refused-record" in sentence
        await read(world, 1, "xy")
        await world.until(lambda: 0 in offsets(world, 0), "its result, without a restart")
        assert len(refused) == accepted_at > REFUSALS_MAX
        assert world.warning(0) is None


async def test_a_commit_that_failed_and_was_written_is_not_under_way_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The restored shard has nothing to write, on an idle input for days: the alert would go off all the time."""
    write = EmbeddedShardLog._write

    def lose_the_answer(self: EmbeddedShardLog, transaction: Transaction) -> list[int]:
        offsets = write(self, transaction)
        if transaction.results:
            raise CommitFailedError("the answer was lost")
        return offsets

    monkeypatch.setattr(EmbeddedShardLog, "_write", lose_the_answer)
    async with LogWorld() as world:
        await world.start()
        world.publish(0, "a")
        dropped = 'coursesync_shard_drops_total{reason="error"} 1.0'
        await world.until(lambda: dropped in world.scrape(), "the failure")
        await world.until(
            lambda: "coursesync_commit_oldest_pending_timestamp_seconds 0.0" in world.scrape(), "no commit"
        )
        assert offsets(world, 0) == [0]


async def test_while_every_commit_fails_the_first_of_them_is_the_oldest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The restored shard has nothing to write at first: that does not mean that commits work again."""
    write = EmbeddedShardLog._write
    fails = True

    def write_or_fail(self: EmbeddedShardLog, transaction: Transaction) -> list[int]:
        if fails and self._partition == 0:
            raise CommitFailedError("not enough replicas")
        return write(self, transaction)

    async with LogWorld() as world:
        await world.start()
        await world.running(0)
        await world.running(1)
        await world.until(lambda: not world.metrics.snapshot().commit_since_ms, "the first positions")
        monkeypatch.setattr(EmbeddedShardLog, "_write", write_or_fail)
        world.publish(0, "a")
        await world.until(lambda: world.metrics.snapshot().commit_since_ms, "a commit")
        first, seen = world.metrics.snapshot().commit_since_ms, set()

        def failed_often() -> bool:
            seen.add(world.metrics.snapshot().commit_since_ms)
            (drops,) = re.findall(
                r'^coursesync_shard_drops_total{reason="error"} (\S+)$', world.scrape(), re.MULTILINE
            )
            return float(drops) >= 4

        await world.until(failed_often, "four failures")
        assert seen == {first}
        fails = False
        await world.until(lambda: offsets(world, 0) == [0], "the result")
        await world.until(lambda: not world.metrics.snapshot().commit_since_ms, "the commit")


# --- records of another version -------------------------------------------------------------------


WAITING = Item("d", 7, "change-d", 1_800_000_000_000, 0, 0)
NEWER = b'{"format": %d, "next": "other fields, some day"}' % (FORMAT + 1)


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        (
            POSITION_KEY,
            NEWER,
            f"the journal has format {FORMAT + 1}, but this version reads formats up to {FORMAT}",
        ),
        (b'["group","g1"]', b"{}", "a record is of a kind that this version does not know"),
        (batch_key("0-1-0"), b'{"integration', "a newer version wrote it, or it is damaged"),
        (b"\xff", b"{}", "a newer version wrote it, or it is damaged"),
    ],
)
async def test_what_this_version_can_not_read_it_neither_acts_on_nor_writes_over(
    key: bytes, value: bytes, expected: str
) -> None:
    async with LogWorld() as world:
        await world.start()
        await read(world, 0, "abc")
        await world.stop()
        world.write_journal(0, key, value)
        world.publish(0, "d")
        journal, posted = world.journal(0), len(world.api.posted)
        await world.start()
        sentence = await world.blocked(0)
        assert sentence.startswith("partition 0 of course-sync-journal: ")
        assert expected in sentence
        await read(world, 1, "x")
        assert world.journal(0) == journal
        assert len(world.api.posted) == posted + 1, "only the other partition's"
        with pytest.raises(RepairError, match="partition 0 of course-sync-journal"):
            await skip(world, 0, "latest")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (b"\xff", b"\xff"),
        (b"notes of another program", b"{}"),
        (b'["group","g1"]', b"{}"),
        (wait_key("tool:1", "d"), b"garbage"),
        (batch_key("0-9-1"), b""),
    ],
)
async def test_garbage_in_the_journal_is_erased_by_its_tombstone_before_a_restart_and_after_it(
    key: bytes, value: bytes
) -> None:
    async with LogWorld() as world:
        await world.start()
        await read(world, 0, "a")
        world.write_journal(0, key, value)
        world.write_journal(0, key, None)
        await read(world, 0, "b")
        await world.stop()
        await world.start()
        await read(world, 0, "c")
        await world.stop()

        world.write_journal(0, key, value)
        await world.start()
        assert "#journal-not-readable" in await world.blocked(0)
        with pytest.raises(RepairError, match=r"cannot be read by this version|does not know"):
            await skip(world, 0, "latest")
        world.write_journal(0, key, None)
        await world.running(0)
        await read(world, 0, "d")
        assert offsets(world, 0) == [0, 1, 2, 3]


async def test_garbage_in_place_of_the_position_is_repaired_by_the_value_that_it_replaced() -> None:
    async with LogWorld() as world:
        await world.start()
        await read(world, 0, "ab")
        await world.stop()
        earlier = [value for key, value in world.journal(0) if key == POSITION_KEY][-1]
        world.write_journal(0, POSITION_KEY, b"garbage")
        await world.start()
        await world.blocked(0)
        world.write_journal(0, POSITION_KEY, earlier)
        await read(world, 0, "c")
        assert offsets(world, 0) == [0, 1, 2]


async def test_changes_with_an_unknown_operation_block_until_somebody_writes_to_the_journal() -> None:
    async with LogWorld() as world:
        await world.start()
        await read(world, 0, "abc")
        await world.stop()
        key, wait = wait_key("tool:1", "d"), Wait(WAITING, msgspec.Raw(b"{}"), operation="archive")
        world.write_journal(0, key, encode_value(wait))
        journal = world.journal(0)
        await world.start()
        assert "the operation 'archive', which this version does not know" in await world.blocked(0)
        assert world.journal(0) == journal
        world.write_journal(0, key, None)
        await world.running(0)


async def test_the_newer_version_goes_on_where_the_older_one_had_only_looked() -> None:
    async with LogWorld() as world:
        await world.start()
        await read(world, 0, "abc")
        await world.stop()
        with pytest.MonkeyPatch.context() as older:
            older.setattr("daemon.core.journal.FORMAT", FORMAT - 1)
            world.publish(0, "d")
            await world.start()
            assert "run the newer version" in await world.blocked(0)
            await world.stop()
        await world.start()
        await world.until(lambda: offsets(world, 0) == [0, 1, 2, 3], "the result of the fourth")


async def test_an_older_journal_bears_our_format_from_the_first_commit_on() -> None:
    async with LogWorld() as world:
        with pytest.MonkeyPatch.context() as older:
            older.setattr("daemon.core.journal.FORMAT", FORMAT - 1)
            await world.start()
            await read(world, 0, "a")
            await world.stop()
        position = world.position(0)
        assert position.format == FORMAT - 1
        await world.start()
        await read(world, 0, "b")
        position = world.position(0)
        assert position.format == FORMAT


# --- a transaction that nobody ends ---------------------------------------------------------------


async def test_a_stuck_transaction_is_told_and_the_partition_goes_on_when_it_has_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(input_monitor, "HELD_BACK_AFTER", 0.1)
    async with LogWorld() as world:
        await world.start()
        await read(world, 0, "abc")
        publisher = world.cluster.producer("publisher")
        publisher.append(world.topics.changes, Message(b"i", b"{}"), 0)
        world.publish(0, "de")
        await world.until(lambda: world.health.partitions[0].warning, "the warning")
        sentence = world.health.partitions[0].warning or ""
        assert sentence.startswith("partition 0: a transaction of a publisher (producer id ")
        assert ", transactional id publisher) that has been open for more than" in sentence
        assert "… abort --topic course-changes --partition 0 --start-offset 3`" in sentence
        assert world.metrics.snapshot().lag[0].records == 3
        await read(world, 1, "x")
        assert world.health.partitions[1].warning is None

        publisher.end_transaction(commit=False)
        await world.until(lambda: offsets(world, 0) == [0, 1, 2, 4, 5], "what was held back")
        await world.until(lambda: world.health.partitions[0].warning is None, "the end of the warning")


async def test_a_foreign_transaction_in_the_journal_is_told_and_the_partition_is_restored_when_it_has_ended() -> (
    None
):
    async with LogWorld() as world:
        await world.start()
        await read(world, 0, "abc")
        await world.stop()
        stranger = world.cluster.producer("stranger")
        _, offset = stranger.append(world.topics.journal, Message(b"?", b"?"), 0)
        await world.start()
        await world.until(lambda: world.warning(0), "the warning")
        sentence = world.warning(0) or ""
        assert sentence.startswith("partition 0: an open transaction holds course-sync-journal back")
        assert f"at offset {offset}" in sentence
        assert "`coursesyncd end-transaction --partition 0`" in sentence
        await read(world, 1, "x")
        with pytest.raises(RepairError, match="an open transaction holds course-sync-journal back"):
            await skip(world, 0, "latest")
        assert world.warning(0) == sentence, "it stands while the restore is tried again"

        stranger.end_transaction(commit=False)
        await read(world, 0, "d")
        assert offsets(world, 0) == [0, 1, 2, 3]
        assert world.warning(0) is None


# --- what skip does not do ------------------------------------------------------------------------


async def test_skip_never_reads_twice_and_changes_nothing_of_what_is_under_way() -> None:
    async with LogWorld(task_seconds=3600.0) as world:
        await world.start()
        world.publish(0, "abc")
        await world.until(lambda: world.fold(0).batches and world.fold(0).batches["0-0-1"].task, "a task")
        await world.stop()
        with pytest.raises(RepairError, match="second result"):
            await skip(world, 0, "earliest")
        with pytest.raises(RepairError, match="0 to 3"):
            await skip(world, 0, 7)
        before = world.fold(0)
        world.publish(0, "de")
        said = await skip(world, 0, "latest")
        assert "under way 1 open batches; continues" in said
        after = world.fold(0)
        assert after.batches.keys() == before.batches.keys()
        assert before.position is not None
        assert after.position == msgspec.structs.replace(before.position, next_offset=5)

        world.cluster.recreate_topic(world.topics.changes)
        with pytest.raises(RepairError, match="give these offsets to other changes"):
            await skip(world, 0, "earliest")


async def test_skip_finds_out_that_a_replica_reads_on() -> None:
    async with LogWorld() as world:
        await world.start()
        await read(world, 0, "abc")
        found = await inspect_partition(world.repair_log, 0, world.topics)
        await read(world, 0, "d")
        assert found.position is not None
        with pytest.raises(RepairError, match="a replica has continued to read it"):
            await renew(world.repair_log, found, found.position, world.topics)
        await read(world, 0, "e")  # it was fenced for nothing, and goes on


class Overtaken:
    """A replica opens the partition each time that the command has just opened it, `times` times."""

    def __init__(self, world: LogWorld, times: int) -> None:
        self.world = world
        self.times = times

    async def open_shard(self, number: int) -> object:
        opened = await self.world.repair_log.open_shard(number)
        if self.times:
            self.times -= 1
            await self.world.repair_log.open_shard(number)
        return opened

    def __getattr__(self, name: str) -> object:
        return getattr(self.world.repair_log, name)


async def test_a_replica_that_opens_the_partition_at_the_same_moment_does_not_stop_the_command() -> None:
    async with LogWorld() as world:
        await world.start()
        await read(world, 0, "abc")
        await world.stop()
        found = await inspect_partition(world.repair_log, 0, world.topics)
        assert found.position is not None
        renewed = msgspec.structs.replace(found.position, partitions=7)
        await renew(Overtaken(world, 2), found, renewed, world.topics)  # type: ignore[arg-type]
        assert world.position(0).partitions == 7


async def test_a_replica_that_is_quicker_each_time_is_told_and_nothing_is_written() -> None:
    async with LogWorld() as world:
        await world.start()
        await read(world, 0, "abc")
        await world.stop()
        found = await inspect_partition(world.repair_log, 0, world.topics)
        assert found.position is not None
        renewed = msgspec.structs.replace(found.position, partitions=7)
        with pytest.raises(LogError, match="partition 0: another replica took it over 5 times in a row"):
            await renew(Overtaken(world, 99), found, renewed, world.topics)  # type: ignore[arg-type]
        assert world.position(0) == found.position


async def test_a_partition_that_does_not_exist_can_not_be_skipped() -> None:
    async with LogWorld() as world:
        with pytest.raises(RepairError, match="2 partitions, 0 to 1: there is no 2"):
            await skip(world, 2)
