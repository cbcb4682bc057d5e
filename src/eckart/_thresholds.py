"""Ranks and thresholds from given singular values."""

from __future__ import annotations

import math
from typing import Any

from eckart import _refusals
from eckart._algorithms.rules import Rules, checked, count, default_rtol
from eckart._arrays.door import public
from eckart._arrays.namespace import Array, cast, device, widest, working
from eckart._arrays.spectra import largest, length, normalised


@public
def select_rank(
    S: Array,
    /,
    *,
    rank: Any = None,
    rtol: Any = None,
    atol: Any = None,
    error: Any = None,
    shape: Any = None,
    eps: float | None = None,
) -> Array:
    """Rank to truncate at, from the singular values and one or more rules.

    Each rule can only lower the rank: the result is the smallest rank that a rule gives.

    Parameters
    ----------
    S : array, shape (..., k)
        Singular values, descending.
    rank : int, optional
        Keep at most `rank` values, ``0 <= rank <= k``.
    rtol, atol : float or array, shape (...), optional
        Keep ``S > max(atol, rtol * S[0])``. This rule applies if `rtol` or `atol` is given, or if
        no rule is. The default of `rtol` is ``max(m, n) * eps`` (see Notes), the default of `atol`
        is 0.
    error : float or array, shape (...), optional
        Keep the fewest values with ``sqrt(sum(S[r:]**2)) <= error * sqrt(sum(S**2))``. For example
        ``error=0.1`` keeps 99 % of the energy.
    shape : tuple of int, optional
        Shape of the matrix, ``(..., m, n)``, for the default `rtol`. The default is ``(k, k)``.
    eps : float, optional
        Machine epsilon of the dtype of the matrix, for the default `rtol`. The default is the
        machine epsilon of the dtype of `S`.

    Returns
    -------
    array of int, shape (...)
        On the device of `S`.

    Raises
    ------
    TypeError
        If `S` is not real floating point, `rank` is not an integer, or a tolerance is not a real
        number.
    ValueError
        If `S` is not finite, nonnegative and descending, `rank` is out of range, a tolerance is
        negative, or `S` does not have the ``min(m, n)`` values of `shape`. Traced values are not
        checked.

    Notes
    -----
    The default `rtol` is that of `matrix_rank`. In half precision it is ``sqrt(min(m, n)) * eps /
    2``, because ``max(m, n) * eps`` exceeds one for a matrix of a few hundred rows.

    Examples
    --------
    >>> import numpy as np
    >>> import eckart
    >>> S = np.asarray([4.0, 2.0, 1e-3, 1e-17])
    >>> int(eckart.select_rank(S))
    3
    >>> int(eckart.select_rank(S, error=0.01))
    2
    >>> int(eckart.select_rank(S, error=0.01, rank=1))
    1
    >>> int(eckart.select_rank(S, shape=(4, 10**14)))
    2
    """
    _refusals.spectrum(S)
    k = S.shape[-1]
    values = working(S)
    m = n = k
    if shape is not None:
        m, n = _refusals.matrix_shape(shape)
        if k or min(m, n):
            _refusals.complete(k, m, n)
    rules = Rules(rank, rtol, atol, error)
    rules = checked(rules, S, (*S.shape[:-1], m, n), f"k = {k} for {k} singular values")
    if eps is not None and rtol is None and rules.judge_zero:
        eps = float(_refusals.tolerance("eps", eps, S, ()))
        rules = rules._replace(rtol=default_rtol(eps, m, n))
    return count(values, rules)


@public
def truncation_error(S: Array, rank: Any, /, *, norm: str = "fro", relative: bool = False) -> Array:
    """Smallest error that any matrix of a given rank can have, from the singular values.

    Parameters
    ----------
    S : array, shape (..., k)
        All singular values, descending.
    rank : int or array of int, shape (...)
        Rank of the approximation, ``0 <= rank <= k``. An array is one rank per matrix of a stack,
        for example from `select_rank`.
    norm : {"fro", "spectral"}
        ``"fro"`` is the Frobenius norm, ``sqrt(sum(S[rank:]**2))``. ``"spectral"`` is the spectral
        norm, ``S[rank]``.
    relative : bool
        Whether to divide by the same norm of the matrix. The relative error of a zero matrix is 0.

    Returns
    -------
    array, shape (...)
        In the dtype of `S`.

    Raises
    ------
    TypeError
        If `S` is not real floating point, or `rank` is not an integer.
    ValueError
        If `S` is not finite, nonnegative and descending, or `rank` is out of range.

    Notes
    -----
    Eckart and Young [1]_ for the Frobenius norm, Mirsky [2]_ for every unitarily invariant norm.

    References
    ----------
    .. [1] C. Eckart and G. Young, "The approximation of one matrix by another of lower rank",
       Psychometrika 1, 1936.
    .. [2] L. Mirsky, "Symmetric gauge functions and unitarily invariant norms", Quarterly Journal
       of Mathematics 11, 1960.

    Examples
    --------
    >>> import numpy as np
    >>> import eckart
    >>> S = np.asarray([12.0, 4.0, 3.0])
    >>> float(eckart.truncation_error(S, 1))
    5.0
    >>> float(eckart.truncation_error(S, 1, norm="spectral"))
    4.0
    """
    xp = _refusals.spectrum(S)
    _refusals.one_of("norm", norm, ("fro", "spectral"))
    values = widest(working(S))
    if relative:
        values, _ = normalised(values)
    size = length if norm == "fro" else largest
    kept = _refusals.ranks(rank, S)
    dropped = xp.arange(S.shape[-1], device=device(S)) >= kept
    errors = size(xp.where(dropped, values, 0.0))
    if relative:
        whole = size(values)
        errors = errors / xp.where(whole == 0, 1.0, whole)
    return cast(errors, S.dtype)


