"""The plot of the spectra."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import IO, TYPE_CHECKING, TypeAlias

import numpy as np

from eckart.cli.output import replacing
from eckart.cli.refusal import Refusal
from eckart.cli.report import Array, Facts
from eckart.cli.text import elided, printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# A panel with more matrices has only the first and the last in its legend.
_LISTED = 8

Draw: TypeAlias = Callable[[Sequence[Facts]], None]


@contextmanager
def drawing(path: Path) -> Iterator[Draw]:
    """A function that draws into `path`; a path that cannot be written is refused on entering.

    The file is created or replaced atomically if the context ends without an exception.
    """
    if find_spec("matplotlib") is None:
        raise Refusal(
            "`--plot` needs Matplotlib, which is not installed. "
            "Install the extra with pip install 'eckart[plot]'."
        )
    with replacing(path, "--plot", (".png",)) as stream:
        yield lambda found: _draw(found, stream)


def _draw(found: Sequence[Facts], stream: IO[bytes]) -> None:
    """A panel for each kind of matrix, with a curve for each matrix."""
    from matplotlib.figure import Figure

    kinds: dict[str, list[Facts]] = {}
    for facts in (facts for facts in found if _drawn(facts).size):
        kinds.setdefault(re.sub(r"[0-9]+", "*", facts.tensor.name), []).append(facts)
    columns = min(3, max(1, len(kinds)))
    rows = math.ceil(max(1, len(kinds)) / columns)
    height = 2.6 * rows + 0.6
    figure = Figure(figsize=(3.2 * max(2, columns), height), layout="constrained")
    panels = list(figure.subplots(rows, columns, sharey=True, squeeze=False).flat)
    for panel, (kind, members) in zip(panels, kinds.items(), strict=False):
        _panel(panel, kind, members)
    for panel in panels[len(kinds) :]:
        panel.remove()
    title = "Singular values S[j] / S[0]; a dot marks a numerical rank that is not full"
    figure.suptitle(title, fontsize=9)
    figure.supxlabel("j", fontsize=9)
    # A picture higher than 2**16 pixels cannot be drawn.
    figure.savefig(stream, format="png", dpi=min(150, 2**14 / height))


def _drawn(facts: Facts) -> Array:
    """The singular values to draw; smaller ones are zero in every format."""
    S = np.zeros(0) if facts.S is None else facts.S
    return S[S > 2.0**-60 * S[:1]]


def _panel(panel: Axes, kind: str, members: Sequence[Facts]) -> None:
    """Draw matrices whose names differ only in their numbers, in order from dark to light."""
    from matplotlib import colormaps
    from matplotlib.ticker import MaxNLocator

    last = len(members) - 1
    for i, facts in enumerate(members):
        S = _drawn(facts)
        numbers = elided(".".join(re.findall(r"[0-9]+", facts.tensor.name)), 20)
        (curve,) = panel.plot(
            range(S.size),
            S / S[:1],
            color=colormaps["viridis"](0.9 * i / max(1, last)),
            linewidth=1,
            label=numbers if len(members) <= _LISTED or i in (0, last) else None,
        )
        rank = facts.measured.rank if facts.measured else 0
        if 0 < rank < min(facts.tensor.matrix_shape):
            panel.plot(rank - 1, S[rank - 1] / S[0], "o", color=curve.get_color(), markersize=4)
    panel.set_yscale("log")
    # Fonts lack most characters beyond ASCII, and a $ would begin a formula.
    name = kind if last else members[0].tensor.name
    title = elided(printable(name).encode("ascii", "backslashreplace").decode(), 46)
    panel.set_title(title, fontsize=7, parse_math=False)
    panel.tick_params(labelsize=7)
    panel.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    panel.grid(alpha=0.3)
    if last:
        panel.legend(fontsize=6, ncols=2, loc="lower left", handlelength=1)
