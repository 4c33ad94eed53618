"""The result of a comparison as JSON, as a Markdown table and as a plot."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

from benchmarks._contenders import CONTENDERS
from lucid._files import atomic_path

#: The folder for what a single command writes, beside the checkout and not part of it.
OUTPUT = Path(".benchmarks")
# What the option --form calls them.
TITLES = {
    "inference": "Inference",
    "training": "Training step",
    "start": "From the start of a process to its first logits",
    "cold start": "From the start of a process to its first logits, with an empty cache",
    "cold training": "From the start of a process to its first training step, with an empty cache",
}
FORMS = {"paper": "the documentation page's", "timm": "the released"}


def best_of_family(case: dict[str, Any]) -> dict[str, float]:
    """Return each family's fastest median in ms."""
    best: dict[str, float] = {}
    for name, row in case["rows"].items():
        if "median_ms" in row:
            family = CONTENDERS[name].family
            best[family] = min(best.get(family, float("inf")), row["median_ms"])
    return best


def least_of_family(case: dict[str, Any]) -> dict[str, float]:
    """Return each family's smallest peak of resident memory in bytes."""
    least: dict[str, float] = {}
    for name, row in case["rows"].items():
        if "peak_bytes" in row:
            family = CONTENDERS[name].family
            least[family] = min(least.get(family, float("inf")), row["peak_bytes"])
    return least


def ratios(best: dict[str, float]) -> dict[str, float]:
    """Return each of lucid's backends over the others, from a value for each family."""
    return {
        f"{ours} / {theirs}": best[ours] / best[theirs]
        for ours in best
        if ours.startswith("lucid")
        for theirs in best
        if not theirs.startswith("lucid")
    }


def where(result: dict[str, Any]) -> str:
    """Return a sentence on the machine and the versions."""
    machine = result["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    return (
        f"{machine['processor']}, {machine['threads']} threads, {machine['system']}, "
        f"Python {machine['python']}, NumPy {machine['numpy']}, {versions}; {machine['time']}."
    )


def markdown(result: dict[str, Any]) -> str:
    """Return a section for each mode and batch, with a column for each variant."""
    settings = result["settings"]
    lines = [
        where(result),
        "",
        f"Median of {settings['rounds']} rounds in milliseconds (and peak resident MiB); "
        f"{settings['size']}×{settings['size']}, float32, models in {FORMS[settings['form']]} form"
        + f"; {settings['optimizer']}.",
    ]
    groups: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for case in result["cases"]:
        groups.setdefault((case["mode"], case["batch"]), []).append(case)
    for (mode, batch), cases in groups.items():
        lines += ["", f"## {TITLES[mode]}, batch {batch}", ""]
        lines += _table(cases)
    return "\n".join(lines) + "\n"


def _table(cases: list[dict[str, Any]]) -> list[str]:
    header = ["", *(case["variant"] for case in cases)]
    rows = []
    if all("floor_ms" in case for case in cases):  # a start is not made of arithmetic
        gflops = [case["peak_gflops"] for case in cases]
        floor = f"arithmetic alone, {min(gflops):.0f}–{max(gflops):.0f} GFLOP/s"
        rows.append([floor, *(f"{case['floor_ms']:.1f}" for case in cases)])
    names = [name for name in CONTENDERS if any(name in case["rows"] for case in cases)]
    notes = []
    for name in names:
        cells = []
        for case in cases:
            row = case["rows"].get(name, {})
            cells.append(_cell(row))
            reason = row.get("skipped") or row.get("failed")
            note = f"- {CONTENDERS[name].label}: {reason}"
            if reason and note not in notes:
                notes.append(note)
        rows.append([CONTENDERS[name].label, *cells])
        rows += _stages(name, cases)
    for what, of_family in (("time", best_of_family), ("memory", least_of_family)):
        found = [ratios(of_family(case)) for case in cases]
        for pair in dict.fromkeys(pair for one in found for pair in one):
            values = [one.get(pair) for one in found]
            cells = ["–" if value is None else f"**{value:.2f}**" for value in values]
            rows.append([f"**{pair}, {what}**", *cells])
    lines = [_line(header), _line(["---", *["--:"] * len(cases)]), *map(_line, rows)]
    return [*lines, "", *notes] if notes else lines


