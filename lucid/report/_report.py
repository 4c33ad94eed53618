"""The report on a classifier: a page that needs nothing else, and its numbers as JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from lucid._check import one_line
from lucid._files import atomic_path, read_json
from lucid._version import __version__
from lucid.data import Images
from lucid.models import MobileNet_V4, load_model
from lucid.report import _gallery, _origin, _score
from lucid.report._html import Markup, join, tag
from lucid.report._material import Made, Material
from lucid.training import Description, Evaluation, Run
from lucid.training._evaluation import without_nan

# The name in the JSON and in addresses, the heading, and what makes it.
_SECTIONS: list[tuple[str, str, Callable[[Material], Made]]] = [
    ("score", "Test score", _score.score),
    ("training", "Training", _origin.training),
    ("classes", "Classes", _score.classes),
    ("confusion", "Confusion", _score.confusion),
    ("calibration", "Calibration", _score.calibration),
    ("mistakes", "Worst mistakes", _gallery.mistakes),
    ("suspects", "Labels that are likely wrong", _gallery.suspects),
    ("alike", "Nearly the same in different parts", _gallery.alike),
    ("augmented", "Training pictures as the model sees them", _gallery.augmented),
    ("recipe", "Recipe", _origin.recipe),
    ("environment", "Environment", _origin.environment),
]


def write_report(
    path: str | os.PathLike[str],
    evaluation: Evaluation,
    *,
    model: MobileNet_V4 | None = None,
    images: Images | None = None,
    description: Description | None = None,
    environment: dict[str, Any] | None = None,
    title: str | None = None,
    after_each: Callable[[int, int], Any] | None = None,
) -> None:
    """Write a page on how a classifier does, and beside it a ``.json`` with every number on it.

    The page is one file without scripts that loads nothing: it can be sent, printed, and read on a
    phone. It shows the test score with its interval, precision, recall and F1 of each class, the
    confusion matrix, and calibration; with a model and images the worst mistakes as pictures with
    Grad-CAM (:func:`lucid.visual.gradcam`), and pictures that are likely labelled wrong
    (:meth:`lucid.training.Evaluation.suspects`); with a description the curves of the training,
    pictures that are nearly the same in different parts of the data, training pictures as the
    augmentation changes them, and the recipe. A part that cannot be made says so in its place, and
    so does a picture that cannot be read.

    Args:
        path: of the page, ending in ``.html``.
        evaluation: of the test images.
        model: what was measured, in evaluation mode; its ``pretrained_cfg`` says what images it
            expects. :func:`lucid.models.load_model` returns such a one.
        images: whose test part was measured.
        description: of the run in which the model was trained on the images.
        environment: where that was: names with their values.
        title: of the page; by default it names the architecture and the data.
        after_each: called with the number of images looked at so far and of all, for a progress
            bar: with a description, at most 2,000 of each part are compared with one another.

    Raises:
        ValueError: if ``path`` has another suffix.
        OSError: if the files cannot be written.

    Example:
        >>> logits = np.log([[0.7, 0.2, 0.1], [0.4, 0.5, 0.1], [0.2, 0.2, 0.6]])
        >>> seen = training.Evaluation(logits, np.array([0, 0, 2]), ["cat", "dog", "owl"])
        >>> report.write_report("owls.html", seen, title="Owls")
        >>> from pathlib import Path
        >>> Path("owls.html").read_text(encoding="utf-8").count("<section")
        4
        >>> import json
        >>> json.loads(Path("owls.json").read_text())["evaluation"]["correct"]
        2
    """
    page = Path(path)
    if page.suffix != ".html":
        raise ValueError(f"write_report: expected a name ending in .html, got {page}")
    material = Material(evaluation, model, images, description, environment, after_each)
    if title is None:
        title = _title(material)
    document: dict[str, Any] = {"title": title, "lucid": __version__}
    document["evaluation"] = evaluation.document()
    contents, sections = [], []
    for name, heading, make in _SECTIONS:
        try:
            with np.errstate(all="ignore"):  # what is not finite stands in the page
                made = make(material)
        except Exception as error:  # whatever it is, the other parts are worth their page
            reason = one_line(error)
            made = tag("p", f"This part could not be made: {reason}"), {"error": reason}
        if made is not None:
            content, data = made
            if data is not None:
                document[name] = data
            contents.append(tag("a", heading, href=f"#{name}"))
            sections.append(tag("section", tag("h2", heading), content, id=name))
    text = _page(title, join(*contents), join(*sections), material)
    with atomic_path(page) as target:
        target.write_text(text, encoding="utf-8", newline="\n")
    lines = (
        f"{json.dumps(key)}: {json.dumps(entry)}" for key, entry in without_nan(document).items()
    )
    with atomic_path(page.with_suffix(".json")) as target:
        target.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8", newline="\n")


def write_run_report(run: Run, after_each: Callable[[int, int], Any] | None = None) -> None:
    """Write the report of a finished run beside its other files, as ``lucid train`` does.

    Args:
        run: after ``run.finish()``.
        after_each: see :func:`write_report`.

    Raises:
        OSError: if it cannot be written.

    Example:
        >>> recipe = training.Recipe(data="digits", epochs=1, size=32, limit=40)
        >>> with training.Run.create("digits", recipe) as run:
        ...     run.prepare()
        ...     for _ in run.fit():
        ...         pass
        ...     score = run.finish()
        ...     report.write_run_report(run)
        >>> run.files.report.name
        'report.html'
    """
    environment = read_json(run.files.environment) if run.files.environment.is_file() else None
    write_report(
        run.files.report,
        run.evaluation,
        model=load_model(run.files.weights, tell=lambda line: None),
        images=run.images,
        description=run.description,
        environment=environment,
        after_each=after_each,
    )


def _title(material: Material) -> str:
    described = material.description
    if described is None:
        return f"{len(material.evaluation.labels)} images of {len(material.classes)} classes"
    return f"{described.recipe.model} on {Path(described.recipe.data).name}"


def _page(title: str, contents: Markup, sections: Markup, material: Material) -> str:
    style = resources.files("lucid.report").joinpath("report.css").read_text(encoding="utf-8")
    notes = [tag("p", note, class_="note") for note in getattr(material.images, "notes", ())]
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", title),
        tag("link", rel="icon", href="data:,"),  # else a browser asks the server for one
        tag("style", Markup(style)),
    )
    header = tag("header", tag("h1", title), *notes, tag("nav", contents))
    footer = tag("footer", f"Made by lucid {__version__}.", class_="note")
    body = tag("body", header, tag("main", sections), footer)
    return f"<!DOCTYPE html>\n{tag('html', head, body, lang='en')}\n"
