"""Whether an iteration has converged to the triplets that the rules keep."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

from eckart._algorithms.rules import Rules, count
from eckart._arrays.control import Condition, Count, either
from eckart._arrays.namespace import (
    Array,
    cast,
    concrete_int,
    concrete_ints,
    device,
    format_of,
    namespace,
)
from eckart._arrays.spectra import unit

# Smallest relative error, in units of sqrt(eps), that a sum of squares can resolve.
_SMALLEST_ERROR = 32.0

# Checks of an iteration before the norm of the whole matrix is computed.
_PROMPT = 12

# Smallest value of the residual over the gap to the dropped values. A gap may seem wider than it
# is, as long as the iteration has not found all dropped values.
_LEAST = 0.002


def is_resolved(A: Array, error: Any) -> bool:
    """Whether a sum of squares can resolve the remainder that `error` allows."""
    smallest = _SMALLEST_ERROR * math.sqrt(format_of(A).eps)
    if isinstance(error, float):
        return error >= smallest
    return concrete_int(namespace(error).all(error >= smallest)) == 1


def gap(S: Array, each: Array) -> Array:
    """The smallest of the first `each` values minus the largest of the others, shape (...)."""
    xp = namespace(S)
    index = xp.arange(S.shape[-1], device=device(S))
    last = xp.min(xp.where(index < each[..., None], S, S[..., :1]), axis=-1)
    return last - xp.max(xp.where(index < each[..., None], 0.0, S), axis=-1)


class Verdict(NamedTuple):
    """The result of a check of the Ritz triplets of an iteration."""

    done: Condition  # whether all wanted triplets have converged, and no copies can be missing
    crowded: Condition  # whether all have converged, but copies of a value may be missing
    converged: Array  # whether the wanted triplets of each matrix have converged, shape (...)
    blurred: Condition  # whether rounding keeps a residual above the accuracy
    wanted: Count
    residual: Array  # the largest residual of a wanted triplet, shape (...)
    top: Array  # S[0], shape (...)
    looks: Count  # number of checks so far
    copies: Count  # number of copies of one value that the iteration can have found
    steps: Count  # number of steps until the first time that the iteration was crowded
    patient: Count  # the first step at which the iteration may be done

    @property
    def relative_residual(self) -> Array:
        """The largest residual over ``S[0]`` of all matrices in the stack, shape ()."""
        xp = namespace(self.top)
        return xp.max(self.residual / xp.where(self.top > 0, self.top, 1.0))


class Goal:
    """Which triplets an iteration has to find, and whether it has converged to them.

    Parameters
    ----------
    like : array
        An array of the dtype that products are computed in.
    rules : Rules
    power : array, shape (..., 1, 1)
        The power of two that each matrix was multiplied by; NaN for one that is not finite.
    accuracy : float
        Largest residual over ``S[0]``.
    strict : bool
        Whether the residuals have to meet `accuracy` also if this cannot change the error.
    differentiated : bool
        Whether the residuals also have to meet `accuracy` relative to the gap between the kept and
        the dropped values. Their ratio is the error of a derivative of the truncation.
    energy : callable
        Returns the sum of the squares of all singular values.
    cheap : bool
        Whether `energy` costs little in comparison with an iteration.
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
    ) -> None:
        xp = namespace(power)
        self.rules, self.accuracy = rules, accuracy
        self.finite = xp.isfinite(power[..., 0, 0])
        self.factor = power[..., 0]
        self.eps = format_of(like).eps
        self._energy, self._cheap = energy, cheap
        self._strict, self._differentiated = strict, differentiated

    def begun(self, width: int, count: Count) -> Verdict:
        """The verdict before the first check; its counts have the type of `count`."""
        rank = self.rules.rank or 0
        zeros = namespace(self.factor).zeros_like(self.factor[..., 0])
        if isinstance(count, int):
            return Verdict(False, False, zeros > 0, False, rank, zeros, zeros, 0, width, 0, 0)
        nought = namespace(count).zeros_like(count)
        no = nought > 0
        counts = nought, nought + width, nought, nought
        return Verdict(no, no, zeros > 0, no, nought + rank, zeros, zeros, *counts)

    def judged(
        self,
        verdict: Verdict,
        S: Array,
        residuals: Array,
        rounding: Array | None,
        *,
        size: Count,
        width: int,
        step: Count,
    ) -> Verdict:
        """The verdict on the first `size` Ritz triplets after a step, given the previous one.

        The basis grows by blocks of `width` columns. `residuals` are those of the triplets.
        `rounding` is their lower bound from rounding, None if it is negligible.
        """
        xp = namespace(S)
        counts = self.counts(S)
        each = xp.minimum(counts + int(self.rules.judge_zero), xp.full_like(counts, size))
        kept = xp.arange(S.shape[-1], device=device(S)) < each[..., None]
        top = S[..., 0]
        largest = xp.max(xp.where(kept, residuals, 0.0), axis=-1)
        # The computed residual keeps falling after rounding has stopped the true residual.
        largest = largest + 2 * self.eps * top
        bound = self.accuracy * top
        if self._differentiated:
            space, noise = gap(S, each), self.eps * top
            narrow = xp.maximum(self.accuracy * space, 4 * noise)
            # At a tie across the cut the truncation is not differentiable.
            bound = xp.where(space > 64 * noise, xp.minimum(bound, narrow), bound)
        converged = largest <= bound
        if not (self._strict or self._differentiated):
            converged = converged | self._settled(S, residuals, each, verdict.looks)
        known = (counts < size) | ~self.finite | self.rules.fixed
        converged = known & converged
        done = xp.all(converged)
        crowded = done & self._crowded(S, kept, verdict.copies, size)
        blurred = done & False if rounding is None else self._exceeded(S, kept, rounding)
        wanted = xp.max(each)
        if isinstance(size, int):
            wanted, *flags = concrete_ints([wanted, done, crowded, blurred])
            done, crowded, blurred = map(bool, flags)
        else:
            wanted = xp.astype(wanted, size.dtype)
        steps = either(crowded & (verdict.steps == 0), step, verdict.steps)
        return Verdict(
            # New triplets get as many steps as the first ones.
            done=done & (done != crowded) & (step >= verdict.patient),
            crowded=crowded,
            converged=converged,
            blurred=blurred,
            wanted=wanted,
            residual=cast(largest, verdict.residual.dtype),
            top=cast(top, verdict.top.dtype),
            looks=verdict.looks + 1,
            copies=either(crowded, verdict.copies + width, verdict.copies),
            steps=steps,
            patient=either(crowded, step + steps, verdict.patient),
        )

    def _exceeded(self, S: Array, kept: Array, rounding: Array) -> Array:
        """Whether rounding alone keeps the residual of a wanted triplet above the accuracy."""
        xp = namespace(S)
        return xp.any(xp.where(kept, rounding, 0.0) > 0.5 * self.accuracy * S[..., :1])

    def counts(self, S: Array) -> Array:
        """How many of the Ritz values `S` the rules keep; all if the matrix is not finite."""
        return count(S / cast(self.factor, S.dtype), self.rules, self.rest(S))

    @property
    def uses_energy(self) -> bool:
        """Whether a check of an iteration may need the energy."""
        return self.rules.error is not None or (
            self._cheap and not (self._strict or self._differentiated)
        )

    @functools.cached_property
    def energy(self) -> Array:
        """Sum of the squares of all singular values."""
        return self._energy()

    def rest(self, S: Array) -> Array | None:
        """Sum of the squares of all singular values except `S`, over ``S[0]**2``."""
        if self.rules.error is None:
            return None
        xp = namespace(S)
        ratios = S / unit(S)
        rest = self.energy / unit(S)[..., 0] ** 2 - xp.sum(ratios * ratios, axis=-1)
        return xp.where(rest > 0, rest, 0.0)

    def _settled(self, S: Array, residuals: Array, each: Array, looks: Count) -> Array:
        """Whether smaller residuals cannot change the error of the truncation.

        A residual changes a singular value by at most its norm, and by at most its square over the
        gap to the dropped values.
        """
        xp = namespace(S)
        index = xp.arange(S.shape[-1], device=device(S))
        kept, first = index < each[..., None], index == each[..., None]
        # Two lower bounds on the squared error of a truncation: the sum over the other Ritz values,
        # and the energy minus the sum over the kept ones. The second needs the entries of the
        # matrix, and rounding makes it useless if it is small.
        squares = S * S
        dropped = xp.sum(xp.where(kept, 0.0, squares), axis=-1)
        late = looks >= _PROMPT
        if self._cheap and late is not False:
            now = xp.sum(xp.where(kept, squares, 0.0), axis=-1)
            difference = self.energy * (1 - 64 * self.eps) - now
            dropped = xp.where(late & (difference > dropped), difference, dropped)
        next_one = xp.sum(xp.where(first, S + residuals, 0.0), axis=-1, keepdims=True)
        room = xp.maximum(S - next_one, residuals)
        part = xp.clip(residuals / xp.where(room > 0, room, 1.0), min=_LEAST)
        lost = xp.sum(xp.where(kept, S * residuals * part, 0.0), axis=-1)
        return lost <= self.accuracy**1.25 * dropped

    def _crowded(self, S: Array, kept: Array, copies: Count, size: Count) -> Array:
        """Whether a wanted value was found as often as the iteration can find copies of it.

        Copies of the smallest wanted value do not count: a missing copy would be as small.
        """
        xp = namespace(S)
        smallest = xp.min(xp.where(kept, S, S[..., :1]), axis=-1, keepdims=True)
        index = xp.arange(S.shape[-1], device=device(S))
        last = xp.take(S, xp.clip(index + (copies - 1), max=S.shape[-1] - 1), axis=-1)
        there = (index + copies <= size) & (copies < size)
        # Copies that were found differ by their squared residuals over the gap to other values.
        least = xp.maximum(S, self.accuracy * unit(S))
        margin = 8 * self.accuracy * (S + self.accuracy * unit(S) * (unit(S) / least))
        return xp.any(there & (S - last <= margin) & (last - smallest > margin))
