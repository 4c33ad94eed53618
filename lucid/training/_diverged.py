"""What is said of a training whose loss is no number any more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lucid.autograd import Tensor, no_grad
from lucid.nn import Module


class DivergedError(RuntimeError):
    """The loss is not a finite number any more.

    Args:
        message: what happened.
        layer: the name of the first module whose output was not finite, "" for the model itself;
            None if all outputs were.
        batch: which batch it was, counted from 0 where the epoch began or went on.
        step: which step of the run it would have been, counted from 1.
        files: the pictures of the batch, if they are files.
    """

    def __init__(
        self,
        message: str,
        layer: str | None = None,
        batch: int = 0,
        step: int | None = None,
        files: Sequence[str] = (),
    ) -> None:
        super().__init__(message)
        self.layer = layer
        self.batch = batch
        self.step = step
        self.files = list(files)


def diverged(model: Module, images: Tensor, loss: float, batch: int) -> DivergedError:
    """Return the error for a loss that is not finite, after looking where that began."""
    layer = None
    if not np.isfinite(images.data).all():
        cause = "the images are not finite numbers themselves"
    elif (layer := _first_not_finite(model, images)) is None:
        cause = "the model's output is finite, so the labels or the loss are to blame"
    else:
        module = dict(model.named_modules())[layer]
        name = f"{layer or 'the model'} ({type(module).__name__})"
        cause = f"{name} is the first layer whose output is not finite"
        state = module.state_dict()
        wrong = [key for key, value in state.items() if not np.isfinite(value.data).all()]
        if wrong:
            cause += f", nor is its {wrong[0]}"
    return DivergedError(
        f"the loss became {loss}: {cause}; try a lower learning rate", layer, batch
    )


def _first_not_finite(model: Module, images: Tensor) -> str | None:
    """Run the model again, and return the first module whose output is not finite."""
    found: list[str] = []

    def watch(name: str, module: Module) -> Any:
        def look(module: Module, inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor) and not np.isfinite(output.data).all():
                found.append(name)

        return module.register_forward_hook(look)

    handles = [watch(name, module) for name, module in model.named_modules()]
    try:
        with no_grad(), np.errstate(all="ignore"):
            model(images)
    finally:
        for handle in handles:
            handle.remove()
    return found[0] if found else None
