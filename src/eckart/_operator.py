"""A matrix known by its products from both sides."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from eckart._linalg import matmul, multiplies_transposed, normalizing_power
from eckart._namespace import Array, adjoint, namespace


class Operator(NamedTuple):
    """Products with a matrix of `shape`, whose library, dtype and device are those of `like`."""

    shape: tuple[int, ...]
    like: Array
    matmul: Callable[[Array], Array]  # X (..., n, p) -> A @ X
    rmatmul: Callable[[Array], Array]  # X (..., m, p) -> adjoint(A) @ X


def dense(A: Array) -> tuple[Operator, Array]:
    """`A` times a power of two per matrix, and that power, as in `normalized` but without a copy.

    Where the power is NaN, all products are zero.
    """
    xp = namespace(A)
    power = normalizing_power(A)
    finite = xp.isfinite(power)
    factor = xp.where(finite, power, 1.0)

    def forward(X: Array) -> Array:
        return xp.where(finite, matmul(A, X * factor), 0.0)

    def backward(X: Array) -> Array:
        X = X * factor
        if multiplies_transposed(A):
            return xp.where(finite, matmul(adjoint(A), X), 0.0)
        # What stands between the product and its adjoint keeps JAX from making one of them again.
        return adjoint(xp.where(finite, matmul(adjoint(X), A), 0.0))

    return Operator(A.shape, A, forward, backward), power


def product(B: Array, A: Array) -> Operator:
    """The matrix ``B @ A``, which is never formed."""
    return Operator(
        (*A.shape[:-2], B.shape[-2], A.shape[-1]),
        A,
        lambda X: matmul(B, matmul(A, X)),
        lambda X: matmul(adjoint(A), matmul(adjoint(B), X)),
    )


def difference(one: Operator, other: Operator) -> Operator:
    """`one` minus `other`."""
    return one._replace(
        matmul=lambda X: one.matmul(X) - other.matmul(X),
        rmatmul=lambda X: one.rmatmul(X) - other.rmatmul(X),
    )
