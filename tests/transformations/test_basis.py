"""A block extends a basis without a look at values, too."""

import pytest

import zoo
from blocks import K, M, assert_extends, blocks, next_block
from truth import ways


@pytest.mark.parametrize("way", ways("jit"))
def test_traced_block_extends_an_orthonormal_basis(backend, dtype, way):
    """Without a look at values, too."""
    Q = zoo.orthonormal(M, K, seed=0, complex_=dtype.startswith("complex"))
    traced = getattr(backend, way)(next_block)
    array = backend.asarray(Q, dtype)
    for block in blocks(Q, dtype).values():
        actual = traced(backend.asarray(block, dtype), array)
        assert_extends(backend.to_numpy(actual), backend.to_numpy(array), dtype)
