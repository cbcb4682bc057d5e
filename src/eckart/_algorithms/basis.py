"""Orthonormal bases, one block of columns after another."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from eckart._arrays.control import Count, appended, known, when
from eckart._arrays.linalg import column_norms, eigh, matmul, normalized
from eckart._arrays.namespace import (
    Array,
    adjoint,
    cast,
    conjugate,
    format_of,
    is_complex,
    namespace,
)
from eckart._arrays.sketch import gaussian


class Basis(NamedTuple):
    """Orthonormal columns ``P`` (..., n, K) and ``Q`` (..., m, K), the first `size` in use.

    With bases of both sides ``A @ P = Q @ L``. With a basis of one side ``Q`` is None, and ``L`` is
    ``adjoint(P) @ M @ P`` with the Gram matrix ``M``.
    """

    P: Array
    Q: Array | None
    L: Array
    # The part of adjoint(A) @ Q, or of M @ P, outside of the span of P. Only the last block has
    # one, so the shape is (..., n, b).
    remainder: Array
    scale: Array  # largest norm of a column of a product so far, shape (..., 1, 1)
    lost: Array  # largest residual that is no longer in the remainder, shape (..., 1)
    size: Count
    stream: Count  # stream of the next random columns

    @property
    def width(self) -> int:
        """Columns of the last block."""
        return int(self.remainder.shape[-1])


def project_out(Y: Array, Q: Array) -> tuple[Array, Array]:
    """`Y` without its part in the span of `Q`, and the coefficients ``C = adjoint(Q) @ Y``."""
    if Q.shape[-1] == 0:
        return Y, matmul(adjoint(Q), Y)
    C = matmul(adjoint(Q), Y)
    return Y - matmul(Q, C), C


def next_block(Y: Array, Q: Array, scale: Array, *, eps: float, seed: int, stream: Count) -> Array:
    """The next block of an orthonormal basis `Q`, from products `Y` with one projection out of it.

    `scale` is the largest norm of a product so far. Products are rounded to `eps`.
    """
    xp = namespace(Y)
    # If all products so far were zero, any other positive number will do.
    noise = xp.where(scale > 0, 8 * eps * scale, xp.ones_like(scale))

    def fresh() -> Array:
        return gaussian(*Y.shape[-2:], like=Y, seed=seed, stream=stream)

    return orthonormal(Y, Q, noise=noise, fresh=fresh)


def bordered(L: Array, row: Array, column: Array, count: Count) -> Array:
    """A matrix with a block of rows and a block of columns after the first `count` of each."""
    return appended(appended(L, row, count, axis=-2), column, count, axis=-1)


def random_block(basis: Basis, *, seed: int) -> tuple[Array, Basis]:
    """A block of random columns orthogonal to a basis, with norms like those of a product."""
    xp, remainder = namespace(basis.P), basis.remainder
    fresh = gaussian(*remainder.shape[-2:], like=basis.P, seed=seed, stream=basis.stream)
    fresh = project_out(xp.broadcast_to(fresh, remainder.shape), basis.P)[0]
    size = basis.scale / math.sqrt(remainder.shape[-2])
    return fresh * size, basis._replace(stream=basis.stream + 1)


def largest_norm(Y: Array) -> Array:
    """Largest norm of a column, shape (..., 1, 1)."""
    return namespace(Y).max(column_norms(Y), axis=-1, keepdims=True)


def norms_of_product(Y: Array, C: Array) -> Array:
    """Norm of each column of ``Y @ C``, shape (..., p), for `Y` with far more rows than `C`."""
    xp = namespace(C)
    G = cast(matmul(adjoint(Y), Y), C.dtype)
    squares = xp.sum(conjugate(C) * matmul(G, C), axis=-2)
    squares = xp.real(squares) if is_complex(C) else squares
    return xp.sqrt(xp.where(squares > 0, squares, 0.0))


def orthonormal(Y: Array, Q: Array, *, noise: Array, fresh: Callable[[], Array]) -> Array:
    """Orthonormal columns, as many as `Y` has, that span `Y` and are orthogonal to `Q`.

    Parameters
    ----------
    Y : array, shape (..., m, b)
        Columns that were projected out of the span of `Q` once.
    Q : array, shape (..., m, K)
        Orthonormal columns, ``K + b <= m``.
    noise : array, shape (..., 1, 1)
        Positive bound on the norm of the rounding error in a column of `Y`.
    fresh : callable
        Returns a random test matrix of the shape of `Y`, to replace directions that vanished.

    Returns
    -------
    array, shape (..., m, b)
        Orthonormal to a small multiple of ``eps``, for any rank and scale of `Y`.

    Notes
    -----
    "Twice is enough" [1]_: project, orthonormalise, project, orthonormalise. The Gram matrix
    orthonormalises a block whose condition number is some way below ``1 / sqrt(eps)``.

    To every other block random columns are added, as large as the noise. They replace directions
    that vanished. To the other directions they are a rounding error. The condition number is then
    below ``1 / eps``, or larger if the columns nearly fill the space. Each pass divides the
    condition number by some ``1 / sqrt(eps)``, because eigenvalues below ``eps`` times the largest
    are raised to this value. This is the idea of shifted Cholesky QR [2]_.

    References
    ----------
    .. [1] B. N. Parlett, "The Symmetric Eigenvalue Problem", 1998, Section 6.9.
    .. [2] T. Fukaya et al., "Shifted Cholesky QR for computing the QR factorization of
       ill-conditioned matrices", SIAM Journal on Scientific Computing 42, 2020.
    """
    xp = namespace(Y)
    if Y.shape[-1] == 0:
        return Y
    scaled, power = normalized(Y)
    basis, smallest, largest = _whitened(scaled)
    safe = smallest > math.sqrt(32 * format_of(Y).eps) * largest
    safe = safe & (smallest > 2 * (noise * power)[..., 0, 0])
    m, b = Y.shape[-2:]

    def with_noise(_: Array) -> Array:
        basis, _, _ = _whitened(normalized(Y + noise / math.sqrt(m) * fresh())[0])
        for _ in range(1 if m - Q.shape[-1] >= 2 * b else 2):
            basis, _, _ = _whitened(project_out(basis, Q)[0])
        return basis

    basis = when(known(xp.any(~safe)), with_noise, basis)
    return _whitened(project_out(basis, Q)[0])[0]


def _whitened(Y: Array) -> tuple[Array, Array, Array]:
    """Orthonormal columns by the Gram matrix, and the extreme singular values, shape (...)."""
    xp = namespace(Y)
    squares, V = eigh(matmul(adjoint(Y), Y))
    floor = format_of(Y).eps * squares[..., -1:]
    roots = xp.sqrt(xp.where(squares > floor, squares, xp.where(floor > 0, floor, 1.0)))
    return matmul(Y, V / roots[..., None, :]), roots[..., 0], roots[..., -1]
