"""What is promised of an iteration, on spectra that nobody chose."""

import warnings

import numpy as np
import pytest

import eckart
import zoo

PROMISED = {"float32": 1e-4, "complex64": 1e-4, "float64": 2.0**-26, "complex128": 2.0**-26}


def spectrum(rng, k):
    """Singular values of one of several kinds, with random parameters."""
    j = np.arange(1.0, k + 1)
    levels = np.repeat(10.0 ** rng.uniform(-4, 0, 6), k // 6 + 1)[:k]
    S = [
        j ** -rng.uniform(0.02, 3),  # power laws
        10.0 ** (-rng.uniform(0.1, 12) * j / k),  # exponentials
        10.0 ** -rng.uniform(0, rng.uniform(0.5, 8), k),
        1 - 10.0 ** -rng.uniform(0.3, 5) * j / k,  # almost flat
        levels * (1 + 10.0 ** -rng.uniform(2, 9) * rng.standard_normal(k)),  # groups, or nearly
        np.where(
            j <= rng.integers(1, 30), 1.0, 10.0 ** -rng.uniform(0.01, 6) * rng.uniform(size=k)
        ),
        np.linalg.svd(rng.standard_normal((k, 2 * k)), compute_uv=False),  # noise
        np.cos(np.pi * j / (2 * k + 2)),
    ][rng.integers(8)]
    return np.sort(np.abs(S))[::-1]


def cases(dtype, count, seed):
    """Matrices as the dtype holds them, in double precision, and a rank for each."""
    for i in range(seed, seed + count):
        rng = np.random.default_rng(i)
        k = int(rng.integers(70, 130))
        A = zoo.matrix(spectrum(rng, k), (k + int(rng.integers(60)), k), dtype=dtype, seed=i)
        A = zoo.rounded(A if i % 2 else A.conj().T, dtype)
        yield A, int(rng.integers(1, 13))


def known_by_products(A):
    return eckart.operator(A.shape, A.__matmul__, A.conj().T.__matmul__, like=A)


def residuals(A, factors):
    """Of the triplets, both ways, over the largest value."""
    U, S, Vh = (part.astype(np.complex128) for part in factors)
    sides = A @ Vh.conj().T - U * S, A.conj().T @ U - Vh.conj().T * S
    return [np.max(np.linalg.norm(side, axis=0)) for side in sides]


@pytest.mark.numpy_only
@pytest.mark.parametrize("kind", [np.asarray, known_by_products])
def test_the_product_is_as_near_as_promised(dtype, kind):
    """Without `accuracy` its error exceeds the least one by a small share of the norm."""
    for A, rank in cases(dtype, 60, seed=0):
        factors = eckart.truncated_svd(kind(A.astype(dtype)), rank, method="krylov")
        U, S, Vh = (part.astype(np.complex128) for part in factors)
        exact = np.linalg.svd(A, compute_uv=False)
        excess = np.linalg.norm(A - (U * S) @ Vh) - np.linalg.norm(exact[rank:])
        assert excess <= PROMISED[dtype] * np.linalg.norm(exact)


@pytest.mark.numpy_only
@pytest.mark.parametrize("kind", [np.asarray, known_by_products])
def test_accuracy_bounds_every_residual_or_there_is_a_warning(dtype, kind):
    """Whatever the spectrum; and a warning is rare where the accuracy can be had."""
    told = 0
    for accuracy in 1e-2, 1e-4, 1e-5 if PROMISED[dtype] > 1e-5 else 1e-12:
        for A, rank in cases(dtype, 20, seed=100):
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                array = kind(A.astype(dtype))
                factors = eckart.truncated_svd(array, rank, method="krylov", accuracy=accuracy)
            bound = accuracy * float(factors.S[0]) * (1 + 1e-3)
            assert caught or max(residuals(A, factors)) <= bound
            told += len(caught)
    assert told <= 1
