"""What a stream of updates loses, and what it never loses."""

import numpy as np
import pytest

import eckart
import zoo
from compare import assert_within
from truth import best, dense, error_of, nothing, svd_of

# Slow decay, values equal on both sides of the cut, noise below it, nothing lost.


# Slow decay, values equal on both sides of the cut, noise below it, nothing lost.
STREAMS = ["slow polynomial decay", "repeats across the cut", "flat tail", "exact rank"]


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
    norm, least = np.linalg.norm(A), best(A, 5)[1]
    error = error_of(A, backend, factors)
    assert_within(np.sqrt(sum(squares)), error, dtype=widest, size=64, scale=norm, units=2)
    rounding = 64 * np.finfo(widest).eps * norm
    assert max(squares) <= (least + rounding) ** 2
    assert error <= np.sqrt(len(squares)) * (least + rounding)


@pytest.mark.parametrize("name", STREAMS)
def test_no_update_of_a_stream_loses_more_than_the_best_of_what_has_come(backend, widest, name):
    """And no kept singular value is above the true one, nor its square short by more than lost."""
    S = zoo.HARD_SPECTRA[name](24)
    A = zoo.rounded(zoo.matrix(S, (60, 24), dtype=widest), widest)
    factors, losses = stream(backend, A, 5, 5, widest)
    rounding = 60 * np.finfo(widest).eps * np.linalg.norm(A)
    for k, loss in enumerate(losses, start=1):
        assert loss <= best(A[: 12 * k], 5)[1] + rounding
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
    assert_within(best(A, 1)[1], 1.0, dtype=widest, size=k)


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
    _, S, Vh = svd_of(backend, zoo.normal((6, 20), dtype, 0), 6, dtype)[0]
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
    first = best(A[:10], 8)[1]
    error = np.linalg.norm(A - (U * S) @ Vh)
    lost = np.linalg.norm([first, *losses])
    assert_within(lost, error, dtype="float64", size=1000, scale=np.linalg.norm(A))
