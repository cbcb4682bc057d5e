"""A product of two thin factors that is not formed: the matrix of an SVD or a LowRank."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from eckart._arrays.linalg import largest_modulus, matmul
from eckart._arrays.namespace import (
    Array,
    DType,
    adjoint,
    cast,
    conjugate,
    is_dask,
    namespace,
    widest,
)
from eckart._arrays.spectra import length
from eckart._matrices.factors import Factors, checked, pair
from eckart._matrices.matrix import Function, Matrix
from eckart._matrices.thin import balanced, thin_svd, thin_svdvals


class Product(Matrix):
    """The matrix ``B @ A``."""

    by_products = False
    has_factors = knows_energy = reads_strips = True
    preferred = "exact"

    parts: tuple[Array, Array]

    def __init__(self, B: Array, A: Array, given: Any = None, like: Array | None = None) -> None:
        self.parts, self.given = (B, A), given
        self.like = B if like is None else like
        stack = np.broadcast_shapes(B.shape[:-2], A.shape[:-2])
        self.shape = (*stack, B.shape[-2], A.shape[-1])

    takes = staticmethod(lambda A: isinstance(A, Factors))

    @classmethod
    def of(cls, name: str, A: Any) -> Product:
        factors = checked(name, A)
        if any(map(is_dask, factors)):  # thin factors fit in memory
            factors = type(factors)(*(x.compute() if is_dask(x) else x for x in factors))
        return cls(*pair(factors), factors, factors[0])

    def matmul(self, X: Array) -> Array:
        B, A = self.parts
        return matmul(B, matmul(A, X))

    def rmatmul(self, X: Array) -> Array:
        B, A = self.parts
        return matmul(adjoint(A), matmul(adjoint(B), X))

    def adjoint(self) -> Product:
        return Product(*(adjoint(part) for part in self.parts[::-1]))

    def constant(self, constant: Function, guard: Any) -> Product:
        B, A = map(constant, self.parts)
        return Product(B, A, self.given)

    def astype(self, dtype: DType, name: str, whose: str) -> Product:
        return Product(*(cast(part, dtype) for part in self.parts))

    def magnitude(self) -> Array:
        left, right = map(largest_modulus, balanced(*self.parts))
        return left * right

    def rescaled(self, root: Array) -> Matrix:
        B, A = balanced(*self.parts)
        return Product(B * root, A * root)

    def norm(self) -> Array:
        return length(self.svdvals())

    def energy(self, factor: Array | float = 1.0) -> Array:
        return (self.norm() * factor) ** 2

    def inner(self, other: Matrix) -> Array:
        B_1, A_1 = balanced(*self.parts)
        if other.has_factors:
            return inner_of_factors((B_1, A_1), balanced(*other.factors()))
        xp, X = namespace(A_1), adjoint(A_1)
        stack = np.broadcast_shapes(self.shape[:-2], other.shape[:-2])
        Y = other.matmul(xp.broadcast_to(X, (*stack, *X.shape[-2:])))
        return xp.sum(conjugate(B_1) * Y, axis=(-2, -1))

    def strip(self, axis: int, start: int, stop: int) -> Array:
        B, A = self.parts
        B, A = (B[..., start:stop, :], A) if axis == -2 else (B, A[..., start:stop])
        return matmul(widest(B), widest(A))

    def entries(self, name: str = "A") -> Array:
        return matmul(*self.parts)

    def reduced(self) -> Matrix:
        return self

    def prepared(self, needs: str | None) -> Matrix:
        return self

    def svd(self, rank: int) -> tuple[Array, Array, Array]:
        return thin_svd(*self.parts, rank)

    def svdvals(self) -> Array:
        return thin_svdvals(*self.parts, min(self.shape[-2:]))

    def factors(self, name: str = "A") -> tuple[Array, Array]:
        return self.parts

    def minus(self, B: Array, C: Array) -> Matrix:
        return Product(*joined([self.parts, (B, C)], [1.0, -1.0], self.shape[:-2]))


def inner_of_factors(one: tuple[Array, Array], other: tuple[Array, Array]) -> Array:
    """Inner product of two matrices given by factors."""
    (B_1, A_1), (B_2, A_2) = one, other
    left, right = matmul(adjoint(B_1), B_2), matmul(A_1, adjoint(A_2))
    return namespace(left).sum(left * conjugate(right), axis=(-2, -1))


def joined(pairs: Sequence[Any], weights: Sequence[Any], stack: tuple[int, ...]) -> Any:
    """Two factors of a weighted sum: the left factors side by side, the right ones stacked."""
    xp = namespace(*pairs[0])
    lefts, rights = [w * B for w, (B, _) in zip(weights, pairs, strict=True)], [A for _, A in pairs]
    return [
        xp.concat([xp.broadcast_to(part, (*stack, *part.shape[-2:])) for part in parts], axis=axis)
        for parts, axis in ((lefts, -1), (rights, -2))
    ]
