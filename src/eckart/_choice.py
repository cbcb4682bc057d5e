"""Which way to compute a truncated SVD: what each costs, and the measurements behind it."""

from __future__ import annotations

from eckart._gram import is_accurate
from eckart._namespace import Array, is_plain
from eckart._tolerance import Rules


def choice(A: Array, rules: Rules) -> str:
    """The fastest way that is accurate for `A`: ``"exact"``, ``"gram"`` or ``"krylov"``."""
    if not is_plain(A):
        return "exact"
    if prefers_gram(A):
        return "gram"
    k = min(A.shape[-2:])
    return "krylov" if k >= 256 and (rules.rank or 0) <= k // 16 else "exact"


def prefers_gram(A: Array) -> bool:
    """Whether one side is so short that the Gram matrix over it is the fastest way."""
    return max(A.shape[-2:]) >= 2 * min(A.shape[-2:]) and is_accurate(A)
