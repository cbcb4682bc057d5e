"""A progress bar for a terminal."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from threading import Timer

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from eckart.cli.files import Tensor
from eckart.cli.text import elided, printable

_MOMENT = 1.0  # seconds


def tracked(tensors: Sequence[Tensor]) -> Generator[Tensor]:
    """`tensors` one by one, with a bar on stderr if they take more than a second."""
    console = Console(stderr=True)
    if not console.is_terminal or console.is_dumb_terminal:
        yield from tensors
        return
    bar = Progress(
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}", markup=False),
        console=console,
        transient=True,
    )
    task = bar.add_task("", total=sum(map(_cost, tensors)))
    # The first matrix may take long, so the bar appears by a timer, not after a step.
    timer = Timer(_MOMENT, bar.start)
    timer.start()
    try:
        for tensor in tensors:
            bar.update(task, description=elided(printable(tensor.name), 40))
            yield tensor
            bar.advance(task, _cost(tensor))
    finally:
        timer.cancel()
        timer.join()
        bar.stop()


def _cost(tensor: Tensor) -> int:
    """Number of multiplications of a decomposition, up to a factor."""
    m, n = tensor.matrix_shape
    return m * n * min(m, n)
