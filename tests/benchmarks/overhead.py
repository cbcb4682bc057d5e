"""What truncated_svd costs beyond the SVD of the library itself, as ratios from one run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator

import numpy as np

import eckart


def paired_ratio(ours: Callable[[], object], theirs: Callable[[], object], calls: int) -> float:
    """Median over many short turns of the ratio of two times, taken in alternation."""

    def seconds(function: Callable[[], object]) -> float:
        start = time.perf_counter()
        for _ in range(calls):
            function()
        return time.perf_counter() - start

    seconds(ours), seconds(theirs)
    return statistics.median(seconds(ours) / seconds(theirs) for _ in range(15))


def rows() -> Iterator[tuple[str, float]]:
    """Each measurement: what, and our time over NumPy's."""
    rng = np.random.default_rng(0)
    for n, calls in (10, 1000), (64, 50), (512, 1):
        A = rng.standard_normal((n, n))
        for label, rules in ("", {}), (", 3", {"rank": 3}), (", error=0.1", {"error": 0.1}):
            yield (
                f"truncated_svd(A{label}), {n}x{n}",
                paired_ratio(
                    lambda A=A, rules=rules: eckart.truncated_svd(A, **rules),
                    lambda A=A: np.linalg.svd(A),
                    calls,
                ),
            )


if __name__ == "__main__":
    print(f"{'float64 on NumPy ' + np.__version__:40}time / np.linalg.svd(A)")
    for label, ratio in rows():
        print(f"{label:40}{ratio:.2f}")
