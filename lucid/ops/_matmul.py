"""Products of matrices, and einsum."""

from __future__ import annotations

from typing import Any

import numpy as np

from lucid import kernels
from lucid.autograd import Function, Tensor
from lucid.autograd._graph import Node
from lucid.kernels import _blas
from lucid.ops._common import Array, operand, promoted, save_factors, sum_to, wanted, wide
from lucid.ops._reduce import sum as total
from lucid.ops._shape import permute

__all__ = ["bmm", "dot", "einsum", "matmul", "mm", "outer"]

# -- matrix products ------------------------------------------------------------------------------


class MatMul(Function):
    r"""Products of matrices with at least two axes, with the gradients :math:`G B^T, A^T G`."""

    @staticmethod
    def forward(ctx: Node, a: Tensor, b: Tensor) -> Array:
        ctx.shapes = a.shape, b.shape
        save_factors(ctx, a, b)
        return kernels.active().matmul(a.data, b.data)

    @staticmethod
    def backward(ctx: Node, grad: Tensor) -> tuple[Tensor | None, ...]:
        a, b = ctx.saved_tensors
        return wanted(
            ctx,
            lambda: sum_to(MatMul.apply(grad, b.mT), ctx.shapes[0]),
            lambda: sum_to(MatMul.apply(a.mT, grad), ctx.shapes[1]),
        )


def matmul(a: Any, b: Any) -> Tensor:
    """Return the matrix product.

    Args:
        a: (…, m, k) or (k,).
        b: (…, k, n) or (k,). The axes in front broadcast.

    Returns:
        (…, m, n), without m or n where an operand has one axis.

    Raises:
        ValueError: if the inner sizes differ, the axes in front do not broadcast, or an operand
            has no axis.
    """
    a, b = promoted("matmul", a, b)
    if a.ndim == 0 or b.ndim == 0:
        raise ValueError(
            f"matmul: expected at least 1 axis, got shapes {a.shape} and {b.shape}; "
            "use * for numbers"
        )
    inner = b.shape[-2] if b.ndim > 1 else b.shape[0]
    if a.shape[-1] != inner:
        raise ValueError(
            f"matmul: shapes {a.shape} and {b.shape} do not fit: axis -1 of the first has "
            f"{a.shape[-1]} elements, axis {-2 if b.ndim > 1 else 0} of the second has {inner}"
        )
    if a.ndim > 2 and b.ndim > 2:
        try:
            np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        except ValueError:
            raise ValueError(
                "matmul: the axes in front of the matrices do not broadcast: "
                f"{a.shape} and {b.shape}"
            ) from None
    if a.ndim >= 2 and b.ndim >= 2:
        if a.ndim > 2 and b.ndim == 2:
            # One large product instead of many small ones, here and in both gradients.
            flat = MatMul.apply(a.reshape(-1, inner) if a.data.size else a, b)
            return flat.reshape(*a.shape[:-1], b.shape[1]) if a.data.size else flat
        return MatMul.apply(a, b)
    left = a.unsqueeze(0) if a.ndim == 1 else a
    right = b.unsqueeze(1) if b.ndim == 1 else b
    product = MatMul.apply(left, right)
    if b.ndim == 1:
        product = product.squeeze(-1)
    return product if a.ndim > 1 else product.squeeze(-2 if b.ndim > 1 else -1)


def mm(a: Any, b: Any) -> Tensor:
    """Return the product of two matrices, ``(m, k)`` and ``(k, n)``; others raise ValueError."""
    a, b = promoted("mm", a, b)
    if a.ndim != 2 or b.ndim != 2:
        raise ValueError(
            f"mm: expected two matrices, got shapes {a.shape} and {b.shape}; use matmul()"
        )
    return matmul(a, b)


