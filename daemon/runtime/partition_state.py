"""The states of a partition and the transitions between them.

Every transition goes through `PartitionLifecycle.on`. A trigger that the table does not list for the current state raises.
`docs/partition-states.md` has a diagram that is generated from the table.

A revoked partition may be assigned again at once. Until then, no request is sent for it, whatever its state is. If its shard
still runs when it is assigned again, a committed record has to prove that it had no other owner in between (R5).
"""

from __future__ import annotations

from enum import StrEnum


class PartitionState(StrEnum):
    OPENING = "opening"
    """Waits for confirmation of the assignment, fences earlier owners, restores."""
    SERVING = "serving"
    """Reads the input, commits steps, allows requests."""
    SUSPENDED = "suspended"
    """Revoked while it was serving: commits what was decided and starts nothing new."""
    REJOINING = "rejoining"
    """Assigned again: a record that its own producer commits has to prove that it had no other owner (R5)."""
    BLOCKED = "blocked"
    """Waits for an operator, and checks periodically whether the journal has new records."""
    STOPPING = "stopping"
    """Commits what was decided, then ends."""


class PartitionTrigger(StrEnum):
    RESTORED = "restored"
    """The shard has been restored, and the partition was held all the time."""
    RESTORED_REVOKED = "restored, revoked meanwhile"
    RESTORED_RETURNED = "restored, revoked and returned meanwhile"
    REVOKED = "revoked"
    RETURNED = "returned"
    PROVEN = "proven"
    """A commit that began after the return has succeeded."""
    FAILED = "failed"
    """Memory and producer are dropped."""
    BLOCKED = "blocked"
    UNBLOCKED = "unblocked"
    STOPPED = "stopped"


TRANSITIONS: dict[tuple[PartitionState, PartitionTrigger], PartitionState] = {
    (PartitionState.OPENING, PartitionTrigger.RESTORED): PartitionState.SERVING,
    (PartitionState.OPENING, PartitionTrigger.RESTORED_REVOKED): PartitionState.SUSPENDED,
    (PartitionState.OPENING, PartitionTrigger.RESTORED_RETURNED): PartitionState.REJOINING,
    (PartitionState.OPENING, PartitionTrigger.FAILED): PartitionState.OPENING,
    (PartitionState.OPENING, PartitionTrigger.BLOCKED): PartitionState.BLOCKED,
    (PartitionState.SERVING, PartitionTrigger.REVOKED): PartitionState.SUSPENDED,
    (PartitionState.SERVING, PartitionTrigger.FAILED): PartitionState.OPENING,
    (PartitionState.SERVING, PartitionTrigger.BLOCKED): PartitionState.BLOCKED,
    (PartitionState.SUSPENDED, PartitionTrigger.REVOKED): PartitionState.SUSPENDED,
    (PartitionState.SUSPENDED, PartitionTrigger.RETURNED): PartitionState.REJOINING,
    (PartitionState.SUSPENDED, PartitionTrigger.FAILED): PartitionState.OPENING,
    (PartitionState.SUSPENDED, PartitionTrigger.BLOCKED): PartitionState.BLOCKED,
    (PartitionState.REJOINING, PartitionTrigger.PROVEN): PartitionState.SERVING,
    (PartitionState.REJOINING, PartitionTrigger.REVOKED): PartitionState.SUSPENDED,
    (PartitionState.REJOINING, PartitionTrigger.FAILED): PartitionState.OPENING,
    (PartitionState.REJOINING, PartitionTrigger.BLOCKED): PartitionState.BLOCKED,
    (PartitionState.BLOCKED, PartitionTrigger.BLOCKED): PartitionState.BLOCKED,
    (PartitionState.BLOCKED, PartitionTrigger.UNBLOCKED): PartitionState.OPENING,
    **{(state, PartitionTrigger.STOPPED): PartitionState.STOPPING for state in PartitionState},
}
"""A partition that is stopping ignores every trigger: see `PartitionLifecycle.on`."""


class PartitionLifecycle:
    """The current state, and what the consumer group has reported about the partition."""

    def __init__(self) -> None:
        self.state = PartitionState.OPENING
        self.revoked = False
        """The group has revoked the partition, and has not assigned it yet."""
        self.returned = False
        """It was revoked and assigned again, and it is not proven yet that it had no other owner in between (R5)."""
        self.revocations = 0
        """Number of revocations. A commit proves nothing about a revocation that came while it was running (R5)."""

    def on(self, trigger: PartitionTrigger) -> None:
        """Change to the next state.

        Raises:
            AssertionError: the trigger is impossible in the current state.
        """
        if self.state is PartitionState.STOPPING:
            return
        following = TRANSITIONS.get((self.state, trigger))
        assert following is not None, f"a partition that is {self.state} cannot be {trigger}"
        self.state = following

    # --- the group --------------------------------------------------------------------------------

    def revoke(self) -> None:
        self.revoked, self.returned = True, False
        self.revocations += 1
        if (self.state, PartitionTrigger.REVOKED) in TRANSITIONS:
            self.on(PartitionTrigger.REVOKED)

    def give_back(self) -> bool:
        """The group has assigned the partition again. Returns whether it had been revoked."""
        if not self.revoked:
            return False
        self.revoked, self.returned = False, True
        if (self.state, PartitionTrigger.RETURNED) in TRANSITIONS:
            self.on(PartitionTrigger.RETURNED)
        return True

    def new_producer(self) -> None:
        """Earlier owners are about to be fenced, which makes a proof about the past unnecessary."""
        self.returned = False

    def restored(self) -> None:
        """The shard is restored. The group may have revoked the partition meanwhile."""
        if self.revoked:
            self.on(PartitionTrigger.RESTORED_REVOKED)
        elif self.returned:
            self.on(PartitionTrigger.RESTORED_RETURNED)
        else:
            self.on(PartitionTrigger.RESTORED)

    def proven(self) -> None:
        self.returned = False
        self.on(PartitionTrigger.PROVEN)

    # --- queries ----------------------------------------------------------------------------------

    @property
    def serving(self) -> bool:
        return self.state is PartitionState.SERVING

    @property
    def rejoining(self) -> bool:
        return self.state is PartitionState.REJOINING

    @property
    def handing_over(self) -> bool:
        """No POST starts until a commit that begins in another state has succeeded (R6)."""
        return self.state in (PartitionState.SUSPENDED, PartitionState.STOPPING)

    @property
    def stopping(self) -> bool:
        return self.state is PartitionState.STOPPING
