"""The largest singular value, the norm of singular values, and powers of two that scale them."""

from __future__ import annotations

from eckart._arrays.linalg import normalizing_root, root
from eckart._arrays.namespace import Array, cast, device, namespace, widest


def unit(S: Array) -> Array:
    """The largest singular value, or one for a zero matrix; shape (..., 1)."""
    first = _first(S)
    return namespace(S).where(first == 0, 1.0, first)


def normalised(values: Array) -> tuple[Array, Array]:
    """Nonnegative values times a power of two that brings the largest near one, and its root.

    The values are in double precision if the library has it. The root has the shape (..., 1).
    """
    values = widest(values)
    factor = normalizing_root(largest(values)[..., None])
    return values * factor * factor, factor


def length(values: Array) -> Array:
    """Square root of the sum of the squares, without overflow; shape (...)."""
    ratios, factor = normalised(values)
    norm = root(namespace(ratios).sum(ratios * ratios, axis=-1))
    return cast(norm / factor[..., 0] / factor[..., 0], values.dtype)


def largest(values: Array) -> Array:
    """The largest of nonnegative values, zero if there are no values; shape (...)."""
    xp = namespace(values)
    return xp.max(xp.concat([xp.zeros_like(_first(values)), values], axis=-1), axis=-1)


def _first(S: Array) -> Array:
    xp = namespace(S)
    if S.shape[-1] > 0:
        return S[..., :1]
    return xp.zeros((*S.shape[:-1], 1), dtype=S.dtype, device=device(S))
