"""Dask arrays with chunks that have no rows or columns, as a filter leaves them."""

import importlib
import itertools

import numpy as np
import pytest

import eckart
import zoo
from compare import assert_within

pytestmark = pytest.mark.only("dask")
RANK = 2


def filtered(A, where):
    """A Dask array of this matrix with empty chunks among its rows, its columns, or both."""
    da = importlib.import_module("dask.array")
    chunks, masks = [], []
    for length, empty in zip(A.shape, where, strict=True):
        half = length // 2
        parts = [(3, False), (half, True), (2, False), (1, False), (length - half, True)]
        parts = [*parts, (2, False)] if empty else [(half, True), (length - half, True)]
        chunks.append(tuple(part for part, _ in parts))
        masks.append(np.repeat([kept for _, kept in parts], chunks[-1]))
    large = np.zeros([len(mask) for mask in masks], A.dtype)
    large[np.ix_(*masks)] = A
    rows, columns = (da.from_array(m, chunks=(c,)) for m, c in zip(masks, chunks, strict=True))
    found = da.from_array(large, chunks=tuple(chunks))
    found = found[rows] if where[0] else found
    found = found[:, columns] if where[1] else found
    found.compute_chunk_sizes()
    assert any(0 in lengths for lengths in found.chunks)
    return found


@pytest.mark.parametrize("shape", [(12, 5), (5, 12)], ids=str)
@pytest.mark.parametrize("where", [(True, False), (False, True), (True, True)], ids=str)
def test_empty_chunks_do_not_matter(dtype, shape, where):
    """A chunk without entries adds nothing to a matrix."""
    values = 1.0 / np.arange(1, 6)
    A = zoo.matrix(values, shape, dtype=dtype, seed=2).astype(dtype)
    given = filtered(A, where)
    best = eckart.reconstruct(eckart.truncated_svd(A, RANK))
    for method, function in itertools.product(
        ("auto", "exact", "gram", "krylov"), (eckart.truncated_svd, eckart.factorize)
    ):
        found = np.asarray(eckart.reconstruct(function(given, RANK, method=method)))
        assert_within(found, best, dtype=dtype, size=12, units=8)
    factors = eckart.truncated_svd(A, RANK)
    for function in (
        eckart.singular_values,
        eckart.matrix_rank,
        eckart.stable_rank,
        eckart.effective_rank,
        eckart.norm,
        lambda M: eckart.certify(M, factors).error,
        lambda M: eckart.inner(M, factors),
        lambda M: eckart.update(factors, M).svd.S,
        lambda M: eckart.update(factors, M, axis=-1).svd.S,
        lambda M: eckart.singular_values(eckart.add(M, factors)),
        lambda M: eckart.linear(M, factors),
        lambda M: factors @ M.T,
        lambda M: M.T @ factors,
        lambda M: eckart.reconstruct(eckart.LowRank(M, M.T)),
    ):
        found, expected = np.asarray(function(given)), np.asarray(function(A))
        assert_within(found, expected, dtype=dtype, size=12, scale=6, units=4)


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (0, 0), (0, 3, 4), (3, 0, 4)], ids=str)
def test_dask_array_without_entries_is_a_value(xp, shape):
    """As every other empty matrix is."""
    A = xp.zeros(shape)
    for method in "auto", "exact", "gram", "krylov":
        U, S, Vh = eckart.truncated_svd(A, method=method)
        assert np.asarray(U).shape == (*shape[:-1], 0)
        assert S.shape == (*shape[:-2], 0)
        assert np.asarray(Vh).shape == (*shape[:-2], 0, shape[-1])
    for function in eckart.matrix_rank, eckart.stable_rank, eckart.effective_rank, eckart.norm:
        assert np.array_equal(function(A), np.zeros(shape[:-2]))
    assert np.asarray(eckart.reconstruct(eckart.factorize(A, 0))).shape == shape


def test_chunks_of_unknown_sizes_are_refused(xp):
    """Wherever they are an argument, with what to do."""
    A = xp.eye(6, chunks=2)
    A = A[A[:, 0] == 0]
    factors = eckart.truncated_svd(np.eye(6), RANK)
    for name, call in {
        "A": lambda: eckart.truncated_svd(A, RANK),
        "x": lambda: eckart.linear(A, factors),
        "X": lambda: factors @ A.T,
        "new": lambda: eckart.update(factors, A),
        "one": lambda: eckart.inner(A, factors),
        r"factors\.B": lambda: eckart.update(eckart.LowRank(A, A.T), factors),
        r"terms\[0\]": lambda: eckart.add(A, factors),
        "S": lambda: eckart.select_rank(A[:, 0]),
        "rtol": lambda: eckart.truncated_svd(np.eye(6), rtol=A[:, 0]),
        r"weights\[0\]": lambda: eckart.add(factors, weights=[A[:, 0]]),
    }.items():
        with pytest.raises(ValueError, match=f"`{name}` must have chunks of known sizes.*compute_"):
            call()