def bmm(a: Any, b: Any) -> Tensor:
    """Return the products of two batches of matrices, ``(batch, m, k)`` and ``(batch, k, n)``.

    Other shapes raise ValueError: :func:`matmul` broadcasts.
    """
    a, b = promoted("bmm", a, b)
    if a.ndim != 3 or b.ndim != 3 or a.shape[0] != b.shape[0]:
        raise ValueError(
            f"bmm: expected two equal batches (batch, m, k) and (batch, k, n), got shapes "
            f"{a.shape} and {b.shape}; use matmul() to broadcast"
        )
    return matmul(a, b)


def dot(a: Any, b: Any) -> Tensor:
    """Return the inner product of two vectors of the same length; other shapes raise ValueError."""
    a, b = promoted("dot", a, b)
    if a.ndim != 1 or b.ndim != 1:
        raise ValueError(
            f"dot: expected two vectors, got shapes {a.shape} and {b.shape}; use matmul()"
        )
    return matmul(a, b)


def outer(a: Any, b: Any) -> Tensor:
    """Return the ``(n, m)`` matrix of the products of the elements of two vectors."""
    a, b = promoted("outer", a, b)
    if a.ndim != 1 or b.ndim != 1:
        raise ValueError(f"outer: expected two vectors, got shapes {a.shape} and {b.shape}")
    return a.unsqueeze(1) * b


# -- einsum ---------------------------------------------------------------------------------------


class Einsum(Function):
    """Operands in which no letter repeats; each gradient is an einsum of the others.

    Each letter stands in the output or in two operands.
    """

    @staticmethod
    def forward(ctx: Node, inputs: tuple[str, ...], output: str, *tensors: Tensor) -> Array:
        ctx.inputs, ctx.output = inputs, output
        ctx.save_for_backward(*tensors)
        equation = ",".join(inputs) + "->" + output
        # With optimize NumPy contracts pairs by matrix products where it can.
        arrays = [wide(x.data) for x in tensors]
        result = _blas.call(np.einsum, equation, *arrays, optimize=True)
        return np.asarray(result, np.result_type(*[x.dtype for x in tensors]))

    @staticmethod
    def backward(ctx: Node, grad: Tensor) -> tuple[Tensor | None, ...]:
        tensors = ctx.saved_tensors
        grads: list[Tensor | None] = []
        for i, letters in enumerate(ctx.inputs):
            if not ctx.needs_input_grad[2 + i]:
                grads.append(None)
                continue
            others = ctx.inputs[:i] + ctx.inputs[i + 1 :]
            rest = (*tensors[:i], *tensors[i + 1 :])
            grads.append(Einsum.apply((ctx.output, *others), letters, grad, *rest))
        return (None, None, *grads)


def einsum(equation: str, *operands: Any) -> Tensor:
    """Return a sum of products in Einstein's notation, such as ``"bij,bjk->bik"``.

    Args:
        equation: a letter an axis, operands apart by commas, then ``->`` and the axes of the
            result. Letters missing there are summed over. Without ``->`` the result has, in
            alphabetical order, the letters that stand once. ``...`` stands for the axes not
            named, which broadcast, and are summed over too where the result has none. A letter
            that repeats within one operand takes its diagonal.
        operands: the tensors, or one list of them. As in PyTorch, integers and booleans are summed
            as int64 along an axis of one operand alone; products of them wrap around.

    Raises:
        ValueError: if the equation does not fit the operands; the message says where.
    """
    if len(operands) == 1 and isinstance(operands[0], (list, tuple)):
        operands = tuple(operands[0])
    if not isinstance(equation, str):
        raise TypeError(f"einsum: expected an equation first, got {type(equation).__name__}")
    if not operands:
        raise ValueError(f"einsum: expected operands for {equation!r}, got none")
    tensors = [operand(x, "einsum") for x in operands]
    inputs, output = _parse(equation, tensors)
    sizes: dict[str, int] = {}
    for index, (letters, x) in enumerate(zip(inputs, tensors)):
        for letter, n in zip(letters, x.shape):
            known = sizes.setdefault(letter, n)
            if known == 1:
                sizes[letter] = n
            elif n not in (1, known):
                raise ValueError(
                    f"einsum: axis {_name(letter)!r} of {equation!r} has size {known} before, "
                    f"but {n} in operand {index} of shape {x.shape}"
                )
    for index, letters in enumerate(inputs):
        x = tensors[index].expand([sizes[letter] for letter in letters])
        inputs[index], tensors[index] = _diagonals(letters, x)
    for index, letters in enumerate(inputs):
        others = output + "".join(inputs[:index] + inputs[index + 1 :])
        alone = tuple([axis for axis, letter in enumerate(letters) if letter not in others])
        if alone:
            tensors[index] = total(tensors[index], alone)
            inputs[index] = "".join([letter for letter in letters if letter in others])
    if len(tensors) == 1 and len(inputs[0]) == len(output):
        # Nothing is summed. NumPy would return a view unseen; changes through this one are seen.
        return permute(tensors[0], [inputs[0].index(letter) for letter in output])
    return Einsum.apply(tuple(inputs), output, *tensors)


