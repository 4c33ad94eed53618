"""How a model is trained."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

from lucid import models
from lucid._check import Check, check_entries, is_integer, is_number


@dataclass(frozen=True)
class Settings:
    """How a model is trained; the defaults are those of ``lucid train``.

    Args:
        model: a name that :func:`lucid.models.list_models` has.
        data: what :func:`lucid.data.load_images` takes: ``"digits"`` or a folder of images.
        epochs: passes over the training images.
        batch_size: images in a step.
        lr: the highest learning rate; it warms up, then follows a cosine to 0.
        optimizer: ``"adamw"``, or ``"sgd"`` with Nesterov's momentum of 0.9.
        weight_decay: of weights; biases and batch norms have none (:func:`decay_groups`).
        label_smoothing: the part of a label that is spread over all classes.
        warmup: the share of the steps that warm up.
        size: height and width of the images.
        augment: whether the training images are changed at random.
        validation: the share of the training images held out to choose the best weights by, if the
            data have no such part.
        limit: use at most so many images of each part, for a quick try; None for no limit.
        seed: the same seed gives the same run.
        max_unreadable: the share of the pictures that may be unreadable.

    Raises:
        ValueError: naming the setting that cannot be, what was expected and what was given.

    Example:
        >>> settings = training.Settings(data="photos/", size=224, epochs=30)
        >>> settings.batch_size
        64
        >>> training.Settings(epochs=0)
        Traceback (most recent call last):
        ValueError: 'epochs': expected an integer from 1 to 1,000,000, got 0
    """

    model: str = "mobilenetv4_conv_small"
    data: str = "digits"
    epochs: int = 15
    batch_size: int = 64
    lr: float = 3e-3
    optimizer: str = "adamw"
    weight_decay: float = 0.05
    label_smoothing: float = 0.1
    warmup: float = 0.1
    size: int = 48
    augment: bool = True
    validation: float = 0.1
    limit: int | None = None
    seed: int = 0
    max_unreadable: float = 0.25

    def __post_init__(self) -> None:
        check_entries(asdict(self), SETTINGS)


_SMALLEST = math.ulp(0.0)  # the least number over 0
_BELOW_ONE = math.nextafter(1.0, 0.0)

SETTINGS: dict[str, Check] = {
    "model": ("a name that `lucid models` lists", lambda v: v in models.list_models()),
    "data": ("`digits` or a folder", lambda v: isinstance(v, str) and v != ""),
    "epochs": ("an integer from 1 to 1,000,000", lambda v: is_integer(v, 1, 10**6)),
    "batch_size": ("an integer from 1 to 1,000,000", lambda v: is_integer(v, 1, 10**6)),
    "lr": ("a number over 0", lambda v: is_number(v, _SMALLEST)),
    "optimizer": ("'adamw' or 'sgd'", lambda v: v in ("adamw", "sgd")),
    "weight_decay": ("a number of at least 0", lambda v: is_number(v, 0)),
    "label_smoothing": ("a number in [0, 1)", lambda v: is_number(v, 0, _BELOW_ONE)),
    "warmup": ("a number in [0, 1)", lambda v: is_number(v, 0, _BELOW_ONE)),
    "size": ("an integer from 1 to 4096", lambda v: is_integer(v, 1, 4096)),
    "augment": ("true or false", lambda v: isinstance(v, bool)),
    "validation": ("a number between 0 and 1", lambda v: is_number(v, _SMALLEST, _BELOW_ONE)),
    "limit": (
        "an integer of at least 1, or null",
        lambda v: v is None or is_integer(v, 1, math.inf),
    ),
    "seed": ("an integer of at least 0", lambda v: is_integer(v, 0, math.inf)),
    "max_unreadable": ("a number in [0, 1)", lambda v: is_number(v, 0, _BELOW_ONE)),
}
