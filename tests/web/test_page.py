"""The page that `lucid export --web` writes, in Chromium: its logits are lucid's."""

from __future__ import annotations

import functools
import http.server
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lucid
from lucid import models, web
from lucid.cli import main
from lucid.data.transforms import for_model

sync_api = pytest.importorskip("playwright.sync_api")
image = pytest.importorskip("PIL.Image")
pytest.importorskip("onnx")

CHROMIUM = os.environ.get("LUCID_CHROMIUM") or shutil.which("chromium") or ""
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM, reason="there is no chromium"),
    pytest.mark.skipif(not shutil.which("npm"), reason="there is no npm"),
]
NAME = "mobilenetv4_conv_small_035"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Any, Path]]:
    """Where the page is served, its model, and a picture."""
    folder = tmp_path_factory.mktemp("web")
    lucid.manual_seed(0)
    weights = folder / f"{NAME}.npz"
    lucid.save(models.create_model(NAME, num_classes=7).state_dict(), weights)
    output = ["-o", str(folder / "model.onnx"), "--web", str(folder / "page")]
    assert main(["export", str(weights), *output]) == 0
    pixels = np.random.default_rng(0).integers(0, 256, (30, 41, 3), dtype=np.uint8)
    image.fromarray(pixels).resize((410, 300)).save(folder / "picture.png")
    handler = functools.partial(_Quiet, directory=str(folder / "page"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        model = models.load_model(weights, tell=lambda line: None)
        yield f"http://127.0.0.1:{server.server_port}/", model, folder / "picture.png"
        server.shutdown()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page(page: tuple[str, Any, Path], width: int, scheme: Any) -> None:
    url, model, picture = page
    with lucid.no_grad():
        expected = model(for_model(model)(image.open(picture)).unsqueeze(0)).data[0]
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        shown = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        messages: list[str] = []
        requests: list[str] = []
        shown.on("console", lambda message: messages.append(message.text))
        shown.on("pageerror", lambda error: messages.append(str(error)))
        shown.on("request", lambda request: requests.append(request.url))
        shown.goto(url)
        shown.wait_for_function("byId('state').textContent === 'Ready.'")
        shown.set_input_files("#file", picture)
        shown.wait_for_function("byId('state').textContent === 'picture.png'")
        logits = shown.evaluate("classify(byId('view'))")
        np.testing.assert_allclose(logits, expected, atol=1e-3)
        names = shown.locator("#answers li > span:first-child").all_text_contents()
        best = np.argsort(-expected, kind="stable")[:5]
        assert [name.split()[-1] for name in names] == [str(index) for index in best]
        assert shown.evaluate("document.documentElement.scrollWidth") <= width
        folder = os.environ.get("LUCID_SCREENSHOTS")
        if folder:
            shown.screenshot(path=f"{folder}/web-{width}-{scheme}.png", full_page=True)
        browser.close()
    assert messages == []
    assert all(request.startswith((url, "data:", "blob:")) for request in requests)


def test_a_runtime_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"has no ort\.wasm\.min\.js, a file of onnxrunt"):
        web.write_page(tmp_path / "m.onnx", tmp_path / "page", {}, runtime=tmp_path)
    assert not (tmp_path / "page").exists()
