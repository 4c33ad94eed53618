"""One block of memory for the maps of a plan, laid out by when each is needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lucid import kernels
from lucid._compile._steps import Attention, Convolution, Step, nhwc_shape
from lucid.graph import Operation, Value, leaves
from lucid.kernels._placement import ALIGNMENT, Life, place
from lucid.kernels.prepared import Prepared
from lucid.ops._layout import from_nhwc

_PAGE = 4096  # bytes between lanes: no two threads write one cache line, or the next it fetches


@dataclass(frozen=True)
class Front:
    """The first steps of a plan that are done for one group of images after the other.

    Attributes:
        steps: how many.
        groups: the images of each.
        lanes: how many groups are under way at once, each in memory of its own.
    """

    steps: int = 0
    groups: list[slice] = field(default_factory=list)
    lanes: int = 1


def find_front(steps: Sequence[Step], images: int) -> Front:
    """Return the steps that are worth doing group by group: large maps, few weights.

    These are the convolutions at the beginning as long as the weights, which each group reads
    again, are fewer than the numbers in the maps of one image.
    """
    count = 0
    for step in steps:
        if not isinstance(step, Convolution):
            break
        maps = [step.args[0], step.output]
        if any(value.ndim != 4 or value.shape[0] != images for value in maps):
            break
        if step.weight_bytes * images > sum(value.nbytes for value in maps):
            break
        count += 1
    size, lanes = kernels.active().divide_images(images)
    groups = [slice(start, start + size) for start in range(0, images, size)]
    return Front(count, groups, lanes) if count > 1 and len(groups) > 1 else Front()


def last_uses(steps: Sequence[Step], result: Any) -> dict[Value, int]:
    """Return, for each value, the last step that reads it; the result counts as one more."""
    reads = enumerate([*(step.args for step in steps), result])
    return {value: position for position, nested in reads for value in leaves(nested, Value)}


class Arena:
    """The memory of a plan.

    Args:
        steps: the plan's.
        result: what the plan returns.
        front: those that are done group by group.
        prepared: the backend's steps; None for an operation.
        images: the input, if it is copied into the arena first.

    Attributes:
        nbytes: its size.
        maps: the arrays in it by their value, in the value's logical shape; of those that hold a
            group the first lane's.
        lanes: for each lane of the front the maps that hold a group.
        held: all values that lie in it, views of maps included.
        grouped: maps that hold one group of images.
        gaps: maps whose pixels do not lie side by side, with the floats left between them.
    """

    def __init__(
        self,
        steps: Sequence[Step],
        result: Any,
        front: Front,
        prepared: Sequence[Prepared | None],
        images: Value | None,
    ) -> None:
        self.gaps = _find_gaps(steps, result, prepared)
        last = last_uses(steps, result)
        made = [value for step in steps[: front.steps] for value in step.outputs]
        made += [] if images is None else [images]
        self.grouped = {value for value in made if last.get(value, 0) < front.steps}
        lives, self.held = self._lifetimes(steps, front, last, images)
        grouped = {value: lives.pop(value) for value in self.grouped}
        lane = -(-place(list(grouped.values())) // _PAGE) * _PAGE
        region = Life(lane * front.lanes, 0, front.steps - 1)
        self.nbytes = place([region, *lives.values()])
        memory = np.empty(self.nbytes + ALIGNMENT, np.uint8)
        start = -memory.ctypes.data % ALIGNMENT
        self._memory = memory[start:]
        attended = {step.output for step in steps if isinstance(step, Attention)}

        def array(value: Value, life: Life, offset: int = 0) -> np.ndarray:
            flat = self._memory[offset + life.offset :][: life.size].view(value.dtype)
            if value.ndim != 4 or value in attended:
                return flat.reshape(value.shape)
            count = front.groups[0].stop if value in self.grouped else None
            *pixels, channels = nhwc_shape(value, count)
            return from_nhwc(flat.reshape(*pixels, -1)[..., :channels])

        self.lanes = [
            {
                value: array(value, life, region.offset + index * lane)
                for value, life in grouped.items()
            }
            for index in range(front.lanes)
        ]
        self.maps = {value: array(value, life) for value, life in lives.items()}
        self.maps.update(self.lanes[0])

    def contains(self, array: np.ndarray) -> bool:
        """Whether an array lies in this memory."""
        return np.may_share_memory(array, self._memory)

    def _lifetimes(
        self,
        steps: Sequence[Step],
        front: Front,
        last: Mapping[Value, int],
        images: Value | None,
    ) -> tuple[dict[Value, Life], set[Value]]:
        """Return when the fused steps' results are needed, and all values that lie in the arena."""
        owner: dict[Value, Value] = {}  # a value that is a view of a map -> that map
        lives: dict[Value, Life] = {}

        def add(value: Value, position: int) -> None:
            size = value.nbytes
            if value in self.gaps:
                size += size // value.shape[1] * self.gaps[value]
            if value in self.grouped:
                size //= len(front.groups)
            # The first group already writes its part of a map that holds all images.
            first = 0 if position < front.steps and value not in self.grouped else position
            lives[value] = Life(size, first, last.get(value, position))
            owner[value] = value

        if images is not None:
            add(images, 0)
        for position, step in enumerate(steps):
            if not isinstance(step, Operation):
                add(step.output, position)
                continue
            for output in step.outputs:
                for value in leaves(step.args, Value):
                    base = owner.get(value)
                    if base is not None and value in output.views:
                        owner[output] = base
                        lives[base].last = max(lives[base].last, last.get(output, position))
        return lives, set(owner)


def _find_gaps(
    steps: Sequence[Step], result: Any, prepared: Sequence[Prepared | None]
) -> dict[Value, int]:
    """Return the maps for whose channels the backend asks for gaps, if all readers allow them."""
    gaps: dict[Value, int] = {}
    adjacent = leaves(result, Value)
    for step, run in zip(steps, prepared):
        adjacent += leaves(step.args[1:] if run and run.reads_gaps else step.args, Value)
        if run and run.gap and step.outputs[0].ndim == 4:
            gaps[step.outputs[0]] = run.gap
    for value in adjacent:
        gaps.pop(value, None)
    return gaps
