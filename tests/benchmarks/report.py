"""Tables, printed row by row while they are measured, and the page that collects them."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from datetime import date
from importlib.metadata import version
from pathlib import Path

import threadpoolctl
import torch

PACKAGES = (
    *("eckart", "numpy", "array-api-compat", "torch", "jax", "jaxlib"),
    *("scipy", "scikit-learn", "tensorly", "dask"),
)
INTRODUCTION = """\
`eckart.truncated_svd` beside the functions that people call today, on the same arrays in the same
process. Unless a table says otherwise, a matrix is made from a spectrum that we chose, by
orthogonal maps in float64, and then rounded, so the right answer is known. A time is the best of
three calls after a warm-up; the full SVD of a matrix with both sides of 2048 or more is called
once. A jitted function is compiled before it is timed. A **unit** is the time of one product `A @
Omega` with ten columns more than the rank, in the same library, measured before and after each
call: it says how often a method could have read the matrix in its time. The **error of S** is the
largest relative error of the singular values asked for. The **excess** is the Frobenius error of
`U @ diag(S) @ Vh`, computed in float64, over that of the best approximation, minus one; it can be
a rounding error below zero. **Memory** is what a call added to the resident memory at its peak,
results included, in a process of its own that had made the call before (a full SVD: that of a
small matrix). All libraries run with their default numbers of threads."""


class Table:
    """Rows of a label and numbers."""

    def __init__(self, title: str, columns: Sequence[str]) -> None:
        self.title = title
        self.columns = tuple(columns)
        self.rows: list[tuple[str, ...]] = []
        self.notes: list[str] = []
        print(f"\n{title}\n{self._aligned(self.columns)}", flush=True)

    def add(self, label: str, *cells: float | str) -> None:
        """Keep a row and print it."""
        row = (label, *(cell if isinstance(cell, str) else number(cell) for cell in cells))
        row += ("",) * (len(self.columns) - len(row))
        self.rows.append(row)
        print(self._aligned(row), flush=True)

    def note(self, sentence: str) -> None:
        """Keep a sentence for below the table and print it."""
        self.notes.append(sentence)
        print(sentence, flush=True)

    def markdown(self) -> str:
        """The table with its title and its notes."""
        rule = ("---", *("---:" for _ in self.columns[1:]))
        lines = [f"| {' | '.join(row)} |" for row in (self.columns, rule, *self.rows)]
        return "\n\n".join([f"### {self.title}", "\n".join(lines), *self.notes])

    def _aligned(self, cells: Sequence[str]) -> str:
        """One line of plain text, the numbers to the right."""
        widths = [max(11, len(column) + 2) for column in self.columns[1:]]
        numbers = zip(cells[1:], widths, strict=False)
        return f"{cells[0]:34}" + "".join(f"{cell:>{width}}" for cell, width in numbers)


def number(value: float) -> str:
    """Three significant digits."""
    if value == 0 or 1e-3 <= abs(value) < 1e6:
        return f"{float(f'{value:.3g}'):.7g}"
    return f"{value:.2e}"


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


def environment() -> str:
    """Where and with what the numbers were measured, as a table."""
    rows = {
        "Date": date.today().isoformat(),
        "Processor": processor(),
        "Cores": str(os.cpu_count()),
        "Threads": threads(),
        "System": f"{platform.system()} {platform.machine()}",
        "Python": platform.python_version(),
        **{package: version(package) for package in PACKAGES},
    }
    return "\n".join(["| | |", "| --- | --- |", *(f"| {key} | {rows[key]} |" for key in rows)])


def page(sections: Sequence[tuple[str, Sequence[Table]]]) -> str:
    """The whole page: what is measured, where, and a section for every work."""
    parts = ["# Benchmarks", INTRODUCTION, environment()]
    for heading, tables in sections:
        parts += [f"## {heading}", *(table.markdown() for table in tables)]
    return "\n\n".join(parts) + "\n"
