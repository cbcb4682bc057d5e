"""The truncated SVD: signs, stacks, widths, empty and zero matrices, the ends of the range."""

import numpy as np
import pytest

import eckart
import zoo
from compare import assert_within
from truth import assert_orthonormal, parts


@pytest.fixture(params=zoo.SHAPES, ids=str)
def shape(request):
    return request.param


def test_largest_entry_of_each_left_vector_is_real_and_positive(backend, dtype, shape):
    """The sign is a rule, not the library's choice."""
    A = zoo.matrix(zoo.SPECTRA["power law"](min(shape)), shape, dtype=dtype, seed=3)
    U, _, _ = parts(backend, eckart.truncated_svd(backend.asarray(A, dtype)))
    pivots = U[np.argmax(np.abs(U), axis=0), np.arange(U.shape[1])]
    assert_within(pivots, np.abs(pivots), dtype=dtype, size=4)
    assert np.all(pivots.real > 0)


def test_tie_for_the_largest_entry_goes_to_the_first(backend, dtype):
    """Rounding does not decide a sign: of entries within 32 eps the first is positive."""
    A = np.asarray([[1.0, -1.0], [-1.0, 1.0]])
    U, S, Vh = parts(backend, eckart.truncated_svd(backend.asarray(A, dtype), 1))
    half = np.sqrt(0.5)
    assert_within(U, [[half], [-half]], dtype=dtype, size=2)
    assert_within(S, [2.0], dtype=dtype, size=2)
    assert_within(Vh, [[half, -half]], dtype=dtype, size=2)


def test_same_matrix_gives_the_vectors_of_the_float64_oracle(backend, dtype):
    """Every library returns the vectors that NumPy returns in double precision, signs included."""
    A = zoo.rounded(zoo.matrix(2.0 ** -np.arange(6), (9, 6), dtype=dtype, seed=5), dtype)
    oracle = eckart.truncated_svd(A, 4)
    ours = eckart.truncated_svd(backend.asarray(A, dtype), 4)
    for actual, expected in zip(parts(backend, ours), oracle, strict=True):
        assert_within(actual, expected, dtype=dtype, size=9, units=64)


def test_stack_is_its_matrices(backend, dtype):
    """A stack of any depth gives what each of its matrices gives."""
    stack = np.stack(
        [zoo.matrix(zoo.SPECTRA["power law"](4), (5, 4), dtype=dtype, seed=s) for s in range(6)]
    ).reshape(2, 3, 5, 4)
    U, S, Vh = parts(backend, eckart.truncated_svd(backend.asarray(stack, dtype), 2))
    assert U.shape == (2, 3, 5, 2)
    for i, j in np.ndindex(2, 3):
        one = parts(backend, eckart.truncated_svd(backend.asarray(stack[i, j], dtype), 2))
        for whole, single in zip((U, S, Vh), one, strict=True):
            assert_within(whole[i, j], single, dtype=dtype, size=5, units=16)


def test_stack_is_as_wide_as_its_largest_rank_and_zero_beyond_each(backend, dtype):
    """What one matrix of a stack drops and another keeps is exactly zero."""
    stack = np.stack(
        [zoo.matrix(np.asarray(S), (6, 4), dtype=dtype) for S in ([1.0], [3.0, 2.0, 1.0], [0.0])]
    )
    U, S, Vh = parts(backend, eckart.truncated_svd(backend.asarray(stack, dtype)))
    assert S.shape == (3, 3)
    assert np.count_nonzero(S, axis=-1).tolist() == [1, 3, 0]
    for i, rank in enumerate((1, 3, 0)):
        assert not U[i, :, rank:].any()
        assert not Vh[i, rank:, :].any()
    assert_within((U * S[:, None, :]) @ Vh, stack, dtype=dtype, size=6, scale=3.0, units=8)


def test_width_of_one_matrix_is_the_rank_found(backend, dtype):
    """Without a rule the default tolerance decides; with one, the rule."""
    A = backend.asarray(zoo.matrix(zoo.SPECTRA["exact rank"](8), (10, 8), dtype=dtype), dtype)
    assert eckart.truncated_svd(A).rank == 4
    assert eckart.truncated_svd(A, 6).rank == 6
    assert eckart.truncated_svd(A, 6, rtol=0.3).rank == 3
    assert eckart.truncated_svd(A, 2, rtol=0.3).rank == 2
    assert eckart.truncated_svd(A, atol=0.6).rank == 1
    assert eckart.truncated_svd(A, error=0.5).rank == 2


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (0, 0), (3, 0, 4), (0, 4, 3)], ids=str)
def test_empty_matrix_has_empty_factors(backend, dtype, shape):
    """An empty matrix, or an empty stack, is a value."""
    A = backend.asarray(np.zeros(shape), dtype)
    *stack, m, n = shape
    for factors, rank in (
        (eckart.truncated_svd(A), 0),
        (eckart.truncated_svd(A, 0), 0),
        (eckart.truncated_svd(A, min(m, n)), min(m, n)),
    ):
        assert factors.rank == rank
        assert tuple(factors.shape) == shape
        assert tuple(factors.S.shape) == (*stack, rank)
        assert tuple(eckart.reconstruct(factors).shape) == shape
    assert tuple(eckart.singular_values(A).shape) == (*stack, min(m, n))


