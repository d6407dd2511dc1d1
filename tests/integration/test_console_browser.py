"""What a person does on the console, in a real browser, with a real Kafka behind it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from daemon.codec import decode_control
from daemon.core import journal
from daemon.core.control import Pause
from daemon.core.course import CourseRecord, CourseState
from daemon.core.journal import Attempt, Refusal, SealedBatch, Task, Wait
from daemon.core.model import Error, Status
from daemon.log.port import Topics
from tests.integration.browser import Visit, browsing, chromium
from tests.integration.console_site import TOKEN, ConsoleSite, now_ms
from tests.unit.console_world import BODY, item, result

pytestmark = pytest.mark.kafka

WAIT_MS = 60_000
"""For what the page has to notice by itself; a busy machine is slow."""
HOSTILE = "<img/src=x/onerror=alert(1)>"
HOSTILE_TEXT = '"><script>alert(1)</script>\u202egnp.exe '
REPAIR = Error(
    "INTEGRATION.AUTHENTICATION_INVALID", "The credentials of the learning system are no longer valid."
)
DOWN = Error("REMOTE.SERVICE_UNAVAILABLE", "The tool is down.")
PAGES = (
    "/",
    "/integrations",
    "/integration?id=tool%3A1",
    "/integration?id=tool%3Aw%2A",
    "/course?integration=tool%3A1&id=done",
    "/course?integration=tool%3A1&id=waits",
    "/partitions",
    "/search?q=chg",
    "/sign-in",
)


@pytest.fixture(scope="module")
def site(kafka_bootstrap: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsoleSite]:
    chromium()  # skips before anything is started
    names = Topics(
        *(f"browser-{name}" for name in ("changes", "journal", "results", "dead", "courses", "control"))
    )
    with ConsoleSite(kafka_bootstrap, names, tmp_path_factory.mktemp("console")) as site:
        _fill(site)
        site.start()
        yield site


def _fill(site: ConsoleSite) -> None:
    now = now_ms()
    retry = Attempt("0-1-1", REPAIR, "task-1")
    site.input(0, 20)
    for partition in (0, 1):
        site.position(partition, 12 * (1 - partition))
    site.journal(
        0,
        (
            journal.wait_key("tool:1", "waits"),
            Wait(item(1, "waits", now - 7_200_000), BODY, now + 900_000, retry),
        ),
        (
            journal.batch_key("0-2-1"),
            SealedBatch("tool:1", now - 9000, 0, (item(2, "open", now - 9000),), BODY),
        ),
        (journal.task_key("0-2-1"), Task("task-2", now - 8000)),
        (journal.batch_key("0-3-1"), SealedBatch("tool:2", now, 0, (item(3, "sent", now - 400_000),), BODY)),
        (journal.refusal_key("0-3-1"), Refusal("retry", DOWN, now - 1000, now + 900_000)),
        (
            journal.wait_key(HOSTILE, HOSTILE_TEXT),
            Wait(item(4, HOSTILE_TEXT, now), BODY, now, Attempt("b", Error(HOSTILE, HOSTILE_TEXT))),
        ),
        (journal.wait_key("tool:w1", "c"), Wait(item(5, "c", now), BODY)),
    )
    site.decide(Pause("tool:w*", True, None, "ann", "maintenance", now))
    site.result(
        0,
        result(
            6,
            "tool:1",
            "done",
            Status.SUCCEEDED,
            now - 60_000,
            batch_id="0-6-1",
            task_id="task-6",
            submitted_at=now - 61_000,
        ),
    )
    site.result(
        0, result(7, HOSTILE, HOSTILE_TEXT, Status.FAILED, now - 60_000, error=Error(HOSTILE, HOSTILE_TEXT))
    )
    site.course(
        0, CourseRecord("tool:1", "done", CourseState.ACTIVE, "kombo-6", None, 6, "chg-6", "task-6", now, now)
    )
    site.damaged(2)


@pytest.fixture(scope="module")
def browser(site: ConsoleSite) -> Iterator[Browser]:
    with browsing() as browser:
        yield browser


@pytest.fixture
def visit(site: ConsoleSite, browser: Browser) -> Iterator[Visit]:
    """An ordinary window. At its end nothing may have been complained about."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    try:
        visit = Visit(context.new_page(), site.url)
        yield visit
        assert visit.complaints == []
    finally:
        context.close()


def test_from_the_overview_to_the_life_of_a_course(visit: Visit) -> None:
    page = visit.page
    visit.go("/")
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()
    expect(page.get_by_role("img", name="Changes without a result, by age")).to_be_visible()
    expect(page.get_by_role("img", name="Results a minute, last hour")).to_be_visible()
    expect(page.get_by_text("Partition 2 blocked.")).to_be_visible()
    page.get_by_role("link", name="tool:1", exact=True).click()
    expect(page.get_by_role("heading", name="tool:1 waits for customer")).to_be_visible()
    expect(page.locator("#now")).to_contain_text(REPAIR.message)
    page.get_by_role("link", name="waits", exact=True).click()
    expect(page.get_by_role("heading", name="Course waits")).to_be_visible()
    expect(page.locator("#life")).to_contain_text("an attempt failed")
    page.get_by_role("searchbox").fill("task-6")
    page.get_by_role("button", name="Find").click()
    expect(page.get_by_role("heading", name="Course done")).to_be_visible()
    expect(page.locator("#known")).to_contain_text("kombo-6")
    moments = page.locator("#life li .what").all_inner_texts()
    assert moments == ["consumed", "accepted by the API", "SUCCEEDED"]


