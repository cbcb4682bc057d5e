"""Gradients of a truncated reconstruction, beside those of the libraries' own functions."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch
from cases import Sizes
from overhead import paired_ratio
from report import Table

import eckart

sys.path.append(str(Path(__file__).parents[1]))

import zoo

SHAPE, RANK = (300, 250), 5


class Work(NamedTuple):
    """A matrix, its singular values and the rank to truncate at."""

    A: Any
    S: Any
    rank: int


def spectra() -> dict[str, Work]:
    """The cases of the table of accuracy."""
    k = min(SHAPE)
    power = 1.0 / np.arange(1, k + 1)
    spectrum = {
        "distinct": power,
        "repeated kept": np.concatenate([np.full(3, 2.0), power[:-3]]),
        "repeated dropped": np.concatenate([power[:RANK], np.full(k - RANK, 0.1)]),
        "zeros dropped": np.where(np.arange(k) < RANK, power, 0.0),
        "zeros kept": np.where(np.arange(k) < RANK, power, 0.0),
        "identity": np.ones(k),
    }
    whole = ("zeros kept", "identity")
    works = {
        name: Work(zoo.matrix(S, SHAPE, dtype="float64"), S, k if name in whole else RANK)
        for name, S in spectrum.items()
    }
    distinct = works["distinct"]
    works["wide"] = distinct._replace(A=distinct.A.T.copy())
    works["complex"] = distinct._replace(A=zoo.matrix(power, SHAPE, dtype="complex128"))
    for label, scale in ("float32", 1.0), ("float32, 1e20", 1e20), ("float32, 1e-20", 1e-20):
        A = zoo.rounded(distinct.A * scale, "float32")
        works[label] = Work(A, np.linalg.svd(A, compute_uv=False), RANK)
    works["repeated kept, float32"] = works["repeated kept"]._replace(
        A=zoo.rounded(works["repeated kept"].A, "float32")
    )
    return works


def torch_svd(A: Any, rank: int) -> Any:
    """The reconstruction by PyTorch's full SVD."""
    U, S, Vh = torch.linalg.svd(A, full_matrices=False)
    return (U[:, :rank] * S[:rank]) @ Vh[:rank]


def torch_lowrank(A: Any, rank: int) -> Any:
    """The reconstruction by PyTorch's randomised SVD."""
    torch.manual_seed(0)
    U, S, V = torch.svd_lowrank(A, min(rank + 6, *A.shape), niter=2)
    return (U[:, :rank] * S[:rank]) @ V[:, :rank].mH


def jax_svd(A: Any, rank: int) -> Any:
    """The reconstruction by JAX's full SVD."""
    U, S, Vh = jnp.linalg.svd(A, full_matrices=False)
    return (U[:, :rank] * S[:rank]) @ Vh[:rank]


def ours(method: str) -> Callable[[Any, int], Any]:
    """The reconstruction by eckart's factors."""
    return lambda A, rank: eckart.reconstruct(eckart.factorize(A, rank, method=method))


def our_triplets(A: Any, rank: int) -> Any:
    """The reconstruction by eckart's triplets."""
    return eckart.reconstruct(eckart.truncated_svd(A, rank))


def by_torch(function: Callable[[Any, int], Any], A: Any, W: Any, rank: int) -> Any:
    """Gradient of ``Re sum(conj(W) * function(A))`` on PyTorch."""
    leaf = torch.tensor(A, requires_grad=True)
    (torch.tensor(W).conj() * function(leaf, rank)).sum().real.backward()
    return leaf.grad.numpy()


def by_jax(function: Callable[[Any, int], Any], A: Any, W: Any, rank: int) -> Any:
    """The same on JAX, jitted."""

    def loss(A: Any) -> Any:
        return jnp.sum(jnp.conj(jnp.asarray(W)) * function(A, rank)).real

    return np.conj(np.asarray(jax.jit(jax.grad(loss))(jnp.asarray(A))))


ROWS: tuple[tuple[str, Callable[..., Any], Callable[..., Any]], ...] = (
    ("torch.linalg.svd", by_torch, torch_svd),
    ("torch.svd_lowrank, niter=2", by_torch, torch_lowrank),
    ("jax.numpy.linalg.svd", by_jax, jax_svd),
    ("eckart.factorize on PyTorch", by_torch, ours("auto")),
    ('the same, "krylov"', by_torch, ours("krylov")),
    ("eckart.truncated_svd on PyTorch", by_torch, our_triplets),
    ("eckart.factorize on JAX", by_jax, ours("auto")),
    ("eckart.truncated_svd on JAX", by_jax, our_triplets),
)


