"""Linear algebra under the names of ``torch.linalg``: norms, equations, and factors of matrices.

Functions of matrices work on the last two axes; the axes in front are a batch. They take float32
and float64.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from lucid._check import name_errors as _name_errors
from lucid._check import one_of as _one_of
from lucid.autograd import Tensor
from lucid.autograd._tensor import wrap as _wrap
from lucid.ops import _elementwise, _linalg, _matmul, _reduce
from lucid.ops._common import normalize_axes as _normalize_axes
from lucid.ops._common import operand as _operand
from lucid.ops._common import operands as _operands
from lucid.ops._diagonal import diagonal as _diagonal
from lucid.ops._linalg import matrices as _matrices
from lucid.ops._linalg import matrix_power as matrix_power
from lucid.ops._linalg import same_dtype as _same_dtype

LinAlgError = np.linalg.LinAlgError

# -- norms ----------------------------------------------------------------------------------------


def _floats(value: Any, dtype: DTypeLike | None, who: str) -> Tensor:
    x = _operand(value, who)
    x = x if dtype is None else _elementwise.astype(x, dtype)
    if x.dtype.kind != "f":
        raise TypeError(f"{who}: expected a floating-point dtype, got {x.dtype}")
    return x


def vector_norm(
    input: Any,
    ord: float = 2,
    dim: Any = None,
    keepdim: bool = False,
    *,
    dtype: DTypeLike | None = None,
) -> Tensor:
    r"""Return :math:`(\sum |x|^p)^{1/p}` over axes.

    Args:
        input: any shape.
        ord: the exponent p; infinity means the largest absolute value, 0 counts the nonzero ones.
        dim: the axes; all of them if left out.
        keepdim: keep the axes with size 1.
        dtype: convert to this dtype first.
    """
    return _reduce.norm(_floats(input, dtype, "vector_norm"), float(ord), dim, keepdim)


def matrix_norm(
    input: Any,
    ord: float | str = "fro",
    dim: tuple[int, int] = (-2, -1),
    keepdim: bool = False,
    *,
    dtype: DTypeLike | None = None,
) -> Tensor:
    """Return a norm of matrices.

    Args:
        input: at least two axes.
        ord: ``"fro"`` is the root of the sum of squares, ``"nuc"`` the sum of the singular values,
            2 the largest of these, 1 the largest sum of absolute values of a column, infinity that
            of a row; a negative one takes the smallest.
        dim: the axes of rows and columns.
        keepdim: keep both axes with size 1.
        dtype: convert to this dtype first.

    Raises:
        ValueError: for another norm, or axes that are not two.
    """
    x = _floats(input, dtype, "matrix_norm")
    axes = _normalize_axes(dim, x.ndim, "matrix_norm")
    if len(axes) != 2 or x.ndim < 2:
        raise ValueError(f"matrix_norm: expected two axes, got {dim} for shape {x.shape}")
    if ord not in ("fro", "nuc", 1, -1, 2, -2, math.inf, -math.inf):
        raise ValueError(f"matrix_norm: expected 'fro', 'nuc', 1, 2 or infinity, got {ord!r}")
    if ord == "fro":
        return _reduce.norm(x, 2, axes, keepdim)
    matrix = x.movedim(axes, (-2, -1))
    if ord in ("nuc", 2, -2):
        sizes = _linalg.SingularValues.apply(_matrices(matrix, "matrix_norm"))
    else:
        sizes = _reduce.sum(_elementwise.abs(matrix), -2 if ord in (1, -1) else -1)
    if ord == "nuc" or (sizes.shape[-1] == 0 and ord > 0):  # type: ignore[operator]
        result = _reduce.sum(sizes, -1)
    else:
        result = (_reduce.amax if ord > 0 else _reduce.amin)(sizes, -1)  # type: ignore[operator]
    for axis in sorted(axes) if keepdim else ():
        result = result.unsqueeze(axis)
    return result


def norm(
    input: Any,
    ord: float | str | None = None,
    dim: Any = None,
    keepdim: bool = False,
    *,
    dtype: DTypeLike | None = None,
) -> Tensor:
    """Return a norm of vectors or matrices.

    Args:
        input: any shape; with ``ord`` alone, a vector or a matrix.
        ord: as in :func:`vector_norm` for one axis, as in :func:`matrix_norm` for two. Without it
            the root of the sum of squares over any axes.
        dim: one axis, or two of them; all if left out.
        keepdim: keep the axes with size 1.
        dtype: convert to this dtype first.

    Raises:
        ValueError: for another norm, or axes that are neither one nor two.

    Example:
        >>> x = lucid.tensor([[3.0, 0.0], [4.0, 5.0]])
        >>> lucid.linalg.norm(x[:, 0])
        tensor(5.)
        >>> lucid.linalg.norm(x, ord=1)
        tensor(7.)
    """
    x = _floats(input, dtype, "norm")
    if ord is None:
        return _reduce.norm(x, 2, dim, keepdim)
    count = x.ndim if dim is None else len(dim) if isinstance(dim, (tuple, list)) else 1
    if count not in (1, 2):
        raise ValueError(f"norm: expected one axis or two, got {count} of shape {x.shape}")
    if count == 2:
        return matrix_norm(x, ord, (-2, -1) if dim is None else dim, keepdim)
    if isinstance(ord, str):
        raise ValueError(f"norm: {ord!r} is of matrices, got a vector of shape {x.shape}")
    return vector_norm(x, ord, dim, keepdim)


def matrix_rank(
    input: Any,
    tol: Any = None,
    hermitian: bool = False,
    *,
    atol: Any = None,
    rtol: Any = None,
) -> Tensor:
    """Return how many singular values are above a limit.

    Args:
        input: matrices.
        tol: the limit, as ``atol`` without ``rtol``.
        hermitian: the matrices are symmetric: one triangle is read.
        atol: the limit.
        rtol: the limit relative to the largest one, if that is larger. By default the larger size
            times the dtype's epsilon.
    """
    a = _matrices(input, "matrix_rank", square=hermitian)
    values = _linalg.singular_values("matrix_rank", a.data, hermitian)
    limit = _linalg.rank_limit(
        a, values, atol if tol is None else tol, rtol if tol is None else 0.0
    )
    return _wrap((values > limit).sum(-1))


# -- equations ------------------------------------------------------------------------------------


def inv(A: Any) -> Tensor:
    """Return the inverse of each square matrix; a singular one raises ``LinAlgError``."""
    return _linalg.inverse(A)


def pinv(
    input: Any,
    rcond: Any = None,
    hermitian: bool = False,
    *,
    atol: Any = None,
    rtol: Any = None,
) -> Tensor:
    """Return the pseudo-inverse of Moore and Penrose.

    Args:
        input: matrices.
        rcond: ``rtol`` by its older name.
        hermitian: the matrices are symmetric: one triangle is read.
        atol: singular values up to this size count as zero.
        rtol: those up to this part of the largest one do. See :func:`matrix_rank`.
    """
    a = _matrices(input, "pinv", square=hermitian)
    return _linalg.Pinverse.apply(a, atol, rtol if rcond is None else rcond, hermitian)


def solve(A: Any, B: Any, *, left: bool = True) -> Tensor:
    """Return X with ``A @ X = B``.

    Args:
        A: square matrices.
        B: as many rows; one vector, or a batch of them of the shape of A without its last axis.
        left: False solves ``X @ A = B``.

    Raises:
        LinAlgError: if a matrix is singular.
        ValueError: if the shapes do not fit.

    Example:
        >>> a = lucid.tensor([[2.0, 0.0], [1.0, 4.0]])
        >>> x = lucid.linalg.solve(a, lucid.tensor([2.0, 9.0]))
        >>> x
        tensor([1., 2.])
        >>> lucid.allclose(a @ x, lucid.tensor([2.0, 9.0]))
        True
    """
    a, b = _matrices(A, "solve", square=True), _operand(B, "solve")
    vector = _is_vector(a, b)
    if vector and not left:
        raise ValueError("solve: left=False needs matrices on the right, got a vector")
    b = b.unsqueeze(-1) if vector else b
    _check_equations("solve", a, b, left)
    x = _linalg.Solve.apply(a, b) if left else _linalg.Solve.apply(a.mT, b.mT).mT
    return x.squeeze(-1) if vector else x


def _is_vector(a: Tensor, b: Tensor) -> bool:
    """Return whether the right side is a vector, or a batch of them: PyTorch's rule."""
    return b.ndim == 1 or (a.ndim - 1 == b.ndim and b.shape == a.shape[:-1])


