"""A real browser for the pages of the console: Debian's chromium, driven by Playwright."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.tools.npm_packages import fetched

AXE = Path(__file__).parents[1] / "tools" / "axe"
NAMES = ("chromium", "chromium-browser", "google-chrome")
SERIOUS = ("serious", "critical")


def chromium() -> str:
    """Its path. Without one a loud skip; where CI=true a failure."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is not None:
        return found
    sentence = (
        "NO BROWSER: the pages are tried in chromium; on Debian: apt install --no-install-recommends chromium"
    )
    if os.environ.get("CI") == "true":
        pytest.fail(sentence, pytrace=False)
    pytest.skip(sentence)


@contextmanager
def browsing() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        # Its sandbox needs a user of its own, and it sees nothing but our pages. /dev/shm is small in containers.
        browser = playwright.chromium.launch(
            executable_path=chromium(), args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        try:
            yield browser
        finally:
            browser.close()


class Visit:
    """One page of a browser, which complains about everything that a policy forbids and a script fails in."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self._url = url
        self.complaints: list[str] = []
        page.on("console", lambda said: self.complaints.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("dialog", self._dialog)

    def go(self, address: str) -> None:
        self.page.goto(self._url + address)

    @property
    def text(self) -> str:
        return " ".join(self.page.locator("body").inner_text().split())

    @property
    def is_too_wide(self) -> bool:
        """Whether one would have to scroll sideways."""
        return bool(self.page.evaluate("document.documentElement.scrollWidth > window.innerWidth"))

    def serious(self, *rules: str) -> list[str]:
        """What axe-core finds on this page that keeps people from using it; with `rules`, by these rules alone."""
        # The policy of the page allows no foreign script, so it is put in by the debugger.
        if not self.page.evaluate("'axe' in window"):
            self.page.evaluate((fetched(AXE) / "node_modules" / "axe-core" / "axe.min.js").read_text())
        options = {"runOnly": list(rules)} if rules else {}
        found: list[dict[str, Any]] = self.page.evaluate(
            "options => axe.run(options).then(found => found.violations)", options
        )
        return [
            f"{each['id']}: {each['help']}: {[node['target'] for node in each['nodes']][:3]}"
            for each in found
            if each["impact"] in SERIOUS
        ]

    def _dialog(self, dialog: Any) -> None:
        self.complaints.append(f"a dialog: {dialog.message}")
        dialog.dismiss()
