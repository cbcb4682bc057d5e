"""What counts as zero, and the rules that choose a rank."""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

from eckart import _checks
from eckart._door import public
from eckart._linalg import exponent_range, normalizing_root, root
from eckart._namespace import (
    Array,
    Namespace,
    cast,
    device,
    format_of,
    namespace,
    widest,
    working,
)

# Machine epsilon of the half-precision dtypes, float16 and bfloat16, and no other.
_HALF = 2.0**-10


class Rules(NamedTuple):
    """What a caller asks for; the smallest rank that any of it asks for is the result."""

    rank: int | None = None
    rtol: Any = None
    atol: Any = None
    error: Any = None

    @property
    def judge_zero(self) -> bool:
        """Whether the rule for zero is in force: asked for, or nothing else is."""
        return (
            self.rtol is not None
            or self.atol is not None
            or (self.rank is None and self.error is None)
        )

    @property
    def fixed(self) -> bool:
        """Whether the rank is known before the singular values are."""
        return not self.judge_zero and self.error is None


def checked(rules: Rules, like: Array, shape: tuple[int, ...], of: str) -> Rules:
    """`rules` for matrices of `shape` in the dtype of `like`, every value validated.

    Where the rule for zero is in force, `rtol` is given its default. `of` is how the number of
    singular values reads.
    """
    rank, *tolerances = rules
    valid = Rules(
        None if rank is None else _checks.rank(rank, min(shape[-2:]), of),
        *(
            None if value is None else _checks.tolerance(name, value, like, shape[:-2])
            for name, value in zip(Rules._fields[1:], tolerances, strict=True)
        ),
    )
    if valid.judge_zero and valid.rtol is None:
        return valid._replace(rtol=_default_rtol(format_of(like).eps, *shape[-2:]))
    return valid


def _default_rtol(eps: float, m: int, n: int) -> float:
    """What rounding to `eps` makes of a zero; rounding of the entries alone in half precision."""
    return math.sqrt(min(m, n)) * eps / 2 if eps >= _HALF else max(m, n) * eps


def count(S: Array, rules: Rules, rest: Array | None = None) -> Array:
    """The rank that `rules` give; integers of shape (...).

    Where `S` are not all singular values, the squares of the others add up to ``rest * S[0]**2``.
    A NaN is never taken for zero, so that what is not finite stays visible.
    """
    xp = namespace(S)
    if S.shape[-1] == 0:
        return xp.count_nonzero(S, axis=-1)
    counts = []
    if rules.judge_zero:
        zero = S <= _share(rules.rtol, S) * S[..., :1]
        if rules.atol is not None:
            zero = zero | (S <= _column(rules.atol, S))
        counts.append(xp.count_nonzero(~zero, axis=-1))
    if rules.error is not None:
        counts.append(_count_for_error(xp, S, rules.error, rest))
    if rules.rank is not None:
        counts.append(xp.full_like(xp.count_nonzero(S, axis=-1), rules.rank))
    return functools.reduce(xp.minimum, counts)


def _count_for_error(xp: Namespace, S: Array, error: Any, rest: Array | None) -> Array:
    ratios, _ = normalised(S)
    if rest is not None:
        rest = cast(rest, ratios.dtype)[..., None] * ratios[..., :1] ** 2
    tails = _norms_of_tails(xp, ratios, rest)
    share = _share(error, ratios)
    # What is below the range beside S[0] is dropped as zero is, but for an error of zero.
    vanishing = ~((share == 0) & (S > 0))
    dropped = (tails <= share * tails[..., :1]) & vanishing
    return S.shape[-1] - xp.count_nonzero(dropped, axis=-1)


