"""The built site for the tests, where what builds it is installed, and a browser to open it in."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.docs import site as building

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = [
    "--no-sandbox",  # CI runs as root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
NEEDED = ("sphinx", "furo", "myst_parser", "sphinxcontrib.mermaid", "sphinx_copybutton")


def missing(names: tuple[str, ...]) -> list[str]:
    absent = []
    for name in names:
        try:
            found = importlib.util.find_spec(name)
        except ModuleNotFoundError:
            found = None
        if found is None:
            absent.append(name)
    return absent


@pytest.fixture(scope="session")
def site(tmp_path_factory) -> Path:
    """The folder of the built site; LUCID_SITE names one that is built already."""
    if not (building.ROOT / "docs" / "conf.py").is_file():
        pytest.skip("not run from a source checkout")
    if given := os.environ.get("LUCID_SITE"):
        return Path(given).resolve()
    if absent := missing(NEEDED):
        pytest.skip(f"{absent[0]} is not installed: the extra docs")
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    return building.build_once(shared / "site")


@pytest.fixture(scope="module")
def address(site) -> Iterator[str]:
    with building.served(site) as address:
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    with playwright.sync_playwright() as running:
        chromium = running.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def visit(browser, address) -> Iterator[Callable[..., Any]]:
    """Open pages; afterwards no error may have been logged, and no request have left."""
    complaints: list[str] = []
    contexts = []

    def open_page(path: str, width: int = 1280, height: int = 900, **settings: Any) -> Any:
        settings = {"reduced_motion": "reduce", **settings}  # boxes stay where they are measured
        context = browser.new_context(viewport={"width": width, "height": height}, **settings)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on(
            "console",
            lambda m: (
                complaints.append(f"{m.text} ({m.location['url']}, on {page.url})")
                if m.type in ("error", "warning")
                else None
            ),
        )
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "response",
            lambda answer: (
                complaints.append(f"{answer.status} for {answer.url}")
                if answer.status >= 400
                else None
            ),
        )
        page.on(
            "request",
            lambda request: (
                None
                if request.url.startswith((address, "file://", "data:", "blob:"))
                else complaints.append(f"request to {request.url}")
            ),
        )
        page.goto(path if "://" in path else f"{address}/{path}")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not complaints
