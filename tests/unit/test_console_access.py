"""Who may do something on the console."""

from __future__ import annotations

from pathlib import Path

import pytest

from daemon.console.access import FAILURES_MAX, SESSION_SECONDS, Access, AccessError
from tests.unit.console_world import TOKEN


class Clock:
    now = 1_790_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n")
    return path


@pytest.fixture
def access(file: Path, clock: Clock) -> Access:
    return Access(file, clock)


def test_a_session_says_who_it_is_and_ends(access: Access, clock: Clock) -> None:
    cookie = access.sign_in(" Ann Ops ", TOKEN, "visit")
    session = access.session(cookie, "visit")
    assert session is not None
    assert session.who == "Ann Ops"
    clock.now += SESSION_SECONDS + 1
    assert access.session(cookie, "visit") is None


def test_a_session_is_of_one_browser(access: Access) -> None:
    cookie = access.sign_in("ann", TOKEN, "visit")
    assert access.session(cookie, "another") is None
    assert access.session(cookie, None) is None


@pytest.mark.parametrize("cookie", [None, "", ".", "x.y", "é.é", "e30=.00", "\udcff.\udcff"])
def test_what_this_console_did_not_sign_is_no_session(access: Access, cookie: str | None) -> None:
    assert access.session(cookie, "visit") is None


def test_a_session_that_was_changed_is_none(access: Access) -> None:
    mine, other = access.sign_in("ann", TOKEN, "visit"), access.sign_in("bob", TOKEN, "visit")
    forged = f"{other.partition('.')[0]}.{mine.partition('.')[2]}"
    assert access.session(forged, "visit") is None


def test_another_token_in_the_file_ends_all_sessions(access: Access, file: Path) -> None:
    cookie = access.sign_in("ann", TOKEN, "visit")
    file.write_text("another-token-of-some-length")
    assert access.session(cookie, "visit") is None
    with pytest.raises(AccessError, match="not the token"):
        access.sign_in("ann", TOKEN, "visit")
    assert access.sign_in("ann", "another-token-of-some-length", "visit")


def test_another_process_does_not_know_the_session(access: Access, file: Path, clock: Clock) -> None:
    cookie = access.sign_in("ann", TOKEN, "visit")
    assert Access(file, clock).session(cookie, "visit") is None


def test_tokens_cannot_be_tried_out_quickly(access: Access, clock: Clock) -> None:
    for _ in range(FAILURES_MAX):
        with pytest.raises(AccessError, match="not the token"):
            access.sign_in("ann", "wrong", "visit")
    with pytest.raises(AccessError, match="Too many"):
        access.sign_in("ann", TOKEN, "visit")
    clock.now += 61
    assert access.sign_in("ann", TOKEN, "visit")


@pytest.mark.parametrize("who", ["", "   ", "x" * 101, "ann\nbob", "ann\u202e"])
def test_a_name_that_would_deceive_readers_is_refused(access: Access, who: str) -> None:
    with pytest.raises(AccessError, match="Say who you are"):
        access.sign_in(who, TOKEN, "visit")


def test_a_token_that_could_be_guessed_is_refused(access: Access, file: Path) -> None:
    file.write_text("short")
    with pytest.raises(AccessError, match="at least 16"):
        access.sign_in("ann", "short", "visit")


def test_without_a_file_nobody_signs_in(clock: Clock, tmp_path: Path) -> None:
    assert not Access(None, clock).is_possible
    with pytest.raises(AccessError, match="switched off"):
        Access(None, clock).sign_in("ann", "", "visit")
    with pytest.raises(AccessError, match="cannot be read"):
        Access(tmp_path / "none", clock).sign_in("ann", "", "visit")


def test_a_form_is_of_one_visitor_and_one_process(access: Access, file: Path, clock: Clock) -> None:
    token = access.form_token("visit")
    assert access.is_own_form("visit", token)
    assert not access.is_own_form("another", token)
    assert not access.is_own_form(None, token)
    assert not access.is_own_form("visit", "")
    assert not access.is_own_form("visit", "\udcff")
    assert not Access(file, clock).is_own_form("visit", token)
