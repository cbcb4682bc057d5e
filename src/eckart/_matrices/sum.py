"""A weighted sum of matrices of any kinds, as a linear operator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from eckart._arrays.namespace import Array, conjugate
from eckart._matrices.matrix import Matrix
from eckart._matrices.operator import Operator


class Sum(Operator):
    """Weighted sum of matrices of one dtype; a weight is a number or an array (..., 1, 1)."""

    def __init__(self, terms: Sequence[Matrix], weights: Sequence[Any], like: Array) -> None:
        self.shape, self.like = np.broadcast_shapes(*(A.shape for A in terms)), like
        self.terms = list(zip(terms, weights, strict=True))
        self.reads_strips = all(A.reads_strips for A in terms)

    def matmul(self, X: Array) -> Array:
        return sum(weight * A.matmul(X) for A, weight in self.terms)

    def rmatmul(self, X: Array) -> Array:
        return sum(_conjugate(weight) * A.rmatmul(X) for A, weight in self.terms)

    def strip(self, axis: int, start: int, stop: int) -> Array:
        return sum(weight * A.strip(axis, start, stop) for A, weight in self.terms)


def _conjugate(weight: Any) -> Any:
    return weight.conjugate() if isinstance(weight, int | float | complex) else conjugate(weight)
