"""The table of the results on a terminal."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeAlias

from eckart.cli.factors import Factored
from eckart.cli.report import AnyResult, Facts, Result, saved
from eckart.cli.text import bold, cells, folded, longest_word, printable, shape_text

# Least number of columns for a name that is folded beside its numbers.
_SHORTEST_NAME = 16

# Width of a file or a pipe.
_UNLIMITED = 2**62

# Columns that are left out on a narrow terminal, in this order.
_DISPENSABLE = (
    *("rank\n95 %", "saved\n90 %", "effect.\nrank", "stable\nrank", "break\neven"),
    *("saved\n99 %", "rank\n90 %", "rank\n99 %", "cut to\nrank", "with\nerror", "saved", "error"),
)

Cells: TypeAlias = dict[str, str]  # by the titles of their columns


def page(found: Sequence[Facts], width: int | None = None) -> Iterator[str]:
    """The lines of the table of facts and its notes."""
    return _page(found, _facts, _notes(found), width)


def factors_page(made: Sequence[Factored], width: int | None = None) -> Iterator[str]:
    """The lines of the table of factors and its notes."""
    return _page(made, _factors, _factors_notes(made), width)


def _page(
    results: Sequence[AnyResult],
    of: Callable[[AnyResult], Cells],
    notes: Iterable[str],
    width: int | None,
) -> Iterator[str]:
    """The lines of a table and its notes, for `width` columns or for the terminal."""
    if width is None:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else _UNLIMITED

    def rows() -> Iterator[tuple[str, Cells]]:  # computed twice, not stored: there may be many
        return ((printable(each.tensor.name), _cells(each) | of(each)) for each in results)

    longest: Cells = {}
    widths: dict[str, int] = {}
    longest_name, longest_part = len("tensor"), _SHORTEST_NAME
    for name, row in rows():
        longest = max(longest, row, key=len)
        longest_name = max(longest_name, cells(name))
        longest_part = max(longest_part, longest_word(name))
        for title, cell in row.items():
            widths[title] = max(widths.get(title, 0), cells(cell))
    # The last column is the reason of a refusal.
    columns = {title: _Column(title, widths[title]) for title in [*longest, *widths]}
    room = width - _width(columns)
    notes = [*notes, *_shape_notes(results)]
    if room >= min(longest_name, longest_part):
        yield from _beside(rows(), columns, min(room, longest_name))
    else:
        above = [title for title in _OF_THE_TENSOR if columns.pop(title, None)]
        missing = []
        for title in _DISPENSABLE:
            if _width(columns) > width and title in columns and len(columns) > 1:
                del columns[title]
                missing.append(" ".join(title.split("\n")))
        rule = min(width, max(_width(columns), longest_name))
        yield from _below(rows(), above, columns, width, rule)
        if missing:
            notes.append(f"Left out, as the terminal is narrow: {', '.join(missing)}.")
    if notes:
        yield ""
    for note in notes:
        # The terminal would break lines within words and numbers.
        yield from (
            [note]
            if cells(note) <= width
            else textwrap.wrap(note, width, break_long_words=False, break_on_hyphens=False)
        )


class _Column:
    """The lines of a title, and the width of the title and the cells below."""

    def __init__(self, title: str, width: int) -> None:
        self.title = title.split("\n")
        self.width = max(width, *map(cells, self.title))

    def aligned(self, text: str) -> str:
        return "  " + " " * (self.width - cells(text)) + text


Columns: TypeAlias = dict[str, _Column]


def _width(columns: Columns) -> int:
    """Width of columns, each with two blanks before it."""
    return sum(column.width + 2 for column in columns.values())


def _line(row: Cells, columns: Columns) -> str:
    return "".join(column.aligned(row.get(title, "")) for title, column in columns.items())


def _titles(corner: str, start: int, columns: Columns) -> Iterator[str]:
    """The titles after `corner`, with the last line of each right above the rule."""
    height = max(len(column.title) for column in columns.values())
    for i in range(height, 0, -1):
        line = (corner if i == 1 else "").ljust(start)
        line += "".join(
            column.aligned(column.title[-i] if i <= len(column.title) else "")
            for column in columns.values()
        )
        yield bold(line.rstrip())


def _beside(rows: Iterable[tuple[str, Cells]], columns: Columns, start: int) -> Iterator[str]:
    """One line for each matrix: the name, folded to `start` columns, and the numbers."""
    yield from _titles("tensor", start, columns)
    yield "─" * (start + _width(columns))
    for name, row in rows:
        first, *rest = folded(name, start)
        yield (first + " " * (start - cells(first)) + _line(row, columns)).rstrip()
        yield from (line.rstrip() for line in rest)


# Columns that a narrow terminal shows beside the name, above the numbers.
_OF_THE_TENSOR = ("shape", "dtype", "refused")


def _below(
    rows: Iterable[tuple[str, Cells]], above: list[str], columns: Columns, width: int, rule: int
) -> Iterator[str]:
    """One paragraph for each matrix: the name, the shape and the dtype, and below the numbers."""
    yield from map(bold, textwrap.wrap(", ".join(["tensor", *above]), width))
    if columns:
        yield from _titles("", 0, columns)
    yield "─" * rule
    for name, row in rows:
        *lines, line = folded(name, width)
        for title in above:
            if cells(line) + 2 + cells(row.get(title, "")) > width:
                lines.append(line)
                line = ""
            line += "  " + row.get(title, "")
        yield from (text.rstrip() for text in [*lines, line])
        numbers = _line(row, columns)
        if numbers.strip():
            yield numbers


def _cells(result: Result) -> Cells:
    """The cells that every matrix has."""
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
    """Notes that explain the titles."""
    if any(facts.measured for facts in found):
        yield "Rank 90 %: the smallest that keeps 90 % of the sum of squared singular values."
        yield "Saved 90 %: the share of the parameters that two factors of that rank save, –"
        yield "where they save none. Break-even: the largest rank that saves any."
    if any(facts.measured and facts.measured.truncated for facts in found):
        yield "Cut to: the rank of --rank or --error and its relative Frobenius error."


def _factors_notes(made: Sequence[Factored]) -> Iterator[str]:
    """Notes that explain the titles, and the sums."""
    yield "Saved: the share of the parameters that the two factors save, – if they save none."
    yield "Error: relative Frobenius error of the factors that were read back from the file."
    kept = [each.factors for each in made if each.factors is not None]
    size, dense_size = sum(each.size for each in kept), sum(each.dense_size for each in kept)
    yield f"Together the factors store {size:,} numbers in place of {dense_size:,}."


def _shape_notes(results: Sequence[Result]) -> Iterator[str]:
    shapes = (result.tensor.shape for result in results)
    folded = next((shape for shape in shapes if len(shape) > 2), None)
    if folded is not None:
        yield f"{shape_text(folded)}: more than two axes, taken as the first one against the rest."
