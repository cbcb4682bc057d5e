"""JAX differentiates with respect to arrays of NumPy, and along them; so do we."""

import numpy as np
import pytest

import eckart
import zoo

pytestmark = [pytest.mark.needs("grad", "jit", "double"), pytest.mark.only("jax")]

A = zoo.random((4, 3), "float64", 0)
B, C = zoo.random((4, 2), "float64", 1), zoo.random((2, 3), "float64", 2)


FUNCTIONS = {
    "truncated_svd": (lambda A: eckart.reconstruct(eckart.truncated_svd(A, 2)), (A,)),
    "linear": (lambda A, B, C: eckart.linear(A, eckart.LowRank(B, C)), (A, B, C)),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_arrays_of_numpy_are_differentiated_like_those_of_jax(name):
    """Outside of ``jit``, where JAX hands them on as they are."""
    import jax
    import jax.numpy as jnp

    function, arrays = FUNCTIONS[name]
    numbers = tuple(range(len(arrays)))
    found = jax.grad(lambda *parts: jnp.sum(function(*parts)), numbers)(*arrays)
    change = jnp.sum(jax.jvp(function, arrays, arrays)[1])
    along = sum(np.sum(part * array) for part, array in zip(found, arrays, strict=True))
    assert abs(change - along) < 1e-10 * (1 + abs(along))


def test_an_array_of_numpy_may_stand_beside_a_traced_one():
    """What is not differentiated may stay as it is: the gradient is the same."""
    import jax
    import jax.numpy as jnp

    def loss(B, C):
        return jnp.sum(eckart.reconstruct(eckart.LowRank(B, C)) ** 2)

    mixed = jax.grad(loss)(B, C)
    whole = jax.grad(loss)(jnp.asarray(B), jnp.asarray(C))
    assert np.max(np.abs(mixed - whole)) == 0
