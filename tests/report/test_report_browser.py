"""From scikit-image's faces and photographs to a report, and that in Chromium, offline."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lucid.cli import main

sync_api = pytest.importorskip("playwright.sync_api")
pytest.importorskip("skimage")
photographs = pytest.importorskip("tests.report.photographs")

CHROMIUM = os.environ.get("LUCID_CHROMIUM") or shutil.which("chromium") or ""
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="there is no chromium")

# The least contrast of a text with what is behind it (WCAG 2.1, 1.4.3: 4.5 for small text).
CONTRAST = """() => {
  const parse = text => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map(v => v / 255).map(
      v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const behind = node => {
    for (; node; node = node.parentElement) {
      const colour = parse(getComputedStyle(node).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
  };
  let least = 99;
  for (const node of document.querySelectorAll("h1, h2, p, a, dt, dd, small, th, td, .caption")) {
    const [a, b] = [light(parse(getComputedStyle(node).color)), light(behind(node))];
    least = Math.min(least, (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05));
  }
  return least;
}"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a short run on ten classes of pictures as people have them."""
    folder = tmp_path_factory.mktemp("trial")
    photographs.make(folder / "photos")
    options = ["--size", "64", "--epochs", "4", "--batch-size", "32", "--lr", "0.002"]
    options += ["--data", str(folder / "photos"), "--output", str(folder / "run")]
    assert main(["train", *options]) == 0
    return folder / "run"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


def test_the_folder_is_understood(run):
    document = json.loads((run / "report.json").read_text())
    assert document["evaluation"]["classes"] == sorted(photographs.CLASSES)
    assert sum(map(sum, document["evaluation"]["confusion"])) == 50
    files = json.dumps([document["mistakes"], document["suspects"], document["alike"]])
    assert "broken" not in files
    first = document["alike"][0]
    twice = {Path(first[side]["file"]).name for side in ("first", "second")}
    assert twice == {Path(name).name for name in photographs.TWICE}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_in_a_browser(run, browser, width, scheme):
    said: list[str] = []
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True
    )
    page = context.new_page()
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("dialog", lambda dialog: (said.append(dialog.message), dialog.dismiss()))
    page.on(
        "request",
        lambda request: (
            None if request.url.startswith(("file:", "data:")) else said.append(request.url)
        ),
    )
    page.goto((run / "report.html").as_uri())
    assert page.locator("section").count() == 11
    wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert page.evaluate(wide) <= 0
    pictures = page.locator("img")
    assert pictures.count() > 24
    assert page.evaluate("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
    assert page.evaluate(CONTRAST) >= 4.5
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(255, 255, 255)") == (scheme == "light")
    context.close()
    assert not said


def test_it_is_printed_on_white(run, browser):
    context = browser.new_context(color_scheme="dark")
    page = context.new_page()
    page.goto((run / "report.html").as_uri())
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.pdf(format="A4").startswith(b"%PDF")
    context.close()
