"""Certificates of every kind of factors, of stacks, of nothing and near the ends of the range."""

import numpy as np
import pytest

import eckart
import zoo
from compare import EPS, assert_within
from truth import assert_certified, certificate_of, given, parts, truncated

# The first is decomposed to bound the spectral error, the second is not.
SHAPES = [(40, 30), (120, 90)]
RANK = 6


def faults(U, S, Vh, all_of):
    """Planted faults by name, and what must tell them: a field and the least it must be."""
    W, T, Xh = all_of
    keep = [0, 1, 3, 4, 5, 6]
    signs = np.where(np.arange(RANK) == 2, -1.0, 1.0)
    turned = Vh.copy()
    turned[1] = np.cos(0.1) * Vh[1] + np.sin(0.1) * Xh[RANK]
    scaled = np.where(np.arange(RANK) == 3, 1.1, 1.0)
    return {
        "missed value": ((W[:, keep], T[keep], Xh[keep]), "excess", 0.1 * T[2]),
        "wrong sign": ((U, S, signs[:, None] * Vh), "residuals", 1.9 * S[2]),
        "perturbed vector": ((U, S, turned), "residuals", 0.05 * S[1]),
        "wrong value": ((U, S * scaled, Vh), "residuals", 0.09 * S[3]),
        "not orthogonal": ((U, S, Vh + 0.1 * Vh[::-1]), "orthogonality", 0.1),
        "other matrix": ((U[::-1], S, Vh), "excess", 0.5 * S[0]),
    }


FAULTS = list(
    faults(np.eye(9)[:, :6], np.ones(6), np.eye(6, 9), (np.eye(9), np.ones(9), np.eye(9)))
)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_planted_fault_is_caught(backend, dtype, shape, fault):
    """And the certificate of the faulty factors is true as well."""
    S = 1 / np.arange(1.0, min(shape) + 1)
    A = zoo.rounded(zoo.matrix(S, shape, dtype=dtype, seed=1), dtype)
    triplets, field, least = faults(*truncated(A, RANK), truncated(A, min(shape)))[fault]
    factors, approximation = given(backend, dtype, triplets)
    certificate = certificate_of(backend, backend.asarray(A, dtype), factors)
    assert np.max(getattr(certificate, field)) >= least
    assert_certified(certificate, A, approximation, S, dtype=dtype, rank=RANK)


@pytest.mark.parametrize("method", ["krylov", "gram"])
def test_certificate_confirms_what_a_method_found(backend, dtype, method):
    """A decomposition and its certificate of one seed use different test matrices."""
    S = 1 / np.arange(1.0, 91) ** 2
    A = zoo.rounded(zoo.matrix(S, (120, 90), dtype=dtype, seed=1), dtype)
    array = backend.asarray(A, dtype)
    certificate = certificate_of(backend, array, eckart.truncated_svd(array, 6, method=method))
    best = np.linalg.norm(S[6:])
    assert certificate.error - best <= 1e-4 * best
    assert certificate.excess <= 0.05 * best
    assert np.max(certificate.residuals) <= 2e-4


def test_low_rank_factors_are_judged_by_their_triplets(backend, dtype):
    """B @ A in place of an SVD."""
    S = 1 / np.arange(1.0, 31)
    A = zoo.rounded(zoo.matrix(S, (40, 30), dtype=dtype, seed=1), dtype)
    array = backend.asarray(A, dtype)
    certificate = certificate_of(backend, array, eckart.factorize(array, RANK))
    assert certificate.residuals.shape == (RANK,)
    tolerance = {"dtype": dtype, "size": 40, "units": 8}
    assert_within(certificate.error, np.linalg.norm(S[RANK:]), **tolerance)
    assert_within(certificate.spectral_error, S[RANK], **tolerance)


@pytest.mark.parametrize("shape", [(40, 30), (120, 90)], ids=str)
def test_matrix_known_by_its_factors_is_never_formed(backend, dtype, shape):
    """A LowRank in place of the matrix: its truncation has the error of what was cut."""
    S = 1 / np.arange(1.0, 13)
    A = zoo.matrix(S, shape, dtype=dtype, seed=1)
    U, T, Vh = truncated(A, 12)
    whole, _ = given(backend, dtype, (U, T, Vh))
    part, _ = given(backend, dtype, (U[:, :RANK], T[:RANK], Vh[:RANK]))
    certificate = certificate_of(backend, whole, part)
    tolerance = {"dtype": dtype, "size": max(shape), "units": 8}
    assert_within(certificate.error, np.linalg.norm(S[RANK:]), **tolerance)
    assert S[RANK] * 0.999 <= certificate.spectral_error <= 1.3 * S[RANK]
    assert_within(certificate.residuals, np.zeros(RANK), **tolerance)


