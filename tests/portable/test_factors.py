"""What a matrix given by its factors can do."""

import math

import array_api_compat
import numpy as np
import pytest

import eckart
from compare import assert_within
from truth import low_rank
from zoo import random


def close(backend, actual, expected, dtype):
    assert_within(backend.to_numpy(actual), expected, dtype=dtype, size=8, scale=20.0, units=4)


def test_factors_know_their_matrix(backend, dtype):
    """Shape, dtype, device, rank and sizes of the matrix, from its factors alone."""
    factors, _ = low_rank(backend, dtype, 10, 10, 2, stack=(3,))
    svd = eckart.truncated_svd(factors, 2)
    for each, size in (factors, 3 * 40), (svd, 3 * 42):
        assert tuple(each.shape) == (3, 10, 10)
        assert each.dtype == backend.dtype(dtype)
        assert each.device == array_api_compat.device(factors.B)
        assert (each.rank, each.size, each.dense_size) == (2, size, 300)


def test_results_unpack_by_field_and_position(backend, dtype):
    """Both results are named tuples of their arrays."""
    factors, _ = low_rank(backend, dtype)
    B, A = factors
    assert B is factors.B
    assert A is factors[1]
    assert eckart.truncated_svd(factors, 1)._fields == ("U", "S", "Vh")
    assert factors._replace(B=A).B is A


def test_reconstruction_is_the_product(backend, dtype):
    """U diag(S) Vh and B A, of one matrix and of a stack."""
    for stack in (), (2, 3):
        factors, W = low_rank(backend, dtype, stack=stack)
        close(backend, eckart.reconstruct(factors), W, dtype)
        close(backend, eckart.reconstruct(eckart.truncated_svd(factors, 3)), W, dtype)


def test_linear_is_the_dense_layer(backend, dtype):
    """The page that started it: W x + b, from the factors, for any number of vectors."""
    factors, W = low_rank(backend, dtype)
    bias = random((7,), dtype, 5)
    for shape in (5,), (4, 5), (2, 4, 5), (0, 5):
        x = random(shape, dtype, 3)
        for each in factors, eckart.truncated_svd(factors, 3):
            array = backend.asarray(x, dtype)
            close(backend, eckart.linear(array, each), x @ W.T, dtype)
            shifted = eckart.linear(array, each, backend.asarray(bias, dtype))
            close(backend, shifted, x @ W.T + bias, dtype)


def test_linear_of_a_stack_takes_a_vector_a_matrix(backend, dtype):
    """The leading axes of the vectors and of the stack broadcast."""
    factors, W = low_rank(backend, dtype, stack=(3,))
    for shape in (3, 5), (5,), (2, 3, 5), (4, 1, 5):
        x = random(shape, dtype, 3)
        expected = (W @ x[..., None])[..., 0]
        close(backend, eckart.linear(backend.asarray(x, dtype), factors), expected, dtype)


def test_factors_times_matrix_is_the_product(backend, dtype):
    """The dense product without the dense matrix, for vectors, matrices and stacks."""
    for stack in (), (3,):
        factors, W = low_rank(backend, dtype, stack=stack)
        for shape in (5,), (5, 4), (3, 5, 2):
            X = random(shape, dtype, 7)
            for each in factors, eckart.truncated_svd(factors, 3):
                close(backend, each @ backend.asarray(X, dtype), W @ X, dtype)


@pytest.mark.needs("reflected")
def test_matrix_times_factors_is_the_product(backend, dtype):
    """X @ factors without the dense matrix, for vectors, matrices and stacks."""
    for stack in (), (3,):
        factors, W = low_rank(backend, dtype, stack=stack)
        for shape in (7,), (4, 7), (3, 2, 7):
            X = random(shape, dtype, 7)
            for each in factors, eckart.truncated_svd(factors, 3):
                close(backend, backend.asarray(X, dtype) @ each, X @ W, dtype)


def test_sum_is_exact_and_its_rank_is_the_sum_of_the_ranks(backend, dtype):
    """Concatenation: the matrix is the weighted sum of the terms."""
    one, first = low_rank(backend, dtype, r=2, seed=1)
    two, second = low_rank(backend, dtype, r=3, seed=2)
    total = eckart.add(one, two, eckart.truncated_svd(two, 3), weights=[1, -2.5, 0.5])
    assert isinstance(total, eckart.LowRank)
    assert total.rank == 8
    close(backend, eckart.reconstruct(total), first - 2 * second, dtype)
    close(backend, eckart.reconstruct(eckart.add(one)), first, dtype)


