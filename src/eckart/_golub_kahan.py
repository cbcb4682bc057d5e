"""Block Golub–Kahan bidiagonalisation: bases of both sides of a matrix from products with it."""

from __future__ import annotations

from typing import NamedTuple

from eckart._basis import largest_norm, next_block, project_out, with_random_columns
from eckart._linalg import matmul
from eckart._matrices import Matrix
from eckart._namespace import Array, adjoint, device, format_of, namespace
from eckart._sketch import gaussian


class Basis(NamedTuple):
    """``A @ P = Q @ L`` with orthonormal columns in ``P`` (..., n, K) and ``Q`` (..., m, K).

    `remainder` is what ``adjoint(A) @ Q`` has outside of the span of ``P``: only the last block of
    ``Q`` has any, so it has as many columns, (..., n, b).
    """

    P: Array
    Q: Array
    L: Array
    remainder: Array
    scale: Array  # largest norm of a column of a product so far, shape (..., 1, 1)
    seed: int
    stream: int  # the next one to draw from

    @property
    def size(self) -> int:
        """Columns of either basis."""
        return int(self.P.shape[-1])

    @property
    def width(self) -> int:
        """Columns of the last block."""
        return int(self.remainder.shape[-1])


def started(operator: Matrix, width: int, *, seed: int, stream: int = 0) -> Basis:
    """The first block of a basis, of `width` columns, from a Gaussian test matrix."""
    xp = namespace(operator.like)
    *stack, m, n = operator.shape
    like = operator.like
    Omega = gaussian(n, width, like=like, seed=seed, stream=stream)
    empty = {"dtype": like.dtype, "device": device(like)}
    basis = Basis(
        P=xp.zeros((*stack, n, 0), **empty),
        Q=xp.zeros((*stack, m, 0), **empty),
        L=xp.zeros((*stack, 0, 0), **empty),
        remainder=xp.broadcast_to(Omega, (*stack, n, width)),
        scale=largest_norm(xp.zeros((*stack, 1, 1), **empty)),
        seed=seed,
        stream=stream + 1,
    )
    return extended(operator, basis)


def extended(operator: Matrix, basis: Basis) -> Basis:
    """The basis with one block more, for a product with the matrix and one with its adjoint.

    Notes
    -----
    Full reorthogonalisation. What ``L`` has above its blocks on the diagonal is computed, not
    assumed, so that the relation holds whatever the columns of `remainder` are.
    """
    P, Q, L, remainder, scale, seed, stream = basis
    xp, eps = namespace(P), format_of(P).eps
    P_next = next_block(remainder, P, scale, eps=eps, seed=seed, stream=stream)
    Y = operator.matmul(P_next)
    scale = xp.maximum(scale, largest_norm(Y))
    Y, C = project_out(Y, Q)
    Q_next = next_block(Y, Q, scale, eps=eps, seed=seed, stream=stream + 1)
    zeros = xp.zeros(
        (*L.shape[:-2], Q_next.shape[-1], L.shape[-1]), dtype=L.dtype, device=device(L)
    )
    column = xp.concat([C, matmul(adjoint(Q_next), Y)], axis=-2)
    L = xp.concat([xp.concat([L, zeros], axis=-2), column], axis=-1)
    P, Q = xp.concat([P, P_next], axis=-1), xp.concat([Q, Q_next], axis=-1)
    W = operator.rmatmul(Q_next)
    return Basis(
        P, Q, L, project_out(W, P)[0], xp.maximum(scale, largest_norm(W)), seed, stream + 2
    )


def widened(basis: Basis) -> Basis:
    """The basis with as many random columns more in its next block, to find what it missed."""
    P, _, _, remainder, scale, seed, stream = basis
    more = with_random_columns(remainder, P, scale, seed=seed, stream=stream)
    return basis._replace(remainder=more, stream=stream + 1)


def restarted(basis: Basis, X: Array, S: Array, Yh: Array) -> Basis:
    """The basis of some Ritz triplets ``(Q @ X, S, Yh @ adjoint(P))`` alone.

    Their residuals lie in the span of `remainder`, so that the iteration goes on as it was.
    """
    xp = namespace(S)
    eye = xp.eye(S.shape[-1], dtype=X.dtype, device=device(S))
    return basis._replace(
        P=matmul(basis.P, adjoint(Yh)), Q=matmul(basis.Q, X), L=S[..., None] * eye
    )


def completed(basis: Basis) -> tuple[Array, Array, Array]:
    """``P``, ``Q`` and ``R = adjoint(Q) @ A @ P`` with the remainder taken into ``P``.

    Then ``adjoint(Q) @ A = R @ adjoint(P)``, and no product is left unused.
    """
    P, Q, L, remainder, scale, seed, stream = basis
    xp, eps = namespace(P), format_of(P).eps
    P_next = next_block(remainder, P, scale, eps=eps, seed=seed, stream=stream)
    above = (*L.shape[:-2], L.shape[-2] - basis.width, basis.width)
    zeros = xp.zeros(above, dtype=L.dtype, device=device(L))
    corner = adjoint(matmul(adjoint(P_next), remainder))
    R = xp.concat([L, xp.concat([zeros, corner], axis=-2)], axis=-1)
    return xp.concat([P, P_next], axis=-1), Q, R
