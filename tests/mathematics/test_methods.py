"""Every way to the truncated SVD keeps its promise on the hard cases of the literature."""

import warnings

import numpy as np
import pytest

import eckart
import zoo
from compare import EPS, assert_within
from truth import METHODS, assert_promise_kept, parts

SHAPE = (120, 90)
RANK = 20


@pytest.fixture(params=zoo.HARD_SPECTRA)
def spectrum(request):
    return zoo.HARD_SPECTRA[request.param](min(SHAPE))


@pytest.mark.parametrize("method", METHODS)
def test_every_method_keeps_its_promise_on_every_spectrum(backend, dtype, spectrum, method):
    """Eckart–Young equality up to the accuracy asked for, whatever the spectrum."""
    A = zoo.matrix(spectrum, SHAPE, dtype=dtype, seed=1)
    factors = eckart.truncated_svd(backend.asarray(A, dtype), RANK, method=method)
    promised = None if method in ("krylov", "auto") else 0.0
    assert_promise_kept(
        parts(backend, factors), A, spectrum, dtype=dtype, rank=RANK, promised=promised
    )


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("A", [zoo.hilbert(80), zoo.kahan(80)], ids=["Hilbert", "Kahan"])
def test_literature_matrices_are_truncated_as_well_as_their_spectra(backend, dtype, method, A):
    """Spectra that fall to rounding noise, or hide one tiny value."""
    A = zoo.rounded(A, dtype)
    S = np.linalg.svd(A, compute_uv=False)
    factors = eckart.truncated_svd(backend.asarray(A, dtype), 6, method=method)
    assert_promise_kept(parts(backend, factors), A, S, dtype=dtype, rank=6)


@pytest.mark.needs("operators")
@pytest.mark.only("numpy", "torch")  # the algorithm is the same, and JAX would compile for minutes
@pytest.mark.parametrize("rank", [3, 12])
@pytest.mark.parametrize("end", [0, 1, -1])
def test_operator_is_truncated_like_a_matrix(backend, dtype, spectrum, rank, end):
    """By its Gram matrix where that is accurate, whose square may overflow or vanish."""
    exponent = end * (11 if EPS[dtype] > 1e-10 else 90)
    A = zoo.matrix(spectrum, SHAPE, dtype=dtype, seed=1)
    for W in A, A.conj().T:
        array, adjoint = (backend.asarray(X * 10.0**exponent, dtype) for X in (W, W.conj().T))
        operator = eckart.operator(W.shape, array.__matmul__, adjoint.__matmul__, like=array)
        U, S, Vh = parts(backend, eckart.truncated_svd(operator, rank, method="krylov"))
        assert_promise_kept((U, S / 10.0**exponent, Vh), W, spectrum, dtype=dtype, rank=rank)


@pytest.mark.needs("double")
@pytest.mark.only("numpy", "torch")
def test_copies_of_a_small_value_are_not_passed_over(backend):
    """More than a block has columns, and hardly larger than residuals may be."""
    S = np.concatenate([[1.0, 0.9, 0.8], np.full(30, 1e-3), np.full(367, 1e-4)])
    for seed in range(3):
        A = zoo.matrix(S, (400, 700), dtype="float32", seed=seed).astype("float32")
        array = backend.asarray(A, "float32")
        for rank in 33, 35:
            found = parts(backend, eckart.truncated_svd(array, rank, method="krylov"))
            assert_promise_kept(found, A, S, dtype="float32", rank=rank, promised=1e-4)


