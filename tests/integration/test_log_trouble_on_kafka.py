"""Trouble with the log on a real broker: the engine on Kafka, the commands as a person runs them."""

from __future__ import annotations

import asyncio
import contextlib
import os

import pytest
from kafka import KafkaProducer, TopicPartition
from kafka.errors import PolicyViolationError

from daemon.log.errors import LogError
from daemon.log.kafka import partition_reader
from daemon.runtime import input_monitor
from daemon.runtime.reopening import REFUSALS_MAX
from daemon.telemetry.health import PartitionStatus
from tests.integration.trouble_world import PATIENCE, Site, change

pytestmark = [pytest.mark.endurance, pytest.mark.kafka]


async def test_deleted_records_block_their_partition_and_skip_gets_it_out(site: Site) -> None:
    async with site.daemon() as daemon:
        await site.publish(0, "a", "b")
        await daemon.results(2)
    await site.publish(0, "c", "d", "e")
    await asyncio.to_thread(site.admin.delete_records, {TopicPartition(site.names.changes, 0): 4})
    async with site.daemon() as daemon:
        assert "the records from offset 2 to 3 were deleted" in await daemon.blocked(0)
        await site.publish(1, "x")
        await daemon.results(3)

        dry = await site.run("skip", "--partition", "0", "--dry-run")
        assert dry.exit_code == 0, dry.output
        assert "up to 2 records (2 to 3) never get a result" in dry.output
        assert "Nothing was changed" in dry.output
        unanswered = await site.run("skip", "--partition", "0")
        assert unanswered.exit_code == 1, "without an answer nothing is done"
        assert daemon.health.partitions[0].state is PartitionStatus.BLOCKED

        done = await site.run_when_at_rest("skip", "--partition", "0", "--yes")
        assert "partition 0 continues at offset 4" in done.output
        assert await daemon.results(4) == [(0, 0), (0, 1), (0, 4), (1, 0)]
        again = await site.run("skip", "--partition", "0", "--yes")
        answers = ("Nothing to do", "has continued to read it", "took it over")
        assert any(answer in again.output for answer in answers), again.output


async def test_a_topic_that_was_created_again_blocks_and_skip_goes_on_in_the_new_one(site: Site) -> None:
    async with site.daemon() as daemon:
        await site.publish(0, "a", "b")
        await daemon.results(2)
    await site.recreate()
    await site.publish(0, "c", "d", "e")
    async with site.daemon() as daemon:
        assert "was deleted and created again" in await daemon.blocked(0)
        unsaid = await site.run("skip", "--partition", "0", "--yes")
        assert unsaid.exit_code == 1
        assert "--to earliest, --to latest or --to OFFSET" in unsaid.output
        await site.run_when_at_rest("skip", "--partition", "0", "--to", "earliest", "--yes")
        assert await daemon.results(5) == [(0, 0), (0, 0), (0, 1), (0, 1), (0, 2)]


