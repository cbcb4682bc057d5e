"""In what order the entries of results lie: row by row, whatever way computed them."""

import numpy as np
import pytest

import eckart
import zoo

SHAPES = [(9, 4), (4, 9), (5, 5), (2, 6, 4), (2, 4, 6), (0, 3), (3, 0), (1, 5), (5, 1)]
METHODS = ("auto", "exact", "gram", "krylov")


def turned(backend, A):
    """The same matrix, stored column by column."""
    return backend.xp.matrix_transpose(
        backend.asarray(np.ascontiguousarray(np.swapaxes(A, -1, -2)))
    )


def in_order(backend, result):
    """Whether every array of a result has its entries row by row, with no conjugate to be taken."""
    if isinstance(result, tuple):
        return all(in_order(backend, part) for part in result)
    if backend.library == "torch":
        return result.is_contiguous() and not result.is_conj() and not result.is_neg()
    return bool(np.asarray(result).flags.c_contiguous)


def results(A, A_turned, rank):
    """What every public function that returns arrays gives for a matrix."""
    for method in METHODS:
        yield eckart.truncated_svd(A, rank, method=method)
        yield eckart.truncated_svd(A, rtol=0.1, method=method)
        for split in "balanced", "left", "right":
            yield eckart.factorize(A, rank, method=method, split=split)
    svd, factors = eckart.truncated_svd(A, rank), eckart.factorize(A, rank)
    yield eckart.truncated_svd(factors, rank)
    yield eckart.factorize(svd, rank)
    yield eckart.singular_values(A)
    yield eckart.matrix_rank(A)
    yield eckart.stable_rank(A)
    yield eckart.effective_rank(A)
    yield eckart.norm(A)
    yield eckart.inner(A, factors)
    yield eckart.add(factors, svd)
    yield eckart.add(eckart.LowRank(A, A_turned), eckart.LowRank(A, A_turned))
    yield eckart.reconstruct(svd)
    yield eckart.reconstruct(eckart.LowRank(A, A_turned))
    yield factors @ A_turned
    yield A_turned @ factors
    yield eckart.add(A, factors) @ A_turned
    yield eckart.add(A, factors).__rmatmul__(A_turned)
    yield eckart.update(svd, A, rank)
    yield eckart.update(svd, A, rank, axis=-1)
    yield eckart.certify(A, svd)
    if A.ndim == 2:
        yield eckart.linear(A, svd)
    S = eckart.singular_values(A)
    yield eckart.select_rank(S)
    yield eckart.truncation_error(S, 0)


@pytest.mark.only("numpy", "torch", "cupy", "dask")  # which have strides
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_entries_of_every_result_lie_row_by_row(backend, shape):
    """What is written to a file as it lies is the array: some formats write nothing else."""
    dtype = "complex128" if len(shape) == 2 else "float32"
    values = 1.0 / np.arange(1, min(shape[-2:]) + 1)
    if 0 in shape:
        A = np.zeros(shape, dtype)
    elif len(shape) == 2:
        A = zoo.matrix(values, shape, dtype=dtype, seed=4).astype(dtype)
    else:
        A = np.stack([zoo.matrix(values, shape[-2:], dtype=dtype, seed=i) for i in (1, 2)])
        A = A.astype(dtype)
    A = turned(backend, A)
    rank = min(2, *shape[-2:])
    for number, result in enumerate(results(A, backend.xp.matrix_transpose(A), rank)):
        assert in_order(backend, result), (number, type(result).__name__)


@pytest.mark.numpy_only
def test_numbers_stay_without_axes():
    """What is one number has no axis to lie along."""
    A = np.diag([3.0, 2.0, 1.0])
    found = eckart.matrix_rank(A), eckart.stable_rank(A), eckart.norm(A), eckart.inner(A, A)
    assert all(np.shape(number) == () for number in found)


@pytest.mark.needs("vmap")
@pytest.mark.only("torch")
def test_order_of_entries_changes_nothing_for_a_transformation(backend):
    """It is traced, mapped and differentiated like any copy."""
    A = turned(backend, zoo.random((2, 5, 4), "complex128", 1))
    mapped = backend.vmap(lambda A: eckart.factorize(A, 2))(A)
    left = backend.compile(lambda A: eckart.factorize(A, 2, split="left"), "inductor")
    compiled = left(A)
    assert in_order(backend, compiled)
    G = backend.gradient(lambda A: backend.xp.sum(backend.xp.abs(eckart.factorize(A, 4).B)), A)
    assert mapped.B.shape == (2, 5, 2)
    assert bool(backend.xp.all(backend.xp.isfinite(G)))
