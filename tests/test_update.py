"""Rows and columns that arrive later, and factors that are merged."""

import importlib
import re

import numpy as np
import pytest

import eckart
import zoo
from compare import assert_within

# Of the matrix at hand and of what is appended as rows: fewer and more rows than columns, none to
# append, none at hand, no columns.
SHAPES = [(9, 6, 4), (3, 4, 11), (8, 5, 0), (0, 5, 4), (3, 0, 2)]

# Slow decay, values equal on both sides of the cut, noise below it, nothing lost.
STREAMS = ["slow polynomial decay", "repeats across the cut", "flat tail", "exact rank"]


@pytest.fixture
def widest(backend):
    """One dtype, for what is true of all for one reason: JAX compiles anew for each shape."""
    return backend.dtypes()[-1]


def random(shape, dtype, seed=0):
    rng = np.random.default_rng(seed)
    values = rng.standard_normal(shape)
    if dtype.startswith("complex"):
        values = values + 1j * rng.standard_normal(shape)
    return zoo.rounded(values, dtype)


def real(dtype):
    return {"complex64": "float32", "complex128": "float64"}.get(dtype, dtype)


def svd_of(backend, A, rank, dtype):
    """The best approximation as an SVD of the backend, and its error."""
    U, S, Vh = np.linalg.svd(A, full_matrices=False)
    parts = (U[..., :rank], dtype), (S[..., :rank], real(dtype)), (Vh[..., :rank, :], dtype)
    factors = eckart.SVD(*(backend.asarray(part, kind) for part, kind in parts))
    return factors, np.linalg.norm(S[..., rank:], axis=-1)


def nothing(backend, n, dtype):
    """What a stream of rows begins with."""
    shapes = ((0, 0), dtype), ((0,), real(dtype)), ((0, n), dtype)
    return eckart.SVD(*(backend.asarray(np.zeros(shape), kind) for shape, kind in shapes))


def dense(backend, factors):
    """The matrix in double precision, whatever rounding its product would add."""
    parts = [backend.to_numpy(part) for part in factors]
    wide = np.complex128 if np.iscomplexobj(parts[0]) else np.float64
    left, *S, right = (part.astype(wide) for part in parts)
    return (left * S[0][..., None, :] if S else left) @ right


def truncated(A, rank):
    """Best approximation and its error, by NumPy."""
    U, S, Vh = np.linalg.svd(A, full_matrices=False)
    kept = (U[..., :rank] * S[..., None, :rank]) @ Vh[..., :rank, :]
    return kept, np.linalg.norm(S[..., rank:], axis=-1)


def error_of(A, backend, factors):
    return np.linalg.norm(A - dense(backend, factors), axis=(-2, -1))


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
    A, new = random((m, n), dtype), random((p, n), dtype, 1)
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
        kept, error = truncated(whole, factors.rank if rank is None else rank)
        scale = 1 + np.linalg.norm(whole)
        assert_within(dense(backend, svd), kept, dtype=dtype, size=12, scale=scale, units=2)
        assert_within(backend.to_numpy(loss), error, dtype=dtype, size=12, scale=scale, units=2)
        assert max(orthogonality(backend, svd)) < 40 * np.finfo(dtype).eps


def test_width_is_the_rank_asked_for_while_the_shapes_allow_it(backend, widest):
    """A stream names one rank from its first batch on, which has fewer rows."""
    factors = nothing(backend, 7, widest)
    ranks = []
    for seed in range(4):
        batch = backend.asarray(random((2, 7), widest, seed), widest)
        factors = eckart.update(factors, batch, 5).svd
        ranks.append(factors.rank)
    assert ranks == [2, 4, 5, 5]
    assert eckart.update(factors, batch).svd.rank == 5
    assert eckart.update(factors, batch, 99).svd.rank == 7
    assert eckart.update(factors, batch, 0).svd.rank == 0


