"""Every method on every library: the same answer, at any scale, for the smallest matrices too."""

import numpy as np
import pytest

import eckart
import zoo
from compare import EPS, assert_within
from truth import METHODS, assert_promise_kept, parts

pytestmark = pytest.mark.precision

SHAPE = (120, 90)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("end", [1, -1])
def test_scale_of_the_matrix_is_the_scale_of_the_result_by_every_method(
    backend, dtype, method, end
):
    """1e±30 in single, 1e±150 in double precision."""
    scale = 10.0 ** (end * (30 if EPS[dtype] > 1e-10 else 150))
    S = 1 / np.arange(1.0, 91)
    A = zoo.matrix(S, SHAPE, dtype=dtype, seed=1)
    array = backend.asarray(scale * A, dtype)
    U, values, Vh = parts(backend, eckart.truncated_svd(array, 6, method=method))
    assert_promise_kept((U, values / scale, Vh), A, S, dtype=dtype)


@pytest.mark.parametrize("method", ["gram", "krylov"])
def test_stack_is_its_matrices_by_every_method(backend, dtype, method):
    """Matrices of different spectra and scales share an iteration, not a result."""
    spectra = [zoo.HARD_SPECTRA[name](90) for name in ("linear", "flat tail", "exact rank", "zero")]
    scales = np.asarray([1.0, 1e-9, 1e9, 1.0])
    stack = np.stack(
        [
            c * zoo.matrix(S, SHAPE, dtype=dtype, seed=3)
            for S, c in zip(spectra, scales, strict=True)
        ]
    )
    factors = eckart.truncated_svd(backend.asarray(stack, dtype), 6, method=method)
    U, values, Vh = parts(backend, factors)
    for i, (S, c) in enumerate(zip(spectra, scales, strict=True)):
        assert_promise_kept((U[i], values[i] / c, Vh[i]), stack[i] / c, S, dtype=dtype)


@pytest.mark.parametrize("method", ["gram", "krylov"])
def test_wide_matrix_is_truncated_like_a_tall_one(backend, dtype, method):
    """Neither side is special."""
    S = zoo.HARD_SPECTRA["fast polynomial decay"](90)
    A = zoo.matrix(S, SHAPE[::-1], dtype=dtype, seed=1)
    factors = eckart.truncated_svd(backend.asarray(A, dtype), 6, method=method)
    assert_promise_kept(parts(backend, factors), A, S, dtype=dtype)


@pytest.mark.parametrize("method", ["gram", "krylov"])
@pytest.mark.parametrize(
    "shape", [(1, 7), (7, 1), (1, 1), (5, 5), (0, 4), (3, 0, 4), (200, 2)], ids=str
)
def test_smallest_matrices_are_decomposed_by_every_method(backend, dtype, method, shape):
    """One row, one column, none: the full SVD is taken where a method is of no use."""
    A = np.arange(1.0, np.prod(shape, dtype=int) + 1).reshape(shape)
    array = backend.asarray(A, dtype)
    for rank in {0, min(shape[-2:])}:
        one, other = (eckart.truncated_svd(array, rank, method=way) for way in (method, "exact"))
        assert tuple(one.S.shape) == (*shape[:-2], rank)
        scale = float(np.linalg.norm(A)) or 1.0
        tolerance = {"dtype": dtype, "size": max(shape), "scale": scale, "units": 4}
        assert_within(backend.to_numpy(one.S), backend.to_numpy(other.S), **tolerance)


@pytest.mark.parametrize("method", ["gram", "krylov"])
def test_seed_gives_one_answer_on_every_library(backend, dtype, method):
    """The same call on two libraries gives the same arrays, up to rounding over the gaps."""
    S = 0.7 ** np.arange(90.0)
    A = zoo.rounded(zoo.matrix(S, SHAPE, dtype=dtype, seed=6), dtype)
    oracle = eckart.truncated_svd(A.astype(dtype), 6, method=method, seed=11)
    factors = eckart.truncated_svd(backend.asarray(A, dtype), 6, method=method, seed=11)
    for one, other in zip(parts(backend, factors), oracle, strict=True):
        assert_within(one, other, dtype=dtype, size=max(SHAPE), units=16)


def test_seeds_agree_on_what_is_determined(backend, dtype):
    """Another seed is another way to the same singular values."""
    S = 0.7 ** np.arange(90.0)
    array = backend.asarray(zoo.matrix(S, SHAPE, dtype=dtype, seed=6), dtype)
    values = [
        backend.to_numpy(eckart.truncated_svd(array, 6, method="krylov", seed=seed).S)
        for seed in (0, 1)
    ]
    assert_within(values[0], values[1], dtype=dtype, size=max(SHAPE), units=2)


def test_half_precision_is_computed_in_single(backend, half):
    """Both halves come back in their own dtype, as near as rounding the factors allows."""
    S = zoo.HARD_SPECTRA["fast polynomial decay"](90)
    A = zoo.rounded(zoo.matrix(S, SHAPE, dtype=half, seed=1), half)
    for method in "gram", "krylov":
        factors = eckart.truncated_svd(backend.asarray(A, half), 6, method=method)
        assert factors.dtype == backend.dtype(half)
        U, values, Vh = parts(backend, factors)
        error = np.linalg.norm(A - (U * values.astype(float)) @ Vh)
        assert error <= np.linalg.norm(S[6:]) + 16 * EPS[half]


def test_auto_agrees_with_the_full_decomposition_at_a_size_where_it_is_not_taken(backend):
    """On every library, by whatever way its costs say."""
    k = 400
    S = 1 / np.arange(1.0, k + 1)
    A = backend.asarray(zoo.matrix(S, (1200, k), dtype="float32"), "float32")
    values = backend.to_numpy(eckart.truncated_svd(A, 4).S)
    assert_within(values, S[:4], dtype="float32", size=1200)
