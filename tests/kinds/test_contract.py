"""The kinds of matrix, each under the contract of all."""

import importlib
from importlib.util import find_spec

import numpy as np
import pytest

import eckart
from compare import assert_within
from eckart._matrices.chunked import Chunked
from eckart._matrices.dense import Dense
from eckart._matrices.operator import Operator
from eckart._matrices.product import Product
from eckart._matrices.pydata import PyDataSparse
from eckart._matrices.sparse import JAXSparse, SciPySparse, TorchSparse
from eckart._matrices.sum import Sum
from kinds.contract import MatrixContract

# JAX compiles each step anew for each kind, and has none of its own but the sparse one.
ELSEWHERE = pytest.mark.only("numpy", "torch", "array_api_strict", "cupy", "dask")


@pytest.mark.only("numpy", "torch", "array_api_strict", "cupy")
class TestDense(MatrixContract):
    """An array."""

    def make(self, backend, A, dtype):
        return backend.asarray(A, dtype)

    def kind(self):
        return Dense


@ELSEWHERE
class TestLowRank(MatrixContract):
    """Two factors."""

    def make(self, backend, A, dtype):
        eye = backend.asarray(np.eye(A.shape[0]), dtype)
        return eckart.LowRank(eye, backend.asarray(A, dtype))

    def kind(self):
        return Product


@ELSEWHERE
class TestSVD(MatrixContract):
    """Singular triplets."""

    def make(self, backend, A, dtype):
        # One that is no decomposition stands for a matrix all the same.
        U, S = np.eye(A.shape[0]), np.ones(A.shape[0])
        real = {"complex64": "float32", "complex128": "float64"}.get(dtype, dtype)
        return eckart.SVD(
            backend.asarray(U, dtype), backend.asarray(S, real), backend.asarray(A, dtype)
        )

    def kind(self):
        return Product


@pytest.mark.needs("operators")
@ELSEWHERE
class TestOperator(MatrixContract):
    """Two products."""

    def make(self, backend, A, dtype):
        array = backend.asarray(A, dtype)
        turned = backend.asarray(A.conj().T, dtype)
        return eckart.operator(A.shape, lambda X: array @ X, lambda X: turned @ X, like=array)

    def kind(self):
        return Operator


@ELSEWHERE
class TestSum(MatrixContract):
    """An array and factors that add up to the matrix."""

    def make(self, backend, A, dtype):
        half = backend.asarray(A / 2, dtype)
        return eckart.add(half, eckart.LowRank(half, backend.asarray(np.eye(6), dtype)))

    def kind(self):
        return Sum


@pytest.mark.only("numpy")
class TestSciPySparse(MatrixContract):
    """A sparse array of SciPy."""

    def make(self, backend, A, dtype):
        return importlib.import_module("scipy.sparse").csc_array(A.astype(dtype))

    def kind(self):
        return SciPySparse


@pytest.mark.only("numpy")
class TestLinearOperator(MatrixContract):
    """A linear operator of SciPy."""

    def make(self, backend, A, dtype):
        return importlib.import_module("scipy.sparse.linalg").aslinearoperator(A.astype(dtype))

    def kind(self):
        return Operator


@pytest.mark.only("numpy")
@pytest.mark.skipif(find_spec("sparse") is None, reason="the library sparse is not installed")
class TestPyDataSparse(MatrixContract):
    """A sparse array of PyData."""

    def make(self, backend, A, dtype):
        return importlib.import_module("sparse").COO.from_numpy(A.astype(dtype))

    def kind(self):
        return SciPySparse

    @pytest.mark.parametrize("name", ["COO", "GCXS", "DOK"])
    def test_every_format_is_taken(self, name):
        """Compressed, and one that can be written to."""
        A = getattr(importlib.import_module("sparse"), name).from_numpy(np.diag([3.0, 0.0, 1.0]))
        assert PyDataSparse.takes(A)
        assert np.allclose(eckart.singular_values(A), [3.0, 1.0, 0.0])

    def test_what_is_filled_with_other_than_zeros_is_refused(self):
        """It is not sparse, but a sum."""
        A = importlib.import_module("sparse").COO.from_numpy(np.eye(3), fill_value=1.0)
        with pytest.raises(ValueError, match=r"`A` must be zero wherever .* fill value of 1\.0"):
            eckart.norm(A)


@pytest.mark.only("torch")
class TestTorchSparse(MatrixContract):
    """A sparse tensor of PyTorch."""

    def make(self, backend, A, dtype):
        return backend.asarray(A, dtype).to_sparse_coo()

    def kind(self):
        return TorchSparse


@pytest.mark.only("jax")
class TestJAXSparse(MatrixContract):
    """A BCOO of JAX."""

    def make(self, backend, A, dtype):
        sparse = importlib.import_module("jax.experimental.sparse")
        return sparse.BCOO.fromdense(backend.asarray(A, dtype))

    def kind(self):
        return JAXSparse


@pytest.mark.only("dask")
class TestChunked(MatrixContract):
    """A Dask array."""

    def make(self, backend, A, dtype):
        return backend.asarray(A, dtype).rechunk((4, 5))

    def kind(self):
        return Chunked

    def test_energy_of_a_large_one_is_found_in_one_pass(self, A, matrix, dtype):
        """With the power that its entries are multiplied by: a pass may be hours."""
        squares, power = matrix.scaled_energy()
        assert_within(squares / power**2, np.sum(np.abs(A) ** 2), dtype=dtype, size=9, scale=64.0)