def test_signs_are_those_of_a_truncation(backend, widest):
    """The entry of largest modulus in each column of U is real and positive."""
    A = random((6, 5), widest)
    factors, _ = svd_of(backend, A[:4], 4, widest)
    for axis, new in (-2, A[4:]), (-1, random((4, 2), widest, 3)):
        U = backend.to_numpy(eckart.update(factors, backend.asarray(new, widest), axis=axis).svd.U)
        pivots = np.take_along_axis(U, np.argmax(np.abs(U), axis=0)[None, :], axis=0)[0]
        assert_within(pivots, np.max(np.abs(U), axis=0), dtype=widest, size=6)


def stream(backend, A, batches, rank, dtype, axis=-2):
    """Factors of a matrix that comes in batches, and what each update lost."""
    like = A if axis == -2 else A.conj().T
    factors = nothing(backend, like.shape[1], dtype)
    if axis == -1:
        U, S, Vh = factors
        factors = eckart.SVD(backend.xp.matrix_transpose(Vh), S, backend.xp.matrix_transpose(U))
    losses = []
    for batch in np.array_split(A, batches, axis=axis):
        factors, loss = eckart.update(factors, backend.asarray(batch, dtype), rank, axis=axis)
        losses.append(float(backend.to_numpy(loss)))
    return factors, np.asarray(losses)


@pytest.mark.parametrize("axis", [-2, -1])
@pytest.mark.parametrize("name", STREAMS)
def test_losses_of_a_stream_add_up_to_its_error_by_squares(backend, widest, name, axis):
    """Pythagoras: what later updates drop is orthogonal to what earlier ones did. An equality."""
    S = zoo.HARD_SPECTRA[name](24)
    A = zoo.rounded(zoo.matrix(S, (60, 24), dtype=widest), widest)
    A = A if axis == -2 else A.conj().T
    factors, losses = stream(backend, A, 5, 5, widest, axis)
    norm = np.linalg.norm(A)
    error = error_of(A, backend, factors)
    assert_within(np.linalg.norm(losses), error, dtype=widest, size=60, scale=norm, units=2)
    values = backend.to_numpy(factors.S).astype(float)
    energy = np.sqrt(np.sum(values**2) + np.sum(losses**2))
    assert_within(energy, norm, dtype=widest, size=60, scale=norm)


def leaves_and_merges(backend, A, workers, rank, dtype):
    """What a tree of workers finds, two by two, and the squared losses of each level."""
    level, squares = [], [0.0]
    for part in np.array_split(A, workers, axis=0):
        factors, error = svd_of(backend, part, rank, dtype)
        level.append(factors)
        squares[0] += error**2
    while len(level) > 1:
        merged = [eckart.update(a, b, rank) for a, b in zip(level[::2], level[1::2], strict=True)]
        squares.append(sum(float(backend.to_numpy(each.loss)) ** 2 for each in merged))
        level = [each.svd for each in merged]
    return level[0], squares


@pytest.mark.parametrize("name", STREAMS)
def test_losses_of_a_tree_add_up_and_no_level_loses_more_than_the_best(backend, widest, name):
    """So the error is at most sqrt(levels) times that of the best approximation."""
    S = zoo.HARD_SPECTRA[name](24)
    A = zoo.rounded(zoo.matrix(S, (64, 24), dtype=widest), widest)
    factors, squares = leaves_and_merges(backend, A, 8, 5, widest)
    assert len(squares) == 4
    norm, best = np.linalg.norm(A), truncated(A, 5)[1]
    error = error_of(A, backend, factors)
    assert_within(np.sqrt(sum(squares)), error, dtype=widest, size=64, scale=norm, units=2)
    rounding = 64 * np.finfo(widest).eps * norm
    assert max(squares) <= (best + rounding) ** 2
    assert error <= np.sqrt(len(squares)) * (best + rounding)


@pytest.mark.parametrize("name", STREAMS)
def test_no_update_of_a_stream_loses_more_than_the_best_of_what_has_come(backend, widest, name):
    """And no kept singular value is above the true one, nor its square short by more than lost."""
    S = zoo.HARD_SPECTRA[name](24)
    A = zoo.rounded(zoo.matrix(S, (60, 24), dtype=widest), widest)
    factors, losses = stream(backend, A, 5, 5, widest)
    rounding = 60 * np.finfo(widest).eps * np.linalg.norm(A)
    for k, loss in enumerate(losses, start=1):
        assert loss <= truncated(A[: 12 * k], 5)[1] + rounding
    true = np.linalg.svd(A, compute_uv=False)[:5]
    kept = backend.to_numpy(factors.S).astype(float)
    assert np.all(kept <= true + rounding)
    assert np.all(true <= np.sqrt(kept**2 + np.sum(losses**2)) + rounding)


