"""A consumer group: who holds which partitions of one topic, and how members hear of it.

Rebalances are eager, as those of the daemon's Kafka client: each takes everything from everyone and
gives it out again. Every member is static: it has an id that outlives its process. Who joins under an
id whose session lives takes over its partitions, and the other members notice nothing; the earlier
process under that id is fenced. Stopping is therefore not leaving: only `expire` ends a session.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from daemon.log.port import Assigned, Revoked


@dataclass(frozen=True, slots=True)
class Expired:
    """The session has ended: all partitions are lost, and the member may join again."""


@dataclass(frozen=True, slots=True)
class Displaced:
    """Another process has joined under the same id: this one must end."""


Notice = Assigned | Revoked | Expired | Displaced
"""What the group has to tell a member."""


class Session:
    """One process' membership, from its joining until it expires or is displaced."""

    __slots__ = ("_inbox", "_unread", "_wake", "live", "member_id", "partitions")

    def __init__(self, member_id: str, wake: Callable[[], None]) -> None:
        self.member_id = member_id
        self.live = True
        self.partitions: frozenset[int] = frozenset()
        """As the group sees it; the member may not have heard of it yet."""
        self._inbox: deque[Notice] = deque()
        self._unread = 0
        self._wake = wake

    @property
    def settled(self) -> bool:
        """The member has read everything that the group had to tell."""
        return self._unread == 0

    def wake(self) -> None:
        """There may be something to read, here or in the topic."""
        self._wake()

    def announce(self) -> None:
        """A notice is on its way (it counts as unread from here on)."""
        self._unread += 1

    def deliver(self, notice: Notice) -> None:
        """The notice has arrived."""
        self._inbox.append(notice)
        self._wake()

    def next_notice(self) -> Notice | None:
        if not self._inbox:
            return None
        self._unread -= 1
        return self._inbox.popleft()


class Group:
    def __init__(self, deliver: Callable[[Session, Notice], None]) -> None:
        self.offsets: dict[int, int] = {}
        """What the group has committed, by partition."""
        self._deliver = deliver
        self._sessions: dict[str, Session] = {}

    def join(self, member_id: str, partition_count: int, wake: Callable[[], None]) -> Session:
        session = Session(member_id, wake)
        earlier = self._sessions.get(member_id)
        self._sessions[member_id] = session
        if earlier is None:
            self.rebalance(partition_count)
        else:
            earlier.live = False
            session.partitions = earlier.partitions
            self._tell(earlier, Displaced())
            self._tell(session, Assigned(session.partitions))
        return session

    def expire(self, member_id: str, partition_count: int) -> None:
        """End a member's session and give its partitions to the others; nothing if it has none."""
        session = self._sessions.pop(member_id, None)
        if session is None:
            return
        session.live = False
        self._tell(session, Expired())
        self.rebalance(partition_count)

    def rebalance(self, partition_count: int) -> None:
        """Take everything from everyone, then give each member an even share, in the order of ids."""
        sessions = [self._sessions[member_id] for member_id in sorted(self._sessions)]
        for session in sessions:
            if session.partitions:
                self._tell(session, Revoked(session.partitions))
        for index, session in enumerate(sessions):
            first = partition_count * index // len(sessions)
            last = partition_count * (index + 1) // len(sessions)
            session.partitions = frozenset(range(first, last))
            self._tell(session, Assigned(session.partitions))

    def commit_offset(self, session: Session, partition: int, offset: int) -> None:
        """For lag figures; who does not hold the partition is ignored."""
        if session.live and partition in session.partitions:
            self.offsets[partition] = offset

    def wake(self) -> None:
        """The topic has changed."""
        for session in self._sessions.values():
            session.wake()

    def _tell(self, session: Session, notice: Notice) -> None:
        session.announce()
        self._deliver(session, notice)
