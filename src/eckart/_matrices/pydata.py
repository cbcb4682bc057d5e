"""Sparse arrays of PyData's library `sparse`."""

from __future__ import annotations

from typing import Any

from eckart import _refusals
from eckart._matrices.matrix import Matrix
from eckart._matrices.sparse import SciPySparse


class PyDataSparse(SciPySparse):
    """A COO, GCXS or DOK, converted to a sparse array of SciPy."""

    takes = staticmethod(lambda A: type(A).__module__.startswith("sparse."))

    @classmethod
    def of(cls, name: str, A: Any) -> Matrix:
        _refusals.one_matrix(name, A)
        A = A.to_coo() if hasattr(A, "to_coo") else A
        if A.fill_value != 0:
            _refusals.refuse_fill(name, A.fill_value)
        return SciPySparse.of(name, A.to_scipy_sparse())
