"""Imports go down only, and each foreign library stays in the room that is made for it.

    cli → runtime | admin | sandbox → log | kombo | telemetry → codec → core → config

Read from the source text, imports inside functions and under TYPE_CHECKING included.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "daemon"

BELOW = {
    "config": set(),
    "core": {"config"},  # the settings are frozen values
    "codec": {"core", "config"},
    "log": {"codec", "core", "config"},
    "kombo": {"codec", "core", "config"},
    "telemetry": {"codec", "core", "config"},
    "runtime": {"log", "kombo", "telemetry", "codec", "core", "config"},
    "admin": {"log", "kombo", "telemetry", "codec", "core", "config"},
    "sandbox": {"log", "kombo", "codec", "core", "config"},
}
"""Which rooms each room may import. What is not named here belongs to the command line, which may import everything
and which nobody imports: single modules of the package, and its commands."""

COMMANDS = "commands"

CLI = "cli"

LIBRARIES = {
    "config": set(),
    "core": {"msgspec"},
    "codec": {"msgspec"},
    "log": {"kafka", "structlog"},
    "kombo": {"aiohttp", "httpx", "httpx_aiohttp", "msgspec", "structlog"},
    "telemetry": {"prometheus_client", "structlog"},
    "runtime": {"msgspec", "structlog"},
    "admin": {"aiohttp", "msgspec", "structlog"},
}
"""Libraries that a room may use; the command line and the sandbox are free to. Types of Kafka's and of
HTTP's clients so end where their rooms do."""

PURE = {
    "__future__", "bisect", "collections", "dataclasses", "enum", "functools", "hashlib", "heapq",
    "itertools", "math", "operator", "random", "re", "string", "struct", "types", "typing", "zlib",
}  # fmt: skip
"""What the core may take from the standard library: no I/O, no clock, no threads. `random` only for the
class `Random`, an argument that its caller has seeded."""

APART = ("daemon.sandbox.checker", "daemon.sandbox.simulator")
APART_MAY_IMPORT = ("daemon.core.model", "daemon.codec", "daemon.sandbox")
"""The checker and the simulator judge and stand in for others: they must not think with the daemon's head."""

APART_EXCEPTIONS = {
    "daemon.sandbox.checker.command": {
        "daemon.config.units.parse_duration",
        "daemon.log.kafka.clients.KafkaConnection",
        "daemon.log.port.LogError",
    },
    "daemon.sandbox.checker.readers": {
        "daemon.log.kafka.clients.KafkaConnection",
        "daemon.log.plain.read_topic",
    },
}
"""Name by name: how the checker's shell reaches a cluster. What judges has no exception."""


# --- reading --------------------------------------------------------------------------------------


