"""Truncated SVD by randomised block Krylov iteration: products with the matrix are all it needs."""

from __future__ import annotations

import functools
import math
from typing import Any

from eckart._golub_kahan import Basis, completed, extended, restarted, started, widened
from eckart._linalg import chunks, eigh, matmul, squared_norm, svd
from eckart._namespace import (
    Array,
    adjoint,
    cast,
    concrete_int,
    conjugate,
    device,
    format_of,
    is_compiled,
    is_complex,
    namespace,
    widest,
)
from eckart._operator import Operator, dense
from eckart._tolerance import Rules, count, unit
from eckart._triplets import Triplets

# Columns of a block. A product with a large matrix costs hardly less with fewer than sixteen
# columns, and from sixty-four on twice as much with twice as many.
_NARROWEST, _WIDEST = 16, 128

# Blocks of a traced iteration, which cannot look whether it has converged.
_DEPTH = 5
_OVERSAMPLING = 8

# Steps after which an iteration gives up.
_STEPS = 100

# Where the rank is not known beforehand: the one to begin as for, and the part of the space that a
# basis may fill before the full SVD is the better way.
_UNKNOWN, _SHARE = 64, 8

# Smallest relative error, in units of sqrt(eps), that is told from rounding in a sum of squares.
_SMALLEST_ERROR = 32.0

# Checks before an iteration counts as slow.
_PROMPT = 12


def krylov(
    A: Array, rules: Rules, *, accuracy: float, seed: int, spare: bool = False
) -> Triplets | None:
    """Singular triplets of `A` that `rules` keep; None where the full SVD is the better way.

    Parameters
    ----------
    A : array, shape (..., m, n)
    rules : Rules
        While values are traced, with a rank.
    accuracy : float
        Largest residual of a triplet, ``norm(A @ v - s * u)`` and its mirror image, over ``S[0]``.
    seed : int
        Of the test matrix.
    spare : bool
        Whether the next triplets are of use too, as many and as good as they are.

    Notes
    -----
    Block Krylov iteration [1]_ [2]_ in the form of Golub and Kahan, every block orthogonal to all
    before it, so that ``L = adjoint(Q) @ A @ P`` is known without another product. With these
    deviations:

    1. The iteration stops when the wanted triplets have converged, which the part of
       ``adjoint(A) @ Q`` outside of ``P`` tells for no further product, or when what a step still
       adds to the sum of their squares cannot change the error of the truncation.
    2. That part is then added to ``P``, so that the last product is used too.
    3. Directions that vanish are replaced by random ones (`orthonormal`): an invariant subspace is
       not the end, what lies outside of it comes in.
    4. A block of b columns finds b copies of a repeated singular value in exact arithmetic. Where b
       of the wanted ones agree, random columns are added to the block until fewer do.
    5. The basis is restarted from its best triplets [3]_ before it has more than
       ``6 * max(rank, 2 * b)`` columns.
    6. While values are traced the block is wider than the rank and the number of blocks is fixed.

    Handed over is a basis that would have to fill the greater part of the space, and what PyTorch's
    compiler traces: it takes more than a minute for an unrolled iteration and, in complex dtypes,
    gets it wrong.

    References
    ----------
    .. [1] C. Musco and C. Musco, "Randomized block Krylov methods for stronger and faster
       approximate singular value decomposition", NeurIPS 2015.
    .. [2] J. A. Tropp and R. J. Webber, "Randomized algorithms for low-rank matrix approximation:
       design, analysis, and applications", 2023, arXiv:2306.12418.
    .. [3] K. Wu and H. Simon, "Thick-restart Lanczos method for large symmetric eigenvalue
       problems", SIAM Journal on Matrix Analysis and Applications 22, 2000.
    """
    if is_compiled(A):
        return None
    operator, power = dense(A)
    goal = _Goal(A, rules, power, accuracy, spare=spare)
    if rules.error is not None and not _resolved(A, rules.error):
        return None
    if concrete_int(namespace(A).all(power == power)) is None:
        found = _fixed(operator, goal, seed)
    else:
        found = _converged(operator, goal, seed)
    if found is None:
        return None
    if found.spare is not None:
        U, S, Vh = found.spare
        found = found._replace(spare=(U, S / power[..., 0], Vh))
    return found._replace(S=found.S / power[..., 0])


def _resolved(A: Array, error: Any) -> bool:
    """Whether a sum of squares tells the remainder that `error` allows from rounding."""
    smallest = _SMALLEST_ERROR * math.sqrt(format_of(A).eps)
    if isinstance(error, float):
        return error >= smallest
    return concrete_int(namespace(error).all(error >= smallest)) != 0


def _fixed(operator: Operator, goal: _Goal, seed: int) -> Triplets | None:
    """Triplets after a fixed number of steps."""
    if goal.rules.rank is None:
        return None
    width = goal.rules.rank + _OVERSAMPLING
    if (_DEPTH + 1) * width > min(operator.shape[-2:]):
        return None
    basis = started(operator, width, seed=seed)
    for _ in range(_DEPTH - 1):
        basis = extended(operator, basis)
    return _triplets(basis, goal)


