"""R17: bulk changes wait for the index of the known courses, but not for long, and nothing else does."""

from __future__ import annotations

import pytest

from daemon.config import BatchSettings, Settings, UnchangedSettings
from daemon.core.awaited_index import INDEX_PATIENCE
from daemon.core.journal import Position
from daemon.core.model import Status
from tests.unit.core_bench import Bench, succeeded
from tests.unit.test_core_known_state import SETTINGS, A, change, confirm


@pytest.fixture
def bench() -> Bench:
    """Course `c` has content A, and the shard was restored a moment ago: its index is not loaded."""
    bench = Bench(SETTINGS)
    confirm(bench)
    restart(bench)
    return bench


def restart(bench: Bench) -> None:
    bench.crash()
    bench.shard.known.is_loaded = False


def load(bench: Bench) -> None:
    bench.shard.known.is_loaded = True
    bench.shard.courses_loaded()


def position(bench: Bench) -> Position:
    found = bench.fold(bench.records).position
    assert found is not None
    return found


def test_a_bulk_change_is_not_sent_before_the_index_is_loaded(bench: Bench) -> None:
    bench.read(change(bench, A, bulk=True))
    before = position(bench)
    assert bench.linger() == []
    assert bench.linger() == []
    assert position(bench) == before, "it is not admitted"
    assert bench.shard.count_held() == 1
    load(bench)
    assert bench.shard.due() == 0.0
    bench.shard.tick(bench.now)
    assert bench.commit() == []
    assert bench.results[1].status is Status.UNCHANGED


def test_nothing_is_due_while_it_waits_even_if_a_batch_is_full(bench: Bench) -> None:
    batch = bench.settings.batch.items_max
    bench.read(*(change(bench, A, f"c{number}", bulk=True) for number in range(batch)))
    until = bench.now.mono + INDEX_PATIENCE
    assert bench.linger() == []
    assert bench.shard.due() == pytest.approx(until)
    load(bench)
    bench.shard.tick(bench.now)
    (sealed,) = bench.commit()
    assert len(sealed.items) == batch, "these courses are not known"


def test_after_some_time_it_is_sent_without_the_index(bench: Bench) -> None:
    bench.read(change(bench, A, bulk=True))
    assert bench.linger() == []
    bench.pass_time(INDEX_PATIENCE)
    assert len(bench.linger()) == 1
    bench.read(change(bench, A, "d", bulk=True))
    assert len(bench.linger()) == 1, "the patience is over for this shard"


@pytest.mark.parametrize(
    ("trust_for", "resend"), [(0.0, False), (3600.0, True)], ids=["all are sent", "it is resent"]
)
def test_what_is_sent_in_any_case_does_not_wait(trust_for: float, resend: bool) -> None:
    bench = Bench(Settings(batch=BatchSettings(linger=0.1), unchanged=UnchangedSettings(trust_for=trust_for)))
    restart(bench)
    bench.read(change(bench, A, resend=resend, bulk=True))
    assert len(bench.linger()) == 1


def test_answers_and_retries_do_not_wait(bench: Bench) -> None:
    load(bench)
    bench.read(change(bench, A, "d"))
    (batch,) = bench.linger()
    bench.accept(batch)
    bench.read(change(bench, A, "d"))
    assert bench.linger() == [], "its course is busy"
    restart(bench)
    bench.read(change(bench, A, "e", bulk=True))
    batch = bench.only()
    bench.poll_answer(batch, bench.completed(succeeded("d")))
    assert bench.results[1].status is Status.SUCCEEDED
    (sealed,) = bench.linger()
    assert [item.origin_id for item in sealed.items] == ["d"], "`e` waits, `d` was admitted before"


def test_an_edit_does_not_wait_and_does_not_send_what_is_bulk(bench: Bench) -> None:
    bench.read(change(bench, A, bulk=True), change(bench, A, "d", bulk=True))
    assert bench.linger() == []
    bench.read(change(bench, A, "d"), change(bench, A, "e"))
    (sealed,) = bench.linger()
    assert [item.origin_id for item in sealed.items] == ["d", "e"]
    assert bench.linger() == []
    assert bench.shard.waiting == 1, "what is bulk is admitted with it, and waits"
    load(bench)
    bench.shard.tick(bench.now)
    assert bench.commit() == []
    assert bench.results[1].status is Status.UNCHANGED


def test_bulk_that_was_admitted_is_sent_when_the_patience_is_over(bench: Bench) -> None:
    bench.read(change(bench, A, "d", bulk=True), change(bench, A, "e"))
    assert len(bench.linger()) == 1
    assert bench.shard.due() is not None
    bench.pass_time(INDEX_PATIENCE)
    (sealed,) = bench.linger()
    assert [item.origin_id for item in sealed.items] == ["d"]
