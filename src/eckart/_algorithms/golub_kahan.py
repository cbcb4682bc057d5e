"""Block Golub–Kahan bidiagonalisation: bases of both sides of a matrix from its products."""

from __future__ import annotations

from eckart._algorithms.basis import (
    Basis,
    bordered,
    largest_norm,
    next_block,
    norms_of_product,
    project_out,
)
from eckart._arrays.control import Count, appended, before, is_compilable, leading
from eckart._arrays.linalg import eigh, matmul, root, squared_norm, svd
from eckart._arrays.namespace import Array, adjoint, device, format_of, is_jax, namespace, widest
from eckart._arrays.sketch import gaussian
from eckart._matrices import Matrix


class TwoSided:
    """Bases with ``A @ P = Q @ L``, with full reorthogonalisation.

    The blocks of ``L`` above the diagonal are computed, not assumed, so the relation holds for any
    columns of the remainder.
    """

    can_widen = False

    def __init__(self, operator: Matrix, seed: int) -> None:
        self.operator, self.seed = operator, seed

    def begun(self, width: int, *, stream: int = 0, capacity: int | None = None) -> Basis:
        """Bases without columns, with a Gaussian test matrix as the remainder.

        With a `capacity` the arrays have this number of columns from the start, all unused.
        """
        like = self.operator.like
        xp, here = namespace(like), {"dtype": like.dtype, "device": device(like)}
        *stack, m, n = self.operator.shape
        Omega = gaussian(n, width, like=like, seed=self.seed, stream=stream)
        scale = largest_norm(xp.zeros((*stack, 1, 1), **here))
        counts: tuple[Count, ...] = (0, stream + 1)
        if capacity is not None:
            counts = tuple(xp.asarray(count, dtype=xp.int32) for count in counts)
        return Basis(
            xp.zeros((*stack, n, capacity or 0), **here),
            xp.zeros((*stack, m, capacity or 0), **here),
            xp.zeros((*stack, capacity or 0, capacity or 0), **here),
            xp.broadcast_to(Omega, (*stack, n, width)),
            *(scale, scale[..., 0], *counts),
        )

    def extended(self, basis: Basis) -> Basis:
        """The bases with one more block, by a product with the matrix and one with its adjoint."""
        P, Q, L, remainder, scale, lost, size, stream = basis
        assert Q is not None
        xp, eps = namespace(P), format_of(P).eps
        P_next = next_block(remainder, P, scale, eps=eps, seed=self.seed, stream=stream)
        Y = self.operator.matmul(P_next)
        scale = xp.maximum(scale, largest_norm(Y))
        Y, C = project_out(Y, Q)
        Q_next = next_block(Y, Q, scale, eps=eps, seed=self.seed, stream=stream + 1)
        column = appended(C, matmul(adjoint(Q_next), Y), size, axis=-2)
        row = xp.zeros((*L.shape[:-2], basis.width, L.shape[-1]), dtype=L.dtype, device=device(L))
        L = bordered(L, row, column, size)
        P, Q = appended(P, P_next, size, axis=-1), appended(Q, Q_next, size, axis=-1)
        W = self.operator.rmatmul(Q_next)
        scale, remainder = xp.maximum(scale, largest_norm(W)), project_out(W, P)[0]
        return Basis(P, Q, L, remainder, scale, lost, size + basis.width, stream + 2)

    def ritz(self, basis: Basis) -> tuple[Array, Array, None]:
        """Ritz values, descending, and the residuals of their triplets.

        ``A @ v - s * u`` is zero. ``adjoint(A) @ u - s * v`` is the remainder times the part of
        ``u`` in the last block of ``Q``.
        """
        L, b = basis.L, basis.width
        xp, wide = namespace(L), widest(L)
        if wide.dtype == L.dtype:
            X, S, _ = svd_in_use(L, basis.size)
            last = before(X, basis.size, b, axis=-2)
        else:
            # Squaring takes half the time. It costs half the digits of double precision, which
            # leaves as many as single precision has.
            squares, Y = (xp.flip(part, axis=-1) for part in eigh(_gram_in_use(wide, basis.size)))
            S = root(squares)
            floor = format_of(L).eps * S[..., :1]
            floor = xp.where(S > floor, S, xp.where(floor > 0, floor, 1.0))
            last = matmul(before(wide, basis.size, b, axis=-2), Y) / floor[..., None, :]
        return S, xp.maximum(norms_of_product(basis.remainder, last), basis.lost), None

    def restarted(self, basis: Basis, keep: Count) -> Basis:
        """The bases of only the leading Ritz triplets.

        Their residuals lie in the span of the remainder, so the iteration continues unchanged.
        """
        X, S, Yh = svd_in_use(basis.L, basis.size)
        xp = namespace(S)
        X, Y = leading(X, keep, axis=-1), leading(adjoint(Yh), keep, axis=-1)
        S = leading(S, keep, axis=-1)
        eye = xp.eye(S.shape[-1], dtype=X.dtype, device=device(S))
        assert basis.Q is not None
        return basis._replace(
            P=matmul(basis.P, Y), Q=matmul(basis.Q, X), L=S[..., None] * eye, size=keep
        )

    def completed(self, basis: Basis) -> tuple[Array, Array, Array]:
        """Thin SVD of ``Q @ adjoint(Q) @ A``."""
        P, Q, R = self.joined(basis)
        X, S, Yh = svd_in_use(R, basis.size)
        return matmul(Q, X), S, matmul(Yh, adjoint(P))

    def joined(self, basis: Basis) -> tuple[Array, Array, Array]:
        """``P``, ``Q`` and ``R = adjoint(Q) @ A @ P``, where ``P`` includes the remainder.

        Then ``adjoint(Q) @ A = R @ adjoint(P)``, so every product is used.
        """
        P, Q, L, remainder, scale, _, size, stream = basis
        assert Q is not None
        xp, eps, b = namespace(P), format_of(P).eps, basis.width
        P_next = next_block(remainder, P, scale, eps=eps, seed=self.seed, stream=stream)
        corner = adjoint(matmul(adjoint(P_next), remainder))
        if isinstance(size, int):
            column = xp.concat([xp.zeros_like(L[..., :-b, :b]), corner], axis=-2)
        else:
            column = appended(xp.zeros_like(L[..., :b]), corner, size - b, axis=-2)
        return xp.concat([P, P_next], axis=-1), Q, xp.concat([L, column], axis=-1)


