"""The result of every method that computes a truncated SVD, and its signs."""

from __future__ import annotations

from typing import NamedTuple

from eckart._arrays.linalg import pivots
from eckart._arrays.namespace import Array, conjugate, is_complex, namespace


class Triplets(NamedTuple):
    """Leading singular triplets, at least as many as the rules keep."""

    U: Array
    S: Array
    Vh: Array
    # Sum of the squares of the remaining singular values over S[0]**2; None if no values remain or
    # no rule needs the sum.
    rest: Array | None = None
    # Approximations to some of the next triplets; None if no derivative needs them.
    spare: tuple[Array, Array, Array] | None = None
    # Largest residual of a triplet over S[0]; None if it is at most the requested accuracy.
    residual: float | None = None
    # Whether the triplets are not accurate enough for a derivative, shape (...); None if they are.
    doubtful: Array | None = None


def oriented(U: Array, S: Array, Vh: Array) -> tuple[Array, Array, Array]:
    """The triplets with the entry of largest modulus in each column of `U` real and positive."""
    if 0 in U.shape:
        return U, S, Vh
    pivot = pivots(U)
    xp = namespace(pivot)
    if is_complex(pivot):
        size = xp.abs(pivot)
        phase = xp.where(size > 0, pivot / xp.where(size > 0, size, 1.0), 1.0)
    else:
        phase = xp.where(pivot < 0, -xp.ones_like(pivot), xp.ones_like(pivot))
    return U * conjugate(phase), S, phase[..., 0, :, None] * Vh