@pytest.mark.numpy_only
@pytest.mark.parametrize("n", [129, 137, 145])
def test_last_block_may_have_one_column(n):
    """Where the blocks before it fill the space but for one dimension."""
    A = np.random.default_rng(0).standard_normal((300, n))
    operator = eckart.operator(A.shape, A.__matmul__, A.T.__matmul__, like=A)
    for rank, accuracy in (10, 1e-13), (30, None):
        found = eckart.truncated_svd(operator, rank, method="krylov", accuracy=accuracy)
        S = np.linalg.svd(A, compute_uv=False)
        assert_promise_kept(found, A, S, dtype="float64", rank=rank)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("rules", "rank"),
    [
        ({"error": 0.05}, 5),
        ({"rtol": 0.03}, 5),
        ({"atol": 0.03}, 5),
        ({"error": 0.05, "rank": 3}, 3),
    ],
    ids=str,
)
def test_rules_find_the_same_rank_by_every_method(backend, dtype, method, rules, rank):
    """The rank that is asked for by an error or a tolerance does not depend on the way to it."""
    shape, k = (410, 400), 400
    S = 1 / np.arange(1.0, k + 1) ** 2
    A = zoo.matrix(S, shape, dtype=dtype, seed=2)
    assert int(eckart.select_rank(S, **rules)) == rank
    factors = eckart.truncated_svd(backend.asarray(A, dtype), **rules, method=method)
    assert_promise_kept(parts(backend, factors), A, S, dtype=dtype, rank=rank)


@pytest.mark.numpy_only
def test_rank_is_found_without_the_full_spectrum(monkeypatch):
    """The basis grows until the rule is met; the full SVD is never asked for."""
    S = 1 / np.arange(1.0, 401) ** 2
    A = zoo.matrix(S, (410, 400), dtype="float32", seed=2).astype("float32")
    thin = zoo.matrix(np.where(np.arange(400) < 3, 1.0, 0.0), (400, 400), dtype="float64")
    full = []
    svd = np.linalg.svd
    monkeypatch.setattr(np.linalg, "svd", lambda A, **kw: full.append(A.shape) or svd(A, **kw))
    assert eckart.truncated_svd(A, error=0.05).rank == 5
    assert eckart.truncated_svd(A, rtol=0.03).rank == 5
    assert eckart.truncated_svd(thin).rank == 3
    assert max(max(shape) for shape in full) < 100


@pytest.mark.numpy_only
def test_iteration_that_gives_up_says_how_far_it_came():
    """A RuntimeWarning with the residual reached, never a silent wrong answer."""
    A = zoo.matrix(zoo.HARD_SPECTRA["almost flat"](90), SHAPE, dtype="float32").astype("float32")
    with pytest.warns(RuntimeWarning, match=r"residual of .* \* S\[0\] is left, more than"):
        eckart.truncated_svd(A, 6, method="krylov", accuracy=1e-12)


@pytest.mark.numpy_only
def test_less_accuracy_takes_fewer_products():
    """`accuracy` is what the iteration stops at."""
    S = 1 / np.arange(1.0, 401)
    A = zoo.matrix(S, (400, 400), dtype="float64")
    loose, tight = (
        eckart.truncated_svd(A, 10, method="krylov", accuracy=value) for value in (1e-2, 1e-12)
    )
    worst = [np.max(eckart.certify(A, factors).residuals) for factors in (loose, tight)]
    assert worst[1] < 1e-12 < 1e-6 < worst[0] < 1e-2


@pytest.mark.numpy_only
@pytest.mark.parametrize("accuracy", [0, -1.0, 1.0, np.nan])
def test_accuracy_must_be_a_fraction(accuracy):
    """A ValueError with what came."""
    with pytest.raises(ValueError, match="`accuracy` must be between 0 and 1, got"):
        eckart.truncated_svd(np.eye(3), 1, accuracy=accuracy)
    with pytest.raises(TypeError, match="`accuracy` must be a real number, got str"):
        eckart.truncated_svd(np.eye(3), 1, accuracy="high")


@pytest.mark.numpy_only
def test_entries_that_are_not_finite_are_refused_by_every_method():
    """Or come out as NaN singular values of their own matrix, without the check."""
    stack = np.stack([zoo.matrix(np.ones(90), SHAPE, dtype="float64")] * 2)
    stack[1, 3, 4] = np.nan
    for method in METHODS:
        for rules in {"rank": 6}, {"error": 0.5}, {"rtol": 0.5}:
            with pytest.raises(ValueError, match=r"the first at index \(1, 3, 4\)"):
                eckart.truncated_svd(stack, **rules, method=method)
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                S = eckart.truncated_svd(stack, **rules, method=method, check_finite=False).S
            assert np.isnan(S[1]).all()
            assert_within(S[0, :6], np.ones(6), dtype="float64", size=120)
