"""R6: who may POST what, and when, while partitions change hands.

Judged by what was true, and by the position records as the witness reads them: what a record says must be true when it is
written, and stay true until the next one. Whoever relies on it may POST at once; whoever cannot waits for the lease and the
deadline of the previous owner. In histories of kind `restarts`, nobody may wait longer than that.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from daemon.config import Settings
from tests.sim.journal_view import JournalView, Statement
from tests.sim.seen import Post, Sealed, Who

EPSILON = 0.001
"""Seconds of rounding."""
COMMIT_MAX = 0.1
"""Virtual seconds from what a process decides to the end of its commit."""
SLACK = 1.5
"""Seconds within which an owner POSTs what it may, where nothing but restarts is going on: a restore, two commits."""


@dataclass(slots=True, eq=False)
class Ownership:
    number: int
    who: Who
    since: float
    before: Who | None
    """Whose last record it has found."""
    before_released: frozenset[str] | None
    """As that record says (`JournalView.released`)."""
    may_post: dict[str, float]
    """Batches that it has found without a task, and from when on they may be POSTed."""
    should_post: dict[str, float] = field(default_factory=dict)
    """The same batches, and when there is no reason any more to wait."""
    ready: float | None = None
    """When its first commit returned."""
    is_disturbed: bool = False
    """Something has happened to it, so that nothing can be expected of it."""
    posted: set[str] = field(default_factory=set)


class Takeovers:
    """`accuse` is called with the kind of the violation and a sentence."""

    def __init__(
        self, settings: Settings, clock: Callable[[], float], accuse: Callable[[str, str], None]
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._accuse = accuse
        self._wait = settings.fence.lease + settings.http.deadline
        self._owners: dict[int, Ownership] = {}
        self._count = 0
        self._last: dict[tuple[Who, int], int] = {}
        """The last ownership of each process in each partition."""
        self._posts: defaultdict[str, list[Post]] = defaultdict(list)
        self._stated: dict[tuple[int, Statement], tuple[float, float]] = {}
        """When the owner that stated it first became the owner, and when it stated it."""
        self.broker_ms: Callable[[], int] | None = None
        """The broker's clock, where it never jumps."""
        self.is_prompt = False
        """Whether an owner is expected to POST what it may without delay."""

    # --- the log ----------------------------------------------------------------------------------

    def owner(self, partition: int) -> Ownership:
        return self._owners[partition]

    def fenced(self, who: Who, partition: int, journal: JournalView) -> None:
        now = self._clock()
        self._count += 1
        before = self._owners.get(partition)
        if before is not None:
            self._judge_promptness(before, journal)
        may, should = {}, {}
        for batch_id in journal.batches.keys() - journal.tasks:
            known = [self._stated[partition, each] for each in journal.statements_about(batch_id)]
            if known:
                may[batch_id] = min(since for since, _ in known) + self._wait
                should[batch_id] = min(at for _, at in known) + self._wait
            elif journal.released is not None and batch_id not in journal.released:
                may[batch_id] = should[batch_id] = 0.0
            else:
                may[batch_id] = now + self._wait
                should[batch_id] = now + self._wait + SLACK
        self._owners[partition] = Ownership(
            self._count, who, now, None if before is None else before.who, journal.released, may, should
        )
        self._last[who, partition] = self._count

    def committed(self, partition: int, journal: JournalView) -> None:
        """A position record of the present owner was written, and `journal` is what it leaves."""
        now, owner = self._clock(), self._owners[partition]
        for statement in journal.fencings:
            known = self._stated.setdefault((partition, statement), (owner.since, now))
            if known[1] == now and self.broker_ms is not None:
                fenced_ms = self.broker_ms() - (now - owner.since) * 1000
                if not fenced_ms - 1 <= statement.at <= self.broker_ms():
                    self._accuse(
                        "false_statements",
                        f"{owner.who[0]} states in partition {partition} that earlier owners were fenced "
                        f"{(fenced_ms - statement.at) / 1000:.3f} s before it has fenced them (R6)",
                    )
        if journal.released is None:
            return
        for batch_id in journal.batches.keys() - journal.tasks - journal.released:
            if not journal.statements_about(batch_id) and self._on_its_way(batch_id) is not None:
                self._accuse(
                    "false_statements",
                    f"{owner.who[0]} says that it has ended in partition {partition}, and a POST of batch {batch_id} "
                    "may be on its way (R6)",
                )

    def commit_returns(self, who: Who, partition: int) -> None:
        owner = self._owners[partition]
        if owner.who == who and owner.ready is None:
            owner.ready = self._clock()

    def _on_its_way(self, batch_id: str, but_of: int = 0, ago: float = 0.0) -> Post | None:
        """A POST that may still reach the API, or could so many seconds ago, of another ownership than this one."""
        now = self._clock() - ago
        for post in self._posts[batch_id]:
            until = post.started + self._settings.http.deadline - EPSILON
            if post.over is not None:
                until = min(until, post.over)
            if post.ownership != but_of and now < until:
                return post
        return None

    # --- the API ----------------------------------------------------------------------------------

    def posted(self, who: Who, sealed: Sealed, journal: JournalView) -> Post:
        now, batch_id = self._clock(), sealed.record.batch_id
        partition, lease = sealed.partition, self._settings.fence.lease
        owner = self._owners[partition]
        own = self._last.get((who, partition), 0)
        reasons = []
        if owner.who != who:
            if now > owner.since + lease + EPSILON:
                reasons.append(f"{now - owner.since:.3f} s after {owner.who[0]} took over")
            if batch_id in owner.posted:
                reasons.append(f"after {owner.who[0]} has taken over and POSTed it")
            released = owner.before_released
            if owner.before == who and released is not None and batch_id not in released:
                reasons.append("after it has said that it has ended")
        else:
            may = owner.may_post.get(batch_id, 0.0)
            if now < may - EPSILON:
                reasons.append(f"{may - now:.3f} s before a POST of an earlier owner must have ended")
            if journal.released is not None:
                reasons.append("though its last record says that it has ended")
            if journal.statements_about(batch_id):
                reasons.append("though its last record says that it does not")
            self._judge_delay(owner, batch_id)
            owner.posted.add(batch_id)
        if (other := self._on_its_way(batch_id, own)) is not None:
            reasons.append(f"while the POST of {other.who[0]} may be on its way")
        for reason in reasons:
            self._accuse("early_posts", f"{who[0]} POSTs batch {batch_id} {reason} (R6)")
        post = Post(who, own, now)
        self._posts[batch_id].append(post)
        return post

    # --- promptness -------------------------------------------------------------------------------

    def disturbed(self, who: Who) -> None:
        """Something is done to this process."""
        for owner in self._owners.values():
            if owner.who == who:
                self._excuse(owner)

    def left(self, who: Who, partition: int) -> None:
        """A rebalance has taken the partition from this process. It stays the last owner until another one takes over."""
        owner = self._owners.get(partition)
        if owner is not None and owner.who == who:
            self._excuse(owner)

    def _excuse(self, owner: Ownership) -> None:
        """From now on, nothing can be expected of it."""
        for batch_id in owner.should_post:
            self._judge_delay(owner, batch_id)
        owner.is_disturbed = True

    def ended_in_order(self, who: Who, journals: Mapping[int, JournalView]) -> None:
        """`journals`: of the partitions that it still held. Another may have been taken from it while a POST was on its
        way, and then it could not say of this POST that it had ended.
        """
        for partition, journal in journals.items():
            owner = self._owners.get(partition)
            if not self.is_prompt or owner is None or owner.who != who or owner.ready is None:
                continue
            said = set() if journal.released is None else journal.batches.keys() - journal.released
            for batch_id in journal.batches.keys() - journal.tasks - said:
                waited = owner.may_post.get(batch_id, 0.0) > self._clock() - COMMIT_MAX
                if not waited and self._on_its_way(batch_id, ago=COMMIT_MAX) is None:
                    self._accuse(
                        "held_back",
                        f"{who[0]} has ended, no POST of batch {batch_id} is on its way, and it does not say so (R6)",
                    )

    def tasks_made(self, partition: int, batch_ids: Iterable[str]) -> None:
        """These batches have a task now."""
        for batch_id in batch_ids:
            self._owners[partition].should_post.pop(batch_id, None)

    def _judge_promptness(self, owner: Ownership, journal: JournalView) -> None:
        """Its time is over."""
        for batch_id in owner.should_post.keys() & (journal.batches.keys() - journal.tasks):
            self._judge_delay(owner, batch_id)

    def _judge_delay(self, owner: Ownership, batch_id: str) -> None:
        should = owner.should_post.get(batch_id)
        idle = self.is_prompt and not owner.is_disturbed and batch_id not in owner.posted
        if should is None or owner.ready is None or not idle:
            return
        late = self._clock() - max(should, owner.ready)
        if late > SLACK:
            self._accuse(
                "held_back",
                f"{owner.who[0]} could have POSTed batch {batch_id} {late:.3f} s ago: it has waited for earlier owners (R6)",
            )
