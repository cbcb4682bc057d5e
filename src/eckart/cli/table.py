"""The table for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from eckart.cli.report import Cut, Facts
from eckart.cli.text import printable, shape_text


# Characters of a name on one line, at the least.
_SHORTEST_NAME = 16


def table(found: Sequence[Facts]) -> Table:
    """A row a matrix; a name too long for the terminal is folded, a number never."""
    rows = [_cells(facts) for facts in found]
    titles = list(dict.fromkeys(title for row in rows for title in row))
    lines = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    names = [Text(printable(facts.tensor.name), overflow="fold") for facts in found]
    shortest = min(_SHORTEST_NAME, max(map(len, names), default=0))
    lines.add_column("\ntensor", min_width=shortest)
    for title in titles:
        cells = [*title.split("\n"), *(row.get(title, "") for row in rows)]
        lines.add_column(title, justify="right", min_width=max(map(len, cells)))
    for name, row in zip(names, rows, strict=True):
        lines.add_row(name, *(row.get(title, "") for title in titles))
    return lines


def _cells(facts: Facts) -> dict[str, str]:
    """What is known of a matrix, by the title of its column."""
    cells = {"\nshape": shape_text(facts.tensor.shape), "\ndtype": facts.tensor.dtype}
    measured = facts.measured
    if measured is None:
        return cells | {"\nrefused": "out of range" if facts.finite else "NaN or Inf"}
    cells["\nrank"] = str(measured.rank)
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


def notes(found: Sequence[Facts]) -> Iterator[str]:
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
