"""When an iteration has what the rules ask for."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

from eckart._namespace import Array, cast, concrete_int, device, format_of, namespace
from eckart._tolerance import Rules, count, unit

# Smallest relative error, in units of sqrt(eps), that is told from rounding in a sum of squares.
_SMALLEST_ERROR = 32.0

# Steps after which an iteration gives up; after so many of them its basis is made wider.
STEPS, _SLOW = 1000, 32
_WIDER = 4  # times at most

# Checks before the norm of the whole matrix is looked at.
_PROMPT = 12

# Least share of the residual that a wide gap to the dropped values leaves of what it may cost: the
# gap may be one to values that were found late.
_LEAST = 0.002


def is_resolved(A: Array, error: Any) -> bool:
    """Whether a sum of squares tells the remainder that `error` allows from rounding."""
    smallest = _SMALLEST_ERROR * math.sqrt(format_of(A).eps)
    if isinstance(error, float):
        return error >= smallest
    return concrete_int(namespace(error).all(error >= smallest)) != 0


def room(step: int) -> int:
    """How many times as many columns as usual a basis may have in a step."""
    return min(_WIDER, 1 + step // _SLOW)


def gap(S: Array, each: Array) -> Array:
    """How far the first `each` of the values are above the others, shape (...)."""
    xp = namespace(S)
    index = xp.arange(S.shape[-1], device=device(S))
    last = xp.min(xp.where(index < each[..., None], S, S[..., :1]), axis=-1)
    return last - xp.max(xp.where(index < each[..., None], 0.0, S), axis=-1)


class Goal:
    """Which triplets are wanted of an iteration, and whether it has them.

    Parameters
    ----------
    like : array
        Has the dtype that products are computed in.
    rules : Rules
    power : array, shape (..., 1, 1)
        What the matrices were multiplied by; NaN where one is not finite.
    accuracy : float
        Largest residual over ``S[0]``.
    strict : bool
        Whether the residuals must be as small, also where that cannot change the error.
    differentiated : bool
        Whether the residuals must also be as small beside the gap between the kept and the dropped
        values, which is what a derivative of the truncation is off by.
    patience : float
        Steps after which the full SVD is the better way.
    energy : callable
        Gives the sum of the squares of all singular values.
    cheap : bool
        Whether that costs little beside an iteration.
    """

    def __init__(
        self,
        *,
        like: Array,
        rules: Rules,
        power: Array,
        accuracy: float,
        energy: Callable[[], Array],
        cheap: bool,
        strict: bool = True,
        differentiated: bool = False,
        patience: float = math.inf,
    ) -> None:
        xp = namespace(power)
        self.rules, self.accuracy = rules, accuracy
        self.finite = xp.isfinite(power[..., 0, 0])
        self.factor = power[..., 0]
        self.eps = format_of(like).eps
        self._energy, self._cheap = energy, cheap
        self.wanted = rules.rank or 0
        self.crowded = self.overdue = False
        self.residual = 0.0
        self._strict, self._differentiated, self._patience = strict, differentiated, patience
        self._checks = 0
        self._patient = 0

    def reached(self, S: Array, residuals: Array, width: int, step: int) -> bool:
        """Whether the wanted ones of the Ritz triplets after a step have converged.

        The basis grows by blocks of `width` columns.
        """
        xp = namespace(S)
        self._checks += 1
        counts = self.counts(S)
        each = xp.clip(counts + int(self.rules.judge_zero), max=S.shape[-1])
        self.wanted = concrete_int(xp.max(each)) or 0
        kept = xp.arange(S.shape[-1], device=device(S)) < each[..., None]
        largest = xp.max(xp.where(kept, residuals, 0.0), axis=-1)
        # The recurrence goes on to fall when rounding has long stopped the residual itself.
        largest = largest + 2 * self.eps * S[..., 0]
        bound = self.accuracy * S[..., 0]
        if self._differentiated:
            room, rounding = gap(S, each), self.eps * S[..., 0]
            narrow = xp.maximum(self.accuracy * room, 4 * rounding)
            # At a tie across the cut there is no derivative.
            bound = xp.where(room > 64 * rounding, xp.minimum(bound, narrow), bound)
        converged = largest <= bound
        if not (self._strict or self._differentiated):
            converged = converged | self._settled(S, residuals, each)
        known = (counts < S.shape[-1]) | ~self.finite | self.rules.fixed
        done = concrete_int(xp.all(known & converged)) == 1
        if not done:
            self.residual = float(xp.max(largest / unit(S)[..., 0]))
        self.crowded = done and self._crowded(S, kept, width)
        if self.crowded:
            self._patient = 2 * step  # what is new shall have as many steps as the first block
        return done and not self.crowded and step >= self._patient

    def is_overdue(self, step: int) -> bool:
        """Whether the full SVD would have been the better way, as can be said after a step."""
        self.overdue = step > self._patience
        return self.overdue

    def counts(self, S: Array) -> Array:
        """How many of the Ritz values `S` the rules keep; all, where the matrix is not finite."""
        return count(S / cast(self.factor, S.dtype), self.rules, self.rest(S))

    @functools.cached_property
    def energy(self) -> Array:
        """Sum of the squares of all singular values."""
        return self._energy()

    def rest(self, S: Array) -> Array | None:
        """Sum of the squares of all singular values but `S`, over ``S[0]**2``."""
        if self.rules.error is None:
            return None
        xp = namespace(S)
        ratios = S / unit(S)
        rest = self.energy / unit(S)[..., 0] ** 2 - xp.sum(ratios * ratios, axis=-1)
        return xp.where(rest > 0, rest, 0.0)

    def _settled(self, S: Array, residuals: Array, each: Array) -> Array:
        """Whether what the residuals leave open cannot change the error of the truncation.

        A residual moves a singular value by no more than its norm, and by no more than its square
        over the gap to the values that are dropped.
        """
        xp = namespace(S)
        index = xp.arange(S.shape[-1], device=device(S))
        kept, first = index < each[..., None], index == each[..., None]
        # Two lower bounds of what a truncation drops: the other Ritz values, and the difference to
        # the norm, which takes a look at the whole matrix and is lost to rounding if it is small.
        squares = S * S
        dropped = xp.sum(xp.where(kept, 0.0, squares), axis=-1)
        if self._checks > _PROMPT and self._cheap:
            now = xp.sum(xp.where(kept, squares, 0.0), axis=-1)
            difference = self.energy * (1 - 64 * self.eps) - now
            dropped = xp.where(difference > dropped, difference, dropped)
        next_one = xp.sum(xp.where(first, S + residuals, 0.0), axis=-1, keepdims=True)
        room = xp.maximum(S - next_one, residuals)
        part = xp.clip(residuals / xp.where(room > 0, room, 1.0), min=_LEAST)
        lost = xp.sum(xp.where(kept, S * residuals * part, 0.0), axis=-1)
        return lost <= self.accuracy**1.25 * dropped

    def _crowded(self, S: Array, kept: Array, width: int) -> bool:
        """Whether some wanted value agrees with as many as it could have found copies of itself.

        Not so if they are the smallest wanted ones: more of them would be as small.
        """
        xp = namespace(S)
        if not 1 < width < S.shape[-1]:  # one column is what is left of a space that is filled
            return False
        smallest = xp.min(xp.where(kept, S, S[..., :1]), axis=-1, keepdims=True)
        first, last = S[..., : -width + 1], S[..., width - 1 :]
        # Found copies differ by the square of their residuals over the gap to the other values.
        least = xp.maximum(first, self.accuracy * unit(S))
        margin = 8 * self.accuracy * (first + self.accuracy * unit(S) * (unit(S) / least))
        agree = (first - last <= margin) & (last - smallest > margin)
        return concrete_int(xp.any(agree)) == 1
