"""A consumer group: which member holds which partitions of one topic, and how members are notified.

Rebalances are eager, as those of the daemon's Kafka client: each revokes all partitions from all members and assigns them
again. Every member is static: its id outlives its process. A process that joins under an id with a live session takes over
its partitions without notice to the other members, and the earlier process under that id is fenced. So stopping does not mean
leaving: only `expire` ends a session.
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
    """Another process has joined under the same id. This one must end."""


Notice = Assigned | Revoked | Expired | Displaced
"""A message of the group to a member."""


class Session:
    """The membership of one process, from its join until it expires or is displaced."""

    __slots__ = ("_inbox", "_unread", "_wake", "live", "member_id", "partitions")

    def __init__(self, member_id: str, wake: Callable[[], None]) -> None:
        self.member_id = member_id
        self.live = True
        self.partitions: frozenset[int] = frozenset()
        """The assignment in the group. The member may not have read it yet."""
        self._inbox: deque[Notice] = deque()
        self._unread = 0
        self._wake = wake

    @property
    def settled(self) -> bool:
        """Whether the member has read all notices of the group."""
        return self._unread == 0

    def wake(self) -> None:
        """Wake the member: there may be a notice or a record to read."""
        self._wake()

    def announce(self) -> None:
        """A notice was sent. It counts as unread from now on."""
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
        """Offsets that the group has committed, by partition."""
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
        """End a member's session and assign its partitions to the others. No-op if it has no session."""
        session = self._sessions.pop(member_id, None)
        if session is None:
            return
        session.live = False
        self._tell(session, Expired())
        self.rebalance(partition_count)

    def rebalance(self, partition_count: int) -> None:
        """Revoke all partitions, then assign an even share to each member, in the order of ids."""
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
        """Store an offset, for lag figures. A commit of a member that does not hold the partition is ignored."""
        if session.live and partition in session.partitions:
            self.offsets[partition] = offset

    def wake(self) -> None:
        """The topic has changed."""
        for session in self._sessions.values():
            session.wake()

    def _tell(self, session: Session, notice: Notice) -> None:
        session.announce()
        self._deliver(session, notice)
