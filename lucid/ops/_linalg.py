"""Linear algebra of matrices: inverses, determinants, and what they are factors of.

Everything works on the last two axes of a tensor of float32 or float64; the axes in front are a
batch. The values are LAPACK's, by NumPy.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from lucid.autograd import Function, Tensor
from lucid.autograd._graph import Node
from lucid.autograd._tensor import wrap
from lucid.kernels import _blas
from lucid.ops._common import Array, operand, sum_to, wanted
from lucid.ops._create import eye
from lucid.ops._elementwise import where
from lucid.ops._index import tril, triu
from lucid.ops._join import cat

__all__ = ["det", "inverse", "logdet", "matrix_power", "pinverse", "slogdet"]

# -- results --------------------------------------------------------------------------------------


class SignAndLogDet(NamedTuple):
    sign: Tensor
    logabsdet: Tensor


class QR(NamedTuple):
    Q: Tensor
    R: Tensor


class SVD(NamedTuple):
    U: Tensor
    S: Tensor
    Vh: Tensor


class Eigen(NamedTuple):
    eigenvalues: Tensor
    eigenvectors: Tensor


class LeastSquares(NamedTuple):
    solution: Tensor
    residuals: Tensor
    rank: Tensor
    singular_values: Tensor


# -- arguments ------------------------------------------------------------------------------------


def matrices(value: Any, who: str, square: bool = False) -> Tensor:
    """Return a tensor of matrices to factorise.

    Raises:
        TypeError: if it is not of float32 or float64.
        ValueError: if it has less than two axes, or is not square but has to be.
    """
    x = operand(value, who)
    if x.ndim < 2 or (square and x.shape[-1] != x.shape[-2]):
        kind = "square matrices" if square else "matrices (at least 2 axes)"
        raise ValueError(f"{who}: expected {kind}, got shape {x.shape}")
    if x.dtype.char not in "fd":
        raise TypeError(f"{who}: expected float32 or float64, got {x.dtype}; convert with .float()")
    return x


def same_dtype(who: str, *tensors: Tensor) -> None:
    """Raise TypeError unless the tensors have one dtype, and ValueError unless batches broadcast.

    Only batches of what has at least two axes are looked at.
    """
    if len({x.dtype for x in tensors}) > 1:
        raise TypeError(f"{who}: expected one dtype, got {[str(x.dtype) for x in tensors]}")
    try:
        np.broadcast_shapes(*(x.shape[:-2] for x in tensors))
    except ValueError:
        shapes = " and ".join(str(x.shape) for x in tensors)
        raise ValueError(f"{who}: the batches of {shapes} do not broadcast") from None


def _lapack(who: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call a function of NumPy's, and let its error tell which of ours it was for."""
    try:
        return _blas.call(function, *args, **kwargs)
    except np.linalg.LinAlgError as error:
        text = f"{error}; look for NaN, or for rows that depend on each other"
    raise np.linalg.LinAlgError(f"{who}: {text}")


def identity(like: Tensor, n: int | None = None) -> Tensor:
    """Return the identity matrix of the size of the last axis, or of ``n``, in a tensor's dtype."""
    return eye(like.shape[-1] if n is None else n, dtype=like.dtype)


# -- inverses and equations -----------------------------------------------------------------------


class Inverse(Function):
    r"""Has the gradient :math:`-A^{-T} G A^{-T}`."""

    @staticmethod
    def forward(ctx: Node, a: Tensor) -> Array:
        result = np.asarray(_lapack("inv", np.linalg.inv, a.data))
        ctx.save_for_backward(result)
        return result

    @staticmethod
    def backward(ctx: Node, grad: Tensor) -> Tensor:
        (result,) = ctx.saved_tensors
        return -(result.mT @ grad @ result.mT)


def inverse(input: Any) -> Tensor:
    """Return the inverse of each square matrix.

    Raises:
        LinAlgError: if one is singular; a ValueError, by the name of ``numpy.linalg.LinAlgError``.
    """
    return Inverse.apply(matrices(input, "inv", square=True))


