"""SVD of a product of two thin factors, by their QR, without forming the product."""

from __future__ import annotations

from eckart._arrays.linalg import matmul, modulus, normalized, qr, root, svd, svdvals
from eckart._arrays.namespace import Array, adjoint, device, namespace


def thin_svd(B: Array, A: Array, rank: int) -> tuple[Array, Array, Array]:
    """Thin SVD of ``B @ A`` with at least `rank` triplets, in O((m + n) R**2 + R**3).

    Factors with fewer columns are padded with zeros. QR completes them to orthonormal bases.
    """
    missing = rank - B.shape[-1]
    if missing > 0:
        A = adjoint(_widened(adjoint(A), missing))
        B = _widened(B, missing)
    Q_left, core, Q_right, powers = _core(B, A)
    U, S, Vh = svd(core)
    return matmul(Q_left, U), unscaled(S, *powers), matmul(Vh, adjoint(Q_right))


def thin_svdvals(B: Array, A: Array, k: int) -> Array:
    """The `k` largest singular values of ``B @ A``, padded with zeros."""
    _, core, _, powers = _core(B, A)
    S = unscaled(svdvals(core), *powers)
    return _widened(S, k - S.shape[-1]) if k > S.shape[-1] else S


def _core(B: Array, A: Array) -> tuple[Array, Array, Array, tuple[Array, Array]]:
    """``Q_left``, ``core``, ``Q_right`` and two powers of two.

    ``B @ A = Q_left @ core @ Q_right^H``, divided by both powers. The powers prevent overflow and
    underflow of the core.
    """
    left, right = balanced(B, A)
    left, one = normalized(left)
    right, other = normalized(right)
    Q_left, R_left = qr(left)
    Q_right, R_right = qr(adjoint(right))
    return Q_left, matmul(R_left, adjoint(R_right)), Q_right, (one, other)


def unscaled(S: Array, one: Array, other: Array) -> Array:
    """Singular values divided by two powers of two, shape (..., 1, 1), one after the other."""
    xp = namespace(S)
    return S / xp.maximum(one, other)[..., 0] / xp.minimum(one, other)[..., 0]


def balanced(B: Array, A: Array) -> tuple[Array, Array]:
    """Factors of the same product with each column of ``B`` as large as its row of ``A``.

    Factors of very different sizes, or graded in opposite order, would otherwise overflow or lose
    digits that their product has.
    """
    xp = namespace(B, A)
    if 0 in B.shape[-2:] or 0 in A.shape[-2:]:
        return B, A
    columns = root(xp.max(modulus(B), axis=-2, keepdims=True))
    rows = xp.matrix_transpose(root(xp.max(modulus(A), axis=-1, keepdims=True)))
    usable = xp.isfinite(columns) & xp.isfinite(rows) & (columns > 0) & (rows > 0)
    columns, rows = xp.where(usable, columns, 1.0), xp.where(usable, rows, 1.0)
    # The quotient of the two may underflow, so each multiplies or divides separately.
    return B / columns * rows, A * xp.matrix_transpose(columns) / xp.matrix_transpose(rows)


def _widened(array: Array, missing: int) -> Array:
    """`array` with `missing` zeros appended along the last axis."""
    xp = namespace(array)
    zeros = xp.zeros((*array.shape[:-1], missing), dtype=array.dtype, device=device(array))
    return xp.concat([array, zeros], axis=-1)
