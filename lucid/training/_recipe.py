"""How a model is trained.

An entry of a recipe stands in one place: its line in :class:`Recipe`, with what it may be, its
default and what it means. The check, the TOML file, the options of ``lucid train`` and the
reference are made of that line.
"""

from __future__ import annotations

import inspect
import json
import math
import os
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

from lucid import models
from lucid._check import Check, check_entries, is_integer, is_number, nearest
from lucid._extras import extra
from lucid._version import __version__
from lucid.data import transforms
from lucid.data._readable import READERS

SIZE = 48  # height and width of the images, if neither recipe nor weights say it

_SHIPPED = Path(__file__).parent / "recipes"


class Kind(NamedTuple):
    """What an entry may be.

    Args:
        parse: makes it of a text.
        expected: what it may be, in words.
        is_right: whether a value is that.
        options: all that it may be, if they can be listed.
    """

    parse: Callable[[str], Any]
    expected: str
    is_right: Callable[[Any], bool]
    options: tuple[str, ...] | None = None


_SMALLEST = math.ulp(0.0)  # the least number over 0
_BELOW_ONE = math.nextafter(1.0, 0.0)

_FLAG = Kind(bool, "true or false", lambda v: isinstance(v, bool))
_COUNT = Kind(int, "an integer from 1 to 1,000,000", lambda v: is_integer(v, 1, 10**6))
_AT_LEAST_0 = Kind(int, "an integer of at least 0", lambda v: is_integer(v, 0, math.inf))
_OVER_0 = Kind(float, "a number over 0", lambda v: is_number(v, _SMALLEST))
_NOT_NEGATIVE = Kind(float, "a number of at least 0", lambda v: is_number(v, 0))
_SHARE = Kind(float, "a number in [0, 1)", lambda v: is_number(v, 0, _BELOW_ONE))
_PART = Kind(float, "a number between 0 and 1", lambda v: is_number(v, _SMALLEST, _BELOW_ONE))
_UP_TO_1 = Kind(float, "a number in (0, 1]", lambda v: is_number(v, _SMALLEST, 1))
_TEXT = Kind(str, "a text", lambda v: isinstance(v, str) and v != "")
_WEIGHTS = Kind(
    lambda text: True if text == "true" else text,
    "a file, the folder of a run, a name that `lucid models --pretrained` lists, or true",
    lambda v: v is True or (isinstance(v, str) and v != ""),
)


def _is_augmentation(value: Any) -> bool:
    if isinstance(value, bool):  # as earlier versions had it
        return True
    try:
        transforms.training(value)
    except (ValueError, AttributeError):
        return False
    return True


def _or_none(kind: Kind) -> Kind:
    """Return a kind that may also be left out; in a recipe's file the entry is missing then."""
    return kind._replace(
        expected=f"{kind.expected}, or null", is_right=lambda v: v is None or kind.is_right(v)
    )


def _or_chosen(kind: Kind) -> Kind:
    """Return a kind that :meth:`Recipe.settled` chooses where it is left out."""
    return kind._replace(is_right=lambda v: v is None or kind.is_right(v))


def _one_of(*options: str) -> Kind:
    return Kind(str, " or ".join(map(repr, options)), lambda v: v in options, options)


def _entry(default: Any, kind: Kind, help: str) -> Any:
    return field(default=default, metadata={"kind": kind, "help": help})


