"""A step of inference, prepared once for arrays of fixed shapes and run many times."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray


class Prepared:
    """Call it with the output and the inputs, in the shapes it was prepared for.

    Images are NHWC. The inputs may lie as they like; the output overlaps none of them, and lies as
    the step asks.

    Attributes:
        gap: how many floats had better be left free behind each pixel of the output.
        reads_gaps: whether the pixels of the first input may lie so.
        reads_input: whether its input is a part of the model's input, which is elsewhere in each
            call; a joined step gets the slice of images in its place.
    """

    gap: int = 0
    reads_gaps: bool = False
    reads_input: bool = False

    def __call__(self, out: Array, *inputs: Array) -> None:
        """Do the step on any inputs."""
        self.run(out, *self.conform(*inputs))

    def conform(self, *inputs: Array) -> tuple[Array, ...]:
        """Return the inputs, with copies of those in whose layout the step cannot read them."""
        return tuple(map(np.ascontiguousarray, inputs))

    def run(self, out: Array, *inputs: Array) -> None:
        """Do the step on inputs that conform."""
        raise NotImplementedError


class Bound(NamedTuple):
    """A step, and the output and the inputs, which conform, that it works on in each run.

    Attributes:
        step: what is run.
        arrays: what it works on; in the place of the model's input a slice of it.
        passes_on: whether nobody but the next step reads the output, which need not be written
            then.
    """

    step: Prepared
    arrays: tuple[Any, ...]
    passes_on: bool = False


class Link(NamedTuple):
    """A kept layer of a row.

    Attributes:
        layer: what the backend returned for it, a function of one map or of several; or who else
            links layers, what it keeps of one.
        reads: which maps: 0 is the row's input, 1 what the first link makes.
        adds: the map of the same shape that is added to what it makes, None for none.
    """

    layer: Any
    reads: tuple[int, ...]
    adds: int | None = None
