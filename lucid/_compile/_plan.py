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
from lucid.autograd import Function, Tensor
from lucid.autograd._grad_mode import grad_mode
from lucid.autograd._graph import Node
from lucid.autograd._tensor import version, wrap
from lucid.graph import Graph, Operation, Value, leaves, mapped
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

    def __init__(self, graph: Graph) -> None:
        (self._input,) = graph.inputs
        self.steps, self.result = simplify(graph)
        freeze(self.steps)
        self.infos: list[StepInfo] = [describe(step) for step in self.steps]
        self.values: dict[Value, Any] = {}
        self._bind()
        self._lent = self._find_lent()
        for step in self.steps:
            if isinstance(step, Convolution):  # the backend has them in a form of its own
                step.weight = step.bias = np.empty(0, step.weight.dtype)

    def _bind(self) -> None:
        x = self._input
        self._front = find_front(self.steps, x.shape[0])
        self._runs = {
            position: self._prepared(position)
            for position, step in enumerate(self.steps)
            if isinstance(step, Convolution)
        }
        groups = self._front.groups or [slice(0, x.shape[0])]
        load: Callable[..., None] | None = None
        if x.ndim == 4:
            load = kernels.active().prepare_images(nhwc_shape(x, groups[0].stop), x.dtype)
        images = None if load is None else x
        self.arena = Arena(self.steps, self.result, self._front, self._runs, images)
        self.values.update(self.arena.maps)
        self._fixed = set(self.arena.maps)  # values that are the same arrays in every run
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
        last = last_uses(self.steps, self.result)
        drops: list[list[Value]] = [[] for _ in calls]
        for value, position in last.items():
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

    def _front_calls(
        self, load: Callable[..., None] | None, group: slice, lane: int = 0
    ) -> list[_Call]:
        """Return the calls of the front for a group of images, in a lane of the arena."""
        calls: list[_Call] = []
        if load is not None:
            calls.append(_Bound(load, (group, self._map(self._input, group, lane))))
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

    def _call(self, position: int) -> _Call:
        """Return what runs a step: bound to the arena, or on what is there; None: done for good."""
        backend, values, step = kernels.active(), self.values, self.steps[position]
        if isinstance(step, Convolution):
            return self._convolution(position)
        if isinstance(step, Average):
            run, out = (
                backend.prepare_average(nhwc_shape(step.x), step.x.dtype),
                values[step.output],
            )
            return self._on_images(step.args, lambda x: (run, (x, out)))
        if isinstance(step, Affine):
            shape = nhwc_shape(step.x)
            run = backend.prepare_affine(shape, step.scale, step.shift, -np.inf, np.inf)
            out = _images(values[step.output])
            return self._on_images(step.args, lambda x: (run, (x, out)))
        if isinstance(step, Attention):
            return self._attention(step)
        call = self._operation(step)
        return None if self._is_fixed(step, call) else call

    def _prepared(self, position: int) -> Callable[..., None]:
        """Return the backend's step of a convolution, of a group of images in the front."""
        step = self.steps[position]
        assert isinstance(step, Convolution)
        images = self._front.groups[0].stop if position < self._front.steps else None
        _, run = kernels.active().prepare_conv(
            nhwc_shape(step.x, images), step.weight, step.bias, step.activation, step.conv
        )
        return run

    def _convolution(self, position: int, group: slice = _ALL, lane: int = 0) -> _Call:
        run, step = self._runs[position], self.steps[position]
        assert isinstance(step, Convolution)
        out = self._map(step.output, group, lane)
        # A kernel that takes its input apart anyway spares a copy in channels-last memory.
        in_any_order = step.residual is None and getattr(run, "takes_any_order", False)
        return self._on_images(
            step.args,
            lambda x, residual=None: (run, (x, out, residual)),
            in_any_order,
            group,
            lane,
        )

    def _map(self, value: Value, group: slice, lane: int = 0) -> np.ndarray:
        """Return a map in the arena as the kernels take it, NHWC."""
        array = self._part(value, group, lane)
        return array.transpose(0, 2, 3, 1) if value in self.arena.gaps else _images(array)

    def _part(self, value: Value, group: slice, lane: int = 0) -> np.ndarray:
        """Return the images of a group of a value."""
        if value in self.arena.grouped:
            return self.arena.lanes[lane][value]
        array: np.ndarray = self.values[value]
        return array[group]

    def _on_images(
        self,
        read: list[Value],
        bind: Callable[..., tuple[Any, tuple[Any, ...]]],
        in_any_order: bool = False,
        group: slice = _ALL,
        lane: int = 0,
    ) -> _Call:
        """Return the call of ``bind`` of maps: now, if they lie in the arena, or in each run."""
        if self._fixed.issuperset(read):
            maps = [self._map(value, group, lane) for value in read]
            if all(self.arena.contains(array) for array in maps):
                return _Bound(*bind(*maps))
        images = _any_images if in_any_order else _images

        def call() -> None:
            run, arrays = bind(*[images(self._part(value, group)) for value in read])
            run(*arrays)

        return call

    def _attention(self, step: Attention) -> _Call:
        values, out = self.values, self.values[step.output]
        q, k, v = step.args
        keys = (*k.shape[:-2], k.shape[-1], k.shape[-2])
        run = kernels.active().prepare_attention(q.shape, keys, v.shape, step.scale, q.dtype)

        def arrays() -> tuple[np.ndarray, ...]:
            return values[q], values[k].swapaxes(-1, -2), values[v], out

        if self._fixed.issuperset((q, k, v)) and values[q].strides[-1] == values[q].itemsize:
            return _Bound(run, arrays())
        return lambda: run(*arrays())

    def _is_fixed(self, step: Any, call: Callable[[], None]) -> bool:
        """Whether the step only views a map in the arena in another shape: then do it now."""
        if step.kind not in (Permute, Reshape) or step.args[0] not in self._fixed:
            return False
        call()
        if not self.arena.contains(self.values[step.outputs[0]]):
            return False
        self._fixed.update(step.outputs)
        return True

    def _operation(self, step: Operation) -> Callable[[], None]:
        values, outputs, args = self.values, step.outputs, step.args

        if isinstance(step.kind, Module):
            module = step.kind
            expected = [(value.shape, value.dtype) for value in outputs]

            def call() -> None:
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

        def apply() -> None:
            filled = mapped(lambda leaf: _filled(leaf, values), args)
            result = kind.forward(Node(kind, plain), *filled)
            for value, made in zip(outputs, result if isinstance(result, tuple) else (result,)):
                values[value] = made.data if isinstance(made, Tensor) else np.asarray(made)

        return apply

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
    bound: list[_Bound] = []
    dropped: list[Value] = []

    def finish() -> None:
        nonlocal bound, dropped
        if bound or dropped:
            joined.append((kernels.active().join(bound), dropped))
        bound, dropped = [], []

    for call, values in zip(calls, drops):
        if call is None or isinstance(call, _Bound):
            bound += [] if call is None else [call]
            dropped += values
        else:
            finish()
            joined.append((functools.partial(_without_input, call), values))
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


def _filled(leaf: Any, values: dict[Value, Any], copied: bool = False) -> Any:
    if not isinstance(leaf, Value):
        return leaf
    array = values[leaf]
    return wrap(array.copy(order="K") if copied else array)
