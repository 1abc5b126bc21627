"""Fixtures of the browser tests.

Chromium is the system's own (Debian: ``apt-get install chromium``); Playwright doesn't download one. Every page is
opened without a network.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from conftest import needs

NAMES = ("chromium", "chromium-browser", "google-chrome")
SERIOUS = ("serious", "critical")


@dataclass(frozen=True)
class Finding:
    """A rule of axe-core that a page breaks, how bad that is, and the elements that break it."""

    rule: str
    impact: str
    where: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.impact}: {self.rule}, {len(self.where)} x, e.g. {self.where[0]}"


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    there = all(map(find_spec, ("playwright", "axe_playwright_python")))
    needs(bool(found and there), "a browser: apt-get install chromium, pip install 'halobench[browser]'")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # As root, as in most containers, Chromium's sandbox doesn't start.
        started = playwright.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield started
        started.close()


@pytest.fixture
def browser_page(browser) -> Iterator[Callable[..., Any]]:
    """Make pages of a width and height that have no network.

    Errors from their console and scripts are collected in ``page.errors``, and requests to the network in
    ``page.requests_made`` (lists of str).
    """
    contexts = []

    def make(width: int = 1280, height: int = 900) -> Any:
        context = browser.new_context(viewport={"width": width, "height": height})
        context.set_offline(True)
        contexts.append(context)
        page = context.new_page()
        page.errors, page.requests_made = [], []
        page.on("console", lambda said: page.errors.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: page.errors.append(str(error)))
        page.on("request", lambda asked: page.requests_made.append(asked.url) if is_remote(asked.url) else None)
        return page

    yield make
    for context in contexts:
        context.close()


def is_remote(url: str) -> bool:
    """Whether an address is on a network."""
    return url.partition(":")[0] in ("http", "https", "ws", "wss", "ftp")


@pytest.fixture
def open_file(browser_page) -> Callable[..., Any]:
    """Opens local files."""

    def opened(path: Path, width: int = 1280) -> Any:
        page = browser_page(width)
        page.goto(path.resolve().as_uri())
        return page

    return opened


@pytest.fixture(scope="session")
def axe() -> Callable[..., list[Finding]]:
    """Return the problems that axe-core finds in what a page shows, or only serious ones."""
    needs(find_spec("axe_playwright_python") is not None, "axe-core: pip install 'halobench[browser]'")
    from axe_playwright_python.sync_playwright import Axe

    def run(page: Any, serious: bool = False) -> list[Finding]:
        found = [
            Finding(rule["id"], rule["impact"] or "minor", tuple(" ".join(node["target"]) for node in rule["nodes"]))
            for rule in Axe().run(page).response["violations"]
        ]
        return [finding for finding in found if not serious or finding.impact in SERIOUS]

    return run