def accuracy(_: Sizes) -> list[Table]:
    """Relative error of every gradient in every case."""
    jax.config.update("jax_enable_x64", True)
    works = spectra()
    title = f"Relative error of the gradient of sum(W * A_r), {SHAPE[0]}×{SHAPE[1]}, rank {RANK}"
    table = Table(title, ["", *works])
    for label, differentiate, function in ROWS:
        cells = []
        for name, (A, S, rank) in works.items():
            kind = "complex128" if np.iscomplexobj(A) else "float32" if "32" in name else "float64"
            W = np.random.default_rng(1).standard_normal(A.shape).astype(kind)
            expected = zoo.truncation_derivative(A, S, rank, W)
            try:
                G = differentiate(function, A.astype(kind), W, rank)
            except RuntimeError:
                cells.append("refused")
                continue
            error = np.linalg.norm(G - expected) / np.linalg.norm(expected)
            cells.append(float(error) if math.isfinite(error) else "NaN")
        table.add(label, *cells)
    table.note(
        "float64 unless it says otherwise; the rank is that of the matrix's short side where zeros "
        'are kept and for the identity, for which "krylov" gives way to the full SVD. The truth is '
        "the closed form in float64."
    )
    return [table]


def timed(function: Callable[[Any, int], Any], A: Any, rank: int, calls: int) -> list[float]:
    """Seconds forward, seconds backward, and megabytes kept in between beside the matrix."""
    best = [math.inf, math.inf]
    for _ in range(calls):
        leaf = A.clone().requires_grad_()
        kept: dict[int, int] = {}

        def keep(tensor: Any, kept: dict[int, int] = kept) -> Any:
            storage = tensor.untyped_storage()
            kept[storage.data_ptr()] = storage.nbytes()
            return tensor

        start = time.perf_counter()
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            Y = function(leaf, rank)
        middle = time.perf_counter()
        Y.backward(torch.ones_like(Y))
        end = time.perf_counter()
        best = [min(best[0], middle - start), min(best[1], end - middle)]
        kept.pop(leaf.untyped_storage().data_ptr(), None)
    return [*best, sum(kept.values()) / 1e6]


def cost(sizes: Sizes) -> list[Table]:
    """Seconds forward and backward on PyTorch."""
    tables = []
    for n in sizes.gradients:
        rank = 32 if n > 100 else 4
        A = torch.tensor(zoo.matrix(1.0 / np.arange(1, n + 1), (n, n), dtype="float32"))
        A = A.to(torch.float32)
        table = Table(
            f"Reconstruction at rank {rank} of {n}×{n} float32, 1/j",
            ["", "forward (s)", "backward (s)", "kept (MB)"],
        )
        rows: dict[str, Callable[[Any, int], Any]] = {
            "torch.linalg.svd": torch_svd,
            "torch.svd_lowrank, niter=2": torch_lowrank,
            'eckart.factorize, "exact"': ours("exact"),
            'eckart.factorize, "krylov"': ours("krylov"),
        }
        for label, function in rows.items():
            slow = n >= 2048 and ("svd" in label or "exact" in label) and "lowrank" not in label
            table.add(label, *timed(function, A, rank, 1 if slow else 3))
        table.note(
            "Backward from the sum of the entries. Kept is what PyTorch saves beside the matrix."
        )
        tables.append(table)
    n = sizes.gradients[0] // 2
    A = torch.randn(n, n, dtype=torch.float64)
    leaf = A.clone().requires_grad_()
    ratios = [
        paired_ratio(
            lambda rank=rank: eckart.truncated_svd(leaf, rank),
            lambda rank=rank: eckart.truncated_svd(A, rank),
            1,
        )
        for rank in (8, n // 4, n)
    ]
    ranks = f"ranks 8, {n // 4} and {n}"
    tables[-1].note(
        f"The same call forward over that without a derivative, {n}×{n} float64, {ranks}: "
        + ", ".join(f"{ratio:.2f}" for ratio in ratios)
        + "."
    )
    return tables
