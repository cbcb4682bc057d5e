"""What a truncated SVD costs on a GPU and how exact it is, beside what the libraries have there."""

from __future__ import annotations

from typing import Any

import cases
import command
import cupy
import jax
import peers
import torch
from cases import Sizes
from command import Work
from comparison import compare, described
from peers import Library, Peer, Triplets
from report import DOCS, METHOD, Report, Table

import eckart

WAITING = """\
Products of JAX
are set to full precision. Arrays are on the GPU before the clock starts, and every call is waited
for."""

# The default of JAX on these cards, TF32, would make its product the cheaper unit by its errors.
jax.config.update("jax_default_matmul_precision", "highest")


def cupy_wait(arrays: Any) -> Any:
    """What CuPy computes, when it is there."""
    cupy.cuda.get_current_stream().synchronize()
    return arrays


def cupy_full(A: Any, rank: int) -> Triplets:
    """The gesvd of cuSOLVER, as CuPy calls it."""
    return cupy.linalg.svd(A, full_matrices=False)


def torch_gesvda(A: Any, rank: int) -> Triplets:
    """The way of cuSOLVER with tall matrices, as PyTorch calls it."""
    return torch.linalg.svd(A, full_matrices=False, driver="gesvda")


peers.LIBRARIES["cupy"] = Library(cupy.asarray, cupy_wait, cupy.stack, cupy.asnumpy)

FULL = (
    Peer("torch.linalg.svd", "torch-cuda", peers.torch_full, full=True),
    peers.JAX_FULL,
    Peer("cupy.linalg.svd", "cupy", cupy_full, full=True),
)
LOWRANK = (
    Peer("torch.svd_lowrank, niter=2", "torch-cuda", peers.svd_lowrank(2)),
    Peer("torch.svd_lowrank, niter=8", "torch-cuda", peers.svd_lowrank(8)),
)
ECKART = (
    Peer("eckart on PyTorch", "torch-cuda", eckart.truncated_svd),
    peers.ECKART_JITTED,
    Peer("eckart on CuPy", "cupy", eckart.truncated_svd),
)
ALL = (*FULL, *LOWRANK, *ECKART)
TALL = (Peer("torch.linalg.svd, gesvda", "torch-cuda", torch_gesvda, full=True), *ALL)
STACK = (*FULL, *ECKART)


def power(sizes: Sizes) -> list[Table]:
    """Compare all on singular values 1/j."""
    case = cases.power(sizes.square, sizes.rank)
    return [compare(f"1/j: {described(case)}", case, ALL)]


def double(sizes: Sizes) -> list[Table]:
    """Compare in double precision."""
    jax.config.update("jax_enable_x64", True)
    case = cases.power(sizes.square, sizes.rank, "float64")
    return [compare(f"1/j: {described(case)}", case, ALL)]


def large(sizes: Sizes) -> list[Table]:
    """Compare on sides twice as long."""
    case = cases.power(2 * sizes.square, sizes.rank)
    return [compare(f"1/j: {described(case)}", case, (*LOWRANK, *ECKART))]


def tall(sizes: Sizes) -> list[Table]:
    """Compare on many rows and few columns."""
    case = cases.tall(sizes.tall[-1], sizes.tall_rank)
    title = f"1/sqrt(j), error of S over S[0]: {described(case)}"
    return [compare(title, case, TALL, of_largest=True)]


def stack(sizes: Sizes) -> list[Table]:
    """Compare on a stack."""
    case = cases.stack(*sizes.stack, sizes.stack_rank)
    return [compare(f"1/j: {described(case)}", case, STACK)]


WORKS = {
    "power": Work("A power law", power),
    "tall": Work("A tall matrix", tall),
    "stack": Work("A stack", stack),
    "double": Work("Double precision", double),
    "large": Work("A larger matrix", large),
}
REPORT = Report(
    path=DOCS / "benchmarks-gpu.md",
    title="Benchmarks on a GPU",
    introduction=f"{METHOD} {WAITING}",
    machine={
        "GPU": torch.cuda.get_device_name(),
        "CUDA": f"{torch.version.cuda} (PyTorch), {cupy.cuda.runtime.runtimeGetVersion()} (CuPy)",
    },
    packages=("eckart", "numpy", "array-api-compat", "torch", "jax", "jaxlib", "cupy-cuda13x"),
)

if __name__ == "__main__":
    command.main(__doc__, WORKS, REPORT)
