"""Deliberate bugs, one or more for each point of the contract and each rule.

Each is a few lines that replace a function of the daemon; nothing in the daemon knows of them. A
simulation that does not catch one of them is not sharp enough, whatever it says of the daemon.
"""

from tests.sim.mutants import (
    contract,
    deactivations,
    operators,
    pace,
    policies,
    polls,
    priorities,
    rejections,
    repeats,
    rules_answers,
    rules_known,
    rules_log,
    rules_sending,
    rules_takeover,
    scopes,
    traces,
)
from tests.sim.mutants.registry import MUTANTS, Mutant

__all__ = [
    "MUTANTS",
    "Mutant",
    "contract",
    "deactivations",
    "operators",
    "pace",
    "policies",
    "polls",
    "priorities",
    "rejections",
    "repeats",
    "rules_answers",
    "rules_known",
    "rules_log",
    "rules_sending",
    "rules_takeover",
    "scopes",
    "traces",
]
