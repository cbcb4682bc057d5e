"""Ranks: numerical, stable, effective, and the one that pays."""

import numpy as np
import pytest

import eckart
import zoo
from compare import EPS, assert_within

pytestmark = pytest.mark.precision


def test_rank_counts_what_exceeds_the_tolerance(backend, dtype):
    """Keep S > max(atol, rtol * S[0]); a value at the threshold is zero."""
    A = backend.asarray(np.diag([8.0, 4.0, 2.0, 1.0]), dtype)
    for tolerances, expected in (
        ({}, 4),
        ({"rtol": 0.2}, 3),
        ({"rtol": 0.5}, 1),
        ({"atol": 1.5}, 3),
        ({"rtol": 0.2, "atol": 3.0}, 2),
        ({"rtol": 0.4, "atol": 1.5}, 2),
        ({"atol": 8.5}, 0),
        ({"atol": float("inf")}, 0),
        ({"rtol": 1}, 0),
    ):
        assert int(eckart.matrix_rank(A, **tolerances)) == expected, tolerances


@pytest.mark.parametrize("shape", [(30, 20), (20, 30), (40, 8)], ids=str)
def test_default_tolerance_is_the_longer_side_times_eps(backend, dtype, shape):
    """Values on both sides of max(m, n) * eps * S[0] are told apart."""
    eps = EPS[dtype] * max(shape)
    values = np.zeros(min(shape))
    values[:4] = 1.0, 0.5, 1.25 * eps, 0.75 * eps
    A = np.zeros(shape)
    A[np.arange(min(shape)), np.arange(min(shape))] = values
    assert int(eckart.matrix_rank(backend.asarray(A, dtype))) == 3


@pytest.mark.parametrize("tolerance", [1e300, float("inf")])
def test_zero_is_zero_at_any_tolerance(backend, dtype, tolerance):
    """An infinite tolerance drops everything, and a zero matrix too."""
    for A in np.zeros((3, 3)), np.eye(3):
        array = backend.asarray(A, dtype)
        for name in "rtol", "error":
            assert eckart.truncated_svd(array, **{name: tolerance}).rank == 0
        assert int(eckart.matrix_rank(array, rtol=tolerance)) == 0


def test_rank_of_a_rounded_product_is_its_inner_length(backend, dtype):
    """The page that started it: a 10 by 10 matrix of rank 2 has rank 2."""
    rng = np.random.default_rng(0)
    for rank in range(11):
        W = rng.standard_normal((10, rank)) @ rng.standard_normal((rank, 10))
        assert int(eckart.matrix_rank(backend.asarray(W, dtype))) == rank


def test_relative_tolerance_is_relative(backend, dtype):
    """diag(1e6, 10) at rtol=1e-4 has rank 1 on every library, JAX included."""
    A = backend.asarray(np.diag([1e6, 10.0]), dtype)
    assert int(eckart.matrix_rank(A, rtol=1e-4)) == 1


def test_ranks_of_a_stack_are_integers_of_its_shape(backend, dtype, xp):
    """One integer a matrix, on the device of the stack."""
    stack = np.stack([np.diag([1.0, 0, 0]), np.zeros((3, 3)), np.eye(3)])
    ranks = eckart.matrix_rank(backend.asarray(np.stack([stack, stack]), dtype))
    assert xp.isdtype(ranks.dtype, "integral")
    assert backend.to_numpy(ranks).tolist() == [[1, 0, 3], [1, 0, 3]]


def test_tolerance_may_differ_from_matrix_to_matrix(backend, dtype):
    """An array of tolerances has one for each matrix of the stack."""
    stack = backend.asarray(np.stack([np.diag([4.0, 2.0, 1.0])] * 3), dtype)
    atol = backend.asarray(np.asarray([0.5, 1.5, 3.0]), "float32")
    assert backend.to_numpy(eckart.matrix_rank(stack, atol=atol)).tolist() == [3, 2, 1]
    S = eckart.truncated_svd(stack, atol=atol).S
    assert np.count_nonzero(backend.to_numpy(S), axis=-1).tolist() == [3, 2, 1]