def _stages(name: str, cases: list[dict[str, Any]]) -> list[list[str]]:
    """Return a row for each other stage of a contender's starts."""
    found = [case["rows"].get(name, {}).get("stages_ms", {}) for case in cases]
    stages = dict.fromkeys(stage for one in found for stage in one if stage != "first")
    return [
        [f"… {stage}", *(f"{one[stage]:.0f}" if stage in one else "–" for one in found)]
        for stage in stages
    ]


def _cell(row: dict[str, Any]) -> str:
    if "median_ms" not in row:
        return "–"
    return f"{row['median_ms']:.1f} ({row.get('peak_bytes', 0) / 2**20:.0f})"


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def write_json(result: dict[str, Any], path: Path) -> None:
    """Write a file as a whole, and its folder if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        text = json.dumps(result, indent=1, ensure_ascii=False)
        Path(temporary).write_text(text + "\n", encoding="utf-8")


def write_report(result: dict[str, Any], folder: Path, name: str) -> None:
    """Write ``name.json`` and ``name.md``, and ``name.png`` where matplotlib is installed."""
    for case in result["cases"]:
        case["time_ratios"] = ratios(best_of_family(case))
        case["memory_ratios"] = ratios(least_of_family(case))
    write_json(result, folder / f"{name}.json")
    with atomic_path(folder / f"{name}.md") as path:
        Path(path).write_text(markdown(result))
    with contextlib.suppress(ModuleNotFoundError):
        plot(result, folder / f"{name}.png")


COLOURS = [*(f"C{i}" for i in range(10)), "black"]  # Matplotlib's names, one for each contender


def plot(result: dict[str, Any], path: Path) -> None:
    """Draw a row of panels: times over the arithmetic floor, a group of bars for each variant."""
    from matplotlib.figure import Figure

    groups: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for case in result["cases"]:
        if "floor_ms" in case:
            groups.setdefault((case["mode"], case["batch"]), []).append(case)
    if not groups:
        return
    figure = Figure(figsize=(10, 3.4 * len(groups)), layout="constrained")
    panels = figure.subplots(len(groups), 1, squeeze=False)[:, 0]
    colours = dict(zip(CONTENDERS, COLOURS))
    for axes, ((mode, batch), cases) in zip(panels, groups.items()):
        names = [
            name
            for name in CONTENDERS
            if any("median_ms" in case["rows"].get(name, {}) for case in cases)
        ]
        width = 0.8 / max(1, len(names))
        for position, name in enumerate(names):
            rows = [case["rows"].get(name, {}) for case in cases]
            heights = [row.get("median_ms", 0) / case["floor_ms"] for row, case in zip(rows, cases)]
            x = [i + (position - (len(names) - 1) / 2) * width for i in range(len(cases))]
            label, colour = CONTENDERS[name].label, colours[name]
            axes.bar(x, heights, width * 0.9, label=label, color=colour)
            for a, height, row in zip(x, heights, rows):
                if height:
                    time = row["median_ms"]
                    text = f"{time:.3g}" if time < 1000 else f"{time:.0f}"
                    axes.text(a, height, text, ha="center", va="bottom", fontsize=6)
        axes.axhline(1, color="black", linewidth=0.8)
        axes.set_xticks(range(len(cases)), [case["variant"] for case in cases])
        axes.set_ylabel("time / arithmetic floor")
        title = "inference" if mode == "inference" else "training step"
        axes.set_title(f"{title}, batch {batch} (bars labelled in ms)", fontsize=10)
        axes.set_ylim(top=1.3 * axes.get_ylim()[1])  # room for the legend above all bars
        axes.legend(fontsize=7, ncols=3, loc="upper right")
    figure.savefig(path, dpi=150)