def test_bound_of_a_stream_is_attained(backend, widest):
    """A direction that is always a little too small to be kept: sqrt(k - 1) times the best."""
    k, small = 9, 0.99
    A = np.zeros((k, 2))
    A[0, 0], A[1:, 1] = 1.0, small
    factors, losses = stream(backend, A, k, 1, widest)
    error = error_of(A, backend, factors)
    assert_within(error, small * np.sqrt(k - 1), dtype=widest, size=k, scale=error)
    assert_within(np.linalg.norm(losses), error, dtype=widest, size=k, scale=error)
    assert_within(truncated(A, 1)[1], 1.0, dtype=widest, size=k)


def test_losses_by_rows_and_columns_in_turn_add_up_as_norms_only(backend):
    """Nothing is orthogonal there: the error may exceed the root of the sum of squares."""
    exceeded = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        A = rng.standard_normal((2, 2))
        factors, error = svd_of(backend, A, 1, "float32")
        losses = [error]
        for axis in -1, -2, -1, -2:
            shape = (A.shape[0], 1) if axis == -1 else (1, A.shape[1])
            new = rng.standard_normal(shape)
            A = np.concatenate([A, new], axis=axis)
            factors, loss = eckart.update(factors, backend.asarray(new, "float32"), axis=axis)
            losses.append(float(backend.to_numpy(loss)))
        error = error_of(A, backend, factors)
        assert error <= sum(losses) * (1 + 1e-5)
        exceeded += error > 1.01 * np.linalg.norm(losses)
    assert exceeded > 0


def test_rows_that_lie_in_the_row_space_lose_nothing(backend, widest):
    """A stream of a matrix of the rank that is kept ends in its SVD."""
    S = np.asarray([3.0, 2.0, 1.0])
    A = zoo.rounded(zoo.matrix(S, (40, 12), dtype=widest), widest)
    factors, losses = stream(backend, A, 5, 3, widest)
    assert_within(losses, 0 * losses, dtype=widest, size=40, scale=3.0)
    assert_within(backend.to_numpy(factors.S), S, dtype=widest, size=40, scale=3.0)
    assert_within(dense(backend, factors), A, dtype=widest, size=40, scale=3.0)


def test_orthonormality_does_not_drift(backend, dtype):
    """After 500 updates it is what it was after one, while the stream grows a thousandfold."""
    rng = np.random.default_rng(0)
    _, S, Vh = svd_of(backend, random((6, 20), dtype), 6, dtype)[0]
    eye = backend.asarray(np.eye(6), dtype)
    for step in range(500):
        rows = backend.asarray(1000 ** (step / 500) * rng.standard_normal((2, 20)), dtype)
        _, S, Vh = eckart.update(eckart.SVD(eye, S, Vh), rows).svd
    product = backend.to_numpy(Vh) @ backend.to_numpy(Vh).conj().T
    assert_within(product, np.eye(6), dtype=dtype, size=1, units=16)


@pytest.mark.numpy_only
def test_left_vectors_of_a_long_stream_do_not_drift():
    """Every update multiplies them, and makes them orthonormal again."""
    rng = np.random.default_rng(0)
    A = rng.standard_normal((1000, 30)) / np.arange(1, 31)
    factors, losses = eckart.truncated_svd(A[:10], 8), []
    for batch in np.split(A[10:], 495):
        factors, loss = eckart.update(factors, batch)
        losses.append(loss)
    U, S, Vh = factors
    assert_within(U.T @ U, np.eye(8), dtype="float64", size=1, units=16)
    assert_within(Vh @ Vh.T, np.eye(8), dtype="float64", size=1, units=16)
    first = truncated(A[:10], 8)[1]
    error = np.linalg.norm(A - (U * S) @ Vh)
    lost = np.linalg.norm([first, *losses])
    assert_within(lost, error, dtype="float64", size=1000, scale=np.linalg.norm(A))


