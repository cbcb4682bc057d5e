"""The functions that are compared, all called as ``svd(A, rank)``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
import scipy.sparse.linalg
import tensorly.tenalg
import torch
from sklearn.utils.extmath import randomized_svd

import eckart

Triplets = tuple[Any, Any, Any]


class Library(NamedTuple):
    """How to make an array from a NumPy array, wait for it, stack several, and copy it back."""

    array: Callable[[Any], Any]
    wait: Callable[[Any], Any]
    stack: Callable[[list[Any]], Any]
    host: Callable[[Any], Any] = np.asarray


def on_cuda(arrays: Any) -> Any:
    """What PyTorch computes on a GPU, when it is there."""
    torch.cuda.synchronize()
    return arrays


LIBRARIES = {
    "numpy": Library(np.asarray, lambda arrays: arrays, np.stack),
    "torch": Library(torch.from_numpy, lambda arrays: arrays, torch.stack),
    "torch-cuda": Library(
        lambda A: torch.from_numpy(A).cuda(), on_cuda, torch.stack, lambda array: array.cpu()
    ),
    "jax": Library(jnp.asarray, jax.block_until_ready, jnp.stack),
}


class Peer(NamedTuple):
    """A function under its name in the tables, and the library whose arrays it takes."""

    name: str
    library: str
    svd: Callable[[Any, int], Triplets]
    full: bool = False
    jitted: bool = False

    def prepared(self, A: Any, rank: int) -> Callable[[], Triplets]:
        """The call to measure, compiled if it is jitted."""
        wait = LIBRARIES[self.library].wait
        if not self.jitted:
            return lambda: wait(self.svd(A, rank))
        compiled = jax.jit(lambda A: tuple(self.svd(A, rank))).lower(A).compile()
        return lambda: wait(compiled(A))


def numpy_full(A: Any, rank: int) -> Triplets:
    """LAPACK's gesdd, as NumPy calls it."""
    return np.linalg.svd(A, full_matrices=False)


def scipy_full(A: Any, rank: int) -> Triplets:
    """LAPACK's gesdd, as SciPy calls it."""
    return scipy.linalg.svd(A, full_matrices=False, lapack_driver="gesdd")


def torch_full(A: Any, rank: int) -> Triplets:
    """LAPACK's gesdd, as PyTorch calls it."""
    return torch.linalg.svd(A, full_matrices=False)


def jax_full(A: Any, rank: int) -> Triplets:
    """LAPACK's gesdd, as JAX calls it."""
    return jnp.linalg.svd(A, full_matrices=False)


def sklearn_randomized(A: Any, rank: int) -> Triplets:
    """Randomised subspace iteration with the defaults of scikit-learn."""
    return randomized_svd(A, rank, random_state=0)


def tensorly_randomized(A: Any, rank: int) -> Triplets:
    """Randomised subspace iteration with the defaults of TensorLy."""
    return tensorly.tenalg.svd_interface(
        A, method="randomized_svd", n_eigenvecs=rank, random_state=0
    )


def svd_lowrank(niter: int) -> Callable[[Any, int], Triplets]:
    """Randomised subspace iteration of PyTorch, with ten columns to spare."""

    def svd(A: Any, rank: int) -> Triplets:
        torch.manual_seed(0)
        U, S, V = torch.svd_lowrank(A, q=rank + 10, niter=niter)
        return U, S, V.mH

    return svd


def svds(A: Any, rank: int) -> Triplets:
    """ARPACK's Lanczos iteration, its values put into descending order."""
    U, S, Vh = scipy.sparse.linalg.svds(A, k=rank, rng=np.random.default_rng(0))
    order = np.argsort(S)[::-1]
    return U[:, order], S[order], Vh[order]


def krylov(A: Any, rank: int) -> Triplets:
    """What a traced call has to ask for: under "auto" it takes the full SVD."""
    return eckart.truncated_svd(A, rank, method="krylov")


def loop(library: str) -> Callable[[Any, int], Triplets]:
    """One call for every matrix of a stack."""

    def svd(A: Any, rank: int) -> Triplets:
        results = [eckart.truncated_svd(A[i], rank) for i in range(A.shape[0])]
        U, S, Vh = (LIBRARIES[library].stack(arrays) for arrays in zip(*results, strict=True))
        return U, S, Vh

    return svd


NUMPY_FULL = Peer("numpy.linalg.svd", "numpy", numpy_full, full=True)
SCIPY_FULL = Peer("scipy.linalg.svd", "numpy", scipy_full, full=True)
TORCH_FULL = Peer("torch.linalg.svd", "torch", torch_full, full=True)
JAX_FULL = Peer("jax.numpy.linalg.svd, jitted", "jax", jax_full, full=True, jitted=True)
SKLEARN = Peer("sklearn randomized_svd", "numpy", sklearn_randomized)
ECKART_NUMPY = Peer("eckart on NumPy", "numpy", eckart.truncated_svd)
ECKART_TORCH = Peer("eckart on PyTorch", "torch", eckart.truncated_svd)
ECKART_JAX = Peer("eckart on JAX", "jax", eckart.truncated_svd)
ECKART_JITTED = Peer('eckart on JAX, "krylov", jitted', "jax", krylov, jitted=True)

ECKART = (ECKART_NUMPY, ECKART_TORCH, ECKART_JAX, ECKART_JITTED)
TRUNCATED = (
    SKLEARN,
    Peer("tensorly randomized_svd", "numpy", tensorly_randomized),
    Peer("scipy.sparse.linalg.svds", "numpy", svds),
    Peer("torch.svd_lowrank, niter=2", "torch", svd_lowrank(2)),
    Peer("torch.svd_lowrank, niter=8", "torch", svd_lowrank(8)),
)
ALL = (NUMPY_FULL, SCIPY_FULL, TORCH_FULL, JAX_FULL, *TRUNCATED, *ECKART)
# A full SVD of a large matrix takes a minute, so one stands for all where it says nothing new.
ONE_FULL = (TORCH_FULL, *TRUNCATED, *ECKART)
TALL = (NUMPY_FULL, TORCH_FULL, SKLEARN, ECKART_NUMPY, ECKART_TORCH)
STACK = (
    TORCH_FULL,
    Peer("eckart on PyTorch, loop", "torch", loop("torch")),
    ECKART_TORCH,
    JAX_FULL,
    Peer("eckart on JAX, loop", "jax", loop("jax")),
    ECKART_JAX,
    ECKART_JITTED,
)
