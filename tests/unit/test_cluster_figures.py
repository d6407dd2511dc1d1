"""What `make cluster` computes: figures by phase. And which commands of the chart's README it takes."""

from __future__ import annotations

from tests.cluster.figures import Ending, Phase, rows
from tests.cluster.release import installation_commands

PHASES = [Phase("steady", 1_000), Phase("kill", 10_000, ["restarted"])]


def test_a_change_counts_for_the_phase_in_which_it_was_published() -> None:
    published = [((0, 0), 1_000), ((0, 1), 9_999), ((1, 0), 10_000)]
    endings = {(0, 0): Ending(1_200, 3_000), (0, 1): Ending(15_000, 15_500), (1, 0): Ending(10_100, 20_000)}

    steady, kill = rows(PHASES, 12_000, published, endings)

    assert (steady.name, steady.seconds, steady.changes) == ("steady", 9.0, 2)
    assert (steady.unread, steady.slowest) == (5.001, 5.501)
    assert (kill.name, kill.seconds, kill.changes) == ("kill", 2.0, 1)
    assert (kill.unread, kill.slowest) == (0.1, 10.0)
    assert list(kill.notes) == ["restarted"]


def test_what_came_before_or_never_ended_is_not_counted() -> None:
    published = [((0, 0), 999), ((0, 1), 5_000)]

    steady, kill = rows(PHASES, 12_000, published, {(0, 0): Ending(90_000, 90_000)})

    assert (steady.changes, steady.unread, kill.changes) == (0, 0.0, 0)


def test_the_commands_are_those_of_the_readme() -> None:
    """Whoever renames or reorders one there sees here what `make cluster` would run."""
    words = [line.split() for line in installation_commands()]
    assert [" ".join(line[:2]) if line[0] == "helm" else line[0] for line in words] == [
        "kubectl",
        "kubectl",
        "kubectl",
        "helm show",
        "helm lint",
        "helm template",
        "helm upgrade",
        "kubectl",
        "helm test",
    ]
    assert all("values.yaml" in line for line in words if line[1] in ("lint", "template", "upgrade"))
    assert words[7][-2:] == ["--replication-factor", "1"]
