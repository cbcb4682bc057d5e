"""The derivative of a truncation whose triplets an iteration has not found exactly."""

import numpy as np
import pytest

import eckart
import zoo

pytestmark = pytest.mark.precision

RANK = 6


def case(S, dtype, seed=0):
    """A matrix with these singular values, a direction, and the derivative along it."""
    A = zoo.rounded(zoo.matrix(S, (len(S) + 20, len(S)), dtype=dtype, seed=seed), dtype)
    D = np.random.default_rng(seed).standard_normal(A.shape)
    exact = np.linalg.svd(A, compute_uv=False)
    return A, D, zoo.truncation_derivative(A, exact, RANK, D)


def gapped(n, gap):
    """A slow decay, with this gap after the values that are kept."""
    S = 1 - 0.3 * np.arange(n) / n
    return np.where(np.arange(n) < RANK, S, S - gap)


@pytest.mark.only("torch")
@pytest.mark.parametrize("gap", [1e-3, 1e-2, 1e-1])
def test_a_derivative_is_as_exact_as_its_gap_allows(backend, gap):
    """Rounding over the gap is what it may be off by, also where the values could do with less."""
    for seed in range(3):
        A, D, expected = case(gapped(300, gap), "float32", seed)
        array = backend.asarray(A, "float32").requires_grad_()
        truncated = eckart.reconstruct(eckart.truncated_svd(array, RANK, method="krylov"))
        backend.xp.sum(truncated * backend.asarray(D, "float32")).backward()
        distance = np.linalg.norm(backend.to_numpy(array.grad) - expected)
        assert distance <= (1e-3 + 2e-6 / gap) * np.linalg.norm(expected)


@pytest.mark.only("torch")
def test_a_derivative_of_what_has_not_converged_is_told(backend, monkeypatch):
    """By a warning that names the gap, where the values themselves have converged."""
    monkeypatch.setattr("eckart._algorithms.iteration.STEPS", 7)
    A, _, _ = case(gapped(300, 1e-3), "float32")
    array = backend.asarray(A, "float32").requires_grad_()
    with pytest.warns(RuntimeWarning, match="as far as a derivative needs: a residual of"):
        eckart.truncated_svd(array, RANK, method="krylov", accuracy=0.5)
    plain = backend.asarray(A, "float32")
    eckart.truncated_svd(plain, RANK, method="krylov", accuracy=0.5)  # says nothing


@pytest.mark.needs("jit")
def test_a_traced_derivative_is_right(backend, dtype):
    """The full SVD takes over from an iteration that is late; one matrix spoils no other."""
    import jax

    cases = [case(S, dtype) for S in (gapped(120, 1e-3), 0.5 ** np.arange(120.0))]
    stack, directions = (
        backend.asarray(np.stack(parts), dtype) for parts in list(zip(*cases, strict=True))[:2]
    )

    def inner(A, D):
        truncated = eckart.reconstruct(eckart.truncated_svd(A, RANK, method="krylov"))
        return backend.xp.sum(backend.xp.real(truncated * D))

    gradients = jax.jit(jax.vmap(jax.grad(inner)))(stack, directions)
    for gradient, (_, _, expected) in zip(backend.to_numpy(gradients), cases, strict=True):
        distance = np.linalg.norm(np.conj(gradient) - expected)
        assert distance <= 0.01 * np.linalg.norm(expected)
