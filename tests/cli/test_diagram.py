"""`lucid diagram`."""

from __future__ import annotations

import html
import re
import xml.etree.ElementTree

import pytest

from lucid import models
from lucid.cli import main
from lucid.visual import mermaid, svg

SMALL = (1, 3, 64, 64)
COMMAND = ["diagram", "mobilenet_v4_conv_small", "--size", "64"]


def model():
    return models.mobilenet_v4_conv_small()


def test_it_prints_mermaid(capsys):
    assert main(COMMAND) == 0
    captured = capsys.readouterr()
    assert captured.out == mermaid(model(), SMALL)
    assert captured.err == ""


def test_options(capsys):
    options = ["--depth", "all", "--direction", "TB", "--repeats", "exact", "--no-shapes"]
    assert main([*COMMAND, *options]) == 0
    assert capsys.readouterr().out == mermaid(
        model(), SMALL, depth=None, direction="TB", collapse_repeats="exact", show_shapes=False
    )


def test_files(tmp_path, capsys):
    for suffix in (".mmd", ".svg", ".html"):
        path = tmp_path / "new" / f"chart{suffix}"
        assert main([*COMMAND, "-o", str(path)]) == 0
        assert capsys.readouterr().out == f"{path}\n"
    folder = tmp_path / "new"
    assert (folder / "chart.mmd").read_text(encoding="utf-8") == mermaid(model(), SMALL)
    image = (folder / "chart.svg").read_text(encoding="utf-8")
    assert image == svg(model(), SMALL)
    xml.etree.ElementTree.fromstring(image)
    page = (folder / "chart.html").read_text(encoding="utf-8")
    assert image in page
    assert html.escape(mermaid(model(), SMALL)) in page
    namespace = "http://www.w3.org/2000/svg"
    assert set(re.findall(r"https?://[^\s\"'<]+", page)) == {namespace}, "nothing from elsewhere"


@pytest.mark.parametrize("level", ["stage", "block"])
def test_levels(level, tmp_path, capsys):
    assert main([*COMMAND, "--level", level]) == 0
    assert capsys.readouterr().out == mermaid(model(), SMALL, level=level)
    for options, direction in (([], None), (["--direction", "LR"], "LR")):
        path = tmp_path / f"{direction}.svg"
        assert main([*COMMAND, "--level", level, *options, "-o", str(path)]) == 0
        image = svg(model(), SMALL, level=level, direction=direction)
        assert path.read_text(encoding="utf-8") == image
    page = tmp_path / "page.html"
    assert main([*COMMAND, "--level", level, "-o", str(page)]) == 0
    text = page.read_text(encoding="utf-8")
    assert '<details data-part="layers.2"><summary' in text
    assert html.escape(mermaid(model(), SMALL, level=level)) in text


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["diagram", "mobilenet_v4_conv_smal"], "did you mean mobilenet_v4_conv_small"),
        ([*COMMAND, "-o", "chart.png"], "expected a name ending in .mmd or .svg or .html"),
    ],
)
def test_wrong_use(argv, message, capsys):
    assert main(argv) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("lucid diagram: ")
    assert message in captured.err
    assert captured.err.count("\n") == 1


def test_a_folder_is_no_file(tmp_path, capsys):
    folder = tmp_path / "a.svg"
    folder.mkdir()
    assert main([*COMMAND, "-o", str(folder)]) == 2
    assert "is a folder" in capsys.readouterr().err


@pytest.mark.parametrize("depth", ["0", "none", "-1"])
def test_wrong_depth(depth, capsys):
    with pytest.raises(SystemExit) as error:
        main([*COMMAND, "--depth", depth])
    assert error.value.code == 2
    assert "expected a positive integer" in capsys.readouterr().err


def test_help(capsys):
    with pytest.raises(SystemExit) as error:
        main(["diagram", "--help"])
    assert error.value.code == 0
    assert "example:\n  lucid diagram" in capsys.readouterr().out
