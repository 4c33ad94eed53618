"""The page that `lucid export --web` writes, in Chromium: its logits are lucid's."""

from __future__ import annotations

import base64
import gzip
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import lucid
from lucid import models, web
from lucid.cli import main
from lucid.data.datasets import read_image
from lucid.data.transforms import for_model
from lucid.web import _write
from tests.docs.site import ROOT, served
from tests.docs.test_reader import UNREADABLE

sync_api = pytest.importorskip("playwright.sync_api")
image = pytest.importorskip("PIL.Image")
pytest.importorskip("onnx")

CHROMIUM = os.environ.get("LUCID_CHROMIUM") or shutil.which("chromium") or ""
VENDOR = ROOT / "docs" / "_static" / "vendor"
in_chromium = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM, reason="there is no chromium"),
    pytest.mark.skipif(not VENDOR.is_dir(), reason="not run from a source checkout"),
]
NAME = "mobilenetv4_conv_small_035"
CAMERA = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
SIZE = 224


class Site(NamedTuple):
    """A page, where it is served, and its model."""

    address: str
    folder: Path
    model: Any


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that npm would fetch, from those of the documentation."""
    folder = tmp_path_factory.mktemp("runtime")
    for name in _write.RUNTIME:
        if (VENDOR / name).exists():
            shutil.copyfile(VENDOR / name, folder / name)
        else:
            packed = (VENDOR / f"{name}.gz").read_bytes()
            (folder / name).write_bytes(gzip.decompress(packed))
    return folder


def _site(folder: Path, runtime: Path, channels: int) -> Iterator[Site]:
    lucid.manual_seed(0)
    weights = folder / f"{NAME}.npz"
    fresh = models.create_model(NAME, num_classes=7, in_channels=channels)
    with lucid.no_grad():
        fresh.classifier.weight.mul_(0.1)  # logits as large as those of trained networks
    lucid.save(fresh.state_dict(), weights)
    output = ["-o", str(folder / "m.onnx"), "--web", str(folder / "page")]
    assert main(["export", str(weights), *output, "--runtime", str(runtime)]) == 0
    with served(folder / "page") as address:
        model = models.load_model(weights, tell=lambda line: None)
        yield Site(f"{address}/", folder / "page", model)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, runtime: Path) -> Iterator[Site]:
    yield from _site(tmp_path_factory.mktemp("web"), runtime, 3)


@pytest.fixture(scope="module")
def grey(tmp_path_factory: pytest.TempPathFactory, runtime: Path) -> Iterator[Site]:
    yield from _site(tmp_path_factory.mktemp("grey"), runtime, 1)


Visit = Callable[..., Any]


@pytest.fixture
def visit() -> Iterator[Visit]:
    """Open a page in Chromium; nothing may be logged, and no request may leave it."""
    messages: list[str] = []
    requests: list[str] = []
    with sync_api.sync_playwright() as playwright:

        def opened(site: Site, flags: list[str] | None = None, **settings: Any) -> Any:
            browser = playwright.chromium.launch(
                executable_path=CHROMIUM, args=["--no-sandbox", *(flags or [])]
            )
            page = browser.new_page(**settings)
            page.on("console", lambda message: messages.append(message.text))
            page.on("pageerror", lambda error: messages.append(str(error)))
            page.on("request", lambda request: requests.append(request.url))
            page.goto(site.address)
            if site.address.startswith("http"):
                _wait(page, "Ready.")
            return page

        yield opened
    assert messages == []
    own = ("http://127.0.0.1:", "file://", "data:", "blob:")
    assert [request for request in requests if not request.startswith(own)] == []


def _wait(page: Any, state: str) -> None:
    page.wait_for_function("state => byId('state').textContent === state", arg=state)


def _pixels(width: int = 410, height: int = 300) -> np.ndarray:
    small = np.random.default_rng(0).integers(0, 256, (30, 41, 4), dtype=np.uint8)
    return np.asarray(image.fromarray(small).resize((width, height)))


def _picture(folder: Path, name: str = "picture.png") -> Path:
    image.fromarray(_pixels()[..., :3]).save(folder / name)
    return folder / name


def _on_canvas(page: Any) -> np.ndarray:
    """Return the pixels of the canvas, ``(height, width, 4)``."""
    text = page.evaluate(
        """() => {
          const canvas = byId("view");
          const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
          let text = "";
          for (let i = 0; i < data.length; i += 4096) {
            text += String.fromCharCode(...data.subarray(i, i + 4096));
          }
          return [btoa(text), canvas.height, canvas.width];
        }"""
    )
    return np.frombuffer(base64.b64decode(text[0]), np.uint8).reshape(text[1], text[2], 4)


def _expected(model: Any, pixels: np.ndarray) -> np.ndarray:
    """Return lucid's own logits for a picture."""
    with lucid.no_grad():
        picture = for_model(model)(image.fromarray(np.ascontiguousarray(pixels[..., :3])))
        return model(picture.unsqueeze(0)).data[0]


