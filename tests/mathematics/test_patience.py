"""What an iteration does that would take very long, or would never end."""

import importlib
import warnings

import numpy as np
import pytest

import eckart
import zoo
from compare import assert_within

RANK = 5


def second_differences(n):
    """The 1-D Laplacian, whose largest values are very near to each other, and they."""
    A = 2 * np.eye(n) - np.eye(n, k=1) - np.eye(n, k=-1)
    return A, 4 * np.sin(np.arange(n, 0, -1) * np.pi / (2 * n + 2)) ** 2


def kinds(A):
    """The same matrix in memory, sparse, and known by its products."""
    sparse = importlib.import_module("scipy.sparse").csr_array(A)
    products = eckart.operator(A.shape, A.__matmul__, A.T.__matmul__, like=A)
    return A, A.astype(np.float32), sparse, products


@pytest.mark.numpy_only
@pytest.mark.parametrize("method", ["auto", "krylov"])
def test_a_matrix_small_enough_for_the_full_svd_gets_it(method):
    """No warning, and values exact to rounding, of whatever kind it is."""
    A, S = second_differences(400)
    for kind in kinds(A):
        name = str(kind.dtype)
        found = eckart.truncated_svd(kind, RANK, method=method)
        assert_within(found.S, S[:RANK], dtype=name, size=400, scale=4.0)


@pytest.mark.numpy_only
def test_a_larger_one_is_given_more_time_than_it_takes(monkeypatch):
    """Where the full SVD is out of the question, hundreds of steps with a wider basis."""
    monkeypatch.setattr("eckart._algorithms.krylov._FORMED", 0)
    A, S = second_differences(500)
    _, _, sparse, _ = kinds(A)
    for asked in None, 1e-10:
        factors = eckart.truncated_svd(sparse, RANK, accuracy=asked)
        assert_within(factors.S, S[:RANK], dtype="float64", size=500, scale=4.0, units=100)
        residuals = A @ factors.Vh.T - factors.U * factors.S
        assert np.max(np.linalg.norm(residuals, axis=0)) <= (asked or 1.5e-8) * S[0]


@pytest.mark.numpy_only
def test_accuracy_below_rounding_is_not_waited_for():
    """It cannot be had: a warning after a few steps, with what is left."""
    products = 0
    A = zoo.matrix(1 / np.arange(1.0, 301), (320, 300), dtype="float64")

    def matmul(X):
        nonlocal products
        products += 1
        return A @ X

    operator = eckart.operator(A.shape, matmul, A.T.__matmul__, like=A)
    with pytest.warns(RuntimeWarning, match="have not converged: a residual of"):
        eckart.truncated_svd(operator, RANK, accuracy=1e-18)
    assert products < 40
    for method in "exact", "gram", "auto":
        with pytest.warns(RuntimeWarning, match="have not converged: a residual of"):
            eckart.truncated_svd(A, RANK, method=method, accuracy=1e-18)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for method in "exact", "gram", "auto":
            eckart.truncated_svd(A, RANK, method=method, accuracy=1e-13)
