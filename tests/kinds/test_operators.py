"""A matrix that is known by its products is decomposed as the matrix itself."""

import array_api_compat
import numpy as np
import pytest

import eckart
import zoo
from compare import EPS, assert_within
from truth import assert_truncated, known_by_products

pytestmark = pytest.mark.needs("operators")

# Outside of a trace JAX compiles each operation for each shape. What its operators do otherwise is
# in `transformations`, and the contract of the kinds runs with its sparse matrices.
ELSEWHERE = pytest.mark.only("numpy", "torch", "array_api_strict", "cupy")


SHAPE, RANK = (120, 90), 6
S = 0.7 ** np.arange(90.0)


def dense(dtype, seed=1, shape=SHAPE):
    """A matrix in double precision, as `dtype` holds it."""
    return zoo.rounded(zoo.matrix(S[: min(shape)], shape, dtype=dtype, seed=seed), dtype)


@pytest.mark.parametrize("shape", [(120, 90), (90, 120)], ids=str)
def test_truncation_of_an_operator_is_that_of_its_matrix(backend, dtype, shape):
    """In the library and the dtype of `like`."""
    A = dense(dtype, shape=shape)
    operator = known_by_products(backend, A, dtype)
    factors = eckart.truncated_svd(operator, RANK)
    assert factors.U.dtype == operator.dtype == backend.dtype(dtype)
    assert array_api_compat.device(factors.U) == operator.device
    assert_truncated(backend, factors, A, dtype)
    B, C = (backend.to_numpy(part) for part in eckart.factorize(operator, RANK))
    error, best = np.linalg.norm(A - B @ C), np.linalg.norm(S[RANK:])
    assert error <= best * (1 + np.sqrt(EPS[dtype])) + 4 * 120 * EPS[dtype]


@ELSEWHERE
def test_stack_of_operators_is_truncated_one_by_one(backend, dtype):
    """A leading shape makes a stack."""
    A = np.stack([dense(dtype, seed) for seed in (1, 3)])
    U, found, Vh = eckart.truncated_svd(known_by_products(backend, A, dtype), RANK)
    for i in range(2):
        parts = (U[i, ...], found[i, ...], Vh[i, ...])
        assert_truncated(backend, parts, A[i], dtype)


@ELSEWHERE
@pytest.mark.parametrize(
    "rules", [{"error": 0.3}, {"rtol": 0.2}, {"rank": 8, "atol": 0.4}], ids=str
)
def test_rules_choose_the_rank_of_an_operator(backend, dtype, rules):
    """As they do that of its matrix."""
    A = dense(dtype)
    expected = eckart.truncated_svd(A, **rules).rank
    factors = eckart.truncated_svd(known_by_products(backend, A, dtype), **rules)
    assert factors.rank == expected
    assert_truncated(backend, factors, A, dtype, expected)


@ELSEWHERE
def test_operator_is_formed_where_all_values_are_needed(backend, dtype):
    """All singular values, the ranks, and truncations that leave little."""
    A = dense(dtype, shape=(20, 30))
    operator = known_by_products(backend, A, dtype)
    values = np.linalg.svd(A, compute_uv=False)
    exact = {"dtype": dtype, "size": 30, "units": 2}
    assert_within(backend.to_numpy(eckart.singular_values(operator)), values, **exact)
    assert int(eckart.matrix_rank(operator, rtol=0.1)) == np.sum(values > 0.1 * values[0])
    stable = np.sum(values**2) / values[0] ** 2
    assert_within(backend.to_numpy(eckart.stable_rank(operator)), stable, **exact, scale=stable)
    for method in "auto", "exact", "gram", "krylov":
        factors = eckart.truncated_svd(operator, 15, method=method)
        assert_truncated(backend, factors, A, dtype, 15)


@ELSEWHERE
@pytest.mark.parametrize("shape", [(120, 90), (40, 60)], ids=str)
def test_certificate_of_an_operator_is_that_of_its_matrix(backend, dtype, shape):
    """The same errors, measured by products."""
    A = dense(dtype, shape=shape)
    operator = known_by_products(backend, A, dtype)
    factors = eckart.truncated_svd(operator, RANK)
    told = eckart.certify(operator, factors)
    same = eckart.certify(backend.asarray(A, dtype), factors)
    for name, scale in ("error", 1), ("relative_error", 1), ("spectral_error", 2), ("gap", 2):
        actual, expected = (backend.to_numpy(getattr(each, name)) for each in (told, same))
        assert_within(actual, expected, dtype=dtype, size=120, scale=scale)


