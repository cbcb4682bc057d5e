"""The rules that choose a rank."""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

from eckart import _refusals
from eckart._arrays.linalg import exponent_range
from eckart._arrays.namespace import Array, Namespace, cast, format_of, namespace
from eckart._arrays.spectra import normalised

# The machine epsilon of float16, the smaller one of the two half-precision dtypes.
_HALF = 2.0**-10


class Rules(NamedTuple):
    """The rules of a caller; the result is the smallest rank that a rule gives."""

    rank: int | None = None
    rtol: Any = None
    atol: Any = None
    error: Any = None

    @property
    def judge_zero(self) -> bool:
        """Whether `rtol` and `atol` apply: one is given, or no other rule is."""
        return (
            self.rtol is not None
            or self.atol is not None
            or (self.rank is None and self.error is None)
        )

    @property
    def fixed(self) -> bool:
        """Whether the rank does not depend on the singular values."""
        return not self.judge_zero and self.error is None


def checked(rules: Rules, like: Array, shape: tuple[int, ...], of: str) -> Rules:
    """Validated `rules` for matrices of `shape` in the dtype of `like`.

    If the rule for zero applies and `rtol` is None, `rtol` gets its default. `of` is the number of
    singular values, in words.
    """
    rank, *tolerances = rules
    valid = Rules(
        None if rank is None else _refusals.rank(rank, min(shape[-2:]), of),
        *(
            None if value is None else _refusals.tolerance(name, value, like, shape[:-2])
            for name, value in zip(Rules._fields[1:], tolerances, strict=True)
        ),
    )
    if valid.judge_zero and valid.rtol is None:
        return valid._replace(rtol=default_rtol(format_of(like).eps, *shape[-2:]))
    return valid


def default_rtol(eps: float, m: int, n: int) -> float:
    """Bound on the rounding error of a zero; in half precision only rounding of the entries."""
    return math.sqrt(min(m, n)) * eps / 2 if eps >= _HALF else max(m, n) * eps


def count(S: Array, rules: Rules, rest: Array | None = None) -> Array:
    """The rank that `rules` give; integers of shape (...).

    If `S` does not have all singular values, the squares of the remaining ones add up to ``rest *
    S[0]**2``. A NaN does not count as zero, so a matrix that is not finite stays visible.
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
    # A value that vanishes beside S[0] is dropped like zero, unless the allowed error is zero.
    vanishing = ~((share == 0) & (S > 0))
    dropped = (tails <= share * tails[..., :1]) & vanishing
    return S.shape[-1] - xp.count_nonzero(dropped, axis=-1)


def _norms_of_tails(xp: Namespace, ratios: Array, rest: Array | None) -> Array:
    """The norm of each value and all after it, where `rest` is the sum of squares of further ones.

    The squares of small values would underflow. They are summed separately, in a unit of their own.
    """
    exponent = exponent_range(ratios)
    small, step = ratios < 2.0 ** -(exponent * 3 // 8), 2.0 ** (exponent * 3 // 4)
    large, tiny = xp.where(small, 0.0, ratios), xp.where(small, ratios * step, 0.0)
    squares, tiny_squares = (
        xp.flip(xp.cumulative_sum(xp.flip(part * part, axis=-1), axis=-1), axis=-1)
        for part in (large, tiny)  # the smallest first, so that rounding drops none of them
    )
    if rest is not None:
        squares = squares + rest
    both = xp.sqrt(squares + tiny_squares / step / step)
    return xp.where(squares == 0, xp.sqrt(tiny_squares) / step, both)


def _share(tolerance: Any, S: Array) -> Any:
    """A relative tolerance, at most 1: a larger one drops the same values and could overflow."""
    if isinstance(tolerance, float):
        return min(tolerance, 1.0)
    return namespace(S).clip(_column(tolerance, S), max=1.0)


def _column(tolerance: Any, S: Array) -> Any:
    return tolerance if isinstance(tolerance, float) else cast(tolerance, S.dtype)[..., None]