def _check_equations(who: str, a: Tensor, b: Tensor, left: bool = True) -> None:
    _matrices(b, who)
    _same_dtype(who, a, b)
    if a.shape[-2 if left else -1] != b.shape[-2 if left else -1]:
        raise ValueError(f"{who}: shapes {a.shape} and {b.shape} do not fit")


def solve_triangular(
    input: Any,
    B: Any,
    *,
    upper: bool,
    left: bool = True,
    unitriangular: bool = False,
) -> Tensor:
    """Return X with ``A @ X = B``, of matrices of which one triangle counts.

    Args:
        input: square matrices.
        B: as many rows.
        upper: whether it is the upper triangle.
        left: False solves ``X @ A = B``.
        unitriangular: take the diagonal as ones.
    """
    a, b = _matrices(input, "solve_triangular", square=True), _matrices(B, "solve_triangular")
    _check_equations("solve_triangular", a, b, left)
    if left:
        return _linalg.solve_triangular(a, b, upper, unitriangular)
    x = _linalg.solve_triangular(a.mT, b.mT, not upper, unitriangular)
    return x.mT


def lstsq(
    input: Any,
    b: Any,
    rcond: float | None = None,
    *,
    driver: str | None = None,
) -> _linalg.LeastSquares:
    """Return X for which ``A @ X - B`` has the least squares, from the pseudo-inverse.

    Args:
        input: matrices.
        b: as many rows; vectors as in :func:`solve`.
        rcond: singular values up to this part of the largest one count as zero.
        driver: PyTorch's way to compute: it tells which of the results are empty.

    Returns:
        A named tuple ``(solution, residuals, rank, singular_values)``. The residuals are empty
        for the driver "gelsy" (the default), and unless there are more rows than columns and the
        rank is full. The singular values are empty for "gels" and "gelsy", the rank for "gels".
    """
    a, b = _matrices(input, "lstsq"), _operand(b, "lstsq")
    driver = _one_of(driver or "gelsy", ("gels", "gelsy", "gelsd", "gelss"), "driver", "lstsq")
    vector = _is_vector(a, b)
    b = b.unsqueeze(-1) if vector else b
    _check_equations("lstsq", a, b)
    x = _linalg.Pinverse.apply(a, None, rcond, False) @ b
    values = _linalg.singular_values("lstsq", a.data)
    ranks = (values > _linalg.rank_limit(a, values, rtol=rcond)).sum(-1)
    nothing = residuals = _wrap(np.zeros(0, a.dtype))
    full = a.shape[-2] > a.shape[-1] and (ranks == a.shape[-1]).all()
    if full and driver != "gelsy":
        error = a @ x - b
        residuals = _reduce.sum(error * error, -2)
        residuals = residuals.squeeze(-1) if vector else residuals
    return _linalg.LeastSquares(
        x.squeeze(-1) if vector else x,
        residuals,
        _wrap(np.zeros(0, np.int64) if driver == "gels" else np.asarray(ranks)),
        _wrap(values) if driver in ("gelsd", "gelss") else nothing,
    )


