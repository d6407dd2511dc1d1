"""A step of a shard that hangs in the journal or the courses topic, on a real broker: told, looked into, and ended."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import closing

import msgspec
import pytest
from kafka import KafkaAdminClient, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType
from structlog.testing import capture_logs

from daemon.codec import encode_course
from daemon.codec.decode import decode_change
from daemon.codec.result import encode_result
from daemon.commands.connections import kafka_connection
from daemon.commands.repair.journal_repair import inspect_partition, unjoined_log
from daemon.core import journal
from daemon.core.course import CourseRecord, CourseState
from daemon.core.model import Change, Item, Result, Status
from daemon.log.kafka import partition_reader
from daemon.log.topic_access import read_topic
from tests.integration.trouble_world import PATIENCE, Site, change

pytestmark = pytest.mark.kafka


@pytest.fixture
async def _forgetful(kafka_bootstrap: str) -> AsyncIterator[None]:
    """The broker takes records of a transaction that its coordinator does not know (KIP-890 turned off): these are
    never ended, as when a coordinator takes their partition for deleted (KAFKA-20734)."""
    admin = KafkaAdminClient(bootstrap_servers=kafka_bootstrap)

    def verify(value: str) -> None:
        setting = {"transaction.partition.verification.enable": value}
        brokers = [str(broker["broker_id"]) for broker in admin.describe_cluster()["brokers"]]
        admin.alter_configs([ConfigResource(ConfigResourceType.BROKER, name, setting) for name in brokers])

    with closing(admin):
        await asyncio.to_thread(verify, "false")
        try:
            yield
        finally:
            await asyncio.to_thread(verify, "true")


class Step:
    """A transaction of partition 0, as its shard writes it, that hangs in the journal and where else it is said."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._journal = TopicPartition(site.names.journal, 0)

    async def write(
        self,
        entries: Sequence[tuple[bytes, bytes | None]],
        results: Sequence[Result] = (),
        *,
        commit: bool,
        results_hang: bool = False,
    ) -> None:
        names = self._site.names
        hangs = {self._journal} | (
            {TopicPartition(names.results, number) for number in range(100)} if results_hang else set()
        )
        await asyncio.to_thread(self._write, entries, results, (), commit, hangs)

    async def write_courses(
        self, position: tuple[bytes, bytes], courses: Sequence[tuple[bytes, bytes]], *, commit: bool
    ) -> None:
        """It hangs in the courses topic only."""
        hangs = {TopicPartition(self._site.names.courses, 0)}
        await asyncio.to_thread(self._write, [position], (), courses, commit, hangs)

    def _write(
        self,
        entries: Sequence[tuple[bytes, bytes | None]],
        results: Sequence[Result],
        courses: Sequence[tuple[bytes, bytes]],
        commit: bool,
        hangs: Collection[TopicPartition],
    ) -> None:
        names = self._site.names
        producer = KafkaProducer(
            bootstrap_servers=self._site.bootstrap, transactional_id=f"{names.journal}-0"
        )
        with closing(producer):
            producer.init_transactions()
            self._forget(producer, hangs)
            producer.begin_transaction()
            sent = [producer.send(names.journal, value, key, partition=0) for key, value in entries]
            sent += [producer.send(names.courses, value, key, partition=0) for key, value in courses]
            for result in results:
                key, value, headers = encode_result(
                    result, 0, changes_topic=names.changes, journal_topic=names.journal
                )
                sent.append(producer.send(names.results, value, key, list(headers)))
            for future in sent:
                future.get(PATIENCE)
            if commit:
                producer.commit_transaction()
            else:
                producer.abort_transaction()

    def _forget(self, producer: KafkaProducer, forgotten: Collection[TopicPartition]) -> None:
        """Of these partitions the coordinator hears nothing; of another one instead, so that it has one to end."""
        manager, elsewhere = producer._transaction_manager, TopicPartition(self._site.names.dead_letters, 0)
        tell = manager.maybe_add_partition_to_transaction

        def add(partition: TopicPartition) -> None:
            if partition in forgotten:
                tell(elsewhere)
                manager._partitions_in_transaction.add(partition)
            else:
                tell(partition)

        manager.maybe_add_partition_to_transaction = add


