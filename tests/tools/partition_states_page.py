"""``python -m tests.tools.partition_states_page > docs/partition-states.md``: the drawing of the table of transitions."""

from __future__ import annotations

import sys

from daemon.runtime.partition_state import TRANSITIONS, State, Trigger

HEADER = """\
<!-- Made from daemon/runtime/partition_state.py by `python -m tests.tools.partition_states_page`; do not edit here. -->
# The states of a partition

What a replica does with one partition that it holds, and what moves it on. `runtime/partition.py` carries it out;
`runtime/failures.py` says what each failure leads to (*failed* or *blocked*). From every state *stopped* leads to
*stopping*, and nothing leads out of that one.

| state | what happens in it | requests leave | the input is read |
|---|---|---|---|
| opening | waits for a heartbeat that confirms the assignment, fences earlier owners, restores the journal | no | no |
| serving | reads, seals, commits, submits and polls | yes | yes |
| suspended | revoked while it was serving; may come straight back. Commits what was decided | no | no |
| rejoining | assigned again. A commit has to prove that nobody owned it in between (R5) | no | no |
| blocked | waits for a person; looks whether somebody has written to the journal | no | no |
| stopping | commits what was decided, then ends | no | no |

"""


def page() -> str:
    lines = ["```mermaid", "stateDiagram-v2", "    [*] --> opening"]
    lines += [
        f"    {state} --> {following}: {trigger}"
        for (state, trigger), following in TRANSITIONS.items()
        if trigger is not Trigger.STOPPED
    ]
    lines += [f"    {State.STOPPING} --> [*]", "```", ""]
    rows = ["| in | when | then |", "|---|---|---|"]
    rows += [
        f"| {state} | {trigger} | {following} |"
        for (state, trigger), following in TRANSITIONS.items()
        if trigger is not Trigger.STOPPED
    ]
    return HEADER + "\n".join([*lines, *rows]) + "\n"


if __name__ == "__main__":
    sys.stdout.write(page())
