"""Rows and columns that arrive later, and factors that are merged."""

import importlib
import re

import numpy as np
import pytest

import eckart
import zoo
from compare import assert_within
from truth import best, dense, nothing, real, svd_of

# Of the matrix at hand and of what is appended as rows: fewer and more rows than columns, none to
# append, none at hand, no columns.
SHAPES = [(9, 6, 4), (3, 4, 11), (8, 5, 0), (0, 5, 4), (3, 0, 2)]


def orthogonality(backend, factors):
    U, Vh = (backend.to_numpy(part).astype(np.complex128) for part in (factors.U, factors.Vh))
    eye = np.eye(factors.rank)
    return np.linalg.norm(U.conj().T @ U - eye), np.linalg.norm(Vh @ Vh.conj().T - eye)


@pytest.mark.parametrize("axis", [-2, -1])
@pytest.mark.parametrize(
    ("shape", "kind"),
    [*((shape, "array") for shape in SHAPES), (SHAPES[0], "svd"), (SHAPES[0], "low rank")],
    ids=str,
)
def test_update_is_the_truncation_of_what_is_stacked(backend, dtype, shape, kind, axis):
    """Eckart–Young for the factors with the new rows or columns, and the loss is its error."""
    m, n, p = shape
    A, new = zoo.normal((m, n), dtype, 0), zoo.normal((p, n), dtype, 1)
    turned = (lambda A: A) if axis == -2 else (lambda A: A.conj().T)
    factors, _ = svd_of(backend, turned(A), 3, dtype)
    if kind == "array":
        arrived = backend.asarray(turned(new), dtype)
        expected = turned(new)
    else:
        arrived, _ = svd_of(backend, turned(new), 2, dtype)
        expected = dense(backend, arrived)
        if kind == "low rank":
            arrived = eckart.factorize(arrived, arrived.rank)
    whole = np.concatenate([dense(backend, factors), expected], axis=axis)
    for rank in None, 40:
        svd, loss = eckart.update(factors, arrived, rank, axis=axis)
        assert isinstance(svd, eckart.SVD)
        assert tuple(svd.shape) == whole.shape
        assert all(part.dtype == factors.U.dtype for part in (svd.U, svd.Vh))
        assert svd.S.dtype == loss.dtype == factors.S.dtype
        kept, error = best(whole, factors.rank if rank is None else rank)
        scale = 1 + np.linalg.norm(whole)
        assert_within(dense(backend, svd), kept, dtype=dtype, size=12, scale=scale, units=2)
        assert_within(backend.to_numpy(loss), error, dtype=dtype, size=12, scale=scale, units=2)
        assert max(orthogonality(backend, svd)) < 40 * np.finfo(dtype).eps


def test_width_is_the_rank_asked_for_while_the_shapes_allow_it(backend, widest):
    """A stream names one rank from its first batch on, which has fewer rows."""
    factors = nothing(backend, 7, widest)
    ranks = []
    for seed in range(4):
        batch = backend.asarray(zoo.normal((2, 7), widest, seed), widest)
        factors = eckart.update(factors, batch, 5).svd
        ranks.append(factors.rank)
    assert ranks == [2, 4, 5, 5]
    assert eckart.update(factors, batch).svd.rank == 5
    assert eckart.update(factors, batch, 99).svd.rank == 7
    assert eckart.update(factors, batch, 0).svd.rank == 0


def test_signs_are_those_of_a_truncation(backend, widest):
    """The entry of largest modulus in each column of U is real and positive."""
    A = zoo.normal((6, 5), widest, 0)
    factors, _ = svd_of(backend, A[:4], 4, widest)
    for axis, new in (-2, A[4:]), (-1, zoo.normal((4, 2), widest, 3)):
        U = backend.to_numpy(eckart.update(factors, backend.asarray(new, widest), axis=axis).svd.U)
        pivots = np.take_along_axis(U, np.argmax(np.abs(U), axis=0)[None, :], axis=0)[0]
        assert_within(pivots, np.max(np.abs(U), axis=0), dtype=widest, size=6)


def test_left_vectors_are_not_needed(backend, widest):
    """The identity for U, or S Vh for what a worker found: the same S, Vh and loss."""
    A = zoo.normal((9, 6), widest, 0)
    first, _ = svd_of(backend, A[:5], 3, widest)
    second, _ = svd_of(backend, A[5:], 3, widest)
    expected = eckart.update(first, second)
    bare = eckart.SVD(backend.asarray(np.eye(3), widest), first.S, first.Vh)
    sent = backend.xp.astype(second.S, second.Vh.dtype)[:, None] * second.Vh
    actual = eckart.update(bare, sent)
    assert tuple(actual.svd.shape) == (6, 6)
    for one, other in (actual.svd.S, expected.svd.S), (actual.loss, expected.loss):
        one, other = backend.to_numpy(one), backend.to_numpy(other)
        assert_within(one, other, dtype=widest, size=9, scale=5.0)
    V, W = (backend.to_numpy(each.svd.Vh) for each in (actual, expected))
    assert_within(V.conj().T @ V, W.conj().T @ W, dtype=widest, size=9, units=8)