def test_merged_factors_are_cut_back_without_the_dense_sum(backend, dtype):
    """truncated_svd(add(l1, l2), rank) is the truncation of the dense sum."""
    one, first = low_rank(backend, dtype, r=2, seed=1)
    two, second = low_rank(backend, dtype, r=2, seed=2)
    S = np.linalg.svd(first + second, compute_uv=False)
    cut = eckart.truncated_svd(eckart.add(one, two), 3)
    close(backend, cut.S, S[:3], dtype)
    remainder = first + second - backend.to_numpy(eckart.reconstruct(cut))
    assert_within(np.linalg.norm(remainder), S[3], dtype=dtype, size=8, scale=20.0, units=2)


def test_weights_may_differ_from_matrix_to_matrix(backend, dtype):
    """A weight is a number, or an array with one for each matrix of the stack."""
    one, first = low_rank(backend, dtype, stack=(2,), seed=1)
    two, second = low_rank(backend, dtype, seed=2)
    weights = [backend.asarray(np.asarray([1.0, -1.0]), "float32"), 3.0]
    total = eckart.add(one, two, weights=weights)
    expected = np.asarray([1.0, -1.0])[:, None, None] * first + 3 * second
    assert tuple(total.shape) == (2, 7, 5)
    close(backend, eckart.reconstruct(total), expected, dtype)


@pytest.mark.needs("double")
def test_mixed_precisions_promote(backend):
    """The result has the dtype that the library promotes to."""
    narrow, W = low_rank(backend, "float32")
    x = random((5,), "float64", 3)
    y = eckart.linear(backend.asarray(x, "float64"), narrow)
    assert y.dtype == backend.dtype("float64")
    assert_within(backend.to_numpy(y), W @ x, dtype="float64", size=8, scale=20.0, units=2)


def test_rank_zero_factors_are_the_zero_matrix(backend, dtype):
    """Rank 0 is a value."""
    factors, W = low_rank(backend, dtype)
    none = eckart.factorize(factors, 0)
    assert (none.rank, none.size) == (0, 0)
    assert math.prod(none.shape) == none.dense_size == 35
    close(backend, eckart.reconstruct(none), 0 * W, dtype)
    close(
        backend,
        eckart.linear(backend.asarray(random((2, 5), dtype, 1), dtype), none),
        np.zeros((2, 7)),
        dtype,
    )
    assert eckart.add(factors, none).rank == 3


@pytest.mark.parametrize("scale", [1e-15, 1e-8, 1e8, 1e15])
def test_small_and_large_factors_round_trip(backend, dtype, scale):
    """A matrix and its own factorization have the same rank and singular values."""
    scale = scale**2 if dtype in ("float32", "complex64") else scale**20
    A = backend.asarray(scale * np.diag([1.0, 0.1, 0.0]), dtype)
    factors = eckart.factorize(A, 2)
    assert int(eckart.matrix_rank(factors)) == 2
    for S in eckart.singular_values(factors), eckart.truncated_svd(factors, 3).S:
        actual = backend.to_numpy(S).astype(float) / scale
        assert_within(actual, [1.0, 0.1, 0.0], dtype=dtype, size=4)


def test_graded_factors_lose_no_column(backend, dtype):
    """Columns graded over the whole range against their rows: the product is diag(1, 1, 0)."""
    big, small = (1e15, 1e-20) if dtype in ("float32", "complex64") else (1e150, 1e-150)
    B = np.asarray([[big, 0], [0, small], [0, 0]])
    A = np.asarray([[1 / big, 0, 0], [0, 1 / small, 0]])
    factors = eckart.LowRank(backend.asarray(B, dtype), backend.asarray(A, dtype))
    assert_within(
        backend.to_numpy(eckart.singular_values(factors)), [1.0, 1.0, 0.0], dtype=dtype, size=4
    )


def test_shared_factor_is_shared_by_the_stack(backend, dtype):
    """One B with many A, or many with one, or one U and Vh with many S: the stacks broadcast."""
    stacked, _ = low_rank(backend, dtype, stack=(4,))
    single, _ = low_rank(backend, dtype)
    S = backend.asarray(
        np.ones((4, 3)), dtype.replace("complex64", "float32").replace("complex128", "float64")
    )
    x = backend.asarray(random((4, 5), dtype, 2), dtype)
    for factors in (
        eckart.LowRank(single.B, stacked.A),
        eckart.LowRank(stacked.B, single.A),
        eckart.SVD(single.B, S, single.A),
    ):
        W = backend.to_numpy(eckart.reconstruct(factors))
        assert tuple(factors.shape) == W.shape == (4, 7, 5)
        assert factors.dense_size == 140
        expected = (W @ backend.to_numpy(x)[..., None])[..., 0]
        close(backend, eckart.linear(x, factors), expected, dtype)
        cut = eckart.truncated_svd(factors, 3)
        close(backend, eckart.reconstruct(cut), W, dtype)


