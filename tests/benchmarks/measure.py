"""Time, accuracy and memory of one call."""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import tempfile
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import cases
import numpy as np
import peers
from cases import Case
from peers import Peer

# From this size on a full SVD is called once, after a small one.
LARGE = 2048
# Columns beyond the rank in the product that is the unit of time.
SPARE = 10


class Timing(NamedTuple):
    """Seconds of a call and of one product ``A @ Omega``, the result, and the warnings."""

    seconds: float
    unit: float
    result: Any
    warnings: list[str]

    @property
    def units(self) -> float:
        """Time of the call in products."""
        return self.seconds / self.unit


def fastest(call: Callable[[], Any], calls: int) -> tuple[float, Any]:
    """Shortest time of several calls, and the last result."""
    times = []
    for _ in range(calls):
        start = time.perf_counter()
        result = call()
        times.append(time.perf_counter() - start)
    return min(times), result


def product(A: Any, rank: int, library: str) -> Callable[[], Any]:
    """The product with a thin matrix in the same library, the unit of time."""
    shape = (*A.shape[:-2], A.shape[-1], rank + SPARE)
    Omega = np.random.default_rng(0).standard_normal(shape).astype(dtype_name(A))
    array, wait = peers.LIBRARIES[library].array, peers.LIBRARIES[library].wait
    Omega = array(Omega)
    return lambda: wait(A @ Omega)


def dtype_name(A: Any) -> str:
    """Name of the dtype, without the library in front of it."""
    return str(A.dtype).removeprefix("torch.")


def timed(peer: Peer, A: Any, rank: int) -> Timing:
    """Time a call on an array of the peer's library, between two measurements of the unit."""
    call, unit = peer.prepared(A, rank), product(A, rank, peer.library)
    if peer.full and min(A.shape[-2:]) >= LARGE:
        timing = timed_call(call, unit, warm_up=small(peer), calls=1)
    else:
        timing = timed_call(call, unit)
    host = peers.LIBRARIES[peer.library].host
    return timing._replace(result=tuple(map(host, timing.result)))


def small(peer: Peer) -> Callable[[], Any]:
    """The call on a small matrix, which loads the code at least."""
    case = cases.power(LARGE // 4, 16)
    return peer.prepared(peers.LIBRARIES[peer.library].array(case.A), case.rank)


def timed_call(
    call: Callable[[], Any],
    unit: Callable[[], Any],
    *,
    warm_up: Callable[[], Any] | None = None,
    calls: int = 3,
) -> Timing:
    """Best of several calls after a warm-up."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", RuntimeWarning)
        (warm_up or call)()
    unit()
    before, _ = fastest(unit, 10)
    with warnings.catch_warnings(record=True) as again:
        warnings.simplefilter("always", RuntimeWarning)
        seconds, result = fastest(call, calls)
    after, _ = fastest(unit, 10)
    messages = dict.fromkeys(str(one.message) for one in [*caught, *again])
    return Timing(seconds, min(before, after), result, list(messages))


def sigma_error(case: Case, result: Any, *, of_largest: bool = False) -> float:
    """Largest relative error of the singular values, or error in units of the largest."""
    S = case.S[: case.rank]
    difference = np.abs(double(result[1])[..., : case.rank] - S)
    return float(np.max(difference / (S[0] if of_largest else S)))


def excess(case: Case, result: Any) -> float:
    """Frobenius error over that of the best approximation, minus one; the worst of a stack."""
    return max(errors(case, result)) / case.best - 1


def errors(case: Case, result: Any) -> list[float]:
    """Frobenius error of every matrix of a stack, in float64."""
    U, S, Vh = map(double, result)
    k, (m, n) = case.rank, case.A.shape[-2:]
    B = (U[..., :k] * S[..., None, :k]).reshape(-1, m, k)
    C = Vh[..., :k, :].reshape(-1, k, n)
    return [frobenius_error(*one) for one in zip(case.A.reshape(-1, m, n), B, C, strict=True)]


def frobenius_error(A: Any, B: Any, C: Any) -> float:
    """Frobenius norm of ``A - B @ C`` in float64, a few rows at a time."""
    rows = [slice(i, i + 512) for i in range(0, len(A), 512)]
    return float(np.linalg.norm([np.linalg.norm(A[part] - B[part] @ C) for part in rows]))


def double(array: Any) -> Any:
    """A NumPy array in float64."""
    return np.asarray(array).astype(np.float64)


def fresh(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function returns in a process of its own."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as executor:
        return executor.submit(function, *arguments).result()


def extra_memory(peer: Peer, case: Case) -> int:
    """Bytes that a call adds at its peak, measured in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "A.npy"
        np.save(path, case.A)
        return int(fresh(_extra_memory, peer.name, path, case.rank))


def _extra_memory(name: str, path: Path, rank: int) -> int:
    """The measurement, to be run in a fresh process."""
    (peer,) = (peer for peer in peers.ALL if peer.name == name)
    array = peers.LIBRARIES[peer.library].array
    call = peer.prepared(array(np.load(path)), rank)
    # A full SVD would take a minute; of the others the first call also compiles and loads code.
    (small(peer) if peer.full else call)()
    gc.collect()
    # What the warm-up has freed must not serve the call unseen.
    ctypes.CDLL(None).malloc_trim(0)
    with suppress(PermissionError):
        Path("/proc/self/clear_refs").write_text("5")  # sets VmHWM back to VmRSS
    before = memory("VmRSS")
    call()
    return memory("VmHWM") - before


def memory(field: str) -> int:
    """A line of what Linux says about the memory of this process, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith(field + ":"))
    return 1024 * int(line.split()[1])
