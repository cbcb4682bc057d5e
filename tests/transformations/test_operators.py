"""Operators and sparse matrices made of traced arrays."""

import importlib

import pytest

import eckart
import zoo
from truth import assert_truncated

RANK = 6


@pytest.mark.needs("jit")
def test_operators_are_decomposed_inside_jit(backend, dtype):
    """Made of traced arrays, sparse ones too; a rank is needed."""
    A = zoo.sparse(150, 100, dtype)
    jax_sparse = importlib.import_module("jax.experimental.sparse")

    def of_products(array):
        adjoint = backend.xp.conj(array.mT)
        operator = eckart.operator(
            array.shape, lambda X: array @ X, lambda X: adjoint @ X, like=array
        )
        return eckart.truncated_svd(operator, RANK)

    array = backend.asarray(A, dtype)
    assert_truncated(backend, backend.jit(of_products)(array), A, dtype)
    sparse = jax_sparse.BCOO.fromdense(array)
    found = backend.jit(lambda A: eckart.truncated_svd(A, RANK))(sparse)
    assert_truncated(backend, found, A, dtype)
