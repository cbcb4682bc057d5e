"""What every way to compute a truncated SVD gives."""

from __future__ import annotations

from typing import NamedTuple

from eckart._namespace import Array


class Triplets(NamedTuple):
    """Leading singular triplets, at least as many as the rules keep."""

    U: Array
    S: Array
    Vh: Array
    # Sum of the squares of all other singular values over S[0]**2; None where there are no others
    # or no rule needs it.
    rest: Array | None = None
    # Approximations to the next few, where they were asked for.
    spare: tuple[Array, Array, Array] | None = None
    # Largest residual of a triplet over S[0], where it is above the accuracy asked for.
    residual: float | None = None