async def test_a_topic_that_is_created_again_under_a_running_daemon_is_not_read_at_the_old_offsets(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(input_monitor, "INTERVAL", 10.0)  # the consumer itself notices sooner
    async with site.daemon() as daemon:
        await site.publish(0, "a", "b")
        await daemon.results(2)
        await site.recreate()
        await site.publish(0, *"cdefgh")  # so that it reaches to our offset
        assert "was deleted and created again" in await daemon.blocked(0)
        assert await daemon.results(2) == [(0, 0), (0, 1)]
        await site.run_when_at_rest("skip", "--partition", "0", "--to", "earliest", "--yes")
        assert await daemon.results(8) == sorted([(0, 0), (0, 1), *((0, offset) for offset in range(6))])


async def test_topics_grow_under_a_running_daemon(site: Site) -> None:
    async with site.daemon() as daemon:
        await site.publish(0, "a", "b")
        await daemon.results(2)
        dry = await site.run_when_at_rest("topics", "grow", "--partitions", "4", "--dry-run")
        assert f"{site.names.changes}: 2 partitions, to be 4" in dry.output
        await site.run_when_at_rest("topics", "grow", "--partitions", "4", "--yes")
        again = await site.run("topics", "grow", "--partitions", "4", "--yes")
        assert "Nothing to do" in again.output
        await site.publish(0, "c")
        await daemon.results(3)
    await site.publish(3, "d")
    async with site.daemon() as daemon:  # sooner than the group's metadata would tell
        assert await daemon.results(4) == [(0, 0), (0, 1), (0, 2), (3, 0)]


async def test_partitions_that_were_added_by_hand_are_noticed_drained_and_taken_over(site: Site) -> None:
    async with site.daemon() as daemon:
        await site.publish(0, "a")
        await daemon.results(1)
        await asyncio.to_thread(site.admin.create_partitions, {site.names.changes: 3})
        assert "has 3 partitions, the journal was begun with 2" in await daemon.blocked(0)
        await site.publish(0, "b")
    async with site.daemon() as daemon:
        await daemon.blocked(0)
        assert "has no journal" in await daemon.blocked(2)
        refused = await site.run("topics", "grow", "--partitions", "3", "--yes")
        assert refused.exit_code == 1
        assert "partition 0: records from offset 1 are not read yet" in refused.output
        done = await site.run_when_at_rest("skip", "--partition", "0", "--yes")
        assert "no record is skipped" in done.output
        await daemon.results(2)
        await site.publish(2, "c")
        await site.run_when_at_rest("topics", "grow", "--partitions", "3", "--yes")
        assert await daemon.results(3) == [(0, 0), (0, 1), (2, 0)]


@pytest.mark.parametrize(
    ("configs", "why"),
    [
        ({"max.message.bytes": "20000"}, "MessageSizeTooLargeError"),
        ({"cleanup.policy": "compact"}, "without key"),
    ],
)
async def test_a_record_that_the_broker_refuses_waits_until_its_topic_is_corrected(
    site: Site, configs: dict[str, str], why: str
) -> None:
    letters = site.names.dead_letters
    await site.configure(letters, configs)
    async with site.daemon() as daemon:
        await site.publish_bytes(0, os.urandom(50_000))
        await site.publish(0, "a")
        await daemon.until(lambda: daemon.drops >= 2 * REFUSALS_MAX, "refusals")
        await daemon.until(lambda: daemon.warning(0), "warning")
        sentence = daemon.warning(0) or ""
        assert f"a record for {letters}, " in sentence
        assert why in sentence
        assert "`coursesyncd check`" in sentence
        await site.publish(1, "x")
        assert await daemon.results(1) == [(1, 0)]

        checked = await site.run("check")
        assert checked.exit_code == 1
        ((setting, value),) = configs.items()
        assert f"{letters}: {setting} is {value}, expected" in checked.output
        assert "run: coursesyncd topics create" in checked.output
        corrected = await site.run("topics", "create")
        assert f"(was {value})" in corrected.output
        assert await daemon.results(3) == [(0, 0), (0, 1), (1, 0)]
        await daemon.until(lambda: daemon.warning(0) is None, "end of the warning")


@pytest.mark.parametrize("commit", [False, True])
async def test_a_transaction_that_stays_open_is_told_at_once_with_its_producer_and_the_offset_to_abort(
    site: Site, kafka_bootstrap: str, monkeypatch: pytest.MonkeyPatch, *, commit: bool
) -> None:
    monkeypatch.setattr(input_monitor, "INTERVAL", 3600.0)  # it is not left to the next inspection
    monkeypatch.setattr(input_monitor, "HELD_BACK_AFTER", 1.0)
    names = [f"{site.names.changes}-{name}" for name in ("stuck", "behind")]
    producers = [KafkaProducer(bootstrap_servers=kafka_bootstrap, transactional_id=name) for name in names]

    async def open_transaction(producer: KafkaProducer, course: str) -> None:
        await asyncio.to_thread(producer.init_transactions)
        producer.begin_transaction()
        future = producer.send(site.names.changes, change(course), partition=0)
        await asyncio.to_thread(future.get, PATIENCE)

    async def end(producer: KafkaProducer) -> None:
        await asyncio.to_thread(producer.commit_transaction if commit else producer.abort_transaction)

    def tells_of(name: str, offset: int) -> bool:
        told = daemon.warning(0) or ""
        return f", transactional id {name}) that has been open" in told and f"-offset {offset}`" in told

    try:
        async with site.daemon() as daemon:
            await site.publish(0, "a")
            await daemon.results(1)
            await open_transaction(producers[0], "s")
            await open_transaction(producers[1], "t")
            await site.publish(0, "b")
            await daemon.until(lambda: tells_of(names[0], 1), "warning")
            own = producers[0]._transaction_manager.producer_id_and_epoch.producer_id
            assert f"a transaction of a publisher (producer id {own}, " in (daemon.warning(0) or "")
            await site.publish(1, "x")
            assert await daemon.results(2) == [(0, 0), (1, 0)]

            await end(producers[0])
            await daemon.until(lambda: tells_of(names[1], 2), "warning about the other one")
            await end(producers[1])
            ended = [(0, 1), (0, 2)] if commit else []
            assert await daemon.results(3 + len(ended)) == [(0, 0), *ended, (0, 3), (1, 0)]
            await daemon.until(lambda: daemon.warning(0) is None, "end of the warning")
    finally:
        for producer in producers:
            await asyncio.to_thread(producer.close, 1)


async def test_a_foreign_transaction_in_the_journal_is_told_with_the_command_that_looks_whose_it_is(
    site: Site, kafka_bootstrap: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partition_reader, "PATIENCE", 1.0)
    async with site.daemon() as daemon:
        await site.publish(0, "a")
        await daemon.results(1)
    producer = KafkaProducer(
        bootstrap_servers=kafka_bootstrap, transactional_id=f"{site.names.journal}-stranger"
    )
    try:
        await asyncio.to_thread(producer.init_transactions)
        producer.begin_transaction()
        sent = producer.send(site.names.journal, b"?", b"?", partition=0)
        offset = (await asyncio.to_thread(sent.get, PATIENCE)).offset
        async with site.daemon() as daemon:
            await daemon.until(lambda: daemon.warning(0), "warning")
            for told in (
                daemon.warning(0) or "",
                (await site.run("skip", "--partition", "0", "--dry-run")).output,
            ):
                assert f"holds {site.names.journal} back at offset {offset}" in told
                assert "`coursesyncd end-transaction --partition 0`" in told
            looked = await site.run("end-transaction", "--partition", "0", "--yes")
            assert looked.exit_code == 1
            assert (
                f"does not hang: its coordinator will end it (transactional id {site.names.journal}-stranger)"
                in looked.output
            )
            await site.publish(1, "x")
            await daemon.results(2)
            await asyncio.to_thread(producer.abort_transaction)
            await site.publish(0, "b")
            assert await daemon.results(3) == [(0, 0), (0, 1), (1, 0)]
            assert daemon.warning(0) is None
    finally:
        await asyncio.to_thread(producer.close, 1)


async def test_a_new_journal_is_begun_as_the_runbook_says(site: Site) -> None:
    async with site.daemon() as daemon:
        await site.publish(0, "a", "b")
        await daemon.results(2)
    with contextlib.closing(KafkaProducer(bootstrap_servers=site.bootstrap)) as stranger:
        sent = stranger.send(site.names.journal, b"{}", b'["alien","x"]', partition=0)
        await asyncio.to_thread(sent.get, PATIENCE)
    await site.publish(0, "c")
    async with site.daemon() as daemon:
        assert "a record is of a kind that this version does not know" in await daemon.blocked(0)

        async def empty_the_journal() -> None:
            everything = {TopicPartition(site.names.journal, 0): -1}
            await asyncio.to_thread(site.admin.delete_records, everything)

        with pytest.raises(PolicyViolationError):  # why the runbook changes the topic first
            await empty_the_journal()
        await site.configure(site.names.journal, {"cleanup.policy": "compact,delete", "retention.ms": "-1"})
        await empty_the_journal()
        corrected = await site.run("topics", "create")
        assert "cleanup.policy=compact (was compact,delete)" in corrected.output
        await site.run_when_at_rest("skip", "--partition", "0", "--to", "2", "--yes")
        assert await daemon.results(3) == [(0, 0), (0, 1), (0, 2)]


async def test_a_journal_that_is_not_compacted_is_refused_at_the_start_and_corrected_by_topics_create(
    site: Site,
) -> None:
    await site.configure(site.names.journal, {"cleanup.policy": "delete"})
    with pytest.raises(LogError, match="coursesyncd topics create"):
        async with site.daemon():
            pass
    assert (await site.run("topics", "create")).exit_code == 0
    async with site.daemon() as daemon:
        await site.publish(0, "a")
        assert await daemon.results(1) == [(0, 0)]
