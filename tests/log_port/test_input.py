"""The records of the input topic, and what the log says of it."""

from __future__ import annotations

import pytest

from daemon.log.errors import UnreadableError
from daemon.log.port import Transaction

from .harness import PARTITIONS, Harness
from .world import World, is_increasing


async def test_records_flow_only_after_begin(world: World, harness: Harness) -> None:
    await harness.publish(0, [b"held back"])
    await harness.publish(1, [b"let through"])
    member = await world.join_alone()

    member.log.begin(1, 0, token=1)
    await world.until(lambda: member.values(1) == [b"let through"], "records of partition 1")
    assert member.values(0) == []

    member.log.begin(0, 0, token=2)
    await world.until(lambda: member.values(0, token=2) == [b"held back"], "records of partition 0")


async def test_records_come_whole_and_in_order(world: World, harness: Harness) -> None:
    values = [b"%d" % number for number in range(1200)]
    offsets = await harness.publish(2, values)
    member = await world.join_alone()

    member.log.begin(2, 0, token=1)
    await world.until(lambda: len(member.records(2)) >= len(values), "all records")

    assert member.values(2) == values
    assert [record.offset for record in member.records(2)] == offsets
    assert all(record.timestamp > 0 and record.key is None for record in member.records(2))


async def test_records_start_at_the_offset_of_begin(world: World, harness: Harness) -> None:
    offsets = await harness.publish(0, [b"0", b"1", b"2"])
    member = await world.join_alone()

    member.log.begin(0, offsets[1], token=1)
    await world.until(lambda: len(member.records(0)) >= 2, "the records from the middle")

    assert member.values(0) == [b"1", b"2"]


async def test_records_come_that_are_published_later(world: World, harness: Harness) -> None:
    member = await world.join_alone()
    member.log.begin(0, 0, token=1)

    for value in (b"0", b"1", b"2"):
        await harness.publish(0, [value])
        await world.until(lambda: member.values(0)[-1:] == [value], "a record just published")  # noqa: B023

    assert member.values(0) == [b"0", b"1", b"2"]


async def test_a_second_begin_rewinds_under_its_own_token(world: World, harness: Harness) -> None:
    offsets = await harness.publish(0, [b"0", b"1", b"2"])
    member = await world.join_alone()
    member.log.begin(0, 0, token=1)
    await world.until(lambda: len(member.records(0, token=1)) == 3, "the records of the first begin")

    member.log.begin(0, offsets[1], token=2)
    await world.until(lambda: len(member.records(0, token=2)) == 2, "the records of the second begin")
    await harness.publish(0, [b"3"])
    await world.until(lambda: member.values(0)[-1] == b"3", "a record after both")

    assert member.values(0, token=1) == [b"0", b"1", b"2"]
    assert member.values(0, token=2) == [b"1", b"2", b"3"]


async def test_aborted_records_are_never_seen(world: World, harness: Harness) -> None:
    await harness.publish(0, [b"before"])
    await (await harness.publish_in_transaction(0, [b"aborted", b"aborted too"])).end(commit=False)
    await (await harness.publish_in_transaction(0, [b"committed"])).end(commit=True)
    await (await harness.publish_in_transaction(0, [b"aborted at the end"])).end(commit=False)
    await harness.publish(0, [b"after"])
    member = await world.join_alone()

    member.log.begin(0, 0, token=1)
    await world.until(lambda: b"after" in member.values(0), "the last record")

    assert member.values(0) == [b"before", b"committed", b"after"]
    assert is_increasing(member.records(0))


