"""Steps bound to the memory that their maps have in the arena, and run."""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import numpy as np

from lucid import kernels
from lucid._compile._arena import Arena, find_front, last_uses, nhwc_shape
from lucid._compile._describe import StepInfo, describe
from lucid._compile._fuse import Affine, Attention, Average, Convolution, freeze, simplify
from lucid._compile._nesting import mapped
from lucid._compile._trace import Operation, Ref, Trace, tensors
from lucid.autograd import Function, Tensor
from lucid.autograd._grad_mode import grad_mode
from lucid.autograd._graph import Node
from lucid.nn import Module
from lucid.ops._layout import to_nhwc
from lucid.ops._shape import Permute, Reshape

_ALL = slice(None)


class _Bound(NamedTuple):
    """A prepared step of the backend and the arrays, in the arena, that it works on.

    The step that copies the input has a slice of its images in the place of the first.
    """

    run: Callable[..., None]
    arrays: tuple[np.ndarray | slice | None, ...]


# What runs a step; None where nothing is left to do.
_Call = _Bound | Callable[[], None] | None

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

    def __init__(self, traced: Trace) -> None:
        self.steps = simplify(traced)
        freeze(self.steps)
        self.result = traced.result
        self.infos: list[StepInfo] = [describe(step, traced) for step in self.steps]
        self.values: list[Any] = [None] * len(traced.values)
        self._bind(traced)
        self._lent = self._find_lent(traced)
        for step in self.steps:
            if isinstance(step, Convolution):  # the backend has them in a form of its own
                step.weight = step.bias = np.empty(0, step.weight.dtype)

    def _bind(self, traced: Trace) -> None:
        self._front = find_front(self.steps, traced)
        self._runs = {
            position: self._prepared(position, traced)
            for position, step in enumerate(self.steps)
            if isinstance(step, Convolution)
        }
        groups = self._front.groups or [slice(0, len(traced.values[0]))]
        first = traced.values[0][groups[0]]
        load: Callable[..., None] | None = None
        if first.ndim == 4:
            load = kernels.active().prepare_images(nhwc_shape(first), first.dtype)
        self.arena = Arena(self.steps, traced, self._front, self._runs, load is not None)
        for number, array in self.arena.maps.items():
            self.values[number] = array
        self._fixed = set(self.arena.maps)  # values that are the same arrays in every run
        # What is called, those of the front once for each group, and the step that each belongs to.
        calls: list[_Call] = []
        self._order: list[int] = []
        for group in groups:
            calls += self._front_calls(load, group)
            self._order += [0] * (load is not None) + [*range(self._front.steps)]
        for position in range(self._front.steps, len(self.steps)):
            calls.append(self._call(position, traced))
            self._order.append(position)
        # Values outside the arena are dropped after their last use.
        last = last_uses(self.steps, self.result)
        drops: list[list[int]] = [[] for _ in calls]
        for number, position in last.items():
            if number not in self._fixed and 0 <= position < len(self.steps):
                drops[position - len(self.steps)].append(number)
        rest = len(calls) - (len(self.steps) - self._front.steps)
        in_lanes = self._in_lanes(load, calls[:rest])
        if in_lanes is None:
            self._calls = _joined_calls(calls, drops)
        else:
            self._calls = [(in_lanes, []), *_joined_calls(calls[rest:], drops[rest:])]
        self._single_calls = [
            _joined_calls([call], [numbers]) for call, numbers in zip(calls, drops)
        ]

    def _front_calls(
        self, load: Callable[..., None] | None, group: slice, lane: int = 0
    ) -> list[_Call]:
        """Return the calls of the front for a group of images, in a lane of the arena."""
        calls: list[_Call] = []
        if load is not None:
            calls.append(_Bound(load, (group, self._map(0, group, lane))))
        for position in range(self._front.steps):
            calls.append(self._convolution(position, group, lane))
        return calls

    def _in_lanes(self, load: Callable[..., None] | None, calls: list[_Call]) -> _Joined | None:
        """Return the calls of the front as one in which each thread has a lane, if that is how."""
        if self._front.lanes == 1 or not all(isinstance(call, _Bound) for call in calls):
            return None
        first, second = self._front.groups[:2]
        lanes = [
            (self._front_calls(load, first, lane), self._front_calls(load, second, lane))
            for lane in range(self._front.lanes)
        ]
        all_bound = cast("list[tuple[list[_Bound], list[_Bound]]]", lanes)
        return kernels.active().join_lanes(all_bound, len(self._front.groups))

    # -- binding one step -------------------------------------------------------------------

    def _call(self, position: int, traced: Trace) -> _Call:
        """Return what runs a step: bound to the arena, or on what is there; None: done for good."""
        backend, values, step = kernels.active(), self.values, self.steps[position]
        if isinstance(step, Convolution):
            return self._convolution(position)
        if isinstance(step, Average):
            value = traced.values[step.x.index]
            run, out = backend.prepare_average(nhwc_shape(value), value.dtype), values[step.output]
            return self._on_images([step.x.index], lambda x: (run, (x, out)))
        if isinstance(step, Affine):
            value = traced.values[step.x.index]
            run = backend.prepare_affine(nhwc_shape(value), step.scale, step.shift, -np.inf, np.inf)
            out = _images(values[step.output])
            return self._on_images([step.x.index], lambda x: (run, (x, out)))
        if isinstance(step, Attention):
            return self._attention(step, traced)
        call = self._operation(step, traced)
        return None if self._is_fixed(step, call) else call

    def _prepared(self, position: int, traced: Trace) -> Callable[..., None]:
        """Return the backend's step of a convolution, of a group of images in the front."""
        step = self.steps[position]
        assert isinstance(step, Convolution)
        x = traced.values[step.x.index]
        if position < self._front.steps:
            x = x[self._front.groups[0]]
        _, run = kernels.active().prepare_conv(
            nhwc_shape(x), step.weight, step.bias, step.activation, *step.how
        )
        return run

    def _convolution(self, position: int, group: slice = _ALL, lane: int = 0) -> _Call:
        run, step = self._runs[position], self.steps[position]
        assert isinstance(step, Convolution)
        x = step.x.index
        out = self._map(step.output, group, lane)
        if step.residual is None:
            # A kernel that takes its input apart anyway spares a copy in channels-last memory.
            in_any_order = getattr(run, "takes_any_order", False)
            return self._on_images([x], lambda x: (run, (x, out, None)), in_any_order, group, lane)
        return self._on_images(
            [x, step.residual.index],
            lambda x, residual: (run, (x, out, residual)),
            group=group,
            lane=lane,
        )

    def _map(self, number: int, group: slice, lane: int = 0) -> np.ndarray:
        """Return a map in the arena as the kernels take it, NHWC."""
        value = self._part(number, group, lane)
        return value.transpose(0, 2, 3, 1) if number in self.arena.gaps else _images(value)

    def _part(self, number: int, group: slice, lane: int = 0) -> np.ndarray:
        """Return the images of a group of a value."""
        if number in self.arena.grouped:
            return self.arena.lanes[lane][number]
        value: np.ndarray = self.values[number]
        return value[group]

    def _on_images(
        self,
        numbers: list[int],
        bind: Callable[..., tuple[Any, tuple[Any, ...]]],
        in_any_order: bool = False,
        group: slice = _ALL,
        lane: int = 0,
    ) -> _Call:
        """Return the call of ``bind`` of maps: now, if they lie in the arena, or in each run."""
        if self._fixed.issuperset(numbers):
            maps = [self._map(number, group, lane) for number in numbers]
            if all(self.arena.contains(array) for array in maps):
                return _Bound(*bind(*maps))
        images = _any_images if in_any_order else _images

        def call() -> None:
            run, arrays = bind(*[images(self._part(number, group)) for number in numbers])
            run(*arrays)

        return call

    def _attention(self, step: Attention, traced: Trace) -> _Call:
        values, out = self.values, self.values[step.output]
        q, k, v = step.q.index, step.k.index, step.v.index
        shapes = [traced.values[number].shape for number in (q, k, v)]
        keys = (*shapes[1][:-2], shapes[1][-1], shapes[1][-2])
        run = kernels.active().prepare_attention(
            shapes[0], keys, shapes[2], step.scale, traced.values[q].dtype
        )

        def arrays() -> tuple[np.ndarray, ...]:
            return values[q], values[k].swapaxes(-1, -2), values[v], out

        if self._fixed.issuperset((q, k, v)) and values[q].strides[-1] == values[q].itemsize:
            return _Bound(run, arrays())
        return lambda: run(*arrays())

    def _is_fixed(self, step: Any, call: Callable[[], None]) -> bool:
        """Whether the step only views a map in the arena in another shape: then do it now."""
        if step.kind not in (Permute, Reshape) or not isinstance(step.args[0], Ref):
            return False
        if step.args[0].index not in self._fixed:
            return False
        call()
        if not self.arena.contains(self.values[step.outputs[0]]):
            return False
        self._fixed.update(step.outputs)
        return True

    def _operation(self, step: Operation, traced: Trace) -> Callable[[], None]:
        values, outputs, args = self.values, step.outputs, step.args

        if isinstance(step.kind, Module):
            module = step.kind
            expected = [(traced.values[n].shape, traced.values[n].dtype) for n in outputs]

            def call() -> None:
                # Copies: what it might write into them would reach the steps to come.
                given = mapped(lambda leaf: _filled(leaf, values, copied=True), args)
                results = tensors(module(*given))
                changed = any(tensor._version.count for tensor in tensors(given))
                if changed or [(tensor.shape, tensor.dtype) for tensor in results] != expected:
                    raise UnforeseenError
                for number, tensor in zip(outputs, results):
                    values[number] = tensor.data

            return call
        kind: type[Function] = step.kind
        plain = (False,) * len(args)

        def apply() -> None:
            filled = mapped(lambda leaf: _filled(leaf, values), args)
            result = kind.forward(Node(kind, plain), *filled)
            for number, value in zip(outputs, result if isinstance(result, tuple) else (result,)):
                values[number] = value.data if isinstance(value, Tensor) else np.asarray(value)

        return apply

    @property
    def has_opaque_steps(self) -> bool:
        """Whether a module runs as itself."""
        return any(isinstance(getattr(step, "kind", None), Module) for step in self.steps)

    # -- running ----------------------------------------------------------------------------

    def __call__(self, x: np.ndarray) -> Any:
        return self._run(x, self._calls)

    def _run(self, x: np.ndarray, calls: list[tuple[_Joined, list[int]]]) -> Any:
        values = self.values
        if 0 not in self._fixed:
            values[0] = x
        images = x.transpose(0, 2, 3, 1) if x.ndim == 4 else x
        enabled = grad_mode.enabled
        try:  # as in Function.apply
            grad_mode.enabled = False
            with np.errstate(all="ignore"):
                for call, drops in calls:
                    call(images)
                    for number in drops:
                        values[number] = None
        finally:
            grad_mode.enabled = enabled
        result = mapped(self._returned, self.result)
        if 0 not in self._fixed:
            values[0] = None
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

    def _find_lent(self, traced: Trace) -> set[int]:
        """Return the values in memory of the caller, of the arena or of an opaque module."""
        lent = {0, *self.arena.numbers}
        for step in self.steps:
            if isinstance(step, Operation):
                is_module = isinstance(step.kind, Module)
                lent.update(n for n in step.outputs if is_module or lent & {*traced.views[n]})
        return lent

    def _returned(self, leaf: Any) -> Any:
        """Return a part of the result, in the place of a reference an array of its own."""
        if isinstance(leaf, Ref):
            array = self.values[leaf.index]
            return array.copy(order="K") if leaf.index in self._lent else array
        return leaf.data.copy() if isinstance(leaf, Tensor) else leaf