@dataclass(frozen=True)
class Recipe:
    """How a model is trained; the defaults are those of ``lucid train``.

    A recipe is a TOML file too, which :meth:`read` reads and :meth:`toml` writes.

    Args:
        {entries}

    Raises:
        ValueError: naming the entry that cannot be, what was expected and what was given.

    Example:
        >>> recipe = training.Recipe(data="photos/", size=224, epochs=30)
        >>> recipe.settled(images=1000).batch_size
        32
        >>> "epochs = 30" in recipe.toml().splitlines()
        True
        >>> training.Recipe(epochs=0)
        Traceback (most recent call last):
        ValueError: 'epochs': expected an integer from 1 to 1,000,000, got 0
    """

    model: str = _entry(
        "mobilenetv4_conv_small",
        Kind(str, "a name that `lucid models` lists", lambda v: v in models.list_models()),
        "a name that `lucid models` lists",
    )
    data: str = _entry(
        "digits",
        Kind(str, "`digits`, a folder or a list", lambda v: isinstance(v, str) and v != ""),
        "`digits`, or a folder with a folder of images for each class, or one with such folders "
        "in train/ and test/ or val/, or a list of files and classes in CSV or JSON",
    )
    epochs: int = _entry(15, _COUNT, "passes over the training images")
    batch_size: int | None = _entry(
        None,
        _or_chosen(_COUNT),
        "images in a batch, of all ranks together: the power of two from 8 to 64 that gives an "
        "epoch 20 batches or more",
    )
    lr: float | None = _entry(
        None,
        _or_chosen(_OVER_0),
        "highest learning rate; it warms up, then follows a cosine to 0: 0.003 for AdamW, 0.001 "
        "from weights, times the root of images in a step / 64; 0.05 for SGD, 0.01 from weights, "
        "times images in a step / 64",
    )
    optimizer: str = _entry(
        "adamw", _one_of("adamw", "sgd"), "AdamW, or SGD with Nesterov's momentum of 0.9"
    )
    weight_decay: float = _entry(
        0.05, _NOT_NEGATIVE, "of weights; biases and batch norms have none"
    )
    beta1: float = _entry(0.9, _SHARE, "what AdamW leaves of the mean of the gradients at a step")
    beta2: float = _entry(0.999, _SHARE, "what AdamW leaves of the mean of their squares at a step")
    opt_eps: float = _entry(1e-8, _OVER_0, "what AdamW adds to the root of this, to divide by both")
    label_smoothing: float = _entry(
        0.1, _SHARE, "the part of a label that is spread over all classes"
    )
    warmup: float = _entry(0.1, _SHARE, "share of the steps that warm up")
    weights: str | bool | None = _entry(
        None,
        _or_none(_WEIGHTS),
        "what to start from: a file, the folder of a run, a name that `lucid models --pretrained` "
        "lists, or true for those that are recommended; size, mean and standard deviation of the "
        "images are taken from it",
    )
    head_epochs: int = _entry(
        0, _AT_LEAST_0, "so many epochs at first, of `epochs`, train the classifier alone"
    )
    freeze: int = _entry(
        0,
        _AT_LEAST_0,
        "so many stages from the images on are not trained, with their batch norms: the stem is "
        "the first",
    )
    layer_decay: float | None = _entry(
        None,
        _or_none(_UP_TO_1),
        "what the rate is multiplied by from a layer to the one before it",
    )
    dropout: float = _entry(0.0, _SHARE, "of what the classifier is given")
    drop_path: float = _entry(
        0.0, _SHARE, "how likely a sample goes past the last block; past earlier ones less"
    )
    bn_momentum: float | None = _entry(
        None,
        _or_none(_PART),
        "weight of a new batch in the statistics of batch norms, if not the model's own, 0.1",
    )
    bn_eps: float | None = _entry(
        None,
        _or_none(_UP_TO_1),
        "what batch norms add to a variance, if not the model's own, 1e-05; the weights tell it",
    )
    sync_bn: bool = _entry(
        False,
        _FLAG,
        "let batch norms see the whole batch, where each of several ranks has a part of it; they "
        "wait for one another then, but their number changes nothing",
    )
    ema: float | None = _entry(
        None,
        _or_none(_SHARE),
        "keep and judge a moving average of the weights, of which each step leaves so much, such "
        "as 0.999; it warms up",
    )
    accumulate: int = _entry(1, _COUNT, "batches that make one step together")
    clip_grad: float | None = _entry(
        None, _or_none(_OVER_0), "the largest norm of all gradients together"
    )
    class_weights: bool = _entry(
        False, _FLAG, "let all classes count the same in the loss, however rare"
    )
    teacher: str | None = _entry(
        None,
        _or_none(_TEXT),
        "learn from its answers too: weights of another model that takes these images, or a CSV "
        "file that `lucid predict --top N --csv FILE` wrote of the training images with N classes",
    )
    temperature: float = _entry(
        2.0, _OVER_0, "what the teacher's and the student's logits are divided by"
    )
    teacher_weight: float = _entry(
        0.5,
        Kind(float, "a number in [0, 1]", lambda v: is_number(v, 0, 1)),
        "the teacher's part of the loss; the labels have the rest",
    )
    patience: int | None = _entry(
        None, _or_none(_COUNT), "stop after so many epochs that were not the best so far"
    )
    size: int | None = _entry(
        None,
        _or_chosen(Kind(int, "an integer from 1 to 4096", lambda v: is_integer(v, 1, 4096))),
        "height and width of the images for the model: that of the weights, or else 48",
    )
    augment: str = _entry(
        "light",
        Kind(
            str,
            "'none', 'light', 'strong' or a string of timm's such as 'rand-m9-mstd0.5-inc1'",
            _is_augmentation,
        ),
        "how training images are changed at random: none, light, strong, or a string of timm's "
        "such as rand-m9-mstd0.5-inc1",
    )
    mixup: float = _entry(
        0.0, _NOT_NEGATIVE, "alpha of MixUp, which adds pairs of images; 0 for none"
    )
    cutmix: float = _entry(
        0.0, _NOT_NEGATIVE, "alpha of CutMix, which puts a part of an image into another; 0: none"
    )
    mix_probability: float = _entry(
        1.0,
        Kind(float, "a number in [0, 1]", lambda v: is_number(v, 0, 1)),
        "how likely a batch is mixed; with both, each is as likely",
    )
    balanced: bool = _entry(
        False, _FLAG, "show the images of rare classes as often as those of others"
    )
    workers: int = _entry(
        READERS, _AT_LEAST_0, "workers that read pictures; the result is the same for any number"
    )
    cache: bool = _entry(False, _FLAG, "keep decoded training pictures in memory, up to 4 GiB")
    validation: float = _entry(
        0.1,
        _PART,
        "share of the training images held out to choose the best weights by, if the data have "
        "no such part",
    )
    limit: int | None = _entry(
        None,
        _or_none(Kind(int, "an integer of at least 1", lambda v: is_integer(v, 1, math.inf))),
        "use at most so many images of each part, for a quick try",
    )
    seed: int = _entry(0, _AT_LEAST_0, "the same seed gives the same run")
    save_minutes: float = _entry(
        10.0, _NOT_NEGATIVE, "write the state also within an epoch, after so many minutes at a time"
    )
    keep_states: int = _entry(
        1, _COUNT, "keep the states of so many of the last epochs, until the run is finished"
    )
    max_unreadable: float = _entry(
        0.25,
        _SHARE,
        "share of the pictures that may be unreadable (at least one may): they are named before "
        "the work begins, and it goes on without them",
    )

    def __post_init__(self) -> None:
        if isinstance(self.augment, bool):
            object.__setattr__(self, "augment", "light" if self.augment else "none")
        check_entries(asdict(self), checks())
        if self.head_epochs >= self.epochs:
            raise ValueError(
                f"'head_epochs': expected fewer than the {self.epochs} epochs, of which they are "
                f"the first, got {self.head_epochs}"
            )
        if self.is_taught_by_file and (self.mixup or self.cutmix):
            raise ValueError(
                "'teacher': expected weights, not a file of answers, with mixup or cutmix: the "
                f"answers are not of the mixed images, got {self.teacher!r}"
            )

    @property
    def is_taught_by_file(self) -> bool:
        """Whether the teacher's answers stand in a file."""
        return self.teacher is not None and Path(self.teacher).suffix.lower() == ".csv"

    def settled(self, images: int | None = None) -> Recipe:
        """Return it with numbers in the place of what is chosen for it: size, batches and rate.

        Args:
            images: how many there are to train on; None leaves open what depends on it.
        """
        if images is None:
            return replace(self, size=self.size or SIZE)
        batch_size = self.batch_size or max(8, 1 << (min(images // 20, 64) or 1).bit_length() - 1)
        # Of the images of a step for which these rates are good; an epoch may have fewer.
        share = min(batch_size * self.accumulate, max(images, 1)) / 64
        if self.optimizer == "sgd":
            # Goyal et al. 2017, "Accurate, Large Minibatch SGD": rates in proportion to batches.
            rate = (0.05 if self.weights is None else 0.01) * share
        else:
            # Malladi et al. 2022, "On the SDEs and Scaling Rules for Adaptive Gradient Algorithms".
            rate = (3e-3 if self.weights is None else 1e-3) * math.sqrt(share)
        return replace(
            self, size=self.size or SIZE, batch_size=batch_size, lr=self.lr or float(f"{rate:.3g}")
        )

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Recipe:
        """Read a recipe from a TOML file; what it does not name has its default.

        Args:
            path: the file, the folder of a run, or a name that :func:`list_recipes` has.

        Raises:
            FileNotFoundError: if there is no such file or name.
            ValueError: naming the entry that is unknown or cannot be.
            ImportError: before Python 3.11, if tomli is not installed.
        """
        path = Path(path)
        if path.is_dir():
            path /= "recipe.toml"
        elif path.suffix != ".toml" and not path.exists():
            path = _shipped(str(path))
        known = [entry.name for entry in fields(cls)]
        try:
            entries = _parse(path.read_text(encoding="utf-8"))
            for name in entries:
                if name not in known:
                    close = nearest(name, known)
                    hint = f"did you mean {close[0]!r}?" if close else f"one of {', '.join(known)}"
                    raise ValueError(f"there is no entry {name!r}; {hint}")
            return cls(**entries)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path}: {error}") from error

    def toml(self) -> str:
        """Return it as the text of a TOML file, with what each entry means."""
        lines = [f"# Written by lucid {__version__}; `lucid train --recipe FILE` takes it."]
        for entry in fields(self):
            if entry.name in GROUPS:
                lines += ["", f"# -- {GROUPS[entry.name]} --"]
            value = getattr(self, entry.name)
            given = f"# {entry.name} =" if value is None else f"{entry.name} = {_toml(value)}"
            lines += ["", f"# {entry.metadata['help']}", given]
        return "\n".join(lines) + "\n"


#: What the entries from each of these on are about.
GROUPS = {
    "model": "data and model",
    "epochs": "steps",
    "weights": "fine-tuning and regularisation",
    "size": "images",
    "validation": "parts of the data",
    "save_minutes": "files",
}


def checks() -> dict[str, Check]:
    """Return by name what the entries of a recipe may be."""
    kinds = {entry.name: entry.metadata["kind"] for entry in fields(Recipe)}
    return {name: (kind.expected, kind.is_right) for name, kind in kinds.items()}


def list_recipes() -> list[str]:
    """Return the names of the recipes that come with lucid, which :meth:`Recipe.read` takes."""
    return sorted(path.stem for path in _SHIPPED.glob("*.toml"))


def _shipped(name: str) -> Path:
    names = list_recipes()
    if name in names:
        return _SHIPPED / f"{name}.toml"
    close = nearest(name, names)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise FileNotFoundError(f"there is no recipe {name!r}, nor a file of that name{hint}")


def _parse(text: str) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        tomllib = extra("tomli", "recipes", "reading a recipe before Python 3.11 needs tomli")
    entries: dict[str, Any] = tomllib.loads(text)
    return entries


def _toml(value: Any) -> str:
    """Return a value as TOML has it: JSON's texts are TOML's too, but for one sign."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _document() -> None:
    """Put the entries into the docstring."""
    entries = [f"{entry.name}: {entry.metadata['help']}." for entry in fields(Recipe)]
    text = inspect.getdoc(Recipe)
    if text is not None:  # as it is under `python -OO`
        Recipe.__doc__ = text.replace("{entries}", "\n    ".join(entries))


_document()
