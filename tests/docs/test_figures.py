"""Every figure of speed, memory, size and accuracy on README and the pages was measured.

The pages' figures are written while they are built: from the files in ``benchmarks/results``, one
for each kind of machine, from published accuracies, and by what tutorials print. Nothing else may
hold one. README's section is written by ``python -m benchmarks.readme``, and computed here once
more, each number in its place.
"""

from __future__ import annotations

import ast
import copy
import html
import itertools
import json
import re
import statistics
from pathlib import Path
from typing import Any

import pytest

from benchmarks import _results as results
from benchmarks import all as run
from benchmarks import readme
from lucid import models
from tests.docs.site import ROOT

RESULTS = ROOT / "benchmarks" / "results"
FILES = {
    path: json.loads(path.read_text("utf-8"))
    for path in sorted(RESULTS.glob("*.json"))
    if path.stem not in ("ranks", "timeline")
}
#: The file that is shown where one is enough: the latest of a machine that was used as it is.
FIRST = max(
    (path for path, data in FILES.items() if not data["head"].get("code")),
    key=lambda path: FILES[path]["head"]["time"],
)
PARTS = FILES[FIRST]["parts"]
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


def case(variant: str, mode: str, batch: int, parts: dict[str, Any] = PARTS) -> dict[str, Any]:
    """Return the one case of that kind; the evaluator on NumPy is measured by itself."""
    found = [
        one
        for name, part in parts.items()
        for one in part.get("cases", [])
        if name != "numpy alone"
        and (one["variant"], one["mode"], one["batch"]) == (variant, mode, batch)
    ]
    assert len(found) == 1, f"{variant}, {mode}, {batch} is there {len(found)} times"
    return found[0]


def median(row: dict[str, Any]) -> float:
    """Return the median as it was before the rounds were rounded for the file."""
    value: float = row["median_ms"]
    assert value == pytest.approx(statistics.median(row["rounds_ms"]), rel=5e-4)
    return value


def measured(found: dict[str, Any], family: str) -> list[dict[str, Any]]:
    """Return the rows of a library's ways, without those whose result was another one."""
    rows = [found["rows"].get(name, {}) for name in FAMILIES[family]]
    return [row for row in rows if "median_ms" in row]


def best(found: dict[str, Any], family: str) -> float:
    return min(median(row) for row in measured(found, family))


def least(found: dict[str, Any], family: str) -> float:
    return min(row["peak_bytes"] for row in measured(found, family))


def spread(
    mode: str, batches: tuple[int, ...], ours: str, theirs: str, parts: Any, value: Any = best
) -> list[float]:
    """Return the smallest and the largest ratio over variants and batches; nothing without any."""
    variants = VARIANTS if mode != "start" else ("conv_small", "hybrid_medium", "hybrid_large")
    cases = [case(variant, mode, batch, parts) for variant in variants for batch in batches]
    there = [one for one in cases if any(name in one["rows"] for name in FAMILIES[theirs])]
    found = [value(one, ours) / value(one, theirs) for one in there]
    return [min(found), max(found)] if found else []


def ratios(
    mode: str, batch: int, ours: str, theirs: str, parts: Any = PARTS, value: Any = best
) -> list[str]:
    return sorted({f"{ratio:.2f}" for ratio in spread(mode, (batch,), ours, theirs, parts, value)})


def shown(ms: float) -> str:
    return f"{ms:.1f}" if ms < 10 else f"{ms:.0f}"


def by_rank() -> list[Path]:
    """Return the files: the latest first, machines that were used as they are before others."""
    latest = sorted(FILES, key=lambda path: FILES[path]["head"]["time"], reverse=True)
    return sorted(latest, key=lambda path: bool(FILES[path]["head"].get("code")))


def title(path: Path) -> str:
    return next(run.title for run in results.runs() if run.file == path)


