"""A certificate of a matrix of any scale is that of the matrix, at the scale."""

import importlib

import numpy as np
import pytest

import eckart
import zoo
from compare import EPS, assert_within

REAL = {"complex64": "float32", "complex128": "float64"}
# Powers of ten that leave room for the smallest entries and for the norm.
ENDS = {"float32": (-32, 37), "float64": (-300, 301)}
SPECTRUM = np.asarray([3.0, 2.0, 1.5, 0.7, 0.2, 0.1])
ABSOLUTE = ("error", "spectral_error", "residuals", "excess", "gap")


def scales(dtype):
    """Every power of ten."""
    return 10.0 ** np.arange(*ENDS[REAL.get(dtype, dtype)])


def triplets(dtype):
    """A matrix, its triplets, and right vectors that are neither exact nor orthonormal."""
    A = zoo.matrix(SPECTRUM, (9, 6), dtype=dtype, seed=3)
    U, S, Vh = np.linalg.svd(A, full_matrices=False)
    return A, (U, S, Vh), Vh[:2] + 0.1 * Vh[2:4]


def given(backend, dtype, parts):
    """An SVD of the library, and what it holds after rounding, in double precision."""
    names = dtype, REAL.get(dtype, dtype), dtype
    arrays = [backend.asarray(part, name) for part, name in zip(parts, names, strict=True)]
    U, S, Vh = (zoo.rounded(part, name) for part, name in zip(parts, names, strict=True))
    return eckart.SVD(*arrays), (U * S) @ Vh


def assert_scaled(backend, certificate, factors, *, dtype):
    """Every field is one number, times the scale where it is a length."""
    real = REAL.get(dtype, dtype)
    one = int(np.argmin(np.abs(np.log(factors))))
    for name, field in zip(certificate._fields, certificate, strict=True):
        values = backend.to_numpy(field).astype(float)
        if name in ABSOLUTE:
            values = values / factors.reshape((-1,) + (1,) * (values.ndim - 1))
        expected = np.broadcast_to(values[one], values.shape)
        assert_within(values, expected, dtype=real, size=9, scale=SPECTRUM[0], units=4)


# JAX compiles some fifty operations for each kind, so that it is given one.
EAGER = pytest.mark.only("numpy", "array_api_strict", "torch")


@pytest.mark.parametrize(
    ("kind", "approximation"),
    [
        ("array", "LowRank"),
        pytest.param("array", "SVD", marks=EAGER),
        pytest.param("factors", "SVD", marks=EAGER),
        pytest.param("factors", "LowRank", marks=EAGER),
        pytest.param("sum", "SVD", marks=EAGER),
    ],
)
def test_every_field_follows_every_scale(backend, dtype, kind, approximation):
    """As one stack with a matrix for each power of ten of the whole range."""
    real, factors = REAL.get(dtype, dtype), scales(dtype)
    A, (U, S, Vh), wrong = triplets(dtype)

    def stacked(part, name=dtype):
        return backend.asarray(np.broadcast_to(part, (len(factors), *part.shape)), name)

    def scaled(part, name=dtype):
        return backend.asarray(part * factors.reshape((-1,) + (1,) * part.ndim), name)

    given = scaled(A)
    if kind == "factors":
        given = eckart.SVD(stacked(U), scaled(S, real), stacked(Vh))
    if kind == "sum":
        zero = eckart.LowRank(stacked(np.zeros((9, 1))), stacked(np.zeros((1, 6))))
        given = eckart.add(given, zero)
    if approximation == "SVD":
        found = eckart.SVD(stacked(U[:, :2]), scaled(S[:2], real), stacked(wrong))
    else:
        found = eckart.LowRank(scaled(U[:, :2] * S[:2]), stacked(wrong))
    certificate = eckart.certify(given, found)
    assert_scaled(backend, certificate, factors, dtype=dtype)
    error = np.linalg.norm(A - (U[:, :2] * S[:2]) @ wrong)
    at_one = int(np.argmin(np.abs(np.log(factors))))
    assert_within(
        *(float(backend.to_numpy(certificate.error)[at_one]), error),
        dtype=real,
        size=9,
        scale=3.0,
    )
    assert error - np.linalg.norm(S[2:]) <= backend.to_numpy(certificate.excess)[at_one] <= error


def sparse_of(library, A):
    """The sparse matrix of a library."""
    if library == "torch":
        return importlib.import_module("torch").as_tensor(A).to_sparse_csr()
    return importlib.import_module("scipy.sparse").csr_array(A)


@pytest.mark.only("numpy", "torch")
def test_every_field_of_a_sparse_matrix_follows_the_scale(backend):
    """Of sparse matrices, of which there are no stacks, at some scales."""
    factors = 10.0 ** np.asarray([-30, -18, -9, 0, 9, 18, 30])
    A, (U, S, _), wrong = triplets("float32")
    parts = [backend.asarray(part, "float32") for part in (U[:, :2], wrong)]
    found = []
    for factor in factors:
        sparse = sparse_of(backend.library, backend.asarray(A * factor, "float32"))
        values = backend.asarray(S[:2] * factor, "float32")
        certificate = eckart.certify(sparse, eckart.SVD(parts[0], values, parts[1]))
        found.append([backend.to_numpy(field) for field in certificate])
    stacked = eckart.Certificate(*map(np.stack, zip(*found, strict=True)))
    for name, field in zip(stacked._fields, stacked, strict=True):
        shape = (-1,) + (1,) * (field.ndim - 1)
        values = field / factors.reshape(shape) if name in ABSOLUTE else field
        expected = np.broadcast_to(values[3], values.shape)
        assert_within(values, expected, dtype="float32", size=9, scale=3.0, units=4)


