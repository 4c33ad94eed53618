"""The built pages: links, names, and what must not be in them."""

from __future__ import annotations

import html
import re
import sys
import zlib
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import lucid
from benchmarks import _results as results
from tests.docs.site import ROOT, extension
from tests.docs.test_docstrings import MODULES, public_names

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli")


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


def test_a_page_of_the_reference_has_each_title_once(site):
    """Two modules whose names have one title stand under it together."""
    for page in sorted((site / "reference").glob("*.html")):
        titles = re.findall(r"<h2>(.*?)<a ", page.read_text(encoding="utf-8"))
        assert len(titles) == len(set(titles)), (page.stem, titles)
        assert "Containers" in titles or page.stem != "nn"


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


def words(page: Path) -> str:
    """Return a page's text with single spaces."""
    text = re.sub(
        r"<(script|style|svg)\b.*?</\1>|<[^>]+>", " ", page.read_text("utf-8"), flags=re.S
    )
    return " ".join(html.unescape(text).split())


def test_no_type_is_written_as_sphinx_own_object(site):
    for page in site.glob("reference/*.html"):
        assert "TypeAliasForwardRef" not in page.read_text("utf-8"), page.name
    text = re.sub(r"<[^>]+>", "", (site / "reference" / "lucid.html").read_text("utf-8"))
    assert "dtype: DTypeLike | None = None" in html.unescape(text)


def test_every_extra_has_its_line(site):
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    page = (site / "installation.html").read_text("utf-8")
    rows = [re.findall(r"<td>(.*?)</td>", row, re.S) for row in page.split("<tr")]
    cells = {words_of(row[0]): words_of(row[1]) for row in rows if len(row) == 3}
    wanted = settings["project"]["optional-dependencies"]
    assert cells.keys() == wanted.keys()
    for name, requirements in wanted.items():
        for requirement in requirements:
            distribution = re.match(r"[\w-]+", requirement)[0]
            assert distribution in cells[name] or distribution == "lucid-numpy"


def test_every_extra_has_a_purpose():
    pytest.importorskip("sphinx")
    extras = extension("extras")
    assert extras.PURPOSES.keys() == extras.extras().keys()
    assert all(extras.PURPOSES.values())


def words_of(fragment: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", "", fragment).split())


def test_the_models_page_begins_with_a_sentence(site):
    page = (site / "models" / "index.html").read_text("utf-8")
    assert re.search(r"</h1>\s*<p>All models are", page)


def test_the_pages_of_the_models_lead_to_what_weights_may_be(site):
    told = words(site / "reference" / "models.html")
    assert "weights is one of" in told
    for name in lucid.models.list_models():
        page = (site / "models" / f"{name}.html").read_text("utf-8")
        assert "first lines" not in page
        assert 'href="../reference/models.html#module-lucid.models"' in page, name


def test_the_times_of_the_variants_are_in_order_and_once(site):
    page = (site / "comparison.html").read_text("utf-8")
    table = page[page.index('id="latency"') :]
    rows = re.findall(r"<tr[^>]*>\s*<td>(.*?)</td>\s*<td>(.*?)</td>", table, re.S)
    found = [(words_of(name), words_of(batch)) for name, batch in rows]
    assert found == [(name, batch) for name in results.VARIANTS for batch in ("1", "16")]