@ELSEWHERE
@pytest.mark.parametrize("end", [1, -1])
def test_scale_of_an_operator_is_the_scale_of_its_values(backend, dtype, end):
    """1e±30 in single, 1e±150 in double precision."""
    scale = 10.0 ** (end * (30 if EPS[dtype] > 1e-10 else 150))
    A = dense(dtype)
    operator = known_by_products(backend, zoo.rounded(A * scale, dtype), dtype)
    found = backend.to_numpy(eckart.truncated_svd(operator, RANK).S).astype(float) / scale
    assert_within(found, S[:RANK], dtype=dtype, size=120, units=2)
    assert_within(
        backend.to_numpy(eckart.stable_rank(operator)), np.sum(S**2), dtype=dtype, size=120, units=2
    )


@pytest.mark.only("numpy", "torch")
def test_operator_that_gives_up_says_so(backend, dtype, monkeypatch):
    """With the residual it reached, by its Gram matrix or, below what squares allow, without it."""
    A = zoo.matrix(np.arange(1.0, 91) ** -0.1, SHAPE, dtype=dtype, seed=1)
    operator = known_by_products(backend, A, dtype)
    monkeypatch.setattr("eckart._algorithms.iteration.STEPS", 3)
    for accuracy in EPS[dtype] * 64, 1e-300:
        with pytest.warns(RuntimeWarning, match="have not converged: a residual of") as told:
            eckart.truncated_svd(operator, RANK, accuracy=accuracy)
        assert len(told) == 1


@ELSEWHERE
def test_sum_with_an_operator_has_the_products_of_the_sum(backend, dtype):
    """From both sides, for vectors and matrices; complex weights where the matrices are complex."""
    A = dense(dtype, shape=(7, 5))
    weight = 2 - 1j if dtype.startswith("complex") else 2.0
    operator = eckart.add(
        known_by_products(backend, A, dtype), backend.asarray(A, dtype), weights=[weight, 1]
    )
    W = A * (weight + 1)
    close = {"dtype": dtype, "size": 7, "scale": 20.0}
    for shape in (5,), (5, 2):
        X = np.random.default_rng(0).standard_normal(shape).astype(dtype)
        assert_within(backend.to_numpy(operator @ backend.asarray(X, dtype)), W @ X, **close)
    if backend.can("reflected"):
        for shape in (7,), (2, 7):
            X = np.random.default_rng(0).standard_normal(shape).astype(dtype)
            assert_within(backend.to_numpy(backend.asarray(X, dtype) @ operator), X @ W, **close)


@ELSEWHERE
def test_adapted_weight_is_truncated_without_forming_it(backend, dtype):
    """A stack of arrays and factors that broadcast, with a weight a matrix."""
    A = np.stack([dense(dtype, seed) for seed in (1, 3)])
    B, C = dense(dtype, seed=7)[:, :2], dense(dtype, seed=9)[:2, :]
    adapter = eckart.LowRank(backend.asarray(B, dtype), backend.asarray(C, dtype))
    scales = np.asarray([1.0, -0.5])
    weights = [1.0, backend.asarray(scales.astype("float32"))]
    found = eckart.truncated_svd(
        eckart.add(backend.asarray(A, dtype), adapter, weights=weights), RANK
    )
    for i, scale in enumerate(scales):
        assert_truncated(
            backend, tuple(part[i, ...] for part in found), A[i] + scale * (B @ C), dtype
        )


@ELSEWHERE
def test_empty_operators_are_values(backend, dtype):
    """No rows, no columns, or rank zero."""
    for shape in (0, 5), (5, 0), (2, 0, 3):
        operator = known_by_products(backend, np.zeros(shape), dtype)
        assert eckart.truncated_svd(operator, 0).rank == 0
        assert tuple(eckart.singular_values(operator).shape) == (*shape[:-2], min(shape[-2:]))
    operator = known_by_products(backend, dense(dtype), dtype)
    assert tuple(eckart.truncated_svd(operator, 0).U.shape) == (120, 0)
    zero = known_by_products(backend, np.zeros((120, 90)), dtype)
    assert_truncated(backend, eckart.truncated_svd(zero, 3), np.zeros((120, 90)), dtype, 3)