class Solve(Function):
    r""":math:`X` with :math:`A X = B`; the gradients are :math:`A^{-T} G` and that times
    :math:`-X^T`.
    """

    @staticmethod
    def forward(ctx: Node, a: Tensor, b: Tensor) -> Array:
        x = np.asarray(_lapack("solve", np.linalg.solve, a.data, b.data))
        ctx.shapes = a.shape, b.shape
        ctx.save_for_backward(a, x)
        return x

    @staticmethod
    def backward(ctx: Node, grad: Tensor) -> tuple[Tensor | None, ...]:
        a, x = ctx.saved_tensors
        right = Solve.apply(a.mT, grad)
        return wanted(
            ctx,
            lambda: sum_to(-(right @ x.mT), ctx.shapes[0]),
            lambda: sum_to(right, ctx.shapes[1]),
        )


def solve_triangular(a: Tensor, b: Tensor, upper: bool, unit: bool = False) -> Tensor:
    """Return :math:`X` with :math:`A X = B`, of a triangle of A, whose diagonal may count as 1."""
    part = triu(a, int(unit)) if upper else tril(a, -int(unit))
    return Solve.apply(part + identity(a) if unit else part, b)


class Pinverse(Function):
    """Moore's and Penrose's inverse, from the singular values above a limit.

    Its gradient is Golub's and Pereyra's (1973).
    """

    @staticmethod
    def forward(ctx: Node, a: Tensor, atol: Any, rtol: Any, hermitian: bool) -> Array:
        u, s, vh = _lapack("pinv", np.linalg.svd, a.data, full_matrices=False, hermitian=hermitian)
        limit = rank_limit(a, s, atol, rtol)
        scale = np.where(s > limit, 1, 0) / np.where(s > limit, s, 1)
        product = _blas.call(np.matmul, u * scale[..., None, :], vh)
        result = np.asarray(product, a.dtype).mT.copy()
        ctx.save_for_backward(a, result)
        return result

    @staticmethod
    def backward(ctx: Node, grad: Tensor) -> Tensor:
        a, p = ctx.saved_tensors
        k = grad.mT @ p
        kp = k @ p.mT
        return -(p @ k).mT + kp - (a @ p) @ kp + (p.mT @ p) @ (grad.mT - k @ a)


def pinverse(input: Any, rcond: float = 1e-15) -> Tensor:
    """Return the pseudo-inverse, ``linalg.pinv(input, rtol=rcond)``: ``rcond`` is relative."""
    return Pinverse.apply(matrices(input, "pinverse"), None, rcond, False)


def rank_limit(a: Tensor, values: Array, atol: Any = None, rtol: Any = None) -> Array:
    """Return the size up to which singular values count as zero, with an axis for them.

    The larger one of ``atol`` and ``rtol`` times the largest value. Without both, ``rtol`` is the
    larger size of the matrix times the dtype's epsilon.
    """
    if rtol is None:
        none = np.asarray(0.0 if atol is None else operand(atol, "atol").data) > 0
        rtol = np.where(none, 0.0, max(a.shape[-2:], default=0) * np.finfo(a.dtype).eps)
    largest = np.abs(values).max(-1, initial=0)
    limits = [0.0 if v is None else v.data if isinstance(v, Tensor) else v for v in (atol, rtol)]
    limit = np.maximum(limits[0], limits[1] * largest)
    return np.asarray(limit, np.float64)[..., None]


# -- determinants ---------------------------------------------------------------------------------


class Slogdet(Function):
    r"""The gradient of the logarithm is :math:`A^{-T}`, that of the sign is 0."""

    @staticmethod
    def forward(ctx: Node, a: Tensor) -> tuple[Array, Array]:
        sign, logarithm = map(np.asarray, _blas.call(np.linalg.slogdet, a.data))
        ctx.save_for_backward(a)
        ctx.mark_non_differentiable(sign)
        return sign, logarithm

    @staticmethod
    def backward(ctx: Node, _: Tensor, grad: Tensor) -> Tensor:
        (a,) = ctx.saved_tensors
        return grad[..., None, None] * Inverse.apply(a).mT