def test_each_number_of_readmes_section_on_speed_is_measured():
    text = readme.README.read_text("utf-8")
    section = prose(text.split(readme.BEGIN)[1].split(readme.END)[0])
    expected = [str(PARTS["inference conv_small"]["settings"]["size"])] * 2
    for mode, batch in (("inference", 1), ("inference", 16), ("training", 16)):
        found = case("conv_small", mode, batch)
        families = [f for f in FAMILIES if f != "onnxruntime" or mode == "inference"]
        expected += [str(batch)] * (batch > 1) + [shown(best(found, f)) for f in families]
    vectors = [number for path in by_rank() for number in numbers(title(path))]
    expected = [*expected[:2], *numbers(title(FIRST)), *expected[2:], *vectors]
    quoted = [
        ("inference", (1, 16), "numba", "onnxruntime", best),
        ("training", (16,), "numba", "torch", best),
        ("training", (16,), "numba", "torch", least),
        ("inference", (1,), "numpy", "torch", best),
        ("inference", (16,), "numpy", "torch", best),
        ("training", (16,), "numpy", "torch", best),
        ("start", (1, 16), "numba", "onnxruntime", best),
        ("start", (1, 16), "numba", "onnxruntime", least),
    ]
    table = []
    for mode, batches, ours, theirs, value in quoted:
        cells = []
        for path in by_rank():
            parts = FILES[path]["parts"]
            if mode != "start" or "start" in parts:
                cells.append(spread(mode, batches, ours, theirs, parts, value))
        if any(cells):
            table += ["16"] * (mode == "inference" and batches == (16,))
            table += [n for cell in cells for n in sorted({f"{ratio:.2f}" for ratio in cell})]
        if (mode, value) in (("inference", best), ("training", best)) and ours == "numba":
            every = [ratio for cell in cells for ratio in cell]
            expected += sorted({f"{min(every):.2f}", f"{max(every):.2f}"})
    expected += vectors + table
    rows = PARTS["numpy alone"]["cases"][0]["rows"]
    evaluator = [rows[name]["median_ms"] for name in ("onnx-reference", "lucid-numpy-compiled")]
    expected += [f"{evaluator[0] / evaluator[1]:.1f}"]
    for name in ("lucid", "lucid[fast]", "onnxruntime", "torch and timm"):
        expected += [f"{PARTS['size']['rows'][name]['bytes'] / 1e6:.0f}"]
    loader = PARTS["loader"]["pictures_a_second"]
    for name in ("lucid", "lucid, cached"):
        found = [ours / theirs for ours, theirs in zip(loader[name], loader["PyTorch"])]
        expected += [f"{statistics.median(found):.2f}"]
    difference = max(row["difference"] for row in PARTS["accuracy"]["rows"])
    expected += [f"{difference:.1e}".split("e")[0], "10", *vectors]
    assert numbers(section) == expected
    machine = FILES[FIRST]["head"]
    assert f"{'two' if machine['threads'] == 2 else machine['threads']} cores" in section
    assert machine["processor"] in " ".join(section.split())


def test_readmes_section_is_as_its_command_writes_it():
    text = readme.README.read_text("utf-8")
    assert text.count(readme.BEGIN) == text.count(readme.END) == 1
    assert readme.rewritten(text) == text, "run python -m benchmarks.readme"


def test_a_file_is_called_by_the_kind_of_its_machine():
    """So that there is one at most for each kind."""
    assert {run.file for run in results.runs()} == FILES.keys()
    assert results.first().file == FIRST
    assert [run.file for run in results.runs()] == by_rank()
    avx512 = {"vector_extensions": ["avx2", "fma", "avx512f"], "processor": "Intel(R) Xeon(R)"}
    head = {**avx512, "system": "Linux x86_64"}
    assert results.Run({"head": head}).file.name == "avx512-intel.json"
    assert results.Run({"head": head}).title == "AVX-512, Intel"
    assert results.Run({"head": {**head, "code": "avx2"}}).file.name == "avx2-intel.json"
    assert results.Run({"head": {**head, "code": "avx2"}}).title == "AVX2 code, Intel"
    older = {**head, "vector_extensions": ["avx2"], "processor": "AMD EPYC"}
    assert results.Run({"head": older}).title == "AVX2, AMD"
    arm = {"vector_extensions": [], "processor": "Apple M4", "system": "Darwin arm64"}
    assert results.Run({"head": arm}).file.name == "neon-apple.json"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_results_are_of_one_run_or_say_that_they_are_not(path):
    """``mixed`` is a note for the pages; a file that one run wrote has none."""
    data = FILES[path]
    wanted = list(run.parts(data["head"].get("short", False), data["head"].get("code", "")))
    newer = ["start", "cold"]  # an older run does without
    assert [name for name in wanted if name in data["parts"]] == list(data["parts"])
    assert set(wanted) - set(data["parts"]) <= set(newer)
    assert bool(results.Run(data).strangers) == bool(data.get("mixed"))
    changed = copy.deepcopy(data)
    for part in changed["parts"].values():
        part["measured"] = {"time": "2026-01-01 00:00", **changed["head"]}
    assert results.Run(changed).strangers == []
    others = {"commit": "0123456789", "processor": "another", "threads": 64, "code": "sse"}
    for key, value in others.items():
        changed["parts"]["loader"]["measured"][key] = value
        assert results.Run(changed).strangers == ["loader"], key
        changed["parts"]["loader"]["measured"][key] = changed["head"].get(key, "")


