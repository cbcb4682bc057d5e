"""Truncated SVD by randomised block Krylov iteration: products with the matrix are all it needs."""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numpy as np

from eckart._basis import norms_of_product
from eckart._goal import STEPS, Goal, gap, is_resolved, room
from eckart._golub_kahan import Basis, completed, extended, restarted, started, widened
from eckart._lanczos import lanczos
from eckart._linalg import column_norms, eigh, matmul, qr, svd, svdvals
from eckart._matrices import Matrix
from eckart._namespace import (
    Array,
    adjoint,
    concrete_int,
    device,
    format_of,
    is_compiled,
    namespace,
    widest,
)
from eckart._sketch import gaussian
from eckart._tolerance import Rules
from eckart._triplets import Triplets

# Columns of a block. A product with a large matrix costs hardly less with fewer than sixteen
# columns, and from sixty-four on twice as much with twice as many.
_NARROWEST, _WIDEST = 16, 128

# Blocks of a traced iteration, which cannot look whether it has converged.
_DEPTH = 5
_OVERSAMPLING = 8

# Where the rank is not known beforehand: the one to begin as for, and the part of the space that a
# basis may fill before the full SVD is the better way.
_UNKNOWN, _SHARE = 64, 8

# A pass over the data costs as much as some fifty columns of a product. So a block has twice the
# rank of columns, between two bounds, and if four blocks fill the space it is filled at once. The
# last one is the rank to begin as for if no rank is known.
_LEAST, _MOST = 32, 256
_FILLED, _UNKNOWN_OF_PASSES = 4, 32

# Steps that every iteration is given: nearly all that converge do so in fewer.
_PATIENT = 24

# Entries of a matrix known by its products up to which the full SVD is taken in the end.
_FORMED = 2**24