def has_fixed_size(A: Matrix) -> bool:
    """Whether the bases of a matrix are kept in arrays of a fixed size, which JAX can compile."""
    if A.parts or not is_jax(A.like):
        return is_jax(A.like)
    *stack, _, n = A.shape
    column = namespace(A.like).zeros((*stack, n, 1), dtype=A.like.dtype)
    return is_compilable(A.gram_matmul, column)


def svd_in_use(R: Array, size: Count) -> tuple[Array, Array, Array]:
    """Thin SVD of a matrix that is zero in its rows, and on its diagonal, beyond the first `size`.

    In a trace these zeros would be mixed with zero singular values. So they are replaced, on the
    diagonal, by numbers above all singular values, which are dropped again.
    """
    if isinstance(size, int):
        return svd(R)
    xp, K = namespace(R), R.shape[-2]
    norm = xp.sqrt(squared_norm(R))[..., None]
    large = 2 * xp.where(norm > 0, norm, 1.0)[..., None]
    unused = xp.arange(K, device=device(R))[:, None] >= size
    eye = xp.eye(K, R.shape[-1], dtype=R.dtype, device=device(R))
    X, S, Yh = svd(R + eye * xp.where(unused, large, 0.0))
    X, S = (xp.roll(part, size - K, axis=-1) for part in (X, S))
    S = xp.where(norm > 0, leading(S, size, axis=-1), 0.0)
    return X, S, xp.roll(Yh, size - K, axis=-2)


def _gram_in_use(L: Array, size: Count) -> Array:
    """``adjoint(L) @ L``; in a trace unused columns get eigenvalues below all others."""
    squares = matmul(adjoint(L), L)
    if isinstance(size, int):
        return squares
    xp, K = namespace(L), L.shape[-1]
    large = squared_norm(L)[..., None, None]
    unused = xp.arange(K, device=device(L))[:, None] >= size
    eye = xp.eye(K, dtype=L.dtype, device=device(L))
    return squares - eye * xp.where(unused, xp.where(large > 0, large, 1.0), 0.0)
