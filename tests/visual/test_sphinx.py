"""The directive ``lucid-model``, in documentation that is built here."""

from __future__ import annotations

import html
import os
import re
import sys
import time

import pytest

import lucid
from lucid import models
from lucid.visual import mermaid

pytest.importorskip("sphinx")
pytest.importorskip("sphinxcontrib.mermaid")

pytestmark = pytest.mark.filterwarnings("default::DeprecationWarning:sphinxcontrib.*")

SMALL = (1, 3, 64, 64)
CONF = 'project = "p"\nextensions = ["lucid.visual.sphinx"]\nhtml_theme = "basic"\n'
NETS = """\
from lucid import nn

class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(4, 2, bias=False))

number = int
"""


@pytest.fixture
def build(tmp_path, monkeypatch):
    """Return a function from reStructuredText to (the page, the warnings)."""
    from io import StringIO

    from sphinx.application import Sphinx
    from sphinx.util.docutils import docutils_namespace

    (tmp_path / "conf.py").write_text(CONF)
    (tmp_path / "own_nets.py").write_text(NETS)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "own_nets", raising=False)  # another test's

    def run(text: str, builder: str = "html", fresh: bool = True) -> tuple[str, str]:
        if fresh:
            (tmp_path / "index.rst").write_text("Page\n====\n\n" + text)
        out, warnings = tmp_path / "out", StringIO()
        with docutils_namespace():
            app = Sphinx(
                str(tmp_path),
                str(tmp_path),
                str(out),
                str(out / "trees"),
                builder,
                status=None,
                warning=warnings,
                freshenv=fresh,
            )
            app.build()
        suffix = {"html": "html", "text": "txt"}[builder]
        return (out / f"index.{suffix}").read_text(encoding="utf-8"), warnings.getvalue()

    return run


def test_diagram_and_table(build):
    page, warnings = build(
        ".. lucid-model:: mobilenet_v4_conv_small\n    :input-shape: 1, 3, 64, 64\n"
    )
    assert warnings == ""
    model = models.mobilenet_v4_conv_small()
    (chart,) = re.findall(r'<pre[^>]*class="mermaid"[^>]*>(.*?)</pre>', page, re.DOTALL)
    assert html.unescape(chart).strip() == mermaid(model, SMALL).strip()
    counts = lucid.summary(model, SMALL)
    rows = re.findall(r"<tr.*?</tr>", page, re.DOTALL)
    cells = [
        [
            html.unescape(re.sub("<.*?>", "", cell)).strip()
            for cell in re.findall(r"<t[hd].*?</t[hd]>", row, re.DOTALL)
        ]
        for row in rows
    ]
    assert cells[0] == ["Name", "Kind", "Output shape", "Parameters", "Multiply-adds"]
    assert cells[1:-1] == [
        [layer.name, layer.kind, str(layer.output_shape), f"{layer.params:,}", f"{layer.macs:,}"]
        for layer in counts.layers
    ]
    assert cells[-1] == ["Total", "", "", "3,774,024", f"{counts.total_macs:,}"]
    assert "<details" in page
    assert f"{len(counts.layers)} layers, 3,774,024 parameters" in page


def test_options(build):
    page, warnings = build(
        ".. lucid-model:: mobilenet_v4_conv_small\n"
        "    :input-shape: 1, 3, 64, 64\n    :depth: 1\n    :direction: tb\n    :repeats: all\n"
        "    :no-table:\n    :caption: The *small* one\n    :name: small-one\n\n"
        "See :ref:`small-one`.\n"
    )
    assert warnings == ""
    (chart,) = re.findall(r'<pre[^>]*class="mermaid"[^>]*>(.*?)</pre>', page, re.DOTALL)
    expected = mermaid(
        models.mobilenet_v4_conv_small(), SMALL, depth=1, direction="TB", collapse_repeats=False
    )
    assert html.unescape(chart).strip() == expected.strip()
    assert "<em>small</em>" in page
    assert 'id="small-one"' in page
    assert "<table" not in page
    page, _ = build(
        ".. lucid-model:: mobilenet_v4_conv_small\n"
        "    :input-shape: 1, 3, 64, 64\n    :table-depth: 1\n    :no-diagram:\n"
    )
    assert 'class="mermaid"' not in page
    assert "classifier" in page
    assert "conv0.convbn_0" not in page


def test_a_model_of_ones_own(build):
    page, warnings = build(".. lucid-model:: own_nets:Net\n    :input-shape: 1, 4\n")
    assert warnings == ""
    assert "1 layers" not in page
    assert "1 layer, 8 parameters, 8 multiply-adds" in page


def test_as_text(build):
    text, _ = build(
        ".. lucid-model:: own_nets:Net\n    :input-shape: 1, 4\n    :no-diagram:\n", "text"
    )
    assert "Linear" in text
    assert "details" not in text


@pytest.mark.parametrize(
    ("directive", "message"),
    [
        ("resnet50", "'resnet50': create_model: there is no model 'resnet50'"),
        ("own_nets:Nothing", "'own_nets:Nothing': module 'own_nets' has no attribute 'Nothing'"),
        ("no_such_file:Net", "'no_such_file:Net': No module named 'no_such_file'"),
        ("own_nets:number", r"expected a lucid.nn.Module, got int"),
        ("own_nets:Net", "does not run on an input of shape"),
        ("own_nets:Net\n    :input-shape: a, b", "expected sizes such as 1, 3, 224, 224"),
        ("own_nets:Net\n    :repeats: some", "repeats"),
    ],
)
def test_errors_name_the_model(build, directive, message):
    _, warnings = build(f".. lucid-model:: {directive}\n")
    assert "ERROR" in warnings
    assert message in warnings


def test_a_page_is_drawn_anew_when_its_model_has_changed(build, tmp_path):
    text = ".. lucid-model:: own_nets:Net\n    :input-shape: 1, 4\n"
    before, _ = build(text)
    assert "8 parameters" in before
    file = tmp_path / "own_nets.py"
    file.write_text(file.read_text().replace("4, 2", "4, 3"))
    os.utime(file, ns=(time.time_ns() + 10**9,) * 2)
    del sys.modules["own_nets"]
    after, warnings = build(text, fresh=False)
    assert "12 parameters" in after
    assert warnings == ""


def test_no_weights_are_drawn(build):
    lucid.manual_seed(0)
    expected = lucid.randn(1).item()
    lucid.manual_seed(0)
    build(".. lucid-model:: mobilenet_v4_conv_small\n    :no-table:\n")
    assert lucid.randn(1).item() == expected
