"""A few cases of a product that have every value of every axis, or every pair, among them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

Case = Mapping[str, int]


def covering(cases: Sequence[Case], strength: int) -> list[int]:
    """Indices of the cases to run so that every value (1) or pair of values (2) is among them.

    A case says which value it has on each axis. The same cases are always chosen: the one with most
    that is new comes next, and of equal ones the one whose values, and pairs of values, are rarest.
    """
    contents = [list(_together(case, strength)) for case in cases]
    pairs = [list(_together(case, 2)) for case in cases]
    missing = {each for content in contents for each in content}
    seen: Counter[Any] = Counter()
    chosen: list[int] = []
    while missing:
        index = max(
            range(len(cases)),
            key=lambda i: (
                sum(each in missing for each in contents[i]),
                -sum(seen[each] for each in pairs[i]),
                -sum(seen[value] for value in cases[i].items()),
            ),
        )
        chosen.append(index)
        missing.difference_update(contents[index])
        seen.update([*pairs[index], *cases[index].items()])
    return sorted(chosen)


def _together(case: Case, strength: int) -> Iterator[Any]:
    """What a case covers: its values, so many at a time; all of them where there are fewer."""
    return combinations(sorted(case.items()), min(strength, len(case)))
