"""One seed is one test matrix, on every library and under every transformation."""

import numpy as np
import pytest

import eckart
from compare import assert_within
from eckart._arrays.sketch import gaussian
from truth import drawn


def test_seed_is_the_same_matrix_on_every_library(backend, dtype):
    """Apart from the last places of a logarithm and a cosine."""
    reference = gaussian(
        500, 7, like=np.zeros(1, "complex128" if "c" in dtype else "float64"), seed=3
    )
    assert_within(drawn(backend, dtype, seed=3), reference, dtype=dtype, size=1, scale=6.0, units=8)


@pytest.mark.numpy_only
def test_seed_is_the_same_matrix_in_every_version():
    """What a seed stands for is never changed."""
    Omega = gaussian(2, 3, like=np.zeros(1), seed=0)
    expected = [[-0.233909385, 1.222791989, -1.069102592], [0.626502291, -0.05434461, -0.442016192]]
    assert_within(Omega, expected, dtype="float32", size=1)


def test_wider_matrix_begins_with_the_narrower(backend, dtype):
    """An entry depends on its place, not on the shape."""
    assert_within(
        drawn(backend, dtype, 20, 8)[:11, :5], drawn(backend, dtype, 11, 5), dtype=dtype, size=0
    )


def test_seed_must_be_an_integer(backend):
    """A TypeError that says so."""
    A = backend.asarray(np.eye(3), "float32")
    with pytest.raises(TypeError, match="`seed` must be an integer"):
        eckart.truncated_svd(A, 1, seed=0.5)
