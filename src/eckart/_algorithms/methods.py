"""The methods that compute a truncated SVD, and the cost model that chooses one.

The tables have the time of a method divided by the time of the full SVD, on a CPU with two cores,
with NumPy 2.4 and PyTorch 2.13, for the spectrum ``1 / sqrt(j)``. The Krylov iteration on square
matrices, by rank:

| float32    | n = 256, rank 8 | 16  | 512, rank 16 | 32  | 64  | 1024, rank 32 | 64  | 128 |
| ---------- | --------------- | --- | ------------ | --- | --- | ------------- | --- | --- |
| NumPy      | 0.6             | 0.9 | 0.1          | 0.3 | 0.7 | 0.1           | 0.2 | 0.7 |
| PyTorch    | 2.3             | 2.7 | 0.7          | 1.1 | 1.9 | 0.2           | 0.4 | 1.1 |
| in float64 |                 |     |              |     |     |               |     |     |
| NumPy      | 1.2             | 2.0 | 0.4          | 0.8 | 1.9 | 0.2           | 0.6 | 1.8 |
| PyTorch    | 2.4             | 3.4 | 1.0          | 1.4 | 3.2 | 0.4           | 1.1 | 2.1 |

The Gram matrix on tall float32 matrices, rank 10 (and full rank):

|         | 200x20    | 1000x20   | 200x100   | 1000x100  | 2000x500  | 10000x64  |
| ------- | --------- | --------- | --------- | --------- | --------- | --------- |
| NumPy   | 1.5 (1.6) | 0.7 (0.9) | 0.6 (1.1) | 0.3 (0.7) | 0.2 (0.7) | 0.2 (0.5) |
| PyTorch | 2.6 (2.7) | 2.3 (2.5) | 1.0 (1.6) | 0.9 (1.7) | 0.7 (1.9) | 0.8 (1.8) |
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from eckart._algorithms.gram import gram, is_accurate
from eckart._algorithms.krylov import krylov
from eckart._algorithms.rules import Rules
from eckart._algorithms.triplets import Triplets
from eckart._arrays.linalg import stays_in_pieces
from eckart._arrays.namespace import Array, dtype_name, is_plain, library, pieces


class Method(NamedTuple):
    """A method: a function that returns triplets, or None if the full SVD is better."""

    triplets: Callable[..., Triplets | None]
    needs: str  # "products" or "entries"


METHODS = {"gram": Method(gram, "entries"), "krylov": Method(krylov, "products")}


class Cost(NamedTuple):
    """Limits at which a method is faster than the full SVD of a library."""

    # The Krylov iteration is faster up to rank ``(n - smallest) / share``. It costs some dozens of
    # products even for a small matrix, and a basis of several times the rank.
    smallest: int
    share: int
    # The Gram matrix is faster up to this share of the short side, from this number of entries on.
    part: float
    entries: int


# In single and in double precision. JAX compiles every step of an iteration for every new shape,
# which takes seconds.
COSTS = {
    "numpy": (Cost(224, 8, 1.0, 10_000), Cost(320, 12, 0.0, 0)),
    "torch": (Cost(448, 12, 0.25, 100_000), Cost(512, 20, 0.0, 0)),
    "jax": (Cost(768, 16, 0.25, 100_000), Cost(768, 20, 0.0, 0)),
}
_HIGHEST = 256  # rank up to which iterations were measured


def choice(A: Array, rules: Rules) -> str:
    """The fastest method that is accurate for `A`: ``"exact"``, ``"gram"`` or ``"krylov"``."""
    if 0 in A.shape:
        return "exact"
    if pieces(A) > 1:  # the full SVD may gather them, the Gram matrix moves them between devices
        return "exact" if stays_in_pieces(A) and not is_plain(A) else "krylov"
    *stack, m, n = A.shape
    k = min(m, n)
    single, double = COSTS.get(library(A), COSTS["torch"])
    cost = single if dtype_name(A.dtype) in ("float32", "complex64") else double
    rank = k if rules.rank is None else rules.rank
    if prefers_gram(A) and m * n >= cost.entries and rank <= cost.part * k:
        return "gram"
    # The matrices of a stack share the cost of a step other than its products.
    smallest = cost.smallest / math.prod(stack) ** (1 / 3)
    rank = 0 if rules.rank is None else rules.rank
    return "krylov" if rank <= min((k - smallest) / cost.share, _HIGHEST) else "exact"


def prefers_gram(A: Array) -> bool:
    """Whether one side is so short that the Gram matrix over it is fast, and it is accurate."""
    return pieces(A) == 1 and max(A.shape[-2:]) >= 2 * min(A.shape[-2:]) and is_accurate(A)
