"""Every figure of speed, size and accuracy on README and the pages stands in a results file.

The pages' figures are written while they are built: their sources hold none. README's are computed
here from the same files, each number of its section on speed in its place.
"""

from __future__ import annotations

import json
import re
import statistics
from pathlib import Path
from typing import Any

import pytest

from lucid import models
from tests.docs.site import ROOT, extension

results = extension("results")
RESULTS = ROOT / "benchmarks" / "results"
VARIANTS = ("conv_small", "conv_medium", "hybrid_medium", "conv_large", "hybrid_large")
#: The best of each library is the fastest of these, where they were measured.
FAMILIES = {
    "numba": ("lucid-numba", "lucid-numba-compiled"),
    "numpy": ("lucid-numpy", "lucid-numpy-compiled"),
    "torch": ("torch", "torch-channels-last", "torch-compile"),
    "onnxruntime": ("onnxruntime",),
}


def prose(text: str) -> str:
    """Return Markdown without its head, code, directives and the targets of links."""
    text = re.sub(r"\A---\n.*?^---\n", "", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"`[^`]*`|\]\([^)]*\)", " ", text)


def numbers(text: str) -> list[str]:
    return re.findall(r"(?<![A-Za-z])\d+(?:[.,]\d+)*", text)


def case(variant: str, mode: str, batch: int) -> dict[str, Any]:
    """Return the one case of that kind in the runs that the figures are of."""
    found = [
        one
        for name in results.COMPARISONS
        for one in json.loads((RESULTS / f"{name}.json").read_text("utf-8"))["cases"]
        if (one["variant"], one["mode"], one["batch"]) == (variant, mode, batch)
    ]
    assert len(found) == 1, f"{variant}, {mode}, {batch} is in {len(found)} files"
    return found[0]


def best(found: dict[str, Any], family: str) -> float:
    rows = found["rows"]
    return min(statistics.median(rows[n]["rounds_ms"]) for n in FAMILIES[family] if n in rows)


def ratios(mode: str, batch: int, ours: str, theirs: str) -> list[str]:
    """Return the smallest and the largest ratio over the variants."""
    cases = [case(variant, mode, batch) for variant in VARIANTS]
    found = [best(one, ours) / best(one, theirs) for one in cases]
    return [f"{min(found):.2f}", f"{max(found):.2f}"]


def shown(ms: float) -> str:
    return f"{ms:.1f}" if ms < 10 else f"{ms:.0f}"


def test_each_number_of_readmes_section_on_speed_is_measured():
    text = (ROOT / "README.md").read_text("utf-8")
    section = prose(text.split("\n## Speed\n")[1].split("\n## ")[0])
    expected = [str(results.load("conv_small")["settings"]["size"])] * 2
    for mode, batch in (("inference", 1), ("inference", 16), ("training", 16)):
        found = case("conv_small", mode, batch)
        families = [f for f in FAMILIES if f != "onnxruntime" or mode == "inference"]
        expected += [str(batch)] * (batch > 1) + [shown(best(found, f)) for f in families]
    numba = ratios("inference", 1, "numba", "onnxruntime")
    numba += ratios("inference", 16, "numba", "onnxruntime")
    expected += [min(numba), max(numba), *ratios("training", 16, "numba", "torch")]
    expected += ratios("training", 16, "numpy", "torch")
    expected += [*ratios("inference", 16, "numpy", "torch"), "16"]
    expected += ratios("inference", 1, "numpy", "torch")
    assert numbers(section) == expected
    machine = results.load("conv_small")["machine"]
    assert f"{'two' if machine['threads'] == 2 else machine['threads']} cores" in section
    assert machine["processor"] in " ".join(section.split())


def test_the_evaluator_on_numpy_takes_nine_times_lucids_time():
    rows = results.load("numpy-alone")["cases"][0]["rows"]
    ratio = rows["onnx-reference"]["median_ms"] / rows["lucid-numpy-compiled"]["median_ms"]
    assert round(ratio) == 9
    readme = " ".join((ROOT / "README.md").read_text("utf-8").split())
    assert "takes nine times lucid's time" in readme
    notes = " ".join((ROOT / "docs" / "performance-notes.md").read_text("utf-8").split())
    names = ("onnx-reference", "lucid-numpy-compiled", "lucid-numpy")
    sentence = (
        "takes it {:.1f} ms, lucid's compiled plan {:.1f} and its eager model {:.1f} "
        "(`benchmarks/results/numpy-alone.md`)"
    )
    assert sentence.format(*(rows[name]["median_ms"] for name in names)) in notes


