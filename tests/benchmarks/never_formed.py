"""Matrices that are never formed: sums of factors, sparse ones, and one on a disk."""

from __future__ import annotations

import functools
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.array as da
import distributed
import measure
import numpy as np
import peers
import scipy.fft
import scipy.sparse
import torch
from cases import Sizes
from report import Table

import eckart

# Columns of the matrix on the disk, and rows of a chunk.
COLUMNS, CHUNK = 3000, 10_000


def factors(sizes: Sizes) -> list[Table]:
    """Merge two LowRanks and cut the sum back, by factors and by the sum itself."""
    n, r, rank = sizes.square, 3 * sizes.rank // 4, sizes.rank // 2
    rng = np.random.default_rng(0)
    parts = [rng.standard_normal(shape) for shape in ((n, r), (r, n)) * 2]
    title = f"Two LowRanks {n}×{n} float64 of rank {r}, merged and cut to {rank}"
    table = Table(title, ["", "time (s)", "S against the first, over S[0]"])
    first = None
    for library in "numpy", "torch":
        arrays = [peers.LIBRARIES[library].array(part) for part in parts]
        for name, way in merges(library, arrays, rank).items():
            once = "linalg" in name
            if not once:
                way()
            seconds, found = measure.fastest(way, 1 if once else 3)
            S = measure.double(found[1])[:rank]
            first = S if first is None else first
            table.add(name, seconds, float(np.max(np.abs(S - first)) / first[0]))
    return [table]


def merges(library: str, arrays: list[Any], rank: int) -> dict[str, Callable[[], Any]]:
    """The ways to the truncation of ``B @ A + D @ C``."""
    B, A, D, C = arrays
    one, other = eckart.LowRank(B, A), eckart.LowRank(D, C)
    ways: dict[str, Callable[[], Any]] = {
        f"eckart on {library}, factors": lambda: eckart.truncated_svd(eckart.add(one, other), rank),
        f"eckart on {library}, the sum": lambda: eckart.truncated_svd(B @ A + D @ C, rank),
    }
    if library == "torch":
        ways["torch.linalg.svd of the sum"] = lambda: torch.linalg.svd(
            B @ A + D @ C, full_matrices=False
        )
    return ways


def sparse(sizes: Sizes) -> list[Table]:
    """Compare with SciPy on a matrix like counts of words in documents."""
    (m, n), rank = sizes.sparse, sizes.rank // 2
    rng = np.random.default_rng(0)
    popularity = 1 / np.arange(1, n + 1) ** 0.8
    words = rng.choice(n, size=130 * m, p=popularity / popularity.sum())
    rows = np.repeat(np.arange(m), 130)
    A = scipy.sparse.coo_array((rng.exponential(size=len(rows)), (rows, words)), shape=(m, n))
    A = A.tocsr()
    title = f"scipy.sparse {m}×{n}, {A.nnz} nonzeros, rank {rank}"
    table = Table(title, ["", "time (s)", "residual / S[0]"])
    tight = functools.partial(eckart.truncated_svd, A, rank, accuracy=1e-14)
    extended = A.astype(np.longdouble)  # whose own rounding does not count
    for name, way in {
        "scipy.sparse.linalg.svds": lambda: scipy.sparse.linalg.svds(A, rank),
        "eckart.truncated_svd": lambda: eckart.truncated_svd(A, rank),
        "the same, accuracy=1e-14": tight,
    }.items():
        seconds, (U, S, Vh) = measure.fastest(way, 1)
        right, left = extended @ Vh.T - U * S, extended.T @ U - Vh.T * S
        worst = max(np.sum(side * side, axis=0).max() for side in (right, left))
        table.add(name, seconds, float(np.sqrt(worst)) / S.max())
    table.note("The larger residual of either side, of the worst triplet, in extended precision.")
    return [table]


class File:
    """A file of rows in single precision; it counts how many were read."""

    ndim, dtype = 2, np.dtype(np.float32)

    def __init__(self, path: Path, rows: int) -> None:
        self.path, self.shape = path, (rows, COLUMNS)
        self.rows_read, self.lock = 0, threading.Lock()

    def __reduce__(self) -> Any:
        return File, (self.path, self.shape[0])  # each process has a lock of its own

    def __getitem__(self, key: Any) -> Any:
        start, stop, _ = key[0].indices(self.shape[0])
        with self.lock:
            self.rows_read += stop - start
        count = (stop - start) * COLUMNS
        rows = np.fromfile(self.path, self.dtype, count, offset=4 * COLUMNS * start)
        return rows.reshape(-1, COLUMNS)[:, key[1]]


