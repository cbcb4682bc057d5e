"""Numerical, stable and effective rank of a matrix, and the rank at which factors pay."""

from __future__ import annotations

import math
from typing import Any

from eckart import _refusals
from eckart._algorithms.rules import Rules, count
from eckart._algorithms.rules import checked as checked_rules
from eckart._arrays.door import public
from eckart._arrays.mesh import across_devices
from eckart._arrays.namespace import (
    Array,
    cast,
    concrete_int,
    format_of,
    namespace,
    real_dtype,
    widest,
    working,
)
from eckart._arrays.spectra import normalised, unit
from eckart._derivative.registration import constant_matrix
from eckart._matrices import as_matrix
from eckart._matrices.factors import Factors
from eckart._matrices.operator import Operator
from eckart._truncation import scaled_spectrum, truncated_svd

# Largest residual of the leading triplet of an operator, over S[0]. A truncation tolerates a larger
# residual, but the squared norm over S[0]**2 has to be accurate to rounding. In single precision a
# residual cannot be smaller than some units of rounding.
_ACCURACY = 1e-6


@public
@across_devices
def matrix_rank(A: Array | Factors | Operator, /, *, rtol: Any = None, atol: Any = None) -> Array:
    """Numerical rank: the number of singular values that are not rounding noise.

    Parameters
    ----------
    A : array, shape (..., m, n), or SVD, LowRank, Operator, or sparse matrix
        As in `singular_values`.
    rtol, atol : float or array, shape (...), optional
        Count ``S > max(atol, rtol * S[0])``. The defaults are ``rtol = max(m, n) * eps`` with the
        ``eps`` of the dtype of `A` (see Notes) and ``atol = 0``.

    Returns
    -------
    array of int, shape (...)
        On the device of `A`.

    Raises
    ------
    TypeError
        If `A` is not a floating-point matrix, or a tolerance is not a real number.
    ValueError
        If `A` has a NaN or an infinity, or a tolerance is negative.

    Notes
    -----
    The rule is the same on every library. The libraries' own functions disagree on the meaning of
    `rtol` and `atol`.

    In half precision ``max(m, n) * eps`` exceeds one for a matrix of a few hundred rows. The
    default is therefore ``sqrt(min(m, n)) * eps / 2``. Rounding the entries to half precision
    changes each singular value by at most this times ``S[0]``. So a matrix of rank r has at most
    rank r after rounding.

    Traced values cannot be refused: a traced matrix that is not finite has full rank.

    Examples
    --------
    >>> import numpy as np
    >>> import eckart
    >>> W = np.outer([1.0, 2.0, 3.0], [1.0, 1.0]) + np.outer([0.0, 1.0, 0.0], [0.0, 1.0])
    >>> int(eckart.matrix_rank(W))
    2
    """
    matrix = as_matrix("A", A)
    S, powers = scaled_spectrum(matrix, counted=True)
    of = _refusals.rank_limit(matrix.shape)
    rules = checked_rules(Rules(None, rtol, atol), matrix.like, matrix.shape, of)
    if rules.atol is not None:
        atol = rules.atol if isinstance(rules.atol, float) else cast(rules.atol, S.dtype)
        for power in powers:
            atol = atol * power[..., 0]
        rules = rules._replace(atol=atol)
    return count(S, rules)