@pytest.mark.parametrize("commit", [False, True])
async def test_who_holds_the_input_back_is_known_and_when_it_has_ended_who_does_next(
    world: World, harness: Harness, *, commit: bool
) -> None:
    member = await world.join_alone()
    assert await member.log.transaction_owner(0) is None
    await harness.publish(0, [b"plain"])
    transactions = [await harness.publish_in_transaction(0, [b"first"])]
    first = await member.log.transaction_owner(0)
    transactions.append(await harness.publish_in_transaction(0, [b"second"]))
    assert first is not None
    assert first.transactional_id is not None
    assert await member.log.transaction_owner(0) == first
    assert await member.log.transaction_owner(1) is None

    await transactions[0].end(commit=commit)
    second = await member.log.transaction_owner(0)
    assert second is not None
    assert second.producer_id != first.producer_id
    assert second.transactional_id != first.transactional_id
    await transactions[1].end(commit=commit)
    assert await member.log.transaction_owner(0) is None


async def test_the_end_is_reached_though_no_record_stands_there(world: World, harness: Harness) -> None:
    """Markers of transactions and aborted records take offsets: a lag that counted them would never come to nothing."""
    member = await world.join_alone()
    member.log.begin(0, 0, token=1)
    await (await harness.publish_in_transaction(0, [b"record"])).end(commit=True)
    await world.until(lambda: member.values(0) == [b"record"], "the record")
    await (await harness.publish_in_transaction(0, [b"aborted"])).end(commit=False)
    facts = await world.facts(member, 0, lambda facts: facts.latest == facts.stable > 2, "the markers")

    await world.until(lambda: member.read_to(0) == facts.latest, "the end")

    assert member.values(0) == [b"record"]


async def test_records_behind_an_open_transaction_come_when_it_ends(world: World, harness: Harness) -> None:
    open_transaction = await harness.publish_in_transaction(0, [b"undecided"])
    await harness.publish(0, [b"behind"])
    await harness.publish(1, [b"elsewhere"])
    member = await world.join_alone()

    member.log.begin(0, 0, token=1)
    member.log.begin(1, 0, token=1)
    await world.until(lambda: member.values(1) == [b"elsewhere"], "the record of the other partition")
    assert member.values(0) == []

    await open_transaction.end(commit=True)
    await world.until(lambda: len(member.values(0)) >= 2, "the records behind the transaction")
    assert member.values(0) == [b"undecided", b"behind"]


async def test_what_cannot_be_read_ends_the_flow_of_its_partition_alone(
    world: World, harness: Harness
) -> None:
    await harness.publish(0, [b"before"])
    bad = await harness.publish_unreadable(0)
    after = await harness.publish(0, [b"after"])
    member = await world.join_alone()

    member.log.begin(0, 0, token=1)
    member.log.begin(1, 0, token=2)
    await world.until(lambda: bool(member.unreadable()), "news of what cannot be read")

    assert member.values(0) == [b"before"], "what lies before it has come"
    (found,) = member.unreadable()
    assert (found.partition, found.token, found.offset, found.next_offset) == (0, 1, bad, after[0])
    assert found.reason

    await harness.publish(1, [b"elsewhere"])
    await world.until(lambda: member.values(1) == [b"elsewhere"], "the record of the other partition")
    member.log.begin(0, found.next_offset, token=3)
    await world.until(lambda: member.values(0, token=3) == [b"after"], "what lies behind it")
    assert member.unreadable() == [found]


async def test_what_cannot_be_read_is_found_again_by_the_next_begin(world: World, harness: Harness) -> None:
    bad = await harness.publish_unreadable(0)
    member = await world.join_alone()
    for token in (1, 2):
        member.log.begin(0, bad, token)
        await world.until(lambda: len(member.unreadable()) == token, "news of what cannot be read")  # noqa: B023
    assert [found.token for found in member.unreadable()] == [1, 2]


async def test_a_bystander_does_not_take_what_cannot_be_read_for_nothing(
    world: World, harness: Harness
) -> None:
    bad = await harness.publish_unreadable(0)
    after = await harness.publish(0, [b"after"])
    repair_log = harness.member("repair_log")
    with pytest.raises(UnreadableError) as caught:
        await repair_log.next_record(0, bad)
    assert (caught.value.partition, caught.value.offset) == (0, bad)
    assert await repair_log.next_record(0, caught.value.next_offset) == after[0]


