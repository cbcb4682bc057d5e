"""The progress bar: for those who wait at a terminal, and for nobody else."""

from __future__ import annotations

import io
import time
from contextlib import closing

import numpy as np
import pytest
from rich.console import Console

from eckart.cli import progress
from eckart.cli.files import Tensor

pytestmark = pytest.mark.numpy_only

TENSORS = [Tensor(f"w.{i}", (3, 4), "float64", lambda: np.ones((3, 4))) for i in range(3)]


def shown(monkeypatch, *, terminal, moment):
    """What the bar writes while three tensors take a tenth of a second each."""
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=terminal, width=80)
    monkeypatch.setattr(progress, "Console", lambda **_: console)
    monkeypatch.setattr(progress, "_MOMENT", moment)
    with closing(progress.tracked(TENSORS)) as steps:
        for tensor, expected in zip(steps, TENSORS, strict=True):
            assert tensor is expected
            time.sleep(0.1)
    return screen.getvalue()


def test_a_long_wait_shows_a_bar(monkeypatch):
    """It names the matrix at hand."""
    assert "w.1" in shown(monkeypatch, terminal=True, moment=0.05)


def test_a_short_wait_shows_nothing(monkeypatch):
    """A bar that flashes up tells nobody anything."""
    assert shown(monkeypatch, terminal=True, moment=60) == ""


def test_a_file_gets_no_bar(monkeypatch):
    """However long it takes."""
    assert shown(monkeypatch, terminal=False, moment=0) == ""
