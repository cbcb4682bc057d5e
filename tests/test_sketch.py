"""One seed is one test matrix, on every library and under every transformation."""

import numpy as np
import pytest

import eckart
from compare import assert_within
from eckart._sketch import gaussian


def draw(backend, dtype, n=500, k=7, **which):
    like = backend.asarray(np.zeros(1), dtype)
    return backend.to_numpy(gaussian(n, k, like=like, **({"seed": 0} | which)))


def test_seed_is_the_same_matrix_on_every_library(backend, dtype):
    """Apart from the last places of a logarithm and a cosine."""
    reference = gaussian(
        500, 7, like=np.zeros(1, "complex128" if "c" in dtype else "float64"), seed=3
    )
    assert_within(draw(backend, dtype, seed=3), reference, dtype=dtype, size=1, scale=6.0, units=8)


@pytest.mark.numpy_only
def test_seed_is_the_same_matrix_in_every_version():
    """What a seed stands for is never changed."""
    Omega = gaussian(2, 3, like=np.zeros(1), seed=0)
    expected = [[-0.233909385, 1.222791989, -1.069102592], [0.626502291, -0.05434461, -0.442016192]]
    assert_within(Omega, expected, dtype="float32", size=1)


def test_wider_matrix_begins_with_the_narrower(backend, dtype):
    """An entry depends on its place, not on the shape."""
    assert_within(
        draw(backend, dtype, 20, 8)[:11, :5], draw(backend, dtype, 11, 5), dtype=dtype, size=0
    )


def test_entries_are_normal_and_independent(backend, dtype):
    """Columns, rows, seeds and streams have nothing in common; moments are those of a normal."""
    n = 4096
    columns = [draw(backend, dtype, n, 16)]
    columns += [draw(backend, dtype, n, 4, seed=seed) for seed in (1, -1, 2**31, 2**40)]
    columns += [draw(backend, dtype, n, 4, stream=stream) for stream in (1, 2, 2**20)]
    columns += [draw(backend, dtype, n + shift, 4)[shift:] for shift in (1, 2, 64)]
    G = np.concatenate(columns, axis=1)
    correlation = np.abs(G.conj().T @ G / n - np.eye(G.shape[1]))
    assert np.max(correlation) < 6 / np.sqrt(n)
    if not np.iscomplexobj(G):
        assert abs(np.mean(G)) < 5 / np.sqrt(G.size)
        assert abs(np.mean(G**4) - 3) < 5 * np.sqrt(96 / G.size)
    S = np.linalg.svd(columns[0], compute_uv=False)
    assert np.all(np.abs(S - np.sqrt(n)) < 8)


@pytest.mark.needs("jit")
def test_jitted_matrix_is_the_eager_one(backend, dtype):
    """Tracing changes nothing."""
    like = backend.asarray(np.zeros((1, 1)), dtype)
    jitted = backend.jit(lambda A: gaussian(30, 5, like=A, seed=9))(like)
    assert_within(
        backend.to_numpy(jitted), draw(backend, dtype, 30, 5, seed=9), dtype=dtype, size=1, units=32
    )


@pytest.mark.needs("vmap")
def test_mapped_matrix_is_the_eager_one(backend, dtype):
    """Each matrix of a stack is given the same."""
    stack = backend.asarray(np.zeros((3, 2, 2)), dtype)
    mapped = backend.vmap(lambda A: A[0, 0] + gaussian(30, 5, like=A, seed=9))(stack)
    expected = np.stack([draw(backend, dtype, 30, 5, seed=9)] * 3)
    assert_within(backend.to_numpy(mapped), expected, dtype=dtype, size=1, units=32)


def test_seed_must_be_an_integer(backend):
    """A TypeError that says so."""
    A = backend.asarray(np.eye(3), "float32")
    with pytest.raises(TypeError, match="`seed` must be an integer"):
        eckart.truncated_svd(A, 1, seed=0.5)
