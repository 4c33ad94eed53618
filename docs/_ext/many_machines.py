"""Directives for the page on many machines.

- ``timeline``: a step that ``distributed.timeline`` wrote, as a picture; its caption as content.
- ``rank-plan``: what ``lucid plan --ranks 64`` prints.
- ``pays-from``: from which batch a rank many ranks pay, over networks.
- ``plan-errors``: how far plans are from what ``python -m benchmarks.ranks`` measured.

What they show was measured by ``python -m benchmarks.ranks --output benchmarks/results``.
"""

from __future__ import annotations

import html
import json
from pathlib import Path
from typing import Any

from docutils import nodes
from figures import Generated, table
from plots import both, figure, svg, ticks
from sphinx.application import Sphinx

from lucid.cli._plan import text
from lucid.distributed import StepTimes, plan

MEASURED = Path(__file__).resolve().parents[2] / "benchmarks" / "results"
STEP, BAR = 18, 13  # pixels from row to row, and of a bar
COLOURS = {"backward": "a", "reductions": "b"}  # the others are grey
_OPERATIONS = "operations of backward"  # too many to be told apart


def picture(events: list[dict[str, Any]], width: int) -> str:
    """Return the rows of each rank, the time from left to right."""
    shown = [e for e in events if e["ph"] == "X" and e["cat"] != _OPERATIONS]
    left = 132 if width > 500 else 84
    start = min(e["ts"] for e in shown)
    scale = (width - left - 8) / (max(e["ts"] + e["dur"] for e in shown) - start)
    parts, y = [], 4
    told = []
    for rank in sorted({e["pid"] for e in shown}):
        parts.append(f'<text class="strong" x="2" y="{y + 11}">rank {rank}</text>')
        y += STEP
        mine = [e for e in shown if e["pid"] == rank]
        for row in sorted({e["tid"] for e in mine}):
            bars = [e for e in mine if e["tid"] == row]
            of_bucket = bars[0]["cat"] == "reductions"
            name = bars[0]["name"] if of_bucket else "training"
            parts.append(f'<text class="small" x="8" y="{y + 10}">{html.escape(name)}</text>')
            for bar in bars:
                kind = COLOURS.get(bar["cat"] if of_bucket else bar["name"], "other")
                x, length = left + (bar["ts"] - start) * scale, bar["dur"] * scale
                parts.append(
                    f'<rect class="bar-{kind}" x="{x:.1f}" y="{y}" width="{max(1, length):.1f}" '
                    f'height="{BAR}"><title>{html.escape(bar["name"])}: '
                    f"{bar['dur'] / 1e3:.0f} ms</title></rect>"
                )
                begins, ends = ((bar["ts"] - start) / 1e3, (bar["ts"] - start + bar["dur"]) / 1e3)
                told.append(f"rank {rank}, {bar['name']}: {begins:.0f} to {ends:.0f}")
            y += STEP
        y += 4
    for tick in ticks(0, (width - left - 8) / scale / 1e3, 4 if width > 500 else 3):
        x = left + tick * 1e3 * scale
        parts[:0] = [f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="4" y2="{y}"/>']
        parts.append(f'<text class="small" x="{x:.1f}" y="{y + 12}" text-anchor="middle">')
        parts.append(f"{tick:g}{' ms' if not tick else ''}</text>")
    return svg(parts, width, y + 18, f"What each rank does when, in ms. {'; '.join(told)}")


def measured(name: str) -> Any:
    """Return what a file of the folder holds."""
    return json.loads((MEASURED / name).read_text(encoding="utf-8"))


def measured_step() -> StepTimes:
    """Return the step of one rank."""
    step = measured("ranks.json")["measured"]
    return StepTimes(**{**step, "gradients": tuple(map(tuple, step["gradients"]))})


class Timeline(Generated):
    """``timeline``."""

    computed = False
    has_content = True

    def content_nodes(self) -> list[nodes.Node]:
        """Return the figure."""
        events = measured("timeline.json")["traceEvents"]
        caption = " ".join(self.content)
        return self.html(figure(both(lambda width: picture(events, width)), caption))


class RankPlan(Generated):
    """``rank-plan``."""

    def content_nodes(self) -> list[nodes.Node]:
        """Return what ``lucid plan`` prints."""
        step, found = measured_step(), measured("ranks.json")
        facts = {
            **found,
            "processor": found["machine"]["processor"],
            "threads": found["machine"]["threads"],
            "backend": "numba",
            "network": "10Gbit",
            "latency": 50e-6,
            "ranks_per_machine": 1,
        }
        shown = text(facts, step, plan(step, 64))
        return [nodes.literal_block(shown, shown, language="text")]


#: What is between machines, with the seconds of a message, and how it is called.
NETWORKS = {
    "1 Gbit, TCP": ("1Gbit", 50e-6),
    "10 Gbit, TCP": ("10Gbit", 50e-6),
    "25 Gbit, TCP": ("25Gbit", 50e-6),
    "100 Gbit, InfiniBand": ("100Gbit", 2e-6),
}
WAYS: dict[str, dict[str, Any]] = {
    "": {},
    "float16": {"wire": "float16"},
    "--sync-bn": {"sync_batch_norm": True},
}
RANKS = (2, 8, 64)


class PaysFrom(Generated):
    """``pays-from``."""

    def content_nodes(self) -> list[nodes.Node]:
        """Return the table."""
        step = measured_step()
        head = ["between machines", *(f"{ranks} ranks" for ranks in RANKS)]
        rows = []
        for name, (network, latency) in NETWORKS.items():
            for way, options in WAYS.items():
                steps = plan(step, max(RANKS), network, latency=latency, **options).steps
                found = {one.ranks: one.pays_from for one in steps}
                label = ", ".join(filter(None, (name, f"``{way}``" if way[:1] == "-" else way)))
                rows.append([label, *(str(found[ranks] or "never") for ranks in RANKS)])
        return self.rst(table(head, rows))


class PlanErrors(Generated):
    """``plan-errors``."""

    def content_nodes(self) -> list[nodes.Node]:
        """Return the table."""
        names = {"one": "one rank", "beside": "without sums", "memory": "in memory"}
        rows = [
            [
                f"{row['ranks']}{', slowed down' * row['slowed']}",
                names.get(row["kind"], row["kind"]),
                f"{row['seconds'] * 1e3:.0f}",
                f"{row['planned'] * 1e3:.0f}",
                f"{row['error']:+.1%}",
            ]
            for row in measured("ranks.json")["rows"]
        ]
        head = ["ranks", "sums", "a step, ms", "planned, ms", "error"]
        load = measured("ranks.json")["machine"]["load_at_start"]
        return self.rst(f"{table(head, rows)}\n\nThe machine's load before: {load:.1f}.")


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directives."""
    app.add_directive("timeline", Timeline)
    app.add_directive("rank-plan", RankPlan)
    app.add_directive("pays-from", PaysFrom)
    app.add_directive("plan-errors", PlanErrors)
    return {"parallel_read_safe": True}
