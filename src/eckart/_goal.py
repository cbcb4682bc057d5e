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

# Steps after which an iteration gives up.
STEPS = 100

# Checks before an iteration counts as slow.
_PROMPT = 12


def is_resolved(A: Array, error: Any) -> bool:
    """Whether a sum of squares tells the remainder that `error` allows from rounding."""
    smallest = _SMALLEST_ERROR * math.sqrt(format_of(A).eps)
    if isinstance(error, float):
        return error >= smallest
    return concrete_int(namespace(error).all(error >= smallest)) != 0


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
    ) -> None:
        xp = namespace(power)
        self.rules, self.accuracy = rules, accuracy
        self.finite = xp.isfinite(power[..., 0, 0])
        self.factor = power[..., 0]
        self.eps = format_of(like).eps
        self._energy, self._cheap = energy, cheap
        self.wanted = rules.rank or 0
        self.crowded = False
        self.residual = 0.0
        self._history: list[tuple[Array, Array]] = []  # counts and sums of squares at each check
        self._patient = 0

    def reached(self, S: Array, residuals: Array, width: int, step: int) -> bool:
        """Whether the wanted ones of the Ritz triplets after a step have converged.

        The basis grows by blocks of `width` columns.
        """
        xp = namespace(S)
        counts = self.counts(S)
        each = xp.clip(counts + int(self.rules.judge_zero), max=S.shape[-1])
        self.wanted = concrete_int(xp.max(each)) or 0
        kept = xp.arange(S.shape[-1], device=device(S)) < each[..., None]
        largest = xp.max(xp.where(kept, residuals, 0.0), axis=-1)
        # The recurrence goes on to fall when rounding has long stopped the residual itself.
        largest = largest + 2 * self.eps * S[..., 0]
        converged = largest <= self.accuracy * S[..., 0]
        known = (counts < S.shape[-1]) | ~self.finite | self.rules.fixed
        done = concrete_int(xp.all(known & (converged | self._settled(S, each)))) == 1
        if not done:
            self.residual = float(xp.max(largest / unit(S)[..., 0]))
        self.crowded = done and self._crowded(S, kept, width)
        if self.crowded:
            self._patient = 2 * step  # what is new shall have as many steps as the first block
        return done and not self.crowded and step >= self._patient

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

    def _settled(self, S: Array, each: Array) -> Array:
        """Whether what further steps would add to the wanted ones cannot change the error.

        Each step adds less, by about the same factor.
        """
        xp = namespace(S)
        kept = xp.arange(S.shape[-1], device=device(S)) < each[..., None]
        squares = S * S
        now = xp.sum(xp.where(kept, squares, 0.0), axis=-1)
        self._history.append((each, now))
        if len(self._history) < 3:
            return now < 0
        # Two lower bounds of what a truncation drops: the other Ritz values, and the difference to
        # the norm, which takes a look at the whole matrix and is lost to rounding if it is small.
        dropped = xp.sum(xp.where(kept, 0.0, squares), axis=-1)
        if len(self._history) > _PROMPT and self._cheap:
            difference = self.energy * (1 - 64 * self.eps) - now
            dropped = xp.where(difference > dropped, difference, dropped)
        (first, one), (second, two), _ = self._history[-3:]
        before, gain = (xp.where(rise > 0, rise, 0.0) for rise in (two - one, now - two))
        ratio = xp.where(before > 0, gain / xp.where(before > 0, before, 1.0), 1.0)
        ratio = xp.clip(ratio, max=0.95)
        tolerance = self.accuracy**1.5
        little = gain * ratio / (1 - ratio) <= 2 * tolerance * dropped
        # Rounding hides what is less than eps times the sum.
        visible = format_of(S).eps * now <= tolerance * dropped
        return (first == each) & (second == each) & little & visible

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
