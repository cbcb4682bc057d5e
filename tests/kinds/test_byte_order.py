"""Arrays as files of another machine have them, and what SciPy's linear operators are told."""

import importlib

import numpy as np
import pytest

import eckart
import zoo
from compare import assert_within

pytestmark = pytest.mark.numpy_only
SHAPE = (7, 5)


def swapped(part):
    """An array, or each of factors, in the byte order of other machines."""
    if isinstance(part, tuple):
        return type(part)(*map(swapped, part))
    return part.astype(part.dtype.newbyteorder("S"))


def calls(A, B, factors):
    """Every function of matrices, with arguments that are one matrix or factors."""
    linalg = importlib.import_module("scipy.sparse.linalg")
    shift = A[:, 0]
    known = eckart.operator(SHAPE, lambda X: A @ X, lambda X: A.conj().T @ X, like=A)
    by_columns = linalg.LinearOperator(
        SHAPE, matvec=lambda x: A @ x, rmatvec=lambda x: A.conj().T @ x, dtype=A.dtype
    )
    return {
        "truncated_svd": lambda: eckart.truncated_svd(A, 2),
        "of factors": lambda: eckart.truncated_svd(factors, 2),
        "of an operator": lambda: eckart.truncated_svd(known, 2),
        "of a linear operator": lambda: eckart.truncated_svd(by_columns, 2),
        "factorize": lambda: eckart.factorize(factors, 2),
        "singular_values": lambda: eckart.singular_values(factors),
        "matrix_rank": lambda: eckart.matrix_rank(B),
        "stable_rank": lambda: eckart.stable_rank(by_columns),
        "effective_rank": lambda: eckart.effective_rank(B),
        "certify": lambda: eckart.certify(A, factors),
        "certify an operator": lambda: eckart.certify(known, factors),
        "certify factors": lambda: eckart.certify(B, B),
        "update": lambda: eckart.update(factors, A),
        "update by an operator": lambda: eckart.update(factors, known, axis=-1),
        "add": lambda: eckart.add(factors, B, weights=[1.0, A[0, 0].real]),
        "add of both": lambda: eckart.add(A, factors) @ np.eye(5, dtype=A.dtype),
        "norm": lambda: eckart.norm(A),
        "inner": lambda: eckart.inner(A, factors),
        "linear": lambda: eckart.linear(A, factors, shift),
        "reconstruct": lambda: eckart.reconstruct(factors),
        "product": lambda: factors @ A.conj().T,
        "product from the left": lambda: A.conj().T @ factors,
        "select_rank": lambda: eckart.select_rank(factors.S, rtol=np.abs(A[0, 0]) / 9),
        "truncation_error": lambda: eckart.truncation_error(factors.S, 1),
        "hard_threshold": lambda: eckart.hard_threshold(eckart.singular_values(A), SHAPE),
    }


def leaves(result):
    if isinstance(result, tuple):
        return [leaf for part in result for leaf in leaves(part)]
    return [np.asarray(result)]


def test_byte_order_does_not_matter(dtype):
    """What an array is worth does not depend on how a machine stores it."""
    A = zoo.random(SHAPE, dtype, 1)
    factors = eckart.truncated_svd(A, 3)
    B = eckart.factorize(A, 3)
    expected = calls(A, B, factors)
    for name, call in calls(swapped(A), swapped(B), swapped(factors)).items():
        for found, right in zip(leaves(call()), leaves(expected[name]()), strict=True):
            assert_within(found, right, dtype=dtype, size=7, scale=100)


def operator(**given):
    linalg = importlib.import_module("scipy.sparse.linalg")
    products = {"matvec": lambda x: 2 * x, "rmatvec": lambda x: 2 * x, "dtype": float}
    return linalg.LinearOperator((3, 3), **products | given)


def test_linear_operators_of_scipy_are_refused_in_the_words_of_their_users():
    """They have no `like` and no `rmatmul`."""
    with pytest.raises(ValueError, match=r"`A\.rmatvec` must be the adjoint of `A\.matvec`"):
        eckart.truncated_svd(operator(rmatvec=lambda x: 3 * x), 1)
    with pytest.raises(TypeError, match=r"`A\.matvec\(X\)` must have the dtype .* Give `A` the"):
        eckart.truncated_svd(operator(matvec=lambda x: 2j * x), 1)
    with pytest.raises(TypeError, match="`new` must have a floating-point dtype"):
        eckart.update(eckart.truncated_svd(np.eye(3)), operator(dtype=int))
    with pytest.raises(TypeError, match=r"without its adjoint's\. Give it rmatvec"):
        eckart.truncated_svd(operator(rmatvec=None), 1)
    with pytest.raises(TypeError, match=r"without its adjoint's\. Give it rmatvec"):
        eckart.truncated_svd(operator() + operator(rmatvec=None), 1)


def test_error_of_a_product_of_the_user_reaches_the_user():
    """Whatever it is: it says what is wrong with the product."""

    def broken(x):
        raise TypeError("mine")

    for side in "matvec", "rmatvec", "matmat", "rmatmat":
        with pytest.raises(TypeError, match="mine"):
            eckart.truncated_svd(operator(**{side: broken}), 1)
