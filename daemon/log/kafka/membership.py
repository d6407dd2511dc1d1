"""What the group coordinator inside the client knows of this member.

The library does not say when a heartbeat was answered, and stays silent when a static member has been
fenced: it stops its heartbeats and goes on polling. Both stand in fields of its coordinator, which this
module alone reads. They are those of kafka-python 3.0.x; a test looks whether they are still there.

The fields are written by the client's I/O thread. Reading them without a lock is safe as it is done
here: the order of the reads makes every race err on the side of "not confirmed".
"""

from __future__ import annotations

import time

from kafka import KafkaConsumer
from kafka.structs import MemberState


class Membership:
    """Called by the consumer's owner thread, between polls."""

    def __init__(self, consumer: KafkaConsumer) -> None:
        self._coordinator = consumer._coordinator  # noqa: SLF001

    @property
    def fenced(self) -> bool:
        """The broker has answered a heartbeat with FENCED_INSTANCE_ID: the only way in which heartbeats
        are switched off in a member that is stable and not about to rejoin."""
        coordinator = self._coordinator
        return (
            coordinator.state is MemberState.STABLE
            and not coordinator.rejoining
            and not coordinator._heartbeat_enabled  # noqa: SLF001
        )

    @property
    def heartbeat_age(self) -> float | None:
        """Seconds since a heartbeat was last sent, or the member joined; None when it has no heartbeats
        to send, or the coordinator can not be reached."""
        coordinator = self._coordinator
        if coordinator.state is not MemberState.STABLE or coordinator.coordinator_id is None:
            return None
        heartbeat = coordinator.heartbeat
        return time.monotonic() - float(max(heartbeat.last_send, heartbeat.last_reset))

    def confirmed_since(self, moment: float) -> bool:
        """A heartbeat sent after this `time.monotonic()` was answered, and no rebalance is due."""
        coordinator = self._coordinator
        if coordinator.state is not MemberState.STABLE or coordinator.rejoining:
            return False
        heartbeat = coordinator.heartbeat
        # One heartbeat is in flight at a time, so an answer later than the last sending belongs to it.
        # An answer "rebalance in progress" counts for the library too, but sets rejoin_needed before.
        sent = heartbeat.last_send
        answered = heartbeat.last_receive
        return bool(moment < sent <= answered and not coordinator.rejoin_needed)

    def hurry(self, moment: float) -> None:
        """Have a heartbeat sent now instead of in up to a second, unless one was since `moment`."""
        coordinator = self._coordinator
        if coordinator.state is MemberState.STABLE and coordinator.heartbeat.last_send <= moment:
            # The library's own way to an early heartbeat: as after a failed one, it waits for
            # retry_backoff_ms only. The next sending clears the mark.
            coordinator.heartbeat.fail_heartbeat()
            coordinator._heartbeat_wakeup.notify()  # noqa: SLF001