async def position_after(site: Site, offset: int) -> tuple[bytes, bytes]:
    log = await unjoined_log(site.settings)
    try:
        found = await inspect_partition(log, 0, site.names)
    finally:
        await log.stop()
    assert found.position is not None
    renewed = msgspec.structs.replace(found.position, next_offset=offset)
    return journal.POSITION_KEY, journal.encode_value(renewed)


def succeeded(offset: int, course: str) -> Result:
    now = time.time_ns() // 1_000_000
    return Result(offset, Status.SUCCEEDED, "i", course, f"chg-{course}", now, now, attempts=1)


@pytest.mark.usefixtures("_forgetful")
@pytest.mark.parametrize("results_hang", [False, True], ids=["results are seen", "results hang too"])
async def test_a_step_that_was_committed_is_committed(
    site: Site, monkeypatch: pytest.MonkeyPatch, results_hang: bool
) -> None:
    monkeypatch.setattr(partition_reader, "PATIENCE", 1.0)
    async with site.daemon() as daemon:
        await site.publish(0, "a")
        await daemon.results(1)
    await site.publish(0, "b", "c")
    position = await position_after(site, 3)
    results = [succeeded(1, "b"), succeeded(2, "c")]
    await Step(site).write([position], results, commit=True, results_hang=results_hang)

    async with site.daemon() as daemon:
        await daemon.until(lambda: daemon.warning(0), "warning")
        assert "`coursesyncd end-transaction --partition 0`" in (daemon.warning(0) or "")
        dry = await site.run("end-transaction", "--partition", "0", "--dry-run")
        assert dry.exit_code == 0, dry.output
        assert f"hangs     {site.names.journal} partition 0 from offset" in dry.output
        assert "end       commit" in dry.output
        assert (f"          {site.names.results} partition" in dry.output) is results_hang
        assert "Nothing was changed" in dry.output
        done = await site.run("end-transaction", "--partition", "0", "--yes")
        assert done.exit_code == 0, done.output
        await site.publish(0, "d")
        assert await daemon.results(4) == [(0, 0), (0, 1), (0, 2), (0, 3)]
        assert daemon.warning(0) is None
    again = await site.run("end-transaction", "--partition", "0", "--yes")
    assert again.exit_code == 0, again.output
    assert "Nothing to do" in again.output


@pytest.mark.usefixtures("_forgetful")
async def test_a_step_that_was_aborted_is_aborted_and_its_changes_get_their_results(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partition_reader, "PATIENCE", 1.0)
    async with site.daemon() as daemon:
        await site.publish(0, "a")
        await daemon.results(1)
    await site.publish(0, "b")
    position = await position_after(site, 2)
    with closing(
        KafkaProducer(bootstrap_servers=site.bootstrap, transactional_id=f"{site.names.results}-stranger")
    ) as stranger:
        await asyncio.to_thread(stranger.init_transactions)
        stranger.begin_transaction()
        for partition in stranger.partitions_for(site.names.results):
            sent = stranger.send(site.names.results, b"?", partition=partition)
            await asyncio.to_thread(sent.get, PATIENCE)
        await Step(site).write([position], [succeeded(1, "b")], commit=False)
        unsure = await site.run("end-transaction", "--partition", "0", "--yes")
        assert unsure.exit_code == 1, unsure.output
        assert f"another transaction is open in {site.names.results} partition" in unsure.output
        await asyncio.to_thread(stranger.abort_transaction)

    done = await site.run("end-transaction", "--partition", "0", "--yes")
    assert done.exit_code == 0, done.output
    assert "end       abort" in done.output
    async with site.daemon() as daemon:
        assert await daemon.results(2) == [(0, 0), (0, 1)]