def test_stacks_broadcast(backend, dtype):
    """One matrix for many batches, or one batch for many matrices."""
    A, new = zoo.normal((3, 6, 5), dtype, 0), zoo.normal((3, 2, 5), dtype, 1)
    many, _ = svd_of(backend, A, 3, dtype)
    one, _ = svd_of(backend, A[0], 3, dtype)
    batch = backend.asarray(new, dtype)
    cases = (many, batch, A, new), (one, batch, A[:1], new), (many, batch[0, ...], A, new[:1])
    for factors, rows, left, right in cases:
        svd, loss = eckart.update(factors, rows)
        assert tuple(svd.shape) == (3, 8, 5)
        assert tuple(loss.shape) == (3,)
        for i in range(3):
            first = best(left[i % len(left)], 3)[0]
            kept, error = best(np.concatenate([first, right[i % len(right)]]), 3)
            assert_within(dense(backend, svd)[i], kept, dtype=dtype, size=8, scale=8.0, units=4)
            assert_within(backend.to_numpy(loss)[i], error, dtype=dtype, size=8, scale=8.0)


def test_triplets_that_a_tolerance_dropped_of_a_stack_are_nothing(backend, widest):
    """Zero columns in U: the update of that matrix is orthonormal again."""
    A = np.stack([np.diag([3.0, 2.0, 1.0]), np.diag([3.0, 1e-12, 0.0])])
    factors = eckart.truncated_svd(backend.asarray(A, widest), rtol=1e-5)
    assert factors.rank == 3
    rows = np.asarray([[0.0, 0.0, 5.0]])
    svd, loss = eckart.update(factors, backend.asarray(rows, widest))
    expected = [[np.sqrt(26), 3.0, 2.0], [5.0, 3.0, 0.0]]
    assert_within(backend.to_numpy(svd.S), expected, dtype=widest, size=4, scale=5.0)
    assert_within(backend.to_numpy(loss), [0.0, 0.0], dtype=widest, size=4, scale=5.0)
    for i in range(2):
        each = eckart.SVD(*(part[i, ...] for part in svd))
        assert max(orthogonality(backend, each)) < 20 * np.finfo(widest).eps


@pytest.mark.parametrize("axis", [-2, -1])
def test_ends_of_the_range_are_right(backend, dtype, axis):
    """Nothing is squared that could overflow, also where the new rows are of another size."""
    scale = 1e30 if dtype in ("float32", "complex64") else 1e150
    A, new = zoo.normal((5, 5), dtype, 0), zoo.normal((5, 5), dtype, 1)
    for first, second in (scale, scale), (1 / scale, 1 / scale), (1.0, 1 / scale), (scale, 1.0):
        factors, _ = svd_of(backend, A * first, 3, dtype)
        svd, loss = eckart.update(factors, backend.asarray(new * second, dtype), axis=axis)
        unit = max(first, second)
        parts = best(A, 3)[0] * (first / unit), new * (second / unit)
        whole = np.concatenate(parts, axis=axis)
        kept, error = best(whole, 3)
        U, S, Vh = (backend.to_numpy(part) for part in svd)
        product = (U * (S.astype(float) / unit)) @ Vh
        assert_within(product, kept, dtype=dtype, size=10, scale=8.0, units=2)
        actual = backend.to_numpy(loss).astype(float) / unit
        assert_within(actual, error, dtype=dtype, size=10, scale=8.0)


def test_zero_matrices_stay_zero(backend, widest):
    """With orthonormal vectors, and without a loss."""
    zero = backend.asarray(np.zeros((3, 4)), widest)
    svd, loss = eckart.update(eckart.truncated_svd(zero, 2), zero)
    assert_within(backend.to_numpy(svd.S), np.zeros(2), dtype=widest, size=0)
    assert_within(backend.to_numpy(loss), 0.0, dtype=widest, size=0)
    assert max(orthogonality(backend, svd)) < 20 * np.finfo(widest).eps