def write(path: Path, m: int) -> None:
    """Singular values 1/j: cosines on the left, cosines with random signs on the right."""
    S = 1 / np.arange(1, COLUMNS + 1)
    signs = np.random.default_rng(0).choice([-1.0, 1.0], COLUMNS)
    scale = (signs * S * np.sqrt(2 / m)).astype(np.float32)
    frequencies = np.arange(1, COLUMNS + 1) * (np.pi / m)
    with path.open("wb") as file:
        for start in range(0, m, CHUNK):
            rows = np.arange(start, start + CHUNK)[:, None] + 0.5
            block = np.cos(rows * frequencies).astype(np.float32) * scale
            file.write(scipy.fft.dct(block, axis=1, norm="ortho", workers=-1).tobytes())


def decomposed(way: str, path: Path, m: int, rank: int) -> tuple[float, float, float, float]:
    """Seconds, readings, peak memory in GB and error of S, in a process of its own."""
    source = File(path, m)
    A = da.from_array(source, chunks=(CHUNK, COLUMNS))
    source.rows_read = 0
    start = time.perf_counter()
    if way == "eckart":
        S = eckart.truncated_svd(A, rank).S
    else:
        iterator, powers = way.split()
        columns = {"n_oversamples": rank}  # as many as eckart's blocks have
        found = da.linalg.svd_compressed(
            *(A, rank, iterator, int(powers)), **columns, compute=True, seed=0
        )
        _, S, _ = da.compute(*found)
    seconds = time.perf_counter() - start
    error = np.max(np.abs(S * np.arange(1, rank + 1) - 1))
    return seconds, source.rows_read / m, measure.memory("VmHWM") / 1e9, float(error)


def on_disk(sizes: Sizes) -> list[Table]:
    """Compare with Dask's own randomised SVD on a file."""
    m, rank = sizes.disk, sizes.rank // 2
    columns = ["", "time (s)", "readings", "peak memory (GB)", "error of S"]
    table = Table(f"1/j on a disk: {m}×{COLUMNS} float32, rank {rank}, threads", columns)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "matrix.f32"
        write(path, m)
        for way in "eckart", "power 3", "QR 2", "QR 3", "QR 4":
            name = "eckart.truncated_svd" if way == "eckart" else f"svd_compressed, {way} steps"
            table.add(name, *measure.fresh(decomposed, way, path, m, rank))
    table.note(
        f"A file of {4e-9 * m * COLUMNS:.3g} GB in chunks of {4e-6 * CHUNK * COLUMNS:.0f} MB. U is "
        "computed too. svd_compressed is called with compute=True, as its documentation says for "
        "matrices larger than memory, and with as many columns as eckart's blocks have."
    )
    return [table]


def shared_out(workers: int, path: Path, m: int, rank: int) -> tuple[float, float, float]:
    """Seconds, readings and megabytes exchanged on a cluster of processes of one thread."""
    with (
        distributed.LocalCluster(
            n_workers=workers, threads_per_worker=1, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        A = da.from_array(File(path, m), chunks=(CHUNK, COLUMNS), name="matrix")
        start = time.perf_counter()
        eckart.truncated_svd(A, rank)
        seconds = time.perf_counter() - start
        sent = client.run(lambda dask_worker: dask_worker.transfer_outgoing_bytes_total)
    source = File(path, m)
    A = da.from_array(source, chunks=(CHUNK, COLUMNS))
    source.rows_read = 0
    eckart.truncated_svd(A, rank)
    return seconds, source.rows_read / m, sum(sent.values()) / 1e6


def workers(sizes: Sizes) -> list[Table]:
    """Follow the time and what is exchanged over the number of workers."""
    m, rank = sizes.disk // 5, sizes.rank // 2
    columns = ["", "time (s)", "readings", "seconds a reading", "sent (MB)", "at most (MB)"]
    table = Table(f"{m}×{COLUMNS} float32, rank {rank}, on processes of one thread", columns)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "matrix.f32"
        write(path, m)
        for count in 1, 2, 4:
            seconds, readings, sent = measure.fresh(shared_out, count, path, m, rank)
            sums = (readings - 1) * 8 * COLUMNS * max(32, 2 * rank)
            most = sums if count == 1 else sums * (1 + m / CHUNK) + 4 * m * (rank + 8)
            table.add(
                f"{count} worker{'s' * (count > 1)}",
                seconds,
                readings,
                seconds / readings,
                sent,
                most / 1e6,
            )
    table.note(
        "Sent is what the workers say they sent, to each other and to the client; at most, what it "
        "would be if every strip's results were joined on another worker."
    )
    return [table]
