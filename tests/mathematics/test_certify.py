"""A certificate is true, and no planted fault escapes it."""

import numpy as np
import pytest

import eckart
import zoo
from compare import EPS, assert_within
from truth import assert_certified, certificate_of, given, truncated

# The first is decomposed to bound the spectral error, the second is not.
SHAPES = [(40, 30), (120, 90)]
RANK = 6


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", zoo.HARD_SPECTRA)
def test_certificate_of_the_best_approximation_is_true(backend, dtype, shape, name):
    """Errors are those of the remainder, bounds are bounds, residuals and gap are as chosen."""
    S = zoo.HARD_SPECTRA[name](min(shape))
    A = zoo.rounded(zoo.matrix(S, shape, dtype=dtype, seed=1), dtype)
    factors, approximation = given(backend, dtype, truncated(A, RANK))
    certificate = certificate_of(backend, backend.asarray(A, dtype), factors)
    assert_certified(certificate, A, approximation, S, dtype=dtype, rank=RANK)
    tolerance = {"dtype": dtype, "size": max(shape), "scale": max(S[0], 1e-300), "units": 4}
    assert_within(certificate.residuals, np.zeros(RANK), **tolerance)
    assert_within(certificate.orthogonality, 0.0, dtype=dtype, size=max(shape))
    gap = S[RANK - 1] - S[RANK]
    noise = 8 * max(shape) * EPS[dtype] * S[0]
    assert gap - noise <= certificate.gap <= gap + 0.1 * S[RANK] + noise


@pytest.mark.numpy_only
def test_bound_of_the_spectral_error_holds_for_many_seeds():
    """None of a hundred seeds gives less than the true norm, nor much more."""
    S = np.concatenate([np.ones(3), 0.9 - 0.1 * np.arange(87) / 87])
    A = zoo.matrix(S, (120, 90), dtype="float64")
    factors = eckart.truncated_svd(A, 3)
    bounds = [float(eckart.certify(A, factors, seed=seed).spectral_error) for seed in range(100)]
    assert min(bounds) >= 0.9
    assert max(bounds) <= 1.2 * 0.9
