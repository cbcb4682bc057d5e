"""A function that is staged, mapped and differentiated, in every order, is the function itself."""

import functools
import itertools

import numpy as np
import pytest

import eckart
import zoo
from compare import assert_within

pytestmark = [pytest.mark.needs("grad", "jit", "double"), pytest.mark.only("jax")]

SHAPE = (4, 3)
LENGTH = 2  # as many matrices as the rank: what is mapped along a wrong axis still fits


def by_update(A):
    step = eckart.update(eckart.truncated_svd(A, 2), A[:2, :] + 1.0, 2)
    return eckart.reconstruct(step.svd)[:4, :] + step.loss


LAYERS = {
    "triplets": lambda A: eckart.reconstruct(eckart.truncated_svd(A, 2)),
    "left": lambda A: eckart.reconstruct(eckart.factorize(A, 2, split="left")),
    "right": lambda A: eckart.reconstruct(eckart.factorize(A, 2, split="right")),
    "balanced": lambda A: eckart.reconstruct(eckart.factorize(A, 2)),
    "update": by_update,
    "factors": lambda A: eckart.reconstruct(eckart.truncated_svd(eckart.LowRank(A, A.mT @ A), 2)),
    "values": lambda A: A * eckart.singular_values(A),
    "krylov": lambda A: eckart.reconstruct(eckart.truncated_svd(A, 1, method="krylov")),
}


def staged(word, function, axis=0):
    """The function within the transformations that `word` names, the first one inmost."""
    import jax
    import jax.numpy as jnp

    ways = {
        "jit": jax.jit,
        "checkpoint": jax.checkpoint,
        "scan": lambda f: lambda A: jax.lax.scan(lambda _, A: (0.0, f(A)), 0.0, A[None])[1][0],
        "cond": lambda f: lambda A: jax.lax.cond(jnp.all(A > -99), f, jnp.zeros_like, A),
        "vmap": lambda f: lambda A: jax.vmap(f)(jnp.stack([A] * LENGTH))[1],
        "grad": lambda f: lambda A: jax.grad(lambda A: jnp.sum(jnp.sin(f(A))))(A),
        "jvp": lambda f: lambda A: jax.jvp(f, (A,), (jnp.cos(A),))[1],
    }
    return functools.reduce(lambda f, name: ways[name](f), word, function)


NAMES = ("jit", "checkpoint", "scan", "cond", "vmap", "grad", "jvp")
EVERY = [
    (layer, word) for layer in LAYERS for n in (2, 3) for word in itertools.product(NAMES, repeat=n)
]
# Each layer once, and each way to stage it, within ``vmap`` within a derivative.
COVER = [
    ("triplets", ("jit", "vmap", "grad")),
    ("left", ("checkpoint", "vmap", "jvp")),
    ("right", ("scan", "vmap", "jvp")),
    ("balanced", ("cond", "vmap", "jvp")),
    ("update", ("jit", "vmap", "jvp")),
    ("factors", ("jit", "vmap", "jvp")),
]


def pytest_generate_tests(metafunc):
    if "word" in metafunc.fixturenames:
        full = metafunc.config.getoption("--exhaustive", default=False)
        cases = EVERY if full else COVER
        ids = ["-".join((layer, *word)) for layer, word in cases]
        metafunc.parametrize(("layer", "word"), cases, ids=ids)


def test_nested_layer_is_the_function_itself(layer, word):
    """In every order of two and three transformations with ``--exhaustive``."""
    import jax
    import jax.numpy as jnp

    A = jnp.asarray(zoo.random(SHAPE, "float64", 0))
    derivatives = [name for name in word if name in ("grad", "jvp")]
    expected = jax.jit(staged(derivatives, LAYERS[layer]))(A)
    found = jax.jit(staged(word, LAYERS[layer]))(A)
    scale = np.max(np.abs(expected))
    assert_within(found, expected, dtype="float64", size=4, scale=scale, units=1e4)


@pytest.mark.parametrize("layer", ["triplets", "values"])
def test_second_derivative_of_a_scan_is_right_or_nan(layer):
    """JAX forgets the rule of a first derivative that it takes through a ``scan``."""
    import jax
    import jax.numpy as jnp

    A = jnp.asarray(zoo.random(SHAPE, "float64", 0))
    expected = jax.jit(staged(("grad", "jvp"), LAYERS[layer]))(A)
    found = jax.jit(staged(("scan", "grad", "jvp"), LAYERS[layer]))(A)
    if not np.isnan(found).all():
        scale = np.max(np.abs(expected))
        assert_within(found, expected, dtype="float64", size=4, scale=scale, units=1e4)
