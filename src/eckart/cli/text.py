"""Names and shapes in print."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator

# Words of a name, after which it may be folded: the best places first, at last any character.
_JOINTS = (r"[^./]*[./]*", r"[^\s_:-]*[\s_:-]*", r".")


def printable(text: str) -> str:
    """`text` on one line, with control characters escaped."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else ascii(character)[1:-1] for character in text
    )


def bold(words: str) -> str:
    """`words` in bold if standard output is a terminal with styles that are not disabled."""
    plain = not sys.stdout.isatty() or os.environ.get("NO_COLOR")
    return words if plain or os.environ.get("TERM") == "dumb" else f"\x1b[1m{words}\x1b[0m"


def elided(name: str, width: int) -> str:
    """`name` in at most `width` characters, without its middle: both ends distinguish layers."""
    if len(name) <= width:
        return name
    tail = (width - 1) // 2
    return f"{name[: width - 1 - tail]}…{name[len(name) - tail :]}"


def called(name: str) -> str:
    """The `name` of a tensor in a message, shortened if it is long."""
    return f"'{elided(name, 200)}'"


def cells(text: str) -> int:
    """Columns that `text` takes on a terminal."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def folded(name: str, width: int) -> list[str]:
    """The lines of a `name` in `width` columns; words that fit a line stay whole."""
    lines = [""]
    for word in _words(name, width):
        if cells(lines[-1] + word) > width and lines[-1]:
            lines.append("")
        lines[-1] += word
    return lines


def longest_word(name: str) -> int:
    """Columns of the longest word of a `name`."""
    return max(map(cells, re.findall(_JOINTS[0], name)), default=0)


def _words(text: str, width: int, level: int = 0) -> Iterator[str]:
    for word in re.findall(_JOINTS[level], text):
        if cells(word) <= width or level + 1 == len(_JOINTS):
            yield word
        else:
            yield from _words(word, width, level + 1)


def shape_text(shape: tuple[int, ...]) -> str:
    """``64×147``, or ``64×(3·7·7)`` for a tensor of more than two axes."""
    first, *rest = map(str, shape)
    return f"{first}×{rest[0]}" if len(rest) == 1 else f"{first}×({'·'.join(rest)})"
