"""Derivatives of updates, with respect to the factors and to what arrives."""

import numpy as np
import pytest

import eckart
import zoo
from compare import assert_within
from truth import best, dense, real_inner, svd_of

pytestmark = pytest.mark.needs("grad")


@pytest.mark.needs("grad")
@pytest.mark.parametrize("axis", [-2, -1])
def test_gradient_is_that_of_the_truncation(backend, dtype, axis):
    """In closed form, with respect to the new rows and to the factors before."""
    kept, rank = zoo.normal((5, 5), dtype, 0), 3
    new = zoo.normal((5, 5), dtype, 1)
    factors, _ = svd_of(backend, kept, rank, dtype)
    whole = np.concatenate([dense(backend, factors), new], axis=axis)
    W = zoo.normal(whole.shape, dtype, 2)
    weight = backend.asarray(W, dtype)
    S = np.linalg.svd(whole, compute_uv=False)
    G = zoo.truncation_derivative(whole, S, rank, W)
    before, after = (G[:5], G[5:]) if axis == -2 else (G[:, :5], G[:, 5:])

    def loss(Vh, new):
        svd = eckart.update(eckart.SVD(factors.U, factors.S, Vh), new, axis=axis).svd
        return real_inner(backend.xp, weight, eckart.reconstruct(svd))

    found = backend.gradient(loss, factors.Vh, backend.asarray(new, dtype))
    US = dense(backend, eckart.SVD(*factors[:2], backend.asarray(np.eye(rank), dtype)))
    for actual, expected in zip(found, (US.conj().T @ before, after), strict=True):
        actual = backend.to_numpy(actual)
        assert_within(actual, expected, dtype=dtype, size=10, scale=30.0, units=16)


@pytest.mark.needs("grad")
@pytest.mark.parametrize("tie", [False, True])
def test_gradient_of_the_loss_is_what_is_dropped(backend, dtype, tie):
    """Over its norm, also where dropped values are equal; zero where nothing is dropped."""
    values = [4.0, 3.0, 1.0, 1.0, 0.0] if tie else [5.0, 4.0, 2.0, 1.5, 1.0]
    A = zoo.matrix(np.asarray(values), (7, 5), dtype=dtype)
    left = backend.asarray(A[:4], dtype)
    factors = eckart.LowRank(backend.asarray(np.eye(4), dtype), left)
    rows = backend.asarray(A[4:], dtype)
    G = backend.gradient(lambda rows: eckart.update(factors, rows, 2).loss, rows)
    dropped = A - best(A, 2)[0]
    expected = dropped[4:] / np.linalg.norm(dropped)
    assert_within(backend.to_numpy(G), expected, dtype=dtype, size=7, scale=5.0, units=4)
    zero = backend.asarray(np.zeros((2, 5)), dtype)
    G = backend.gradient(lambda rows: eckart.update(factors, rows).loss, zero)
    assert np.all(np.isfinite(backend.to_numpy(G)))
