"""One seed is one test matrix under every transformation."""

import numpy as np
import pytest

from compare import assert_within
from eckart._arrays.sketch import gaussian
from truth import drawn

pytestmark = pytest.mark.precision


@pytest.mark.needs("jit")
def test_jitted_matrix_is_the_eager_one(backend, dtype):
    """Tracing changes nothing."""
    like = backend.asarray(np.zeros((1, 1)), dtype)
    jitted = backend.jit(lambda A: gaussian(30, 5, like=A, seed=9))(like)
    assert_within(
        backend.to_numpy(jitted),
        drawn(backend, dtype, 30, 5, seed=9),
        dtype=dtype,
        size=1,
        units=32,
    )


@pytest.mark.needs("vmap")
def test_mapped_matrix_is_the_eager_one(backend, dtype):
    """Each matrix of a stack is given the same."""
    stack = backend.asarray(np.zeros((3, 2, 2)), dtype)
    mapped = backend.vmap(lambda A: A[0, 0] + gaussian(30, 5, like=A, seed=9))(stack)
    expected = np.stack([drawn(backend, dtype, 30, 5, seed=9)] * 3)
    assert_within(backend.to_numpy(mapped), expected, dtype=dtype, size=1, units=32)