def _check(page: Any, model: Any) -> None:
    """The page's logits, and its order of classes, are lucid's for what is on the canvas."""
    expected = _expected(model, _on_canvas(page))
    np.testing.assert_allclose(page.evaluate("classify(byId('view'))"), expected, atol=1e-3)
    names = page.locator("#answers li > span:first-child").all_text_contents()
    best = np.argsort(-expected, kind="stable")[:5]
    assert [name.split()[-1] for name in names] == [str(index) for index in best]


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
class TestThePage:
    pytestmark = in_chromium

    def test_a_chosen_file(
        self, visit: Visit, site: Site, tmp_path: Path, width: int, scheme: Any
    ) -> None:
        view = {"viewport": {"width": width, "height": 900}, "color_scheme": scheme}
        page = visit(site, **view)
        file = _picture(tmp_path)
        page.set_input_files("#file", file)
        _wait(page, "picture.png")
        np.testing.assert_array_equal(_on_canvas(page)[..., :3], np.asarray(read_image(file)))
        _check(page, site.model)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate(UNREADABLE) == []
        folder = os.environ.get("LUCID_SCREENSHOTS")
        if folder:
            page.screenshot(path=f"{folder}/web-{width}-{scheme}.png", full_page=True)


class TestPictures:
    pytestmark = in_chromium

    def test_a_dropped_picture(self, visit: Visit, site: Site, tmp_path: Path) -> None:
        page = visit(site)
        content = base64.b64encode(_picture(tmp_path).read_bytes()).decode()
        page.evaluate(
            """content => {
              const bytes = Uint8Array.from(atob(content), (c) => c.charCodeAt(0));
              window.given = new DataTransfer();
              given.items.add(new File([bytes], "dropped.png", { type: "image/png" }));
            }""",
            content,
        )
        fire = "name => byId('drop').dispatchEvent(new DragEvent(name, { dataTransfer: given, bubbles: true, cancelable: true }))"  # noqa: E501
        assert page.evaluate(fire, "dragover") is False, "or the browser would open the file"
        assert "over" in page.locator("#drop").get_attribute("class")
        page.evaluate(fire, "drop")
        _wait(page, "dropped.png")
        assert "over" not in page.locator("#drop").get_attribute("class")
        np.testing.assert_array_equal(_on_canvas(page)[..., :3], _pixels()[..., :3])
        _check(page, site.model)

    @pytest.mark.parametrize("name", ["turned.jpg", "alpha.png", "grey.png", "palette.png"])
    @pytest.mark.parametrize("channels", [3, 1])
    def test_kinds_of_pictures(
        self, visit: Visit, request: Any, tmp_path: Path, name: str, channels: int
    ) -> None:
        site = request.getfixturevalue("site" if channels == 3 else "grey")
        file, picture, options = tmp_path / name, image.fromarray(_pixels()), {}
        if name == "turned.jpg":
            exif = image.Exif()
            exif[0x0112] = 6
            picture, options = picture.convert("RGB"), {"exif": exif, "quality": 95}
        elif name != "alpha.png":
            picture = picture.convert("L" if name == "grey.png" else "P")
        picture.save(file, **options)
        page = visit(site)
        page.set_input_files("#file", file)
        _wait(page, name)
        ours = np.asarray(read_image(file)).astype(int)
        theirs = _on_canvas(page)[..., :3]
        assert theirs.shape == ours.shape == (*((410, 300) if "turned" in name else (300, 410)), 3)
        # Decoders of JPEG differ by some shades, and blending rounds.
        apart = {"turned.jpg": 8, "alpha.png": 1}.get(name, 0)
        assert np.abs(theirs - ours).max() <= apart
        _check(page, site.model)
        assert site.model.in_channels == channels

    def test_a_file_that_is_no_picture(self, visit: Visit, site: Site, tmp_path: Path) -> None:
        page = visit(site)
        (tmp_path / "notes.txt").write_text("no picture")
        page.set_input_files("#file", tmp_path / "notes.txt")
        _wait(page, "notes.txt is no picture that this browser can read.")
        page.set_input_files("#file", _picture(tmp_path))
        _wait(page, "picture.png")

    def test_by_keyboard_alone(self, visit: Visit, site: Site, tmp_path: Path) -> None:
        page = visit(site, flags=CAMERA)
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.id") == "file"
        outline = "getComputedStyle(document.activeElement.closest('.button, button')).outlineWidth"
        assert page.evaluate(outline) == "3px"
        with page.expect_file_chooser() as chooser:
            page.keyboard.press("Space")
        chooser.value.set_files(_picture(tmp_path))
        _wait(page, "picture.png")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.id") == "camera"
        assert page.evaluate(outline) == "3px"
        page.keyboard.press("Enter")
        _wait(page, "Looking through the camera.")
        page.keyboard.press("Enter")
        page.wait_for_function("byId('camera').textContent === 'use the camera'")


