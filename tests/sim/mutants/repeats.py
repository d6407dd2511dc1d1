"""Bugs against R20: changes that are sent again."""

from __future__ import annotations

from daemon.codec import repeats as headers
from daemon.core import admission, repeats
from daemon.core.memory import Memory
from daemon.core.model import Change, Now, Repeats
from daemon.core.repeats import Accepted
from daemon.runtime import intake
from tests.sim.mutants.registry import Patch, mutant
from tests.sim.parameters import Kind


@mutant("R20", "A repeat is not compared with anything.", Kind.SENT_AGAIN)
def repeats_are_not_guarded(patch: Patch) -> None:
    def never(memory: Memory, accepted: Accepted, change: Change, repeats: Repeats, now: Now) -> bool:
        return False

    patch(admission, "end_repeat", never)


@mutant("R20", "The memory of accepted changes counts as complete.", Kind.SENT_AGAIN)
def memory_is_unlimited(patch: Patch) -> None:
    patch(Accepted, "is_complete_from", lambda accepted, offset: True)


@mutant("R20", "After a restart, the memory of accepted changes counts as complete.", Kind.SENT_AGAIN)
def restart_forgets_what_was_accepted(patch: Patch) -> None:
    init = Accepted.__init__

    def from_the_beginning(accepted: Accepted, next_offset: int) -> None:
        init(accepted, 0)

    patch(Accepted, "__init__", from_the_beginning)


@mutant("R20", "A full memory forgets changes, and does not know it.", Kind.SENT_AGAIN)
def forgetting_is_forgotten(patch: Patch) -> None:
    add = Accepted.add

    def keep_complete_from(accepted: Accepted, integration_id: str, origin_id: str, offset: int) -> None:
        before = accepted._complete_from
        add(accepted, integration_id, origin_id, offset)
        accepted._complete_from = before

    patch(Accepted, "add", keep_complete_from)


@mutant("R20", "Changes of another course supersede a repeat, too.", Kind.SENT_AGAIN)
def any_course_supersedes(patch: Patch) -> None:
    def of_any(accepted: Accepted, integration_id: str, origin_id: str, start: int) -> int | None:
        found = [offset for offset in accepted._offsets if offset >= start]
        return found[-1] if found else None

    patch(Accepted, "newest", of_any)


@mutant("R20", "Only the newest accepted change is compared with a repeat.", Kind.SENT_AGAIN)
def only_the_last_change_supersedes(patch: Patch) -> None:
    newest = Accepted.newest

    def last(accepted: Accepted, integration_id: str, origin_id: str, start: int) -> int | None:
        since = max(start, accepted._offsets[-1] if accepted._offsets else 0)
        return newest(accepted, integration_id, origin_id, since)

    patch(Accepted, "newest", last)


@mutant("R20", "A repeat is superseded by the change that it repeats, or by an older one.", Kind.SENT_AGAIN)
def older_changes_supersede(patch: Patch) -> None:
    newest = Accepted.newest

    def from_the_beginning(accepted: Accepted, integration_id: str, origin_id: str, start: int) -> int | None:
        return newest(accepted, integration_id, origin_id, 0)

    patch(Accepted, "newest", from_the_beginning)
    end_repeat = repeats.end_repeat

    def anything(memory: Memory, accepted: Accepted, change: Change, repeats: Repeats, now: Now) -> bool:
        return end_repeat(memory, accepted, change, repeats._replace(offset=-1), now)

    patch(admission, "end_repeat", anything)


@mutant("R20", "A newer change ends instead of the repeat, which is sent.", Kind.SENT_AGAIN)
def the_newer_one_ends(patch: Patch) -> None:
    end_repeat = repeats.end_repeat

    def accept_over_waiting(
        memory: Memory, accepted: Accepted, change: Change, repeats: Repeats, now: Now
    ) -> bool:
        lane = memory.waiting.lanes.get(change.integration_id)
        if lane is not None and change.origin_id in lane.held:
            return False  # `_admit` lets it take the place of the waiting one
        return end_repeat(memory, accepted, change, repeats, now)

    patch(admission, "end_repeat", accept_over_waiting)


@mutant("R20", "A repeat that ended counts as the newest change of its course.", Kind.SENT_AGAIN)
def ended_repeats_supersede(patch: Patch) -> None:
    end_repeat = repeats.end_repeat

    def remember(memory: Memory, accepted: Accepted, change: Change, repeats: Repeats, now: Now) -> bool:
        ended = end_repeat(memory, accepted, change, repeats, now)
        if ended:
            accepted.add(change.integration_id, change.origin_id, change.offset)
        return ended

    patch(admission, "end_repeat", remember)


@mutant("R20", "An accepted repeat is not remembered, so the next one is sent as well.", Kind.SENT_AGAIN)
def repeats_are_not_remembered(patch: Patch) -> None:
    add, end_repeat = Accepted.add, repeats.end_repeat
    seen: set[int] = set()
    """The offset of the last repeat."""

    def skip(accepted: Accepted, integration_id: str, origin_id: str, offset: int) -> None:
        if offset not in seen:
            add(accepted, integration_id, origin_id, offset)

    def end(memory: Memory, accepted: Accepted, change: Change, repeats: Repeats, now: Now) -> bool:
        seen.clear()
        seen.add(change.offset)
        return end_repeat(memory, accepted, change, repeats, now)

    patch(Accepted, "add", skip)
    patch(admission, "end_repeat", end)


@mutant("R20", "A repeat of which nobody can know ends SUPERSEDED.", Kind.SENT_AGAIN)
def outdated_is_superseded(patch: Patch) -> None:
    newer = repeats._newer

    def any_change(memory: Memory, accepted: Accepted, change: Change, named: Repeats) -> int | None:
        found = newer(memory, accepted, change, named)
        return named.checked if found is None and not accepted.is_complete_from(named.checked) else found

    patch(repeats, "_newer", any_change)


@mutant("R20", "Where the publisher has looked is read as one record further.", Kind.SENT_AGAIN)
def checked_is_inclusive(patch: Patch) -> None:
    read = headers.repeats_of

    def further(
        found: tuple[tuple[str, bytes | None], ...], topic: str, partition: int, offset: int
    ) -> Repeats | None:
        repeats = read(found, topic, partition, offset)
        return None if repeats is None else repeats._replace(checked=repeats.checked + 1)

    patch(headers, "repeats_of", further)


@mutant("R20", "The headers of a repeat are ignored.", Kind.SENT_AGAIN)
def headers_are_ignored(patch: Patch) -> None:
    patch(intake, "with_repeats", lambda entry, topic, partition: entry)