def krylov(
    A: Matrix,
    rules: Rules,
    *,
    accuracy: float,
    seed: int,
    strict: bool = True,
    spare: bool = False,
) -> Triplets | None:
    """Singular triplets of `A` that `rules` keep; None where the full SVD is the better way.

    Parameters
    ----------
    A : Matrix, shape (..., m, n)
    rules : Rules
        While values are traced, with a rank.
    accuracy : float
        Largest residual of a triplet, ``norm(A @ v - s * u)`` and its mirror image, over ``S[0]``.
    seed : int
        Of the test matrix.
    strict : bool
        Whether the residuals must be as small, also where that cannot change the error.
    spare : bool
        Whether there will be a derivative: it needs residuals that are small beside the gap to the
        dropped values, and has a use for the next triplets too, as many and as good as they are.

    Notes
    -----
    Block Krylov iteration [1]_ [2]_ in the form of Golub and Kahan, every block orthogonal to all
    before it, so that ``L = adjoint(Q) @ A @ P`` is known without another product. With these
    deviations:

    1. The iteration stops when the wanted triplets have converged, which the part of
       ``adjoint(A) @ Q`` outside of ``P`` tells for no further product, or, unless it is strict,
       when what the residuals leave open cannot change the error of the truncation.
    2. That part is then added to ``P``, so that the last product is used too.
    3. Directions that vanish are replaced by random ones (`orthonormal`): an invariant subspace is
       not the end, what lies outside of it comes in.
    4. A block of b columns finds b copies of a repeated singular value in exact arithmetic. Where b
       of the wanted ones agree, random columns are added to the block until fewer do.
    5. The basis is restarted from its best triplets [3]_ before it has more than
       ``6 * max(rank, 2 * b)`` columns, up to four times as many when it is slow.
    6. While values are traced the block is wider than the rank and the number of blocks is fixed.
    7. Of an operator, whose products often cost no more than keeping ``Q`` orthogonal, ``P`` alone
       is kept, by the iteration on the Gram matrix (`lanczos`), with blocks half as wide. Bases of
       both sides are made where squares are not accurate enough, for a stack, and without a rank.

    Handed over is a basis that would have to fill the greater part of the space, an iteration that
    has cost as much as the full SVD, of a matrix that is not too large for that, and what PyTorch's
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
    passes, like = A.passes(), A.like
    if passes is not None:
        return _in_few_passes(A, passes, rules, accuracy=accuracy, seed=seed, strict=strict)
    if is_compiled(like):
        return None
    if rules.error is not None and not is_resolved(like, rules.error):
        return None
    operator, power = A.scaled()
    goal = functools.partial(
        Goal,
        like=operator.like,
        rules=rules,
        power=power,
        # Some way below what has to hold: the last step changes the residuals once more.
        accuracy=max(0.5 * accuracy if strict else accuracy, 4 * format_of(operator.like).eps),
        energy=functools.cache(operator.energy),
        cheap=operator.knows_energy,
        strict=strict,
        differentiated=spare,
    )
    if concrete_int(namespace(like).all(power == power)) is None:
        found = _fixed(operator, goal(), seed, spare=spare)
    elif (space := _space(operator, rules)) is None:
        return None
    else:
        found = None
        if A.by_products and len(A.shape) == 2 and rules.rank is not None:
            half = _Space(space.width // 2, space.most // 2)
            aim = goal(patience=_patience(A, half))
            found = _one_sided(operator, aim, seed, half.width)
            if aim.overdue:
                return None
        if found is None:
            aim = goal(patience=_patience(A, space))
            found = _two_sided(operator, aim, seed, *space, spare=spare)
    if found is None:
        return None
    if found.spare is not None:
        U, S, Vh = found.spare
        found = found._replace(spare=(U, S / power[..., 0], Vh))
    return found._replace(S=found.S / power[..., 0])


def _fixed(operator: Matrix, goal: Goal, seed: int, *, spare: bool) -> Triplets | None:
    """Triplets after a fixed number of steps."""
    if goal.rules.rank is None:
        return None
    width = goal.rules.rank + _OVERSAMPLING
    if (_DEPTH + 1) * width > min(operator.shape[-2:]):
        return None
    basis = started(operator, width, seed=seed)
    for _ in range(_DEPTH - 1):
        basis = extended(operator, basis)
    found = _triplets(*completed(basis), goal, spare=spare)
    if spare and goal.rules.rank > 0:
        found = found._replace(doubtful=_doubtful(operator, found, goal))
    return found


def _doubtful(operator: Matrix, found: Triplets, goal: Goal) -> Array:
    """Whether a derivative of the truncation would be off by more than a hundredth, shape (...)."""
    assert found.spare is not None
    xp = namespace(found.S)
    S = xp.concat([found.S, found.spare[1]], axis=-1)
    each = xp.clip(goal.counts(S), max=found.S.shape[-1])
    # The residuals of the mirror image are zero.
    residuals = operator.matmul(adjoint(found.Vh)) - found.U * found.S[..., None, :]
    kept = xp.arange(found.S.shape[-1], device=device(S)) < each[..., None]
    largest = xp.max(xp.where(kept, column_norms(residuals)[..., 0, :], 0.0), axis=-1)
    return largest > xp.maximum(0.01 * gap(S, each), 16 * goal.eps * S[..., 0])


class _Space(NamedTuple):
    """How many columns a block has, and a basis at most."""

    width: int
    most: int


def _space(operator: Matrix, rules: Rules) -> _Space | None:
    """What an iteration that looks whether it has converged takes; None where that is too much."""
    rank, k = rules.rank, min(operator.shape[-2:])
    width = min(_WIDEST, max(_NARROWEST, (rank or min(_UNKNOWN, k // 16)) // 2))
    most = k // _SHARE if rank is None else min(6 * max(rank, 2 * width), k - width)
    return None if (rank or 0) + 3 * width > most else _Space(width, most)


def _patience(A: Matrix, space: _Space) -> float:
    """Steps that cost as much as the full SVD.

    That takes 20 operations an entry and column, products four, slow ones, and each look at the
    basis ten an entry of its cube.
    """
    m, n = A.shape[-2:]
    if A.by_products and math.prod(A.shape) > _FORMED:
        return math.inf
    steps = 20 * min(m, n) / (16 * space.width + 10 * space.most**3 / (m * n))
    return max(_PATIENT, steps)


class _Squared(NamedTuple):
    """The Gram matrix of an operator, by its products."""

    operator: Matrix

    @property
    def eps(self) -> float:
        """What products are rounded to."""
        return format_of(self.operator.like).eps

    def product(self, X: Array) -> Array:
        """``adjoint(A) @ A @ X``."""
        return self.operator.gram_matmul(X)

    def widen(self) -> bool:
        """Products have no more digits than they are given."""
        return False


def _one_sided(operator: Matrix, goal: Goal, seed: int, width: int) -> Triplets | None:
    """Triplets from a basis of the short side alone; None where that is not accurate.

    Rounding leaves residuals of some ``eps * S[0]**2 / s``, and by their squares moves a singular
    value: no more than by ``eps * S[0]`` while ``s`` is above ``cbrt(eps) * S[0]``.
    """
    m, n = operator.shape
    if m < n:
        found = _one_sided(operator.adjoint(), goal, seed, width)
        if found is None:
            return None
        return found._replace(U=adjoint(found.Vh), Vh=adjoint(found.U))
    gram = _Squared(operator)
    if gram.eps >= goal.accuracy:
        return None
    P = qr(gaussian(n, width, like=operator.like, seed=seed))[0]
    V, residual = lanczos(gram, P, gram.product(P), goal, seed=seed)
    Q, R = qr(operator.matmul(V))
    S = svdvals(R)
    floor = max(gram.eps ** (1 / 3), gram.eps / goal.accuracy) * S[:1]
    if concrete_int(namespace(S).all(S[: goal.wanted] > floor)) != 1:
        return None
    return _triplets(V, Q, R, goal, spare=False)._replace(residual=residual)


def _in_few_passes(
    A: Matrix, gram: Any, rules: Rules, *, accuracy: float, seed: int, strict: bool
) -> Triplets | None:
    """Triplets of a matrix whose passes cost more than products; None where squares do not tell.

    Every step of a block Lanczos iteration is one pass, `gram.product`. The last pass multiplies
    the matrix with the right vectors. The QR factorization of that product makes the triplets as
    exact as the vectors are, and ``U`` orthonormal.
    """
    like, wide = (np.empty(0, dtype=dtype) for dtype in (gram.dtype, gram.wide))
    if rules.error is not None and not is_resolved(wide, rules.error):
        return None
    if rules.error is not None and not is_resolved(like, rules.error):
        gram.widen()
    P = _first_block(min(A.shape), rules, like=wide, seed=seed)
    W = gram.product(P)
    if not np.all(np.isfinite(gram.power)):
        return _not_finite(A, 1 if rules.rank is None else rules.rank)
    goal = Goal(
        like=np.empty(0, dtype=gram.dtype),
        rules=rules,
        power=gram.power,
        accuracy=accuracy,
        energy=lambda: gram.squared_norm,
        cheap=True,
        strict=strict,
    )
    V, residual = lanczos(gram, P, W, goal, seed=seed)
    Q, R = gram.factored(V)
    X, S, Yh = svd(R)
    rank = rules.rank if rules.fixed else min(int(goal.counts(S)), S.shape[-1])
    X, S, Yh = X[:, :rank], S[:rank], Yh[:rank, :]
    inner, outer = matmul(V, adjoint(Yh)), gram.left(Q, X, like.dtype)
    U, Vh = (inner, outer.T.conj()) if gram.turned else (outer, adjoint(inner))
    return Triplets(U, S / gram.power[..., 0], Vh, goal.rest(S), residual=residual)


def _first_block(n: int, rules: Rules, *, like: Array, seed: int) -> Array:
    """The columns to begin with: random, or the identity where they would soon fill the space."""
    rank = _UNKNOWN_OF_PASSES if rules.rank is None else rules.rank
    width = min(_MOST, max(_LEAST, 2 * rank), n)
    if n <= _FILLED * width:
        return np.eye(n, dtype=like.dtype)
    return qr(gaussian(n, width, like=like, seed=seed))[0]


def _not_finite(A: Matrix, rank: int) -> Triplets:
    """What stands for the triplets of a matrix with a NaN or an infinity."""
    U, Vh = (np.zeros(shape, dtype=A.dtype) for shape in ((A.shape[0], rank), (rank, A.shape[1])))
    return Triplets(U, np.full(rank, np.nan, dtype=U.real.dtype), Vh)


def _two_sided(
    operator: Matrix, goal: Goal, seed: int, width: int, most: int, *, spare: bool
) -> Triplets | None:
    """Triplets from bases of both sides, or what there is when the patience ends."""
    basis = started(operator, width, seed=seed)
    limit = max(most, min(operator.shape[-2:]) // 2)
    for step in range(1, STEPS):
        if basis.size >= (goal.rules.rank or 0):
            S, last = _ritz(basis)
            if goal.reached(S, norms_of_product(basis.remainder, last), basis.width, step):
                return _triplets(*completed(basis), goal, spare=spare)
            if goal.is_overdue(step):
                return None
            if goal.crowded:
                basis = widened(basis)
        if basis.size + basis.width > min(room(step) * most, limit):
            keep = goal.wanted + basis.width
            if keep + 2 * basis.width > most:
                return None
            X, S, Yh = svd(basis.L)
            basis = restarted(basis, X[..., :keep], S[..., :keep], Yh[..., :keep, :])
        basis = extended(operator, basis)
    return _triplets(*completed(basis), goal, spare=spare)._replace(residual=goal.residual)


def _ritz(basis: Basis) -> tuple[Array, Array]:
    """Ritz values, descending, and what their left vectors have in the last block of ``Q``.

    ``A @ v - s * u`` is zero, and ``adjoint(A) @ u - s * v`` that part of the remainder.
    """
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


def _triplets(P: Array, Q: Array, R: Array, goal: Goal, *, spare: bool) -> Triplets:
    """The triplets of ``Q @ R @ adjoint(P)`` that the goal keeps."""
    X, S, Yh = svd(R)
    found = None if goal.rules.fixed else concrete_int(namespace(S).max(goal.counts(S)))
    rank = goal.rules.rank if found is None else found
    rank = S.shape[-1] if rank is None else rank
    end = min(2 * rank, S.shape[-1]) if spare else rank
    U, Vh = matmul(Q, X[..., :end]), matmul(Yh[..., :end, :], adjoint(P))
    others = U[..., rank:], S[..., rank:end], Vh[..., rank:, :]
    S = S[..., :rank]
    return Triplets(
        *(U[..., :rank], S, Vh[..., :rank, :]),
        rest=goal.rest(S),
        spare=others if spare else None,
    )