@pytest.mark.parametrize("end", [1, -1])
def test_scale_of_the_matrix_is_the_scale_of_the_certificate(backend, dtype, end):
    """1e±30 in single, 1e±150 in double precision."""
    scale = 10.0 ** (end * (30 if EPS[dtype] > 1e-10 else 150))
    S = 1 / np.arange(1.0, 31)
    A = zoo.rounded(scale * zoo.matrix(S, (40, 30), dtype=dtype, seed=1), dtype)
    U, T, Vh = truncated(A / scale, RANK)
    factors, _ = given(backend, dtype, (U, T * scale, Vh))
    certificate = certificate_of(backend, backend.asarray(A, dtype), factors)
    tolerance = {"dtype": dtype, "size": 40, "units": 8}
    assert_within(certificate.error / scale, np.linalg.norm(S[RANK:]), **tolerance)
    assert_within(certificate.spectral_error / scale, S[RANK], **tolerance)
    assert_within(certificate.residuals / scale, np.zeros(RANK), **tolerance)
    assert_within(
        certificate.relative_error * np.linalg.norm(S), np.linalg.norm(S[RANK:]), **tolerance
    )


def test_stack_is_certified_matrix_by_matrix(backend, dtype):
    """Triplets that a rule has dropped, exactly zero, are no fault of orthogonality."""
    spectra = np.asarray([[3.0, 2.0, 1.0, 0.5], [1.0, 0.0, 0.0, 0.0], [0.0] * 4])
    stack = np.stack([zoo.matrix(S, (6, 4), dtype=dtype, seed=2) for S in spectra])
    array = backend.asarray(stack, dtype)
    certificate = certificate_of(backend, array, eckart.truncated_svd(array, rtol=0.4))
    tolerance = {"dtype": dtype, "size": 6, "scale": 3.0, "units": 8}
    assert_within(certificate.error, [np.sqrt(1.25), 0.0, 0.0], **tolerance)
    assert_within(certificate.spectral_error, [1.0, 0.0, 0.0], **tolerance)
    assert_within(certificate.orthogonality, np.zeros(3), dtype=dtype, size=6, units=8)
    assert certificate.residuals.shape == (3, 2)


@pytest.mark.parametrize("shape", [(5, 4), (0, 4), (4, 0), (3, 0, 4)], ids=str)
def test_rank_zero_and_empty_matrices_have_certificates(backend, dtype, shape):
    """The error of nothing is the norm of the matrix, and the best there is."""
    A = np.ones(shape)
    array = backend.asarray(A, dtype)
    certificate = certificate_of(backend, array, eckart.truncated_svd(array, 0))
    norm = np.sqrt(np.prod(shape[-2:])) * np.ones(shape[:-2])
    assert_within(certificate.error, norm, dtype=dtype, size=5)
    assert_within(certificate.excess, np.zeros(shape[:-2]), dtype=dtype, size=5)
    assert certificate.residuals.shape == (*shape[:-2], 0)


def test_half_precision_is_certified_in_single(backend, half):
    """The error includes the rounding of the factors."""
    S = 1 / np.arange(1.0, 31)
    A = zoo.rounded(zoo.matrix(S, (40, 30), dtype=half, seed=1), half)
    array = backend.asarray(A, half)
    factors = eckart.truncated_svd(array, RANK)
    certificate = eckart.certify(array, factors)
    assert certificate.error.dtype == backend.dtype("float32")
    U, T, Vh = (backend.to_numpy(part).astype(float) for part in factors)
    error = np.linalg.norm(A - (U * T) @ Vh)
    assert_within(float(certificate.error), error, dtype="float32", size=40, units=8)


@pytest.mark.numpy_only
def test_arguments_of_the_wrong_kind_are_refused():
    """Each with a sentence that names it."""
    A = np.eye(4)
    factors = eckart.truncated_svd(A, 2)
    with pytest.raises(TypeError, match="`factors` must be an SVD or a LowRank"):
        eckart.certify(A, A)
    with pytest.raises(ValueError, match=r"must have one shape, got shapes \(5, 4\) and \(4, 4\)"):
        eckart.certify(np.ones((5, 4)), factors)
    with pytest.raises(TypeError, match="`seed` must be an integer"):
        eckart.certify(A, factors, seed="0")
    with pytest.raises(TypeError, match="`A` must have a floating-point dtype"):
        eckart.certify(np.eye(4, dtype=int), factors)
    with pytest.raises(ValueError, match=r"`A` must be finite.*index \(0, 1\)"):
        eckart.certify(np.where(np.arange(4) == 1, np.nan, A), factors)
    broken = factors._replace(S=np.asarray([1.0, np.inf]))
    with pytest.raises(ValueError, match=r"`factors.S` must be finite"):
        eckart.certify(A, broken)


def test_bound_of_the_spectral_error_allows_for_rounding(backend, dtype):
    """A truncation that loses nothing is off by rounding, which the bound is never below."""
    for seed in range(8):
        A = zoo.random((3, 1), dtype, seed)
        factors = eckart.truncated_svd(backend.asarray(A, dtype), 1)
        U, S, Vh = (part.astype(np.complex128) for part in parts(backend, factors))
        true = np.linalg.norm(A.astype(np.complex128) - (U * S) @ Vh, 2)
        found = certificate_of(backend, backend.asarray(A, dtype), factors)
        assert found.spectral_error >= true * (1 - 1e-6)