def test_half_precision_operators_are_asked_in_single(backend, half):
    """Products in float32, results as `like` is."""
    A = dense("float32", shape=(20, 30))
    array = backend.asarray(A, "float32")
    operator = eckart.operator(
        (20, 30), lambda X: array @ X, lambda X: array.mT @ X, like=backend.asarray([0.0], half)
    )
    factors = eckart.truncated_svd(operator, 3)
    assert factors.U.dtype == factors.S.dtype == backend.dtype(half)
    values = np.linalg.svd(A, compute_uv=False)[:3]
    assert_within(backend.to_numpy(factors.S), values, dtype=half, size=1)


def test_products_that_are_not_adjoint_are_refused(backend, dtype):
    """Caught when the operator is made, with the mismatch: scaled, transposed, of another one."""
    A = dense(dtype, shape=(30, 20))
    array = backend.asarray(A, dtype)
    xp = backend.xp
    adjoint = xp.conj(array.mT) if dtype.startswith("complex") else array.mT
    wrong = [lambda X: 1.01 * (adjoint @ X), lambda X: -(adjoint @ X), lambda X: 0 * (adjoint @ X)]
    if dtype.startswith("complex"):
        wrong.append(lambda X: array.mT @ X)
    for backward in wrong:
        with pytest.raises(
            ValueError, match=r"`rmatmul` must be the adjoint.* differ by [0-9.e-]+"
        ):
            eckart.operator((30, 20), lambda X: array @ X, backward, like=array)


def test_products_of_wrong_shape_or_dtype_are_refused_by_the_name_of_the_call(backend):
    """At once, and also where only a later call goes wrong."""
    array = backend.asarray(dense("float32", shape=(5, 3)), "float32")
    xp = backend.xp

    def made(forward, backward):
        return eckart.operator((5, 3), forward, backward, like=array)

    with pytest.raises(
        ValueError, match=r"`matmul\(X\)` must have shape \(5, 2\) .* got shape \(2, 5\)"
    ):
        made(lambda X: (array @ X).mT, lambda X: array.mT @ X)
    with pytest.raises(ValueError, match=r"`rmatmul\(X\)` must have shape \(3, 2\)"):
        made(lambda X: array @ X, lambda X: X)
    if backend.can("double"):
        with pytest.raises(
            TypeError, match=r"`matmul\(X\)` must have the dtype of X, float32, got float64"
        ):
            made(lambda X: xp.astype(array @ X, xp.float64), lambda X: array.mT @ X)
    with pytest.raises(TypeError, match=r"`matmul\(X\)` must be an array"):
        made(lambda X: None, lambda X: array.mT @ X)
    calls = []

    def forward(X):
        calls.append(X)
        return array @ X if len(calls) < 2 else X

    operator = made(forward, lambda X: array.mT @ X)
    with pytest.raises(ValueError, match=r"`matmul\(X\)` must have shape"):
        eckart.truncated_svd(operator, 1)


def test_what_cannot_be_an_operator_is_refused(backend):
    """Products that are not finite, an integer `like`, sums of several dtypes, and huge spectra."""
    array = backend.asarray(dense("float32", shape=(30, 20)), "float32")
    nothing = eckart.operator(
        (30, 20), lambda X: array @ X * float("nan"), lambda X: array.mT @ X, like=array
    )
    with pytest.raises(ValueError, match="`A` must be finite, but a product with it"):
        eckart.truncated_svd(nothing, 2)
    with pytest.raises(TypeError, match="`like` must have a floating-point dtype"):
        eckart.operator(
            (3, 3), lambda X: X, lambda X: X, like=backend.xp.ones(1, dtype=backend.xp.int32)
        )
    with pytest.raises(ValueError, match="`shape` must be"):
        eckart.operator((3,), lambda X: X, lambda X: X, like=array)
    n = 20000
    identity = eckart.operator((n, n), lambda X: X, lambda X: X, like=array)
    with pytest.raises(
        ValueError, match=r"`A` must have at most 134217728 entries, .* has 400000000"
    ):
        eckart.singular_values(identity)
    if backend.can("double"):
        wide = backend.asarray(np.zeros((n, n // 1000)), "float64")
        with pytest.raises(TypeError, match="must have the dtype of"):
            eckart.add(identity, eckart.LowRank(wide, wide.mT))
