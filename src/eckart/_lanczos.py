"""Block Lanczos iteration on the Gram matrix: a basis of the short side is all it keeps.

A product with ``adjoint(A) @ A`` takes one reading of ``A``.
"""

from __future__ import annotations

import math
from typing import NamedTuple, Protocol

from eckart._basis import (
    largest_norm,
    next_block,
    norms_of_product,
    project_out,
    with_random_columns,
)
from eckart._goal import STEPS, Goal, room
from eckart._linalg import eigh, matmul, qr, root, svd
from eckart._namespace import Array, adjoint, concrete_int, device, namespace
from eckart._tolerance import unit

# How many times what is wanted a basis may have.
_ROOM = 6
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


class _Basis(NamedTuple):
    """Orthonormal columns ``P`` (n, K) with ``T = adjoint(P) @ M @ P``, ``M`` the Gram matrix.

    `remainder` is what ``M @ P`` has outside of the span of ``P``: only the last block of ``P`` has
    any, so it has as many columns, (n, b).
    """

    P: Array
    T: Array
    remainder: Array
    scale: Array  # largest norm of a column of a product so far, shape (1, 1)


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

    1. What ``T`` has above its blocks on the diagonal is computed, not assumed, so that the
       relation holds whatever the columns of the remainder are.
    2. The products of the last step are not left unused. With ``Q`` an orthonormal basis of
       ``A @ P``, what is returned are the leading left singular vectors of ``adjoint(A) @ Q``, a
       step of the power method further than the Ritz vectors: those of the Nyström
       approximation [3]_.
    3. Rounding leaves a residual ``norm(adjoint(A) @ u - s * v)`` of some ``eps * S[0]**2 / s``. If
       that is more than the goal allows, the iteration begins anew with more digits, from the
       vectors that it has. Where there are none, it ends as if it were less, and says how much.

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
    n, width = P.shape
    basis = _begun(P, W)
    for step in range(1, STEPS):
        S, Y = _ritz(basis)
        values = xp.maximum(S, math.sqrt(gram.eps) * unit(S))
        rounding = 0.5 * gram.eps * S[:1] * S[:1] / values
        b = basis.remainder.shape[-1]
        residuals = norms_of_product(basis.remainder, Y[-b:, :]) / values
        enough = S.shape[-1] >= min(goal.rules.rank or 0, n)
        done = enough and goal.reached(S, residuals, b, step)
        wanted = rounding[: min(goal.wanted, S.shape[-1])]
        if _exceed(wanted, 0.5 * goal.accuracy * S[:1]) and gram.widen():
            P = _right(basis, S, Y, b, gram.eps, seed, step)
            basis = _begun(P, gram.product(P))
            continue
        if done or basis.P.shape[-1] == n:
            V = _right(basis, S, Y, goal.wanted + _SPARE, gram.eps, seed, step)
            blurred = _exceed(wanted, goal.accuracy * S[:1])
            return V, float(xp.max(wanted / S[:1])) if blurred else None
        if goal.is_overdue(step):
            break
        if goal.crowded:
            basis = _widened(basis, seed, 2 * step)
        most = room(step) * _ROOM * max(goal.wanted, 2 * width)
        if basis.P.shape[-1] + basis.remainder.shape[-1] > most:
            basis = _restarted(basis, S, Y, min(goal.wanted + b, S.shape[-1]))
        basis = _extended(gram, basis, seed, step)
    S, Y = _ritz(basis)
    return _right(basis, S, Y, goal.wanted + _SPARE, gram.eps, seed, STEPS), goal.residual


def _begun(P: Array, W: Array) -> _Basis:
    """The basis ``P``, given ``W = M @ P``."""
    remainder, T = project_out(W, P)
    return _Basis(P, 0.5 * (T + adjoint(T)), remainder, largest_norm(W))


def _extended(gram: Gram, basis: _Basis, seed: int, step: int) -> _Basis:
    """The basis with one block more, for one product."""
    P, T, _, scale = basis
    xp = namespace(P)
    P_next = _next(basis, gram.eps, seed, step)
    W = gram.product(P_next)
    after = _begun(P_next, W)
    remainder, C = project_out(after.remainder, P)
    T = xp.concat([xp.concat([T, C], axis=-1), xp.concat([adjoint(C), after.T], axis=-1)], axis=-2)
    P = xp.concat([P, P_next], axis=-1)
    return _Basis(P, T, remainder, xp.maximum(scale, after.scale))


def _widened(basis: _Basis, seed: int, stream: int) -> _Basis:
    """The basis with as many random columns more in its next block."""
    P, _, remainder, scale = basis
    more = with_random_columns(remainder, P, scale, seed=seed, stream=stream)
    return basis._replace(remainder=more)


def _restarted(basis: _Basis, S: Array, Y: Array, keep: int) -> _Basis:
    """The basis of the first Ritz vectors alone: their residuals lie in the same remainder."""
    squares = S[:keep] * S[:keep]
    eye = namespace(S).eye(squares.shape[0], dtype=Y.dtype, device=device(S))
    return basis._replace(P=matmul(basis.P, Y[:, :keep]), T=squares[:, None] * eye)


def _ritz(basis: _Basis) -> tuple[Array, Array]:
    """Ritz values of the matrix, descending, and their vectors as combinations of ``P``."""
    xp = namespace(basis.T)
    squares, Y = (xp.flip(part, axis=-1) for part in eigh(basis.T))
    return root(squares), Y


def _right(
    basis: _Basis, S: Array, Y: Array, width: int, eps: float, seed: int, step: int
) -> Array:
    """Right vectors, a power step further than the Ritz vectors where their values are clear."""
    P, T, remainder, _ = basis
    xp = namespace(P)
    width = min(width, S.shape[-1])
    clear = concrete_int(xp.count_nonzero(S > math.sqrt(eps) * S[:1])) or 0
    Y_clear, b = Y[:, :clear] / S[:clear], remainder.shape[-1]
    P_next = _next(basis, eps, seed, step)
    corner = matmul(adjoint(P_next), remainder)
    product = xp.concat([matmul(T, Y_clear), matmul(corner, Y_clear[-b:, :])], axis=-2)
    X, _, _ = svd(product)
    V = matmul(xp.concat([P, P_next], axis=-1), X[:, : min(width, clear)])
    if clear >= width:
        return V
    return qr(xp.concat([V, matmul(P, Y[:, clear:width])], axis=-1))[0]


def _next(basis: _Basis, eps: float, seed: int, step: int) -> Array:
    """The next block of ``P``, with no more columns than there is room for."""
    P, _, remainder, scale = basis
    n, size = P.shape
    width, stream = min(n - size, remainder.shape[-1]), 2 * step + 1
    return next_block(remainder[:, :width], P, scale, eps=eps, seed=seed, stream=stream)


def _exceed(values: Array, bound: Array) -> bool:
    """Whether any of the values is above the bound."""
    return concrete_int(namespace(values).any(values > bound)) == 1