def test_the_page_says_on_what_all_was_measured(site):
    page = plain(site / "performance.html")
    for path, data in FILES.items():
        head = data["head"]
        for word in (path.name, title(path), head["commit"], head["processor"]):
            assert word in page
    mixed = [results.Run(data).strangers for data in FILES.values()]
    assert ("Mixed." in page) == any(mixed)
    assert ("of several runs" in readme.section()) == any(mixed)


def quoted_accuracy() -> str:
    recommended = models.list_pretrained("mobilenetv4_conv_aa_large.*")[0]
    size = recommended.test_input_size[-1]
    return f"({recommended.test_top1:.1f} % top-1 on ImageNet at {size}×{size})"


def test_readme_quotes_the_accuracy_that_timm_reports():
    text = " ".join(readme.README.read_text("utf-8").split())
    assert quoted_accuracy() in text
    assert f"all {len(models.list_pretrained())} checkpoints" in text


#: What is no measurement: versions, names and sizes of images.
NAMES = re.compile(r"Python 3\.\d+|ImageNet-1k|float32|\d+×\d+")


@pytest.mark.parametrize("page", ["index.md", "performance.md"])
def test_a_page_holds_no_figure_that_it_did_not_compute(page):
    text = prose((ROOT / "docs" / page).read_text("utf-8"))
    assert numbers(NAMES.sub("", text)) == []


COUNT = r"(?:\d[\d.,]*|two|three|four|five|six|seven|eight|nine|ten|twelve|a hundred)"
TIME = r"(?:ns|µs|ms|s|seconds?|GFLOP/s|(?:images|pictures|photographs)(?:/s| a second))"
#: A number with a unit of time, memory or share, or that says how many times something is.
SPEED = re.compile(
    rf"(?<![\w.-]){COUNT}\s?(?:{TIME}|[KMG]i?B)(?![\w/])"
    r"|(?<![\w.])\d+\.\d+\s?×(?!\s?\d)"
    rf"|(?<![\w.-]){COUNT} times (?:as(?! many)|more|less|the|faster|slower|\w+['’]s)(?!\w)"
    r"|\b(?:twice|half) (?:as (?:fast|slow|long|large)|[A-Z]\w+['’]s)"
)
SHARE = re.compile(r"(?<![\w.])\d[\d.,]*\s?(?:%|per cent|points)")


def figures(text: str, *patterns: re.Pattern[str]) -> list[str]:
    """Return each figure with the words around it."""
    return [
        text[max(0, found.start() - 40) : found.end() + 30]
        for pattern in patterns
        for found in pattern.finditer(text)
    ]


def written(page: Path) -> str:
    """Return what somebody wrote: the text without what was computed, printed, drawn or tested."""
    text = page.read_text("utf-8").split('role="main"')[-1].split("<footer")[0]
    text = re.sub(r"<!--computed-->.*?<!--/computed-->", " ", text, flags=re.DOTALL)
    executed = r'<div class="highlight-(?:output|pycon|default) .*?</pre></div>\s*</div>'
    text = re.sub(executed, " ", text, flags=re.DOTALL)
    text = re.sub(r"<(script|style|svg|figure)\b.*?</\1>", " ", text, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", text)).split())


#: Limits, and what is an example's.
LIMITS = (
    "up to 4 GiB",  # of --cache
    *("at most 2 GB", "over 2 GB", "more than 2 GB"),  # of a file of ONNX
    "more than 256 MiB",  # of what a loader's processes are given
    *("1.1GB", "15 MB", "125 MB", "5 MB"),  # of the wire between machines
)


def test_nobody_wrote_a_figure_into_a_page(site):
    """Shares in the reference are settings, such as how much of a picture a crop keeps."""
    found = {}
    for page in sorted(site.rglob("*.html")):
        name = page.relative_to(site).as_posix()
        if not name.startswith(("_", ".doctrees")):
            patterns = (SPEED,) if name.startswith("reference/") else (SPEED, SHARE)
            text = written(page)
            for limit in LIMITS:
                text = text.replace(limit, "")
            found[name] = figures(text, *patterns)
    assert {name: told for name, told in found.items() if told} == {}


def test_nobody_wrote_a_figure_into_readme():
    """But those of its section on speed, and the accuracy that the test below compares."""
    text = readme.README.read_text("utf-8")
    before, rest = text.split(readme.BEGIN)
    text = prose(before + rest.split(readme.END)[1])
    text = " ".join(text.split()).replace(quoted_accuracy(), "")
    assert figures(text, SPEED, SHARE) == []


@pytest.mark.parametrize("file", ["docs/_ext/performance.py", "benchmarks/readme.py"])
def test_what_writes_figures_holds_none(file):
    tree = ast.parse((ROOT / file).read_text("utf-8"))
    texts = [
        n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)
    ]
    assert [found for text in texts for found in figures(text, SPEED, SHARE)] == []