def sources() -> dict[str, str]:
    """Source text by dotted module name; a package by its own name."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = path.read_text(encoding="utf-8")
    return found


def packages() -> set[str]:
    return {path.parent.name for path in ROOT.glob("*/__init__.py")}


def imports(module: str, source: str, *, is_package: bool) -> Iterator[str]:
    """Each module or name that is imported, dotted and absolute."""
    own_package = module.split(".") if is_package else module.split(".")[:-1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = own_package[: len(own_package) - node.level + 1] if node.level else []
            parts = [*base, *(node.module.split(".") if node.module else [])]
            yield from (".".join([*parts, alias.name]) for alias in node.names)


def room_of(module: str, rooms: set[str]) -> str | None:
    """The room of a module of ours; None for the package itself (its version)."""
    parts = module.split(".")
    if len(parts) < 2 or parts[1] not in rooms:
        return None
    return parts[1] if parts[1] in BELOW else CLI


# --- judging --------------------------------------------------------------------------------------


def violations(files: Mapping[str, str]) -> list[str]:
    rooms = {name.split(".")[1] for name in files if "." in name}
    found = []
    for module, source in files.items():
        room = room_of(module, rooms)
        is_package = any(other.startswith(f"{module}.") for other in files)
        found.extend(
            f"{module} imports {target}: {why}"
            for target in imports(module, source, is_package=is_package)
            if (why := _objection(module, room, target, rooms))
        )
    found.extend(_impurities(files))
    return found


def _objection(module: str, room: str | None, target: str, rooms: set[str]) -> str | None:
    top = target.partition(".")[0]
    if top == "daemon":
        return _objection_within(module, room, target, rooms)
    if top in sys.stdlib_module_names:
        return "the core is pure" if room == "core" and top not in PURE else None
    if room in LIBRARIES and top not in LIBRARIES[room]:
        return f"{top} does not belong into {room}"
    return None


def _objection_within(module: str, room: str | None, target: str, rooms: set[str]) -> str | None:
    if module.startswith(APART) and target.startswith("daemon.") and room_of(target, rooms):
        excepted = target in APART_EXCEPTIONS.get(module, ())
        if not (excepted or target.startswith(APART_MAY_IMPORT)):
            return "it must know nothing of the daemon's inside"
        return None
    other = room_of(target, rooms)
    if other is None or room in (other, CLI):
        return None
    if room is None:
        return "the package itself imports nothing of its rooms"
    return None if other in BELOW[room] else f"{room} does not stand above {other}"


def _impurities(files: Mapping[str, str]) -> Iterator[str]:
    """What needs no import: files and terminals; and randomness that nobody has seeded."""
    for module, source in files.items():
        if not module.startswith("daemon.core"):
            continue
        for node in ast.walk(ast.parse(source)):
            match node:
                case ast.Call(func=ast.Name(id="open" | "print" | "input" as name)):
                    yield f"{module} calls {name}: the core is pure"
                case ast.Attribute(value=ast.Name(id="random"), attr=name) if name != "Random":
                    yield f"{module} uses random.{name}: the core has no randomness of its own"
                case ast.ImportFrom(module="random", names=names) if {n.name for n in names} != {"Random"}:
                    yield f"{module} imports from random: the core has no randomness of its own"


def circle(files: Mapping[str, str]) -> list[str]:
    """Modules that import each other in a circle, if there are any; also by imports inside functions."""

    def module_of(target: str) -> str:
        return target if target in files else target.rpartition(".")[0]

    graph = {
        module: {
            module_of(target)
            for target in imports(module, source, is_package=any(f.startswith(f"{module}.") for f in files))
        }
        & files.keys() - {module}
        for module, source in files.items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        found: list[str] = error.args[1]
        return found
    return []


# --- the tests ------------------------------------------------------------------------------------


def test_imports_go_down_only():
    assert violations(sources()) == []


def test_no_modules_import_each_other_in_a_circle():
    assert circle(sources()) == []
    assert circle({"daemon.a": "def f():\n    from daemon.b import c", "daemon.b": "import daemon.a"}) != []


def test_no_exception_outlives_its_use():
    seen = sources()
    for module, excepted in APART_EXCEPTIONS.items():
        assert excepted <= set(imports(module, seen[module], is_package=False)), module


def test_every_package_has_its_place():
    assert packages() <= {*BELOW, COMMANDS}, "say in BELOW where the new package stands"


def test_the_test_sees_the_files():
    seen = sources()
    assert len(seen) > 30
    assert {room_of(module, {name.split(".")[1] for name in seen if "." in name}) for module in seen} >= {
        *BELOW,
        CLI,
    }
    every = [t for module, source in seen.items() for t in imports(module, source, is_package=False)]
    assert sum(target.startswith("daemon.") for target in every) > 50


@pytest.mark.parametrize(
    ("module", "planted", "why"),
    [
        ("daemon.core.shard", "import daemon.codec.decode", "core does not stand above codec"),
        ("daemon.core.shard", "from daemon import runtime", "core does not stand above runtime"),
        ("daemon.core.shard", "def f():\n    from daemon.log.port import Record", "core does not stand above log"),
        ("daemon.core.shard", "from ..codec import decode", "core does not stand above codec"),
        ("daemon.core.shard", "import time", "the core is pure"),
        ("daemon.core.shard", "from datetime import datetime", "the core is pure"),
        ("daemon.core.shard", "import structlog", "structlog does not belong into core"),
        ("daemon.core.shard", "import random\nrandom.random()", "no randomness of its own"),
        ("daemon.core.shard", "from random import uniform", "no randomness of its own"),
        ("daemon.core.shard", "open('x')", "the core is pure"),
        ("daemon.codec.decode", "from daemon.telemetry.metrics import Metrics", "codec does not stand above"),
        ("daemon.log.port", "from daemon.kombo import port", "log does not stand above kombo"),
        ("daemon.telemetry.metrics", "from daemon.admin import AdminServer", "telemetry does not stand above"),
        ("daemon.runtime.ports", "from daemon.admin import AdminServer", "runtime does not stand above admin"),
        ("daemon.runtime.ports", "from daemon.sandbox import broker", "runtime does not stand above sandbox"),
        ("daemon.runtime.ports", "from daemon.cli import main", "runtime does not stand above cli"),
        ("daemon.runtime.ports", "from daemon.commands import run", "runtime does not stand above cli"),
        ("daemon.runtime.ports", "import kafka.errors", "kafka does not belong into runtime"),
        ("daemon.runtime.ports", "import httpx", "httpx does not belong into runtime"),
        ("daemon.admin", "from daemon.runtime import ports", "admin does not stand above runtime"),
        ("daemon.sandbox.broker", "from daemon.runtime import ports", "sandbox does not stand above runtime"),
        ("daemon.sandbox.simulator.state", "from daemon.core.shard import Shard", "know nothing of the daemon's"),
        ("daemon.sandbox.checker.judging", "from daemon.log.plain import read_topic", "know nothing of the"),
        ("daemon.sandbox.checker.readers", "from daemon.log.plain import write", "know nothing of the daemon's"),
        ("daemon", "from daemon.core import model", "the package itself"),
    ],
)  # fmt: skip
def test_a_planted_violation_is_found(module, planted, why):
    files = {**dict.fromkeys(sources(), ""), module: planted}
    (found,) = violations(files)
    assert found.startswith(module)
    assert why in found


@pytest.mark.parametrize(
    ("module", "allowed"),
    [
        ("daemon.core.shard", "import random\ndef f(rng: random.Random) -> None: ..."),
        ("daemon.core.shard", "from daemon.core import journal\nimport msgspec"),
        ("daemon.kombo.client", "from daemon import __version__\nimport httpx, time"),
        ("daemon.sandbox.simulator.state", "from daemon.sandbox.simulator.wire import x"),
        ("daemon.sandbox.simulator.state", "from daemon.core.model import Status"),
        ("daemon.cli", "from daemon.sandbox import broker\nfrom daemon.runtime import ports\nimport rich"),
    ],
)
def test_what_is_allowed_is_not_found(module, allowed):
    assert violations({**dict.fromkeys(sources(), ""), module: allowed}) == []
