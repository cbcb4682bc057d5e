"""Derivatives of derivatives: every order of forward and reverse, and where there are none."""

import itertools

import numpy as np
import pytest

import eckart
import zoo
from compare import assert_within

pytestmark = [pytest.mark.needs("grad", "double"), pytest.mark.only("torch")]

SHAPE = (5, 4)
S = np.asarray([5.0, 4.0, 2.0, 1.0])
A = zoo.matrix(S, SHAPE, dtype="float64")
W = zoo.random(SHAPE, "float64", 7)
DIRECTIONS = [zoo.random(SHAPE, "float64", seed) for seed in range(3)]


def truncation(A):
    U, S, Vh = np.linalg.svd(A, full_matrices=False)
    return (U[:, :2] * S[:2]) @ Vh[:2], S


def loss(xp, W):
    """A function of the truncation, by each way to write it."""

    def function(A):
        every = [eckart.truncated_svd(A, 2)]
        every += [eckart.factorize(A, 2, split=split) for split in ("left", "right", "balanced")]
        return sum(xp.sum(W * eckart.reconstruct(factors) ** 2) for factors in every)

    return function


def change(A):
    """Its change along the first direction, from the closed form of the derivative."""
    Y, S = truncation(A)
    return 4 * np.sum(2 * W * Y * zoo.truncation_derivative(A, S, 2, DIRECTIONS[0]))


def difference(function, D, h):
    """Central difference of fourth order along `D`."""

    def between(A):
        near, far = (function(A + k * h * D) - function(A - k * h * D) for k in (1, 2))
        return (8 * near - far) / (12 * h)

    return between


SECOND = difference(change, DIRECTIONS[1], 1e-3)(A)
THIRD = difference(difference(change, DIRECTIONS[1], 4e-3), DIRECTIONS[2], 4e-3)(A)


def nested(backend, function, word):
    """The change of a function along one direction after the other; the first letter is inmost."""
    xp = backend.xp
    for letter, D in zip(word, DIRECTIONS, strict=False):
        direction = backend.asarray(D, "float64")
        if letter == "r":
            gradient = backend.transform("grad")(function)
            function = lambda A, g=gradient, D=direction: xp.sum(g(A) * D)  # noqa: E731
        else:
            function = lambda A, f=function, D=direction: backend.along(f, A, D)  # noqa: E731
    return function


@pytest.mark.parametrize("word", ["".join(word) for word in itertools.product("fr", repeat=2)])
def test_second_derivative_is_one_number_by_forward_and_reverse(backend, word):
    """In each of the four orders, alone and mapped over a stack."""
    function = loss(backend.xp, backend.asarray(W, "float64"))
    second = nested(backend, function, word)
    found = backend.to_numpy(second(backend.asarray(A, "float64")))
    assert abs(found - SECOND) < 1e-8 * abs(SECOND)
    stack = backend.asarray(np.stack([A, 2 * A]), "float64")
    mapped = backend.to_numpy(backend.vmap(second)(stack))
    assert abs(mapped[0] - SECOND) < 1e-8 * abs(SECOND)


@pytest.mark.parametrize("word", ["".join(word) for word in itertools.product("fr", repeat=3)])
def test_third_derivative_is_one_number_by_forward_and_reverse(backend, word):
    """In each of the eight orders."""
    function = loss(backend.xp, backend.asarray(W, "float64"))
    found = backend.to_numpy(nested(backend, function, word)(backend.asarray(A, "float64")))
    assert abs(found - THIRD) < 1e-5 * abs(THIRD)


@pytest.mark.parametrize("way", ["jacfwd", "jacrev", "hessian"])
def test_jacobian_of_a_jacobian_has_the_second_derivative(backend, way):
    """Whatever the library maps and batches inside of it."""
    inner, outer = ("jacrev", "jacfwd") if way == "hessian" else (way, way)
    xp = backend.xp
    weight = backend.asarray(W, "float64")

    def function(A):
        return 4 * xp.sum(weight * eckart.reconstruct(eckart.truncated_svd(A, 2)) ** 2)

    hessian = backend.transform(outer)(backend.transform(inner)(function))
    found = backend.to_numpy(hessian(backend.asarray(A, "float64")))
    value = np.einsum("ijkl,ij,kl", found, DIRECTIONS[0], DIRECTIONS[1])
    assert abs(value - SECOND) < 1e-8 * abs(SECOND)


def test_hessian_by_forward_over_reverse_without_func_is_the_same(backend):
    """PyTorch's older interface cannot nest forward derivatives; a rule must not begin one."""
    weight, array = (backend.asarray(part, "float64") for part in (W, A))
    function = loss(backend.xp, weight)
    found = backend.xp.autograd.functional.hessian(
        function, array, vectorize=True, outer_jacobian_strategy="forward-mode"
    )
    expected = backend.to_numpy(backend.transform("hessian")(function)(array))
    scale = np.max(np.abs(expected))
    assert_within(
        backend.to_numpy(found), expected, dtype="float64", size=20, scale=scale, units=64
    )