@pytest.mark.parametrize("name", zoo.SPECTRA)
def test_stable_and_effective_rank_are_their_formulas(backend, dtype, name):
    """Squared norm ratio, and exponential of the entropy; zero for a zero matrix."""
    S = zoo.SPECTRA[name](12)
    A = backend.asarray(1e3 * zoo.matrix(S, (15, 12), dtype=dtype), dtype)
    stable = (S**2).sum() / S[0] ** 2 if S[0] else 0.0
    p = S[S > 0] / S.sum() if S[0] else np.zeros(0)
    effective = np.exp(-(p * np.log(p)).sum()) if S[0] else 0.0
    tolerance = {"dtype": dtype, "size": 15, "scale": 12.0, "units": 8}
    assert_within(backend.to_numpy(eckart.stable_rank(A)), stable, **tolerance)
    # Noise of size n * eps in a zero value adds its own entropy.
    noise = 12 * 15 * EPS[dtype] * abs(np.log(EPS[dtype]))
    assert_within(
        backend.to_numpy(eckart.effective_rank(A)),
        effective,
        dtype=dtype,
        size=15,
        scale=12.0,
        units=8 + noise / EPS[dtype],
    )


@pytest.mark.parametrize(
    "function", [eckart.matrix_rank, eckart.stable_rank, eckart.effective_rank]
)
@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0)], ids=str)
def test_empty_matrix_has_rank_zero(backend, dtype, function, shape):
    """Of nothing there is nothing."""
    assert float(function(backend.asarray(np.zeros(shape), dtype))) == 0


@pytest.mark.numpy_only
@pytest.mark.parametrize(
    ("shape", "expected"),
    [((10, 10), 4), ((1, 1), 0), ((2, 2), 0), ((4, 4), 1), ((0, 9), 0), ((7, 100, 50), 33)],
)
def test_break_even_rank_is_the_last_that_saves(shape, expected):
    """Factors of that rank store fewer numbers than the matrix, and of the next one do not."""
    rank = eckart.break_even_rank(shape)
    *_, m, n = shape
    assert rank == expected
    assert rank * (m + n) < m * n or rank == 0
    assert (rank + 1) * (m + n) >= m * n


@pytest.mark.parametrize("shape", [(9, 6), (6, 9), (3, 5, 4)])
def test_ranks_start_from_singular_values_that_are_known(backend, dtype, shape):
    """What a matrix gives, its singular values give; for the default rule with its shape."""
    A = backend.asarray(zoo.random(shape, dtype, 0), dtype)
    S = eckart.singular_values(A)
    for measure in eckart.stable_rank, eckart.effective_rank:
        expected = backend.to_numpy(measure(A))
        assert_within(backend.to_numpy(measure(S=S)), expected, dtype=dtype, size=9, scale=9.0)
    ranks = backend.to_numpy(eckart.select_rank(S, shape=shape))
    assert np.array_equal(ranks, backend.to_numpy(eckart.matrix_rank(A)))
    with pytest.raises(TypeError, match="Only one of `A` and `S` may be given"):
        eckart.stable_rank(A, S=S)
    with pytest.raises(ValueError, match=r"`S` must have all min\(m, n\) = 2 > 0 singular values"):
        eckart.select_rank(S, shape=(2, 2))


def test_default_tolerance_is_that_of_the_dtype_and_shape_named(backend):
    """Singular values in float32 of a matrix in half precision, or of a long one."""
    S = backend.asarray(np.asarray([1.0, 0.1, 1e-3, 1e-6]), "float32")
    for options, rank in ({}, 4), ({"shape": (4, 10**4)}, 2), ({"eps": 2.0**-7}, 2):
        assert int(backend.to_numpy(eckart.select_rank(S, **options))) == rank
