"""What a truncated SVD costs and how exact it is, beside the functions of other libraries."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import cases
import command
import gradients
import jax
import measure
import never_formed
import numpy as np
import peers
import scipy.linalg
import threadpoolctl
import torch
from cases import Case, Sizes
from command import Work
from comparison import COLUMNS, compare, described, numbers
from overhead import paired_ratio
from report import DOCS, METHOD, Report, Table

import eckart

MEMORY = """\
**Memory** is what a call added to the resident memory at its peak,
results included, in a process of its own that had made the call before (a full SVD: that of a
small matrix). All libraries run with their default numbers of threads."""
PACKAGES = (
    *("eckart", "numpy", "array-api-compat", "torch", "jax", "jaxlib"),
    *("scipy", "scikit-learn", "tensorly", "dask"),
)


def power(sizes: Sizes) -> list[Table]:
    """Compare all on singular values 1/j, memory too."""
    case = cases.power(sizes.square, sizes.rank)
    measured = (peers.NUMPY_FULL, *peers.ONE_FULL)
    return [compare(f"1/j: {described(case)}", case, peers.ALL, measured=measured)]


def spikes(sizes: Sizes) -> list[Table]:
    """Compare all on spikes above a bulk."""
    case = cases.spikes(sizes.square, sizes.rank)
    return [compare(f"Bulk and spikes: {described(case)}", case, peers.ALL)]


def flat(sizes: Sizes) -> list[Table]:
    """Compare on a flat tail, and ask for certificates."""
    case = cases.flat(sizes.square, sizes.rank)
    title = f"{np.sum(case.S == 1)} values at 1, the others at 0.01: {described(case)}"
    return [compare(title, case, peers.ONE_FULL), certificates(case)]


def double(sizes: Sizes) -> list[Table]:
    """Compare in double precision."""
    jax.config.update("jax_enable_x64", True)
    tables = []
    for name, make in ("1/j", cases.power), ("Bulk and spikes", cases.spikes):
        case = make(sizes.square, sizes.rank, "float64")
        tables.append(compare(f"{name}: {described(case)}", case, peers.ONE_FULL))
    return tables


def tall(sizes: Sizes) -> list[Table]:
    """Compare on many rows and few columns."""
    tables = []
    for shape in sizes.tall:
        case = cases.tall(shape, sizes.tall_rank)
        title = f"1/sqrt(j), error of S over S[0]: {described(case)}"
        tables.append(compare(title, case, peers.TALL, of_largest=True))
    return tables


def stack(sizes: Sizes) -> list[Table]:
    """Compare one call on a stack with a loop and with the library's own."""
    case = cases.stack(*sizes.stack, sizes.stack_rank)
    return [compare(f"1/j: {described(case)}", case, peers.STACK)]


def growth(sizes: Sizes) -> list[Table]:
    """Follow time and memory of eckart on NumPy over the size."""
    columns = [*COLUMNS, "memory (MB)", "memory / ((m + n) rank)"]
    table = Table(f"1/j: float32, rank {sizes.rank}, eckart on NumPy", columns)
    timings = []
    for n in sizes.growth:
        case = cases.power(n, sizes.rank)
        timing = measure.timed(peers.ECKART_NUMPY, case.A, case.rank)
        memory = measure.extra_memory(peers.ECKART_NUMPY, case)
        entries = memory / (case.A.itemsize * 2 * n * case.rank)
        table.add(f"{n}×{n}", *numbers(case, timing), memory / 1e6, entries)
        timings.append((timing.seconds, timing.unit))
    call, unit = np.polyfit(np.log(sizes.growth), np.log(timings), 1)[0]
    table.note(f"The time grows like n^{call:.2f}, that of the product like n^{unit:.2f}.")
    return [table]


