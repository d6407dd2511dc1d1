"""What a mutant is, and how it is applied: from outside, to the daemon's own code, for a while."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from tests.sim.parameters import Kind

Patch = Callable[[Any, str, Any], None]
"""Target, attribute, replacement: `patch(Shard, "tick", other_tick)`."""


@dataclass(frozen=True)
class Mutant:
    """A deliberate bug."""

    name: str
    rule: str
    """What it breaks: a point of the contract (`C1` to `C10`), or a rule (`R1` to `R21`)."""
    breaks: str
    """In a sentence."""
    kind: Kind | None
    """The only kind of history in which it can show; None: any."""
    apply: Callable[[Patch], None]

    @contextmanager
    def applied(self) -> Iterator[None]:
        with ExitStack() as stack:

            def replace(target: Any, attribute: str, replacement: Any) -> None:
                what = f"{target.__name__}.{attribute}"
                assert hasattr(target, attribute), f"there is no {what}: {self.name} is out of date"
                _assert_stands_in(self.name, what, getattr(target, attribute), replacement)
                stack.enter_context(patch.object(target, attribute, replacement))

            self.apply(replace)
            yield


def _assert_stands_in(mutant: str, what: str, original: Any, replacement: Any) -> None:
    """A stand-in that can not be called as the original would die of it, and count as caught."""
    if not callable(original):
        return
    positional = [
        parameter.name
        for parameter in inspect.signature(original).parameters.values()
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
        and parameter.default is parameter.empty
    ]
    named = {
        parameter.name: None
        for parameter in inspect.signature(original).parameters.values()
        if parameter.kind is parameter.KEYWORD_ONLY and parameter.default is parameter.empty
    }
    try:
        inspect.signature(replacement).bind(*positional, **named)
    except TypeError as error:
        raise AssertionError(f"{mutant} is out of date: {what} is called otherwise: {error}") from None


MUTANTS: list[Mutant] = []


def mutant(
    rule: str, breaks: str, kind: Kind | None = None
) -> Callable[[Callable[[Patch], None]], Callable[[Patch], None]]:
    """Register the decorated function as the mutant of that name."""

    def register(apply: Callable[[Patch], None]) -> Callable[[Patch], None]:
        name = apply.__name__.replace("_", "-")
        assert all(known.name != name for known in MUTANTS), f"two mutants are called {name}"
        MUTANTS.append(Mutant(name, rule, breaks, kind, apply))
        return apply

    return register
