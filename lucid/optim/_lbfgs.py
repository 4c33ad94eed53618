"""L-BFGS, and the search along its direction."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from lucid.autograd import enable_grad
from lucid.autograd._tensor import mark_changed
from lucid.optim import _settings
from lucid.optim._optimizer import Array, Group, Optimizer, Params
from lucid.optim._settings import given


class LBFGS(Optimizer):
    """Newton's method with curvature guessed from the last gradients (Liu & Nocedal, 1989).

    A step calls the closure many times, which computes the loss of all the data. The state is
    that of one run: it is not saved.

    Args:
        params: the tensors to optimise, in one group.
        lr: the step length; with a line search the first one that is tried.
        max_iter: the iterations of a step.
        max_eval: the calls of the closure in a step; ``max_iter * 5 / 4`` if left out.
        tolerance_grad: end the step where no gradient is larger.
        tolerance_change: end it where parameters or loss change by less.
        history_size: the gradients that are kept.
        line_search_fn: None, or ``"strong_wolfe"``.

    Example:
        >>> x = lucid.tensor([3.0, -2.0], requires_grad=True)
        >>> optimizer = optim.LBFGS([x], line_search_fn="strong_wolfe")
        >>> def closure():
        ...     optimizer.zero_grad()
        ...     loss = ((x - 1) ** 4).sum()
        ...     loss.backward()
        ...     return loss
        >>> loss = optimizer.step(closure)  # that of the start
        >>> closure().item() < 1e-3 < loss.item()
        True
    """

    numbers = ("lr", "tolerance_grad", "tolerance_change")

    def __init__(
        self,
        params: Params,
        lr: float = 1,
        max_iter: int = 20,
        max_eval: int | None = None,
        tolerance_grad: float = 1e-7,
        tolerance_change: float = 1e-9,
        history_size: int = 100,
        line_search_fn: str | None = None,
    ) -> None:
        max_eval = max_iter * 5 // 4 if max_eval is None else max_eval
        super().__init__(params, given(locals()))
        if len(self.param_groups) != 1:
            raise ValueError("LBFGS: expected one group of parameters")
        self._pairs: list[tuple[Array, Array]] = []  # changes of the gradient, and steps
        self._last: tuple[Array, Array, float] | None = None  # gradient, direction and length

    def _check_settings(self, group: Group) -> None:
        super()._check_settings(group)
        if group["line_search_fn"] not in (None, "strong_wolfe"):
            raise ValueError(
                "LBFGS: line_search_fn must be None or 'strong_wolfe', got "
                f"{group['line_search_fn']!r}"
            )
        for name in ("max_iter", "max_eval", "history_size"):
            _settings.integer()("LBFGS", name, group[name])

    def _flat(self, gradients: bool) -> Array:
        arrays = []
        for param in self.param_groups[0]["params"]:
            if gradients and param.grad is not None:
                self._check_grad(param)
            grad = np.zeros_like(param.data) if param.grad is None else param.grad.data
            arrays.append((grad if gradients else param.data).ravel())
        return np.concatenate(arrays)

    def _place(self, values: Array) -> None:
        start = 0
        for param in self.param_groups[0]["params"]:
            part = values[start : start + param.data.size]
            np.copyto(param.data, part.reshape(param.shape))
            mark_changed(param)
            start += param.data.size

    def _step(self, closure: Callable[[], Any] | None) -> Any:
        if closure is None:
            raise TypeError("LBFGS.step: expected a closure that computes the loss, got None")
        group, calls = self.param_groups[0], 0

        def evaluate() -> tuple[float, Array]:
            nonlocal calls
            calls += 1
            return float(closure()), self._flat(gradients=True)

        with enable_grad():
            first = closure()
            loss, grad, calls = float(first), self._flat(gradients=True), 1
            change = group["tolerance_change"]
            for iteration in range(1, group["max_iter"] + 1):
                if np.abs(grad).max(initial=0) <= group["tolerance_grad"]:
                    break
                direction, t = self._direction(grad, group)
                slope, before = float(grad @ direction), loss
                self._last = (grad, direction, t)
                if slope > -change:
                    break
                origin = self._flat(gradients=False)

                def at(t: float, origin: Array = origin, d: Array = direction) -> _Point:
                    self._place(origin + t * d)
                    loss, grad = evaluate()
                    return _Point(t, loss, grad, float(grad @ d))

                if group["line_search_fn"] is not None:
                    start = _Point(0.0, loss, grad, slope)
                    t, loss, grad, _ = _search(at, start, t, np.abs(direction).max(), change)
                    self._last = (self._last[0], direction, t)
                elif iteration < group["max_iter"]:
                    _, loss, grad, _ = at(t)
                self._place(origin + t * direction)
                if calls >= group["max_eval"] or np.abs(direction * t).max() <= change:
                    break
                if abs(loss - before) < change:
                    break
        return first

    def _direction(self, grad: Array, group: Group) -> tuple[Array, float]:
        """Return where to go from a gradient, and how far to go at first."""
        if self._last is None:
            return -grad, min(1.0, 1 / float(np.abs(grad).sum())) * group["lr"]
        old, direction, t = self._last
        change, step = grad - old, direction * t
        if change @ step > 1e-10:
            self._pairs = [*self._pairs, (change, step)][-group["history_size"] :]
        result, shares = -grad, []
        for change, step in reversed(self._pairs):
            shares.append((step @ result) / (change @ step))
            result = result - shares[-1] * change
        if self._pairs:
            change, step = self._pairs[-1]
            result = result * ((change @ step) / (change @ change))
        for (change, step), share in zip(self._pairs, reversed(shares)):
            result = result + step * (share - (change @ result) / (change @ step))
        return result, group["lr"]


class _Point(NamedTuple):
    """A step along the direction: its length, and what is there."""

    t: float
    loss: float
    grad: Array
    slope: float


def _search(
    at: Callable[[float], _Point], start: _Point, t: float, size: float, tolerance: float
) -> _Point:
    """Return a point that fulfils the strong Wolfe conditions, in at most 25 further calls."""

    def is_high(point: _Point) -> bool:
        return point.loss > start.loss + 1e-4 * point.t * start.slope

    def is_flat(point: _Point) -> bool:
        return abs(point.slope) <= -0.9 * start.slope

    before, point, count = start, at(t), 0
    while count < 25:  # out, until the minimum is between two points
        if is_high(point) or (count > 1 and point.loss >= before.loss):
            break
        if is_flat(point):
            return point
        if point.slope >= 0:
            break
        bounds = point.t + 0.01 * (point.t - before.t), point.t * 10
        before, point = point, at(_minimum(before, point, *bounds))
        count += 1
    else:
        before = start
    low, high = (before, point) if before.loss <= point.loss else (point, before)
    is_stuck = False
    while count < 25 and abs(high.t - low.t) * size >= tolerance:  # and in again
        least, most = sorted((low.t, high.t))
        t = _minimum(low, high, least, most)
        margin = 0.1 * (most - least)
        is_near = min(most - t, t - least) < margin
        if is_near and (is_stuck or not least < t < most):
            t, is_near = (most - margin if most - t < t - least else least + margin), False
        is_stuck = is_near
        point = at(t)
        count += 1
        if is_high(point) or point.loss >= low.loss:
            low, high = (low, point) if low.loss <= point.loss else (point, low)
        else:
            if is_flat(point):
                return point
            low, high = point, low if point.slope * (high.t - low.t) >= 0 else high
    return low


def _minimum(one: _Point, two: _Point, least: float, most: float) -> float:
    """Return where the cubic through two points has its minimum, within bounds."""
    if one.t > two.t:
        one, two = two, one
    bend = one.slope + two.slope - 3 * (one.loss - two.loss) / (one.t - two.t)
    square = bend**2 - one.slope * two.slope
    if square < 0:
        return (least + most) / 2
    root = square**0.5
    part = (two.slope + root - bend) / (two.slope - one.slope + 2 * root)
    return min(max(two.t - (two.t - one.t) * part, least), most)
