"""Watching operations as they run, recorded or not: how models are drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lucid.autograd._function import Function
    from lucid.autograd._tensor import Tensor


class Observer:
    """Is told of every operation, of every thread, while it stands in :data:`observers`."""

    def operation(
        self, function: type[Function], args: tuple[Any, ...], outputs: tuple[Tensor, ...]
    ) -> None:
        """See ``function`` turn ``args`` into ``outputs``."""

    def assigned(self, tensor: Tensor, result: Tensor) -> None:
        """See ``tensor`` take over the value of ``result``: the end of an operation in place."""


observers: list[Observer] = []