@EAGER
def test_matrix_far_smaller_than_its_factors_has_its_own_norm(backend, dtype):
    """And one far larger is all error."""
    real = REAL.get(dtype, dtype)
    A, (U, S, Vh), _ = triplets(dtype)
    factors = np.asarray([1e-15, 1e15])
    small = backend.asarray(A * factors[:, None, None], dtype)
    U, S, Vh = (np.stack([part, part]) for part in (U[:, :2], S[:2], Vh[:2]))
    parts = (U, dtype), (S / factors[:, None], real), (Vh, dtype)
    certificate = eckart.certify(small, eckart.SVD(*(backend.asarray(*part) for part in parts)))
    norm, kept = np.linalg.norm(SPECTRUM), np.linalg.norm(S[0])
    expected = np.asarray([kept / norm * 1e30, 1.0])
    relative = backend.to_numpy(certificate.relative_error).astype(float)
    assert_within(relative / expected, np.ones(2), dtype=real, size=9, units=4)


@EAGER
def test_gap_is_that_of_the_smallest_triplet_present(backend, dtype):
    """Values in any order, and triplets that a rule has dropped from one matrix of a stack."""
    real = REAL.get(dtype, dtype)
    A = np.stack([np.diag([3.0, 2.5, 2.0]), np.diag([4.0, 1.0, 0.5])])
    U = np.stack([np.eye(3)[:, [2, 0]], np.eye(3)[:, [0, 1]] * [1.0, 0.0]])
    S = np.asarray([[2.0, 3.0], [4.0, 0.0]])
    parts = [backend.asarray(U, dtype), backend.asarray(S, real)]
    array, Vh = backend.asarray(A, dtype), backend.asarray(np.swapaxes(U, -1, -2), dtype)
    split = backend.asarray(U * S[:, None, :], dtype)
    for factors in (eckart.SVD(*parts, Vh), eckart.LowRank(split, Vh)):
        certificate = eckart.certify(array, factors)
        assert_within(
            backend.to_numpy(certificate.gap), [-0.5, 3.0], dtype=real, size=3, scale=4.0, units=4
        )
        # The second matrix has its best approximation of rank one.
        excess = backend.to_numpy(certificate.excess)
        assert excess[0] >= 2.5 - 2.0
        assert_within(excess[1], 0.0, dtype=real, size=3, scale=4.0, units=16)


@pytest.mark.numpy_only
@pytest.mark.parametrize("angle", 10.0 ** -np.arange(1, 7.0))
@pytest.mark.parametrize("m", [10, 200])
def test_excess_is_no_lower_than_the_error_of_a_matrix_of_that_rank(backend, dtype, m, angle):
    """All of the error is missed then, and rounding takes nothing from the bound."""
    for seed in range(5):
        A = zoo.rounded(zoo.matrix(np.asarray([2.0, 1.0]), (m, m), dtype=dtype, seed=seed), dtype)
        Vh = np.linalg.svd(A)[2]
        V = Vh[:2] + angle * Vh[2:4]
        W, S, Xh = np.linalg.svd(A @ np.linalg.pinv(V) @ V, full_matrices=False)
        factors, approximation = given(backend, dtype, (W[:, :2], S[:2], Xh[:2]))
        certificate = eckart.certify(A.astype(dtype), factors)
        error = np.linalg.norm(A - approximation)
        best = np.linalg.norm(np.linalg.svd(A)[1][2:])
        rounding = 16 * EPS[dtype] * error + 1e-15  # that of the reference
        assert error - best - rounding <= certificate.excess <= certificate.error + rounding


@pytest.mark.only("numpy", "torch")
def test_operator_may_write_all_its_products_to_one_buffer(backend):
    """What it returned before is kept as it was."""
    S = 1 / np.arange(1.0, 91)
    A = backend.asarray(zoo.matrix(S, (120, 90), dtype="float64", seed=1))
    buffers = {}

    def into_buffer(product):
        buffer = buffers.setdefault(tuple(product.shape), product)
        buffer[...] = product
        return buffer

    def operator(wrap):
        forward, backward = (lambda X: wrap(A @ X)), (lambda Y: wrap(A.mT @ Y))
        return eckart.operator((120, 90), forward, backward, like=A)

    fresh, reusing = operator(lambda product: product), operator(into_buffer)
    factors = eckart.truncated_svd(A, 3)
    factors = factors._replace(S=0.9 * factors.S)
    expected, actual = (eckart.certify(one, factors) for one in (fresh, reusing))
    for one, other in zip(expected, actual, strict=True):
        assert np.array_equal(backend.to_numpy(one), backend.to_numpy(other))
    found = [eckart.truncated_svd(one, 3).S for one in (fresh, reusing)]
    assert np.array_equal(*map(backend.to_numpy, found))
    total = [eckart.stable_rank(eckart.add(one, one)) for one in (fresh, reusing)]
    assert float(total[0]) == float(total[1])


@pytest.mark.numpy_only
def test_stable_rank_of_a_sparse_matrix_is_exact_in_single_precision():
    """Of many values near the largest, which a truncation need not tell apart."""
    sparse = importlib.import_module("scipy.sparse")
    rng = np.random.default_rng(0)
    A = sparse.random_array((3000, 2000), density=0.01, rng=rng, dtype=np.float64).tocsr()
    A.data -= 0.5
    A = A.astype(np.float32)
    largest = np.linalg.eigvalsh((A.T @ A).toarray().astype(float))[-1]
    expected = np.sum(A.data.astype(float) ** 2) / largest
    assert abs(float(eckart.stable_rank(A)) - expected) <= 1e-4 * expected
