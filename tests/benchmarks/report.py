"""Tables, printed row by row while they are measured, and the page that collects them."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

DOCS = Path(__file__).parents[2] / "docs"
METHOD = """\
`eckart.truncated_svd` beside the functions that people call today, on the same arrays in the same
process. Unless a table says otherwise, a matrix is made from a spectrum that we chose, by
orthogonal maps in float64, and then rounded, so the right answer is known. A time is the best of
three calls after a warm-up; the full SVD of a matrix with both sides of 2048 or more is called
once, after a small one. A jitted function is compiled before it is timed. A **unit** is the time of
one product `A @ Omega` with ten columns more than the rank, in the same library, measured before
and after each call: it says how often a method could have read the matrix in its time. The **error
of S** is the largest relative error of the singular values asked for. The **excess** is the
Frobenius error of `U @ diag(S) @ Vh`, computed in float64, over that of the best approximation,
minus one; it can be a rounding error below zero."""


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


class Report(NamedTuple):
    """A page of the docs: what is measured, where and with what, and a section for every work."""

    path: Path
    title: str
    introduction: str
    machine: Mapping[str, str]
    packages: Sequence[str]

    def page(self, sections: Sequence[tuple[str, Sequence[Table]]]) -> str:
        """The page in Markdown."""
        parts = [f"# {self.title}", self.introduction, self._environment()]
        for heading, tables in sections:
            parts += [f"## {heading}", *(table.markdown() for table in tables)]
        return "\n\n".join(parts) + "\n"

    def _environment(self) -> str:
        """Where and with what the numbers were measured, as a table."""
        rows = {
            "Date": date.today().isoformat(),
            **self.machine,
            "System": f"{platform.system()} {platform.machine()}",
            "Python": platform.python_version(),
            **{package: version(package) for package in self.packages},
        }
        return "\n".join(["| | |", "| --- | --- |", *(f"| {key} | {rows[key]} |" for key in rows)])