@pytest.mark.usefixtures("_forgetful")
async def test_what_a_step_without_results_has_taken_in_is_kept(site: Site) -> None:
    async with site.daemon() as daemon:
        await site.publish(0, "a")
        await daemon.results(1)
    await site.publish(0, "b")
    position = await position_after(site, 2)
    now = time.time_ns() // 1_000_000
    taken = decode_change(1, None, change("b"), (), consumed_at=now, item_bytes_max=100_000)
    assert isinstance(taken, Change)
    wait = journal.Wait(Item("b", 1, "chg-b", now, 0, 0), msgspec.Raw(taken.body))
    waiting = journal.wait_key("i", "b"), journal.encode_value(wait)
    await Step(site).write([position, waiting], commit=True)

    done = await site.run("end-transaction", "--partition", "0", "--yes")
    assert done.exit_code == 0, done.output
    assert "end       commit" in done.output
    async with site.daemon() as daemon:
        assert await daemon.results(2) == [(0, 0), (0, 1)]


def known(course: str) -> tuple[bytes, bytes]:
    now = time.time_ns() // 1_000_000
    record = CourseRecord(
        "i", course, CourseState.ACTIVE, f"kombo-{course}", bytes(16), 0, f"chg-{course}", "task", now, now
    )
    return encode_course(record, 0, changes_topic="course-changes")


@pytest.mark.usefixtures("_forgetful")
@pytest.mark.parametrize("commit", [True, False], ids=["was committed", "was aborted"])
async def test_a_step_that_hangs_in_the_courses_only_is_kept(
    site: Site, monkeypatch: pytest.MonkeyPatch, commit: bool
) -> None:
    monkeypatch.setattr(partition_reader, "PATIENCE", 1.0)
    async with site.daemon() as daemon:
        await site.publish(0, "a")
        await daemon.results(1)
    position = await position_after(site, 1)
    await Step(site).write_courses(position, [known("b"), known("c")], commit=commit)

    with capture_logs() as logs:
        async with site.daemon() as daemon:
            await daemon.until(lambda: any(line["event"] == "courses.not_loaded" for line in logs), "message")
    said = next(line["error"] for line in logs if line["event"] == "courses.not_loaded")
    assert "`coursesyncd end-transaction --partition 0`" in said
    async with site.daemon() as daemon:
        dry = await site.run("end-transaction", "--partition", "0", "--dry-run")
        assert dry.exit_code == 0, dry.output
        assert f"hangs     {site.names.courses} partition 0 from offset" in dry.output
        assert ": 2 records of producer" in dry.output
        assert "end       commit" in dry.output
        done = await site.run("end-transaction", "--partition", "0", "--yes")
        assert done.exit_code == 0, done.output
        await daemon.until(
            lambda: b"coursesync_known_courses_loading_partitions 0.0" in daemon.metrics.exposition(), "index"
        )
    courses = await asyncio.to_thread(
        lambda: list(read_topic(kafka_connection(site.settings.kafka), site.names.courses))
    )
    assert [known_course.key for known_course in courses][-2:] == [known("b")[0], known("c")[0]]
    again = await site.run("end-transaction", "--partition", "0", "--yes")
    assert "Nothing to do" in again.output


@pytest.mark.usefixtures("_forgetful")
async def test_a_transaction_of_somebody_else_in_the_courses_is_left_alone(site: Site) -> None:
    async with site.daemon() as daemon:
        await site.publish(0, "a")
        await daemon.results(1)
    position = await position_after(site, 1)
    await Step(site).write_courses(position, [(b"key", b"something else")], commit=True)
    refused = await site.run("end-transaction", "--partition", "0", "--yes")
    assert refused.exit_code == 1, refused.output
    assert "is not coursesyncd's" in refused.output
    assert f"abort --topic {site.names.courses} --partition 0" in refused.output
