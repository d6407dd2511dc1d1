"""The Dockerfile, read."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "Dockerfile"


class Instruction(NamedTuple):
    keyword: str
    rest: str


def instructions() -> list[Instruction]:
    """Of the Dockerfile, continued lines joined."""
    text = re.sub(r"\\\n\s*", " ", DOCKERFILE.read_text(encoding="utf-8"))
    lines = (line for line in text.splitlines() if line and not line.startswith("#"))
    return [Instruction(keyword, rest) for keyword, _, rest in (line.partition(" ") for line in lines)]


def stages() -> dict[str, list[Instruction]]:
    """By name, in their order; each with the instructions of the stages that it is built from before its own. All have
    names.
    """
    found: dict[str, list[Instruction]] = {}
    name = ""
    for instruction in instructions():
        if instruction.keyword == "FROM":
            base, _, name = instruction.rest.partition(" AS ")
            found[name] = list(found.get(base, ()))
        elif name:
            found[name].append(instruction)
    return found
