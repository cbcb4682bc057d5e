"""The norm and the inner product inside jit are the eager ones."""

import pytest

import eckart
from compare import assert_within
from truth import in_numpy, low_rank


@pytest.mark.needs("jit")
def test_compiled_calls_are_the_eager_ones(backend, dtype):
    """Inside jit, the same numbers as in NumPy, which never traces."""
    one, _ = low_rank(backend, dtype, seed=1)
    other, _ = low_rank(backend, dtype, seed=3)
    for function, arguments in (eckart.norm, (one,)), (eckart.inner, (one, other)):
        eager = function(*in_numpy(backend, arguments))
        assert_within(
            backend.to_numpy(backend.jit(function)(*arguments)),
            eager,
            dtype=dtype,
            size=7,
            scale=200,
        )