def test_readme_quotes_the_accuracy_that_timm_reports():
    text = " ".join((ROOT / "README.md").read_text("utf-8").split())
    recommended = models.list_pretrained("mobilenetv4_conv_aa_large.*")[0]
    size = recommended.test_input_size[-1]
    assert f"({recommended.test_top1:.1f} % top-1 on ImageNet at {size}×{size})" in text
    assert f"all {len(models.list_pretrained())} checkpoints" in text


#: What is no measurement: versions, names and sizes of images.
NAMES = re.compile(r"Python 3\.\d+|ImageNet-1k|float32|\d+×\d+")


@pytest.mark.parametrize("page", ["index.md", "performance.md"])
def test_a_page_holds_no_figure_that_it_did_not_compute(page):
    text = prose((ROOT / "docs" / page).read_text("utf-8"))
    assert numbers(NAMES.sub("", text)) == []


def test_every_case_of_the_plots_is_in_one_file_of_one_run():
    assert results.VARIANTS == VARIANTS
    for mode, batch in results.KINDS:
        for variant in VARIANTS:
            case(variant, mode, batch)


def test_the_front_page_shows_what_was_measured(site):
    page = re.sub(r"<[^>]+>", " ", (site / "index.html").read_text("utf-8"))
    one = case("conv_small", "inference", 1)
    for family in FAMILIES:
        assert f"{best(one, family):.1f} ms" in page
    for row in json.loads((RESULTS / "size.json").read_text("utf-8"))["rows"].values():
        assert f"{row['bytes'] / 1e6:.0f} MB" in page
    rows = json.loads((RESULTS / "accuracy.json").read_text("utf-8"))["rows"]
    digits, exponent = f"{max(row['difference'] for row in rows):.1e}".split("e-0")
    assert re.search(rf"{digits} · 10\s*−{exponent}\s*of the largest", page)
    for name in ("conv_small", "conv_medium", "hybrid_medium", "conv_aa_large"):
        entries = models.list_pretrained(f"mobilenetv4_{name}.*")
        accuracies = [value for e in entries for value in (e.top1, e.test_top1) if value]
        assert f"{max(accuracies):.1f} %" in page


def test_the_performance_page_shows_what_was_measured(site):
    page = re.sub(r"<[^>]+>", " ", (site / "performance.html").read_text("utf-8"))
    for mode, batch in results.KINDS:
        for variant in VARIANTS:
            for row in case(variant, mode, batch)["rows"].values():
                assert f"{row['median_ms']:.1f} ({row['peak_bytes'] / 2**20:.0f})" in page
        pairs = [("numba", "torch"), ("numpy", "torch")]
        if mode == "inference":
            pairs += [("numba", "onnxruntime"), ("numpy", "onnxruntime")]
        for pair in pairs:
            assert " to ".join(ratios(mode, batch, *pair)) in page
    for name in ("growth-inference", "growth-training"):
        for curve in json.loads((RESULTS / f"{name}.json").read_text("utf-8"))["curves"]:
            assert f"{curve['x'][-1]}: {curve['ms'][-1]:.1f}" in page
            assert f"{curve['time_exponent']:.2f}" in page


def test_the_comparison_page_has_the_times_of_the_same_runs(site):
    text = " ".join(re.sub(r"<[^>]+>", " ", (site / "comparison.html").read_text("utf-8")).split())
    for variant in VARIANTS:
        for batch in (1, 16):
            found = case(variant, "inference", batch)
            numba, numpy = best(found, "numba"), best(found, "numpy")
            assert f" {variant} {batch} {numba:.1f} {numpy:.1f} " in text


def test_two_questions_are_answered_within_two_clicks(site):
    """How do I classify my pictures; is it fast on my machine."""

    def links(page: Path) -> list[str]:
        article = page.read_text("utf-8").split('role="main"')[1]
        return re.findall(r'href="([^"]+)"', article)

    front = links(site / "index.html")
    assert "tutorials/train.html" in front
    assert "lucid train --data" in plain(site / "tutorials" / "train.html")
    assert "tutorials/pretrained.html" in front
    assert "lucid predict" in plain(site / "tutorials" / "pretrained.html")
    assert "performance.html#on-your-machine" in front
    answer = (site / "performance.html").read_text("utf-8").split('id="on-your-machine"')[1]
    assert "lucid bench" in re.sub(r"<[^>]+>", "", answer[:1500])


def plain(page: Path) -> str:
    return " ".join(re.sub(r"<[^>]+>", "", page.read_text("utf-8")).split())
