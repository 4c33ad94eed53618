"""Steps bound to the memory that their maps have in the arena, and run."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import Any, cast

import numpy as np

from lucid import kernels
from lucid._compile._arena import Arena, find_front, last_uses
from lucid._compile._steps import Step, StepInfo, describe, nhwc, nhwc_shape
from lucid.autograd import Function, Tensor
from lucid.autograd._grad_mode import grad_mode
from lucid.autograd._graph import Node
from lucid.autograd._tensor import version, wrap
from lucid.graph import Operation, Value, leaves, mapped
from lucid.kernels.prepared import Bound, Prepared
from lucid.nn import Module
from lucid.ops._shape import Permute, Reshape

_ALL = slice(None)


# What runs a step; None where nothing is left to do.
_Call = Bound | Callable[..., None] | None

# What runs some steps, given the images.
_Joined = Callable[[np.ndarray], None]


class UnforeseenError(RuntimeError):
    """An opaque module did what it did in no traced run."""


class Plan:
    """A model's inference on inputs of exactly one shape.

    The first steps, where maps are large and weights few, are done for a few images after the
    others: their maps stay in a cache from one step to the next. The steps behind them are done for
    the whole batch, so that weights are read once.

    ``plan(x)`` takes an array and returns what the model returns, with arrays for tensors. The
    arrays are valid after the next call too. Not for two threads at once.
    """

    def __init__(self, images: Value, steps: list[Step], result: Any) -> None:
        """Bring the steps' weights into the backend's form, one layer after the other.

        Args:
            images: the input.
            steps: of :func:`simplify`; the weights that nothing else holds go one by one. Other
                plans may have the same steps, or share what those have packed.
            result: what is returned, with values in the place of tensors.
        """
        self._input, self.steps, self.result = images, steps, result
        self.infos: list[StepInfo] = [describe(step) for step in self.steps]
        self.values: dict[Value, Any] = {}
        self._bind()
        self._lent = self._find_lent()

    def _bind(self) -> None:
        x = self._input
        self._front = find_front(self.steps, x.shape[0])
        groups = self._front.groups or [slice(0, x.shape[0])]
        self._prepared = [self._prepare(position) for position in range(len(self.steps))]
        load: Prepared | None = None
        if x.ndim == 4:
            load = kernels.active().prepare_images(nhwc_shape(x, groups[0].stop), x.dtype)
        images = None if load is None else x
        self.arena = Arena(self.steps, self.result, self._front, self._prepared, images)
        self.values.update(self.arena.maps)
        self._fixed = set(self.arena.maps)  # values that are the same arrays in every run
        self._last = last_uses(self.steps, self.result)
        # What is called, those of the front once for each group, and the step that each belongs to.
        calls: list[_Call] = []
        self._order: list[int] = []
        for group in groups:
            calls += self._front_calls(load, group)
            self._order += [0] * (load is not None) + [*range(self._front.steps)]
        for position in range(self._front.steps, len(self.steps)):
            calls.append(self._call(position))
            self._order.append(position)
        # Values outside the arena are dropped after their last use.
        drops: list[list[Value]] = [[] for _ in calls]
        for value, position in self._last.items():
            if value not in self._fixed and position < len(self.steps):
                drops[position - len(self.steps)].append(value)
        rest = len(calls) - (len(self.steps) - self._front.steps)
        in_lanes = self._in_lanes(load, calls[:rest])
        if in_lanes is None:
            self._calls = _joined_calls(calls, drops)
        else:
            self._calls = [(in_lanes, []), *_joined_calls(calls[rest:], drops[rest:])]
        self._single_calls = [
            _joined_calls([call], [dropped]) for call, dropped in zip(calls, drops)
        ]

    def _prepare(self, position: int) -> Prepared | None:
        """Return the backend's step, in the front for a group of images; None of an operation."""
        step, front = self.steps[position], self._front
        if isinstance(step, Operation):
            return None
        return step.prepare(front.groups[0].stop if position < front.steps else None)

    def _front_calls(self, load: Prepared | None, group: slice, lane: int = 0) -> list[_Call]:
        """Return the calls of the front for a group of images, in a lane of the arena."""
        calls: list[_Call] = []
        if load is not None:
            calls.append(Bound(load, (nhwc(self._part(self._input, group, lane)), group)))
        for position in range(self._front.steps):
            calls.append(self._call(position, group, lane))
        return calls

    def _in_lanes(self, load: Prepared | None, calls: list[_Call]) -> _Joined | None:
        """Return the calls of the front as one in which each thread has a lane, if that is how."""
        if self._front.lanes == 1 or not all(isinstance(call, Bound) for call in calls):
            return None
        first, second = self._front.groups[:2]
        lanes = [
            (self._front_calls(load, first, lane), self._front_calls(load, second, lane))
            for lane in range(self._front.lanes)
        ]
        all_bound = cast("list[tuple[list[Bound], list[Bound]]]", lanes)
        return kernels.active().join_lanes(all_bound, len(self._front.groups))

    # -- binding one step -------------------------------------------------------------------

    def _call(self, position: int, group: slice = _ALL, lane: int = 0) -> _Call:
        """Return what runs a step: bound to the arena, or on what is there; None: done for good."""
        step, run = self.steps[position], self._prepared[position]
        if isinstance(step, Operation):
            call = self._operation(step)
            return None if self._is_fixed(step, call) else call
        assert run is not None
        fused, prepared = step, run

        def arrays() -> tuple[np.ndarray, ...]:
            parts = [self._part(value, group, lane) for value in (fused.output, *fused.args)]
            return fused.arrays(*parts)

        if self._fixed.issuperset(step.args):
            out, *inputs = arrays()
            conform = prepared.conform(*inputs)
            if all(map(self.arena.contains, conform)):  # none had to be copied
                passes_on = self._last.get(fused.output) == position + 1
                return Bound(prepared, (out, *conform), passes_on)
        return lambda images: prepared(*arrays())

    def _part(self, value: Value, group: slice, lane: int = 0) -> np.ndarray:
        """Return the images of a group of a value."""
        if value in self.arena.grouped:
            return self.arena.lanes[lane][value]
        array: np.ndarray = self.values[value]
        return array[group]

    def _is_fixed(self, step: Any, call: Callable[..., None]) -> bool:
        """Whether the step only views a map in the arena in another shape: then do it now."""
        if step.kind not in (Permute, Reshape) or step.args[0] not in self._fixed:
            return False
        call()
        if not self.arena.contains(self.values[step.outputs[0]]):
            return False
        self._fixed.update(step.outputs)
        return True

    def _operation(self, step: Operation) -> Callable[..., None]:
        values, outputs, args = self.values, step.outputs, step.args

        if isinstance(step.kind, Module):
            module = step.kind
            expected = [(value.shape, value.dtype) for value in outputs]

            def call(images: Any = None) -> None:
                # Copies: what it might write into them would reach the steps to come.
                given = mapped(lambda leaf: _filled(leaf, values, copied=True), args)
                results = leaves(module(*given), Tensor)
                changed = any(map(version, leaves(given, Tensor)))
                if changed or [(tensor.shape, tensor.dtype) for tensor in results] != expected:
                    raise UnforeseenError
                for value, tensor in zip(outputs, results):
                    values[value] = tensor.data

            return call
        kind: type[Function] = step.kind
        plain = (False,) * len(args)

        def apply(images: Any = None) -> None:
            filled = mapped(lambda leaf: _filled(leaf, values), args)
            result = kind.forward(Node(kind, plain), *filled)
            for value, made in zip(outputs, result if isinstance(result, tuple) else (result,)):
                values[value] = made.data if isinstance(made, Tensor) else np.asarray(made)

        return apply

    @property
    def images(self) -> int:
        """The batch of its input."""
        return self._input.shape[0]

    def release(self) -> None:
        """Give its memory back, as it is not to be run again."""
        vars(self).clear()  # steps that are not bound refer to it in a circle

    @property
    def has_opaque_steps(self) -> bool:
        """Whether a module runs as itself."""
        return any(isinstance(getattr(step, "kind", None), Module) for step in self.steps)

    # -- running ----------------------------------------------------------------------------

    def __call__(self, x: np.ndarray) -> Any:
        return self._run(x, self._calls)

    def _run(self, x: np.ndarray, calls: list[tuple[_Joined, list[Value]]]) -> Any:
        values = self.values
        if self._input not in self._fixed:
            values[self._input] = x
        images = x.transpose(0, 2, 3, 1) if x.ndim == 4 else x
        enabled = grad_mode.enabled
        try:  # as in Function.apply
            grad_mode.enabled = False
            with np.errstate(all="ignore"):
                for call, drops in calls:
                    call(images)
                    for value in drops:
                        values[value] = None
        finally:
            grad_mode.enabled = enabled
        result = mapped(self._returned, self.result)
        if self._input not in self._fixed:
            values[self._input] = None
        return result

    def timed(self, x: np.ndarray) -> list[float]:
        """Run step by step, and return the seconds of each in the order of ``infos``.

        Bringing the input into the plan's memory counts for the first.
        """
        ends = [time.perf_counter()]

        def clock(images: np.ndarray) -> None:
            ends.append(time.perf_counter())

        self._run(x, [pair for single in self._single_calls for pair in [*single, (clock, [])]])
        seconds = [0.0] * max(1, len(self.steps))
        for position, (start, end) in zip(self._order, itertools.pairwise(ends)):
            seconds[position] += end - start
        return seconds[: len(self.steps)]

    def _find_lent(self) -> set[Value]:
        """Return the values in memory of the caller, of the arena or of an opaque module."""
        lent = {self._input, *self.arena.held}
        for step in self.steps:
            if isinstance(step, Operation):
                is_module = isinstance(step.kind, Module)
                lent.update(v for v in step.outputs if is_module or not lent.isdisjoint(v.views))
        return lent

    def _returned(self, leaf: Any) -> Any:
        """Return a part of the result, in the place of a value an array of its own."""
        if isinstance(leaf, Value):
            array = self.values[leaf]
            return array.copy(order="K") if leaf in self._lent else array
        return leaf.data.copy() if isinstance(leaf, Tensor) else leaf


def _joined_calls(
    calls: list[_Call], drops: list[list[Value]]
) -> list[tuple[_Joined, list[Value]]]:
    """Return the calls, those bound to memory joined, each with the values to drop after it."""
    joined: list[tuple[_Joined, list[Value]]] = []
    bound: list[Bound] = []
    dropped: list[Value] = []

    def finish() -> None:
        nonlocal bound, dropped
        if bound or dropped:
            joined.append((kernels.active().join(bound), dropped))
        bound, dropped = [], []

    for call, values in zip(calls, drops):
        if call is None or isinstance(call, Bound):
            bound += [] if call is None else [call]
            dropped += values
        else:
            finish()
            joined.append((call, values))
    finish()
    return joined


def _filled(leaf: Any, values: dict[Value, Any], copied: bool = False) -> Any:
    if not isinstance(leaf, Value):
        return leaf
    array = values[leaf]
    return wrap(array.copy(order="K") if copied else array)