def test_zero_matrix_has_rank_zero(backend, dtype):
    """Zero is approximated exactly by nothing."""
    A = backend.asarray(np.zeros((4, 3)), dtype)
    factors = eckart.truncated_svd(A)
    assert factors.rank == 0
    assert_within(
        backend.to_numpy(eckart.reconstruct(factors)), np.zeros((4, 3)), dtype=dtype, size=1
    )
    assert eckart.truncated_svd(A, 2).rank == 2


@pytest.mark.parametrize("end", [1, -1])
def test_scale_of_the_matrix_is_the_scale_of_the_result(backend, dtype, end):
    """Near the ends of the range the singular values are as accurate as in its middle."""
    scale = 10.0 ** (end * (30 if dtype in ("float32", "complex64") else 150))
    S = zoo.SPECTRA["power law"](5)
    A = scale * zoo.matrix(S, (12, 5), dtype=dtype)
    array = backend.asarray(A, dtype)
    size = 12
    for values in eckart.singular_values(array), eckart.truncated_svd(array, 5).S:
        actual = backend.to_numpy(values).astype(float) / scale
        assert_within(actual, S, dtype=dtype, size=size, units=4)
    approximation = backend.to_numpy(eckart.reconstruct(eckart.factorize(array, 2)))
    error = np.linalg.norm((approximation.astype(complex) - A) / scale)
    assert_within(error, np.linalg.norm(S[2:]), dtype=dtype, size=size, units=8)
    assert int(eckart.matrix_rank(array)) == 5


def test_unchecked_matrix_that_is_not_finite_has_nan_singular_values(backend, dtype):
    """Without the check a NaN stays visible, and stays in its own matrix."""
    stack = np.zeros((2, 3, 3))
    stack[0] = np.diag([3.0, 2.0, 1.0])
    stack[1, 0, 2] = np.inf
    array = backend.asarray(stack, dtype)
    for rules in {"rank": 2}, {"rtol": 1e-3}, {"error": 0.1}:
        factors = eckart.truncated_svd(array, **rules, check_finite=False)
        S = backend.to_numpy(factors.S)
        assert np.isnan(S[1]).all()
        assert_within(S[0, :2], [3.0, 2.0], dtype=dtype, size=3, scale=3.0)
        assert np.isnan(backend.to_numpy(eckart.reconstruct(factors))[1]).any()


def test_factors_are_decomposed_without_their_product(backend, dtype):
    """A LowRank or SVD in place of a matrix gives what its dense matrix gives."""
    rng = np.random.default_rng(0)
    B, C = rng.standard_normal((9, 3)), rng.standard_normal((3, 7))
    factors = eckart.LowRank(backend.asarray(B, dtype), backend.asarray(C, dtype))
    dense = zoo.rounded(B, dtype) @ zoo.rounded(C, dtype)
    values = np.linalg.svd(dense, compute_uv=False)
    units, scale = 8, np.linalg.norm(B, 2) * np.linalg.norm(C, 2)
    tolerance = {"dtype": dtype, "size": 9, "scale": scale, "units": units}
    assert_within(backend.to_numpy(eckart.singular_values(factors)), values, **tolerance)
    assert int(eckart.matrix_rank(factors)) == 3
    for given in factors, eckart.truncated_svd(factors):
        for rank in 2, 3, 6:
            U, S, Vh = parts(backend, eckart.truncated_svd(given, rank))
            assert S.shape == (rank,)
            assert_within(S, values[:rank], **tolerance)
            assert_orthonormal(U, dtype=dtype, size=9)
            assert_orthonormal(Vh.conj().T, dtype=dtype, size=9)
        best = backend.to_numpy(eckart.reconstruct(eckart.factorize(given, 2)))
        assert_within(np.linalg.norm(dense - best), values[2], **tolerance)
    assert eckart.truncated_svd(factors).rank == 3


def test_scaled_factors_do_not_overflow(backend, dtype):
    """Factors of opposite extremes whose product is moderate are decomposed exactly."""
    big = 1e150 if dtype in ("float64", "complex128") else 1e18
    factors = eckart.LowRank(
        backend.asarray(big * np.eye(4, 2), dtype), backend.asarray(np.eye(2, 5) / big, dtype)
    )
    S = backend.to_numpy(eckart.singular_values(factors))
    assert_within(S, [1.0, 1.0, 0.0, 0.0], dtype=dtype, size=5, units=4)