def test_left_vectors_are_not_needed(backend, widest):
    """The identity for U, or S Vh for what a worker found: the same S, Vh and loss."""
    A = random((9, 6), widest)
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
    A, new = random((3, 6, 5), dtype), random((3, 2, 5), dtype, 1)
    many, _ = svd_of(backend, A, 3, dtype)
    one, _ = svd_of(backend, A[0], 3, dtype)
    batch = backend.asarray(new, dtype)
    cases = (many, batch, A, new), (one, batch, A[:1], new), (many, batch[0, ...], A, new[:1])
    for factors, rows, left, right in cases:
        svd, loss = eckart.update(factors, rows)
        assert tuple(svd.shape) == (3, 8, 5)
        assert tuple(loss.shape) == (3,)
        for i in range(3):
            first = truncated(left[i % len(left)], 3)[0]
            kept, error = truncated(np.concatenate([first, right[i % len(right)]]), 3)
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
    A, new = random((5, 5), dtype), random((5, 5), dtype, 1)
    for first, second in (scale, scale), (1 / scale, 1 / scale), (1.0, 1 / scale), (scale, 1.0):
        factors, _ = svd_of(backend, A * first, 3, dtype)
        svd, loss = eckart.update(factors, backend.asarray(new * second, dtype), axis=axis)
        unit = max(first, second)
        parts = truncated(A, 3)[0] * (first / unit), new * (second / unit)
        whole = np.concatenate(parts, axis=axis)
        kept, error = truncated(whole, 3)
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
    A, new = random((8, 6), half), random((3, 6), half, 1)
    factors = eckart.truncated_svd(backend.asarray(A, half), 3)
    svd, loss = eckart.update(factors, backend.asarray(new, half))
    assert all(part.dtype == backend.dtype(half) for part in svd)
    assert loss.dtype == backend.dtype("float32")
    whole = np.concatenate([dense(backend, factors), new])
    kept, error = truncated(whole, 3)
    assert_within(dense(backend, svd), kept, dtype=half, size=1, scale=np.linalg.norm(whole, 2))
    assert_within(backend.to_numpy(loss), error, dtype="float32", size=11, scale=error)
    svd, _ = eckart.update(factors, backend.asarray(new, "float32"))
    assert svd.dtype == backend.dtype("float32")


WAYS = [
    pytest.param("jit", marks=pytest.mark.needs("jit")),
    pytest.param("compile", marks=pytest.mark.needs("compile")),
]


@pytest.mark.parametrize("axis", [-2, -1])
@pytest.mark.parametrize("way", WAYS)
def test_traced_update_is_the_eager_one(backend, dtype, way, axis):
    """The width is known from the shapes alone."""
    factors, _ = svd_of(backend, random((6, 6), dtype), 3, dtype)
    new = backend.asarray(random((6, 6), dtype, 1), dtype)
    expected = eckart.update(factors, new, 4, axis=axis)
    traced = getattr(backend, way)(lambda factors, new: eckart.update(factors, new, 4, axis=axis))
    actual = traced(factors, new)
    assert isinstance(actual, eckart.Update)
    assert isinstance(actual.svd, eckart.SVD)
    pairs = zip((*actual.svd, actual.loss), (*expected.svd, expected.loss), strict=True)
    for one, other in pairs:
        one, other = backend.to_numpy(one), backend.to_numpy(other)
        assert_within(one, other, dtype=dtype, size=12, scale=5.0, units=4)


@pytest.mark.needs("vmap")
def test_mapped_update_is_that_of_the_stack(backend, dtype):
    """Mapping over matrices and batches gives what one stacked call gives."""
    factors, _ = svd_of(backend, random((3, 6, 5), dtype), 3, dtype)
    rows = backend.asarray(random((3, 2, 5), dtype, 1), dtype)

    def flat(U, S, Vh, rows):
        svd, loss = eckart.update(eckart.SVD(U, S, Vh), rows)
        return (*svd, loss)

    mapped = backend.vmap(lambda arrays: flat(*arrays))((*factors, rows))
    for one, other in zip(mapped, flat(*factors, rows), strict=True):
        one, other = backend.to_numpy(one), backend.to_numpy(other)
        assert_within(one, other, dtype=dtype, size=8, scale=5.0, units=4)


