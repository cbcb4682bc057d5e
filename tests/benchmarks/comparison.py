"""One table: every peer on one matrix."""

from __future__ import annotations

from collections.abc import Sequence

import measure
import peers
from cases import Case
from peers import Peer
from report import Table

COLUMNS = ["", "time (s)", "unit (s)", "units", "error of S", "excess"]


def compare(
    title: str,
    case: Case,
    rivals: Sequence[Peer],
    *,
    measured: Sequence[Peer] = (),
    of_largest: bool = False,
) -> Table:
    """Time and accuracy of every peer, and the memory of those to be measured."""
    table = Table(title, [*COLUMNS, "memory (MB)"] if measured else COLUMNS)
    for peer in rivals:
        A = peers.LIBRARIES[peer.library].array(case.A)
        try:
            timing = measure.timed(peer, A, case.rank)
        except Exception as error:  # a failure is a result, and the others go on
            table.add(peer.name, *("fails" for _ in table.columns[1:]))
            table.note(f"{peer.name} fails: {type(error).__name__}: {error}")
            continue
        memory = [measure.extra_memory(peer, case) / 1e6] if peer in measured else []
        table.add(peer.name, *numbers(case, timing, of_largest=of_largest), *memory)
        for message in timing.warnings:
            table.note(f"{peer.name} warns: {message}")
    return table


def numbers(case: Case, timing: measure.Timing, *, of_largest: bool = False) -> list[float]:
    """The cells under `COLUMNS`."""
    error = measure.sigma_error(case, timing.result, of_largest=of_largest)
    excess = measure.excess(case, timing.result)
    return [timing.seconds, timing.unit, timing.units, error, excess]


def described(case: Case) -> str:
    """Shape, dtype and rank in words."""
    *count, m, n = case.A.shape
    return f"{''.join(f'{c} times ' for c in count)}{m}×{n} {case.A.dtype}, rank {case.rank}"