class Det(Function):
    """The gradient is the matrix of cofactors: at a singular matrix it has no gradient itself."""

    @staticmethod
    def forward(ctx: Node, a: Tensor) -> Array:
        result = np.asarray(_blas.call(np.linalg.det, a.data))
        ctx.save_for_backward(a, result)
        return result

    @staticmethod
    def backward(ctx: Node, grad: Tensor) -> Tensor:
        a, result = ctx.saved_tensors
        if result.data.all():
            return (grad * result)[..., None, None] * Inverse.apply(a).mT
        return grad[..., None, None] * wrap(_lapack("det", _cofactors, a.data))


def _cofactors(a: Array) -> Array:
    """Return the matrix of cofactors, from the singular values: also of a singular matrix."""
    u, s, vh = np.linalg.svd(a)
    others = np.where(np.eye(s.shape[-1], dtype=bool), 1, s[..., None, :]).prod(-1)
    turned = np.linalg.det(u) * np.linalg.det(vh)
    return np.asarray((u * (turned[..., None] * others)[..., None, :]) @ vh)


def det(input: Any) -> Tensor:
    """Return the determinant of each square matrix."""
    return Det.apply(matrices(input, "det", square=True))


def slogdet(input: Any) -> SignAndLogDet:
    """Return a named tuple ``(sign, logabsdet)`` of the determinants, which may be very large."""
    return SignAndLogDet(*Slogdet.apply(matrices(input, "slogdet", square=True)))


def logdet(input: Any) -> Tensor:
    """Return the logarithm of the determinants: NaN where they are negative, -inf at 0."""
    sign, logarithm = slogdet(input)
    return where(sign < 0, math.nan, logarithm)


# -- factors --------------------------------------------------------------------------------------


class Cholesky(Function):
    r"""L of :math:`A = L L^T`; the gradient is Murray's (2016), symmetric."""

    @staticmethod
    def forward(ctx: Node, a: Tensor) -> Array:
        factor = np.asarray(_lapack("cholesky", np.linalg.cholesky, a.data))
        ctx.save_for_backward(factor)
        return factor

    @staticmethod
    def backward(ctx: Node, grad: Tensor) -> Tensor:
        (factor,) = ctx.saved_tensors
        middle = tril(factor.mT @ grad)
        middle = middle + tril(middle, -1).mT
        right = Inverse.apply(factor)
        return (right.mT @ middle @ right) * 0.5


class Qr(Function):
    """Of matrices at least as high as wide; the gradient is Walter's and Lehmann's (2018)."""

    @staticmethod
    def forward(ctx: Node, a: Tensor, mode: str) -> tuple[Array, Array]:
        q, r = map(np.asarray, _lapack("qr", np.linalg.qr, a.data, mode))
        ctx.mode = mode
        ctx.save_for_backward(q, r)
        return q, r

    @staticmethod
    def backward(ctx: Node, grad_q: Tensor, grad_r: Tensor) -> Tensor:
        q, r = ctx.saved_tensors
        if q.shape[-1] != r.shape[-1]:
            raise RuntimeError(
                f"qr: mode {ctx.mode!r} of matrices higher than wide has no gradient; use 'reduced'"
            )
        middle = r @ grad_r.mT - grad_q.mT @ q
        left = grad_q + q @ (tril(middle) + tril(middle, -1).mT)
        return Solve.apply(r, left.mT).mT


def factors_qr(a: Tensor, mode: str) -> QR:
    """Return Q and R; of wide matrices the columns on the right are not needed for Q."""
    rows, columns = a.shape[-2:]
    if columns <= rows or not a.requires_grad:
        return QR(*Qr.apply(a, mode))
    q, r = Qr.apply(a[..., :rows], mode)
    return QR(q, cat([r, q.mT @ a[..., rows:]], -1))