def real_inner(xp, W, Y):
    product = xp.sum(xp.conj(W) * Y) if "complex" in str(W.dtype) else xp.sum(W * Y)
    return xp.real(product) if "complex" in str(W.dtype) else product


@pytest.mark.needs("grad")
@pytest.mark.parametrize("axis", [-2, -1])
def test_gradient_is_that_of_the_truncation(backend, dtype, axis):
    """In closed form, with respect to the new rows and to the factors before."""
    kept, rank = random((5, 5), dtype), 3
    new = random((5, 5), dtype, 1)
    factors, _ = svd_of(backend, kept, rank, dtype)
    whole = np.concatenate([dense(backend, factors), new], axis=axis)
    W = random(whole.shape, dtype, 2)
    weight = backend.asarray(W, dtype)
    S = np.linalg.svd(whole, compute_uv=False)
    G = zoo.truncation_derivative(whole, S, rank, W)
    before, after = (G[:5], G[5:]) if axis == -2 else (G[:, :5], G[:, 5:])

    def loss(Vh, new):
        svd = eckart.update(eckart.SVD(factors.U, factors.S, Vh), new, axis=axis).svd
        return real_inner(backend.xp, weight, eckart.reconstruct(svd))

    found = backend.gradient(loss, factors.Vh, backend.asarray(new, dtype))
    US = dense(backend, eckart.SVD(*factors[:2], backend.asarray(np.eye(rank), dtype)))
    for actual, expected in zip(found, (US.conj().T @ before, after), strict=True):
        actual = backend.to_numpy(actual)
        assert_within(actual, expected, dtype=dtype, size=10, scale=30.0, units=16)


@pytest.mark.needs("grad")
@pytest.mark.parametrize("tie", [False, True])
def test_gradient_of_the_loss_is_what_is_dropped(backend, dtype, tie):
    """Over its norm, also where dropped values are equal; zero where nothing is dropped."""
    values = [4.0, 3.0, 1.0, 1.0, 0.0] if tie else [5.0, 4.0, 2.0, 1.5, 1.0]
    A = zoo.matrix(np.asarray(values), (7, 5), dtype=dtype)
    left = backend.asarray(A[:4], dtype)
    factors = eckart.LowRank(backend.asarray(np.eye(4), dtype), left)
    rows = backend.asarray(A[4:], dtype)
    G = backend.gradient(lambda rows: eckart.update(factors, rows, 2).loss, rows)
    dropped = A - truncated(A, 2)[0]
    expected = dropped[4:] / np.linalg.norm(dropped)
    assert_within(backend.to_numpy(G), expected, dtype=dtype, size=7, scale=5.0, units=4)
    zero = backend.asarray(np.zeros((2, 5)), dtype)
    G = backend.gradient(lambda rows: eckart.update(factors, rows).loss, zero)
    assert np.all(np.isfinite(backend.to_numpy(G)))


def test_what_does_not_fit_is_refused(backend):
    """Each sentence names the argument, the rule and what came."""
    factors, _ = svd_of(backend, random((4, 3), "float32"), 2, "float32")

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
    factors, _ = svd_of(backend, random((4, 3), dtype), 2, dtype)
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


@pytest.mark.parametrize("way", WAYS)
def test_traced_rows_that_are_not_finite_stay_visible(backend, way):
    """Values cannot be refused while traced: a NaN comes out as NaN."""
    factors, _ = svd_of(backend, random((4, 3), "float32"), 2, "float32")
    rows = backend.asarray(np.asarray([[1.0, np.nan, 1.0]]), "float32")
    svd, loss = getattr(backend, way)(eckart.update)(factors, rows)
    assert np.isnan(backend.to_numpy(svd.S)).all()
    assert np.isnan(backend.to_numpy(loss))