def _converged(operator: Operator, goal: _Goal, seed: int) -> Triplets | None:
    """Triplets that have converged, or what there is when the patience ends."""
    rank, k = goal.rules.rank, min(operator.shape[-2:])
    width = min(_WIDEST, max(_NARROWEST, (rank or min(_UNKNOWN, k // 16)) // 2))
    most = k // _SHARE if rank is None else min(6 * max(rank, 2 * width), k - width)
    if (rank or 0) + 3 * width > most:
        return None
    basis = started(operator, width, seed=seed)
    for step in range(1, _STEPS):
        if basis.size >= (rank or 0):
            if goal.reached(basis, step):
                return _triplets(basis, goal)
            if goal.crowded:
                basis = widened(basis)
        if basis.size + basis.width > most:
            keep = goal.wanted + basis.width
            if keep + 2 * basis.width > most:
                return None
            X, S, Yh = svd(basis.L)
            basis = restarted(basis, X[..., :keep], S[..., :keep], Yh[..., :keep, :])
        basis = extended(operator, basis)
    return _triplets(basis, goal)._replace(residual=goal.residual)


class _Goal:
    """Which triplets are wanted, and whether a basis has them."""

    def __init__(
        self, A: Array, rules: Rules, power: Array, accuracy: float, *, spare: bool
    ) -> None:
        xp = namespace(A)
        self.rules, self.accuracy, self.spare = rules, accuracy, spare
        self.finite = xp.isfinite(power[..., 0, 0])
        self.factor = power[..., 0]
        self.A, self.power = A, power
        self.wanted = rules.rank or 0
        self.crowded = False
        self.residual = 0.0
        self._history: list[tuple[Array, Array]] = []  # counts and sums of squares at each check
        self._patient = 0

    def reached(self, basis: Basis, step: int) -> bool:
        """Whether the wanted ones of the Ritz triplets after a step have converged."""
        S, last = _ritz(basis)
        xp = namespace(S)
        counts = self.counts(S)
        each = xp.clip(counts + int(self.rules.judge_zero), max=S.shape[-1])
        self.wanted = concrete_int(xp.max(each)) or 0
        kept = xp.arange(S.shape[-1], device=device(S)) < each[..., None]
        largest = xp.max(xp.where(kept, _residuals(basis, last), 0.0), axis=-1)
        # The recurrence goes on to fall when rounding has long stopped the residual itself.
        largest = largest + 2 * format_of(self.A).eps * S[..., 0]
        converged = largest <= self.accuracy * S[..., 0]
        known = (counts < S.shape[-1]) | ~self.finite | self.rules.fixed
        done = concrete_int(xp.all(known & (converged | self._settled(S, each)))) == 1
        if not done:
            self.residual = float(xp.max(largest / unit(S)[..., 0]))
        self.crowded = done and self._crowded(S, kept, basis.width)
        if self.crowded:
            self._patient = 2 * step  # what is new shall have as many steps as the first block
        return done and not self.crowded and step >= self._patient

    def counts(self, S: Array) -> Array:
        """How many of the Ritz values `S` the rules keep; all, where the matrix is not finite."""
        return count(S / cast(self.factor, S.dtype), self.rules, self.rest(S))

    @functools.cached_property
    def energy(self) -> Array:
        """Sum of the squares of all singular values."""
        return sum(squared_norm(widest(part * self.power)) for (part,) in chunks(self.A))

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
        if len(self._history) > _PROMPT:
            difference = self.energy * (1 - 64 * format_of(self.A).eps) - now
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
        if width >= S.shape[-1]:
            return False
        smallest = xp.min(xp.where(kept, S, S[..., :1]), axis=-1, keepdims=True)
        first, last = S[..., : -width + 1], S[..., width - 1 :]
        margin = 8 * self.accuracy * first
        agree = (first - last <= margin) & (last - smallest > margin)
        return concrete_int(xp.any(agree)) == 1


def _ritz(basis: Basis) -> tuple[Array, Array]:
    """Ritz values, descending, and what their left vectors have in the last block of ``Q``."""
    L, b = basis.L, basis.width
    xp = namespace(L)
    wide = widest(L)
    if wide.dtype == L.dtype:
        X, S, _ = svd(L)
        return S, X[..., -b:, :]
    # Squaring costs half the digits, which are more than single precision has, and half the time.
    squares, Y = (xp.flip(part, axis=-1) for part in eigh(matmul(adjoint(wide), wide)))
    S = xp.sqrt(xp.where(squares > 0, squares, 0.0))
    floor = format_of(L).eps * S[..., :1]
    floor = xp.where(floor > 0, floor, 1.0)
    return S, matmul(wide[..., -b:, :], Y) / xp.where(S > floor, S, floor)[..., None, :]


def _residuals(basis: Basis, last: Array) -> Array:
    """Norm of ``adjoint(A) @ u - s * v`` for each Ritz triplet; ``A @ v - s * u`` is zero."""
    xp = namespace(last)
    G = cast(matmul(adjoint(basis.remainder), basis.remainder), last.dtype)
    squares = xp.sum(conjugate(last) * matmul(G, last), axis=-2)
    squares = xp.real(squares) if is_complex(last) else squares
    return xp.sqrt(xp.where(squares > 0, squares, 0.0))


def _triplets(basis: Basis, goal: _Goal) -> Triplets:
    """The Ritz triplets of a basis that the goal keeps."""
    P, Q, R = completed(basis)
    X, S, Yh = svd(R)
    found = None if goal.rules.fixed else concrete_int(namespace(S).max(goal.counts(S)))
    rank = goal.rules.rank if found is None else found
    rank = S.shape[-1] if rank is None else rank
    end = min(2 * rank, S.shape[-1]) if goal.spare else rank
    U, Vh = matmul(Q, X[..., :end]), matmul(Yh[..., :end, :], adjoint(P))
    others = U[..., rank:], S[..., rank:end], Vh[..., rank:, :]
    S = S[..., :rank]
    return Triplets(
        *(U[..., :rank], S, Vh[..., :rank, :]),
        rest=goal.rest(S),
        spare=others if goal.spare else None,
    )
