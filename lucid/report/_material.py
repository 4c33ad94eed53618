"""What a report is made of, and what its parts return."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from lucid.data import Dataset, Images
from lucid.data._dataset import with_transform
from lucid.models import MobileNet_V4
from lucid.report._html import Markup
from lucid.report._seen import MOST, Seen, look
from lucid.training import Description, Evaluation

# What stands in the page, and what goes into the JSON under the part's name (None: nothing more
# than is there); None for a part of which there is nothing to show.
Made = tuple[Markup, Any] | None


@dataclass(frozen=True)
class Material:
    """What a report is made of; :func:`write_report` tells what it is."""

    evaluation: Evaluation
    model: MobileNet_V4 | None
    images: Images | None
    description: Description | None
    environment: dict[str, Any] | None
    after_each: Callable[[int, int], Any] | None

    @property
    def classes(self) -> Sequence[str]:
        """The names of the classes."""
        return self.evaluation.classes

    @cached_property
    def parts(self) -> dict[str, Dataset]:
        """The images that the model was trained on, chosen by, and measured on, all unchanged.

        None without a description: then it is not known what the model was trained on.
        """
        if self.images is None or self.description is None:
            return {}
        images, train = self.images, self.images.train
        if images.transform is not None:
            train = with_transform(train, images.transform)
        parts = {"train": train, "validation": images.validation, "test": images.test}
        return {name: part for name, part in parts.items() if part is not None}

    @cached_property
    def seen(self) -> dict[str, Seen]:
        """What the model sees in these parts, without those of which nothing can be read."""
        if self.model is None:
            return {}
        total, done = sum(min(len(part), MOST) for part in self.parts.values()), 0

        def step(count: int) -> None:
            nonlocal done
            done += count
            if self.after_each is not None:
                self.after_each(done, total)

        classes = list(self.classes)
        seen = {name: look(self.model, part, classes, step) for name, part in self.parts.items()}
        return {name: part for name, part in seen.items() if part is not None}
