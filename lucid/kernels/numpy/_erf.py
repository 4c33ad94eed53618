"""The error function on arrays; NumPy has none."""

from __future__ import annotations

import math

import numpy as np

# W. J. Cody, "Rational Chebyshev approximations for the error function", Math. Comp. 23 (1969):
# erf on [0, 0.46875], then erfc on [0.46875, 4] and beyond 4; highest power first.
_ERF_P = (1.85777706184603153e-1, 3.16112374387056560, 1.13864154151050156e2,
          3.77485237685302021e2, 3.20937758913846947e3)  # fmt: skip
_ERF_Q = (1.0, 2.36012909523441209e1, 2.44024637934444173e2,
          1.28261652607737228e3, 2.84423683343917062e3)  # fmt: skip
_ERFC_P = (2.15311535474403846e-8, 5.64188496988670089e-1, 8.88314979438837594,
           6.61191906371416295e1, 2.98635138197400131e2, 8.81952221241769090e2,
           1.71204761263407058e3, 2.05107837782607147e3, 1.23033935479799725e3)  # fmt: skip
_ERFC_Q = (1.0, 1.57449261107098347e1, 1.17693950891312499e2, 5.37181101862009858e2,
           1.62138957456669019e3, 3.29079923573345963e3, 4.36261909014324716e3,
           3.43936767414372164e3, 1.23033935480374942e3)  # fmt: skip
_TAIL_P = (1.63153871373020978e-2, 3.05326634961232344e-1, 3.60344899949804439e-1,
           1.25781726111229246e-1, 1.60837851487422766e-2, 6.58749161529837803e-4)  # fmt: skip
_TAIL_Q = (1.0, 2.56852019228982242, 1.87295284992346725, 5.27905102951428412e-1,
           6.05183413124413191e-2, 2.33520497626869185e-3)  # fmt: skip

# For float32 one ratio x P(x^2) / Q(x^2) on [-4, 4] does; the coefficients are those of Eigen's
# erf for floats. Beyond 4 the result rounds to 1.
_FLOAT32_P = (-2.72614225801306e-10, 2.77068142495902e-08, -2.10102402082508e-06,
              -5.69250639462346e-05, -7.34990630326855e-04, -2.95459980854025e-03,
              -1.60960333262415e-02)  # fmt: skip
_FLOAT32_Q = (-1.45660718464996e-05, -2.13374055278905e-04, -1.68282697438203e-03,
              -7.37332916720468e-03, -1.42647390514189e-02)  # fmt: skip


def erf(x: np.ndarray) -> np.ndarray:
    """Return the error function of a floating-point array, accurate to its dtype."""
    if x.dtype == np.float64:
        return _erf_float64(x)
    return _erf_float32(x.astype(np.float32, copy=False)).astype(x.dtype, copy=False)


def _polynomial(coefficients: tuple[float, ...], x: np.ndarray) -> np.ndarray:
    """Horner's rule, in one buffer."""
    result = np.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        result *= x
        result += x.dtype.type(coefficient)
    return result


def _erf_float32(x: np.ndarray) -> np.ndarray:
    bounded = np.clip(x, np.float32(-4), np.float32(4))
    squared = np.asarray(bounded * bounded)
    result = _polynomial(_FLOAT32_P, squared)
    result /= _polynomial(_FLOAT32_Q, squared)
    result *= bounded
    return result


def _erf_float64(x: np.ndarray) -> np.ndarray:
    result = np.array(x, dtype=np.float64, order="K", ndmin=1)
    size = np.abs(result)
    small, tail = size <= 0.46875, size > 4
    middle = ~(small | tail | np.isnan(size))

    square = result[small] ** 2
    result[small] *= _polynomial(_ERF_P, square) / _polynomial(_ERF_Q, square)

    z = size[middle]
    erfc = np.exp(-z * z) * (_polynomial(_ERFC_P, z) / _polynomial(_ERFC_Q, z))
    result[middle] = np.copysign(1 - erfc, result[middle])

    z = np.minimum(size[tail], 30)  # erfc is 0 long before, and the square stays finite
    inverse = 1 / (z * z)
    ratio = inverse * _polynomial(_TAIL_P, inverse) / _polynomial(_TAIL_Q, inverse)
    erfc = np.exp(-z * z) / z * (1 / math.sqrt(math.pi) - ratio)
    result[tail] = np.copysign(1 - erfc, result[tail])
    return result.reshape(x.shape)
