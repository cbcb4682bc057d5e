"""Bases stay orthonormal whatever block comes next."""

import numpy as np
import pytest

import zoo
from blocks import NAMES, B, K, M, assert_bidiagonal, assert_extends, blocks, next_block
from compare import assert_within
from eckart._algorithms import krylov
from eckart._algorithms.basis import orthonormal, project_out, random_block
from eckart._algorithms.golub_kahan import TwoSided
from eckart._algorithms.lanczos import OneSided
from eckart._arrays.namespace import namespace
from eckart._arrays.sketch import gaussian
from eckart._matrices import as_matrix
from truth import real

pytestmark = pytest.mark.needs("operators")


@pytest.mark.parametrize("name", NAMES)
def test_block_extends_an_orthonormal_basis(backend, dtype, name):
    """Q^H Q = I to a small multiple of eps, for any block, at any scale."""
    Q = zoo.orthonormal(M, K, seed=0, complex_=dtype.startswith("complex"))
    Y = backend.asarray(blocks(Q, dtype)[name], dtype)
    array = backend.asarray(Q, dtype)
    assert_extends(backend.to_numpy(next_block(Y, array)), backend.to_numpy(array), dtype)


def test_block_spans_what_it_can_of_its_columns(backend, dtype):
    """The basis and the new block hold the columns that they were made of."""
    Q = zoo.orthonormal(M, K, seed=0, complex_=dtype.startswith("complex"))
    array = backend.asarray(Q, dtype)
    for block in blocks(Q, dtype).values():
        Y = backend.asarray(block, dtype)
        whole = np.concatenate([Q, backend.to_numpy(next_block(Y, array))], axis=-1)
        wide = backend.to_numpy(Y).astype(complex)
        rest = wide - whole @ (whole.conj().T @ wide)
        scale = np.max(np.abs(wide))
        assert_within(rest, np.zeros_like(rest), dtype=dtype, size=M, scale=scale, units=4)


def test_vanished_directions_are_replaced_by_the_fresh_ones(backend, dtype):
    """Deflation: what takes their place is what was offered, not the noise of rounding."""
    array = backend.asarray(zoo.orthonormal(M, K, seed=0, complex_=False), dtype)
    fresh = backend.asarray(zoo.orthonormal(M, B, seed=5, complex_=False), dtype)
    noise = backend.asarray(np.ones((1, 1)), real(dtype))
    zero = backend.asarray(np.zeros((M, B)), dtype)
    actual = backend.to_numpy(orthonormal(zero, array, noise=noise, fresh=lambda: fresh))
    span = np.concatenate([backend.to_numpy(array), backend.to_numpy(fresh)], axis=-1)
    projected = np.linalg.qr(span)[0]
    rest = actual - projected @ (projected.conj().T @ actual)
    assert_within(rest, np.zeros_like(rest), dtype=dtype, size=M, units=4)


def widened(basis):
    """The basis with random columns in its next block."""
    fresh, basis = random_block(basis, seed=0)
    return basis._replace(remainder=namespace(fresh).concat([basis.remainder, fresh], axis=-1))


@pytest.mark.parametrize("spectrum", ["power law", "flat tail", "exact rank", "zero"])
def test_bidiagonalisation_keeps_its_relations(backend, dtype, spectrum):
    """A P = Q L and A^H Q = P L^H + remainder, after steps, a widening and a restart alike."""
    A = zoo.matrix(zoo.SPECTRA[spectrum](70), (70, 90), dtype=dtype, seed=4)
    sides = TwoSided(as_matrix("A", backend.asarray(A, dtype)).scaled()[0], seed=0)
    basis = sides.begun(4)
    for _ in range(4):
        basis = sides.extended(basis)
        assert_bidiagonal(backend, A, basis, dtype)
    P, Q, R = map(backend.to_numpy, sides.joined(basis))
    assert_within(Q.conj().T @ A, R @ P.conj().T, dtype=dtype, size=90, units=2)

    basis = sides.extended(widened(basis))
    assert (basis.width, basis.size) == (8, 24)
    assert_bidiagonal(backend, A, basis, dtype)

    basis = sides.extended(sides.restarted(basis, 10))
    assert basis.size == 18
    assert_bidiagonal(backend, A, basis, dtype)


@pytest.mark.parametrize("spectrum", ["power law", "flat tail", "exact rank", "zero"])
def test_basis_of_one_side_keeps_its_relation(backend, dtype, spectrum):
    """M P = P L + remainder for the Gram matrix M, after steps, a widening and a restart alike."""
    A = zoo.matrix(zoo.SPECTRA[spectrum](70), (90, 70), dtype=dtype, seed=4)
    M = A.conj().T @ A
    gram = krylov._Squared(as_matrix("A", backend.asarray(A, dtype)).scaled()[0])
    sides = OneSided(gram, seed=0)

    def assert_relation(basis):
        P, L, R = (backend.to_numpy(part) for part in (basis.P, basis.L, basis.remainder))
        tolerance = {"dtype": dtype, "size": 90, "units": 2}
        assert P.shape[-1] == basis.size
        assert_within(P.conj().T @ P, np.eye(P.shape[-1]), **tolerance)
        assert_within(L, L.conj().T, dtype=dtype, size=1)
        outside = M @ P - P @ L
        outside[:, -R.shape[-1] :] -= R
        assert_within(outside, np.zeros_like(outside), **tolerance)

    first = zoo.orthonormal(70, 4, seed=1, complex_=dtype.startswith("complex"))
    P = backend.asarray(first, dtype)
    basis = sides.begun(P, gram.product(P))
    assert_relation(basis)
    for _ in range(3):
        basis = sides.extended(basis)
        assert_relation(basis)
    basis = sides.extended(widened(basis))
    assert basis.size == 24
    assert_relation(basis)
    basis = sides.extended(sides.restarted(basis, 10))
    assert basis.size == 18
    assert_relation(basis)
    while basis.size < 70:
        basis = sides.extended(basis)
    assert_relation(basis)  # of the whole space


@pytest.mark.numpy_only
def test_fresh_columns_are_drawn_only_where_a_direction_vanished():
    """A block of full rank costs no draw."""
    array = zoo.orthonormal(M, K, seed=0, complex_=False)

    def fresh():
        raise AssertionError

    Y = project_out(gaussian(M, B, like=array, seed=0), array)[0]
    orthonormal(Y, array, noise=np.full((1, 1), 1e-12), fresh=fresh)
