"""What a report says of the training: its curves, its recipe, and where it ran."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from lucid.report._html import Content, Markup, join, table, tag
from lucid.report._material import Made, Material
from lucid.report._plots import curves


def training(material: Material) -> Made:
    """Return the curves of loss and accuracy."""
    description = material.description
    if description is None or not description.history:
        return None
    history, best = description.history, description.best_epoch
    epochs = [record["epoch"] for record in history]
    plots = []
    for name in ("loss", "accuracy"):
        parts = ("train", "validation")
        series = {part: [record[f"{part}_{name}"] for record in history] for part in parts}
        plots.append(curves(name, epochs, series, best))
    note = (
        f"The weights of epoch {best} are kept: its validation loss is the lowest. The training's "
        "figures are those on the way, of changed images and smoothed labels where the recipe has "
        "them."
    )
    page = join(tag("p", note, class_="note"), tag("div", *plots, class_="plots"))
    return page, {"history": history, "best_epoch": best}


def recipe(material: Material) -> Made:
    """Return the settings of the training."""
    if material.description is None:
        return None
    entries = asdict(material.description.recipe)
    return _listing(entries), entries


def environment(material: Material) -> Made:
    """Return where the training ran."""
    if not material.environment:
        return None
    return _listing(material.environment), material.environment


def _listing(entries: dict[str, Any]) -> Markup:
    rows: list[list[Content]] = [[name, _shown(value)] for name, value in entries.items()]
    return table(["", ""], rows)


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_shown(entry)}" for key, entry in value.items())
    if isinstance(value, (list, tuple)):
        return " ".join(map(_shown, value))
    return "–" if value is None else str(value)