# Axes that an ellipsis stands for get letters of their own; NumPy's einsum takes only ASCII.
def _name(letter: str) -> str:
    return letter if letter.isalpha() else "..."


def _parse(equation: str, tensors: list[Tensor]) -> tuple[list[str], str]:
    """Return a string of letters for each operand, one an axis, and for the result."""
    text = equation.replace(" ", "")
    left, arrow, output = text.partition("->")
    inputs = left.split(",")
    if len(inputs) != len(tensors):
        raise ValueError(f"einsum: {equation!r} names {len(inputs)} operands, got {len(tensors)}")
    for term in [*inputs, output]:
        letters = term.replace("...", "", 1)
        if not all(letter.isascii() and letter.isalpha() for letter in letters):
            raise ValueError(
                f"einsum: expected letters and at most one '...' an operand in {equation!r}, "
                f"got {term!r}"
            )
    used = set(text)
    spare = [c for c in "ZYXWVUTSRQPONMLKJIHGFEDCBAzyxwvutsrqponmlkjihgfedcba" if c not in used]
    longest = 0
    for index, (term, x) in enumerate(zip(inputs, tensors)):
        hidden = x.ndim - len(term.replace("...", ""))
        if hidden < 0 or (hidden and "..." not in term):
            raise ValueError(
                f"einsum: {term!r} in {equation!r} names {x.ndim - hidden} axes, but operand "
                f"{index} has shape {x.shape}"
            )
        if "..." in term:
            longest = max(longest, hidden)
    if longest > len(spare):
        raise ValueError(f"einsum: too many axes in {equation!r}")
    dots = "".join(spare[:longest])
    for index, (term, x) in enumerate(zip(inputs, tensors)):
        hidden = x.ndim - len(term.replace("...", ""))
        inputs[index] = term.replace("...", dots[len(dots) - hidden :])
    if arrow:
        output = output.replace("...", dots)
    else:
        named = left.replace("...", "").replace(",", "")
        output = dots + "".join(sorted(c for c in set(named) if named.count(c) == 1))
    for letter in output:
        if output.count(letter) > 1 or not any(letter in term for term in inputs):
            raise ValueError(
                f"einsum: axis {letter!r} of the result of {equation!r} must stand there once, "
                "and in an operand"
            )
    return inputs, output


def _diagonals(letters: str, x: Tensor) -> tuple[str, Tensor]:
    """Take the diagonal for every letter that repeats."""
    for letter in letters:
        while letters.count(letter) > 1:
            first = letters.index(letter)
            second = letters.index(letter, first + 1)
            rest = letters[:first] + letters[first + 1 : second] + letters[second + 1 :]
            x = x.movedim((first, second), (0, 1))
            steps = np.arange(x.shape[0])
            letters, x = letter + rest, x[steps, steps]
    return letters, x
