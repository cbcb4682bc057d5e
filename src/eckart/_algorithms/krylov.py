"""Truncated SVD by randomised block Krylov iteration, from products with the matrix."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from eckart._algorithms.goal import Goal, is_resolved
from eckart._algorithms.golub_kahan import TwoSided, has_fixed_size
from eckart._algorithms.iteration import ROOM, Space, State, iterated
from eckart._algorithms.lanczos import OneSided
from eckart._algorithms.rules import Rules
from eckart._algorithms.triplets import Triplets
from eckart._arrays.control import compiled, when
from eckart._arrays.linalg import matmul, qr, svd
from eckart._arrays.namespace import (
    Array,
    adjoint,
    cast,
    concrete_int,
    format_of,
    is_plain,
    namespace,
    pieces,
)
from eckart._arrays.sketch import gaussian
from eckart._arrays.spectra import unit
from eckart._matrices import Matrix, of_parts

# Columns of a block. A product with a large matrix costs about the same for up to sixteen columns.
# From sixty-four columns on the cost is proportional to the number of columns.
_NARROWEST, _WIDEST = 16, 128

# Without a given rank: the rank that sets the width of a block, and the share of the space that a
# basis may fill, as one over an integer, before the full SVD is better.
_UNKNOWN, _SHARE = 64, 8

# A pass over the data costs as much as some fifty columns of a product. So a block has twice as
# many columns as the rank, between two bounds. If four blocks fill the space, the first one fills
# it. The last number is the rank that sets the width if no rank is given.
_LEAST, _MOST = 32, 256
_FILLED, _UNKNOWN_OF_PASSES = 4, 32

# Steps that every iteration may take. Nearly all iterations that converge take fewer.
_PATIENT = 24

# Additional right vectors from one side, which improve the last wanted ones.
_SPARE = 8

# Entries of a linear operator up to which the full SVD may replace the iteration.
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
    """Singular triplets of `A` that `rules` keep; None if the full SVD is better.

    Parameters
    ----------
    A : Matrix, shape (..., m, n)
    rules : Rules
        Rules with a rank if values are traced.
    accuracy : float
        Largest residual of a triplet over ``S[0]``: ``norm(A @ v - s * u)`` and
        ``norm(adjoint(A) @ u - s * v)``.
    seed : int
        Seed of the random test matrix.
    strict : bool
        Whether the residuals have to meet `accuracy` also if this cannot change the error.
    spare : bool
        Whether a derivative may follow. The derivative needs residuals that are small relative to
        the gap to the dropped values. It also uses approximations to as many further triplets.

    Notes
    -----
    Block Krylov iteration [1]_ [2]_ in the form of Golub and Kahan. Every block is orthogonal to
    all previous ones, so ``L = adjoint(Q) @ A @ P`` needs no further product. The deviations are:

    1. The iteration stops when the wanted triplets have converged. The part of ``adjoint(A) @ Q``
       outside of ``P`` gives the residuals without a further product. If `strict` is False, the
       iteration also stops when smaller residuals cannot change the error of the truncation.
    2. At the end this part is added to ``P``, so that the last product is used too.
    3. Directions that vanish are replaced by random ones (`orthonormal`). So an invariant subspace
       does not end the iteration.
    4. A block of b columns finds b copies of a repeated singular value in exact arithmetic. If b
       of the wanted values agree, the iteration keeps its triplets and continues with a random
       block, until no further copies appear.
    5. The basis is restarted from its best triplets [3]_ before it has more than
       ``6 * max(rank, 2 * b)`` columns. If the iteration is slow, the bound is up to four times
       as large.
    6. On JAX the iteration is a loop within one compiled program. The arrays have their final size
       from the start, and the bound of a slow iteration does not grow.
    7. For a linear operator only ``P`` is kept, by the iteration on the Gram matrix (`lanczos`),
       with blocks half as wide: products often cost no more than keeping ``Q`` orthogonal. Both
       bases are kept if squares are not accurate enough, for a stack, and without a rank.

    The result is None if a basis would fill the greater part of the space, if the iteration has
    cost as much as the full SVD and the matrix is not too large for the full SVD, and for arrays
    that PyTorch traces.

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
    space = _space(A, rules)
    if space is None or (rules.error is not None and not is_resolved(like, rules.error)):
        return None
    how: dict[str, Any] = {"accuracy": accuracy, "seed": seed, "strict": strict, "spare": spare}
    if has_fixed_size(A):
        return _of_fixed_size(A, rules, space, **how)
    operator, goal = _goal(A, rules, **how)
    if concrete_int(namespace(like).all(goal.finite)) is None:
        return None
    found = None
    if A.by_products and len(A.shape) == 2 and rules.rank is not None:
        width = space.width // 2
        half = Space(width, None, max(A.shape), _patience(A, width, space.most // 2))
        found, given_up = _one_sided(operator, goal, seed, half)
        if given_up:
            return None
    if found is None:
        sides = TwoSided(operator, seed)
        state = iterated(sides, sides.begun(space.width), goal, space)
        if state.given_up:
            return None
        found = _triplets(*sides.completed(state.basis), goal, spare=spare)
        found = found._replace(residual=_residual(state))
    return _rescaled(found, goal)


def _goal(
    A: Matrix, rules: Rules, *, accuracy: float, seed: int, strict: bool, spare: bool
) -> tuple[Matrix, Goal]:
    """The matrix times a power of two, and the goal of an iteration."""
    operator, power = A.scaled()
    return operator, Goal(
        like=operator.like,
        rules=rules,
        power=power,
        # Half the accuracy: the last step changes the residuals once more.
        accuracy=max(0.5 * accuracy if strict else accuracy, 4 * format_of(operator.like).eps),
        energy=operator.energy,
        cheap=operator.knows_energy,
        strict=strict,
        differentiated=spare,
    )


def _residual(state: State) -> float | None:
    """The largest residual over ``S[0]``; None if the state, which is not traced, has converged."""
    return None if state.verdict.done else float(state.verdict.relative_residual)


def _rescaled(found: Triplets, goal: Goal) -> Triplets:
    """The triplets of the matrix before it was scaled."""
    if found.spare is not None:
        U, S, Vh = found.spare
        found = found._replace(spare=(U, S / goal.factor, Vh))
    return found._replace(S=found.S / goal.factor)


def _of_fixed_size(A: Matrix, rules: Rules, space: Space, **how: Any) -> Triplets | None:
    """The triplets by one program that JAX compiles, or as a part of the traced program."""
    if rules.rank is None and not is_plain(A.like):
        return None
    if not A.parts or not all(map(is_plain, A.parts)):
        found, state = _in_a_trace(A, rules, space, **how)
        if not is_plain(state.step):
            return (
                None if rules.rank is None else _exact_if_late(A, found, state, spare=how["spare"])
            )
    else:
        how |= {"rank": rules.rank, "space": space}
        program = compiled(_program, tuple(how))
        found, state = program(A.parts, rules._replace(rank=None), **how)
    if concrete_int(state.given_up) == 1:
        return None
    if concrete_int(state.verdict.done) == 1:
        return found
    return found._replace(residual=float(state.verdict.relative_residual))


def _program(parts: Any, rules: Rules, *, rank: int | None, space: Space, **how: Any) -> Any:
    """The iteration that JAX compiles once for every shape and rank."""
    return _in_a_trace(of_parts(parts), rules._replace(rank=rank), space, **how)


def _in_a_trace(
    A: Matrix, rules: Rules, space: Space, *, seed: int, spare: bool, **how: Any
) -> tuple[Triplets, State]:
    """Triplets from arrays of a fixed size, and the final state of the iteration."""
    operator, goal = _goal(A, rules, seed=seed, spare=spare, **how)
    if goal.uses_energy:
        _ = goal.energy  # computed before the loop, which would compute it in every step
    sides = TwoSided(operator, seed)
    capacity = space.usual or space.most
    basis = sides.begun(space.width, capacity=capacity)
    state = iterated(sides, basis, goal, space._replace(most=capacity))
    found = _triplets(*sides.completed(state.basis), goal, spare=spare)
    state = state._replace(basis=None)
    return _rescaled(found, goal), state


def _exact_if_late(A: Matrix, found: Triplets, state: State, *, spare: bool) -> Triplets:
    """The triplets, in a trace replaced by those of the full SVD if they have not converged.

    If the full SVD is not possible, they are marked as doubtful, which makes a derivative NaN.
    """
    late = ~state.verdict.done

    def exact(found: Triplets) -> Triplets:
        U, S, Vh = A.svd(found.S.shape[-1])
        width = found.S.shape[-1]
        if found.rest is not None:
            ratios = cast(S[..., width:] / unit(S), found.rest.dtype)
            found = found._replace(rest=namespace(S).sum(ratios * ratios, axis=-1))
        if found.spare is not None:
            end = width + found.spare[1].shape[-1]
            found = found._replace(
                spare=(U[..., width:end], S[..., width:end], Vh[..., width:end, :])
            )
        return found._replace(U=U[..., :width], S=S[..., :width], Vh=Vh[..., :width, :])

    if A.parts and pieces(A.like) == 1:
        return when(late, exact, found)
    if spare and 0 not in found.S.shape:
        return found._replace(doubtful=~state.verdict.converged)
    return found


def _space(A: Matrix, rules: Rules) -> Space | None:
    """The sizes of an iteration with bases of both sides; None if the bases would be too large."""
    rank, k = rules.rank, min(A.shape[-2:])
    width = min(_WIDEST, max(_NARROWEST, (rank or min(_UNKNOWN, k // 16)) // 2))
    usual = k // _SHARE if rank is None else min(ROOM * max(rank, 2 * width), k - width)
    if (rank or 0) + 3 * width > usual:
        return None
    return Space(width, usual, max(usual, k // 2), _patience(A, width, usual))


def _patience(A: Matrix, width: int, most: int) -> float:
    """Number of steps that cost as much as the full SVD.

    The full SVD takes ``20 * m * n * min(m, n)`` operations. A step takes ``4 * m * n * width`` for
    products, at a quarter of the speed, and ``10 * most**3`` for a check.
    """
    m, n = A.shape[-2:]
    if A.by_products and math.prod(A.shape) > _FORMED:
        return math.inf
    return max(_PATIENT, 20 * min(m, n) / (16 * width + 10 * most**3 / (m * n)))


class _Squared(NamedTuple):
    """The Gram matrix of a linear operator, which is not formed."""

    operator: Matrix

    @property
    def can_widen(self) -> bool:
        """Whether products can be computed in a wider dtype."""
        return False

    @property
    def eps(self) -> float:
        """The precision that products are rounded to."""
        return format_of(self.operator.like).eps

    def product(self, X: Array) -> Array:
        """``adjoint(A) @ A @ X``."""
        return self.operator.gram_matmul(X)


def _one_sided(
    operator: Matrix, goal: Goal, seed: int, space: Space
) -> tuple[Triplets | None, bool]:
    """Triplets from a basis of the short side alone, and whether the full SVD is better.

    The triplets are None if they would not be accurate. Rounding leaves residuals of some ``eps *
    S[0]**2 / s``. Their squares change a singular value, but by at most ``eps * S[0]`` if ``s`` is
    above ``cbrt(eps) * S[0]``.
    """
    m, n = operator.shape
    if m < n:
        found, given_up = _one_sided(operator.adjoint(), goal, seed, space)
        if found is not None:
            found = found._replace(U=adjoint(found.Vh), Vh=adjoint(found.U))
        return found, given_up
    sides = OneSided(_Squared(operator), seed)
    eps = sides.gram.eps
    if eps >= goal.accuracy:
        return None, False
    P = qr(gaussian(n, space.width, like=operator.like, seed=seed))[0]
    state = iterated(sides, sides.begun(P, sides.gram.product(P)), goal, space)
    if state.given_up:
        return None, True
    V = sides.completed(state.basis, state.verdict.wanted + _SPARE)
    Q, R = qr(operator.matmul(V))
    X, S, Yh = svd(R)
    floor = max(eps ** (1 / 3), eps / goal.accuracy) * S[:1]
    if concrete_int(namespace(S).all(S[: state.verdict.wanted] > floor)) != 1:
        return None, False
    found = _triplets(matmul(Q, X), S, matmul(Yh, adjoint(V)), goal, spare=False)
    return found._replace(residual=_residual_of_one_side(state, sides, goal)), False


def _residual_of_one_side(state: State, sides: OneSided, goal: Goal) -> float | None:
    """The largest residual over ``S[0]``, from rounding too; None if it meets the accuracy."""
    residual = _residual(state)
    if residual is not None or not state.verdict.blurred:
        return residual
    S, _, rounding = sides.ritz(state.basis)
    rounded = float(namespace(S).max(rounding[: state.verdict.wanted] / S[:1]))
    return rounded if rounded > goal.accuracy else None


def _in_few_passes(
    A: Matrix, gram: Any, rules: Rules, *, accuracy: float, seed: int, strict: bool
) -> Triplets | None:
    """Triplets of a matrix in few passes over the data; None if squares cannot resolve `error`.

    Every step of a block Lanczos iteration is one pass, `gram.product`. The last pass multiplies
    the matrix with the right vectors. The QR factorization of this product makes the triplets as
    accurate as the right vectors, and ``U`` orthonormal.
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
    sides, space = OneSided(gram, seed), Space(P.shape[-1], None, P.shape[0])
    state = iterated(sides, sides.begun(P, W), goal, space)
    if state.verdict.blurred and gram.can_widen:
        gram.widen()
        P = sides.completed(state.basis, P.shape[-1])
        state = iterated(sides, sides.begun(P, gram.product(P)), goal, space)
    V = sides.completed(state.basis, state.verdict.wanted + _SPARE)
    Q, R = gram.factored(V)
    X, S, Yh = svd(R)
    rank = rules.rank if rules.fixed else min(int(goal.counts(S)), S.shape[-1])
    X, S, Yh = X[:, :rank], S[:rank], Yh[:rank, :]
    inner, outer = matmul(V, adjoint(Yh)), gram.left(Q, X, like.dtype)
    U, Vh = (inner, outer.T.conj()) if gram.turned else (outer, adjoint(inner))
    residual = _residual_of_one_side(state, sides, goal)
    return Triplets(U, S / gram.power[..., 0], Vh, goal.rest(S), residual=residual)


def _first_block(n: int, rules: Rules, *, like: Array, seed: int) -> Array:
    """The first block: random columns, or the identity if a few blocks would fill the space."""
    rank = _UNKNOWN_OF_PASSES if rules.rank is None else rules.rank
    width = min(_MOST, max(_LEAST, 2 * rank), n)
    if n <= _FILLED * width:
        return np.eye(n, dtype=like.dtype)
    return qr(gaussian(n, width, like=like, seed=seed))[0]


def _not_finite(A: Matrix, rank: int) -> Triplets:
    """NaN singular values and zero vectors, for a matrix with a NaN or an infinity."""
    U, Vh = (np.zeros(shape, dtype=A.dtype) for shape in ((A.shape[0], rank), (rank, A.shape[1])))
    return Triplets(U, np.full(rank, np.nan, dtype=U.real.dtype), Vh)


def _triplets(U: Array, S: Array, Vh: Array, goal: Goal, *, spare: bool) -> Triplets:
    """The triplets that the goal keeps, and spare ones."""
    counted = None if goal.rules.fixed else concrete_int(namespace(S).max(goal.counts(S)))
    rank = goal.rules.rank if counted is None else counted
    rank = S.shape[-1] if rank is None else rank
    end = min(2 * rank, S.shape[-1])
    return Triplets(
        *(U[..., :rank], S[..., :rank], Vh[..., :rank, :]),
        rest=goal.rest(S[..., :rank]),
        spare=(U[..., rank:end], S[..., rank:end], Vh[..., rank:end, :]) if spare else None,
    )
