"""Sparse matrices of SciPy and CuPy, of PyTorch and of JAX, by the products of their libraries.

They are known by where their class comes from, so that no library is imported to know one.
"""

from __future__ import annotations

import itertools
import os
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from eckart import _refusals
from eckart._arrays.linalg import squared_norm
from eckart._arrays.namespace import (
    Array,
    conjugate,
    full_precision,
    is_torch,
    namespace,
    widest,
    working,
)
from eckart._matrices.matrix import Matrix

# Most strips that a sparse matrix is multiplied in, and the entries of one at least: so many, and
# so many times the columns, as each makes a product of its own with the transpose.
_STRIPS, _ENTRIES, _OUTPUT = 16, 100_000, 8


class Sparse(Matrix):
    """A sparse matrix that multiplies arrays, and its transpose.

    The squares of its `values` add up to those of the entries, unless an entry is stored in parts.
    """

    knows_energy = True

    def __init__(self, A: Any, transposed: Any, values: Array, like: Array | None = None) -> None:
        self.A, self.transposed, self.values = A, transposed, values
        self.shape, self.like = tuple(A.shape), values[:0] if like is None else like

    def matmul(self, X: Array) -> Array:
        with full_precision(X):
            return self.A @ X

    def rmatmul(self, X: Array) -> Array:
        with full_precision(X):
            return conjugate(self.transposed @ conjugate(X))

    def energy(self, factor: Array | float = 1.0) -> Array:
        return squared_norm(widest(self.values[None, :] * factor))


class SciPySparse(Sparse):
    """A sparse array or matrix of SciPy, or of CuPy in its likeness."""

    @staticmethod
    def takes(A: Any) -> bool:
        return hasattr(A, "tocsr") and any(
            "scipy.sparse" in kind.__module__ for kind in type(A).__mro__
        )

    @classmethod
    def of(cls, name: str, A: Any) -> Matrix:
        _refusals.one_matrix(name, A)
        A = A.tocsr()
        _refusals.arrays(**{name: A.data})
        if not A.has_canonical_format:  # an entry may be the sum of several stored ones
            A = A.copy()
            A.sum_duplicates()
        count = min(_STRIPS, A.nnz // max(_ENTRIES, _OUTPUT * A.shape[1]))
        if count < 2 or not isinstance(A.data, np.ndarray):
            return cls(A, A.T, A.data)
        strips = _Strips(A, count)
        return cls(strips, _Transposed(strips), A.data)


class TorchSparse(Sparse):
    """A sparse tensor of PyTorch of any layout: by rows, as its transpose, products are fast."""

    takes = staticmethod(lambda A: is_torch(A) and "sparse" in str(A.layout))

    @classmethod
    def of(cls, name: str, A: Any) -> Matrix:
        _refusals.one_matrix(name, A)
        xp = namespace(A)
        if A.dense_dim():
            _refusals.refuse_hybrid(name, A.dense_dim())
        like = xp.zeros(0, dtype=A.dtype, device=A.device)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta", UserWarning)
            blocked = A.layout in (xp.sparse_bsr, xp.sparse_bsc)
            A = working(A.to_sparse_coo() if blocked else A).to_sparse_csr()
            transposed = A.transpose(0, 1).to_sparse_csr()
        values = A.values().detach()
        _refusals.arrays(**{name: values})
        return cls(A, transposed, values, like)


class JAXSparse(Sparse):
    """A BCOO, which may store an entry in several parts, so that their squares say nothing."""

    knows_energy = False
    energy = Matrix.energy

    @staticmethod
    def takes(A: Any) -> bool:
        return hasattr(A, "todense") and is_class(A, "jax.experimental.sparse", "BCOO")

    @classmethod
    def of(cls, name: str, A: Any) -> Matrix:
        _refusals.one_matrix(name, A)
        if A.n_batch or A.n_dense:
            _refusals.refuse_layout(name, A.n_batch, A.n_dense)
        _refusals.arrays(**{name: A.data})
        return cls(A, A.T, A.data)


class _Strips:
    """Strips of whole rows of a sparse matrix of SciPy, multiplied in as many threads as may be.

    How many they are does not go by the processor, so that the rounding is the same on any.
    """

    def __init__(self, A: Any, count: int) -> None:
        cuts = np.searchsorted(A.indptr, np.linspace(0, A.nnz, count + 1)[1:-1])
        self.shape = A.shape
        self.rows = [slice(*pair) for pair in itertools.pairwise([0, *cuts, A.shape[0]])]
        self.parts = [_rows(A, rows) for rows in self.rows]

    def __matmul__(self, X: Array) -> Array:
        return np.concat(_in_threads(lambda part: part @ X, self.parts))


class _Transposed:
    """The transpose of strips: what each of them adds to a product is added up."""

    def __init__(self, strips: _Strips) -> None:
        self.rows = strips.rows
        self.parts = [_turned(part) for part in strips.parts]

    def __matmul__(self, X: Array) -> Array:
        return sum(_in_threads(lambda part, rows: part @ X[rows], self.parts, self.rows))


def _in_threads(function: Callable[..., Array], *arguments: list[Any]) -> list[Array]:
    """What a function gives for each argument, in as many threads as there are cores.

    Python starts none any more once the main thread has ended.
    """
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        try:
            results = pool.map(function, *arguments)
        except RuntimeError:
            return list(map(function, *arguments))
        return list(results)


def _rows(A: Any, rows: slice) -> Any:
    """Some rows of a CSR array, which share its memory."""
    from scipy.sparse import csr_array

    indptr = A.indptr[rows.start : rows.stop + 1]
    entries = slice(indptr[0], indptr[-1])
    part = csr_array((len(indptr) - 1, A.shape[1]), dtype=A.dtype)
    # The constructor copies what is a small part of a large array.
    part.data, part.indices, part.indptr = A.data[entries], A.indices[entries], indptr - indptr[0]
    return part


def _turned(A: Any) -> Any:
    """The transpose of a CSR array, which shares its memory."""
    from scipy.sparse import csc_array

    part = csc_array(A.shape[::-1], dtype=A.dtype)
    part.data, part.indices, part.indptr = A.data, A.indices, A.indptr
    return part


def is_class(A: Any, module: str, name: str) -> bool:
    """Whether `A` is of a class of this name, or of one derived from it."""
    return any(
        kind.__module__.startswith(module) and kind.__name__ == name for kind in type(A).__mro__
    )