class TestCamera:
    pytestmark = in_chromium

    def test_frames_are_classified(self, visit: Visit, site: Site, tmp_path: Path) -> None:
        page = visit(site, flags=CAMERA)
        page.get_by_role("button", name="use the camera").click()
        _wait(page, "Looking through the camera.")
        page.wait_for_selector("#answers li")
        first = _on_canvas(page)
        page.wait_for_timeout(700)
        assert (first != _on_canvas(page)).any(), "it goes on"
        tracks = page.evaluate("(window.tracks = stream.getTracks()).length")
        assert tracks == 1
        page.get_by_role("button", name="stop the camera").click()
        page.wait_for_function("tracks.every((track) => track.readyState === 'ended')")
        page.wait_for_timeout(300)  # the frame that was under way
        assert min(_on_canvas(page).shape[:2]) > 100
        _check(page, site.model)
        page.get_by_role("button", name="use the camera").click()
        page.wait_for_function("stream !== undefined")
        page.evaluate("window.tracks = stream.getTracks()")
        page.set_input_files("#file", _picture(tmp_path))  # a picture ends it
        _wait(page, "picture.png")
        assert page.evaluate("tracks.every((track) => track.readyState === 'ended')")
        np.testing.assert_array_equal(_on_canvas(page)[..., :3], _pixels()[..., :3])

    def test_no_camera(self, visit: Visit, site: Site) -> None:
        page = visit(site)
        page.locator("#camera").click()
        page.wait_for_function(
            "byId('state').textContent.startsWith('There is no camera to use: ')"
        )
        assert page.locator("#camera").inner_text() == "use the camera"

    def test_a_page_that_gets_no_camera(self, visit: Visit, site: Site) -> None:
        page = visit(site)
        page.evaluate("Object.defineProperty(navigator, 'mediaDevices', { value: undefined })")
        page.locator("#camera").click()
        _wait(page, "Browsers give the camera to pages from localhost or by HTTPS only.")


class TestRuntime:
    @pytest.mark.slow
    @pytest.mark.skipif(not CHROMIUM, reason="there is no chromium")
    @pytest.mark.skipif(not VENDOR.is_dir(), reason="not run from a source checkout")
    def test_from_a_disk_it_says_what_it_needs(self, visit: Visit, site: Site) -> None:
        local = site._replace(address=(site.folder / "index.html").as_uri())
        page = visit(local)
        assert "python -m http.server" in page.locator("#state").inner_text()

    @pytest.mark.slow
    @pytest.mark.skipif(not shutil.which("npm"), reason="there is no npm")
    def test_npm_fetches_it(
        self, runtime: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        found = _write.find_runtime()
        assert found.parent.parent == tmp_path
        assert sorted(path.name for path in found.iterdir()) == sorted(_write.RUNTIME)
        for name in _write.RUNTIME:
            assert (found / name).read_bytes() == (runtime / name).read_bytes()
        monkeypatch.setenv("PATH", "")  # the cache is enough
        assert _write.find_runtime() == found

    def test_without_npm(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        monkeypatch.setenv("PATH", "")
        with pytest.raises(FileNotFoundError, match=r"npm is not installed: fetch it by `npm pack"):
            _write.find_runtime()

    def test_a_runtime_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match=r"has no ort\.wasm\.min\.js, a file of onnxru"):
            web.write_page(tmp_path / "m.onnx", tmp_path / "page", {}, runtime=tmp_path)
        assert not (tmp_path / "page").exists()
