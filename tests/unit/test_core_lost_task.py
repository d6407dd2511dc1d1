"""A poll says 404: the API does not know the task. The same bytes are POSTed again (`docs/kombo-api.md`, "Idempotency and the three traps")."""

import pytest

from daemon.core import journal
from daemon.core.batch import Batch
from daemon.core.step import BatchSealed, TaskAccepted, TaskLost
from daemon.core.verdict import PollVerdict, SubmitVerdict
from tests.unit.core_bench import Bench, refused, succeeded

GONE = refused(404)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def lost(bench: Bench, *origin_ids: str) -> tuple[Batch, bytes]:
    batch = bench.seal(*origin_ids)
    body = batch.body
    assert body is not None
    bench.accept(batch)
    assert bench.poll_answer(batch, GONE) is PollVerdict.LOST
    return batch, body


def test_the_very_same_bytes_are_sent_again(bench: Bench) -> None:
    batch, body = lost(bench, "a", "b")
    assert [type(fact) for fact in bench.facts] == [BatchSealed, TaskAccepted, TaskLost]
    assert bench.shard._memory.batches[batch.id].body == body
    assert batch.task_id is None
    assert bench.statuses() == {}


def test_the_courses_stay_busy_meanwhile(bench: Bench) -> None:
    lost(bench, "a")
    bench.publish("a")
    assert bench.linger() == []


def test_a_restart_after_the_loss_sends_the_same_bytes(bench: Bench) -> None:
    """The fold had dropped the body when it saw the task, and did not have it when the task was gone."""
    batch, body = lost(bench, "a", "b")
    bench.crash()
    assert bench.shard._memory.batches[batch.id].task_id is None
    assert bench.shard._memory.batches[batch.id].body == body


def test_a_restart_between_loss_and_commit_asks_again(bench: Bench) -> None:
    batch = bench.accepted("a")
    bench.polled(batch, GONE)
    bench.crash()
    assert bench.shard._memory.batches[batch.id].task_id == "task-1"


def test_a_body_that_was_damaged_meanwhile_is_not_sent(bench: Bench) -> None:
    batch, _ = lost(bench, "a")
    _, key, value = bench.record(batch)
    assert value is not None
    damaged = value.replace(b"version 0", b"version 9")
    with pytest.raises(journal.JournalError, match="not the one that was sealed"):
        journal.payload(batch.id, batch.digest, key, damaged)
    with pytest.raises(journal.JournalError, match="at the offset of batch"):
        journal.payload("3-99-1", batch.digest, key, value)
    with pytest.raises(journal.JournalError, match="at the offset of batch"):
        journal.payload(batch.id, batch.digest, key, None)


def test_the_task_that_is_made_anew_is_fresh(bench: Bench) -> None:
    batch, _ = lost(bench, "a")
    bench.accept(batch, "task-2")
    bench.poll_answer(batch, bench.completed(succeeded("a")))
    assert bench.results[0].status == "SUCCEEDED"
    assert bench.results[0].task_id == "task-2"
    assert bench.results[0].attempts == 1


def test_the_task_that_turns_up_again_after_it_was_seen_pending_is_fresh(bench: Bench) -> None:
    """Its own creation has raised the shard's floor, not that of the batch (R14)."""
    batch = bench.accepted("a")
    seen = bench.pending()
    bench.poll_answer(batch, seen)
    bench.poll_answer(batch, GONE)
    bench.crash()
    batch = bench.shard._memory.batches[batch.id]
    bench.accept(batch, "task-1")
    bench.poll_answer(batch, bench.completed(succeeded("a"), created_at=seen.created_at))
    assert bench.statuses() == {0: ("SUCCEEDED", None)}


def test_only_validation_is_conclusive_now(bench: Bench) -> None:
    """The lost task may have been a balancer's mistake: fate is unknown again (R13)."""
    batch, _ = lost(bench, "a")
    answer = refused(404, "PLATFORM.INTEGRATION_NOT_FOUND")
    assert bench.submit_answer(batch, answer) is SubmitVerdict.FATE_UNKNOWN
    assert bench.statuses() == {}
    assert bench.submit_answer(batch, refused(400, "PLATFORM.INPUT_INVALID")) is SubmitVerdict.SPLIT
    assert bench.statuses() == {0: ("FAILED", "PLATFORM.INPUT_INVALID")}
    assert bench.journal_now().keys() == {journal.POSITION_KEY}
