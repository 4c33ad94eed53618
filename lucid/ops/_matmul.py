"""Products of vectors, matrices and tensors, and einsum."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lucid import kernels
from lucid._check import is_whole
from lucid.autograd import Function, Tensor
from lucid.autograd._graph import Node
from lucid.kernels import _blas
from lucid.ops._common import (
    Array,
    broadcasts_to,
    normalize_axis,
    operand,
    operands,
    promoted,
    save_factors,
    sum_to,
    wanted,
    wide,
)
from lucid.ops._reduce import sum as total
from lucid.ops._shape import permute, roll

__all__ = [
    "addbmm", "addmm", "addmv", "addr", "baddbmm", "bmm", "cross", "dot", "einsum", "ger", "inner",
    "kron", "matmul", "mm", "mv", "outer", "tensordot", "vdot",
]  # fmt: skip

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


def matmul(input: Any, other: Any) -> Tensor:
    """Return the matrix product.

    Args:
        input: (…, m, k) or (k,).
        other: (…, k, n) or (k,). The axes in front broadcast.

    Returns:
        (…, m, n), without m or n where an operand has one axis.

    Raises:
        ValueError: if the inner sizes differ, the axes in front do not broadcast, or an operand
            has no axis.
    """
    input, other = promoted("matmul", input, other)
    if input.ndim == 0 or other.ndim == 0:
        raise ValueError(
            f"matmul: expected at least 1 axis, got shapes {input.shape} and {other.shape}; "
            "use * for numbers"
        )
    inner = other.shape[-2] if other.ndim > 1 else other.shape[0]
    if input.shape[-1] != inner:
        raise ValueError(
            f"matmul: shapes {input.shape} and {other.shape} do not fit: axis -1 of the first has "
            f"{input.shape[-1]} elements, axis {-2 if other.ndim > 1 else 0} of the second has "
            f"{inner}"
        )
    if input.ndim > 2 and other.ndim > 2:
        try:
            np.broadcast_shapes(input.shape[:-2], other.shape[:-2])
        except ValueError:
            raise ValueError(
                "matmul: the axes in front of the matrices do not broadcast: "
                f"{input.shape} and {other.shape}"
            ) from None
    if input.ndim >= 2 and other.ndim >= 2:
        if input.ndim > 2 and other.ndim == 2:
            # One large product instead of many small ones, here and in both gradients.
            flat = MatMul.apply(input.reshape(-1, inner) if input.data.size else input, other)
            return flat.reshape(*input.shape[:-1], other.shape[1]) if input.data.size else flat
        return MatMul.apply(input, other)
    left = input.unsqueeze(0) if input.ndim == 1 else input
    right = other.unsqueeze(1) if other.ndim == 1 else other
    product = MatMul.apply(left, right)
    if other.ndim == 1:
        product = product.squeeze(-1)
    return product if input.ndim > 1 else product.squeeze(-2 if other.ndim > 1 else -1)


def mm(input: Any, mat2: Any) -> Tensor:
    """Return the product of two matrices, ``(m, k)`` and ``(k, n)``; others raise ValueError."""
    input, mat2 = promoted("mm", input, mat2)
    if input.ndim != 2 or mat2.ndim != 2:
        raise ValueError(
            f"mm: expected two matrices, got shapes {input.shape} and {mat2.shape}; use matmul()"
        )
    return matmul(input, mat2)


def bmm(input: Any, mat2: Any) -> Tensor:
    """Return the products of two batches of matrices, ``(batch, m, k)`` and ``(batch, k, n)``.

    Other shapes raise ValueError: :func:`matmul` broadcasts.
    """
    input, mat2 = promoted("bmm", input, mat2)
    if input.ndim != 3 or mat2.ndim != 3 or input.shape[0] != mat2.shape[0]:
        raise ValueError(
            f"bmm: expected two equal batches (batch, m, k) and (batch, k, n), got shapes "
            f"{input.shape} and {mat2.shape}; use matmul() to broadcast"
        )
    return matmul(input, mat2)


def dot(input: Any, tensor: Any) -> Tensor:
    """Return the inner product of two vectors of the same length; other shapes raise ValueError."""
    input, tensor = promoted("dot", input, tensor)
    if input.ndim != 1 or tensor.ndim != 1:
        raise ValueError(
            f"dot: expected two vectors, got shapes {input.shape} and {tensor.shape}; use matmul()"
        )
    return matmul(input, tensor)


def vdot(input: Any, other: Any) -> Tensor:
    """Return :func:`dot` of two vectors: for real numbers they are the same."""
    return _product_of("vdot", input, other, 1, 1)


def mv(input: Any, vec: Any) -> Tensor:
    """Return the product of a matrix, ``(n, m)``, and a vector, ``(m,)``."""
    return _product_of("mv", input, vec, 2, 1)


def _product_of(who: str, left: Any, right: Any, axes_left: int, axes_right: int) -> Tensor:
    """Return the matrix product of operands that must have so many axes each."""
    left, right = promoted(who, left, right)
    if (left.ndim, right.ndim) != (axes_left, axes_right) or left.shape[-1] != right.shape[0]:
        raise ValueError(
            f"{who}: expected a {_KINDS[axes_left]} and a {_KINDS[axes_right]} that fit, "
            f"got shapes {left.shape} and {right.shape}"
        )
    return matmul(left, right)


_KINDS = {1: "vector", 2: "matrix"}


def outer(input: Any, vec2: Any) -> Tensor:
    """Return the ``(n, m)`` matrix of the products of the elements of two vectors."""
    input, vec2 = promoted("outer", input, vec2)
    if input.ndim != 1 or vec2.ndim != 1:
        raise ValueError(f"outer: expected two vectors, got shapes {input.shape} and {vec2.shape}")
    return input.unsqueeze(1) * vec2


def ger(input: Any, vec2: Any) -> Tensor:
    """Return :func:`outer`, by its older name."""
    return outer(input, vec2)


def inner(input: Any, other: Any) -> Tensor:
    """Return the products summed over the last axis of both; a number multiplies all elements."""
    input, other = promoted("inner", input, other)
    if input.ndim == 0 or other.ndim == 0:
        return input * other
    return tensordot(input, other, ([-1], [-1]))


def tensordot(a: Any, b: Any, dims: Any = 2) -> Tensor:
    """Return the products of two tensors, summed over pairs of axes.

    Args:
        a: any shape.
        b: any shape.
        dims: how many of the last axes of ``a`` and of the first of ``b`` to sum over, or two
            lists: the axes of ``a``, and those of ``b`` they go with.

    Returns:
        The other axes of ``a``, then those of ``b``.

    Raises:
        ValueError: if the axes do not fit.
    """
    a, b = promoted("tensordot", a, b)
    if isinstance(dims, Tensor):
        dims = dims.tolist()
    if isinstance(dims, int):
        if not 0 <= dims <= min(a.ndim, b.ndim):
            raise ValueError(f"tensordot: {dims} axes of shapes {a.shape} and {b.shape}")
        dims = list(range(a.ndim - dims, a.ndim)), list(range(dims))
    left, right = (
        [normalize_axis(axis, x.ndim, "tensordot") for axis in ([axes] if is_whole(axes) else axes)]
        for x, axes in zip((a, b), dims)
    )
    for i, j in zip(left, right):  # as in PyTorch, an axis of size 1 goes with any other
        if a.shape[i] == 1:
            b = total(b, j, True, dtype=b.dtype)
        elif b.shape[j] == 1:
            a = total(a, i, True, dtype=a.dtype)
    if [a.shape[axis] for axis in left] != [b.shape[axis] for axis in right]:
        raise ValueError(
            f"tensordot: axes {left} of shape {a.shape} do not fit axes {right} of {b.shape}"
        )
    rows = [axis for axis in range(a.ndim) if axis not in left]
    columns = [axis for axis in range(b.ndim) if axis not in right]
    sizes = [a.shape[axis] for axis in rows], [b.shape[axis] for axis in columns]
    count = math.prod(a.shape[axis] for axis in left)
    matrix = permute(a, rows + left).reshape(math.prod(sizes[0]), count)
    other = permute(b, right + columns).reshape(count, math.prod(sizes[1]))
    return matmul(matrix, other).reshape(sizes[0] + sizes[1])


def kron(input: Any, other: Any) -> Tensor:
    """Return Kronecker's product: each element of ``input`` times the whole of ``other``."""
    input, other = promoted("kron", input, other)
    axes = max(input.ndim, other.ndim)
    coarse, fine = ((1,) * (axes - x.ndim) + x.shape for x in (input, other))
    blocks = input.reshape([n for size in coarse for n in (size, 1)])
    within = other.reshape([n for size in fine for n in (1, size)])
    return (blocks * within).reshape([n * m for n, m in zip(coarse, fine)])


