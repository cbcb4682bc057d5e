"""Gradients of the norm and the inner product of matrices given by factors."""

import numpy as np
import pytest

import eckart
import zoo
from compare import assert_within
from truth import low_rank

pytestmark = pytest.mark.needs("grad")


@pytest.mark.needs("grad")
def test_gradients_of_norm_and_inner_product_are_their_closed_forms(backend, dtype):
    """Of the norm ``W / norm(W)``, of ``Re inner`` the other matrix; rank-deficient too."""
    factors, W = low_rank(backend, dtype, r=3)
    other, V = low_rank(backend, dtype, r=2, seed=7)
    B, A = factors
    A = backend.xp.concat([A[:2, :], A[:1, :]])  # B @ A has rank 2 of 3
    W = backend.to_numpy(B).astype(W.dtype) @ backend.to_numpy(A)
    for function, G in (
        (lambda B, A: eckart.norm(eckart.LowRank(B, A)), W / np.linalg.norm(W)),
        (lambda B, A: backend.xp.real(eckart.inner(other, eckart.LowRank(B, A)) + 0j), V),
    ):
        left, right = backend.gradient(function, B, A)
        expected = G @ backend.to_numpy(A).conj().T, backend.to_numpy(B).conj().T @ G
        for actual, exact in zip((left, right), expected, strict=True):
            assert_within(backend.to_numpy(actual), exact, dtype=dtype, size=7, scale=40, units=4)


@pytest.mark.needs("grad")
def test_gradients_at_zero_are_finite(backend, dtype):
    """The norm has none there and is given zero; zero columns do not spoil an inner product."""
    zero = backend.asarray(np.zeros((4, 2)), dtype), backend.asarray(np.zeros((2, 3)), dtype)
    for function in (
        lambda B, A: eckart.norm(eckart.LowRank(B, A)),
        lambda B, A: backend.xp.real(eckart.inner(eckart.LowRank(B, A), eckart.LowRank(B, A)) + 0j),
    ):
        for part in backend.gradient(function, *zero):
            assert_within(backend.to_numpy(part), np.zeros(part.shape), dtype=dtype, size=0)


@pytest.mark.needs("double")
def test_second_derivative_of_the_norm_is_that_of_the_entries(backend):
    """Factors have singular values of zero, which are equal; the norm is smooth all the same."""
    factors, _ = low_rank(backend, "float64", r=2)
    (B, A), D = factors, backend.asarray(zoo.random((7, 2), "float64", 9))

    def slope(B):
        return backend.along(lambda B: eckart.norm(eckart.LowRank(B, A)), B, D)

    found = float(backend.along(slope, B, D))
    W, V = backend.to_numpy(B) @ backend.to_numpy(A), backend.to_numpy(D) @ backend.to_numpy(A)
    size = np.linalg.norm(W)
    exact = np.sum(V * V) / size - np.sum(W * V) ** 2 / size**3
    assert_within(found, exact, dtype="float64", size=7, scale=40, units=4)