@public
def hard_threshold(S: Array, shape: Any, /, *, noise: Any = None) -> Array:
    """Threshold on the singular values of a low-rank matrix with white noise: an `atol`.

    No other threshold that depends only on the shape and the noise has a smaller asymptotic mean
    squared error.

    Parameters
    ----------
    S : array, shape (..., k)
        All ``k = min(m, n)`` singular values of the noisy matrix, descending.
    shape : tuple of int
        Shape of that matrix, ``(..., m, n)``.
    noise : float, optional
        Standard deviation of the noise in each entry. By default it is estimated from the median
        singular value. Then fewer than half of the singular values may belong to the signal.

    Returns
    -------
    array, shape (...)
        The threshold in the dtype of `S`, to pass as ``atol=``.

    Raises
    ------
    TypeError
        If `S` is not real floating point, or `noise` is not a real number.
    ValueError
        If `S` is not finite, nonnegative and descending, does not have ``min(m, n) > 0`` values, or
        `noise` is negative.

    Notes
    -----
    Gavish and Donoho [1]_, Sections III.A (known noise) and III.D (unknown noise).

    References
    ----------
    .. [1] M. Gavish and D. L. Donoho, "The optimal hard threshold for singular values is
       4/sqrt(3)", IEEE Transactions on Information Theory 60, 2014.

    Examples
    --------
    >>> import numpy as np
    >>> import eckart
    >>> rng = np.random.default_rng(0)
    >>> signal = 4 * rng.standard_normal((200, 3)) @ rng.standard_normal((3, 100))
    >>> S = eckart.singular_values(signal + rng.standard_normal((200, 100)))
    >>> atol = eckart.hard_threshold(S, (200, 100))
    >>> int(eckart.select_rank(S, atol=atol))
    3
    """
    xp = _refusals.spectrum(S)
    m, n = _refusals.matrix_shape(shape)
    k = S.shape[-1]
    _refusals.complete(k, m, n)
    values = working(S)
    ratio = min(m, n) / max(m, n)
    if noise is not None:
        sigma = _refusals.tolerance("noise", noise, S, S.shape[:-1])
        level = sigma * math.sqrt(max(m, n)) * xp.ones_like(values[..., 0])
    else:
        high, low = values[..., (k - 1) // 2], values[..., k // 2]
        median = low + (high - low) / 2  # their sum may be too large for the dtype
        level = median / math.sqrt(_marchenko_pastur_median(ratio))
    return xp.astype(_optimal_threshold(ratio) * level, S.dtype)


def _optimal_threshold(ratio: float) -> float:
    """Gavish and Donoho's lambda_*(beta), in units of ``sqrt(max(m, n)) * noise``."""
    root = math.sqrt(ratio * ratio + 14 * ratio + 1)
    return math.sqrt(2 * (ratio + 1) + 8 * ratio / (ratio + 1 + root))


def _marchenko_pastur_median(ratio: float) -> float:
    """Median of the Marchenko–Pastur distribution, by bisection of its closed form.

    With ``x = 1 + q**2 - 2 q cos(t)`` and ``q = sqrt(ratio)`` the distribution function is
    ``(t + q sin(t) - (1 - q**2) * sum_{j>=2} q**(j-2) sin(j t) / j) / pi``.
    """
    q = math.sqrt(ratio)

    def distribution(t: float) -> float:
        angle = math.atan2(q * math.sin(t), 1 - q * math.cos(t))
        series = (angle - q * math.sin(t)) / ratio
        return (t + q * math.sin(t) - (1 - ratio) * series) / math.pi

    low, high = 0.0, math.pi
    while low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if distribution(middle) < 0.5 else (low, middle)
    return 1 + ratio - 2 * q * math.cos(low)
