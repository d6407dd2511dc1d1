"""The states of a partition, and what moves it from one to the next.

Every change of state goes through `Lifecycle.on`; a trigger that the table does not know for the present state raises.
`docs/partition-states.md` has a drawing that is made from the table.

A partition that is revoked may come straight back: whatever it is doing, no request leaves for it meanwhile. When it is
back while its shard still runs, it has to prove with a committed record that nobody else owned it in between (R5).
"""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    OPENING = "opening"
    """Waits until the assignment is confirmed, fences earlier owners, restores."""
    SERVING = "serving"
    """Reads the input, commits steps, lets requests leave."""
    SUSPENDED = "suspended"
    """Revoked while it was serving: what was decided is committed, nothing else begins."""
    REJOINING = "rejoining"
    """Assigned again: a record that its own producer commits has to prove that nobody came in between (R5)."""
    BLOCKED = "blocked"
    """Waits for a person; looks now and then whether somebody has written to the journal."""
    STOPPING = "stopping"
    """Commits what was decided, then ends."""


class Trigger(StrEnum):
    RESTORED = "restored"
    """The shard has been restored while the partition was held."""
    RESTORED_REVOKED = "restored, revoked meanwhile"
    RESTORED_RETURNED = "restored, revoked and returned meanwhile"
    REVOKED = "revoked"
    RETURNED = "returned"
    PROVEN = "proven"
    """A commit that began after the return has succeeded."""
    FAILED = "failed"
    """Memory and producer are given up."""
    BLOCKED = "blocked"
    UNBLOCKED = "unblocked"
    STOPPED = "stopped"


TRANSITIONS: dict[tuple[State, Trigger], State] = {
    (State.OPENING, Trigger.RESTORED): State.SERVING,
    (State.OPENING, Trigger.RESTORED_REVOKED): State.SUSPENDED,
    (State.OPENING, Trigger.RESTORED_RETURNED): State.REJOINING,
    (State.OPENING, Trigger.FAILED): State.OPENING,
    (State.OPENING, Trigger.BLOCKED): State.BLOCKED,
    (State.SERVING, Trigger.REVOKED): State.SUSPENDED,
    (State.SERVING, Trigger.FAILED): State.OPENING,
    (State.SERVING, Trigger.BLOCKED): State.BLOCKED,
    (State.SUSPENDED, Trigger.REVOKED): State.SUSPENDED,
    (State.SUSPENDED, Trigger.RETURNED): State.REJOINING,
    (State.SUSPENDED, Trigger.FAILED): State.OPENING,
    (State.SUSPENDED, Trigger.BLOCKED): State.BLOCKED,
    (State.REJOINING, Trigger.PROVEN): State.SERVING,
    (State.REJOINING, Trigger.REVOKED): State.SUSPENDED,
    (State.REJOINING, Trigger.FAILED): State.OPENING,
    (State.REJOINING, Trigger.BLOCKED): State.BLOCKED,
    (State.BLOCKED, Trigger.BLOCKED): State.BLOCKED,
    (State.BLOCKED, Trigger.UNBLOCKED): State.OPENING,
    **{(state, Trigger.STOPPED): State.STOPPING for state in State},
}
"""Whatever happens to a partition that is stopping, it goes on stopping: see `Lifecycle.on`."""


class Lifecycle:
    """The present state, and what the consumer group has said of the partition."""

    def __init__(self) -> None:
        self.state = State.OPENING
        self.revoked = False
        """The group has taken it away and not yet said who gets it."""
        self.returned = False
        """It was taken away and is back, and nothing has proved yet that nobody came in between (R5)."""
        self.revocations = 0
        """A commit proves nothing about a revocation that came while it was under way (R5)."""

    def on(self, trigger: Trigger) -> None:
        """Move on.

        Raises:
            AssertionError: this cannot happen in the present state.
        """
        if self.state is State.STOPPING:
            return
        following = TRANSITIONS.get((self.state, trigger))
        assert following is not None, f"a partition that is {self.state} cannot be {trigger}"
        self.state = following

    # --- the group --------------------------------------------------------------------------------

    def revoke(self) -> None:
        self.revoked, self.returned = True, False
        self.revocations += 1
        if (self.state, Trigger.REVOKED) in TRANSITIONS:
            self.on(Trigger.REVOKED)

    def give_back(self) -> bool:
        """The group has assigned it again; whether it had been revoked."""
        if not self.revoked:
            return False
        self.revoked, self.returned = False, True
        if (self.state, Trigger.RETURNED) in TRANSITIONS:
            self.on(Trigger.RETURNED)
        return True

    def new_producer(self) -> None:
        """Earlier owners are about to be fenced: proof enough of all that was before."""
        self.returned = False

    def restored(self) -> None:
        """The shard is there; the group may have spoken while it was being restored."""
        if self.revoked:
            self.on(Trigger.RESTORED_REVOKED)
        elif self.returned:
            self.on(Trigger.RESTORED_RETURNED)
        else:
            self.on(Trigger.RESTORED)

    def proven(self) -> None:
        self.returned = False
        self.on(Trigger.PROVEN)

    # --- what follows from it ---------------------------------------------------------------------

    @property
    def serving(self) -> bool:
        return self.state is State.SERVING

    @property
    def rejoining(self) -> bool:
        return self.state is State.REJOINING

    @property
    def stopping(self) -> bool:
        return self.state is State.STOPPING
