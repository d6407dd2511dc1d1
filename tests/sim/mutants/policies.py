"""Bugs in the settings of single integrations: the wrong table counts, or the wrong tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from daemon.config import Policies, Policy, PolicyTable
from daemon.config import policy as policy_module
from daemon.config.policy_tables import applying, merged
from daemon.core.batch import LateTask, OpenTask
from daemon.core.flow import Flow
from daemon.core.judge import Judge, PollRuling
from daemon.core.lane import Lane
from daemon.core.model import Now
from daemon.core.own_rates import OwnRates
from daemon.core.rate import Rate
from daemon.core.schedule import PollIntervals
from daemon.core.sealing import Sealing
from daemon.runtime.engine import Engine
from daemon.runtime.poller import Poller
from tests.sim.mutants.registry import Patch, mutant
from tests.sim.parameters import Kind


def _apply_otherwise(patch: Patch, order: Any) -> None:
    """`order` sorts the tables that apply, or leaves some out."""
    patch(policy_module, "applying", lambda tables, name: order(applying(tables, name), name))


@mutant("policy", "Of two patterns, the shorter one counts.", Kind.POLICIES)
def shorter_pattern_counts(patch: Patch) -> None:
    def order(chain: list[PolicyTable], name: str) -> list[PolicyTable]:
        exact = [table for table in chain if table.name == name]
        return exact + [table for table in reversed(chain) if table.name != name]

    _apply_otherwise(patch, order)


@mutant("policy", "A pattern counts before the exact id.", Kind.POLICIES)
def pattern_beats_the_exact_id(patch: Patch) -> None:
    _apply_otherwise(patch, lambda chain, name: sorted(chain, key=lambda table: table.prefix is None))


@mutant(
    "policy", "Only the most specific table counts, also for settings that it does not name.", Kind.POLICIES
)
def one_table_alone(patch: Patch) -> None:
    _apply_otherwise(patch, lambda chain, name: chain[:1])


@mutant("policy", "An exact id also counts for longer ids.", Kind.POLICIES)
def exact_id_as_a_pattern(patch: Patch) -> None:
    found = Policies._found

    def begins_alike(policies: Policies, integration_id: str) -> Policy:
        for name, policy in policies._exact.items():
            if integration_id.startswith(name[:-1]):
                return policy
        return found(policies, integration_id)

    patch(Policies, "_found", begins_alike)


@mutant("policy", "An integration may get the policy of the one that was asked for before it.", Kind.POLICIES)
def policy_of_another_integration(patch: Patch) -> None:
    call = Policies.__call__

    def mixed_up(policies: Policies, integration_id: str) -> Policy:
        remembered = policies._remembered
        if integration_id not in remembered and remembered:
            return next(reversed(remembered.values()))
        return call(policies, integration_id)

    patch(Policies, "__call__", mixed_up)


@mutant("policy", "Changed tables are ignored.", Kind.POLICIES)
def reload_ignored(patch: Patch) -> None:
    def ignore(engine: Engine, tables: Sequence[PolicyTable]) -> None:
        """Keep the earlier ones."""

    patch(Engine, "use_policies", ignore)


@mutant("policy", "Changed tables count only for integrations that were not seen before.", Kind.POLICIES)
def remembered_through_a_reload(patch: Patch) -> None:
    use = Policies.use

    def remember(policies: Policies, tables: Sequence[PolicyTable]) -> None:
        remembered = getattr(policies, "_remembered", {})
        use(policies, tables)
        policies._remembered = remembered

    patch(Policies, "use", remember)


@mutant("policy", "After a change of tables, the window in use stays as it was.", Kind.POLICIES)
def window_stays_after_a_reload(patch: Patch) -> None:
    patch(Flow, "policies_changed", lambda flow, now: None)


@mutant("policy", "Every task has the common time-out.", Kind.POLICIES)
def common_time_out(patch: Patch) -> None:
    poll = Judge.poll

    def by_default(judge: Judge, task: OpenTask, answer: Any, sent_with: int, now: Now) -> PollRuling:
        policy = judge._policy
        judge._policy = Policies(policy._settings)
        ruling = poll(judge, task, answer, sent_with, now)
        judge._policy = policy
        return ruling

    patch(Judge, "poll", by_default)


@mutant("policy", "Every timed-out task is watched for the common time.", Kind.POLICIES)
def common_watch(patch: Patch) -> None:
    late = Judge.late

    def by_default(judge: Judge, task: LateTask, answer: Any, sent_with: int, now: Now) -> PollRuling:
        policy = judge._policy
        judge._policy = Policies(policy._settings)
        ruling = late(judge, task, answer, sent_with, now)
        judge._policy = policy
        return ruling

    patch(Judge, "late", by_default)


@mutant("policy", "Batches have the common size.", Kind.POLICIES)
def common_batch_size(patch: Patch) -> None:
    seal_lane = Sealing.seal_lane

    def by_default(sealing: Sealing, lane: Lane, now: Now, *, partial: bool) -> None:
        memory = sealing._memory
        policy = memory.policy
        common = Policies(policy._settings)("")

        class Mixed:
            def __call__(self, integration_id: str) -> Any:
                own = policy(integration_id)
                return Policy(
                    common.batch,
                    own.window,
                    own.task,
                    own.poll,
                    own.retry,
                    own.wait,
                    own.unchanged,
                    own.requests_per_second_max,
                )

        memory.policy = Mixed()  # type: ignore[assignment]
        seal_lane(sealing, lane, now, partial=partial)
        memory.policy = policy

    patch(Sealing, "seal_lane", by_default)


@mutant("policy", "Each partition keeps the common window.", Kind.POLICIES)
def common_window(patch: Patch) -> None:
    patch(
        Sealing,
        "_window_open",
        lambda sealing, lane, queue: lane.open_batches < sealing._memory.settings.window.batches_max,
    )


@mutant("policy", "Tasks are polled at the common intervals.", Kind.POLICIES)
def common_poll_intervals(patch: Patch) -> None:
    def by_default(poller: Poller, _task: OpenTask | LateTask) -> PollIntervals:
        poll = poller._ports.settings.poll
        return PollIntervals(poll.first_after, poll.factor, poll.interval_max)

    patch(Poller, "_intervals", by_default)


@mutant("policy", "The own rate of an integration is not kept.", Kind.POLICIES)
def own_rate_ignored(patch: Patch) -> None:
    patch(OwnRates, "of", lambda rates, integration_id, now: None)


@mutant("policy", "Polls do not count towards the own rate of their integration.", Kind.POLICIES)
def polls_go_beside_the_own_rate(patch: Patch) -> None:
    may_poll = Flow.may_poll
    patch(Flow, "may_poll", lambda flow, now, integration_id=None: may_poll(flow, now))
    patch(Flow, "own_poll_due", lambda flow, integration_id, now: None)


@mutant("policy", "A lower own rate is not noticed when the tables change.", Kind.POLICIES)
def own_rate_stays_after_a_reload(patch: Patch) -> None:
    of = OwnRates.of

    def keep(rates: OwnRates, integration_id: str, now: float) -> Rate | None:
        known = rates._rates.get(integration_id)
        found = of(rates, integration_id, now)
        if known is not None and found is not None:
            rates._rates[integration_id] = (known[0], now)
            return known[0]
        return found

    patch(OwnRates, "of", keep)


@mutant("policy", "Changes are compared by the common `unchanged.trust_for`.", Kind.POLICIES)
def common_trust(patch: Patch) -> None:
    def without(settings: Any, chain: Iterable[PolicyTable]) -> Any:
        kept = [
            PolicyTable(t.name, {k: v for k, v in t.values.items() if k != "unchanged.trust_for"})
            for t in chain
        ]
        return merged(settings, kept)

    patch(policy_module, "merged", without)


@mutant(
    "policy", "Failed attempts are repeated as often and as late as the common settings say.", Kind.POLICIES
)
def common_retries(patch: Patch) -> None:
    def without(settings: Any, chain: Iterable[PolicyTable]) -> Any:
        kept = [
            PolicyTable(t.name, {k: v for k, v in t.values.items() if not k.startswith(("retry.", "wait."))})
            for t in chain
        ]
        return merged(settings, kept)

    patch(policy_module, "merged", without)
