"""Blocks that have spoilt bases, and the step that a basis is extended by."""

import math

import numpy as np

import zoo
from compare import EPS, assert_within
from eckart._algorithms.basis import orthonormal, project_out
from eckart._arrays.linalg import largest_modulus
from eckart._arrays.namespace import format_of, namespace
from eckart._arrays.sketch import gaussian

M, K, B = 60, 12, 5


def blocks(Q, dtype):
    """Blocks of B columns that have spoilt bases, by name."""
    rng = np.random.default_rng(1)
    G = zoo.orthonormal(M, B, seed=2, complex_=dtype.startswith("complex"))
    inside = Q @ rng.standard_normal((K, B))
    tiny = 1e-30 if EPS[dtype] > 1e-10 else 1e-150
    return {
        "random": rng.standard_normal((M, B)),
        "rank one": np.outer(G[:, 0], np.arange(1.0, B + 1)),
        "equal columns": np.ones((M, B)),
        "one column zero": G * (np.arange(B) > 0),
        "zero": np.zeros((M, B)),
        "inside the span": inside,
        "all but inside": inside + 100 * EPS[dtype] * G,
        "graded": G * 10.0 ** -np.arange(0.0, 3 * B, 3),
        "ill conditioned": G @ zoo.hilbert(B),
        "huge": G / tiny,
        "tiny": G * tiny,
    }


NAMES = list(blocks(np.zeros((M, K)), "float64"))


def next_block(Y, Q):
    """The block that extends ``Q``, where `Y` is as exact as rounding allows."""
    noise = 8 * format_of(Y).eps * largest_modulus(Y) * math.sqrt(M)
    noise = namespace(Y).where(noise > 0, noise, 1.0)
    rest = project_out(Y, Q)[0]
    return orthonormal(rest, Q, noise=noise, fresh=lambda: gaussian(M, B, like=Y, seed=0))


def assert_extends(actual, Q, dtype):
    whole = np.concatenate([Q, actual], axis=-1)
    assert_within(whole.conj().T @ whole, np.eye(K + B), dtype=dtype, size=M, units=2)


def assert_bidiagonal(backend, A, basis, dtype):
    """A P = Q L and A^H Q = P L^H + remainder in the columns in use; all others are zero."""
    size, tolerance = int(basis.size), {"dtype": dtype, "size": max(A.shape), "units": 2}
    P, Q, L, R = (backend.to_numpy(part) for part in basis[:4])
    for unused in P[:, size:], Q[:, size:], L[size:, :], L[:, size:]:
        assert not np.any(unused)
    P, Q, L = P[:, :size], Q[:, :size], L[:size, :size]
    for vectors in P, Q:
        assert_within(vectors.conj().T @ vectors, np.eye(size), **tolerance)
    assert_within(A @ P, Q @ L, **tolerance)
    outside = A.conj().T @ Q - P @ L.conj().T
    outside[:, -basis.width :] -= R
    assert_within(outside, np.zeros_like(outside), **tolerance)