def _norms_of_tails(xp: Namespace, ratios: Array, rest: Array | None) -> Array:
    """The norm of each value and all after it, `rest` being the sum of squares of still others.

    The squares of small ones would vanish: they are summed by themselves, in units of their own.
    """
    exponent = exponent_range(ratios)
    small, step = ratios < 2.0 ** -(exponent * 3 // 8), 2.0 ** (exponent * 3 // 4)
    large, tiny = xp.where(small, 0.0, ratios), xp.where(small, ratios * step, 0.0)
    squares, tiny_squares = (
        xp.flip(xp.cumulative_sum(xp.flip(part * part, axis=-1), axis=-1), axis=-1)
        for part in (large, tiny)  # the smallest first, to lose none
    )
    if rest is not None:
        squares = squares + rest
    both = xp.sqrt(squares + tiny_squares / step / step)
    return xp.where(squares == 0, xp.sqrt(tiny_squares) / step, both)


def _share(tolerance: Any, S: Array) -> Any:
    """A relative tolerance; one above 1 drops no more than 1 does, and could overflow."""
    if isinstance(tolerance, float):
        return min(tolerance, 1.0)
    return namespace(S).clip(_column(tolerance, S), max=1.0)


def _column(tolerance: Any, S: Array) -> Any:
    return tolerance if isinstance(tolerance, float) else cast(tolerance, S.dtype)[..., None]


def unit(S: Array) -> Array:
    """The largest singular value, one for a zero matrix; shape (..., 1)."""
    first = _first(S)
    return namespace(S).where(first == 0, 1.0, first)


def normalised(values: Array) -> tuple[Array, Array]:
    """Nonnegative values times a power of two that brings the largest near one, and its root.

    In double precision where the library has it; the root has the shape (..., 1).
    """
    values = widest(values)
    factor = normalizing_root(_largest(values)[..., None])
    return values * factor * factor, factor


def length(values: Array) -> Array:
    """Square root of the sum of the squares, whatever the size of the values; shape (...)."""
    ratios, factor = normalised(values)
    norm = root(namespace(ratios).sum(ratios * ratios, axis=-1))
    return cast(norm / factor[..., 0] / factor[..., 0], values.dtype)


def _largest(values: Array) -> Array:
    """The largest of nonnegative values, zero of none; shape (...)."""
    xp = namespace(values)
    return xp.max(xp.concat([xp.zeros_like(_first(values)), values], axis=-1), axis=-1)


def _first(S: Array) -> Array:
    xp = namespace(S)
    if S.shape[-1] > 0:
        return S[..., :1]
    return xp.zeros((*S.shape[:-1], 1), dtype=S.dtype, device=device(S))


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
    """Rank to truncate at, from the singular values and one rule or several.

    The rules only lower the rank: the result is the smallest that any of them asks for.

    Parameters
    ----------
    S : array, shape (..., k)
        Singular values, descending.
    rank : int, optional
        At most this many, ``0 <= rank <= k``.
    rtol, atol : float or array, shape (...), optional
        Keep ``S > max(atol, rtol * S[0])``. In force when either is given, or when no rule is; the
        one left out is then ``max(m, n) * eps`` (see Notes) or 0.
    error : float or array, shape (...), optional
        Keep the fewest with ``sqrt(sum(S[r:]**2)) <= error * sqrt(sum(S**2))``: ``error=0.1`` keeps
        99 % of the energy.
    shape : tuple of int, optional
        Shape of the matrix, ``(..., m, n)``, for the default `rtol`; by default ``(k, k)``.
    eps : float, optional
        Machine epsilon of the dtype of the matrix, for the default `rtol`; by default that of `S`.

    Returns
    -------
    array of int, shape (...)
        On the device of `S`.

    Raises
    ------
    TypeError
        If `S` is not real floating point, `rank` not an integer, or a tolerance not a real number.
    ValueError
        If `S` is not finite, nonnegative and descending, `rank` is out of range, a tolerance
        is negative, or `S` are not the ``min(m, n)`` values of the shape. Values are not looked at
        while they are traced.

    Notes
    -----
    The default `rtol` is that of `matrix_rank`. In half precision, where ``max(m, n) * eps`` soon
    exceeds one, it is ``sqrt(min(m, n)) * eps / 2``: rounding the entries of a matrix moves no
    singular value by more.

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
    _checks.spectrum(S)
    k = S.shape[-1]
    values = working(S)
    m = n = k
    if shape is not None:
        m, n = _checks.matrix_shape(shape)
        if k or min(m, n):
            _checks.complete(k, m, n)
    rules = Rules(rank, rtol, atol, error)
    rules = checked(rules, S, (*S.shape[:-1], m, n), f"k = {k} for {k} singular values")
    if eps is not None and rtol is None and rules.judge_zero:
        eps = float(_checks.tolerance("eps", eps, S, ()))
        rules = rules._replace(rtol=_default_rtol(eps, m, n))
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
        ``sqrt(sum(S[rank:]**2))`` or ``S[rank]``.
    relative : bool
        Divide by the same norm of the matrix; 0 for a zero matrix.

    Returns
    -------
    array, shape (...)
        In the dtype of `S`.

    Raises
    ------
    TypeError
        If `S` is not real floating point or `rank` not an integer.
    ValueError
        If `S` is not finite, nonnegative and descending, or `rank` is out of range.

    Notes
    -----
    Eckart and Young [1]_ for the Frobenius norm, Mirsky [2]_ for every unitarily invariant one.

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
    xp = _checks.spectrum(S)
    _checks.one_of("norm", norm, ("fro", "spectral"))
    values = widest(working(S))
    if relative:
        values, _ = normalised(values)
    size = length if norm == "fro" else _largest
    kept = _checks.ranks(rank, S)
    dropped = xp.arange(S.shape[-1], device=device(S)) >= kept
    errors = size(xp.where(dropped, values, 0.0))
    if relative:
        whole = size(values)
        errors = errors / xp.where(whole == 0, 1.0, whole)
    return cast(errors, S.dtype)


@public
def hard_threshold(S: Array, shape: Any, /, *, noise: Any = None) -> Array:
    """Singular value below which a noisy matrix is better off without: an `atol`.

    For a low-rank matrix seen through white noise, no fixed threshold has a smaller asymptotic
    mean squared error.

    Parameters
    ----------
    S : array, shape (..., k)
        All ``k = min(m, n)`` singular values of the noisy matrix, descending.
    shape : tuple of int
        Shape of that matrix, ``(..., m, n)``.
    noise : float, optional
        Standard deviation of the noise in each entry. Without it, it is estimated from the median
        singular value, so that fewer than half of them may be signal.

    Returns
    -------
    array, shape (...)
        The threshold in the dtype of `S`, to pass as ``atol=``.

    Raises
    ------
    TypeError
        If `S` is not real floating point, or `noise` not a real number.
    ValueError
        If `S` is not finite, nonnegative and descending, has not ``min(m, n) > 0`` values, or
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
    xp = _checks.spectrum(S)
    m, n = _checks.matrix_shape(shape)
    k = S.shape[-1]
    _checks.complete(k, m, n)
    values = working(S)
    ratio = min(m, n) / max(m, n)
    if noise is not None:
        sigma = _checks.tolerance("noise", noise, S, S.shape[:-1])
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

    With ``x = 1 + q**2 - 2 q cos(t)`` and ``q = sqrt(ratio)`` its distribution function is
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
