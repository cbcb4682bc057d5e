"""Sparse matrices and other libraries' linear operators are taken as they are."""

import importlib

import numpy as np
import pytest

import eckart
import zoo
from compare import EPS, assert_within
from eckart._matrices.sparse import _Strips, _Transposed
from truth import assert_truncated

pytestmark = pytest.mark.needs("operators")

RANK = 6
SCIPY = ("csr", "csc", "coo", "lil")


KINDS = [
    *(pytest.param(f"{kind}_array", marks=pytest.mark.only("numpy")) for kind in SCIPY),
    pytest.param("LinearOperator", marks=pytest.mark.only("numpy")),
    *(pytest.param(kind, marks=pytest.mark.only("torch")) for kind in ("coo", "csr", "csc", "bsr")),
    pytest.param("BCOO", marks=pytest.mark.only("jax")),
]


def sparse(backend, A, dtype, kind):
    """A NumPy matrix as a sparse one of the library, or as another library's operator."""
    array = backend.asarray(A, dtype)
    if kind == "array":
        return array
    if backend.library == "numpy":
        scipy = importlib.import_module("scipy.sparse")
        make = scipy.linalg.aslinearoperator if "array" not in kind else getattr(scipy, kind)
        return make(array)
    if backend.library == "torch":
        return (
            array.to_sparse_bsr((1, 1)) if kind == "bsr" else getattr(array, f"to_sparse_{kind}")()
        )
    return importlib.import_module("jax.experimental.sparse").BCOO.fromdense(array)


@pytest.mark.only("numpy")
@pytest.mark.parametrize("filled", ["here and there", "one row", "first rows", "no rows"])
def test_sparse_matrix_is_multiplied_in_strips(backend, dtype, filled, monkeypatch):
    """Of the same share of the entries each, wherever they are, without a copy of them."""
    monkeypatch.setattr("eckart._matrices.sparse._ENTRIES", 10)
    monkeypatch.setattr("eckart._matrices.sparse._OUTPUT", 0)
    A = zoo.sparse(300, 20, dtype)
    rows = {"here and there": slice(None), "one row": [7], "first rows": slice(40), "no rows": []}
    mask = np.zeros((300, 1))
    mask[rows[filled]] = 1.0
    A = (A * mask if filled != "one row" else mask * A.sum(axis=0)).astype(dtype)
    given = importlib.import_module("scipy.sparse").csr_array(A)
    operator = eckart.add(given, given, weights=[0.5, 0.5])
    rng = np.random.default_rng(0)
    X, Y = (rng.standard_normal((n, 4)).astype(dtype) for n in (20, 300))
    close = {"dtype": dtype, "size": 300, "scale": np.linalg.norm(A) * 20}
    assert_within(operator @ X, A @ X, **close)
    assert_within(Y.T @ operator, Y.T @ A, **close)
    strips = _Strips(given, 3)
    for part in (*strips.parts, *_Transposed(strips).parts):
        assert all(
            np.shares_memory(ours, theirs) or ours.size == 0
            for ours, theirs in ((part.data, given.data), (part.indices, given.indices))
        )
    if filled == "here and there":
        assert max(part.nnz for part in strips.parts) <= given.nnz / 3 + 20


