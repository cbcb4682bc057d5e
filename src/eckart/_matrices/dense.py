"""A matrix with its entries in memory: an array of any library."""

from __future__ import annotations

from typing import Any

from eckart import _refusals
from eckart._arrays.linalg import largest_modulus, matmul, multiplies_transposed, normalizing_power
from eckart._arrays.namespace import Array, DType, adjoint, cast, namespace, widest, working
from eckart._matrices.matrix import Matrix, is_one


class Dense(Matrix):
    """An array times an optional power of two per matrix; zero for a power that is NaN.

    A product multiplies the thin operand by the power, so the array is not copied.
    """

    by_products = False
    knows_energy = reads_strips = True
    preferred = None

    def __init__(self, A: Array, given: Array | None = None, power: Array | None = None) -> None:
        self.parts, self.shape, self.power = (A,), A.shape, power
        self.given = self.like = A if given is None else given
        self.finite = None if power is None else namespace(A).isfinite(power)

    takes = staticmethod(lambda A: True)

    @classmethod
    def of(cls, name: str, A: Any) -> Dense:
        _refusals.arrays(**{name: A})
        _refusals.matrix(name, A)
        return cls(working(A), A)

    def matmul(self, X: Array) -> Array:
        return self._finite(matmul(self.parts[0], self._powered(X)))

    def rmatmul(self, X: Array) -> Array:
        (A,), X = self.parts, self._powered(X)
        if multiplies_transposed(A):
            return self._finite(matmul(adjoint(A), X))
        # The operation between the product and its adjoint keeps JAX from merging the two.
        return adjoint(self._finite(matmul(adjoint(X), A)))

    def _powered(self, X: Array) -> Array:
        return X if self.power is None else X * namespace(X).where(self.finite, self.power, 1.0)

    def _finite(self, Y: Array) -> Array:
        return Y if self.power is None else namespace(Y).where(self.finite, Y, 0.0)

    def adjoint(self) -> Dense:
        return Dense(adjoint(self.parts[0]), power=self.power)

    def constant(self, constant: Any, guard: Any) -> Dense:
        return Dense(constant(self.parts[0]))

    def astype(self, dtype: DType, name: str, whose: str) -> Dense:
        return Dense(cast(self.parts[0], dtype))

    def magnitude(self) -> Array:
        return largest_modulus(self.parts[0])

    def scaled(self) -> tuple[Matrix, Array]:
        (A,) = self.parts
        power = normalizing_power(A)
        return (self if is_one(power) else Dense(A, power=power)), power

    def strip(self, axis: int, start: int, stop: int) -> Array:
        (A,) = self.parts
        part = widest(A[..., start:stop, :] if axis == -2 else A[..., start:stop])
        return part if self.power is None else part * self.power

    def entries(self, name: str = "A") -> Array:
        return self.parts[0]

    def reduced(self) -> Matrix:
        return self

    def prepared(self, needs: str | None) -> Matrix:
        return self