@pytest.mark.parametrize(
    "text",
    ["it takes 3.2 ms", "ten times as fast", "nine times lucid's time", "75 MB", "0.87 × ", "99 %",
     "twice as fast", "500 pictures a second", "30µs", "1.5 seconds", "23 points better"],
)  # fmt: skip
def test_a_figure_is_found(text):
    assert figures(text, SPEED, SHARE)


@pytest.mark.parametrize(
    "text", ["224×224", "3 × 224 × 224", "4 × UIB IB", "3×3", "16 images", "three stages"]
)
def test_what_is_no_figure_is_not_found(text):
    assert not figures(text, SPEED, SHARE)


def test_every_case_of_the_plots_is_there_once():
    assert results.VARIANTS == VARIANTS
    for data in FILES.values():
        for mode, batch in results.KINDS:
            for variant in VARIANTS:
                case(variant, mode, batch, data["parts"])


def test_the_front_page_shows_what_was_measured(site):
    page = re.sub(r"<[^>]+>", " ", (site / "index.html").read_text("utf-8"))
    one = case("conv_small", "inference", 1)
    for family in FAMILIES:
        assert f"{best(one, family):.1f} ms" in page
    for row in PARTS["size"]["rows"].values():
        assert f"{row['bytes'] / 1e6:.0f} MB" in page
    rows = PARTS["accuracy"]["rows"]
    digits, exponent = f"{max(row['difference'] for row in rows):.1e}".split("e-0")
    assert re.search(rf"{digits}\s·\s10\s*−{exponent}\s*of the largest", page)
    for name in ("conv_small", "conv_medium", "hybrid_medium", "conv_aa_large"):
        entries = models.list_pretrained(f"mobilenetv4_{name}.*")
        accuracies = [value for e in entries for value in (e.top1, e.test_top1) if value]
        assert f"{max(accuracies):.1f} %" in page


def test_the_performance_page_shows_what_was_measured(site):
    page = re.sub(r"<[^>]+>", " ", (site / "performance.html").read_text("utf-8"))
    for (mode, batch), data in itertools.product(results.KINDS, FILES.values()):
        parts = data["parts"]
        for variant in VARIANTS:
            for row in case(variant, mode, batch, parts)["rows"].values():
                if "median_ms" not in row:
                    continue
                assert f"{row['median_ms']:.1f} ({row['peak_bytes'] / 2**20:.0f})" in page
        pairs = [("numba", "torch"), ("numpy", "torch")]
        if mode == "inference":
            pairs += [("numba", "onnxruntime"), ("numpy", "onnxruntime")]
        for pair in pairs:
            assert " to ".join(ratios(mode, batch, *pair, parts)) in page
    for parts in (data["parts"] for data in FILES.values()):
        for one in parts.get("start", {}).get("cases", []):
            for row in one["rows"].values():
                told = f"{row['median_ms'] / 1e3:.2f} ({row['peak_bytes'] / 2**20:.0f})"
                assert told in page
        for one in parts.get("cold", {}).get("cases", []):
            for row in one["rows"].values():
                assert f"after {row['stages_ms']['first'] / 1e3:.1f} s" in page
    for name in ("growth inference", "growth training"):
        for point in PARTS[name]["points"]:
            for row in point["rows"].values():
                assert f"{point[point['axis']]}: {row['median_ms']:.1f}" in page
        for curve in results.first().curves(name.removeprefix("growth ")):
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
