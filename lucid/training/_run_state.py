"""All that the next step of a run depends on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from lucid import _random
from lucid._check import one_line
from lucid.nn import Module
from lucid.optim import Optimizer
from lucid.optim.lr_scheduler import LRScheduler
from lucid.optim.swa_utils import AveragedModel
from lucid.training._description import Description


class Stateful(Protocol):
    """What a state may have more parts of."""

    def state_dict(self) -> Any:
        """Return what is to be kept."""

    def load_state_dict(self, state_dict: Any) -> Any:
        """Put it back."""


@dataclass
class RunState:
    """What a run goes on from; :class:`RunFiles` writes it, with the state of lucid's generator.

    Args:
        model: what is trained.
        optimizer: holds its parameters.
        scheduler: of the rate.
        description: what the weights are, and the history.
        averaged: the moving average of the model, if the training keeps one: it is what is judged
            and whose weights are kept.
        progress: where in an epoch it is, if ``description.batch`` says that one is under way.
    """

    model: Module
    optimizer: Optimizer
    scheduler: LRScheduler
    description: Description
    averaged: AveragedModel | None = None
    progress: Stateful | None = None

    @property
    def judged(self) -> Module:
        """The model whose weights are kept."""
        return self.model if self.averaged is None else self.averaged.module

    def _parts(self) -> dict[str, Stateful]:
        parts: dict[str, Stateful | None] = {
            "model": self.model,
            "optimizer": self.optimizer,
            "scheduler": self.scheduler,
            "averaged": self.averaged,
            "progress": self.progress if self.description.batch else None,
        }
        return {name: part for name, part in parts.items() if part is not None}

    def state_dict(self) -> dict[str, Any]:
        """Return what is to be kept."""
        state = {name: part.state_dict() for name, part in self._parts().items()}
        return {**state, "random": _random.generator().bit_generator.state}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Put it back.

        Raises:
            ValueError: naming the part that does not fit.
        """
        loads = {name: part.load_state_dict for name, part in self._parts().items()}
        for key, load in {**loads, "random": _load_random}.items():
            try:
                if not isinstance(state_dict.get(key), dict):
                    raise TypeError("expected a mapping")
                load(state_dict[key])
            except Exception as error:  # what a wrong part leads to depends on where it is
                raise ValueError(f"{key!r} does not fit: {one_line(error)}") from error


def _load_random(state: dict[str, Any]) -> None:
    _random.check_state(state)
    _random.generator().bit_generator.state = state
