"""Every function that takes a matrix takes every kind of matrix, and says of each what it is."""

import importlib

import numpy as np
import pytest

import eckart
import zoo
from compare import assert_within

pytestmark = pytest.mark.precision

SHAPES = [(9, 6), (6, 9)]
VALUES = np.asarray([4.0, 2.0, 1.0, 0.5, 0.0, 0.0])
RANK = 2


def truth(shape, dtype):
    """A matrix of rank four in which every third entry is zero, as `dtype` holds it."""
    A = zoo.matrix(VALUES, shape, dtype=dtype, seed=3)
    return zoo.rounded(A, dtype)


def operator(backend, A, dtype):
    array = backend.asarray(A, dtype)
    turned = backend.asarray(A.conj().T, dtype)
    return eckart.operator(A.shape, lambda X: array @ X, lambda X: turned @ X, like=array)


def low_rank(backend, A, dtype):
    """Two factors of a matrix, the longer side of it in the first."""
    B, C = (A, np.eye(A.shape[1])) if A.shape[0] < A.shape[1] else (np.eye(A.shape[0]), A)
    return eckart.LowRank(backend.asarray(B, dtype), backend.asarray(C, dtype))


def triplets(backend, A, dtype):
    real = {"complex64": "float32", "complex128": "float64"}.get(dtype, dtype)
    U, S, Vh = np.linalg.svd(A, full_matrices=False)
    return eckart.SVD(
        *(
            backend.asarray(part, name)
            for part, name in zip((U, S, Vh), (dtype, real, dtype), strict=True)
        )
    )


def total(backend, A, dtype):
    """A matrix and factors that add up to it."""
    rest = np.ones(A.shape)
    return eckart.add(
        backend.asarray(A - rest, dtype),
        low_rank(backend, rest, dtype),
    )


def scipy_kinds():
    """SciPy's, of every format."""
    sp = importlib.import_module("scipy.sparse")
    formats = ("csr", "csc", "coo", "lil", "dok", "dia", "bsr")
    arrays = {
        f"scipy {kind}{word}": getattr(sp, f"{kind}{word}")
        for kind in formats
        for word in ("_array", "_matrix")
    }
    return {**arrays, "LinearOperator": sp.linalg.aslinearoperator}


def kinds(backend, dtype):
    """Functions that make a kind of matrix from a NumPy matrix in double precision, by name."""
    made = {
        "array": lambda A: backend.asarray(A, dtype),
        "LowRank": lambda A: low_rank(backend, A, dtype),
        "SVD": lambda A: triplets(backend, A, dtype),
    }
    if backend.can("operators"):
        made["operator"] = lambda A: operator(backend, A, dtype)
    if backend.can("operators") and backend.library != "jax":
        made["add of operators"] = lambda A: eckart.add(
            operator(backend, 2 * A, dtype), operator(backend, A, dtype), weights=[1, -1]
        )
    made["add of mixed"] = lambda A: total(backend, A, dtype)
    if backend.library == "numpy":
        made |= {
            name: lambda A, f=function: f(A.astype(dtype))
            for name, function in scipy_kinds().items()
        }
    if backend.library == "torch":
        for layout in ("coo", "csr", "csc"):
            method = f"to_sparse_{layout}"
            made[layout] = lambda A, m=method: getattr(backend.asarray(A, dtype), m)()
        made["bsr"] = lambda A: backend.asarray(A, dtype).to_sparse_bsr((3, 3))
    if backend.library == "jax":  # compiles each step for each kind, and the others are portable
        sparse = importlib.import_module("jax.experimental.sparse")
        BCOO = sparse.BCOO.fromdense
        made = {"array": made["array"], "BCOO": lambda A: BCOO(backend.asarray(A, dtype))}
    if backend.library == "dask":
        for chunks in ((2, -1), (-1, 2), (4, 5), (1, 1), (-1, -1)):
            made[f"chunks {chunks}"] = lambda A, c=chunks: backend.asarray(A, dtype).rechunk(c)
    return made


