"""The picture: drawn into one file, all or nothing."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from eckart.cli import report

pytestmark = pytest.mark.numpy_only

PNG = b"\x89PNG\r\n\x1a\n"


def test_the_picture_is_a_png(npz, tmp_path, run):
    """Beside the table, and nothing else is left in the directory."""
    result = run("inspect", npz, "--plot", tmp_path / "p.png")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "p.png").read_bytes().startswith(PNG)
    assert "layer.2.weight" in result.stdout
    assert {path.name for path in tmp_path.iterdir()} == {"model.npz", "p.png"}


def test_forty_matrices_of_one_kind_share_a_panel(tmp_path, run):
    """Empty, zero, odd and refused ones among them do no harm."""
    odd = {
        "low": np.ones((3, 3)),
        "w.7": np.zeros((3, 3)),
        "w.8": np.zeros((0, 3)),
        "$\\frac日": np.full((2, 2), np.nan),
    }
    np.savez(tmp_path / "w.npz", **{f"w.{i}": np.eye(3) for i in range(40)} | odd)
    assert run("inspect", tmp_path / "w.npz", "--plot", tmp_path / "p.png").exit_code == 0
    assert (tmp_path / "p.png").read_bytes().startswith(PNG)


def test_nothing_to_draw_is_a_picture_too(tmp_path, run):
    """Zero and empty matrices have no singular value on a logarithmic axis."""
    np.save(tmp_path / "w.npy", np.zeros((3, 3)))
    assert run("inspect", tmp_path / "w.npy", "--plot", tmp_path / "p.png").exit_code == 0
    assert (tmp_path / "p.png").read_bytes().startswith(PNG)


@pytest.mark.parametrize("place", ["p.pdf", "none/p.png", "model.npz/p.png", "dir.png"])
def test_a_place_that_cannot_be_written_is_refused_before_the_work(
    place, npz, tmp_path, refused, monkeypatch
):
    """No matrix is measured for a picture that has nowhere to go."""
    (tmp_path / "dir.png").mkdir()
    monkeypatch.setattr(report, "facts", lambda *_, **__: pytest.fail("it was measured"))
    sentence = refused("inspect", npz, "--plot", tmp_path / place)
    assert "`--plot` must name a .png file that can be written" in sentence


@pytest.mark.parametrize("length", [250, 300])
def test_what_the_system_refuses_is_a_sentence(length, npz, tmp_path, refused):
    """A name too long, for the file itself or only for the one that it is written to first."""
    path = tmp_path / ("x" * (length - 4) + ".png")
    sentence = refused("inspect", npz, "--plot", path)
    assert "cannot be written: File name too long. Choose another path." in sentence


def test_a_failure_leaves_the_old_picture(npz, tmp_path, run, monkeypatch):
    """The file is replaced at the end or not at all."""
    (tmp_path / "p.png").write_bytes(b"old")

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(report, "facts", interrupt)
    assert run("inspect", npz, "--plot", tmp_path / "p.png").exit_code == 130
    assert (tmp_path / "p.png").read_bytes() == b"old"
    assert {path.name for path in tmp_path.iterdir()} == {"model.npz", "p.png"}


def test_without_matplotlib_the_extra_is_named(npz, tmp_path, refused, monkeypatch):
    """And nothing is computed first."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert "pip install 'eckart[plot]'" in refused("inspect", npz, "--plot", tmp_path / "p.png")
