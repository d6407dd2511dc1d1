"""``python -m tests.tools.partition_states_page > docs/partition-states.md``: the diagram of the transition table."""

from __future__ import annotations

import sys

from daemon.runtime.partition_state import TRANSITIONS, PartitionState, PartitionTrigger

HEADER = """\
<!-- Made from daemon/runtime/partition_state.py by `python -m tests.tools.partition_states_page`; do not edit here. -->
# The states of a partition

The states of a partition that a replica holds, and the transitions between them. `runtime/partition.py` implements them.
`runtime/failures.py` maps each failure to its trigger (*failed* or *blocked*). From every state, *stopped* leads to
*stopping*, which is the final state.

| state | what happens in it | requests are sent | the input is read |
|---|---|---|---|
| opening | waits for a heartbeat that confirms the assignment, fences earlier owners, restores the journal | no | no |
| serving | reads, seals, commits, submits and polls | yes | yes |
| suspended | revoked while it was serving; may be assigned again at once. Commits what was decided | no | no |
| rejoining | assigned again. A commit has to prove that it had no other owner in between (R5) | no | no |
| blocked | waits for an operator; checks whether the journal has new records | no | no |
| stopping | commits what was decided, then ends | no | no |

"""


def page() -> str:
    lines = ["```mermaid", "stateDiagram-v2", "    [*] --> opening"]
    lines += [
        f"    {state} --> {following}: {trigger}"
        for (state, trigger), following in TRANSITIONS.items()
        if trigger is not PartitionTrigger.STOPPED
    ]
    lines += [f"    {PartitionState.STOPPING} --> [*]", "```", ""]
    rows = ["| in | when | then |", "|---|---|---|"]
    rows += [
        f"| {state} | {trigger} | {following} |"
        for (state, trigger), following in TRANSITIONS.items()
        if trigger is not PartitionTrigger.STOPPED
    ]
    return HEADER + "\n".join([*lines, *rows]) + "\n"


if __name__ == "__main__":
    sys.stdout.write(page())
