"""Derivatives from one end of the range to the other, of zero matrices, and at kept zeros."""

import numpy as np
import pytest

import eckart
import zoo
from compare import assert_within

pytestmark = [pytest.mark.needs("grad"), pytest.mark.precision]

# Powers of ten of float32 and complex64, and of float64 and complex128.
SINGLE, DOUBLE = (-35, -30, -20, -10, 0, 10, 19, 25, 30), (-300, -155, -20, 0, 100, 154, 300)
WAYS = {
    "triplets": lambda A, r: eckart.truncated_svd(A, r),
    "left": lambda A, r: eckart.factorize(A, r, split="left"),
    "balanced": lambda A, r: eckart.factorize(A, r),
}


def scales(dtype):
    return SINGLE if dtype in ("float32", "complex64") else DOUBLE


def compiled(backend, function):
    """Compiled where that is how the library repeats itself."""
    return backend.jit(function) if backend.can("jit") else function


def both(backend, function):
    """The change of a real function along a direction, and the gradient of their product."""
    xp = backend.xp

    def change_and_gradient(A, D):
        gradient = backend.transform("grad")(lambda A: xp.sum(D * function(A)))
        return backend.along(function, A, D), gradient(A)

    return compiled(backend, change_and_gradient)


@pytest.mark.parametrize("way", WAYS)
def test_second_derivative_is_inverse_to_the_scale(backend, way):
    """A truncation is homogeneous: its second derivative at ``s * A`` is that at `A`, over s."""
    xp = backend.xp

    def entry(A):
        Y = eckart.reconstruct(WAYS[way](A, 1))
        return Y[0, 0] + 2 * Y[0, 1]

    transform = backend.transform
    for dtype in {"float32", "float64"} & set(backend.dtypes()):
        hessian = transform("jacfwd")(transform("jacrev")(entry))
        A = backend.asarray(np.diag([2.0, 1.0]), dtype)
        expected = backend.to_numpy(hessian(A))
        assert np.max(np.abs(expected)) > 0.1
        for exponent in scales(dtype):
            scale = xp.asarray(10.0**exponent, dtype=A.dtype)
            found = backend.to_numpy(hessian(A * scale) * scale)
            assert_within(found, expected, dtype=dtype, size=4, scale=4, units=8)


def test_truncation_that_drops_nothing_is_linear_at_every_scale(backend):
    """Its second derivative is zero."""
    xp, transform = backend.xp, backend.transform
    for dtype in {"float32", "float64"} & set(backend.dtypes()):
        hessian = transform("jacfwd")(
            transform("jacrev")(lambda A: eckart.reconstruct(eckart.truncated_svd(A, 2))[0, 1])
        )
        for exponent in scales(dtype):
            scale = xp.asarray(10.0**exponent, dtype=backend.dtype(dtype))
            A = backend.asarray(np.diag([2.0, 1.0]), dtype) * scale
            found = backend.to_numpy(hessian(A) * scale)
            assert_within(found, np.zeros((2, 2, 2, 2)), dtype=dtype, size=4, scale=4, units=8)


@pytest.mark.parametrize("way", WAYS)
def test_derivative_at_kept_zeros_is_the_identity(backend, way):
    """Of a zero matrix, and of one with zeros at any scale; NaN at the lower end of the range."""
    change_and_gradient = both(backend, lambda A: eckart.reconstruct(WAYS[way](A, 3)))
    for dtype in {"float32", "float64"} & set(backend.dtypes()):
        D = zoo.rounded(zoo.random((4, 3), dtype, 1), dtype)
        direction = backend.asarray(D, dtype)
        for exponent in (None, *scales(dtype)):
            scale = 0.0 if exponent is None else 10.0**exponent
            A = np.zeros((4, 3))
            A[0, 1], A[2, 0] = scale, scale / 2
            found = change_and_gradient(backend.asarray(A, dtype), direction)
            for part in map(backend.to_numpy, found):
                if 0 < scale < (1e-27 if dtype == "float32" else 1e-280):
                    assert np.isnan(part).all()
                    continue
                assert_within(part, D, dtype=dtype, size=4, scale=4, units=8)


@pytest.mark.parametrize("way", WAYS)
def test_adapter_that_begins_at_zero_has_the_derivative_of_its_product(backend, way):
    """``B = 0``, as adapters begin: to `B` it is ``D @ A^H``, to `A` nothing."""
    xp = backend.xp
    A, D = zoo.random((2, 3), "float32", 2), zoo.random((4, 3), "float32", 3)
    weight = backend.asarray(D, "float32")

    def loss(B, A):
        return xp.sum(weight * eckart.reconstruct(WAYS[way](eckart.LowRank(B, A), 2)))

    found = backend.gradient(
        loss, backend.asarray(np.zeros((4, 2)), "float32"), backend.asarray(A, "float32")
    )
    for part, expected in zip(found, (D @ A.T, np.zeros((2, 3))), strict=True):
        assert_within(backend.to_numpy(part), expected, dtype="float32", size=4, scale=9, units=8)
