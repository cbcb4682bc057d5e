"""Half precision: computed in float32, returned as it came."""

import numpy as np
import pytest

import eckart
import zoo
from compare import EPS, assert_within


def low_rank(half, shape, rank):
    rng = np.random.default_rng(4)
    m, n = shape
    W = rng.standard_normal((m, rank)) @ rng.standard_normal((rank, n))
    return zoo.rounded(W, half)


def test_singular_values_are_those_of_the_rounded_matrix(backend, half):
    """The only error beyond float32's is that of rounding the result."""
    for shape in (12, 8), (40, 8):
        A = low_rank(half, shape, 4)
        S = np.linalg.svd(A, compute_uv=False)
        values = eckart.singular_values(backend.asarray(A, half))
        assert values.dtype == backend.dtype(half)
        assert_within(backend.to_numpy(values), S, dtype=half, size=1, scale=S[0])


def test_factors_are_rounded_once(backend, half):
    """U, S, Vh, B and A have the dtype of the matrix and reconstruct it to its rounding."""
    A = low_rank(half, (12, 8), 3)
    array = backend.asarray(A, half)
    for factors in eckart.truncated_svd(array, 3), eckart.factorize(array, 3):
        assert all(part.dtype == backend.dtype(half) for part in factors)
        W = eckart.reconstruct(factors)
        assert W.dtype == backend.dtype(half)
        scale = np.linalg.norm(A, 2)
        assert_within(backend.to_numpy(W), A, dtype=half, size=1, scale=scale, units=2)
        x = np.ones(8)
        y = eckart.linear(backend.asarray(x, half), factors, backend.asarray(np.ones(12), half))
        assert y.dtype == backend.dtype(half)
        assert_within(backend.to_numpy(y), A @ x + 1, dtype=half, size=3, scale=scale, units=2)


@pytest.mark.parametrize("shape", [(10, 10), (64, 32), (300, 300)], ids=str)
def test_rank_of_a_rounded_product_is_its_inner_length(backend, half, shape):
    """The tolerance is the rounding of the entries: it hides that, and does not reach one."""
    A = backend.asarray(low_rank(half, shape, 2), half)
    assert int(eckart.matrix_rank(A)) == 2
    assert eckart.truncated_svd(A).rank == 2
    assert int(eckart.matrix_rank(backend.asarray(np.eye(300), half))) == 300


def test_default_tolerance_covers_any_rounding(backend, half):
    """Rounding moves a singular value by at most sqrt(min(m, n)) * eps / 2 * S[0]."""
    shape = (24, 16)
    bound = 4 * EPS[half] / 2
    for factor, expected in (1.3, 3), (0.7, 2):
        values = np.zeros(16)
        values[:3] = 1.0, 0.5, factor * bound
        A = np.zeros(shape)
        A[np.arange(16), np.arange(16)] = values
        assert int(eckart.matrix_rank(backend.asarray(A, half))) == expected


def test_two_half_precisions_meet_in_single(backend):
    """float16 and bfloat16 have no common half: the result is float32."""
    factors = eckart.factorize(backend.asarray(np.eye(4), "float16"), 2)
    y = eckart.linear(backend.asarray(np.ones(4), "bfloat16"), factors)
    assert y.dtype == backend.dtype("float32")


test_two_half_precisions_meet_in_single = pytest.mark.needs("half")(
    test_two_half_precisions_meet_in_single
)


@pytest.mark.needs("half")
def test_singular_value_beyond_float16_is_refused(backend):
    """65504 is the largest float16; balanced factors of twice that still fit."""
    A = backend.asarray(np.full((4, 4), 6e4), "float16")
    for call in (
        lambda: eckart.singular_values(A),
        lambda: eckart.truncated_svd(A, 1),
        lambda: eckart.factorize(A, 1, split="left"),
    ):
        with pytest.raises(ValueError, match=r"must fit .* at most 6\.55e\+04 in float16"):
            call()
    B, C = eckart.factorize(A, 1)
    product = backend.to_numpy(B) @ backend.to_numpy(C)
    assert_within(product, np.full((4, 4), 6e4), dtype="float16", size=1, scale=6e4, units=2)
    assert int(eckart.matrix_rank(A)) == 1


def test_subnormal_entries_are_not_lost(backend, half):
    """A matrix of tiny entries has its rank too."""
    A = backend.asarray(1e-4 * np.diag([1.0, 0.5, 0.25]), half)
    assert int(eckart.matrix_rank(A)) == 3
