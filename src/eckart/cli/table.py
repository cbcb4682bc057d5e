"""The table for people."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from itertools import chain

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from eckart.cli.report import Cut, Facts
from eckart.cli.text import printable, shape_text

# Characters of a name on one line, at the least.
_SHORTEST_NAME = 16

# Of a file or a pipe, which has no width to fold to.
_UNLIMITED = 10_000


def page(found: Sequence[Facts], width: int | None = None) -> Iterator[str]:
    """The lines of the table and its notes, for the terminal or for one of `width` columns.

    A name too long for the terminal is folded, a number never: one too narrow wraps the lines.
    """
    terminal = sys.stdout.isatty()
    if width is None and not terminal:
        width = _UNLIMITED
    lines = _table(found)
    # Between two columns are the padding and the divider of the box, a blank each.
    narrowest = sum(column.width or column.min_width or 0 for column in lines.columns)
    narrowest += 2 * (len(lines.columns) - 1)
    console = Console(width=width, force_terminal=terminal)
    console.width = max(console.width, narrowest)
    with console.capture() as capture:
        console.print(lines)
    yield from (line.rstrip() for line in capture.get().splitlines())
    notes = list(_notes(found))
    if notes:
        yield ""
    yield from notes


def _table(found: Sequence[Facts]) -> Table:
    """A row a matrix."""
    names = [Text(printable(facts.tensor.name), overflow="fold") for facts in found]
    known = [_cells(facts) for facts in found]
    # Longest first: the reason why a matrix was refused is the last column.
    titles = dict.fromkeys(chain(*sorted(known, key=len, reverse=True)))
    columns = {title: [cells.get(title, "") for cells in known] for title in titles}

    lines = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    height = max(title.count("\n") for title in titles)
    longest = max(name.cell_len for name in [Text("tensor"), *names])
    lines.add_column("\n" * height + "tensor", min_width=min(_SHORTEST_NAME, longest))
    for title, cells in columns.items():
        above = "\n" * (height - title.count("\n"))
        width = max(map(len, [*title.split("\n"), *cells]))
        lines.add_column(above + title, justify="right", width=width)
    for row in zip(names, *columns.values(), strict=True):
        lines.add_row(*row)
    return lines


def _cells(facts: Facts) -> dict[str, str]:
    """What is known of a matrix, by the title of its column."""
    cells = {"shape": shape_text(facts.tensor.shape), "dtype": facts.tensor.dtype}
    measured = facts.measured
    if measured is None:
        return cells | {"refused": "out of range" if facts.finite else "NaN or Inf"}
    cells["rank"] = str(measured.rank)
    cells["stable\nrank"] = f"{measured.stable_rank:.1f}"
    cells["effect.\nrank"] = f"{measured.effective_rank:.1f}"
    for percent, cut in measured.energy.items():
        cells[f"rank\n{percent} %"] = str(cut.rank)
    for percent in (90, 99):
        cells[f"saved\n{percent} %"] = _saved(measured.energy[percent])
    cells["break\neven"] = str(facts.break_even_rank)
    if measured.truncated is not None:
        cells["cut to\nrank"] = str(measured.truncated.rank)
        cells["with\nerror"] = f"{measured.truncated.error:.2g}"
    return cells


def _saved(cut: Cut) -> str:
    return f"{cut.saved:.0%}".replace("%", " %") if cut.saved > 0 else "–"


def _notes(found: Sequence[Facts]) -> Iterator[str]:
    """What the titles leave out."""
    if any(facts.measured for facts in found):
        yield "Rank 90 %: the smallest that keeps 90 % of the sum of squared singular values."
        yield "Saved 90 %: the share of the parameters that two factors of that rank save, –"
        yield "where they save none. Break-even: the largest rank that saves any."
    if any(facts.measured and facts.measured.truncated for facts in found):
        yield "Cut to: the rank asked for and its relative Frobenius error."
    folded = next((facts.tensor.shape for facts in found if len(facts.tensor.shape) > 2), None)
    if folded is not None:
        yield f"{shape_text(folded)}: more than two axes, taken as the first one against the rest."
