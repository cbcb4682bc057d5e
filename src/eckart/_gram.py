"""Singular values from the Gram matrix over the short side, in float64."""

from __future__ import annotations

from eckart._linalg import eigvalsh, gram, normalized
from eckart._namespace import Array, dtype_name, has_double, is_complex, namespace


def is_accurate(A: Array) -> bool:
    """Whether the singular values come out as exactly as from an SVD in the dtype of `A`.

    Squaring costs half the digits: an eigenvalue is off by some ``n * eps64 * S[0]**2``, a singular
    value by at most the root, ``sqrt(n) * 1.5e-8 * S[0]``. That is below ``max(m, n) * eps32 *
    S[0]`` for every n, and above it in float64.
    """
    return dtype_name(A.dtype) in ("float32", "complex64") and has_double(A)


def singular_values(A: Array) -> Array:
    """Singular values in float64, descending, NaN for a matrix that is not finite."""
    xp = namespace(A)
    scaled, power = normalized(A)
    double = xp.complex128 if is_complex(A) else xp.float64
    squares = xp.flip(eigvalsh(gram(xp.astype(scaled, double))), axis=-1)
    # The root has no derivative at zero, where rounding decides the sign of an eigenvalue.
    positive = squares > 0
    roots = xp.sqrt(xp.where(positive, squares, xp.ones_like(squares)))
    S = xp.where(positive, roots, xp.zeros_like(squares))
    return S / xp.astype(power[..., 0], xp.float64)
