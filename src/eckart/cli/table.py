"""The table for people."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import TypeAlias

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from eckart.cli.factors import Factored
from eckart.cli.report import Facts, Result, saved
from eckart.cli.text import printable, shape_text

# Characters of a name on one line, at the least.
_SHORTEST_NAME = 16

# Of a file or a pipe, which has no width to fold to.
_UNLIMITED = 10_000


Cells: TypeAlias = dict[str, str]  # by the titles of their columns


def page(found: Sequence[Facts], width: int | None = None) -> Iterator[str]:
    """The lines of the table of facts and its notes."""
    return _page(found, map(_facts, found), _notes(found), width)


def factors_page(made: Sequence[Factored], width: int | None = None) -> Iterator[str]:
    """The lines of the table of factors and its notes."""
    return _page(made, map(_factors, made), _factors_notes(made), width)


def _page(
    results: Sequence[Result], cells: Iterable[Cells], notes: Iterable[str], width: int | None
) -> Iterator[str]:
    """The lines of a table and its notes, for the terminal or for one of `width` columns.

    A name too long for the terminal is folded, a number never: one too narrow wraps the lines.
    """
    terminal = sys.stdout.isatty()
    if width is None and not terminal:
        width = _UNLIMITED
    lines = _table(results, cells)
    # Between two columns are the padding and the divider of the box, a blank each.
    narrowest = sum(column.width or column.min_width or 0 for column in lines.columns)
    narrowest += 2 * (len(lines.columns) - 1)
    console = Console(width=width, force_terminal=terminal)
    console.width = max(console.width, narrowest)
    with console.capture() as capture:
        console.print(lines)
    yield from (line.rstrip() for line in capture.get().splitlines())
    notes = [*notes, *_shape_notes(results)]
    if notes:
        yield ""
    yield from notes


def _table(results: Sequence[Result], cells: Iterable[Cells]) -> Table:
    """A row a matrix."""
    names = [Text(printable(result.tensor.name), overflow="fold") for result in results]
    known = [_cells(result) | more for result, more in zip(results, cells, strict=True)]
    # Longest first: the reason why a matrix was refused is the last column.
    titles = dict.fromkeys(chain(*sorted(known, key=len, reverse=True)))
    columns = {title: [row.get(title, "") for row in known] for title in titles}

    lines = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    height = max(title.count("\n") for title in titles)
    longest = max(name.cell_len for name in [Text("tensor"), *names])
    lines.add_column("\n" * height + "tensor", min_width=min(_SHORTEST_NAME, longest))
    for title, column in columns.items():
        above = "\n" * (height - title.count("\n"))
        width = max(map(len, [*title.split("\n"), *column]))
        lines.add_column(above + title, justify="right", width=width)
    for row in zip(names, *columns.values(), strict=True):
        lines.add_row(*row)
    return lines


def _cells(result: Result) -> Cells:
    """What is known of any matrix."""
    cells = {"shape": shape_text(result.tensor.shape), "dtype": result.tensor.dtype}
    return cells if result.unfit is None else cells | {"refused": result.unfit.words}


def _facts(facts: Facts) -> Cells:
    measured = facts.measured
    if measured is None:
        return {}
    cells = {"rank": str(measured.rank)}
    cells["stable\nrank"] = f"{measured.stable_rank:.1f}"
    cells["effect.\nrank"] = f"{measured.effective_rank:.1f}"
    for percent, cut in measured.energy.items():
        cells[f"rank\n{percent} %"] = str(cut.rank)
    for percent in (90, 99):
        cells[f"saved\n{percent} %"] = _saved(measured.energy[percent].saved)
    cells["break\neven"] = str(facts.break_even_rank)
    if measured.truncated is not None:
        cells["cut to\nrank"] = str(measured.truncated.rank)
        cells["with\nerror"] = f"{measured.truncated.error:.2g}"
    return cells


def _factors(made: Factored) -> Cells:
    if made.factors is None or made.certificate is None:
        return {}
    return {
        "rank": str(made.factors.rank),
        "saved": _saved(saved(made.tensor.matrix_shape, made.factors.rank)),
        "error": f"{made.certificate.relative_error:.2g}",
    }


def _saved(share: float) -> str:
    return f"{share:.0%}".replace("%", " %") if share > 0 else "–"


def _notes(found: Sequence[Facts]) -> Iterator[str]:
    """What the titles leave out."""
    if any(facts.measured for facts in found):
        yield "Rank 90 %: the smallest that keeps 90 % of the sum of squared singular values."
        yield "Saved 90 %: the share of the parameters that two factors of that rank save, –"
        yield "where they save none. Break-even: the largest rank that saves any."
    if any(facts.measured and facts.measured.truncated for facts in found):
        yield "Cut to: the rank asked for and its relative Frobenius error."


def _factors_notes(made: Sequence[Factored]) -> Iterator[str]:
    """What the titles leave out, and the sums."""
    yield "Saved: the share of the parameters that the two factors save, – where they save none."
    yield "Error: relative Frobenius error of the factors, measured as they were read back."
    kept = [each.factors for each in made if each.factors is not None]
    size, dense_size = sum(each.size for each in kept), sum(each.dense_size for each in kept)
    yield f"Together the factors store {size:,} numbers in place of {dense_size:,}."


def _shape_notes(results: Sequence[Result]) -> Iterator[str]:
    shapes = (result.tensor.shape for result in results)
    folded = next((shape for shape in shapes if len(shape) > 2), None)
    if folded is not None:
        yield f"{shape_text(folded)}: more than two axes, taken as the first one against the rest."
