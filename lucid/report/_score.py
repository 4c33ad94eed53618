"""What a report says of the test: its score, each class, what is taken for what, calibration."""

from __future__ import annotations

import math

from lucid.report._html import Content, join, number, percent, table, tag
from lucid.report._material import Made, Material
from lucid.report._plots import confusion_matrix, reliability_diagram


def score(material: Material) -> Made:
    """Return the figures of all images together."""
    evaluation = material.evaluation
    figures, (low, high) = evaluation.document(), evaluation.interval()
    between = join("95 % interval ", percent(low), " to ", percent(high))
    score = evaluation.score
    tiles: list[tuple[str, Content, Content]] = [
        ("test accuracy", percent(score.accuracy, 2), between),
        (
            "right",
            number(score.correct, f"{score.correct:,}"),
            join("of ", number(score.count, f"{score.count:,}"), " images"),
        ),
        ("loss", number(figures["loss"], f"{score.loss:.4f}"), "mean cross-entropy"),
        ("F1", percent(figures["macro"]["f1"]), "mean of the classes"),
        (
            "calibration error",
            percent(figures["calibration_error"]),
            join("mean probability ", percent(figures["mean_confidence"])),
        ),
    ]
    if figures["top5"] is not None:
        tiles.insert(
            1, ("top-5 accuracy", percent(figures["top5"], 2), "label among the five likeliest")
        )
    shown = [
        tag("div", tag("dt", name), tag("dd", value, tag("small", note)))
        for name, value, note in tiles
    ]
    flips = "Each image was seen mirrored too; the mean of both answers counts."
    return join(
        tag("dl", *shown, class_="tiles"),
        tag(
            "p",
            "The interval (Wilson's) holds the model's true accuracy in 19 of 20 such tests.",
            class_="note",
        ),
        tag("p", flips, class_="note") if evaluation.flips else None,
    ), None


def classes(material: Material) -> Made:
    """Return precision, recall and F1 of each class."""
    rows: list[list[Content]] = []
    for one in material.evaluation.per_class():
        width = 0 if math.isnan(one.f1) else 100 * one.f1
        bar = tag("span", tag("i", style=f"width:{width:.0f}%"), class_="bar")
        shares = (percent(one.precision), percent(one.recall))
        rows.append(
            [one.name, number(one.count, str(one.count)), *shares, join(percent(one.f1), bar)]
        )
    macro = [percent(value) for value in material.evaluation.macro().values()]
    rows.append(["mean", None, *macro])
    note = (
        "Precision: of the images taken for the class, the share that are of it. Recall: of the "
        "images of the class, the share that is found. F1: their harmonic mean."
    )
    head: list[Content] = ["class", "images", "precision", "recall", "F1"]
    return join(tag("p", note, class_="note"), table(head, rows, "classes")), None


def confusion(material: Material) -> Made:
    """Return which classes are taken for which."""
    evaluation = material.evaluation
    rows: list[list[Content]] = [
        [
            material.classes[pair.label],
            material.classes[pair.prediction],
            number(pair.count, str(pair.count)),
            percent(pair.share),
        ]
        for pair in evaluation.confused()
    ]
    pairs = None
    if rows:
        head: list[Content] = ["shows", "taken for", "images", "share of that class"]
        pairs = join(tag("p", "Most often confused:"), table(head, rows, "confused"))
    note = (
        "A row for the class that images show, a column for the class that they are taken for; the "
        "stronger its colour, the larger the share of the row."
    )
    return join(tag("p", note, class_="note"), confusion_matrix(evaluation), pairs), None


def calibration(material: Material) -> Made:
    """Return how far the probabilities can be believed."""
    evaluation = material.evaluation
    note = join(
        "Of images with a probability of 80 %, four in five should be right: on the dashed line. "
        "The expected calibration error, the mean distance to that line, is ",
        percent(evaluation.document()["calibration_error"]),
        ".",
    )
    plots = tag("div", reliability_diagram(evaluation.reliability()), class_="plots")
    return join(tag("p", note, class_="note"), plots), None