def cross(input: Any, other: Any, dim: int | None = None) -> Tensor:
    """Return the cross products of vectors of three elements, which lie along axis ``dim``.

    Args:
        input: any shape with 3 along the axis.
        other: a shape that broadcasts with that of ``input``.
        dim: the axis; the first one of size 3 if left out (-1 in ``linalg.cross``).

    Raises:
        ValueError: if the axis has another size, or there is none of size 3.
    """
    input, other = operands(input, other, "cross")
    shape = np.broadcast_shapes(input.shape, other.shape)
    if dim is None:
        dim = shape.index(3) if 3 in shape else -1
    axis = normalize_axis(dim, len(shape) or 1, "cross")
    if input.ndim != other.ndim or not input.shape[axis:][:1] == other.shape[axis:][:1] == (3,):
        raise ValueError(
            f"cross: expected vectors of 3 elements along axis {dim}, got shapes {input.shape} "
            f"and {other.shape}"
        )
    a, b = input.expand(shape), other.expand(shape)
    return roll(a, -1, dim) * roll(b, -2, dim) - roll(a, -2, dim) * roll(b, -1, dim)


# -- products added to something ------------------------------------------------------------------


def addmm(input: Any, mat1: Any, mat2: Any, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """Return ``beta * input + alpha * mm(mat1, mat2)``.

    Args:
        input: broadcasts to the shape of the product. With ``beta`` 0 it does not count, not even
            its NaN.
        mat1: the first matrix.
        mat2: the second matrix.
        beta: a factor.
        alpha: a factor.

    Raises:
        ValueError: if shapes do not fit.
    """
    return _added("addmm", input, _product_of("addmm", mat1, mat2, 2, 2), beta, alpha)


def addmv(input: Any, mat: Any, vec: Any, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """Return ``beta * input + alpha * mv(mat, vec)``. See :func:`addmm`."""
    return _added("addmv", input, _product_of("addmv", mat, vec, 2, 1), beta, alpha)


def addr(input: Any, vec1: Any, vec2: Any, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """Return ``beta * input + alpha * outer(vec1, vec2)``. See :func:`addmm`."""
    return _added("addr", input, outer(vec1, vec2), beta, alpha)


def baddbmm(input: Any, batch1: Any, batch2: Any, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """Return ``beta * input + alpha * bmm(batch1, batch2)``. See :func:`addmm`."""
    return _added("baddbmm", input, bmm(batch1, batch2), beta, alpha)


def addbmm(input: Any, batch1: Any, batch2: Any, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """Return ``beta * input + alpha * bmm(batch1, batch2).sum(0)``. See :func:`addmm`."""
    product = bmm(batch1, batch2)
    return _added("addbmm", input, total(product, 0, dtype=product.dtype), beta, alpha)


def _added(who: str, input: Any, product: Tensor, beta: float, alpha: float) -> Tensor:
    input, product = promoted(who, input, product)
    if not broadcasts_to(input.shape, product.shape):
        raise ValueError(
            f"{who}: an input of shape {input.shape} does not broadcast to the product's shape "
            f"{product.shape}"
        )
    # As in PyTorch, integers are multiplied by the whole part.
    beta, alpha = (product.dtype.type(factor).item() for factor in (beta, alpha))
    scaled = product if alpha == 1 else product * alpha
    if beta == 0:
        return scaled
    return scaled + (input if beta == 1 else input * beta)


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
