"""Products and decompositions that behave the same on every library.

Entries near the ends of the range are scaled by an exact power of two first, and a matrix with a
NaN or an infinity has NaN singular values: no library's own error, no library's finite nonsense.
"""

from __future__ import annotations

import math

from eckart._namespace import (
    Array,
    adjoint,
    device,
    format_of,
    full_precision,
    is_complex,
    namespace,
    precision_keywords,
    real_dtype,
)


def matmul(A: Array, B: Array) -> Array:
    """Matrix product at the full precision of the dtype, whatever the user's settings are."""
    xp = namespace(A, B)
    with full_precision(A):
        return xp.matmul(A, B, **precision_keywords(xp))


def normalized(A: Array) -> tuple[Array, Array]:
    """`A` times a power of two per matrix, and that power, shape (..., 1, 1).

    The product has entries whose squares neither overflow nor vanish. Where `A` has a NaN or an
    infinity, the power is NaN and the product zero.
    """
    xp = namespace(A)
    exponent = math.frexp(format_of(A).largest)[1]
    far, step = 2.0 ** (exponent * 5 // 16), 2.0 ** (exponent * 5 // 8)
    if 0 in A.shape[-2:]:
        shape = (*A.shape[:-2], 1, 1)
        return A, xp.ones(shape, dtype=real_dtype(A), device=device(A))
    largest = xp.max(modulus(A), axis=(-2, -1), keepdims=True)
    power = xp.where(largest < 1 / far, step, xp.ones_like(largest))
    power = xp.where(largest > far, 1 / step, power)
    finite = xp.isfinite(largest)
    return xp.where(finite, A, 0.0) * power, xp.where(finite, power, math.nan)


def modulus(A: Array) -> Array:
    """Modulus of each entry, within a factor of two where the true one would overflow."""
    xp = namespace(A)
    if is_complex(A):
        return xp.maximum(xp.abs(xp.real(A)), xp.abs(xp.imag(A)))
    return xp.abs(A)


def svd(A: Array) -> tuple[Array, Array, Array]:
    """Thin SVD, ``S`` NaN for a matrix that is not finite."""
    scaled, power = normalized(A)
    U, S, Vh = namespace(A).linalg.svd(scaled, full_matrices=False)
    return U, S / power[..., 0], Vh


def svdvals(A: Array) -> Array:
    """Singular values alone, NaN for a matrix that is not finite."""
    scaled, power = normalized(A)
    return namespace(A).linalg.svdvals(scaled) / power[..., 0]


def qr(A: Array) -> tuple[Array, Array]:
    """Thin QR factorization."""
    Q, R = namespace(A).linalg.qr(A, mode="reduced")
    return Q, R


def eigvalsh(A: Array) -> Array:
    """Eigenvalues of a Hermitian matrix, ascending."""
    return namespace(A).linalg.eigvalsh(A)


def gram(A: Array) -> Array:
    """Gram matrix over the short side of `A`."""
    tall = A.shape[-2] >= A.shape[-1]
    return matmul(adjoint(A), A) if tall else matmul(A, adjoint(A))
