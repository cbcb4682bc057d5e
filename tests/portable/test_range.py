"""What is said of singular values is right over the whole range of the dtype."""

import math

import numpy as np
import pytest

import eckart
from compare import assert_within

pytestmark = pytest.mark.precision

REAL = {"complex64": "float32", "complex128": "float64"}
# Powers of ten that a normal number can have, and one number near the largest.
ENDS = {"float32": (-36, 37, 1e38), "float64": (-306, 307, 5e307)}
SPECTRUM = np.asarray([3.2, 2.0, 0.5, 0.0])


def scales(dtype):
    """Every power of ten that leaves room for the spectrum, and the largest scale that does."""
    low, high, last = ENDS[dtype]
    return np.append(10.0 ** np.arange(low, high), last)


def stack_of_spectra(backend, dtype):
    """The spectrum at all scales, as an array of the library and as it was rounded."""
    S = (SPECTRUM * scales(dtype)[:, None]).astype(dtype)
    return backend.asarray(S, dtype), S.astype(float)


def diagonal(S):
    """A stack of diagonal matrices, their rows in another order."""
    return np.eye(S.shape[-1])[::-1] * S[..., None, :]


def norms_of_tails(S, rank):
    """Without overflow or underflow, as the standard library computes them."""
    return np.asarray([math.hypot(*row[rank:]) for row in S])


def assert_same_at_all_scales(values, expected, *, dtype, units=1.0):
    """Each within rounding of the one expected value."""
    expected = np.broadcast_to(expected, values.shape)
    assert_within(
        values, expected, dtype=dtype, size=4, scale=np.max(np.abs(expected)), units=units
    )


def test_truncation_error_is_exact_at_every_scale(backend, dtype):
    """The norm of what is dropped, to rounding, relative to itself."""
    dtype = REAL.get(dtype, dtype)
    array, S = stack_of_spectra(backend, dtype)
    for rank in (1, 2, 4):
        expected = norms_of_tails(S, rank)
        divisor = np.where(expected > 0, expected, 1.0)
        actual = backend.to_numpy(eckart.truncation_error(array, rank)).astype(float)
        assert_within(actual / divisor, expected / divisor, dtype=dtype, size=4)
        actual = backend.to_numpy(eckart.truncation_error(array, rank, norm="spectral"))
        assert np.array_equal(actual, np.append(S, np.zeros((len(S), 1)), axis=1)[:, rank])


@pytest.mark.parametrize("norm", ["fro", "spectral"])
def test_relative_truncation_error_does_not_know_the_scale(backend, dtype, norm):
    """With one rank a matrix, also where the norm of the whole does not fit the dtype."""
    dtype = REAL.get(dtype, dtype)
    array, S = stack_of_spectra(backend, dtype)
    ranks = np.arange(len(S)) % 5
    tails = np.stack([norms_of_tails(SPECTRUM[None, :], rank) for rank in range(5)])[:, 0]
    expected = {"fro": tails / tails[0], "spectral": np.append(SPECTRUM, 0.0) / SPECTRUM[0]}
    relative = eckart.truncation_error(array, backend.asarray(ranks), norm=norm, relative=True)
    assert_same_at_all_scales(backend.to_numpy(relative), expected[norm][ranks], dtype=dtype)


GRADED = np.asarray(
    [
        [1.0, 1e-23, 0.0, 0.0],
        [1e20, 1e-5, 1e-5, 0.0],
        [1e36, 1e-35, 0.0, 0.0],
        [1e15, 1.0, 1e-15, 1e-30],
        [1e38, 1e38, 1e38, 0.0],
        [2e-30, 1e-30, 5e-37, 0.0],
        [1.0, 0.0, 0.0, 0.0],
        [0.0, 0.0, 0.0, 0.0],
    ]
)


def test_small_tail_is_measured_by_its_own_size(backend, dtype):
    """No square of a small value vanishes beside that of a large one that is not dropped."""
    dtype = REAL.get(dtype, dtype)
    array, S = backend.asarray(GRADED, dtype), GRADED.astype(dtype).astype(float)
    for rank in (1, 2):
        expected = norms_of_tails(S, rank)
        divisor = np.where(expected > 0, expected, 1.0)
        actual = backend.to_numpy(eckart.truncation_error(array, rank)).astype(float)
        assert_within(actual / divisor, expected / divisor, dtype=dtype, size=4)


