"""A block extends a basis without a look at values, too."""

import numpy as np
import pytest

import zoo
from blocks import K, M, assert_bidiagonal, assert_extends, blocks, next_block
from compare import assert_within
from eckart._algorithms.golub_kahan import TwoSided
from eckart._matrices import as_matrix
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


@pytest.mark.needs("jit")
@pytest.mark.parametrize("spectrum", ["flat tail", "exact rank", "zero"])
def test_arrays_of_a_fixed_size_hold_a_basis(backend, dtype, spectrum):
    """The relations are those of a basis that grows, after steps and a restart alike."""
    A = zoo.matrix(zoo.SPECTRA[spectrum](70), (70, 90), dtype=dtype, seed=4)
    operator = as_matrix("A", backend.asarray(A, dtype)).scaled()[0]
    sides = TwoSided(operator, seed=0)
    basis = sides.begun(4, capacity=24)
    extended = backend.jit(sides.extended)
    for _ in range(3):
        basis = extended(basis)
        assert_bidiagonal(backend, A, basis, dtype)
    basis = extended(backend.jit(sides.restarted)(basis, backend.xp.asarray(5)))
    assert int(basis.size) == 9
    assert_bidiagonal(backend, A, basis, dtype)
    U, S, Vh = map(backend.to_numpy, backend.jit(sides.completed)(basis))
    assert not np.any(S[9:])
    for vectors in U[:, :9], Vh[:9].conj().T:
        eye = vectors.conj().T @ vectors
        assert_within(eye, np.eye(9), dtype=dtype, size=90, units=2)
