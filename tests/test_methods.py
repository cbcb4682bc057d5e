"""Every way to the truncated SVD keeps its promise on the hard cases of the literature."""

import warnings

import numpy as np
import pytest

import eckart
import zoo
from compare import EPS, assert_within

SHAPE = (120, 90)
RANK = 20
METHODS = ["exact", "gram", "krylov", "auto"]


@pytest.fixture(params=zoo.HARD_SPECTRA)
def spectrum(request):
    return zoo.HARD_SPECTRA[request.param](min(SHAPE))


def accuracy(dtype):
    """The default residual, over S[0]."""
    return float(np.sqrt(EPS[dtype]))


def assert_promise_kept(factors, A, S, *, dtype, rank=None, promised=None):
    """Orthonormal vectors, and the Eckart–Young error but for what was promised."""
    U, values, Vh = factors
    rank = len(values) if rank is None else rank
    promised = accuracy(dtype) if promised is None else promised
    assert values.shape == (rank,)
    size, best, scale = max(A.shape), np.linalg.norm(S[rank:]), max(S[0], 1e-300)
    for vectors in U, Vh.conj().T:
        product = vectors.conj().T @ vectors
        assert_within(product, np.eye(rank), dtype=dtype, size=size, units=2)
    error = np.linalg.norm(A - (U * values) @ Vh)
    rounding = 4 * size * EPS[dtype] * scale
    assert best - rounding <= error <= best * (1 + promised) + rounding
    # Ritz values are below the singular values, by what the error may be above the best one.
    missing = S[:rank] ** 2 - values.astype(float) ** 2
    assert np.sum(missing) <= 3 * promised * best**2 + 8 * rounding * scale
    assert np.all(missing >= -4 * rounding * scale)
    assert np.all(np.diff(values) <= 0)


def numpy_svd(backend, factors):
    return [backend.to_numpy(part) for part in factors]


@pytest.mark.parametrize("method", METHODS)
def test_every_method_keeps_its_promise_on_every_spectrum(backend, dtype, spectrum, method):
    """Eckart–Young equality up to the accuracy asked for, whatever the spectrum."""
    A = zoo.matrix(spectrum, SHAPE, dtype=dtype, seed=1)
    factors = eckart.truncated_svd(backend.asarray(A, dtype), RANK, method=method)
    promised = None if method in ("krylov", "auto") else 0.0
    assert_promise_kept(
        numpy_svd(backend, factors), A, spectrum, dtype=dtype, rank=RANK, promised=promised
    )


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("A", [zoo.hilbert(80), zoo.kahan(80)], ids=["Hilbert", "Kahan"])
def test_literature_matrices_are_truncated_as_well_as_their_spectra(backend, dtype, method, A):
    """Spectra that fall to rounding noise, or hide one tiny value."""
    A = zoo.rounded(A, dtype)
    S = np.linalg.svd(A, compute_uv=False)
    factors = eckart.truncated_svd(backend.asarray(A, dtype), 6, method=method)
    assert_promise_kept(numpy_svd(backend, factors), A, S, dtype=dtype, rank=6)


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
    U, values, Vh = numpy_svd(backend, eckart.truncated_svd(array, 6, method=method))
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
    U, values, Vh = numpy_svd(backend, factors)
    for i, (S, c) in enumerate(zip(spectra, scales, strict=True)):
        assert_promise_kept((U[i], values[i] / c, Vh[i]), stack[i] / c, S, dtype=dtype)


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
        U, S, Vh = numpy_svd(backend, eckart.truncated_svd(operator, rank, method="krylov"))
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
            found = numpy_svd(backend, eckart.truncated_svd(array, rank, method="krylov"))
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


@pytest.mark.parametrize("method", ["gram", "krylov"])
def test_wide_matrix_is_truncated_like_a_tall_one(backend, dtype, method):
    """Neither side is special."""
    S = zoo.HARD_SPECTRA["fast polynomial decay"](90)
    A = zoo.matrix(S, SHAPE[::-1], dtype=dtype, seed=1)
    factors = eckart.truncated_svd(backend.asarray(A, dtype), 6, method=method)
    assert_promise_kept(numpy_svd(backend, factors), A, S, dtype=dtype)


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
    assert_promise_kept(numpy_svd(backend, factors), A, S, dtype=dtype, rank=rank)


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


@pytest.mark.parametrize("method", ["gram", "krylov"])
def test_seed_gives_one_answer_on_every_library(backend, dtype, method):
    """The same call on two libraries gives the same arrays, up to rounding over the gaps."""
    S = 0.7 ** np.arange(90.0)
    A = zoo.rounded(zoo.matrix(S, SHAPE, dtype=dtype, seed=6), dtype)
    oracle = eckart.truncated_svd(A.astype(dtype), 6, method=method, seed=11)
    factors = eckart.truncated_svd(backend.asarray(A, dtype), 6, method=method, seed=11)
    for one, other in zip(numpy_svd(backend, factors), oracle, strict=True):
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
        U, values, Vh = numpy_svd(backend, factors)
        error = np.linalg.norm(A - (U * values.astype(float)) @ Vh)
        assert error <= np.linalg.norm(S[6:]) + 16 * EPS[half]


TRACED = [
    pytest.param("jit", marks=pytest.mark.needs("jit")),
    pytest.param("vmap", marks=pytest.mark.needs("vmap")),
]


@pytest.mark.parametrize("way", TRACED)
def test_traced_iteration_of_fixed_depth_is_as_near(backend, dtype, way):
    """Without a look at values, the block is wider than the rank, so that no copy is missed."""
    names = [name for name in zoo.HARD_SPECTRA if name not in ("linear", "almost flat")]
    stack = [zoo.matrix(zoo.HARD_SPECTRA[name](90), SHAPE, dtype=dtype) for name in names]

    def truncated(A):
        return eckart.truncated_svd(A, 6, method="krylov")

    traced = getattr(backend, way)(truncated)
    arrays = backend.asarray(np.stack(stack), dtype)
    whole = numpy_svd(backend, traced(arrays)) if way == "vmap" else None
    for i, (name, A) in enumerate(zip(names, stack, strict=True)):
        one = numpy_svd(backend, traced(arrays[i, ...])) if whole is None else [p[i] for p in whole]
        S = zoo.HARD_SPECTRA[name](90)
        assert_promise_kept(one, A, S, dtype=dtype, promised=max(accuracy(dtype), 1e-3))


@pytest.mark.needs("jit")
def test_traced_tolerance_masks_what_it_drops(backend, dtype):
    """Width is the static rank, and an error counts what lies beyond it."""
    S = 1 / np.arange(1.0, 91)
    array = backend.asarray(zoo.matrix(S, SHAPE, dtype=dtype, seed=2), dtype)
    for rules in {"rtol": 0.3}, {"error": 0.5}, {"error": 0.01}:
        traced = backend.jit(
            lambda A, rules=rules: eckart.truncated_svd(A, 6, method="krylov", **rules)
        )
        values = backend.to_numpy(traced(array).S)
        assert values.shape == (6,)
        assert np.count_nonzero(values) == min(6, eckart.select_rank(S, **rules))


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