class Eigh(Function):
    """Eigenvalues and eigenvectors of symmetric matrices, of which one triangle is read."""

    @staticmethod
    def forward(ctx: Node, a: Tensor, triangle: str) -> tuple[Array, Array]:
        values, vectors = map(np.asarray, _lapack("eigh", np.linalg.eigh, a.data, triangle))
        ctx.save_for_backward(values, vectors)
        return values, vectors

    @staticmethod
    def backward(ctx: Node, grad_values: Tensor, grad_vectors: Tensor) -> Tensor:
        values, vectors = ctx.saved_tensors
        same = identity(values)
        apart = values[..., None, :] - values[..., :, None] + same
        turned = vectors.mT @ grad_vectors
        turned = (turned - turned.mT) * 0.5 / apart
        middle = where(same.data > 0, grad_values[..., None], turned)
        return vectors @ middle @ vectors.mT


class Svd(Function):
    """U, S and V transposed; the gradient of columns that no singular value belongs to is 0."""

    @staticmethod
    def forward(ctx: Node, a: Tensor, full: bool) -> tuple[Array, ...]:
        u, s, vh = map(np.asarray, _lapack("svd", np.linalg.svd, a.data, full))
        ctx.save_for_backward(u, s, vh)
        return u, s, vh

    @staticmethod
    def backward(ctx: Node, grad_u: Tensor, grad_s: Tensor, grad_vh: Tensor) -> Tensor:
        u, s, vh = ctx.saved_tensors
        k = s.shape[-1]
        u, grad_u, v, grad_v = (x[..., :k] for x in (u, grad_u, vh.mT, grad_vh.mT))
        same = identity(s)
        square = s * s
        apart = square[..., None, :] - square[..., :, None] + same
        left, right = u.mT @ grad_u, v.mT @ grad_v
        turned_u, turned_v = (left - left.mT) / apart, (right - right.mT) / apart
        middle = turned_u * s[..., None, :] + s[..., :, None] * turned_v
        result = u @ (middle + same * grad_s[..., None]) @ v.mT
        if u.shape[-2] > k and grad_u.data.any():
            result = result + (grad_u - u @ left) / s[..., None, :] @ v.mT
        if v.shape[-2] > k and grad_v.data.any():
            result = result + u @ ((grad_v - v @ right) / s[..., None, :]).mT
        return result


def singular_values(who: str, a: Array, hermitian: bool = False) -> Array:
    """Return the singular values of matrices, the largest first."""
    return np.asarray(_lapack(who, np.linalg.svd, a, compute_uv=False, hermitian=hermitian))


class SingularValues(Function):
    r"""Has the gradient :math:`U G V^T`, also where singular values are equal."""

    @staticmethod
    def forward(ctx: Node, a: Tensor) -> Array:
        ctx.save_for_backward(a)
        return singular_values("svdvals", a.data)

    @staticmethod
    def backward(ctx: Node, grad: Tensor) -> Tensor:
        u, _, vh = Svd.apply(*ctx.saved_tensors, False)
        return (u * grad[..., None, :]) @ vh


# -- products -------------------------------------------------------------------------------------


def matrix_power(input: Any, n: int) -> Tensor:
    """Return each square matrix to the integer power ``n``; negative ones are of the inverse."""
    a = operand(input, "matrix_power")
    if a.ndim < 2 or a.shape[-1] != a.shape[-2]:
        raise ValueError(f"matrix_power: expected square matrices, got shape {a.shape}")
    if n < 0:
        a = inverse(a)
    result = None
    for digit in reversed(bin(abs(n))[2:]):
        if digit == "1":
            result = a if result is None else result @ a
        a = a @ a
    return identity(a).expand(a.shape).clone() if result is None else result.clone()
