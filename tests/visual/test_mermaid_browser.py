"""Charts in Mermaid itself, in Chromium: they are drawn, and no name in them acts."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from lucid import models, nn
from lucid.visual import mermaid, svg
from tests.visual.test_mermaid import NASTY, SMALL, Residual, model_of_names

sync_api = pytest.importorskip("playwright.sync_api")

SCRIPT = Path(__file__).parents[2] / "docs" / "_static" / "vendor" / "mermaid.min.js"
CHROMIUM = os.environ.get("LUCID_CHROMIUM") or shutil.which("chromium") or ""

pytestmark = [
    pytest.mark.skipif(not SCRIPT.is_file(), reason="not run from a source checkout"),
    pytest.mark.skipif(not CHROMIUM, reason="there is no chromium"),
]

# Draws a chart and returns its texts, and how much there is that should not be.
DRAW = """async chart => {
    const {svg} = await mermaid.render('drawn', chart);
    document.body.innerHTML = svg;
    const all = query => [...document.body.querySelectorAll(query)];
    return {
        labels: all('.nodeLabel').map(e => e.innerText),
        edges: all('path.flowchart-link').length,
        foreign: all('script, img, a, i, math, [onclick], [onerror]').length,
        acted: window.acted === true,
    };
}"""


@pytest.fixture(scope="module")
def page():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        page.set_default_timeout(120_000)
        page.set_content("<!DOCTYPE html><body></body>")
        page.add_script_tag(path=str(SCRIPT))
        page.evaluate("mermaid.initialize({startOnLoad: false, maxTextSize: 1e6, maxEdges: 5000})")
        yield page
        browser.close()


@pytest.mark.parametrize("name", models.list_models("mobilenet_v4"))
def test_the_variants(page, name):
    model = models.create_model(name)
    for chart in (mermaid(model, SMALL), mermaid(model)):
        drawn = page.evaluate(DRAW, chart)
        assert name in drawn["labels"]
        assert drawn["edges"] == chart.count(" --> ") + chart.count(" -.->")
    assert not drawn["foreign"]


def test_everything_of_a_large_model(page):
    chart = mermaid(models.mobilenet_v4_hybrid_medium(), SMALL, depth=None, collapse_repeats=False)
    assert page.evaluate(DRAW, chart)["edges"] == chart.count(" --> ")


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (nn.Conv2d(3, 4, 3), (1, 3, 8, 8)),
        (nn.Conv2d(3, 4, 3), None),
        (nn.Sequential(), (1, 3)),
        (nn.Sequential(nn.Flatten()), (1, 3)),
        (nn.Sequential(Residual(), Residual()), (1, 4)),
        (nn.Sequential(Residual(), Residual()), None),
    ],
)
def test_small_models(page, model, shape):
    assert page.evaluate(DRAW, mermaid(model, shape))["labels"]


@pytest.mark.parametrize(
    "name", [*NASTY, "<img src=x onerror='window.acted = true'>", "1. x", "- x"]
)
def test_names_are_shown_and_never_act(page, name):
    title = name + " "
    drawn = page.evaluate(DRAW, mermaid(model_of_names(title, name, name), (1, 4)))
    assert not drawn["acted"]
    assert not drawn["foreign"]
    shown = " ".join(title.replace("\x00", "\ufffd").replace("\x1b", "\ufffd").split())
    labels = {" ".join(label.replace("\u200b", "").split()) for label in drawn["labels"]}
    assert shown in labels
    assert f"Output {shown} (1,4)" in labels


def test_images(page):
    page.set_content(svg(models.mobilenet_v4_conv_small(), SMALL))
    assert page.locator("svg .node").count() > 10
    # No text is wider than its box: the widths were only guessed.
    too_wide = page.evaluate(
        """() => [...document.querySelectorAll('svg g')].filter(g => {
            const box = g.querySelector(':scope > rect').getBBox().width;
            return [...g.querySelectorAll(':scope > text')].some(t => t.getBBox().width > box);
        }).length"""
    )
    assert too_wide == 0
