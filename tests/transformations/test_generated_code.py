"""The code that PyTorch's compiler generates computes what the graph says."""

import numpy as np
import pytest

import eckart
import zoo
from compare import assert_within
from truth import real_inner


def triplets(A, B):
    return (*eckart.truncated_svd(A, 2), *eckart.truncated_svd(A, 3, rtol=0.1))


def factors(A, B):
    balanced = eckart.factorize(A, 2)
    return (*balanced, eckart.reconstruct(balanced), eckart.linear(B, balanced))


def numbers(A, B):
    S = eckart.singular_values(A)
    rank = eckart.select_rank(S, error=0.2)
    return S, eckart.matrix_rank(A), eckart.effective_rank(A), eckart.truncation_error(S, rank)


def updated(A, B):
    svd, loss = eckart.update(eckart.truncated_svd(A, 2), B, 3)
    return (*svd, loss)


@pytest.mark.needs("compile")
@pytest.mark.parametrize("function", [triplets, factors, numbers, updated])
def test_generated_code_computes_what_the_eager_call_does(backend, dtype, function):
    """The other tests of `compile` look at the graph; here a compiler makes a program of it."""
    A = backend.asarray(zoo.matrix(np.asarray([3.0, 1.0, 0.5, 0.0]), (6, 4), dtype=dtype), dtype)
    B = backend.asarray(zoo.normal((3, 4), dtype, 1), dtype)
    compiled = backend.compile(function, "inductor")
    for one, other in zip(compiled(A, B), function(A, B), strict=True):
        assert_within(
            backend.to_numpy(one), backend.to_numpy(other), dtype=dtype, size=7, scale=9, units=8
        )


@pytest.mark.needs("compile")
def test_generated_gradient_is_the_eager_one(backend):
    """Backwards too."""
    dtype = "float32"
    A = backend.asarray(zoo.matrix(np.asarray([3.0, 2.0, 1.0, 1.0]), (6, 4), dtype=dtype), dtype)
    W = backend.asarray(zoo.normal((6, 4), dtype, 9), dtype)

    def loss(A):
        return real_inner(backend.xp, W, eckart.reconstruct(eckart.factorize(A, 2)))

    expected = backend.to_numpy(backend.gradient(loss, A))
    actual = backend.to_numpy(backend.gradient(backend.compile(loss, "inductor"), A))
    assert_within(actual, expected, dtype=dtype, size=6, scale=9, units=16)
