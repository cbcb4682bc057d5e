"""SVD of a product of two thin factors, through their QR: the product is never formed."""

from __future__ import annotations

from eckart._linalg import matmul, normalized, qr, svd, svdvals
from eckart._namespace import Array, adjoint, device, namespace


def thin_svd(B: Array, A: Array, rank: int) -> tuple[Array, Array, Array]:
    """Thin SVD of ``B @ A`` with at least `rank` triplets, in O((m + n) R**2 + R**3).

    Factors of fewer columns are widened by zeros, which QR completes to orthonormal bases.
    """
    missing = rank - B.shape[-1]
    if missing > 0:
        A = adjoint(_widened(adjoint(A), missing))
        B = _widened(B, missing)
    Q_left, core, Q_right, power = _core(B, A)
    U, S, Vh = svd(core)
    return matmul(Q_left, U), S / power, matmul(Vh, adjoint(Q_right))


def thin_svdvals(B: Array, A: Array, k: int) -> Array:
    """The `k` largest singular values of ``B @ A``, zeros where it cannot have as many."""
    _, core, _, power = _core(B, A)
    S = svdvals(core) / power
    return _widened(S, k - S.shape[-1]) if k > S.shape[-1] else S


def _core(B: Array, A: Array) -> tuple[Array, Array, Array, Array]:
    """``Q_left``, ``core`` and ``Q_right`` with ``B @ A = Q_left @ core @ Q_right^H / power``."""
    left, left_power = normalized(B)
    right, right_power = normalized(A)
    Q_left, R_left = qr(left)
    Q_right, R_right = qr(adjoint(right))
    return Q_left, matmul(R_left, adjoint(R_right)), Q_right, (left_power * right_power)[..., 0]


def _widened(array: Array, missing: int) -> Array:
    """`array` with zeros appended along the last axis."""
    xp = namespace(array)
    zeros = xp.zeros((*array.shape[:-1], missing), dtype=array.dtype, device=device(array))
    return xp.concat([array, zeros], axis=-1)
