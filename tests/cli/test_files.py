"""Broken and foreign files end with one sentence, and nothing is ever unpickled."""

from __future__ import annotations

import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from eckart.cli import files

pytestmark = pytest.mark.numpy_only


class Bomb:
    """An object whose unpickling would be seen."""

    def __reduce__(self):
        return (pytest.fail, ("a pickle was read",))


@pytest.mark.parametrize(
    ("content", "came", "do"),
    [
        (b"", "it is empty, 0 bytes", "Copy or download it again."),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n",
            "it is a git-LFS pointer to one",
            "Fetch the file itself with `git lfs pull`.",
        ),
        (b"\n<!DOCTYPE html><html>", "it is a web page", "Download the file itself"),
        (b"<HTML>", "it is a web page", "Download the file itself"),
        (pickle.dumps(Bomb()), "it is a Python pickle, which can run any code", "Save its arrays"),
        (b"solid cube", r"it begins like none of them, with b'solid cu'", "Convert it first."),
    ],
    ids=["empty", "lfs", "html", "html-capitals", "pickle", "other"],
)
@pytest.mark.parametrize("suffix", ["npy", "npz", "safetensors", "bin"])
def test_a_foreign_file_is_named_by_its_content(content, came, do, suffix, tmp_path, refused):
    """Whatever the file is called."""
    path = tmp_path / f"w.{suffix}"
    path.write_bytes(content)
    sentence = refused("inspect", path)
    assert sentence.startswith(f"`{path}` must be a .npy, .npz or .safetensors file, but {came}")
    assert do in sentence


@pytest.mark.parametrize("suffix", ["npy", "npz", "safetensors", "bin"])
def test_the_content_decides_not_the_name(suffix, tmp_path, run):
    """A .npy under another name is read."""
    path = tmp_path / f"w.{suffix}"
    with path.open("wb") as stream:
        np.save(stream, np.eye(2))
    assert run("inspect", path).exit_code == 0


def test_a_path_to_nothing_is_refused(tmp_path, refused):
    """The sentence names the path."""
    assert "but it does not exist" in refused("inspect", tmp_path / "none.npy")


def test_a_directory_is_refused(tmp_path, refused):
    """A checkpoint in several files is named file by file."""
    assert "but it is a directory. Name a file." in refused("inspect", tmp_path)


def test_a_device_is_refused(refused):
    """Reading it could wait for ever."""
    assert "but it is no regular file" in refused("inspect", "/dev/null")


def test_a_file_without_permission_is_refused(npz, refused, monkeypatch):
    """The operating system's refusal is told as a sentence."""

    def deny(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", deny)
    assert "that you may read" in refused("inspect", npz)


@pytest.mark.parametrize("keep", [7, 40, 130, -8])
def test_a_npy_cut_short_is_refused(keep, tmp_path, low_rank, refused):
    """In its magic number, its header or its values."""
    path = tmp_path / "w.npy"
    np.save(path, low_rank)
    path.write_bytes(path.read_bytes()[:keep])
    assert "is broken or cut short" in refused("inspect", path)


@pytest.mark.parametrize("keep", [40, 200, -30])
def test_a_npz_cut_short_is_refused(keep, npz, refused):
    """Without the directory at its end a zip archive cannot be read."""
    npz.write_bytes(npz.read_bytes()[:keep])
    assert "is broken or cut short (File is not a zip file)" in refused("inspect", npz)


def test_a_broken_member_is_named(npz, refused):
    """Its checksum gives it away when it is read."""
    content = npz.read_bytes()
    start = content.index(b"layer.2.weight.npy") + 500
    npz.write_bytes(content[:start] + b"\xff" * 8 + content[start + 8 :])
    sentence = refused("inspect", npz)
    assert "'layer.2.weight' in `" in sentence
    assert "Bad CRC-32" in sentence


def test_a_member_that_is_no_array_is_named(tmp_path, refused):
    """A member called .npy has to be one."""
    with zipfile.ZipFile(tmp_path / "w.npz", "w") as archive:
        archive.writestr("w.npy", "text")
    assert "'w.npy' in `" in refused("inspect", tmp_path / "w.npz")


def test_members_of_one_name_are_two_matrices(twins, run):
    """Each is read from its own place in the archive."""
    page = run("inspect", twins).stdout
    rows = [line.split() for line in page.splitlines() if line.startswith("w ")]
    assert [row[:4:3] for row in rows] == [["w", "2"], ["w", "3"]]


def test_a_zip_that_is_no_npz_is_refused(tmp_path, refused):
    """It has no .npy member."""
    with zipfile.ZipFile(tmp_path / "w.npz", "w") as archive:
        archive.writestr("readme.txt", "text")
    assert "a zip archive without a .npy member" in refused("inspect", tmp_path / "w.npz")
    with zipfile.ZipFile(tmp_path / "empty.npz", "w"):
        pass
    assert "a zip archive without a .npy member" in refused("inspect", tmp_path / "empty.npz")


def test_a_pytorch_checkpoint_is_refused(tmp_path, refused):
    """Its pickle is not read, and the sentence says what to do instead."""
    with zipfile.ZipFile(tmp_path / "w.pt", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Bomb()))
    assert "safetensors.torch.save_file" in refused("inspect", tmp_path / "w.pt")