def test_integrations_are_sorted_and_filtered(visit: Visit) -> None:
    page = visit.page
    visit.go("/integrations")
    names = page.locator("#list tbody th")
    assert names.first.inner_text() == "tool:1"
    page.get_by_role("link", name="Integration", exact=True).click()
    expect(page.get_by_role("columnheader", name="Integration")).to_have_attribute("aria-sort", "ascending")
    assert names.all_inner_texts() == [HOSTILE, "tool:1", "tool:2", "tool:w*", "tool:w1"]
    page.get_by_role("link", name="Integration", exact=False).nth(1).click()
    assert names.first.inner_text() == "tool:w1"
    page.get_by_label("State").select_option("paused")
    page.get_by_role("button", name="Show").click()
    assert sorted(names.all_inner_texts()) == ["tool:w*", "tool:w1"]
    page.get_by_label("Id contains").fill("w1")
    page.get_by_role("button", name="Show").click()
    assert names.all_inner_texts() == ["tool:w1"]


def test_a_person_pauses_and_resumes(visit: Visit, site: ConsoleSite) -> None:
    page = visit.page
    visit.go("/integration?id=tool%3A2")
    page.get_by_role("link", name="Sign in").last.click()
    page.get_by_label("Who you are").fill("Ann Ops")
    page.get_by_label("Token").fill("wrong-token-of-some-length")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("not the token")
    assert visit.complaints == [
        "Failed to load resource: the server responded with a status of 403 (Forbidden)"
    ]
    visit.complaints.clear()
    page.get_by_label("Token").fill(TOKEN)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="tool:2")).to_be_visible()
    page.get_by_label("Why").fill("their maintenance")
    page.get_by_label("Until").fill("2h")
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_role("status")).to_contain_text("It is paused.")
    expect(page.get_by_role("heading", name="tool:2 paused")).to_be_visible()
    expect(page.locator("#now")).to_contain_text("by Ann Ops")
    page.get_by_label("Why").fill("done")
    page.get_by_role("button", name="Resume").click()
    expect(page.get_by_role("status")).to_contain_text("It is resumed.")
    told = [decode_control(each) for each in site.decisions()][-2:]
    assert [
        (each.integration, each.paused, each.by, each.reason) for each in told if isinstance(each, Pause)
    ] == [
        ("tool:2", True, "Ann Ops", "their maintenance"),
        ("tool:2", False, "Ann Ops", "done"),
    ]
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("link", name="Sign in")).to_be_visible()


def test_numbers_move_without_a_reload(visit: Visit, site: ConsoleSite) -> None:
    page = visit.page
    visit.go("/integration?id=tool%3Alive")
    page.evaluate("window.isTheSamePage = true")
    expect(page.locator("#waiting")).to_contain_text("None.")
    site.journal(1, (journal.wait_key("tool:live", "news"), Wait(item(1, "news", now_ms()), BODY)))
    expect(page.locator("#waiting")).to_contain_text("news", timeout=WAIT_MS)
    assert page.evaluate("window.isTheSamePage")
    page.get_by_label("update every 5 s").uncheck()
    page.reload()
    assert not page.get_by_label("update every 5 s").is_checked()


def test_everything_works_without_javascript(site: ConsoleSite, browser: Browser) -> None:
    context = browser.new_context(java_script_enabled=False)
    try:
        page = context.new_page()
        page.goto(site.url)
        page.get_by_role("link", name="Integrations", exact=True).click()
        page.get_by_role("link", name="tool:1", exact=True).click()
        page.get_by_role("link", name="Sign in", exact=True).last.click()
        page.get_by_label("Who you are").fill("Bob")
        page.get_by_label("Token").fill(TOKEN)
        page.get_by_role("button", name="Sign in").click()
        page.get_by_label("Why").fill("no script")
        page.get_by_role("button", name="Pause").click()
        expect(page.get_by_role("status")).to_contain_text("It is paused.")
        page.get_by_label("Why").fill("no script")
        page.get_by_role("button", name="Resume").click()
        expect(page.get_by_role("status")).to_contain_text("It is resumed.")
        page.get_by_role("link", name="Overview").click()
        page.locator("summary").first.click()
        expect(page.locator("#ages details table")).to_be_visible()
    finally:
        context.close()


def test_what_comes_from_outside_is_shown_and_never_run(visit: Visit) -> None:
    page = visit.page
    visit.go("/integrations?sort=integration")
    page.get_by_role("link", name=HOSTILE).click()
    expect(page.get_by_role("heading", level=1)).to_contain_text(HOSTILE)
    shown = HOSTILE_TEXT.replace("\u202e", "\\u202e")
    expect(page.locator("#now")).to_contain_text(shown.strip())
    page.locator("#waiting a").first.click()
    expect(page.get_by_role("heading", level=1)).to_contain_text(shown.strip())
    expect(page.locator("#life article")).to_have_count(2)
    assert page.evaluate("document.scripts.length") == 1


def test_a_screen_reader_can_read_every_page(visit: Visit) -> None:
    found = {}
    for address in PAGES:
        visit.go(address)
        visit.page.emulate_media(color_scheme="light")
        found[address] = visit.serious()
        visit.page.emulate_media(color_scheme="dark")
        found[address] += visit.serious("color-contrast")  # nothing else depends on it
    assert {address: faults for address, faults in found.items() if faults} == {}


def test_a_narrow_window_is_enough(site: ConsoleSite, browser: Browser) -> None:
    context = browser.new_context(viewport={"width": 400, "height": 800}, is_mobile=True, has_touch=True)
    try:
        visit = Visit(context.new_page(), site.url)
        for address in (
            *PAGES,
            f"/course?integration={HOSTILE}&id={'x' * 512}",
            f"/integration?id={'i' * 256}",
        ):
            visit.go(address)
            assert not visit.is_too_wide, address
            assert visit.serious("color-contrast", "scrollable-region-focusable", "target-size") == [], (
                address
            )
    finally:
        context.close()