def _joined_calls(calls: list[_Call], drops: list[list[int]]) -> list[tuple[_Joined, list[int]]]:
    """Return the calls, those bound to memory joined, each with the values to drop after it."""
    joined: list[tuple[_Joined, list[int]]] = []
    bound: list[_Bound] = []
    dropped: list[int] = []

    def finish() -> None:
        nonlocal bound, dropped
        if bound or dropped:
            joined.append((kernels.active().join(bound), dropped))
        bound, dropped = [], []

    for call, numbers in zip(calls, drops):
        if call is None or isinstance(call, _Bound):
            bound += [] if call is None else [call]
            dropped += numbers
        else:
            finish()
            joined.append((functools.partial(_without_input, call), numbers))
    finish()
    return joined


def _without_input(call: Callable[[], None], images: np.ndarray) -> None:
    call()


def _images(value: np.ndarray) -> np.ndarray:
    if value.ndim == 4:
        return to_nhwc(value)
    return np.ascontiguousarray(value).reshape(nhwc_shape(value))


def _any_images(value: np.ndarray) -> np.ndarray:
    return value.transpose(0, 2, 3, 1) if value.ndim == 4 else _images(value)


def _filled(leaf: Any, values: list[Any], copied: bool = False) -> Any:
    if not isinstance(leaf, Ref):
        return leaf
    array = values[leaf.index]
    return Tensor._wrap(array.copy(order="K") if copied else array)
