"""The rules that choose a rank: what a caller asks for, and what counts as zero."""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

from eckart import _refusals
from eckart._arrays.linalg import exponent_range
from eckart._arrays.namespace import Array, Namespace, cast, format_of, namespace
from eckart._arrays.spectra import normalised

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
        None if rank is None else _refusals.rank(rank, min(shape[-2:]), of),
        *(
            None if value is None else _refusals.tolerance(name, value, like, shape[:-2])
            for name, value in zip(Rules._fields[1:], tolerances, strict=True)
        ),
    )
    if valid.error is not None:
        _refusals.share("error", valid.error)
    if valid.judge_zero and valid.rtol is None:
        return valid._replace(rtol=default_rtol(format_of(like).eps, *shape[-2:]))
    return valid


def default_rtol(eps: float, m: int, n: int) -> float:
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
