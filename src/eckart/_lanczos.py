"""Block Lanczos iteration on the Gram matrix, for a matrix that takes long to read.

A product with ``adjoint(A) @ A`` takes one reading of ``A``, and nothing of its long side is kept.
"""

from __future__ import annotations

import math
from typing import Protocol

from eckart._basis import orthonormal, project_out
from eckart._goal import Goal
from eckart._linalg import column_norms, eigh, matmul, qr, root, svd
from eckart._namespace import Array, adjoint, concrete_int, device, namespace
from eckart._sketch import gaussian
from eckart._tolerance import Rules, unit

# Columns of a block: twice the rank, for reading costs as much as some fifty columns of a product.
_NARROWEST, _WIDEST = 32, 256
# The rank to begin as for, where it is not known.
_UNKNOWN = 32
# A space that so many blocks would fill is filled at once.
_FILLED = 4
# Steps after which an iteration gives up, and how many times what is wanted it may keep.
_STEPS, _ROOM = 50, 6
# Right vectors beyond those that are wanted, to make the last of these better.
_SPARE = 8


class Gram(Protocol):
    """The product with ``adjoint(A) @ A``."""

    @property
    def eps(self) -> float:
        """What it is rounded to."""

    def product(self, X: Array) -> Array:
        """``adjoint(A) @ A @ X``, in the dtype of `X`."""

    def widen(self) -> bool:
        """Compute in more digits from now on; False where there are none."""


def first_block(n: int, rules: Rules, *, like: Array, seed: int) -> Array:
    """The columns to begin with: random, or the identity where they would soon fill the space."""
    xp = namespace(like)
    rank = _UNKNOWN if rules.rank is None else rules.rank
    width = min(_WIDEST, max(_NARROWEST, 2 * rank), n)
    if n <= _FILLED * width:
        return xp.eye(n, dtype=like.dtype, device=device(like))
    return qr(gaussian(n, width, like=like, seed=seed))[0]


def lanczos(gram: Gram, P: Array, W: Array, goal: Goal, *, seed: int) -> tuple[Array, float | None]:
    """Right vectors of what a goal wants of a matrix, and some more.

    Parameters
    ----------
    gram : Gram
    P : array, shape (n, b)
        Orthonormal columns to begin with.
    W : array, shape (n, b)
        ``gram.product(P)``.
    goal : Goal
    seed : int
        Of the test matrices that take the place of what vanishes.

    Returns
    -------
    V : array, shape (n, r)
        Orthonormal columns.
    residual : float, optional
        Largest residual of a wanted triplet over ``S[0]``, where it is above the accuracy.

    Notes
    -----
    The iteration of Golub and Underwood [1]_ with full reorthogonalisation and thick restarts [2]_,
    with these deviations:

    1. The Rayleigh quotient is computed in full, so that it holds whatever the blocks are.
    2. The products of the last step are not left unused. With ``Q`` an orthonormal basis of
       ``A @ P``, what is returned are the leading left singular vectors of ``adjoint(A) @ Q``, a
       step of the power method further than the Ritz vectors: those of the Nyström
       approximation [3]_.
    3. Rounding leaves a residual ``norm(adjoint(A) @ u - s * v)`` of some ``eps * S[0]**2 / s``. If
       that is more than the goal allows, the iteration begins anew with more digits, from the
       vectors that it has.

    Directions whose values are below ``sqrt(eps) * S[0]`` are as they happen to be: their residuals
    are no larger.

    References
    ----------
    .. [1] G. H. Golub and R. Underwood, "The block Lanczos method for computing eigenvalues",
       Mathematical Software III, 1977.
    .. [2] K. Wu and H. Simon, "Thick-restart Lanczos method for large symmetric eigenvalue
       problems", SIAM Journal on Matrix Analysis and Applications 22, 2000.
    .. [3] J. A. Tropp and R. J. Webber, "Randomized algorithms for low-rank matrix approximation:
       design, analysis, and applications", 2023, arXiv:2306.12418.
    """
    xp = namespace(P)
    n = P.shape[-2]
    last = W
    for step in range(1, _STEPS):
        S, Y = _ritz(P, W)
        values = xp.maximum(S, math.sqrt(gram.eps) * unit(S))
        rounding = 0.5 * gram.eps * S[:1] * S[:1] / values
        residuals = column_norms(_outside(matmul(W, Y), P))[0, :] / values
        done = goal.reached(S, xp.maximum(residuals, rounding), last.shape[-1], step)
        if _is_blurred(rounding, S, goal) and gram.widen():
            P = _right(P, W, S, Y, last.shape[-1], gram.eps)
            W = last = gram.product(P)
            continue
        if done or P.shape[-1] == n:
            return _right(P, W, S, Y, goal.wanted + _SPARE, gram.eps), None
        remainder = _outside(last, P)
        scale = xp.max(column_norms(W), axis=-1, keepdims=True)
        if goal.crowded:
            fresh = gaussian(*last.shape, like=P, seed=seed, stream=2 * step)
            remainder = xp.concat([remainder, _outside(fresh, P) * (scale / math.sqrt(n))], axis=-1)
        if P.shape[-1] + remainder.shape[-1] > _ROOM * max(goal.wanted, 2 * last.shape[-1]):
            keep = goal.wanted + last.shape[-1]
            P, W = matmul(P, Y[:, :keep]), matmul(W, Y[:, :keep])
        block = _block(remainder[:, : n - P.shape[-1]], P, scale, gram.eps, seed, 2 * step + 1)
        last = gram.product(block)
        P, W = xp.concat([P, block], axis=-1), xp.concat([W, last], axis=-1)
    S, Y = _ritz(P, W)
    return _right(P, W, S, Y, goal.wanted + _SPARE, gram.eps), goal.residual


def _ritz(P: Array, W: Array) -> tuple[Array, Array]:
    """Ritz values of the matrix, descending, and their vectors as combinations of ``P``."""
    T = matmul(adjoint(P), W)
    squares, Y = (namespace(T).flip(part, axis=-1) for part in eigh(0.5 * (T + adjoint(T))))
    return root(squares), Y


def _is_blurred(rounding: Array, S: Array, goal: Goal) -> bool:
    """Whether rounding alone leaves some wanted triplet a residual of half of what is allowed."""
    xp = namespace(S)
    wanted = rounding[: min(goal.wanted, S.shape[-1])]
    return concrete_int(xp.any(wanted > 0.5 * goal.accuracy * S[:1])) == 1


def _block(remainder: Array, P: Array, scale: Array, eps: float, seed: int, stream: int) -> Array:
    """The next block of orthonormal columns."""

    def fresh() -> Array:
        return gaussian(*remainder.shape, like=P, seed=seed, stream=stream)

    noise = namespace(P).where(scale > 0, 8 * eps * scale, 1.0)
    return orthonormal(remainder, P, noise=noise, fresh=fresh)


def _right(P: Array, W: Array, S: Array, Y: Array, width: int, eps: float) -> Array:
    """Right vectors, a power step further than the Ritz vectors where their values are clear."""
    xp = namespace(P)
    width = min(width, S.shape[-1])
    clear = concrete_int(xp.count_nonzero(S > math.sqrt(eps) * S[:1])) or 0
    V, _, _ = svd(matmul(W, Y[:, :clear] / S[:clear]))
    if clear >= width:
        return V[:, :width]
    return qr(xp.concat([V, matmul(P, Y[:, clear:width])], axis=-1))[0]


def _outside(X: Array, P: Array) -> Array:
    """What is left of `X` without its part in the span of ``P``."""
    return project_out(X, P)[0]
