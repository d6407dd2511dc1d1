"""The pages over a real socket, as a browser without JavaScript sees them."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlencode

import aiohttp
import pytest

from daemon.console.addresses import course_address, integration_address, own_address
from daemon.console.feed import wall_ms
from daemon.console.views.integrations import FAILED_IN_A_ROW
from daemon.core import journal
from daemon.core.control import Pause
from daemon.core.journal import Position, Rejections, Wait
from daemon.core.model import Error, Status
from daemon.log.port import InputFacts
from tests.unit.console_markup import Markup, faults
from tests.unit.console_world import BODY, TOKEN, TOPICS, World, busy_world, item, result, serving

HOSTILE_IDS = (
    "<script>alert(1)</script>",
    '"onmouseover="alert(1)',
    "'><img/src=x/onerror=alert(1)>",
    "{{7*7}}",
    "i" * 256,
)
"""Ids of integrations: printable ASCII, no spaces."""
HOSTILE_TEXTS = (
    "<script>alert(1)</script>",
    '"><svg onload=alert(1)>',
    "' autofocus onfocus=alert(1) x='",
    "\u202egnp.exe",
    "</title></style><img src=x onerror=alert(1)>",
    "javascript:alert(1)",
    "ü" * 512,
    "{{ ''.__class__ }}{% raw %}",
    "a\u2028b&#x3c;b&lt;",
    " spaces around ",
)


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text(TOKEN)
    return path


async def seen(http: aiohttp.ClientSession, address: str, status: int = 200) -> Markup:
    async with http.get(address) as response:
        text = await response.text()
        assert response.status == status, text
    page = Markup(text)
    assert list(faults(page)) == []
    return page


async def signed_in(http: aiohttp.ClientSession, who: str = "ann") -> None:
    page = await seen(http, "/sign-in")
    form = {"form_token": form_token(page), "who": who, "token": TOKEN, "back": "/"}
    async with http.post("/sign-in", data=form, allow_redirects=False) as response:
        assert response.status == 303, await response.text()


def form_token(page: Markup) -> str:
    found = {each["value"] for each in page.all("input") if each.get("name") == "form_token"}
    (token,) = found
    assert token
    return token


# --- hostile texts ------------------------------------------------------------------------------------


@pytest.mark.parametrize("origin", HOSTILE_TEXTS)
async def test_ids_and_errors_from_outside_are_text(origin: str, token_file: Path) -> None:
    world = busy_world(HOSTILE_IDS, origin, origin)
    async with serving(world, token_file) as http:
        await signed_in(http)
        addresses = [
            "/",
            "/partitions",
            "/integrations",
            f"/integrations?{urlencode({'q': origin, 'state': origin, 'sort': origin, 'page': origin})}",
            f"/search?{urlencode({'q': origin})}",
            f"/search?{urlencode({'q': 'nothing', 'integration': origin})}",
            f"/sign-in?{urlencode({'back': origin})}",
            integration_address(origin),
        ]
        for name in HOSTILE_IDS:
            addresses += [
                integration_address(name),
                course_address(name, origin),
                course_address(origin, name),
            ]
        for address in addresses:
            await seen(http, address)
        every = await seen(http, "/integrations?sort=integration")
        for name in HOSTILE_IDS:
            assert name in every.text
        page = await seen(http, course_address(HOSTILE_IDS[0], origin))
        assert "\u202e" not in page.text
        for status in ("waiting", "in a task", "sealed", "watched", "FAILED", "FAILED, corrected"):
            assert status in page.text


@pytest.mark.parametrize(
    "address",
    [
        "/integration?id=%ff%00",
        "/course?integration=%ed%a0%80&id=%00",
        "/search?q=%00%ff",
        "/integrations?page=-1",
    ],
)
async def test_addresses_that_are_not_text_are_answered(address: str) -> None:
    async with serving(busy_world(["tool:1"], "c", "e")) as http:
        await seen(http, address)


async def test_every_answer_confines_the_page() -> None:
    async with serving(World()) as http:
        for address in (
            "/",
            "/static/console.css",
            "/static/console.js",
            "/nothing",
            "/static/..%2fpages.py",
        ):
            async with http.get(address) as response:
                policy = response.headers["Content-Security-Policy"]
                assert "default-src 'none'" in policy
                assert "unsafe" not in policy
                assert "frame-ancestors 'none'" in policy
                assert response.headers["X-Content-Type-Options"] == "nosniff"
                assert response.headers["Cache-Control"] in ("no-store", "no-cache")
                assert response.status == (404 if "noth" in address or ".." in address else 200)


async def test_it_answers_under_no_name_of_an_attacker() -> None:
    async with serving(World(), names=("console.example.com",)) as http:
        for name, status in (("evil.example.com", 421), ("console.example.com", 200), ("127.0.0.1", 200)):
            async with http.get("/", headers={"Host": name}) as response:
                assert response.status == status


def test_after_the_sign_in_nobody_is_sent_elsewhere() -> None:
    for address in (
        "//evil.example",
        "/\\evil.example",
        "https://evil.example",
        "",
        "javascript:x",
        "/a\nb",
        "/ü",
    ):
        assert own_address(address) == "/"
    assert own_address("/integration?id=a%2Fb") == "/integration?id=a%2Fb"


# --- what they say ------------------------------------------------------------------------------------


async def test_the_overview_counts_and_draws() -> None:
    async with serving(busy_world(["tool:1", "tool:2"], "course", "no")) as http:
        page = await seen(http, "/")
        words = " ".join(page.text.split())
        assert "Changes without a result 8 6 wait, 2 in 2 tasks" in words
        assert "Integrations not well 2 of 2 that are known" in words
        assert "20 records unread" in words
        assert "an operator paused it 6" in words
        assert "FAILED 2" in words  # the text of the bar in the picture
        assert len(page.all("svg")) >= 9
        # Each picture has a title, a description and its numbers.
        for picture in page.all("svg"):
            assert picture.get("aria-hidden") == "true" or picture["aria-labelledby"]


async def test_an_integration_whose_changes_all_fail_is_not_well() -> None:
    """Nothing of it waits, so no state says it."""
    world, now = World(), wall_ms()
    denied = Error("INTEGRATION.PERMISSION_MISSING", "It may not write.")
    for name, failures in (("tool:few", FAILED_IN_A_ROW - 1), ("tool:many", FAILED_IN_A_ROW)):
        world.results(*(result(n, name, f"c{n}", Status.FAILED, now, error=denied) for n in range(failures)))
    world.decide(Pause("tool:paused", True, None, "ann", "why", now))
    world.loaded()
    async with serving(world) as http:
        words = " ".join((await seen(http, "/")).text.split())
        assert "Integrations not well 2 of 3" in words
        assert "tool:many idle fails" in words
        assert "tool:few" not in words
        assert words.index("tool:many") < words.index("tool:paused")
        page = " ".join((await seen(http, "/integration?id=tool%3Amany")).text.split())
        assert f"The API has refused its last {FAILED_IN_A_ROW} changes" in page
        world.results(result(9, "tool:many", "c", Status.SUCCEEDED, now))
        words = " ".join((await seen(http, "/")).text.split())
        assert "Integrations not well 1 of 3" in words


async def test_integrations_are_sorted_filtered_and_paged() -> None:
    world, now = World(), wall_ms()
    for number in range(250):
        name = f"tool:{number:03}"
        for wait in range(1 + number % 7):
            key = journal.wait_key(name, f"c{wait}")
            world.journal(number % 3, (key, Wait(item(number, f"c{wait}", now - 1000 * number), BODY)))
    world.decide(Pause("tool:007", True, None, "ann", "why", now))
    world.loaded()

    def names(page: Markup) -> list[str]:
        return re.findall(r"tool:\d{3}", page.text)

    async with serving(world) as http:
        page = await seen(http, "/integrations")
        assert names(page)[0] == "tool:007"
        assert len(names(page)) == 100
        assert "page 1 of 3" in page.text
        oldest = await seen(http, "/integrations?sort=oldest")
        assert names(oldest)[:2] == ["tool:249", "tool:248"]
        newest = await seen(http, "/integrations?sort=oldest&order=reverse&page=3")
        assert names(newest)[-1] == "tool:249"
        most = await seen(http, "/integrations?sort=waiting")
        assert names(most)[:2] == ["tool:006", "tool:013"]
        some = await seen(http, "/integrations?q=TOOL:24&sort=integration")
        assert names(some) == [f"tool:24{number}" for number in range(10)]
        paused = await seen(http, "/integrations?state=paused")
        assert names(paused) == ["tool:007"]
        last = await seen(http, "/integrations?page=99999")
        assert len(names(last)) == 50


async def test_an_integration_shows_its_tasks_changes_errors_and_settings() -> None:
    async with serving(busy_world(["tool:1"], "course", "The tool is down.")) as http:
        page = await seen(http, integration_address("tool:1"))
        words = " ".join(page.text.split())
        assert "Paused by The tool is down." in words
        assert "Waiting changes 3 1 of them failed before" in words
        assert "in a task" in words
        assert "refused" in words
        assert "batch.items_max 100 default" in words
        assert "course-later" in words
        assert "This console only shows" in words
        unknown = await seen(http, integration_address("tool:unknown"))
        assert "Nothing is known of this integration" in unknown.text


async def test_one_found_course_is_shown_at_once() -> None:
    async with serving(busy_world(["tool:1"], "course", "no")) as http:
        for wanted in ("course", " course\t", "chg-1", "chg-5", "no-0", "0-0-1", "no"):
            async with http.get("/search", params={"q": wanted}) as response:
                assert response.url.path == "/course", wanted
                assert response.url.query["id"] == "course"
        both = await seen(http, "/search?q=chg-0")
        assert "Nothing open" not in both.text
        nothing = await seen(http, "/search?q=chg-77")
        assert "Nothing open and no recent result has this id" in nothing.text
        other = await seen(http, "/search?q=course&integration=tool:2")
        assert "Nothing open" in other.text


async def test_a_blocked_partition_says_why_and_what_to_do() -> None:
    world = World()
    facts = InputFacts("id", 5, 50, 120, 130, 100, 5, 5)
    stopped = Rejections(10, 900, 800, 77)
    world.journal(0, (journal.POSITION_KEY, Position(journal.FORMAT, 20, "id", 5, 0)))
    world.journal(1, (journal.POSITION_KEY, Position(journal.FORMAT, 77, "id", 5, 0, stopped)))
    world.journal(2, (journal.POSITION_KEY, Position(journal.FORMAT, 120, "id", 5, 0)))
    world.add(TOPICS.journal, 3, journal.wait_key("a", "b"), b"damaged")
    for partition in range(5):
        world.look(partition, facts)
    world.loaded()
    async with serving(world) as http:
        page = await seen(http, "/partitions")
        words = " ".join(page.text.split())
        assert "0 blocked 100 20" in words
        assert "coursesyncd skip --partition 0" in words
        assert "1 stopped 43 77" in words
        assert "coursesyncd reject --partition 1" in words
        assert "2 held back 0 120" in words
        assert "3 blocked" in words
        assert "docs/runbook.md#journal-not-readable" in words
        assert "position-missing" in words  # the group has read partition 4, and its journal holds nothing
        overview = await seen(http, "/")
        assert "Blocked partitions 4 of 5" in " ".join(overview.text.split())


async def test_a_partition_that_goes_on_after_the_look_is_not_blocked() -> None:
    world = World()
    facts = InputFacts("id", 1, 0, 120, 120, 100, 1, 1)
    world.look(0, facts)  # when it had no position
    world.journal(0, (journal.POSITION_KEY, Position(journal.FORMAT, 500, "id", 1, 0)))
    world.loaded()
    async with serving(world) as http:
        assert "up to date" in (await seen(http, "/partitions")).text


async def test_a_console_that_has_not_read_everything_says_so() -> None:
    world = World()
    world.model.reading.behind = {("journal", 0): 1234}
    async with serving(world) as http:
        assert "1,234 records to go" in (await seen(http, "/")).text
        world.loaded()
        world.model.reading.error = "Broker <b>gone</b>"
        assert "Kafka cannot be read." in (await seen(http, "/")).text


# --- acting -------------------------------------------------------------------------------------------


@pytest.fixture
async def world() -> AsyncIterator[World]:
    found = World()
    found.journal(0, (journal.wait_key("tool:1", "c"), Wait(item(1, "c", wall_ms()), BODY)))
    found.loaded()
    yield found
    found.in_reader.shutdown()


async def test_who_signs_in_pauses_and_resumes(world: World, token_file: Path) -> None:
    async with serving(world, token_file) as http:
        assert "Sign in" in (await seen(http, integration_address("tool:1"))).text
        await signed_in(http, "Ann <Ops>")
        page = await seen(http, integration_address("tool:1"))
        form = {"form_token": form_token(page), "id": "tool:1", "reason": " maintenance ", "until": "2h"}
        async with http.post("/integration/pause", data=form) as response:
            assert response.status == 200
            text = Markup(await response.text()).text
        assert "It is paused. Every replica obeys within 2 s." in text
        assert "Paused by Ann <Ops>" in text
        (pause,) = world.written
        assert (pause.integration, pause.paused, pause.by, pause.reason) == (
            "tool:1",
            True,
            "Ann <Ops>",
            "maintenance",
        )
        assert pause.until is not None
        assert 7_190_000 < pause.until - pause.decided_at <= 7_200_000

        form |= {"reason": "done"}
        async with http.post("/integration/resume", data=form) as response:
            assert "It is resumed." in Markup(await response.text()).text
        resumed = world.written[-1]
        assert (resumed.integration, resumed.paused, resumed.by, resumed.reason) == (
            "tool:1",
            False,
            "Ann <Ops>",
            "done",
        )
        async with http.post("/integration/resume", data=form) as response:
            assert response.status == 409
        assert len(world.written) == 2


@pytest.mark.parametrize(
    ("change", "status", "said"),
    [
        ({"form_token": "forged"}, 403, "not from a page of this console"),
        ({"form_token": ""}, 403, "not from a page of this console"),
        ({"reason": " "}, 400, "The reason"),
        ({"reason": "x" * 501}, 400, "501 characters"),
        ({"until": "yesterday"}, 400, "neither a duration"),
        ({"until": "2001-01-01T00:00:00Z"}, 400, "is over"),
        ({"id": "no spaces"}, 400, "printable ASCII"),
        ({"id": "a*b"}, 400, "A pattern is"),
        ({"id": ""}, 400, "printable ASCII"),
    ],
)
async def test_what_is_wrong_is_said_and_nothing_is_written(
    world: World, token_file: Path, change: dict[str, str], status: int, said: str
) -> None:
    async with serving(world, token_file) as http:
        await signed_in(http)
        page = await seen(http, integration_address("tool:1"))
        form = {"form_token": form_token(page), "id": "tool:1", "reason": "why", "until": ""} | change
        async with http.post("/integration/pause", data=form) as response:
            assert response.status == status
            assert said in Markup(await response.text()).text
        assert world.written == []


async def test_without_a_session_nothing_is_written(world: World, token_file: Path) -> None:
    async with serving(world, token_file) as http:
        page = await seen(http, "/sign-in")
        form = {"form_token": form_token(page), "id": "tool:1", "reason": "why"}
        for action in ("pause", "resume"):
            async with http.post(f"/integration/{action}", data=form, allow_redirects=False) as response:
                assert response.status == 303
                assert response.headers["Location"].startswith("/sign-in?")
        async with http.post("/sign-in", data=form | {"who": "eve", "token": "wrong" * 5}) as response:
            assert response.status == 403
            assert "not the token" in await response.text()
            assert "coursesync_session" not in response.cookies
        assert world.written == []


async def test_a_form_of_another_site_is_refused(world: World, token_file: Path) -> None:
    async with serving(world, token_file) as http:
        await signed_in(http)
        page = await seen(http, integration_address("tool:1"))
        form = {"form_token": form_token(page), "id": "tool:1", "reason": "why"}
        for site in ("cross-site", "same-site", "none"):
            async with http.post(
                "/integration/pause", data=form, headers={"Sec-Fetch-Site": site}
            ) as response:
                assert response.status == 403
        async with http.get("/integration/pause", params=form) as response:
            assert response.status == 405
        assert world.written == []


async def test_who_signs_out_can_do_nothing_more(world: World, token_file: Path) -> None:
    async with serving(world, token_file) as http:
        await signed_in(http)
        page = await seen(http, integration_address("tool:1"))
        form = {"form_token": form_token(page), "id": "tool:1", "reason": "why"}
        async with http.post("/sign-out", data=form, allow_redirects=False) as response:
            assert response.status == 303
        async with http.post("/integration/pause", data=form, allow_redirects=False) as response:
            assert response.status == 303
        assert world.written == []


async def test_cookies_are_for_this_site_and_not_for_scripts(world: World, token_file: Path) -> None:
    async with serving(world, token_file) as http:
        page = await seen(http, "/sign-in")
        form = {"form_token": form_token(page), "who": "ann", "token": TOKEN}
        for headers, secure in (({}, ""), ({"X-Forwarded-Proto": "https"}, True)):
            async with http.post("/sign-in", data=form, headers=headers, allow_redirects=False) as response:
                cookie = response.cookies["coursesync_session"]
                assert (cookie["samesite"], cookie["httponly"], cookie["secure"]) == ("Strict", True, secure)
        async with http.get("/sign-in") as response:
            assert response.cookies["coursesync_visit"]["samesite"] == "Strict"


async def test_a_refusal_of_kafka_is_told(world: World, token_file: Path) -> None:
    world.refuses = "The topic control did not take a record."
    async with serving(world, token_file) as http:
        await signed_in(http)
        page = await seen(http, integration_address("tool:1"))
        form = {"form_token": form_token(page), "id": "tool:1", "reason": "why"}
        async with http.post("/integration/pause", data=form) as response:
            assert response.status == 503
            assert "Nothing was written. The topic control did not take a record." in await response.text()


async def test_a_form_that_is_too_large_is_not_read(world: World, token_file: Path) -> None:
    async with (
        serving(world, token_file) as http,
        http.post("/sign-in", data={"who": "x" * 100_000}) as answer,
    ):
        assert answer.status == 413
