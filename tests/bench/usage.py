"""CPU time, as Linux tells it."""

from __future__ import annotations

import os
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def process_seconds(pid: int) -> float:
    """What a running process and its threads have used so far; grains of 10 ms."""
    return _seconds(Path(f"/proc/{pid}/stat"))


def thread_seconds(pid: int) -> dict[int, float]:
    """What each thread of a running process has used so far, by its number."""
    return {int(each.name): _seconds(each / "stat") for each in Path(f"/proc/{pid}/task").iterdir()}


def _seconds(stat: Path) -> float:
    # After the name, which is in parentheses and may hold anything: fields 14 and 15 of proc(5).
    fields = stat.read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def machine_seconds() -> float:
    """What all processes have used so far, and what a hypervisor took."""
    user, nice, system, _idle, _iowait, irq, softirq, steal, *_ = map(
        int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    )
    return (user + nice + system + irq + softirq + steal) / _TICKS
