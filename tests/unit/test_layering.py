"""Imports go down only, each foreign library stays in the package that is made for it, and `daemon` knows no tests.

    entry → cli → console → commands → runtime | admin → log | kombo | telemetry → codec → core, config
    tests → daemon

Read from the source text, imports inside functions and under TYPE_CHECKING included.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
READ = ("daemon", "tests/sandbox", "tests/embedded_log")

BELOW = {
    "config": set(),
    "core": {"config"},  # the settings are frozen values
    "codec": {"core", "config"},
    "log": {"codec", "core", "config"},
    "kombo": {"codec", "core", "config"},
    "telemetry": {"codec", "core", "config"},
    "runtime": {"log", "kombo", "telemetry", "codec", "core", "config"},
    "admin": {"log", "kombo", "telemetry", "codec", "core", "config"},
    "allocator": set(),
    "stop_signals": set(),
    "commands": {
        "runtime", "admin", "log", "kombo", "telemetry", "codec", "core", "config", "allocator", "stop_signals",
    },
    "console": {
        "commands", "runtime", "admin", "log", "telemetry", "codec", "core", "config", "allocator", "stop_signals",
    },
    "cli": {"commands", "console"},
    "entry": {"cli", "stop_signals"},
}  # fmt: skip
"""Which others each package, or single module, of `daemon` may import."""

LIBRARIES = {
    "config": set(),
    "core": {"msgspec", "murmurhash2"},
    "codec": {"msgspec"},
    "log": {"aws_msk_iam_sasl_signer", "cramjam", "httpx", "kafka", "lz4", "structlog", "zstandard"},
    "kombo": {"aiohttp", "httpx", "msgspec", "structlog"},
    "telemetry": {"opentelemetry", "prometheus_client", "structlog"},
    "runtime": {"msgspec", "structlog"},
    "admin": {"aiohttp", "msgspec", "structlog"},
    "console": {"aiohttp", "click", "jinja2", "markupsafe", "msgspec", "structlog", "yarl"},
}
"""Libraries that a package may use; the command line may use all. So no type of a Kafka or HTTP client leaves the
package that wraps it."""

PURE = {
    "__future__", "array", "bisect", "collections", "dataclasses", "enum", "functools", "hashlib", "heapq",
    "itertools", "math", "operator", "random", "re", "string", "struct", "types", "typing", "zlib",
}  # fmt: skip
"""What the core may take from the standard library: no I/O, no clock, no threads. `random` only for the
class `Random`, an argument that its caller has seeded."""

SANDBOX_TAKES: dict[str, set[str]] = {
    "tests.embedded_log": {"daemon.core.placement.place", "daemon.log.errors", "daemon.log.port"},
    "tests.sandbox": {
        "daemon.config.units",
        "daemon.core.model.Status",
        "daemon.log.errors",
        "daemon.log.kafka.clients",
        "daemon.log.topic_access",
        "daemon.log.port",
    },
    "tests.sandbox.demo.in_process": {"daemon"},
    "tests.sandbox.simulator": set(),
    "tests.sandbox.checker": set(),
    "tests.sandbox.checker.command": {
        "daemon.config.units.parse_duration",
        "daemon.log.kafka.clients.KafkaConnection",
        "daemon.log.errors.LogError",
    },
    "tests.sandbox.checker.readers": {
        "daemon.log.kafka.clients.KafkaConnection",
        "daemon.log.topic_access.read_topic",
    },
}
"""What the sandbox takes from the daemon, by the longest name that fits the module: it drives the daemon as a process.
The log in memory takes the port that it stands behind.
The checker and the simulator judge and stand in for others, so they must not think with the daemon's head: the checker's
shell takes the way to a cluster, name by name, and what judges takes nothing."""


# --- reading --------------------------------------------------------------------------------------


def sources() -> dict[str, str]:
    """Source text by dotted module name; a package by its own name."""
    found = {}
    for path in sorted(path for folder in READ for path in (ROOT / folder).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = path.read_text(encoding="utf-8")
    return found


def belongs_to(target: str, name: str) -> bool:
    return target == name or target.startswith(f"{name}.")


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


def place_of(module: str) -> str | None:
    """The package, or single module, of `daemon` that it belongs to; None for `daemon` itself (its version)."""
    second = module.split(".")[1:2]
    return second[0] if second and second[0] in BELOW else None


# --- judging --------------------------------------------------------------------------------------


def violations(files: Mapping[str, str]) -> list[str]:
    found: list[str] = []
    for module, source in files.items():
        objection = _objection_to_sandbox if belongs_to(module, "tests") else _objection
        is_package = any(other.startswith(f"{module}.") for other in files)
        found.extend(
            f"{module} imports {target}: {why}"
            for target in imports(module, source, is_package=is_package)
            if (why := objection(module, target))
        )
    found.extend(_impurities(files))
    return found


def _objection(module: str, target: str) -> str | None:
    top, place = target.partition(".")[0], place_of(module)
    if top == "tests":
        return "production knows nothing of what tries it"
    if top == "daemon":
        other = place_of(target)
        if other is None or other == place:
            return None
        if place is None:
            return "the package itself imports nothing of its parts"
        return None if other in BELOW[place] else f"{place} does not stand above {other}"
    if top in sys.stdlib_module_names:
        return "the core is pure" if place == "core" and top not in PURE else None
    if place in LIBRARIES and top not in LIBRARIES[place]:
        return f"{top} does not belong into {place}"
    return None


def _objection_to_sandbox(module: str, target: str) -> str | None:
    if belongs_to(target, "tests"):
        held = any(belongs_to(target, folder.replace("/", ".")) for folder in READ)
        return None if held else "the sandbox's image holds no other tests"
    rule = _rule_for(module)
    if belongs_to(target, "daemon") and not any(belongs_to(target, name) for name in SANDBOX_TAKES[rule]):
        return f"{rule} takes no more of the daemon than SANDBOX_TAKES says"
    return None


def _rule_for(module: str) -> str:
    return max((name for name in SANDBOX_TAKES if belongs_to(module, name)), key=len)


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


def test_imports_go_down_only() -> None:
    assert violations(sources()) == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert circle(sources()) == []
    assert circle({"daemon.a": "def f():\n    from daemon.b import c", "daemon.b": "import daemon.a"}) != []


def test_the_sandbox_takes_nothing_that_it_no_longer_uses() -> None:
    taken: dict[str, set[str]] = {name: set() for name in SANDBOX_TAKES}
    for module, source in sources().items():
        if belongs_to(module, "tests"):
            taken[_rule_for(module)] |= set(imports(module, source, is_package=False))
    for rule, names in SANDBOX_TAKES.items():
        for name in names:
            assert any(belongs_to(target, name) for target in taken[rule]), f"{rule} takes no {name}"


def test_every_package_and_module_has_its_place() -> None:
    there = {path.parent.name for path in (ROOT / "daemon").glob("*/__init__.py")}
    there |= {path.stem for path in (ROOT / "daemon").glob("*.py")} - {"__init__"}
    assert there == set(BELOW), "say in BELOW where the new package stands"


def test_the_test_sees_the_files() -> None:
    seen = sources()
    assert sum(belongs_to(module, "daemon") for module in seen) > 100
    assert sum(belongs_to(module, "tests") for module in seen) > 40
    every = [t for module, source in seen.items() for t in imports(module, source, is_package=False)]
    assert sum(belongs_to(target, "daemon") for target in every) > 300


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
        ("daemon.runtime.ports", "from tests.sandbox import broker", "production knows nothing"),
        ("daemon.cli", "def f():\n    import tests.sandbox.cli", "production knows nothing"),
        ("daemon.commands.run", "from daemon.cli import main", "commands does not stand above cli"),
        ("daemon.runtime.ports", "from daemon.cli import main", "runtime does not stand above cli"),
        ("daemon.runtime.ports", "from daemon.commands import run", "runtime does not stand above commands"),
        ("daemon.runtime.ports", "import kafka.errors", "kafka does not belong into runtime"),
        ("daemon.runtime.ports", "import httpx", "httpx does not belong into runtime"),
        ("daemon.admin", "from daemon.runtime import ports", "admin does not stand above runtime"),
        ("tests.sandbox.broker", "from daemon.runtime import ports", "takes no more of the daemon"),
        ("tests.sandbox.broker", "from daemon.core.model import Change", "takes no more of the daemon"),
        ("tests.embedded_log.group", "from daemon.log.kafka import log", "takes no more of the daemon"),
        ("daemon.log.port", "from tests.embedded_log import EmbeddedLog", "production knows nothing"),
        ("tests.sandbox.broker", "from tests.unit import core_bench", "holds no other tests"),
        ("tests.sandbox.simulator.state", "from daemon.core.model import Status", "simulator takes no more"),
        ("tests.sandbox.checker.judging", "from daemon.log.topic_access import read_topic", "checker takes no more"),
        ("tests.sandbox.checker.readers", "from daemon.log.topic_access import write", "readers takes no more"),
        ("daemon", "from daemon.core import model", "the package itself"),
    ],
)  # fmt: skip
def test_a_planted_violation_is_found(module: str, planted: str, why: str) -> None:
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
        ("tests.sandbox.simulator.state", "from tests.sandbox.simulator.wire import x"),
        ("tests.sandbox.stack", "from daemon.log.port import Topics\nimport structlog"),
        ("tests.sandbox.demo.in_process", "from daemon.runtime.engine import Engine"),
        (
            "daemon.commands.run",
            "from daemon.admin import AdminServer\nfrom daemon.runtime import ports\nimport rich",
        ),
        ("daemon.cli", "def f():\n    from daemon.commands.run import run"),
    ],
)
def test_what_is_allowed_is_not_found(module: str, allowed: str) -> None:
    assert violations({**dict.fromkeys(sources(), ""), module: allowed}) == []
