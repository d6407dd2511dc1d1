"""All operations, by their name in the journal."""

from __future__ import annotations

from daemon.core.deactivate import DEACTIVATE
from daemon.core.operation import Operation
from daemon.core.upsert import UPSERT

OPERATIONS: dict[str, Operation] = {operation.name: operation for operation in (UPSERT, DEACTIVATE)}
