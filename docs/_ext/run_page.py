"""Running the code of a Markdown page: its blocks in order, in one namespace and one folder.

    python docs/_ext/run_page.py PAGE FOLDER RESULT

runs a page in a folder and writes what its blocks printed to a JSON file. The extension
``executed`` does that while the pages are built; the tests run the pages in their own process.
"""

from __future__ import annotations

import contextlib
import doctest
import io
import json
import os
import re
import shlex
import subprocess
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]

_BLOCK = re.compile(r"^```(\S+)[^\n]*\n(.*?)^```$", re.DOTALL | re.MULTILINE)

# A picture or a report of the run, as the page shows it or links to it.
PRODUCT = re.compile(r"(!?)\[([^\]]*)\]\(([\w./-]+\.(?:png|jpg|svg|html))\)")

_SHELL = ("lucid", "ls", "cat")


class Block(NamedTuple):
    """A fenced block: the line of its fence, its language, its text, and its place in the page."""

    line: int
    language: str
    text: str
    start: int
    end: int


class PageError(Exception):
    """A block failed, or printed something else than the page says."""


def blocks(text: str) -> list[Block]:
    """Return the fenced blocks of a Markdown page."""
    return [
        Block(text[: m.start()].count("\n") + 1, m[1], m[2], m.start(), m.end())
        for m in _BLOCK.finditer(text)
    ]


def run(text: str, page: str, shell: bool = True) -> Iterator[tuple[Block, str]]:
    """Run a page's blocks in the current folder; yield each of Python or shell and what it printed.

    An ``output`` block behind one is what it has to print, with ``...`` for what may differ.

    Raises:
        PageError: naming page and line.
    """
    names: dict[str, Any] = {"__name__": "__main__"}
    printed: str | None = None
    for block in blocks(text):
        where = f"{page}, line {block.line}"
        try:
            if block.language == "python":
                printed = _run_python(block, page, names)
            elif block.language == "bash" and shell:
                printed = _run_shell(block.text)
        except (Exception, SystemExit) as error:
            lines = "".join(traceback.format_exception(error))
            raise PageError(f"{where}: the block failed:\n{lines}") from error
        if block.language in ("python", "bash") and printed is not None:
            printed = printed.replace(f"{Path.cwd()}{os.sep}", "")
            yield block, printed
        elif block.language == "output":
            options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
            if printed is None:
                raise PageError(f"{where}: output of nothing")
            if not doctest.OutputChecker().check_output(block.text, printed, options):
                raise PageError(f"{where}: expected\n{block.text}\nprinted\n{printed}")
            printed = None


def products(text: str) -> list[str]:
    """Return the files that a page shows or links to, and that its code has to write."""
    without = _BLOCK.sub("", text)
    return [m[3] for m in PRODUCT.finditer(without) if not m[3].startswith("..")]


def _run_python(block: Block, page: str, names: dict[str, Any]) -> str:
    out = io.StringIO()
    code = "\n" * block.line + block.text  # so that a traceback names the line of the page
    with contextlib.redirect_stdout(out):
        exec(compile(code, page, "exec"), names)
    return out.getvalue()


def _run_shell(text: str) -> str:
    """Run a block's commands, lucid's own in this process; return what they print, both streams."""
    from lucid import cli

    out = io.StringIO()
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if not words:
            continue
        assert words[0] in _SHELL, f"only {', '.join(_SHELL)} can be run here: {line}"
        if words[0] == "lucid":
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
                status = cli.main(words[1:])
            assert status == 0, f"{line}: {out.getvalue()}"
        else:
            out.write(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
    return out.getvalue()


def main() -> None:
    """Run the page that the command line names."""
    page, folder, target = map(Path, sys.argv[1:])
    text = page.read_text(encoding="utf-8")
    os.chdir(folder)
    sys.path[:1] = [str(ROOT)]  # in place of this file's folder
    (folder / "examples").symlink_to(ROOT / "examples")
    result: dict[str, Any] = {"printed": [], "error": None}
    try:
        for block, printed in run(text, f"{page.parent.name}/{page.name}"):
            result["printed"].append([block.line, printed])
        if absent := [name for name in products(text) if not (folder / name).is_file()]:
            raise PageError(f"{page.name}: no block has written {', '.join(absent)}")
    except PageError as error:
        result["error"] = str(error)
    done = target.with_suffix(".part")
    done.write_text(json.dumps(result), encoding="utf-8")
    done.replace(target)


if __name__ == "__main__":
    main()