async def test_a_paused_partition_rests_and_goes_on_where_it_was(world: World, harness: Harness) -> None:
    await harness.publish(0, [b"before"])
    member = await world.join_alone()
    for partition in (0, 1):
        member.log.begin(partition, 0, token=1)
    await world.until(lambda: member.values(0) == [b"before"], "the record before the pause")

    member.log.pause(0)
    for round_ in (b"1", b"2"):  # a read that was under way at the pause has ended after the second
        await harness.publish(1, [round_])
        await world.until(lambda: member.values(1)[-1:] == [round_], "a record elsewhere")  # noqa: B023
    await harness.publish(0, [b"meanwhile"])
    await harness.publish(1, [b"3"])
    await world.until(lambda: member.values(1)[-1:] == [b"3"], "a record elsewhere")
    assert member.values(0) == [b"before"]

    member.log.resume(0)
    await harness.publish(0, [b"after"])
    await world.until(lambda: member.values(0)[-1:] == [b"after"], "the records after the pause")
    assert member.values(0) == [b"before", b"meanwhile", b"after"]


async def test_a_position_behind_the_end_is_lost(world: World, harness: Harness) -> None:
    await harness.publish(0, [b"0"])
    member = await world.join_alone()

    member.log.begin(0, 1000, token=7)
    await world.until(lambda: bool(member.lost()), "the loss of the position")

    [lost] = member.lost()
    assert (lost.partition, lost.token, lost.offset) == (0, 7, 1000)
    assert member.records(0) == []


async def test_a_position_that_retention_has_deleted_is_lost_and_a_better_one_works(
    world: World, harness: Harness
) -> None:
    offsets = await harness.publish(0, [b"0", b"1", b"2", b"3"])
    await harness.delete_input_before(0, offsets[2])
    member = await world.join_alone()

    member.log.begin(0, offsets[1], token=1)
    await world.until(lambda: bool(member.lost()), "the loss of the position")
    assert [(lost.partition, lost.token, lost.offset) for lost in member.lost()] == [(0, 1, offsets[1])]

    facts = await member.log.input_facts(0)
    assert facts.earliest == offsets[2]
    member.log.begin(0, facts.earliest, token=2)
    await world.until(lambda: len(member.records(0)) >= 2, "the records that are left")
    assert member.values(0, token=2) == [b"2", b"3"]


async def test_facts_of_an_input_partition(world: World, harness: Harness) -> None:
    offsets = await harness.publish(1, [b"0", b"1"])
    member = await world.join_alone()

    facts = await member.log.input_facts(1)

    assert facts.partitions == PARTITIONS
    assert facts.earliest == 0
    assert facts.latest == offsets[-1] + 1
    assert facts.group_offset is None
    assert (await member.log.input_facts(0)).topic_id == facts.topic_id


async def test_the_position_of_a_commit_becomes_the_offset_of_the_group(
    world: World, harness: Harness
) -> None:
    await harness.publish(1, [b"0", b"1", b"2"])
    member = await world.join_alone()
    shard = await world.open_shard(member, 1)

    await shard.commit(Transaction(journal=[(b"position", b"2")], position=2))

    # It may follow later: it is for lag figures only.
    await world.facts(member, 1, lambda facts: facts.group_offset == 2, "the offset of the group")
    assert (await member.log.input_facts(0)).group_offset is None


async def test_a_topic_that_was_made_again_has_another_id(world: World, harness: Harness) -> None:
    await harness.publish(0, [b"of the first topic"])
    member = await world.join_alone()
    before = await member.log.input_facts(0)
    assert (await member.log.input_facts(0)).topic_id == before.topic_id

    await harness.recreate_input()

    after = await world.facts(
        member, 0, lambda facts: facts.topic_id != before.topic_id, "the id of the second topic"
    )
    assert after.latest == 0
