"""The truncated SVD is the best approximation, on every spectrum of the zoo."""

import numpy as np
import pytest

import eckart
import zoo
from compare import EPS, assert_within
from truth import assert_orthonormal, parts


@pytest.fixture(params=zoo.SPECTRA)
def spectrum(request):
    return zoo.SPECTRA[request.param]


@pytest.fixture(params=zoo.SHAPES, ids=str)
def shape(request):
    return request.param


def test_all_triplets_give_the_matrix_back(backend, dtype, shape, spectrum):
    """A = U S Vh with orthonormal U and V, and S as chosen, descending."""
    S = spectrum(min(shape))
    A = zoo.matrix(S, shape, dtype=dtype)
    U, values, Vh = parts(backend, eckart.truncated_svd(backend.asarray(A, dtype), min(shape)))
    size = max(shape)
    assert_within(values, S, dtype=dtype, size=size, units=4)
    assert_within((U * values) @ Vh, A, dtype=dtype, size=size, units=8)
    assert_orthonormal(U, dtype=dtype, size=size)
    assert_orthonormal(Vh.conj().T, dtype=dtype, size=size)
    assert np.all(np.diff(values) <= 0)


def test_error_is_the_first_discarded_singular_value(backend, dtype, shape, spectrum):
    """Eckart–Young: no matrix of rank r is nearer to A than S[r], and ours is that near."""
    S = spectrum(min(shape))
    A = zoo.matrix(S, shape, dtype=dtype)
    for rank in {0, 1, min(shape) // 2}:
        U, values, Vh = parts(backend, eckart.truncated_svd(backend.asarray(A, dtype), rank))
        assert values.shape == (rank,)
        remainder = A - (U * values) @ Vh
        dropped = np.append(S, 0.0)[rank:]
        size = max(shape)
        assert_within(np.linalg.norm(remainder, 2), dropped[0], dtype=dtype, size=size, units=8)
        assert_within(
            np.linalg.norm(remainder), np.linalg.norm(dropped), dtype=dtype, size=size, units=8
        )


@pytest.mark.parametrize("split", ["balanced", "left", "right"])
def test_factors_multiply_to_the_best_approximation(backend, dtype, shape, spectrum, split):
    """B A is the truncation, wherever the singular values go."""
    S = spectrum(min(shape))
    A = zoo.matrix(S, shape, dtype=dtype)
    rank = (min(shape) + 1) // 2
    B, C = parts(backend, eckart.factorize(backend.asarray(A, dtype), rank, split=split))
    assert (B.shape, C.shape) == ((shape[0], rank), (rank, shape[1]))
    error = np.linalg.norm(A - B @ C)
    assert_within(error, np.linalg.norm(S[rank:]), dtype=dtype, size=max(shape), units=8)
    left = np.linalg.norm(B, axis=0)
    expected = {"balanced": np.sqrt(S), "left": S, "right": np.ones_like(S)}[split][:rank]
    size, root = max(shape), 0.5 if split == "balanced" else 1.0
    noise = (8 * size * EPS[dtype]) ** root
    assert np.all(np.abs(left - expected) <= noise)


@pytest.mark.parametrize("shape", [(30, 5), (5, 30), (24, 12), (12, 24)], ids=str)
def test_short_side_gives_the_singular_values_of_the_oracle(backend, dtype, shape, spectrum):
    """Tall and wide matrices take another way, and come out as exactly as the square ones."""
    S = spectrum(min(shape))
    A = zoo.rounded(7.0 * zoo.matrix(S, shape, dtype=dtype, seed=8), dtype)
    expected = np.linalg.svd(A, compute_uv=False)
    values = backend.to_numpy(eckart.singular_values(backend.asarray(A, dtype)))
    assert_within(values, expected, dtype=dtype, size=max(shape), scale=7.0, units=2)


@pytest.mark.parametrize("A", [zoo.hilbert(12), zoo.kahan(30)], ids=["Hilbert", "Kahan"])
def test_literature_matrices_agree_with_the_oracle(backend, dtype, A):
    """Spectra of many magnitudes come out to rounding of the largest value."""
    A = zoo.rounded(A, dtype)
    expected = np.linalg.svd(A, compute_uv=False)
    values = backend.to_numpy(eckart.singular_values(backend.asarray(A, dtype)))
    assert_within(values, expected, dtype=dtype, size=len(A), scale=expected[0], units=2)
