"""Derivatives from one end of the range to the other, of zero matrices, and at kept zeros."""

import itertools

import numpy as np
import pytest

import eckart
import zoo
from compare import assert_within

pytestmark = [pytest.mark.needs("grad"), pytest.mark.precision]

# Powers of ten of float32 and complex64, and of float64 and complex128.
SINGLE = (-35, -30, -20, -10, 0, 10, 19, 25, 30, 33, 36)
DOUBLE = (-300, -155, -20, 0, 100, 154, 300, 304)
SIZES = {"float32": (-30, -10, 0, 10, 30), "float64": (-250, -10, 0, 10, 250)}
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


# Functions of degree one, and the degree of what a gradient is first multiplied by.
LINEAR = {
    "triplets": (lambda xp, A: eckart.reconstruct(eckart.truncated_svd(A, 2)), 1.0),
    "left": (lambda xp, A: eckart.reconstruct(eckart.factorize(A, 2, split="left")), 1.0),
    "balanced": (lambda xp, A: eckart.reconstruct(eckart.factorize(A, 2)), 0.5),
    "values": (lambda xp, A: eckart.singular_values(A), 0.0),
    "some values": (lambda xp, A: eckart.truncated_svd(A, 2).S, 0.0),
    "norm": (lambda xp, A: eckart.norm(A), 0.0),
    "norm of factors": (lambda xp, A: eckart.norm(eckart.LowRank(A, xp.ones_like(A.mT))), 0.0),
}


@pytest.mark.parametrize("name", LINEAR)
def test_derivative_of_degree_zero_does_not_depend_on_the_scale(backend, name):
    """By reverse and by forward, whatever the size of the gradient and of the direction."""
    xp = backend.xp
    function, degree = LINEAR[name]

    def change_and_gradient(A, D, size):
        gradient = backend.transform("grad")(lambda A: xp.sum(size * function(xp, A)))
        return backend.along(lambda A: function(xp, A), A, size * D), gradient(A)

    both = compiled(backend, change_and_gradient)
    for dtype in {"float32", "float64"} & set(backend.dtypes()):
        largest = float(np.finfo(dtype).max)
        A = backend.asarray(zoo.matrix(np.asarray([3.0, 2.0, 1.0]), (4, 3), dtype=dtype), dtype)
        D = backend.asarray(zoo.random((4, 3), dtype, 1), dtype)
        expected = [backend.to_numpy(part) for part in both(A, D, xp.ones_like(A[0, 0]))]
        for exponent, size in itertools.product(scales(dtype), SIZES[dtype]):
            if abs(size) + degree * abs(exponent) > np.log10(largest) - 4:
                continue
            found = both(A * (2.0 ** round(exponent / np.log10(2))), D, A[0, 0] * 0 + 10.0**size)
            for part, whole in zip(map(backend.to_numpy, found), expected, strict=True):
                units = {"dtype": dtype, "size": 4, "scale": 4, "units": 32}
                assert_within(part / np.asarray(10.0**size, dtype), whole, **units)


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


def test_second_derivative_of_an_update_is_inverse_to_the_scale(backend):
    """Factors of the old rows and of the new ones need not be as large as each other."""
    xp, transform = backend.xp, backend.transform
    for dtype in {"float32", "float64"} & set(backend.dtypes()):
        eye = backend.asarray(np.eye(2), dtype)
        hessian = transform("jacfwd")(
            transform("jacrev")(
                lambda A, eye=eye: eckart.update(eckart.LowRank(A, eye), A[1:, :], 1).svd.S[0]
            )
        )
        A = backend.asarray(np.asarray([[2.0, 1.0], [1.0, 1.0]]), dtype)
        expected = backend.to_numpy(hessian(A))
        assert np.max(np.abs(expected)) > 0.1
        # Near the largest numbers the Hessian is subnormal, and JAX takes parts of it for zero.
        for exponent in (each for each in scales(dtype) if each < 36 or dtype == "float64"):
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
    """Of a zero matrix, and of one with zeros at any scale.

    NaN at the lower end of the range, where factors have no room for what is below rounding, but
    for their roots.
    """
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
                lowest = 1e-27 if dtype == "float32" else 1e-280
                if 0 < scale < lowest and way != "balanced":
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
