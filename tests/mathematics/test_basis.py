"""Bases stay orthonormal whatever block comes next."""

import numpy as np
import pytest

import zoo
from blocks import NAMES, B, K, M, assert_extends, blocks, next_block
from compare import assert_within
from eckart import _golub_kahan, _krylov, _lanczos
from eckart._basis import orthonormal, project_out
from eckart._matrices import as_matrix
from eckart._sketch import gaussian
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


@pytest.mark.parametrize("spectrum", ["power law", "flat tail", "exact rank", "zero"])
def test_bidiagonalisation_keeps_its_relations(backend, dtype, spectrum):
    """A P = Q L and A^H Q = P L^H + remainder, after steps, a widening and a restart alike."""
    shape = (70, 90)
    A = zoo.matrix(zoo.SPECTRA[spectrum](70), shape, dtype=dtype, seed=4)
    operator, _ = as_matrix("A", backend.asarray(A, dtype)).scaled()

    def assert_relations(basis):
        P, Q, L, R = (backend.to_numpy(part) for part in basis[:4])
        tolerance = {"dtype": dtype, "size": max(shape), "units": 2}
        for vectors in P, Q:
            assert_within(vectors.conj().T @ vectors, np.eye(basis.size), **tolerance)
        assert_within(A @ P, Q @ L, **tolerance)
        outside = A.conj().T @ Q - P @ L.conj().T
        outside[:, -basis.width :] -= R
        assert_within(outside, np.zeros_like(outside), **tolerance)

    basis = _golub_kahan.started(operator, 4, seed=0)
    for _ in range(3):
        basis = _golub_kahan.extended(operator, basis)
        assert_relations(basis)
    P, Q, R = (backend.to_numpy(part) for part in _golub_kahan.completed(basis))
    assert_within(Q.conj().T @ A, R @ P.conj().T, dtype=dtype, size=max(shape), units=2)

    basis = _golub_kahan.extended(operator, _golub_kahan.widened(basis))
    assert (basis.width, basis.size) == (8, 24)
    assert_relations(basis)

    X, S, Yh = np.linalg.svd(backend.to_numpy(basis.L))
    best = [backend.asarray(part, dtype) for part in (X[:, :10], Yh[:10])]
    values = backend.asarray(S[:10], str(backend.to_numpy(basis.scale).dtype))
    basis = _golub_kahan.extended(operator, _golub_kahan.restarted(basis, best[0], values, best[1]))
    assert basis.size == 18
    assert_relations(basis)


@pytest.mark.parametrize("spectrum", ["power law", "flat tail", "exact rank", "zero"])
def test_basis_of_one_side_keeps_its_relation(backend, dtype, spectrum):
    """M P = P T + remainder for the Gram matrix M, after steps, a widening and a restart alike."""
    A = zoo.matrix(zoo.SPECTRA[spectrum](70), (90, 70), dtype=dtype, seed=4)
    M = A.conj().T @ A
    gram = _krylov._Squared(as_matrix("A", backend.asarray(A, dtype)).scaled()[0])

    def assert_relation(basis):
        P, T, R, _ = (backend.to_numpy(part) for part in basis)
        tolerance = {"dtype": dtype, "size": 90, "units": 2}
        assert_within(P.conj().T @ P, np.eye(P.shape[-1]), **tolerance)
        assert_within(T, T.conj().T, dtype=dtype, size=1)
        outside = M @ P - P @ T
        outside[:, -R.shape[-1] :] -= R
        assert_within(outside, np.zeros_like(outside), **tolerance)

    first = zoo.orthonormal(70, 4, seed=1, complex_=dtype.startswith("complex"))
    P = backend.asarray(first, dtype)
    basis = _lanczos._begun(P, gram.product(P))
    assert_relation(basis)
    for step in range(3):
        basis = _lanczos._extended(gram, basis, 0, step)
        assert_relation(basis)
    basis = _lanczos._extended(gram, _lanczos._widened(basis, 0, 6), 0, 3)
    assert basis.P.shape[-1] == 24
    assert_relation(basis)
    basis = _lanczos._restarted(basis, *_lanczos._ritz(basis), 10)
    basis = _lanczos._extended(gram, basis, 0, 4)
    assert basis.P.shape[-1] == 18
    assert_relation(basis)
    for step in range(5, 60):
        if basis.P.shape[-1] == 70:
            break
        basis = _lanczos._extended(gram, basis, 0, step)
    assert_relation(basis)  # of the whole space


@pytest.mark.numpy_only
def test_fresh_columns_are_drawn_only_where_a_direction_vanished():
    """A block of full rank costs no draw."""
    array = zoo.orthonormal(M, K, seed=0, complex_=False)

    def fresh():
        raise AssertionError

    Y = project_out(gaussian(M, B, like=array, seed=0), array)[0]
    orthonormal(Y, array, noise=np.full((1, 1), 1e-12), fresh=fresh)