@pytest.mark.parametrize("share", [0.9999, 1.0001])
def test_error_rule_keeps_the_fewest_at_any_grading(backend, dtype, share):
    """Allowed a little more than what a rank drops, that rank; a little less, one more."""
    dtype = REAL.get(dtype, dtype)
    array, S = backend.asarray(GRADED, dtype), GRADED.astype(dtype).astype(float)
    for rank in (1, 2):
        tails = norms_of_tails(S, rank)
        errors = share * tails / np.where(tails > 0, norms_of_tails(S, 0), 1.0)
        told = errors > 1e-36  # a normal number in single precision
        expected = rank + (share < 1)
        found = eckart.select_rank(array, error=backend.asarray(errors, dtype))
        assert np.all(backend.to_numpy(found)[told] == expected)
        assert np.all(
            backend.to_numpy(found)[tails == 0] == np.count_nonzero(S, axis=-1)[tails == 0]
        )


def test_error_of_zero_drops_no_value_of_any_size(backend, dtype):
    """Not even where its ratio to the largest one is below the range."""
    dtype = REAL.get(dtype, dtype)
    ranks = backend.to_numpy(eckart.select_rank(backend.asarray(GRADED, dtype), error=0.0))
    assert np.array_equal(ranks, np.count_nonzero(GRADED, axis=-1))


def test_ranks_of_a_matrix_do_not_know_its_scale(backend, dtype):
    """Numerical, stable and effective rank, and the rank that an error allows."""
    real = REAL.get(dtype, dtype)
    _, S = stack_of_spectra(backend, real)
    stack = backend.asarray(diagonal(S), dtype)
    share = SPECTRUM[:3] / np.sum(SPECTRUM)
    stable, effective = np.sum(SPECTRUM**2) / 3.2**2, np.exp(-np.sum(share * np.log(share)))
    found = backend.to_numpy(eckart.stable_rank(stack))
    assert_same_at_all_scales(found, stable, dtype=real, units=2)
    found = backend.to_numpy(eckart.effective_rank(stack))
    assert_same_at_all_scales(found, effective, dtype=real, units=2)
    assert np.all(backend.to_numpy(eckart.matrix_rank(stack)) == 3)
    kept = eckart.truncated_svd(stack, error=0.3, method="exact").S
    assert np.array_equal(backend.to_numpy(kept) > 0, np.ones((len(S), 2), bool))


def test_norm_of_factors_is_exact_at_every_scale(backend, dtype):
    """All scales that leave room for the norm itself."""
    real = REAL.get(dtype, dtype)
    S = stack_of_spectra(backend, real)[1][:-1]
    B = backend.asarray(diagonal(S), dtype)
    A = backend.asarray(np.broadcast_to(np.eye(4), B.shape), dtype)
    expected = norms_of_tails(S, 0)
    actual = backend.to_numpy(eckart.norm(eckart.LowRank(B, A))).astype(float)
    assert_same_at_all_scales(actual / expected, 1.0, dtype=real, units=2)


def total_truncation_error(S):
    return eckart.truncation_error(S, 1).sum()


def total_relative_truncation_error(S):
    return eckart.truncation_error(S, 1, relative=True).sum()


def total_stable_rank(A):
    return eckart.stable_rank(A).sum()


def total_effective_rank(A):
    return eckart.effective_rank(A).sum()


DEGREES = {
    total_truncation_error: 1,
    total_relative_truncation_error: 0,
    total_stable_rank: 0,
    total_effective_rank: 0,
}


@pytest.mark.needs("grad")
@pytest.mark.parametrize("function", DEGREES, ids=lambda function: function.__name__)
def test_derivative_of_a_homogeneous_function_is_homogeneous(backend, dtype, function):
    """At every scale at which it is a normal number itself."""
    real = REAL.get(dtype, dtype)
    of_values = function.__name__.endswith("truncation_error")
    factors = scales(real)[:-4, None]  # the derivative of a ratio falls as the scale rises
    S = (SPECTRUM[:3] * factors).astype(real)
    array = backend.asarray(S, real) if of_values else backend.asarray(diagonal(S), dtype)
    found = backend.to_numpy(backend.gradient(function, array)).reshape(len(S), -1)
    found = found * factors ** (1 - DEGREES[function])
    one = found[int(np.argmin(np.abs(factors - 1.0)))]
    assert np.max(np.abs(one)) > 0.1
    assert_same_at_all_scales(found, one, dtype=real, units=8)