# -- factors --------------------------------------------------------------------------------------


def svd(A: Any, full_matrices: bool = True) -> _linalg.SVD:
    """Return a named tuple ``(U, S, Vh)`` with ``A = U @ diag(S) @ Vh``.

    Args:
        A: matrices.
        full_matrices: keep the columns of U and rows of Vh that no singular value belongs to.
            Their gradient counts as 0.
    """
    return _linalg.SVD(*_linalg.Svd.apply(_matrices(A, "svd"), full_matrices))


def svdvals(A: Any) -> Tensor:
    """Return the singular values in descending order."""
    return _linalg.SingularValues.apply(_matrices(A, "svdvals"))


def qr(A: Any, mode: str = "reduced") -> _linalg.QR:
    """Return a named tuple ``(Q, R)`` of orthonormal columns and an upper triangle.

    Args:
        A: matrices.
        mode: "reduced", "complete" for a square Q, or "r" for an empty one.
    """
    a = _matrices(A, "qr")
    _one_of(mode, ("reduced", "complete", "r"), "mode", "qr")
    if mode == "r":
        return _linalg.QR(_wrap(np.zeros(0, a.dtype)), _linalg.factors_qr(a, "reduced").R)
    return _linalg.factors_qr(a, mode)


def eigh(input: Any, UPLO: str = "L") -> _linalg.Eigen:
    """Return a named tuple ``(eigenvalues, eigenvectors)`` of symmetric matrices.

    Args:
        input: square matrices.
        UPLO: the triangle that is read, "L" or "U".
    """
    _one_of(UPLO, ("L", "U", "l", "u"), "UPLO", "eigh")
    return _linalg.Eigen(*_linalg.Eigh.apply(_matrices(input, "eigh", square=True), UPLO.upper()))


def eigvalsh(input: Any, UPLO: str = "L") -> Tensor:
    """Return the eigenvalues of symmetric matrices. Arguments as in :func:`eigh`."""
    return eigh(input, UPLO).eigenvalues


def cholesky(input: Any, *, upper: bool = False) -> Tensor:
    """Return the triangular L with ``input = L @ L.mT``, or the ``upper`` one, ``L.mT``.

    Args:
        input: symmetric positive-definite matrices, of which the lower triangle is read.
        upper: return, and read, the upper triangle.

    Raises:
        LinAlgError: if one is not positive-definite.
    """
    a = _matrices(input, "cholesky", square=True)
    return _linalg.Cholesky.apply(a.mT).mT if upper else _linalg.Cholesky.apply(a)


def det(A: Any) -> Tensor:
    """Return the determinant of each square matrix."""
    return _linalg.det(A)


def slogdet(A: Any) -> _linalg.SignAndLogDet:
    """Return a named tuple ``(sign, logabsdet)`` of determinants. See :func:`lucid.slogdet`."""
    return _linalg.slogdet(A)


def diagonal(A: Any, *, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Tensor:
    """Return the diagonals of matrices: :func:`lucid.diagonal` of the last two axes."""
    return _diagonal(A, offset, dim1, dim2)


# -- products -------------------------------------------------------------------------------------


def cross(input: Any, other: Any, *, dim: int = -1) -> Tensor:
    """Return the cross products of vectors along axis ``dim``. See :func:`lucid.cross`."""
    return _matmul.cross(input, other, dim)


def vecdot(x: Any, y: Any, *, dim: int = -1) -> Tensor:
    """Return the inner products of vectors ``x`` and ``y`` along axis ``dim``; shapes broadcast."""
    x, y = _operands(x, y, "vecdot")
    return _reduce.sum(x * y, dim)


_name_errors(globals())
