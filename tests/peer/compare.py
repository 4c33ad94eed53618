"""Is lucid's result PyTorch's? And if both refuse: does lucid refuse in its own words?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

import lucid
from tests.errors import own
from tests.peer.convert import DTYPES, dtype_of

# PyTorch's and lucid's roundings may differ by this, relative to an element (of an operation on
# single elements) or to the largest one (of sums and products).
PRECISION = {"float16": 3e-3, "float32": 1e-5, "float64": 1e-9}
# What is left of numbers around 1 that cancel out.
NOISE = {"float16": 1e-2, "float32": 1e-5, "float64": 1e-10}


class Problem(NamedTuple):
    """What differs: the kind, and a sentence."""

    kind: str
    text: str


class ElsewhereError(Exception):
    """The result of an operation in place is not the tensor itself."""


@dataclass
class Outcome:
    """What a call gave: a value, or an error."""

    value: Any = None
    error: Exception | None = None


def call(function: Callable[[], Any]) -> Outcome:
    """Call, and return the value or the error."""
    try:
        return Outcome(function())
    except Exception as error:
        return Outcome(error=error)


def parts(value: Any) -> list[Any]:
    """Return the tensors and numbers in a result, one after another."""
    if isinstance(value, (tuple, list)):
        return [part for item in value for part in parts(item)]
    return [value]


def close(
    expected: np.ndarray, got: np.ndarray, exact: bool, truth: np.ndarray | None = None
) -> np.ndarray:
    """Return which elements agree; ``exact`` asks for precision in each, also in small ones.

    Given the truth, lucid may be four times as far from it as PyTorch is where that is farthest.
    """
    if expected.dtype.kind != "f":
        return expected == got
    same = (expected == got) | (np.isnan(expected) & np.isnan(got))
    if same.all():
        return same
    with np.errstate(all="ignore"):
        finite = np.isfinite(expected)
        wide = np.where(finite, expected, 0).astype(np.float64)
        type_ = np.finfo(expected.dtype)
        precision, far = PRECISION[expected.dtype.name], 0.0
        if truth is not None:
            wide = np.where(finite, truth, 0)
            error = 4 * np.abs(wide - expected)[finite]
            normal = np.abs(wide[finite]) >= type_.smallest_normal
            far = np.max(error, initial=0)
            precision = np.max(error[normal] / np.abs(wide[finite][normal]), initial=precision)
        allowed = precision * np.abs(wide)
        if exact:
            allowed = allowed + 4.0 * float(type_.smallest_subnormal)
        else:
            allowed = max(allowed.max(initial=0), far, NOISE[expected.dtype.name])
        near = np.abs(wide - got) <= allowed
    return same | (near & finite)


def differing(
    expected: Any,
    got: Any,
    exact: bool,
    kind: str = "value",
    truth: Callable[[], Any] = lambda: None,
) -> Problem | None:
    """Return how one tensor or number differs from PyTorch's.

    Args:
        expected: PyTorch's.
        got: lucid's.
        exact: ask for precision in each element, not only in the largest.
        kind: the kind of the problem if values differ.
        truth: computes PyTorch's in float64; called only if values differ.
    """
    if not isinstance(expected, torch.Tensor):
        if isinstance(got, lucid.Tensor):
            return Problem("structure", f"a tensor for {type(expected).__name__}")
        if got == expected or (got != got and expected != expected):
            return None
        return Problem(kind, f"{got!r} for {expected!r}")
    if not isinstance(got, lucid.Tensor):
        return Problem("structure", f"{type(got).__name__} for a tensor")
    if tuple(expected.shape) != got.shape:
        return Problem("shape", f"{got.shape} for {tuple(expected.shape)}")
    if expected.dtype not in DTYPES or np.dtype(DTYPES[expected.dtype]) != got.dtype:
        return Problem("dtype", f"{got.dtype} for {str(expected.dtype).removeprefix('torch.')}")
    array = expected.numpy(force=True)
    equal = close(array, got.data, exact)
    if not equal.all():
        exactly = truth()
        if isinstance(exactly, torch.Tensor) and exactly.dtype is torch.float64:
            equal = close(array, got.data, exact, exactly.numpy(force=True))
    if equal.all():
        return None
    place = np.unravel_index(int(np.argmin(equal)), equal.shape)
    return Problem(
        kind,
        f"{got.data[place]!s} for {array[place]!s} at {tuple(map(int, place))}, "
        f"{int((~equal).sum())} of {equal.size} differ",
    )


def at(truth: Callable[[], Any], number: int) -> Any:
    """Return one part of the true value, None if there is none."""
    found = parts(call(truth).value)
    return found[number] if number < len(found) else None


def compare(
    theirs: Outcome,
    ours: Outcome,
    exact: bool,
    values: bool = True,
    truth: Callable[[], Any] = lambda: None,
) -> Problem | None:
    """Return how lucid's outcome differs from PyTorch's, None if it does not.

    Args:
        theirs: PyTorch's outcome.
        ours: lucid's.
        exact: ask for precision in each element, not only in the largest.
        values: compare values, not only shapes and dtypes.
        truth: computes PyTorch's value in float64.
    """
    if isinstance(ours.error, ElsewhereError):
        return Problem("memory", "the result in place is not the tensor itself")
    if ours.error is not None:
        text = f"{type(ours.error).__name__}: {ours.error}"
        if not own(ours.error):
            return Problem("raw", text)
        return None if theirs.error is not None else Problem("refused", text)
    if theirs.error is not None:
        return Problem("accepted", f"PyTorch: {theirs.error}".splitlines()[0])
    expected, got = parts(theirs.value), parts(ours.value)
    if len(expected) != len(got):
        return Problem("structure", f"{len(got)} results for {len(expected)}")
    for number, (one, two) in enumerate(zip(expected, got)):
        if not values and isinstance(one, torch.Tensor) and isinstance(two, lucid.Tensor):
            one, two = torch.zeros_like(one), lucid.zeros_like(two)
        problem = differing(one, two, exact, truth=lambda number=number: at(truth, number))
        if problem is not None:
            return problem
    return None


def weights(tensor: Any, seed: int) -> np.ndarray:
    """Return a gradient to begin with, of the shape of a result."""
    rng = np.random.default_rng(seed)
    return rng.uniform(0.5, 1.5, tuple(tensor.shape)) * rng.choice([-1, 1], tuple(tensor.shape))


def gradients(
    expected: list[Any],
    got: list[Any],
    their_leaves: list[torch.Tensor],
    our_leaves: list[lucid.Tensor],
    second: bool,
    kind: str = "gradient",
) -> Problem | None:
    """Return how the gradients of results with respect to leaves differ, then the second ones."""
    pairs = [
        (one, two)
        for one, two in zip(expected, got)
        if isinstance(one, torch.Tensor) and one.requires_grad
    ]
    if not pairs:
        return None
    begin = [weights(one, seed) for seed, (one, _) in enumerate(pairs)]
    reference = call(
        lambda: torch.autograd.grad(
            [one for one, _ in pairs],
            their_leaves,
            [torch.from_numpy(w.astype(dtype_of(one.dtype))) for w, (one, _) in zip(begin, pairs)],
            create_graph=second,
            allow_unused=True,
        )
    )
    if reference.error is not None:  # PyTorch has no such gradient
        return None

    def derive() -> Any:
        # What does not require a gradient has a constant one, 0.
        roots = [(w, two) for w, (_, two) in zip(begin, pairs) if two.requires_grad]
        if not roots:
            return [None] * len(our_leaves)
        return lucid.autograd.grad(
            [two for _, two in roots],
            our_leaves,
            [lucid.tensor(w, dtype=two.dtype) for w, two in roots],
            create_graph=second,
            allow_unused=True,
        )

    result = call(derive)
    if result.error is not None:
        text = f"{type(result.error).__name__}: {result.error}"
        raw = "" if own(result.error) else "raw "
        return Problem(f"{raw}{kind}", text)
    once, twice = [], []
    for theirs, ours, leaf in zip(reference.value, result.value, their_leaves):
        if theirs is None and ours is None:
            continue
        theirs = torch.zeros_like(leaf) if theirs is None else theirs
        ours = lucid.zeros(*leaf.shape, dtype=np.float64) if ours is None else ours
        problem = differing(theirs, ours, exact=False, kind=kind)
        if problem is not None:
            return problem if problem.kind == kind else Problem(kind, problem.text)
        once.append(theirs)
        twice.append(ours)
    if second:
        return gradients(once, twice, their_leaves, our_leaves, False, "second gradient")
    return None
