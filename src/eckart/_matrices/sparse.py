"""Sparse matrices of SciPy and CuPy, of PyTorch and of JAX, multiplied by their own libraries.

The module of the class tells the kind of a sparse matrix, so no library is imported to check it.
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

# Largest number of strips of a sparse matrix, and two lower bounds on the entries of a strip: a
# number, and a multiple of the columns, because each strip has its own product with the transpose.
_STRIPS, _ENTRIES, _OUTPUT = 16, 100_000, 8


class Sparse(Matrix):
    """A sparse matrix and its transpose, which both multiply arrays with ``@``.

    The squares of `values` add up to the squared norm, unless an entry is stored in several parts.
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
    """A sparse array or matrix of SciPy, or of CuPy, which has the same interface."""

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
        if not A.has_canonical_format:  # an entry may be stored in several parts
            A = A.copy()
            A.sum_duplicates()
        count = min(_STRIPS, A.nnz // max(_ENTRIES, _OUTPUT * A.shape[1]))
        if count < 2 or not isinstance(A.data, np.ndarray):
            return cls(A, A.T, A.data)
        strips = _Strips(A, count)
        return cls(strips, _Transposed(strips), A.data)


class TorchSparse(Sparse):
    """A sparse tensor of PyTorch of any layout. Products are fast in the CSR layout."""

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
    """A BCOO. It may store an entry in several parts, so squares of its values say nothing."""

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
    """Strips of whole rows of a sparse matrix of SciPy, which are multiplied in parallel threads.

    The number of strips does not depend on the processor, and so the rounding does not either.
    """

    def __init__(self, A: Any, count: int) -> None:
        cuts = np.searchsorted(A.indptr, np.linspace(0, A.nnz, count + 1)[1:-1])
        self.shape = A.shape
        self.rows = [slice(*pair) for pair in itertools.pairwise([0, *cuts, A.shape[0]])]
        self.parts = [_rows(A, rows) for rows in self.rows]

    def __matmul__(self, X: Array) -> Array:
        return np.concat(_in_threads(lambda part: part @ X, self.parts))


class _Transposed:
    """The transpose of strips: a product is the sum over the strips."""

    def __init__(self, strips: _Strips) -> None:
        self.rows = strips.rows
        self.parts = [_turned(part) for part in strips.parts]

    def __matmul__(self, X: Array) -> Array:
        return sum(_in_threads(lambda part, rows: part @ X[rows], self.parts, self.rows))


def _in_threads(function: Callable[..., Array], *arguments: list[Any]) -> list[Array]:
    """The results of a function for each argument, in as many threads as the machine has cores.

    After the main thread has ended, Python starts no threads, and this thread does all the work.
    """
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        try:
            results = pool.map(function, *arguments)
        except RuntimeError:
            return list(map(function, *arguments))
        return list(results)


def _rows(A: Any, rows: slice) -> Any:
    """Some rows of a CSR array, in the same memory."""
    from scipy.sparse import csr_array

    indptr = A.indptr[rows.start : rows.stop + 1]
    entries = slice(indptr[0], indptr[-1])
    part = csr_array((len(indptr) - 1, A.shape[1]), dtype=A.dtype)
    # The constructor copies a small part of a large array.
    part.data, part.indices, part.indptr = A.data[entries], A.indices[entries], indptr - indptr[0]
    return part


def _turned(A: Any) -> Any:
    """The transpose of a CSR array, in the same memory."""
    from scipy.sparse import csc_array

    part = csc_array(A.shape[::-1], dtype=A.dtype)
    part.data, part.indices, part.indptr = A.data, A.indices, A.indptr
    return part


def is_class(A: Any, module: str, name: str) -> bool:
    """Whether the class of `A`, or one of its bases, has this name and is from this module."""
    return any(
        kind.__module__.startswith(module) and kind.__name__ == name for kind in type(A).__mro__
    )