def values(backend, result):
    """The arrays of a result, those of factors as the matrix that they stand for."""
    if isinstance(result, eckart.SVD | eckart.LowRank):
        return [backend.to_numpy(eckart.reconstruct(result))]
    if isinstance(result, tuple):
        return [entry for part in result for entry in values(backend, part)]
    return [backend.to_numpy(result)]


def functions(backend, A, dtype):
    """Functions of a matrix with what they give for it, by name."""
    m, n = A.shape
    U, S, Vh = np.linalg.svd(A, full_matrices=False)
    best = (U[:, :RANK] * S[:RANK]) @ Vh[:RANK]
    factors = triplets(backend, A, dtype)
    p = S[:4] / S[:4].sum()
    other = zoo.random(A.shape, dtype, 5)
    rows = np.vstack([A, A])
    columns = np.hstack([A, A])
    eye = backend.asarray(np.eye(m), dtype)
    every = {
        "truncated_svd": (lambda M: eckart.truncated_svd(M, RANK), [best]),
        "truncated_svd by a tolerance": (lambda M: eckart.truncated_svd(M, rtol=1e-3), [A]),
        "truncated_svd by an error": (lambda M: eckart.truncated_svd(M, error=1e-2), [A]),
        "truncated_svd exact": (lambda M: eckart.truncated_svd(M, RANK, method="exact"), [best]),
        "truncated_svd gram": (lambda M: eckart.truncated_svd(M, RANK, method="gram"), [best]),
        "truncated_svd krylov": (lambda M: eckart.truncated_svd(M, RANK, method="krylov"), [best]),
        "factorize": (lambda M: eckart.factorize(M, RANK), [best]),
        "singular_values": (eckart.singular_values, [S]),
        "matrix_rank": (lambda M: eckart.matrix_rank(M, rtol=1e-3), [np.asarray(4)]),
        "stable_rank": (eckart.stable_rank, [np.sum(S**2) / S[0] ** 2]),
        "effective_rank": (eckart.effective_rank, [np.exp(-np.sum(p * np.log(p)))]),
        "certify": (lambda M: eckart.certify(M, factors)[:2], [np.zeros(()), np.zeros(())]),
        "norm": (eckart.norm, [np.sqrt(np.sum(S**2))]),
        "inner with itself": (lambda M: eckart.inner(M, M), [np.sum(S**2)]),
        "inner with factors": (
            lambda M: eckart.inner(M, low_rank(backend, other, dtype)),
            [np.vdot(A, other)],
        ),
        "inner of factors": (
            lambda M: eckart.inner(low_rank(backend, other, dtype), M),
            [np.vdot(other, A)],
        ),
        "inner with an array": (
            lambda M: eckart.inner(M, backend.asarray(other, dtype)),
            [np.vdot(A, other)],
        ),
        "add": (lambda M: eckart.truncated_svd(eckart.add(M, factors), 4), [2 * A]),
        "update by rows": (lambda M: eckart.update(factors, M, 4), [rows, np.zeros(())]),
        "update by columns": (
            lambda M: eckart.update(factors, M, 4, axis=-1),
            [columns, np.zeros(())],
        ),
        "product": (lambda M: eckart.add(M) @ backend.asarray(np.eye(n), dtype), [A]),
        "product from the left": (lambda M: eckart.add(M).__rmatmul__(eye), [A]),
    }
    # JAX compiles each step for each kind anew, and what is left out is the same on all libraries.
    few = backend.library == "jax"
    return {name: row for name, row in every.items() if not (few and "truncated_svd " in name)}


@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
def test_every_function_takes_every_kind_of_matrix(backend, dtype):
    """What a function gives for a matrix does not depend on how the matrix is known."""
    A = truth(SHAPES[backend.dtypes().index(dtype) % 2], dtype)
    for name, (function, expected) in functions(backend, A, dtype).items():
        for kind, make in kinds(backend, dtype).items():
            try:
                found = values(backend, function(make(A)))
                for actual, right in zip(found, expected, strict=True):
                    assert_within(actual, right, dtype=dtype, size=9, scale=25, units=4)
            except Exception as error:
                raise AssertionError(f"{name} of {kind}: {error}") from error