def choice(sizes: Sizes) -> list[Table]:
    """Compare "auto" with the full SVD on small and on narrow matrices."""
    ranks = ["1", "8", "k // 8", "k // 2", "k"]
    table = Table("Time of auto over that of exact, k = min(m, n)", ["", *ranks])
    rows = [
        (library, dtype, shape)
        for library in ("numpy", "torch")
        for dtype in ("float32", "float64")
        for shape in sizes.choice
    ]
    for library, dtype, shape in rows:
        A = peers.LIBRARIES[library].array(gaussian(shape, dtype))
        k = min(shape)
        ratios = [auto_over_exact(A, rank) for rank in (1, 8, k // 8, k // 2, k)]
        table.add(f"{library} {dtype} {shape[0]}×{shape[1]}", *(f"{ratio:.2f}" for ratio in ratios))
    table.note("Medians of fifteen turns in alternation. The matrices have Gaussian entries.")
    return [table]


WORKS = {
    "power": Work("A power law", power),
    "spikes": Work("A bulk and spikes", spikes),
    "flat": Work("A flat tail", flat),
    "double": Work("Double precision", double),
    "tall": Work("Tall matrices", tall),
    "stack": Work("A stack", stack),
    "growth": Work("Growth with the size", growth),
    "gradients": Work("Gradients of a truncated reconstruction", gradients.accuracy),
    "backward": Work("The cost of a gradient", gradients.cost),
    "factors": Work("Sums of factors", never_formed.factors),
    "sparse": Work("Sparse matrices", never_formed.sparse),
    "disk": Work("A matrix on a disk", never_formed.on_disk),
    "workers": Work("A matrix shared out to workers", never_formed.workers),
    "choice": Work('The choice of `method="auto"`', choice),
}


def certificates(case: Case) -> Table:
    """What `certify` says of eckart's factors, beside the truth in float64."""
    pairs = ["error", "true error", "spectral", "true spectral", "excess", "true excess"]
    title = "The certificate: Frobenius error, bound of the spectral error, bound of the excess"
    table = Table(title, ["", "time (s)", "units", *pairs])
    for peer in peers.ECKART_NUMPY, peers.ECKART_TORCH, peers.ECKART_JAX:
        A = peers.LIBRARIES[peer.library].array(case.A)
        factors = eckart.truncated_svd(A, case.rank)
        unit = measure.product(A, case.rank, peer.library)
        timing = measure.timed_call(lambda A=A, factors=factors: eckart.certify(A, factors), unit)
        told = timing.result
        (error,) = measure.errors(case, factors)
        spectral = spectral_error(case, factors)
        bounds = zip(
            (told.error, told.spectral_error, told.excess),
            (error, spectral, error - case.best),
            strict=True,
        )
        cells = [float(value) for pair in bounds for value in pair]
        table.add(peer.name, timing.seconds, timing.units, *cells)
    return table


def spectral_error(case: Case, factors: eckart.SVD) -> float:
    """Spectral norm of the remainder in float64."""
    U, S, Vh = map(measure.double, factors)
    R = case.A - (U * S) @ Vh
    last = len(R) - 1
    largest = scipy.linalg.eigh(R.T @ R, eigvals_only=True, subset_by_index=[last, last])
    return float(np.sqrt(largest[0]))


def gaussian(shape: tuple[int, int], dtype: str) -> Any:
    """A matrix whose singular values decay slowly."""
    return np.random.default_rng(0).standard_normal(shape).astype(dtype)


def auto_over_exact(A: Any, rank: int) -> float:
    """Paired ratio of the times of the two methods, on a few milliseconds a turn."""

    def auto() -> object:
        return eckart.truncated_svd(A, rank)

    def exact() -> object:
        return eckart.truncated_svd(A, rank, method="exact")

    seconds, _ = measure.fastest(exact, 2)
    return paired_ratio(auto, exact, max(1, round(0.005 / seconds)))


def processor() -> str:
    """Name of the processor."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return next(iter(names), platform.processor() or platform.machine())


def threads() -> str:
    """Threads that PyTorch and the BLAS libraries use."""
    blas = {
        pool["num_threads"]
        for pool in threadpoolctl.threadpool_info()
        if pool["user_api"] == "blas"
    }
    return f"PyTorch {torch.get_num_threads()}, BLAS {', '.join(map(str, sorted(blas)))}"


REPORT = Report(
    path=DOCS / "benchmarks.md",
    title="Benchmarks",
    introduction=f"{METHOD} {MEMORY}",
    machine={"Processor": processor(), "Cores": str(os.cpu_count()), "Threads": threads()},
    packages=PACKAGES,
)

if __name__ == "__main__":
    command.main(__doc__, WORKS, REPORT)
