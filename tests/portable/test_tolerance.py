"""The rules that choose a rank, and the error that a rank has."""

import numpy as np
import pytest

import eckart
import zoo
from compare import assert_within
from truth import real

pytestmark = pytest.mark.precision


@pytest.fixture
def real_dtype(dtype):
    return real(dtype)


@pytest.mark.parametrize("name", zoo.SPECTRA)
@pytest.mark.parametrize("error", [0.0, 1e-3, 0.1, 0.3, 1.0, 2.0])
def test_error_rule_keeps_the_fewest_that_meet_it(backend, real_dtype, name, error):
    """The remainder at the rank chosen is within the error, at one less it is not."""
    S = zoo.rounded(zoo.SPECTRA[name](12), real_dtype)
    rank = int(eckart.select_rank(backend.asarray(S, real_dtype), error=error))
    allowed = error * np.linalg.norm(S)
    slack = 1e-6 * allowed
    assert np.linalg.norm(S[rank:]) <= allowed + slack
    assert rank == 0 or np.linalg.norm(S[rank - 1 :]) > allowed - slack


def test_rules_together_give_the_smallest_rank(backend, real_dtype):
    """Each rule only lowers the rank, whichever is the strictest."""
    S = backend.asarray(2.0 ** -np.arange(10), real_dtype)
    alone = {"rank": 5, "rtol": 0.1, "atol": 0.3, "error": 0.01}
    ranks = {name: int(eckart.select_rank(S, **{name: value})) for name, value in alone.items()}
    assert ranks == {"rank": 5, "rtol": 4, "atol": 2, "error": 7}
    for left in alone:
        for right in alone:
            both = {left: alone[left], right: alone[right]}
            assert int(eckart.select_rank(S, **both)) == min(ranks[left], ranks[right])


def test_rank_alone_is_exact_and_no_rule_is_the_default_tolerance(backend, real_dtype):
    """Only the rule for zero looks at zeros."""
    S = backend.asarray(np.asarray([1.0, 0.5, 1e-12, 0.0]), real_dtype)
    assert int(eckart.select_rank(S, rank=4)) == 4
    assert int(eckart.select_rank(S)) == (2 if real_dtype == "float32" else 3)


def test_tiny_values_do_not_vanish_when_squared(backend, real_dtype):
    """The rule is one of ratios: scaling the spectrum changes nothing."""
    scale = 1e-30 if real_dtype == "float32" else 1e-200
    S = np.asarray([1.0, 0.1, 0.01])
    for factor in scale, 1.0, 1 / scale:
        array = backend.asarray(factor * S, real_dtype)
        assert int(eckart.select_rank(array, error=0.05)) == 2
        error = backend.to_numpy(eckart.truncation_error(array, 1)).astype(float) / factor
        assert_within(error, np.hypot(0.1, 0.01), dtype=real_dtype, size=3)


@pytest.mark.parametrize("name", zoo.SPECTRA)
@pytest.mark.parametrize("norm", ["fro", "spectral"])
@pytest.mark.parametrize("relative", [False, True])
def test_truncation_error_is_the_norm_of_what_is_dropped(backend, real_dtype, name, norm, relative):
    """Eckart–Young and Mirsky, in both norms, absolute and relative."""
    S = 5.0 * zoo.SPECTRA[name](9)
    order = 2 if norm == "fro" else np.inf
    whole = np.linalg.norm(S, order) if relative else 1.0
    for rank in 0, 4, 9:
        expected = np.linalg.norm(S[rank:], order) / (whole or 1.0) if rank < 9 else 0.0
        error = eckart.truncation_error(
            backend.asarray(S, real_dtype), rank, norm=norm, relative=relative
        )
        assert_within(backend.to_numpy(error), expected, dtype=real_dtype, size=9, scale=15.0)


def test_truncation_error_takes_a_rank_a_matrix(backend, real_dtype, xp):
    """The ranks of a stack, or all the ranks of one matrix, at once."""
    S = np.asarray([[4.0, 3.0, 0.0], [2.0, 2.0, 1.0]])
    array = backend.asarray(S, real_dtype)
    ranks = eckart.select_rank(array, error=0.65)
    assert backend.to_numpy(ranks).tolist() == [1, 2]
    error = backend.to_numpy(eckart.truncation_error(array, ranks))
    assert_within(error, [3.0, 1.0], dtype=real_dtype, size=3, scale=4.0)
    curve = eckart.truncation_error(array[0, :], xp.arange(4, device=backend.device))
    assert_within(
        backend.to_numpy(curve), [5.0, 3.0, 0.0, 0.0], dtype=real_dtype, size=3, scale=5.0
    )


@pytest.mark.parametrize("integer", ["uint8", "uint16", "int8", "int32"])
def test_ranks_may_be_any_integers(backend, integer, xp):
    """Unsigned and small integers are ranks too."""
    S = backend.asarray(np.asarray([4.0, 3.0, 0.0]), "float32")
    ranks = xp.asarray(np.asarray([0, 1, 3], dtype="int32"), device=backend.device)
    curve = eckart.truncation_error(S, xp.astype(ranks, getattr(xp, integer)))
    assert_within(backend.to_numpy(curve), [5.0, 3.0, 0.0], dtype="float32", size=3, scale=5.0)


def test_no_values_have_no_error(backend, real_dtype):
    """An empty spectrum has rank 0 and error 0."""
    S = backend.asarray(np.zeros((2, 0)), real_dtype)
    assert backend.to_numpy(eckart.select_rank(S, error=0.1)).tolist() == [0, 0]
    assert backend.to_numpy(eckart.truncation_error(S, 0)).tolist() == [0, 0]


@pytest.mark.parametrize(
    ("ratio", "omega"),
    [(0.05, 1.5194), (0.25, 1.8371), (0.5, 2.1711), (0.75, 2.5021), (1.0, 2.8582)],
)
def test_threshold_for_unknown_noise_is_that_of_the_paper(backend, real_dtype, ratio, omega):
    """Gavish and Donoho, Table IV: omega(beta) times the median singular value."""
    n = 400
    m = round(ratio * n)
    S = np.linspace(2.0, 1.0, m)
    threshold = eckart.hard_threshold(backend.asarray(S, real_dtype), (m, n))
    assert abs(float(threshold) - omega * np.median(S)) < 1e-3 * omega


def test_threshold_for_known_noise_is_four_over_root_three(backend, real_dtype):
    """For a square matrix 4 / sqrt(3) * sqrt(n) * noise, and for a stack one each."""
    S = backend.asarray(np.ones((3, 16)), real_dtype)
    threshold = backend.to_numpy(eckart.hard_threshold(S, (16, 16), noise=0.5))
    assert_within(threshold, np.full(3, 4 / np.sqrt(3) * 2), dtype=real_dtype, size=4)


def test_threshold_finds_the_signal_in_noise(backend, real_dtype):
    """Five strong directions in white noise are found with and without knowing its size."""
    rng = np.random.default_rng(1)
    signal = zoo.matrix(np.full(5, 60.0), (120, 80), dtype="float64")
    A = backend.asarray(signal + rng.standard_normal((120, 80)), real_dtype)
    S = eckart.singular_values(A)
    for noise in None, 1.0:
        atol = eckart.hard_threshold(S, (120, 80), noise=noise)
        assert int(eckart.matrix_rank(A, atol=atol)) == 5
        assert eckart.factorize(A, atol=atol).rank == 5
