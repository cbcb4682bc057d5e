"""A matrix in chunks, on a disk or on a cluster: a Dask array."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from eckart import _refusals
from eckart._arrays.namespace import Array, DType, cast, conjugate, is_dask, namespace, working
from eckart._matrices.dense import Dense
from eckart._matrices.matrix import FORMED, Matrix
from eckart._matrices.product import Product

# Entries up to which a Dask array is read into memory and decomposed there.
_READ = 2**23


class Chunked(Matrix):
    """A Dask array, processed in as few passes over the data as possible."""

    by_products = False

    def __init__(self, A: Any) -> None:
        self.given, self.like, self.shape = A, A._meta, A.shape

    takes = staticmethod(is_dask)

    @classmethod
    def of(cls, name: str, A: Any) -> Chunked:
        _refusals.arrays(**{name: A})
        _refusals.matrix(name, A)
        return cls(A)

    def matmul(self, X: Array) -> Array:
        return (self.given @ X).compute()

    def rmatmul(self, X: Array) -> Array:
        A = namespace(self.given).matrix_transpose(self.given)
        return (conjugate(A) @ X).compute()

    def constant(self, constant: Any, guard: Any) -> Chunked:
        return self

    def astype(self, dtype: DType, name: str, whose: str) -> Chunked:
        return Chunked(cast(self.given, dtype))

    def scaled_energy(self) -> tuple[Array, Array]:
        if len(self.shape) > 2 or 0 in self.shape:
            return self.loaded().scaled_energy()
        squares, power = self.passes().measured()
        return squares, power

    def entries(self, name: str = "A") -> Array:
        if math.prod(self.shape) > FORMED:
            _refusals.refuse_reading(name, tuple(self.shape), FORMED)
        return working(self.given.compute())

    def loaded(self, name: str = "A") -> Matrix:
        return Dense(self.entries(name), self.given)

    def reduced(self) -> Matrix:
        """The matrix in memory, or ``R`` of its QR factorization if it is large."""
        if math.prod(self.shape) <= _READ or len(self.shape) > 2:
            return self.loaded()
        if min(self.shape) ** 2 > FORMED:
            _refusals.refuse_short_side(self.shape, math.isqrt(FORMED))
        R, power = self.passes().triangle()
        eye = np.eye(R.shape[-1], dtype=R.dtype)
        return Dense(R) if power == 1 else Product(R, eye / power)

    def prepared(self, needs: str | None) -> Matrix:
        by_chunks = needs == "products" or (needs is None and math.prod(self.shape) > _READ)
        if by_chunks and len(self.shape) == 2 and 0 not in self.shape:
            return self
        return self.loaded()

    def passes(self) -> Any:
        from eckart._matrices import _dask

        return _dask.Strips(self.given)

    def placed(self, U: Array) -> Array:
        from eckart._matrices import _dask

        return U if is_dask(U) else _dask.chunked(U, self.given)
