"""Bugs in learned polls: bounds that are not kept, and a budget that is spent twice."""

from __future__ import annotations

import math
from typing import Any

from daemon.core import learned_polls
from daemon.core.learned_polls import LearnedPolls, PollProgress, PollTerms
from daemon.core.poll_planning import Ended, GrowingAges, Plan, plan
from daemon.core.schedule import PollIntervals
from tests.sim.mutants.registry import Patch, mutant
from tests.sim.parameters import Kind


@mutant("polls", "A planned poll may come sooner than `poll.first_after` after the last one.", Kind.POLLED)
def planned_polls_too_close(patch: Patch) -> None:
    delay = LearnedPolls.delay

    def sooner(
        learned: LearnedPolls, terms: PollTerms, progress: PollProgress, age: float, now: float
    ) -> float:
        seconds = delay(learned, terms, progress, age, now)
        return 0.7 * seconds if progress.is_planned else seconds

    patch(LearnedPolls, "delay", sooner)


@mutant("polls", "A planned poll may come later than the longest interval.", Kind.POLLED)
def planned_polls_too_far_apart(patch: Patch) -> None:
    def sparse(ended: Ended, growing: GrowingAges) -> Plan | None:
        found = plan(ended, growing)
        return None if found is None else Plan(found._ages, tuple(age * 1.5 for age in found._next))

    class Unbounded(GrowingAges):
        __slots__ = ()

        def __init__(self, intervals: PollIntervals, items: int) -> None:
            super().__init__(intervals, items)
            self.longest *= 4

    patch(learned_polls, "plan", sparse)
    patch(learned_polls, "GrowingAges", Unbounded)


@mutant("polls", "Plans have no budget.", Kind.POLLED)
def polls_without_a_budget(patch: Patch) -> None:
    def unlimited(
        learned: LearnedPolls, terms: Any, progress: Any, age: float, others: int, open_tasks: int
    ) -> None:
        learned.saved = 1000

    patch(LearnedPolls, "_save", unlimited)


@mutant("polls", "A poll that the growing intervals do not have is not paid from the budget.", Kind.POLLED)
def early_polls_are_free(patch: Patch) -> None:
    delay = LearnedPolls.delay

    def free(
        learned: LearnedPolls, terms: PollTerms, progress: PollProgress, age: float, now: float
    ) -> float:
        saved = learned.saved
        seconds = delay(learned, terms, progress, age, now)
        learned.saved = saved
        return seconds

    patch(LearnedPolls, "delay", free)


@mutant("polls", "The polls that a plan makes are not subtracted from what it has saved.", Kind.POLLED)
def own_polls_count_as_saved(patch: Patch) -> None:
    save = LearnedPolls._save

    def twice(
        learned: LearnedPolls, terms: Any, progress: Any, age: float, others: int, open_tasks: int
    ) -> None:
        save(learned, terms, progress, age, others + 1, open_tasks)

    patch(LearnedPolls, "_save", twice)


@mutant("polls", "At each poll, all polls since the acceptance are saved anew.", Kind.POLLED)
def saved_again_at_each_poll(patch: Patch) -> None:
    polled = LearnedPolls.polled

    def since_acceptance(
        learned: LearnedPolls, terms: PollTerms, progress: PollProgress, age: float, open_tasks: int
    ) -> None:
        polled(learned, terms, progress, age, open_tasks)
        progress.age = 0.0

    patch(LearnedPolls, "polled", since_acceptance)


@mutant("polls", "Without a budget, a task is polled at the shortest interval.", Kind.POLLED)
def no_budget_means_the_shortest_interval(patch: Patch) -> None:
    unplanned = LearnedPolls.delay_unplanned

    def shortest(learned: LearnedPolls, terms: PollTerms, progress: PollProgress, age: float) -> float:
        seconds = unplanned(learned, terms, progress, age)
        return terms.intervals.first_after if progress.is_planned else seconds

    patch(LearnedPolls, "delay_unplanned", shortest)


@mutant("polls", "Intervals do not grow from poll to poll.", Kind.POLLED)
def intervals_do_not_grow(patch: Patch) -> None:
    polled = LearnedPolls.polled

    def uncounted(
        learned: LearnedPolls, terms: PollTerms, progress: PollProgress, age: float, open_tasks: int
    ) -> None:
        polls = progress.polls
        polled(learned, terms, progress, age, open_tasks)
        progress.polls = polls

    patch(LearnedPolls, "polled", uncounted)


@mutant("polls", "A plan skips the moment of a time-out.", Kind.POLLED)
def plan_skips_the_time_out(patch: Patch) -> None:
    find = LearnedPolls._plan

    class Skipping:
        def __init__(self, plan: Plan, timeout: float) -> None:
            self._plan = plan
            self._timeout = timeout

        def after(self, age: float) -> float | None:
            following = self._plan.after(age)
            return math.inf if following is not None and following > self._timeout > age else following

    def found(learned: LearnedPolls, terms: PollTerms, now: float) -> Any:
        plan = find(learned, terms, now)
        return None if plan is None else Skipping(plan, terms.timeout)

    patch(LearnedPolls, "_plan", found)
    patch(learned_polls, "TIMEOUT_MARGIN", math.inf)


@mutant("polls", "A task that is older than its plan is not polled any more.", Kind.POLLED)
def not_polled_after_the_plan(patch: Patch) -> None:
    after = Plan.after

    def ever(plan: Plan, age: float) -> float | None:
        following = after(plan, age)
        return 1e6 if following is None else following

    def delay(
        learned: LearnedPolls, terms: PollTerms, progress: PollProgress, age: float, now: float
    ) -> float:
        plan = learned._plan(terms, now)
        following = None if plan is None else plan.after(age)
        if following == 1e6:
            return 1e6
        return original(learned, terms, progress, age, now)

    original = LearnedPolls.delay
    patch(Plan, "after", ever)
    patch(LearnedPolls, "delay", delay)


@mutant("polls", "Each poll is planned as if the task had just been accepted.", Kind.POLLED)
def planned_without_the_age(patch: Patch) -> None:
    delay = LearnedPolls.delay

    def just_accepted(
        learned: LearnedPolls, terms: PollTerms, progress: PollProgress, age: float, now: float
    ) -> float:
        return delay(learned, terms, progress, 0.0, now)

    patch(LearnedPolls, "delay", just_accepted)
