"""What a report shows as pictures: mistakes, suspect labels, pictures twice, augmented ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from lucid._check import one_line
from lucid.report._html import Content, Markup, join, number, percent, tag
from lucid.report._material import Made, Material
from lucid.report._pictures import UNREADABLE, Shown, augmented_pictures, embedded
from lucid.report._seen import find_alike

_CARDS = 12  # of each kind, so many are shown

# Pictures of different parts that are less alike than this are not worth a look.
_ALIKE = 0.95


def mistakes(material: Material) -> Made:
    """Return the worst mistakes, each with what speaks for both of its classes."""
    evaluation, model, images = material.evaluation, material.model, material.images
    if model is None or images is None:
        return None
    shown = Shown(images.test, images)
    cards, data = [], []
    for row in evaluation.mistakes(_CARDS):
        index = evaluation.place(row)
        label, named = int(evaluation.labels[row]), int(evaluation.predictions[row])
        right, wrong = material.classes[label], material.classes[named]
        chances = evaluation.probabilities[row].tolist()
        pictures = [_picture(partial(shown.picture, index), right, "the picture")]
        for target, name in ((named, wrong), (label, right)):
            make = partial(shown.heat, model, index, target)
            caption = join("for ", tag("b", name), " ", percent(chances[target]))
            pictures.append(_picture(make, f"what speaks for {name}", caption))
        words = join("shows ", tag("b", right), ", taken for ", tag("b", wrong))
        cards.append(_card(pictures, words, shown.name(index)))
        data.append(
            {
                "file": shown.path(index),
                "label": label,
                "prediction": named,
                "label_probability": chances[label],
                "prediction_probability": chances[named],
                "loss": float(evaluation.losses[row]),
            }
        )
    note = (
        "The test images with the highest loss of those named wrongly. Beside each, by Grad-CAM, "
        "what speaks for the class that it was taken for, and what for its own: the warmer, the "
        "more."
    )
    return _cards(note, cards, "Every test image was named correctly."), data


def suspects(material: Material) -> Made:
    """Return the pictures that are most likely labelled wrong."""
    images = material.images
    if material.model is None or images is None:
        return None
    parts = {name: seen.evaluation for name, seen in material.seen.items()}
    parts["test"] = material.evaluation
    found = [
        (one, part, evaluation)
        for part, evaluation in parts.items()
        for one in evaluation.suspects(_CARDS)
    ]
    cards, data = [], []
    for one, part, evaluation in sorted(found, key=lambda entry: -entry[0].margin)[:_CARDS]:
        shown = Shown(material.parts.get(part, images.test), images)
        index, label = evaluation.place(one.index), int(evaluation.labels[one.index])
        name, better = material.classes[label], material.classes[one.suggestion]
        words = join("labelled ", tag("b", name), ", looks like ", tag("b", better))
        caption = join(part, ", more probable by ", percent(one.margin))
        picture = _picture(partial(shown.picture, index), name, caption)
        cards.append(_card([picture], words, shown.name(index)))
        data.append(
            {
                "part": part,
                "file": shown.path(index),
                "label": label,
                "suggestion": one.suggestion,
                "margin": one.margin,
            }
        )
    note = (
        "Pictures for which the model is surer of another class than of the label, and at least as "
        "sure as it is on average of pictures of that class (confident learning, Northcutt et al. "
        "2021). Some labels are wrong, some pictures are hard, and sometimes the model errs. The "
        "method wants pictures that were not trained on: of the training's it finds those wrong "
        "labels alone that the model did not learn."
    )
    return _cards(note, cards, "No label is suspect.", "cards small"), data


def alike(material: Material) -> Made:
    """Return pictures of different parts of the data in which the model sees the same."""
    images = material.images
    if len(material.seen) < 2 or images is None:
        return None
    parts = {name: Shown(dataset, images) for name, dataset in material.parts.items()}

    def one(part: str, row: int) -> tuple[Markup, str, dict[str, Any]]:
        seen, shown = material.seen[part].evaluation, parts[part]
        index, label = seen.place(row), int(seen.labels[row])
        name = material.classes[label]
        picture = _picture(partial(shown.picture, index), name, join(part, ": ", tag("b", name)))
        data = {"part": part, "file": shown.path(index), "label": label}
        return picture, shown.name(index), data

    cards, data = [], []
    for pair in find_alike(material.seen, _ALIKE)[:_CARDS]:
        first, second = one(pair.other_part, pair.other_row), one(pair.part, pair.row)
        likeness = join("cosine ", number(pair.similarity, f"{pair.similarity:.4f}"))
        cards.append(_card([first[0], second[0]], likeness, first[1], second[1]))
        data.append({"first": first[2], "second": second[2], "similarity": pair.similarity})
    note = (
        "The model sees nearly the same in these pictures of different parts. Where it is one "
        "picture twice, the test promises too much: keep one of them."
    )
    nothing = f"No two pictures have features with a cosine of {_ALIKE} or more."
    return _cards(note, cards, nothing), data


def augmented(material: Material) -> Made:
    """Return training pictures as the model sees them."""
    images, description = material.images, material.description
    if images is None or description is None:
        return None
    rows = augmented_pictures(images, description.recipe)
    sheet = [
        tag("div", *(embedded(picture, "a training picture, changed") for picture in row))
        for row in rows
    ]
    note = (
        "Some training pictures, each several times as the model may see it: changed at random, "
        "cut and coloured as the recipe says, and mixed with others if it does."
    )
    return join(tag("p", note, class_="note"), tag("div", *sheet, class_="sheet")), None


# -- parts of the page ------------------------------------------------------------------------


def _picture(make: Callable[[], Any], name: str, caption: Content) -> Markup:
    """Return a picture with a caption; where it cannot be read, why."""
    try:
        shown = embedded(make(), name)
    except UNREADABLE as error:
        shown = tag("div", one_line(error), class_="unreadable")
    return tag("figure", shown, tag("figcaption", caption))


def _card(pictures: Sequence[Markup], *captions: Content) -> Markup:
    words = (tag("div", caption, class_="caption") for caption in captions)
    return tag("div", tag("div", *pictures, class_="pictures"), *words, class_="card")


def _cards(note: str, cards: Sequence[Markup], nothing: str, class_: str = "cards") -> Markup:
    if not cards:
        return tag("p", nothing)
    return join(tag("p", note, class_="note"), tag("div", *cards, class_=class_))
