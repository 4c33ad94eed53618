"""Steps bound to memory: one arena for all maps, laid out by when each is needed."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from lucid import kernels
from lucid._compile._describe import StepInfo, describe
from lucid._compile._fuse import Attention, Convolution, freeze, references, simplify
from lucid._compile._trace import Ref, Trace, trace
from lucid.autograd import Function, Tensor, no_grad
from lucid.autograd._graph import Node
from lucid.nn import Module
from lucid.ops._layout import from_nhwc, to_nhwc
from lucid.ops._shape import Permute, Reshape

_ALIGNMENT = 64  # bytes: a cache line, and the widest vector


@dataclass
class _Life:
    """A map in the arena: its size in bytes, and the steps between which it is needed."""

    size: int
    first: int
    last: int
    offset: int = -1


class Plan:
    """A model's inference on inputs of exactly one shape.

    ``plan(x)`` takes an array and returns what the model returns, with arrays for tensors. The
    arrays are valid after the next call too. Not for two threads at once.
    """

    def __init__(self, model: Module, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        traced = trace(model, shape, dtype)
        self.steps = simplify(traced)
        freeze(self.steps)
        self.result = traced.result
        self.infos: list[StepInfo] = [describe(step, traced) for step in self.steps]
        self.values: list[Any] = [None] * len(traced.values)
        self._bind(traced)

    def _bind(self, traced: Trace) -> None:
        lives, arena_values = self._lifetimes(traced)
        self.arena_bytes = _place(list(lives.values()))
        arena = np.empty(self.arena_bytes + _ALIGNMENT, np.uint8)
        start = -arena.ctypes.data % _ALIGNMENT
        self._calls: list[Callable[[], None]] = []
        maps: dict[int, np.ndarray] = {}  # value -> its NHWC array in the arena
        attended = {step.output for step in self.steps if isinstance(step, Attention)}
        for number, life in lives.items():
            value = traced.values[number]
            begin = start + life.offset
            flat = arena[begin : begin + life.size].view(value.dtype)
            if number in attended:
                self.values[number] = flat.reshape(value.shape)
                continue
            maps[number] = flat.reshape(_nhwc_shape(value))
            self.values[number] = (
                from_nhwc(maps[number]) if value.ndim == 4 else flat.reshape(value.shape)
            )
        fixed = set(lives)  # values that are the same arrays in every run
        for step in self.steps:
            if isinstance(step, Convolution):
                self._calls.append(self._convolution(step, traced, maps))
            elif isinstance(step, Attention):
                self._calls.append(self._attention(step, traced))
            else:
                call = self._operation(step)
                self._calls.append(_nothing if self._is_fixed(step, call, arena, fixed) else call)
        self._in_arena = arena_values
        # Values outside the arena are dropped after their last use.
        last = self._last_uses(traced)
        self._drops: list[list[int]] = [[] for _ in self.steps]
        for number, position in last.items():
            if number not in fixed and 0 <= position < len(self.steps):
                self._drops[position].append(number)

    def _last_uses(self, traced: Trace) -> dict[int, int]:
        """Return, for each value, the last step that reads it; views count for their base."""
        last: dict[int, int] = {}
        for position, step in enumerate(self.steps):
            for ref in references(step):
                last[ref.index] = position
        for ref in _result_refs(self.result):
            last[ref.index] = len(self.steps)
        return last

    def _lifetimes(self, traced: Trace) -> tuple[dict[int, _Life], set[int]]:
        """Return when the fused steps' results are needed, and all values that lie in the arena."""
        last = self._last_uses(traced)
        owner: dict[int, int] = {}  # a value that is a view of a map -> that map
        lives: dict[int, _Life] = {}
        for position, step in enumerate(self.steps):
            if isinstance(step, (Convolution, Attention)):
                number = step.output
                size = traced.values[number].nbytes
                lives[number] = _Life(size, position, last.get(number, position))
                owner[number] = number
                continue
            for output in step.outputs:
                array = traced.values[output]
                for ref in references(step):
                    base = owner.get(ref.index)
                    if base is not None and (
                        isinstance(step.kind, Module)
                        or np.may_share_memory(array, traced.values[ref.index])
                    ):
                        owner[output] = base
                        lives[base].last = max(lives[base].last, last.get(output, position))
        return lives, set(owner)

    # -- binding one step -------------------------------------------------------------------

    def _convolution(
        self, step: Convolution, traced: Trace, maps: dict[int, np.ndarray]
    ) -> Callable[[], None]:
        shape = _nhwc_shape(traced.values[step.x.index])
        _, run = kernels.active().prepare_conv(
            shape, step.weight, step.bias, step.activation, *step.how
        )
        values, out = self.values, maps[step.output]
        x, residual = step.x.index, None if step.residual is None else step.residual.index
        if x in maps and (residual is None or residual in maps):
            source, other = maps[x], None if residual is None else maps[residual]
            return lambda: run(source, out, other)
        return lambda: run(
            _images(values[x]), out, None if residual is None else _images(values[residual])
        )

    def _attention(self, step: Attention, traced: Trace) -> Callable[[], None]:
        values, out = self.values, self.values[step.output]
        q, k, v = step.q.index, step.k.index, step.v.index
        shapes = [traced.values[number].shape for number in (q, k, v)]
        keys = (*shapes[1][:-2], shapes[1][-1], shapes[1][-2])
        run = kernels.active().prepare_attention(
            shapes[0], keys, shapes[2], step.scale, traced.values[q].dtype
        )
        return lambda: run(values[q], values[k].swapaxes(-1, -2), values[v], out)

    def _is_fixed(
        self, step: Any, call: Callable[[], None], arena: np.ndarray, fixed: set[int]
    ) -> bool:
        """Whether the step only views a map in the arena in another shape: then do it now."""
        if step.kind not in (Permute, Reshape) or not isinstance(step.args[0], Ref):
            return False
        if step.args[0].index not in fixed:
            return False
        call()
        if not np.may_share_memory(self.values[step.outputs[0]], arena):
            return False
        fixed.update(step.outputs)
        return True

    def _operation(self, step: Any) -> Callable[[], None]:
        values, outputs, args = self.values, step.outputs, step.args

        if isinstance(step.kind, Module):

            def call() -> None:
                result = step.kind(*[_filled(arg, values) for arg in args])
                for number, tensor in zip(outputs, _result_tensors(result)):
                    values[number] = tensor.data

            return call
        kind: type[Function] = step.kind
        plain = (False,) * len(args)

        def apply() -> None:
            result = kind.forward(Node(kind, plain), *[_filled(arg, values) for arg in args])
            for number, value in zip(outputs, result if isinstance(result, tuple) else (result,)):
                values[number] = value.data if isinstance(value, Tensor) else np.asarray(value)

        return apply

    # -- running ----------------------------------------------------------------------------

    def __call__(self, x: np.ndarray) -> Any:
        values = self.values
        values[0] = x
        with no_grad(), np.errstate(all="ignore"):
            for call, drops in zip(self._calls, self._drops):
                call()
                for number in drops:
                    values[number] = None
        result = self._returned(self.result)
        values[0] = None
        return result

    def timed(self, x: np.ndarray) -> list[float]:
        """Run like a call, and return the seconds of each step in the order of ``infos``."""
        seconds: list[float] = []

        def clocked(call: Callable[[], None]) -> Callable[[], None]:
            def run() -> None:
                start = time.perf_counter()
                call()
                seconds.append(time.perf_counter() - start)

            return run

        calls = self._calls
        self._calls = [clocked(call) for call in calls]
        try:
            self(x)
        finally:
            self._calls = calls
        return seconds

    def _returned(self, value: Any) -> Any:
        """Return a result with arrays in place of references, out of the arena."""
        if isinstance(value, Ref):
            array = self.values[value.index]
            inside = value.index in self._in_arena or value.index == 0
            return array.copy(order="K") if inside else array
        if isinstance(value, Tensor):  # does not depend on the input
            return value.data.copy()
        if isinstance(value, dict):
            return {key: self._returned(item) for key, item in value.items()}
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            return type(value)(*[self._returned(item) for item in value])
        if isinstance(value, (list, tuple)):
            return type(value)([self._returned(item) for item in value])
        return value