@public
@across_devices
def stable_rank(A: Array | Factors | Operator | None = None, /, *, S: Array | None = None) -> Array:
    """Stable rank: squared Frobenius norm over squared spectral norm.

    Parameters
    ----------
    A : array, shape (..., m, n), or SVD, LowRank, Operator, or sparse matrix
        Real or complex, floating point.
    S : array, shape (..., k), optional
        All singular values, descending, in place of `A`.

    Returns
    -------
    array, shape (...)
        Between 1 and the rank; 0 for a zero matrix. In the real dtype of `A` or `S`.

    Raises
    ------
    TypeError
        If `A` is not a floating-point matrix, or both `A` and `S` are given.
    ValueError
        If `A` has a NaN or an infinity, or `S` is not finite, nonnegative and descending.

    Notes
    -----
    A linear operator is not formed.

    Examples
    --------
    >>> import numpy as np
    >>> import eckart
    >>> float(eckart.stable_rank(np.diag([2.0, 1.0, 1.0])))
    1.5
    """
    _refusals.only_one(A=A, S=S)
    if S is not None:
        return cast(_stable(_normalised(S)), S.dtype)
    matrix = as_matrix("A", A)
    if matrix.by_products and 0 not in matrix.shape:
        scaled, power = constant_matrix(matrix).scaled()
        xp = namespace(power)
        known = xp.isfinite(power[..., 0, 0])
        if concrete_int(xp.all(known)) == 0:
            _refusals.nonfinite(A=matrix.given)
        accuracy = max(_ACCURACY, 32 * format_of(scaled.like).eps)
        leading = widest(truncated_svd(scaled, 1, accuracy=accuracy).S)
        energy = xp.where(known, scaled.energy(), math.nan)
        found = energy / unit(leading)[..., 0] ** 2
    else:
        found = _stable(normalised(scaled_spectrum(matrix)[0])[0])
    return cast(found, real_dtype(matrix.like))


def _stable(S: Array) -> Array:
    """Stable rank from normalised singular values."""
    return namespace(S).sum(S * S, axis=-1) / unit(S)[..., 0] ** 2


def _normalised(S: Array) -> Array:
    """Singular values from the caller, times a power of two."""
    _refusals.spectrum(S)
    return normalised(working(S))[0]


@public
@across_devices
def effective_rank(
    A: Array | Factors | Operator | None = None, /, *, S: Array | None = None
) -> Array:
    """Effective rank: exponential of the entropy of the normalized singular values.

    Parameters
    ----------
    A : array, shape (..., m, n), or SVD, LowRank, Operator, or sparse matrix
        As in `singular_values`.
    S : array, shape (..., k), optional
        All singular values, descending, in place of `A`.

    Returns
    -------
    array, shape (...)
        Between 1 and the rank; 0 for a zero matrix. In the real dtype of `A` or `S`.

    Raises
    ------
    TypeError
        If `A` is not a floating-point matrix, or both `A` and `S` are given.
    ValueError
        If `A` has a NaN or an infinity, or `S` is not finite, nonnegative and descending.

    Notes
    -----
    Roy and Vetterli [1]_: ``exp(-sum(p * log(p)))`` with ``p = S / sum(S)``.

    References
    ----------
    .. [1] O. Roy and M. Vetterli, "The effective rank: a measure of effective dimensionality",
       EUSIPCO 2007.

    Examples
    --------
    >>> import numpy as np
    >>> import eckart
    >>> round(float(eckart.effective_rank(np.eye(4))), 6)
    4.0
    """
    _refusals.only_one(A=A, S=S)
    if S is not None:
        return cast(_effective(_normalised(S)), S.dtype)
    matrix = as_matrix("A", A)
    return cast(_effective(normalised(scaled_spectrum(matrix)[0])[0]), real_dtype(matrix.like))


def _effective(S: Array) -> Array:
    """Effective rank from normalised singular values."""
    xp = namespace(S)
    total = xp.sum(S, axis=-1)
    zero = total == 0
    p = S / xp.where(zero, xp.ones_like(total), total)[..., None]
    entropy = -xp.sum(p * xp.log(xp.where(p == 0, xp.ones_like(p), p)), axis=-1)
    return xp.where(zero, total, xp.exp(entropy))


def break_even_rank(shape: Any, /) -> int:
    """Largest rank at which two factors store fewer numbers than the matrix.

    Parameters
    ----------
    shape : tuple of int
        Shape of the matrix, ``(..., m, n)``.

    Returns
    -------
    int
        The largest r with ``r * (m + n) < m * n``.

    Raises
    ------
    TypeError
        If a length is not an integer.
    ValueError
        If `shape` has fewer than two lengths, or a negative one.

    Examples
    --------
    >>> import eckart
    >>> eckart.break_even_rank((10, 10))
    4
    """
    m, n = _refusals.matrix_shape(shape)
    return (m * n - 1) // (m + n) if m * n else 0
