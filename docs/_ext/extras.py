"""The directive ``extras-table``: the extras of ``pyproject.toml``, and what each is for."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # Sphinx requires it there

PROJECT = Path(__file__).resolve().parents[2] / "pyproject.toml"

#: In the order of the table: what a user needs, all of that, what a developer needs.
PURPOSES = {
    "fast": "kernels compiled for the machine, chosen by themselves",
    "data": "images from files, the handwritten digits, progress bars",
    "hub": "weights from the Hugging Face hub",
    "recipes": "recipes of training read with Python 3.10, whose library has no TOML",
    "tensorboard": "event files of a training, for TensorBoard",
    "plot": "pictures: ``--explain``, figures",
    "onnx": "ONNX files: ``lucid.onnx``, ``lucid export``",
    "parquet": "Parquet: sources of pictures, and results",
    "all": "all that lucid can use on one machine",
    "mpi": "training on several ranks, with an MPI for machines without one",
    "ray": "pictures divided by Ray: ``lucid.distributed.map_images``",
    "dask": "the example that divides pictures by Dask",
    "test": "the tests",
    "torch": "the tests that compare with PyTorch",
    "engines": "the tests with Ray and Dask",
    "runtimes": "the tests of ONNX files in OpenVINO, and of those that PyTorch writes",
    "bench": "the benchmarks beside PyTorch, ONNX Runtime and OpenVINO",
    "emulator": "the tests of the kernels for ARM on any processor",
    "lint": "checks of the code",
    "docs": "these pages",
    "browser": "the tests of these pages in Chromium",
}


def extras() -> dict[str, list[str]]:
    """Return each extra's requirements as they are written."""
    settings = tomllib.loads(PROJECT.read_text(encoding="utf-8"))
    return settings["project"]["optional-dependencies"]


def named(requirement: str) -> str:
    """Return what a requirement brings: a distribution, or other extras of lucid."""
    if own := re.match(r"lucid-numpy\[(.+)\]", requirement):
        return ", ".join(f"``[{name}]``" for name in own[1].split(","))
    return re.match(r"[\w-]+", requirement)[0]


class ExtrasTable(SphinxDirective):
    """See the module."""

    def run(self) -> list[nodes.Node]:
        """Return the table, of what is new too; a test asks for its purpose."""
        self.env.note_reread()  # the extras are in another file than the page
        required = extras()
        lines = [".. list-table::", "    :header-rows: 1", "    :class: extras", ""]
        rows = [["extra", "adds", "for"]]
        for name in sorted(required, key=[*PURPOSES, *required].index):
            brings = ", ".join(map(named, required[name]))
            rows.append([f"``{name}``", brings, PURPOSES.get(name, "")])
        for row in rows:
            lines += [f"    {'*' if cell is row[0] else ' '} - {cell}" for cell in row]
        return self.parse_text_to_nodes("\n".join(lines))


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive."""
    app.add_directive("extras-table", ExtrasTable)
    return {"parallel_read_safe": True}