def _nothing() -> None:
    """A step that was done when the plan was made."""


def _nhwc_shape(value: np.ndarray) -> tuple[int, int, int, int]:
    """Return the shape in memory of images ``(N, C, H, W)``, or of rows ``(N, C)`` as pixels."""
    n, c, h, w = value.shape if value.ndim == 4 else (*value.shape, 1, 1)
    return n, h, w, c


def _images(value: np.ndarray) -> np.ndarray:
    if value.ndim == 4:
        return to_nhwc(value)
    return np.ascontiguousarray(value).reshape(_nhwc_shape(value))


def _place(lives: list[_Life]) -> int:
    """Give each map an offset such that maps needed at the same time do not overlap.

    The largest first, each at the lowest offset that is free for as long as it lives: the greedy
    rule of Pisarchyk & Lee 2020, "Efficient memory management for deep neural net inference".

    Returns:
        The arena's size in bytes.
    """
    placed: list[_Life] = []
    for life in sorted(lives, key=lambda life: life.size, reverse=True):
        offset = 0
        for other in sorted(placed, key=lambda other: other.offset):
            if other.last < life.first or life.last < other.first:
                continue
            if offset + life.size <= other.offset:
                break
            offset = max(offset, -(-(other.offset + other.size) // _ALIGNMENT) * _ALIGNMENT)
        life.offset = offset
        placed.append(life)
    return max((life.offset + life.size for life in placed), default=0)


def _filled(value: Any, values: list[Any]) -> Any:
    if isinstance(value, Ref):
        return Tensor._wrap(values[value.index])
    if isinstance(value, (list, tuple)) and _result_refs(value):
        return type(value)([_filled(item, values) for item in value])
    return value


def _result_refs(value: Any) -> list[Ref]:
    if isinstance(value, Ref):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return [ref for item in value for ref in _result_refs(item)]
    return []


def _result_tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return [tensor for item in value for tensor in _result_tensors(item)]
    return []