def test_python_objects_are_never_unpickled(tmp_path, refused, run):
    """Alone they are refused, beside matrices skipped."""
    objects = np.empty((2, 2), object)
    objects[:] = Bomb()
    np.save(tmp_path / "w.npy", objects)
    assert "1 of Python objects, which are never unpickled" in refused(
        "inspect", tmp_path / "w.npy"
    )
    np.savez(tmp_path / "w.npz", objects=objects, w=np.eye(2))
    result = run("inspect", tmp_path / "w.npz")
    assert result.exit_code == 0
    assert "1 of Python objects" in result.stderr


@pytest.mark.parametrize(
    "array",
    [
        np.zeros(3),
        np.zeros((2, 2), np.int32),
        np.zeros((2, 2), bool),
        np.zeros((2, 2), [("a", "f8")]),
        np.zeros((2, 2), [("π", "f8")]),
        np.zeros((2, 2), np.longdouble),
        np.zeros((2, 2), "U3"),
    ],
    ids=["vector", "int", "bool", "structured", "structured-utf8", "longdouble", "text"],
)
@pytest.mark.filterwarnings("ignore:Stored array in format 3.0:UserWarning")
def test_a_file_without_a_matrix_is_refused(array, tmp_path, refused):
    """The sentence counts what it has instead."""
    np.save(tmp_path / "w.npy", array)
    sentence = refused("inspect", tmp_path / "w.npy")
    assert "must hold a matrix of floating-point numbers, but none of the 1 tensors is one: 1 " in (
        sentence
    )


def test_a_safetensors_without_tensors_is_refused(safetensors, refused):
    """An empty header is a valid one."""
    assert "none of the 0 tensors is one." in refused("inspect", safetensors())


@pytest.mark.parametrize("length", [10**6, 10**15, 2**63 + 1, 2])
def test_a_header_length_that_lies_is_refused(length, safetensors, refused):
    """Nothing of that size is allocated."""
    path = safetensors(length, w=("F32", [2, 2], b"\0" * 16))
    assert "is broken or cut short" in refused("inspect", path)


def test_a_safetensors_cut_short_is_refused(safetensors, refused):
    """Its header says how long it should be."""
    path = safetensors(w=("F32", [2, 2], b"\0" * 16))
    path.write_bytes(path.read_bytes()[:-1])
    assert "is broken or cut short" in refused("inspect", path)
    path.write_bytes(path.read_bytes()[:30])
    assert "is broken or cut short" in refused("inspect", path)


def test_a_header_in_two_minds_does_no_harm(tmp_path, run):
    """One name twice in the JSON is one tensor."""
    one = b'"w":{"dtype":"F32","shape":[1,1],"data_offsets":[0,4]}'
    header = b"{" + one + b"," + one + b"}"
    path = tmp_path / "w.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + b"\0" * 4)
    assert run("inspect", path).exit_code in (0, 2)


@pytest.mark.parametrize("shape", ["(99999999, 99999999)", "(-3, 4)", "(2**70, 2)"])
def test_a_npy_header_that_lies_is_refused(shape, tmp_path, refused):
    """Nothing of that size is allocated."""
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}}}\n".encode()
    path = tmp_path / "w.npy"
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + b"\0" * 64)
    assert "is broken or cut short" in refused("inspect", path)


def test_a_pattern_without_a_match_is_refused(npz, refused):
    """The sentence shows a name that there is."""
    sentence = refused("inspect", npz, "--name", "decoder*")
    assert "`--name` must match a tensor" in sentence
    assert "got 'decoder*'. The first of its 5 is 'conv'." in sentence


def test_a_npy_is_mapped_not_read(tmp_path):
    """A file larger than the memory can be opened."""
    np.save(tmp_path / "w.npy", np.eye(3))
    with files.tensors_in(tmp_path / "w.npy") as (tensor,):
        assert isinstance(tensor.load().base, np.memmap)
