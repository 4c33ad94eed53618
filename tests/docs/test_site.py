"""The built pages: links, names, and what must not be in them."""

from __future__ import annotations

import re
import zlib
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import lucid
from tests.docs.site import ROOT
from tests.docs.test_docstrings import MODULES, public_names


class Page(HTMLParser):
    """The ids of a page, its links, and the files it loads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if "id" in values:
            self.ids.add(values["id"])
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        elif tag == "link" and values.get("rel") not in ("index", "search", "next", "prev"):
            self.loaded.append(values.get("href", ""))
        elif tag in ("script", "img", "iframe", "source") and "src" in values:
            self.loaded.append(values["src"])


@pytest.fixture(scope="module")
def pages(site) -> dict[Path, Page]:
    return {path: Page(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}


def test_internal_links_lead_somewhere(pages):
    broken = []
    for path, page in pages.items():
        for link in page.links + page.loaded:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.is_file():
                broken.append(f"{path.name}: {link}")
            elif target in pages and parts.fragment:
                fragment = unquote(parts.fragment)
                if fragment not in pages[target].ids and not fragment.startswith("L"):
                    broken.append(f"{path.name}: {link}")
    assert not broken


def test_pages_load_nothing_from_elsewhere(pages):
    for path, page in pages.items():
        for address in page.loaded:
            assert not urlsplit(address).netloc, f"{path.name} loads {address}"


def test_every_public_name_is_in_the_reference(site):
    inventory = (site / "objects.inv").read_bytes()
    lines = zlib.decompress(inventory.split(b"\n", 4)[4]).decode().splitlines()
    known = {line.split(" ")[0] for line in lines}
    absent = [
        f"{module}.{name}"
        for module in MODULES
        for name, value in public_names(module).items()
        if f"{module}.{name}" not in known
        # Names of lucid itself that a package shows as well are described once.
        and not (module != "lucid" and getattr(lucid, name, None) is value)
    ]
    assert not absent


def test_the_pages_of_the_models(site):
    page = (site / "models" / "MobileNet_V4.html").read_text(encoding="utf-8")
    for part in ("Overview", "Class Signature", "Parameters"):
        assert f"<h2>{part}" in page
    assert 'class="badge badge-convnet"' in page
    for name in lucid.models.list_models("mobilenet_v4_"):
        counts = lucid.summary(lucid.models.create_model(name), (1, 3, 224, 224))
        own = (site / "models" / f"{name}.html").read_text(encoding="utf-8")
        assert f"{counts.total_params:,}" in own
        assert f"{counts.total_macs:,}" in own
        assert f"{name}.html" in page


def test_the_page_of_published_weights_has_the_librarys_table(site):
    page = (site / "checkpoints.html").read_text(encoding="utf-8")
    text = re.sub(r"<[^>]+>", " ", page)
    words = text.split()
    for entry in lucid.models.list_pretrained():
        row = words[words.index(entry.name.removeprefix("mobilenetv4_")) :][:6]
        assert row[1:3] == [f"{entry.parameters:,}", str(entry.input_size[-1])]
        assert row[3] == ("–" if entry.top1 is None else f"{entry.top1:.2f}")
        if entry.test_top1 is not None:
            assert row[4:] == [str(entry.test_input_size[-1]), f"{entry.test_top1:.2f}"]
    for name in lucid.models.list_models("mobilenet_v4_"):
        counts = lucid.summary(lucid.models.create_model(name), (1, 3, 224, 224))
        assert f"{counts.total_macs:,}" in words


def test_mermaid_is_the_file_that_is_named():
    import hashlib

    folder = ROOT / "docs" / "_static" / "vendor"
    digest = hashlib.sha256((folder / "mermaid.min.js").read_bytes()).hexdigest()
    assert digest in (folder / "README.md").read_text(encoding="utf-8")


def test_the_landing_page_shows_the_readmes_code():
    def first(path: Path) -> str:
        found = re.search(r"^```python\n(.*?)^```", path.read_text("utf-8"), re.DOTALL | re.M)
        assert found
        return found[1]

    assert first(ROOT / "docs" / "index.md") == first(ROOT / "README.md")
