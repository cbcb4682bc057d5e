"""Names and shapes as they are printed."""

from __future__ import annotations


def printable(name: str) -> str:
    """`name` with its control characters escaped: a file must not drive the terminal."""
    return "".join(
        character if character.isprintable() else ascii(character)[1:-1] for character in name
    )


def elided(name: str, width: int) -> str:
    """`name` in at most `width` characters; the middle goes, as both ends tell layers apart."""
    if len(name) <= width:
        return name
    tail = (width - 1) // 2
    return f"{name[: width - 1 - tail]}…{name[len(name) - tail :]}"


def shape_text(shape: tuple[int, ...]) -> str:
    """``64×147``, or ``64×(3·7·7)`` for a tensor that is taken as a matrix."""
    first, *rest = map(str, shape)
    return f"{first}×{rest[0]}" if len(rest) == 1 else f"{first}×({'·'.join(rest)})"