def test_half_precision_is_rounded_once_and_its_loss_is_single(backend, half):
    """Computed in float32, whatever the new rows came as."""
    A, new = zoo.normal((8, 6), half, 0), zoo.normal((3, 6), half, 1)
    factors = eckart.truncated_svd(backend.asarray(A, half), 3)
    svd, loss = eckart.update(factors, backend.asarray(new, half))
    assert all(part.dtype == backend.dtype(half) for part in svd)
    assert loss.dtype == backend.dtype("float32")
    whole = np.concatenate([dense(backend, factors), new])
    kept, error = best(whole, 3)
    assert_within(dense(backend, svd), kept, dtype=half, size=1, scale=np.linalg.norm(whole, 2))
    assert_within(backend.to_numpy(loss), error, dtype="float32", size=11, scale=error)
    svd, _ = eckart.update(factors, backend.asarray(new, "float32"))
    assert svd.dtype == backend.dtype("float32")


def real_inner(xp, W, Y):
    product = xp.sum(xp.conj(W) * Y) if "complex" in str(W.dtype) else xp.sum(W * Y)
    return xp.real(product) if "complex" in str(W.dtype) else product


def test_what_does_not_fit_is_refused(backend):
    """Each sentence names the argument, the rule and what came."""
    factors, _ = svd_of(backend, zoo.normal((4, 3), "float32", 0), 2, "float32")

    def ones(*shape, dtype="float32"):
        return backend.asarray(np.ones(shape), dtype)

    def refused(kind, sentence, *arguments, **options):
        with pytest.raises(kind, match=sentence):
            eckart.update(*arguments, **options)

    columns = r"`new` must have n = 3 columns like `factors`.* as rows \(axis=-2\), got shape "
    refused(ValueError, columns + re.escape("(3, 4)"), factors, ones(3, 4))
    rows = r"`new` must have m = 4 rows like `factors`.* as columns \(axis=-1\), got shape "
    refused(ValueError, rows + re.escape("(3, 4)"), factors, ones(3, 4), axis=-1)
    refused(
        ValueError,
        rows + re.escape("(3, 3)"),
        factors,
        (eckart.LowRank(ones(3, 1), ones(1, 3))),
        axis=-1,
    )
    refused(ValueError, r"`new` must be a matrix .* got shape \(3,\)", factors, ones(3))
    refused(ValueError, "`axis` must be one of -2, -1, got 0", factors, ones(1, 3), axis=0)
    refused(TypeError, "`axis` must be an integer", factors, ones(1, 3), axis="rows")
    refused(ValueError, "`rank` must be at least 0, got -1", factors, ones(1, 3), -1)
    refused(TypeError, "`rank` must be an integer", factors, ones(1, 3), 2.0)
    refused(TypeError, "`factors` must be an SVD or a LowRank", ones(4, 3), ones(1, 3))
    refused(TypeError, "`new` must be an array .* got list", factors, [[1.0, 1.0, 1.0]])
    refused(TypeError, "`new` must have a floating-point", factors, ones(1, 3, dtype="int32"))
    stacked = eckart.LowRank(ones(2, 4, 1), ones(2, 1, 3))
    refused(ValueError, "stacks of `new` and `factors` must broadcast", stacked, ones(3, 1, 3))
    other = "array_api_strict" if backend.library in ("numpy", "dask") else "numpy"
    foreign = importlib.import_module(other).asarray(np.ones((1, 3), np.float32))
    refused(
        TypeError, f"`factors` and `new` .* got {backend.library} and {other}", factors, foreign
    )


@pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered:RuntimeWarning")
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_located(backend, dtype, value):
    """In the new rows, or in the factors."""
    factors, _ = svd_of(backend, zoo.normal((4, 3), dtype, 0), 2, dtype)
    rows = np.ones((2, 3))
    rows[1, 2] = value
    with pytest.raises(ValueError, match=r"`new` must be finite, but 1 of its 6 .* \(1, 2\)"):
        eckart.update(factors, backend.asarray(rows, dtype))
    broken = factors._replace(S=backend.asarray(np.asarray([value, 1.0]), real(dtype)))
    with pytest.raises(ValueError, match=r"`factors\.S` must be finite, but 1 of its 2"):
        eckart.update(broken, backend.asarray(np.ones((2, 3)), dtype))


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
def test_singular_value_that_grows_beyond_the_dtype_is_refused(backend, dtype):
    """Rows fit, their sum of squares does not."""
    large = 3e38 if dtype in ("float32", "complex64") else 1.7e308
    rows = backend.asarray(np.full((1, 1), large), dtype)
    factors = eckart.truncated_svd(rows, 1)
    with pytest.raises(ValueError, match=f"largest singular value must fit .* in {dtype}"):
        eckart.update(factors, rows)
