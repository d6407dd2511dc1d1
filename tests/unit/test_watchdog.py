"""A process of which a loop has gone silent is ended; one that was only stopped for a while is not."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping

from daemon.runtime.watchdog import EXIT_SILENT, Watchdog


class Time:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def watched(
    time: Time, silences: Mapping[str, Callable[[], float]] | None = None
) -> tuple[Watchdog, list[str]]:
    deaths: list[str] = []
    watchdog = Watchdog(60.0, clock=time, die=deaths.append)
    watchdog.watch("event loop", lambda: time.now - watchdog._beat_at)
    for name, silence in (silences or {}).items():
        watchdog.watch(name, silence)
    return watchdog, deaths


def go_on(watchdog: Watchdog, time: Time, seconds: float, *, beating: bool) -> None:
    for _ in range(int(seconds / 6)):
        time.now += 6.0
        if beating:
            watchdog.beat()
        watchdog.look()


def test_a_loop_that_goes_round_lives() -> None:
    time = Time()
    watchdog, deaths = watched(time, {"consumer": lambda: 1.0})
    go_on(watchdog, time, 600, beating=True)
    assert deaths == []


def test_a_silent_event_loop_ends_the_process_after_a_minute() -> None:
    time = Time()
    watchdog, deaths = watched(time)
    go_on(watchdog, time, 54, beating=False)
    assert deaths == []
    go_on(watchdog, time, 12, beating=False)
    assert "event loop has been silent for 66 s" in deaths[0]


def test_a_silent_consumer_ends_the_process_though_the_event_loop_goes_round() -> None:
    time = Time()
    watchdog, deaths = watched(time, {"consumer": lambda: time.now - 1000.0})
    go_on(watchdog, time, 66, beating=True)
    assert "consumer has been silent for 66 s" in deaths[0]


def test_a_process_that_was_stopped_as_a_whole_gets_its_chance() -> None:
    time = Time()
    watchdog, deaths = watched(time)
    time.now += 600.0  # as by SIGSTOP
    watchdog.look()
    assert deaths == []
    go_on(watchdog, time, 60, beating=True)
    assert deaths == []


def test_what_a_process_was_stopped_in_the_middle_of_gets_its_chance_too() -> None:
    """A call that was under way was silent for all that time, and needs another while to end."""
    time = Time()
    watchdog, deaths = watched(time, {"commit": lambda: time.now - 1000.0})
    time.now += 600.0
    watchdog.look()
    go_on(watchdog, time, 54, beating=True)
    assert deaths == []
    go_on(watchdog, time, 12, beating=True)
    assert "commit has been silent for 66 s" in deaths[0]


def test_the_real_end_has_an_exit_code_and_the_stacks_of_all_threads() -> None:
    program = (
        "import time\n"
        "from daemon.runtime.watchdog import Watchdog\n"
        "watchdog = Watchdog(0.2)\n"
        "watchdog.start()\n"
        "def hangs(): time.sleep(3600)\n"
        "hangs()\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == EXIT_SILENT
    assert "in hangs" in ended.stderr
    assert "the event loop has been silent" in ended.stdout + ended.stderr
