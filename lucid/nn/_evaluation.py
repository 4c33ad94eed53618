"""Evaluation mode for a while."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from lucid.nn.modules._module import Module


@contextlib.contextmanager
def evaluation(model: Module) -> Iterator[None]:
    """Have all modules of ``model`` in evaluation mode, then give each its own mode back.

    ``model.train()`` afterwards would thaw the layers that somebody froze with ``eval()``.
    """
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