@pytest.mark.parametrize("kind", KINDS)
def test_sparse_matrix_is_taken_as_it_is(backend, dtype, kind):
    """Truncated, measured and certified like the same matrix in full."""
    A = zoo.sparse(150, 100, dtype)
    given = sparse(backend, A, dtype, kind)
    factors = eckart.truncated_svd(given, RANK, accuracy=EPS[dtype] * 64)
    assert factors.U.dtype == backend.dtype(dtype)
    assert_truncated(backend, factors, A, dtype)
    exact = {"dtype": dtype, "size": 150, "units": 2}
    error = np.linalg.norm(A - backend.to_numpy(eckart.reconstruct(factors)))
    told = eckart.certify(given, factors)
    assert_within(backend.to_numpy(told.error), error, **exact, scale=np.linalg.norm(A))
    values = np.linalg.svd(A, compute_uv=False)
    assert int(eckart.matrix_rank(given)) == 100
    stable = np.sum(values**2) / values[0] ** 2
    assert_within(backend.to_numpy(eckart.stable_rank(given)), stable, **exact, scale=stable)
    by_error = eckart.truncated_svd(given, error=0.2)
    assert by_error.rank == eckart.truncated_svd(A, error=0.2).rank


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("end", [1, -1])
def test_scale_of_a_sparse_matrix_is_no_matter(backend, dtype, kind, end):
    """Neither its rank, nor what an error drops, nor its values over their scale."""
    scale = 10.0 ** (end * (30 if EPS[dtype] > 1e-10 else 150))
    A = zoo.sparse(150, 100, dtype)
    values = np.linalg.svd(A, compute_uv=False)
    given = sparse(backend, zoo.rounded(A * scale, dtype), dtype, kind)
    stable = backend.to_numpy(eckart.stable_rank(given))
    expected = np.sum(values**2) / values[0] ** 2
    assert_within(stable, expected, dtype=dtype, size=150, scale=expected)
    found = eckart.truncated_svd(given, error=0.2)
    assert found.rank == eckart.truncated_svd(A, error=0.2).rank
    found = backend.to_numpy(found.S).astype(float) / scale
    close = {"dtype": dtype, "size": 150, "scale": values[0]}
    assert_within(found, values[: len(found)], **close, units=100)


@pytest.mark.parametrize("kind", [*KINDS, "array"])
def test_centred_sparse_matrix_is_one_expression(backend, dtype, kind):
    """Principal components: a sparse matrix minus its column means, never formed."""
    A = zoo.sparse(150, 100, dtype) + 0.0
    A[:, :20] += 3 * (A[:, :20] != 0)
    A = zoo.rounded(A, dtype)
    mean = zoo.rounded(A.mean(axis=0, keepdims=True), dtype)
    centred = A - mean
    means = eckart.LowRank(backend.asarray(np.ones((150, 1)), dtype), backend.asarray(mean, dtype))
    total = eckart.add(sparse(backend, A, dtype, kind), means, weights=[1, -1])
    assert isinstance(total, eckart.Operator)
    factors = eckart.truncated_svd(total, RANK, accuracy=EPS[dtype] * 64)
    assert_truncated(backend, factors, centred, dtype)


@pytest.mark.parametrize("kind", KINDS)
def test_sparse_matrix_of_integers_is_refused(backend, kind):
    """As everywhere."""
    with pytest.raises(TypeError, match="must have a floating-point dtype"):
        eckart.truncated_svd(sparse(backend, np.eye(3), "int32", kind), 1)


@pytest.mark.only("jax")
def test_stack_of_sparse_matrices_is_refused(backend):
    """Which no sparse matrix is multiplied as."""
    sparse = importlib.import_module("jax.experimental.sparse")
    with pytest.raises(ValueError, match="`A` must be one matrix"):
        eckart.truncated_svd(sparse.BCOO.fromdense(backend.xp.ones((2, 3, 3)), n_batch=1), 1)
    with pytest.raises(TypeError, match="n_batch = 0 and n_dense = 0"):
        eckart.truncated_svd(sparse.BCOO.fromdense(backend.xp.ones((3, 3)), n_dense=1), 1)


@pytest.mark.numpy_only
def test_linear_operator_without_an_adjoint_is_refused():
    """SciPy's may lack the other product, or be the adjoint or the transpose of such."""
    linalg = importlib.import_module("scipy.sparse.linalg")
    one_sided = linalg.LinearOperator((3, 3), matvec=lambda x: x, dtype=float)
    for A in (one_sided, one_sided.H, one_sided.T, (2 * one_sided).H):
        with pytest.raises(TypeError, match=r"without its adjoint's\. Give it rmatvec"):
            eckart.truncated_svd(A, 1)


@pytest.mark.numpy_only
def test_entry_that_is_stored_in_parts_counts_once():
    """A compressed matrix may hold an entry as a sum: its square is that of the sum."""
    sp = importlib.import_module("scipy.sparse")
    A = sp.csr_array((np.asarray([3.0, -2.0, 1.0]), np.asarray([0, 0, 1]), np.asarray([0, 2, 3])))
    assert_within(eckart.stable_rank(A), 2.0, dtype="float64", size=2)
    assert A.nnz == 3
