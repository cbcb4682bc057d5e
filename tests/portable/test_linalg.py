"""The floor below every algorithm: scaling, and decompositions that behave the same."""

import array_api_compat.numpy
import numpy as np
import pytest

import eckart
import zoo
from compare import EPS, assert_within
from eckart._arrays import linalg


@pytest.mark.parametrize("exponent", [-1.0, -0.6, 0.0, 0.6, 0.99])
def test_normalized_entries_have_squares_in_range(backend, dtype, exponent):
    """Squares neither overflow nor vanish, and the power is undone exactly."""
    top = 127 if dtype in ("float32", "complex64") else 1023
    value = 2.0 ** max(int(exponent * top), 4 - top)
    A = np.asarray([[value, -value / 2], [0.0, value / 4]])
    scaled, power = map(backend.to_numpy, linalg.normalized(backend.asarray(A, dtype)))
    modulus = np.abs(scaled.astype(complex)).max()
    assert abs(np.log2(modulus)) < 0.45 * top
    assert power.shape == (1, 1)
    assert np.all(scaled.real / power == A)
    assert np.log2(float(power[0, 0])) % 1 == 0


def test_matrix_that_is_not_finite_is_marked_in_its_own_power(backend, dtype):
    """Zeros to decompose and a NaN to multiply by, leaving the rest of the stack alone."""
    A = np.stack([np.eye(2), np.full((2, 2), np.inf), np.asarray([[1.0, np.nan], [0.0, 1.0]])])
    scaled, power = (
        backend.to_numpy(part) for part in linalg.normalized(backend.asarray(A, dtype))
    )
    assert np.isnan(power[:, 0, 0]).tolist() == [False, True, True]
    assert_within(scaled, np.stack([np.eye(2), *np.zeros((2, 2, 2))]), dtype=dtype, size=0)


def test_nan_among_many_entries_is_not_passed_over(backend, dtype):
    """Not by a maximum that works on several entries at once, as JAX's does on a CPU."""
    A = np.ones((100, 50))
    A[70, 7] = np.nan
    power = backend.to_numpy(linalg.normalizing_power(backend.asarray(A, dtype)))
    assert np.isnan(power).all()


def test_product_keeps_the_precision_of_its_arguments(backend, dtype):
    """One rounding an addition, as the dtype promises."""
    rng = np.random.default_rng(0)
    A, B = rng.standard_normal((30, 40)).astype("float32"), rng.standard_normal((40, 20))
    B = B.astype("float32")
    product = linalg.matmul(backend.asarray(A, dtype), backend.asarray(B, dtype))
    bound = np.abs(A.astype(float)) @ np.abs(B.astype(float))
    error = np.abs(backend.to_numpy(product) - A.astype(float) @ B.astype(float))
    assert np.all(error <= 40 * EPS[dtype] * bound)


@pytest.mark.parametrize("shape", [(7, 5), (150, 150), (40, 300)], ids=str)
def test_singular_values_are_right_to_a_few_units_of_rounding(backend, dtype, shape):
    """Whatever the size: those that are repeated are as near to each other as derivatives ask."""
    A, S = repeated(shape, dtype)
    array = backend.asarray(A, dtype)
    found = linalg.svd(array)
    for values in found[1], eckart.singular_values(array):
        assert_within(backend.to_numpy(values), S, dtype=dtype, size=1, scale=S[0], units=24)
    U, _, Vh = map(backend.to_numpy, found)
    eye = np.eye(min(shape))
    for product in U.conj().T @ U, Vh @ Vh.conj().T:
        assert_within(product, eye, dtype=dtype, size=max(shape))


@pytest.mark.only("jax")
def test_qr_iteration_is_the_singular_value_decomposition(backend, dtype):
    """Where it is asked for on a GPU; a CPU has it too."""
    A, S = repeated((30, 20), dtype)
    array = backend.asarray(A, dtype)
    U, found, Vh = map(backend.to_numpy, linalg._by_qr_iteration(array, vectors=True))
    values = backend.to_numpy(linalg._by_qr_iteration(array, vectors=False))
    for each in found, values:
        assert_within(each, S, dtype=dtype, size=1, scale=S[0], units=24)
    assert_within((U * found) @ Vh, A, dtype=dtype, size=30, scale=S[0])


def repeated(shape, dtype):
    """A matrix that has each of its singular values twice, and these, in double precision."""
    k = min(shape)
    A = zoo.rounded(zoo.matrix(3.0 / (1 + np.arange(k) // 2), shape, dtype=dtype), dtype)
    wide = A.astype(np.result_type(dtype, np.float64))
    return A, np.linalg.svd(wide, compute_uv=False)


@pytest.mark.numpy_only
@pytest.mark.parametrize(("stack", "calls"), [((), 2), ((2, 3), 1 + 2 * (1 + 3))], ids=str)
def test_eigenvectors_are_found_where_the_library_gives_up(monkeypatch, stack, calls):
    """A matrix is tried again upside down, a stack one by one."""
    xp = array_api_compat.numpy
    eigh, seen = xp.linalg.eigh, []

    def failing_once(A):
        seen.append(A)
        if len(seen) == 1 or A.ndim > 2:
            raise np.linalg.LinAlgError
        return eigh(A)

    monkeypatch.setattr(xp.linalg, "eigh", failing_once)
    A = zoo.matrix([3.0, 2.0, 1.0], (3, 5), dtype="float64", seed=0)
    A = A * (1 + np.arange(np.prod(stack, dtype=int)).reshape(*stack, 1, 1))
    gram = A @ np.swapaxes(A, -2, -1)
    values, vectors = linalg.eigh(gram)
    assert len(seen) == calls
    assert_within(values, np.linalg.eigvalsh(gram), dtype="float64", size=3, scale=400)
    expected = vectors * values[..., None, :]
    assert_within(gram @ vectors, expected, dtype="float64", size=3, scale=400)
