"""Pages that run: their code is executed while they are built, and its output shown.

Plain Markdown stays plain. Behind each block of Python or shell that prints something, the page has
what it printed, in the place of an ``output`` block if there is one. ``![what it shows](cat.png)``
is a picture that a block wrote, ``[the report](runs/a/report.html)`` a page. A block that fails, or
prints something else than its ``output`` block says, fails the build.

Each page runs in a process and a folder of its own, two at a time, while the others are built.
Results are kept beside the doctrees until the page or lucid's sources change.
"""

from __future__ import annotations

import functools
import hashlib
import html
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from run_page import PRODUCT, ROOT, blocks, products
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util.fileutil import copy_asset_file

RUN = ("tutorials/*.md", "quantization.md")
#: Not run: without a block of code, or of weights that would have to be downloaded.
NOT_RUN = {"tutorials/index", "tutorials/pretrained"}
LIMIT = 400  # seconds for a page
SHOWN = 60  # lines of an output


@functools.cache
def sources() -> str:
    """Return a digest of all that pages may run."""
    digest = hashlib.sha256(Path(__file__).with_name("run_page.py").read_bytes())
    for folder, pattern in (("lucid", "**/*.py"), ("lucid", "**/*.toml"), ("examples", "*.py")):
        for path in sorted((ROOT / folder).glob(pattern)):
            digest.update(path.read_bytes())
    return digest.hexdigest()


def pages(app: Sphinx) -> Iterator[tuple[str, Path]]:
    """Yield the names of the pages that run, and their files."""
    source = Path(app.srcdir)
    for path in sorted(path for pattern in RUN for path in source.glob(pattern)):
        name = path.relative_to(source).with_suffix("").as_posix()
        if name not in NOT_RUN:
            yield name, path


def folder_of(app: Sphinx, path: Path) -> Path:
    """Return where the results of a page are kept."""
    key = hashlib.sha256((sources() + path.read_text(encoding="utf-8")).encode()).hexdigest()
    return Path(app.doctreedir) / "executed" / f"{path.stem}-{key[:16]}"


def start(app: Sphinx) -> None:
    """Begin to run the pages of which nothing is kept."""
    waiting = []
    for _, path in pages(app):
        folder = folder_of(app, path)
        if not (folder / "result.json").exists():
            for old in folder.parent.glob(f"{path.stem}-*"):
                shutil.rmtree(old)
            folder.mkdir(parents=True)
            waiting.append((path, folder))
    pool = ThreadPoolExecutor(2)
    for path, folder in waiting:
        pool.submit(execute, path, folder)
    pool.shutdown(wait=False)


def execute(path: Path, kept: Path) -> None:
    """Run a page; keep what it printed and the files that it shows, or the error."""
    environment = {
        **os.environ,
        "LUCID_BACKEND": "numpy",  # the same numbers wherever the pages are built
        "NO_COLOR": "1",
        "COLUMNS": "88",
    }
    result = kept / "ran.json"
    runner = Path(__file__).with_name("run_page.py")
    with tempfile.TemporaryDirectory() as temporary:
        try:
            subprocess.run(
                [sys.executable, runner, path, temporary, result],
                env=environment,
                check=True,
                timeout=LIMIT,
                capture_output=True,
                text=True,
            )
            for name in products(path.read_text(encoding="utf-8")):
                if (found := Path(temporary) / name).is_file():
                    (kept / name).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(found, kept / name)
        except Exception as error:
            told = getattr(error, "stderr", None) or ""
            result.write_text(json.dumps({"printed": [], "error": f"{path.name}: {error}\n{told}"}))
    result.replace(kept / "result.json")


def outdated(app: Sphinx, *_: Any) -> list[str]:
    """Have all pages that run read again: what they show depends on lucid too."""
    return [name for name, _ in pages(app)]


def show(app: Sphinx, docname: str, source: list[str]) -> None:
    """Put what a page's blocks printed and wrote into its text."""
    path = dict(pages(app)).get(docname)
    if path is None:
        return
    kept = folder_of(app, path)
    wait_until = time.monotonic() + 3 * LIMIT
    while not (kept / "result.json").exists():
        if time.monotonic() > wait_until:
            raise ExtensionError(f"{docname}: its code has not come to an end")
        time.sleep(0.1)
    result = json.loads((kept / "result.json").read_text(encoding="utf-8"))
    if result["error"]:
        (kept / "result.json").unlink()  # the cause may be none of the sources
        raise ExtensionError(result["error"])
    text = with_output(source[0], dict(result["printed"]))
    source[0] = with_products(app, docname, text, kept)


def with_output(text: str, printed: dict[int, str]) -> str:
    """Return a page with what was printed by the blocks on those lines."""
    parts, place, waiting = [], 0, ""
    for block in blocks(text):
        if block.language == "output":
            start = text[: block.start].rstrip()
            parts.append(text[place : len(start)] + waiting)
            place, waiting = block.end, ""
            continue
        parts += [waiting, text[place : block.end]]
        place, waiting = block.end, fenced(printed.get(block.line, ""))
    return "".join([*parts, waiting, text[place:]])


def fenced(printed: str) -> str:
    """Return what was printed as a block of a page; nothing if it is empty."""
    lines = [line.rstrip() for line in printed.rstrip().splitlines()]
    if not lines:
        return ""
    if len(lines) > SHOWN:
        lines[SHOWN // 2 : -SHOWN // 2] = ["…"]
    body = "\n".join(lines)
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", body)), default=0))
    return f"\n\n{fence}output\n{body}\n{fence}"


def with_products(app: Sphinx, docname: str, text: str, kept: Path) -> str:
    """Return a page with the pictures and pages that its code wrote in place of their names."""
    place = Path("_images") / docname
    up = "../" * docname.count("/")

    def put(match: re.Match[str]) -> str:
        is_picture, words, name = match.groups()
        found = kept / name
        if not found.is_file():
            return match[0]
        target = Path(app.outdir) / place / name
        target.parent.mkdir(parents=True, exist_ok=True)
        copy_asset_file(found, target, force=True)
        address, words = html.escape(f"{up}{(place / name).as_posix()}"), html.escape(words)
        if not is_picture:
            return f'<a href="{address}">{words}</a>'
        return (
            f'<figure class="executed"><img src="{address}" alt="{words}" loading="lazy">'
            f"<figcaption>{words}</figcaption></figure>"
        )

    return PRODUCT.sub(put, text)


def setup(app: Sphinx) -> dict[str, Any]:
    """Run the pages while the others are built."""
    app.connect("builder-inited", start)
    app.connect("env-get-outdated", outdated)
    app.connect("source-read", show)
    return {"parallel_read_safe": True}
