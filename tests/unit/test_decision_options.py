"""What operators type to pause, resume and give up: what is understood, and what a mistake is answered with."""

from __future__ import annotations

import getpass
from collections.abc import Callable
from typing import Any, NoReturn

import click
import pytest
from click.testing import CliRunner

from daemon.cli import main
from daemon.commands import decision_options, times
from daemon.commands.decision_options import (
    TEXT_MAX,
    CourseParam,
    IntegrationParam,
    TextParam,
    UntilParam,
    user_at_host,
)
from daemon.commands.times import SinceParam

NOW = 1_795_946_400_000  # 2026-11-29T10:00:00Z


@pytest.fixture(autouse=True)
def _now(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (decision_options, times):
        monkeypatch.setattr(module, "wall_ms", lambda: NOW)


def refused(kind: click.ParamType[Any], text: str) -> str:
    with pytest.raises(click.BadParameter) as refusal:
        kind.convert(text, None, None)
    return refusal.value.message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2h", NOW + 7_200_000),
        (" 90s ", NOW + 90_000),
        ("1ms", NOW + 1),
        ("2026-11-29T18:00:00Z", NOW + 8 * 3_600_000),
        ("2026-11-29 18:00+01:00", NOW + 7 * 3_600_000),
    ],
)
def test_a_pause_ends_after_a_duration_or_at_a_time(text: str, expected: int) -> None:
    assert UntilParam().convert(text, None, None) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2h", NOW - 7_200_000),
        ("100000d", 0),
        ("2026-11-29", NOW - 10 * 3_600_000),
        ("2026-11-29T10:00:00.000Z", NOW),
        ("1900-01-01", 0),
    ],
)
def test_since_is_a_duration_a_time_or_a_date(text: str, expected: int) -> None:
    assert SinceParam().convert(text, None, None) == expected


def test_a_beginning_that_is_unclear_or_ahead_is_refused() -> None:
    assert "is in the future" in refused(SinceParam(), "2026-11-30")
    assert "has no time zone" in refused(SinceParam(), "2026-11-29T08:00")
    assert "neither a duration" in refused(SinceParam(), "yesterday")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("soon", "neither a duration (30m, 2h, 7d) nor a time (2026-11-29T18:00:00Z)"),
        ("2", "neither a duration"),
        ("-2h", "neither a duration"),
        ("2026-11-29T18:00:00", "has no time zone: add Z for UTC"),
        ("2026-12-01", "has no time zone"),
        ("0s", "is over"),
        ("2026-11-29T10:00:00Z", "is over"),
        ("", "neither a duration"),
    ],
)
def test_an_end_that_is_unclear_or_over_is_refused(text: str, expected: str) -> None:
    assert expected in refused(UntilParam(), text)


@pytest.mark.parametrize("text", ["workday:a", "workday:*", "*", "a"])
def test_ids_and_patterns_name_integrations(text: str) -> None:
    assert IntegrationParam(patterns=True).convert(text, None, None) == text


@pytest.mark.parametrize("text", ["*:a", "work*day", "**", "a**"])
def test_an_asterisk_belongs_at_the_end(text: str) -> None:
    assert "contains a * before its end" in refused(IntegrationParam(patterns=True), text)


@pytest.mark.parametrize("text", ["", "a b", "ä", "x" * 257, "a\n", "\udcff"])
def test_what_cannot_be_an_id_is_refused(text: str) -> None:
    assert "1 to 256 printable ASCII characters, no spaces" in refused(IntegrationParam(patterns=True), text)


@pytest.mark.parametrize("text", ["workday:*", "*", "a*b"])
def test_where_one_integration_is_asked_for_a_pattern_is_refused(text: str) -> None:
    assert "name one integration by its whole id" in refused(IntegrationParam(patterns=False), text)


def test_a_course_is_named_by_its_origin_id() -> None:
    assert CourseParam().convert("課程 *", None, None) == "課程 *"
    for text in ("", "a\nb", "x" * 513, "\udcff"):
        assert "1 to 512 characters, no control characters" in refused(CourseParam(), text)


def test_a_reason_is_a_text_of_bounded_length() -> None:
    assert TextParam().convert("  ticket 4711 ", None, None) == "ticket 4711"
    assert "it has 0 characters" in refused(TextParam(), "   ")
    assert f"it has {TEXT_MAX + 1} characters, expected 1 to {TEXT_MAX}" in refused(
        TextParam(), "x" * (TEXT_MAX + 1)
    )
    assert "not text in UTF-8" in refused(TextParam(), "\udcff")


def _fails(error: Exception) -> Callable[[], NoReturn]:
    def fail() -> NoReturn:
        raise error

    return fail


def test_who_decides_is_the_user_of_this_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "ops-1")
    monkeypatch.setattr(getpass, "getuser", lambda: "ann")
    assert user_at_host() == "ann@ops-1"
    monkeypatch.setattr("os.getuid", lambda: 10001)
    for error in (KeyError("uid not found"), OSError("no such user")):
        monkeypatch.setattr(getpass, "getuser", _fails(error))
        assert user_at_host() == "uid 10001@ops-1", "as in a container"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["pause"], "Missing argument 'INTEGRATION...'"),
        (["resume"], "Missing argument 'INTEGRATION...'"),
        (["give-up", "a:*"], "name one integration by its whole id"),
        (["give-up", "a:1", "b:1"], "unexpected extra argument"),
        (["pause", "a:1", "--until", "yesterday"], "--until"),
        (["integrations", "a*b"], "contains a * before its end"),
        (["integrations", "--jsn"], "No such option"),
    ],
)
def test_a_mistake_is_answered_before_anything_is_asked(arguments: list[str], expected: str) -> None:
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 2
    assert expected in done.output


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("coursesyncd pa", {"pause"}),
        ("coursesyncd re", {"reject", "republish", "results", "resume"}),
        ("coursesyncd integrations l", {"list"}),
        ("coursesyncd integrations list --j", {"--json"}),
        ("coursesyncd give-up tool:1 --o", {"--open-tasks"}),
    ],
)
def test_a_shell_completes_commands_and_options(words: str, expected: set[str]) -> None:
    asked = {"COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)}
    done = CliRunner().invoke(
        main, [], prog_name="coursesyncd", env={"_COURSESYNCD_COMPLETE": "bash_complete", **asked}
    )
    assert {line.partition(",")[2] for line in done.output.splitlines()} == expected