def test_factors_are_no_tuple_of_numbers(backend):
    """What would join, repeat or stack the parts is refused by name; a list still takes them."""
    factors, _ = low_rank(backend, "float32", 3, 3, 3)
    for wrong, name in (
        (lambda: factors + factors, r"eckart\.add"),
        (lambda: 2 * factors, r"eckart\.add"),
        (lambda: factors * 2, r"eckart\.add"),
        (lambda: np.asarray(factors), r"eckart\.reconstruct"),
    ):
        with pytest.raises(TypeError, match=name):
            wrong()
    parts = []
    parts += factors
    assert len(parts) == 2


def test_factors_at_the_ends_of_the_range_do_not_overflow(backend, dtype):
    """A column whose norm exceeds the range is balanced against its row before anything squares."""
    largest = 3e38 if dtype in ("float32", "complex64") else 1.7e308
    B, A = np.full((40, 1), largest), np.full((1, 40), 8 / largest)
    factors = eckart.LowRank(backend.asarray(B, dtype), backend.asarray(A, dtype))
    S = backend.to_numpy(eckart.truncated_svd(factors, 1).S)
    assert_within(S, [320.0], dtype=dtype, size=40, scale=320.0)


def test_factors_and_operators_have_a_transpose_and_an_adjoint(backend, dtype):
    """Of the same kind, for the transposed matrix and the conjugate of it."""
    A = random((2, 5, 4), dtype, 0)
    array = backend.asarray(A, dtype)
    for factors in eckart.truncated_svd(array, 4), eckart.factorize(array, 4):
        assert type(factors.mT) is type(factors.mH) is type(factors)
        close(backend, eckart.reconstruct(factors.mT), np.swapaxes(A, -1, -2), dtype)
        close(backend, eckart.reconstruct(factors.mH), np.swapaxes(A.conj(), -1, -2), dtype)
        assert not hasattr(factors, "count")
        assert not hasattr(factors, "index")


@pytest.mark.needs("operators")
def test_operators_have_a_transpose_and_an_adjoint(backend, dtype):
    """Operators again, also of a sum; none is made without the checks of its products."""
    A, x = random((5, 4), dtype, 0), random((5,), dtype, 1)
    array, vector = backend.asarray(A, dtype), backend.asarray(x, dtype)
    operator = eckart.operator(
        A.shape, lambda X: array @ X, lambda X: backend.asarray(A.conj().T, dtype) @ X, like=array
    )
    for each in operator, eckart.add(operator, array, weights=[0.5, 0.5]):
        assert each.mT.shape == each.mH.shape == (4, 5)
        close(backend, each.mT @ vector, A.T @ x, dtype)
        close(backend, each.mH @ vector, A.conj().T @ x, dtype)
        close(backend, each.mH.mT @ backend.asarray(x[:4], dtype), A.conj() @ x[:4], dtype)
    with pytest.raises(TypeError, match=r"an Operator is made by eckart\.operator"):
        eckart.Operator((5, 4), None, None, None)


@pytest.mark.needs("operators")
def test_linear_of_a_stack_of_operators_is_asked_for_the_whole_stack(backend, dtype):
    """Vectors of any leading axes become columns, as a product with the stack has its shape."""
    _, W = low_rank(backend, dtype, stack=(3,))
    array, other = backend.asarray(W, dtype), backend.asarray(np.swapaxes(W.conj(), -1, -2), dtype)
    met = []

    def matmul(X):
        met.append(tuple(X.shape[:-1]))
        return array @ X

    operator = eckart.operator(W.shape, matmul, lambda X: other @ X, like=array)
    for shape in (3, 5), (5,), (2, 3, 5), (4, 1, 5), (0, 3, 5):
        x = random(shape, dtype, 3)
        expected = (W @ x[..., None])[..., 0]
        close(backend, eckart.linear(backend.asarray(x, dtype), operator), expected, dtype)
    assert set(met) == {(3, 5)}
