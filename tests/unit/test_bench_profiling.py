"""How samples are counted by `make profile`."""

from __future__ import annotations

import pytest

from tests.bench.profiling import OTHER, area_of, read_samples, short

MAIN = "thread (17): MainThread"
LOOP = "BaseEventLoop._run_once (/usr/lib/python3.11/asyncio/base_events.py:1922)"
DECODE = "decode (/srv/daemon/codec/decode.py:120)"
SEND = "ClientRequest.send (/srv/.venv/lib/python3.11/site-packages/aiohttp/client_reqrep.py:1629)"


@pytest.mark.parametrize(
    ("stack", "area"),
    [
        ((MAIN, LOOP), "asyncio"),
        ((MAIN, LOOP, DECODE), "change: decode"),
        ((MAIN, LOOP, DECODE, "loads (/usr/lib/python3.11/json/__init__.py:346)"), "change: decode"),
        ((MAIN, DECODE, SEND), "API: HTTP client"),
        ((MAIN, "f (/srv/elsewhere.py:1)"), OTHER),
    ],
)
def test_a_sample_belongs_to_its_innermost_named_area(stack: tuple[str, ...], area: str) -> None:
    assert area_of(stack) == area


def test_equal_stacks_are_added_up() -> None:
    lines = [f"{MAIN};{LOOP} 2", f"{MAIN};{LOOP};{DECODE} 1", f"{MAIN};{LOOP} 3"]
    assert read_samples(lines) == {(MAIN, LOOP): 5, (MAIN, LOOP, DECODE): 1}


def test_a_place_is_shown_below_the_folder_of_packages() -> None:
    assert short(DECODE) == "decode (daemon/codec/decode.py:120)"
    assert short(SEND) == "ClientRequest.send (site-packages/aiohttp/client_reqrep.py:1629)"
