"""Broken and foreign files end with one sentence, and nothing is ever unpickled."""

from __future__ import annotations

import json
import os
import pickle
import struct
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest

from eckart.cli import files
from eckart.cli.refusal import Refusal

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


CHANGES = {
    "cut short": lambda path: os.truncate(path, 200),
    "emptied": lambda path: os.truncate(path, 0),
    "longer": lambda path: os.truncate(path, path.stat().st_size + 1),
    "written again": lambda path: os.utime(path, ns=(0, 0)),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("suffix", ["npy", "npz", "safetensors"])
def test_a_file_that_changes_while_it_is_read_is_refused(suffix, change, tmp_path, low_rank):
    """A training job may write it again; a file that is mapped would end the process."""
    path = tmp_path / f"w.{suffix}"
    with path.open("wb") as stream:
        if suffix == "npy":
            np.save(stream, low_rank)
        else:
            files.FORMATS[f".{suffix}"].write(stream, {"w": low_rank})
    with files.tensors_in(path) as (tensor,):
        np.testing.assert_array_equal(tensor.load(), low_rank)
        CHANGES[change](path)
        with pytest.raises(Refusal, match="must stay as it is while it is read, but it changed"):
            tensor.load()


def test_a_file_that_is_replaced_is_read_as_it_was(tmp_path):
    """Who renames a complete file over it changes nothing for those who have it open."""
    path, other = tmp_path / "w.npy", tmp_path / "other.npy"
    np.save(path, np.eye(3))
    np.save(other, np.ones((3, 3)))
    with files.tensors_in(path) as (tensor,):
        other.replace(path)
        np.testing.assert_array_equal(tensor.load(), np.eye(3))


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_a_npy_of_every_version_is_read(version, tmp_path, low_rank, measured):
    """The version says how the header is encoded, and nothing of the values."""
    with (tmp_path / "w.npy").open("wb") as stream, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        np.lib.format.write_array(stream, low_rank, version=version)
    assert measured(tmp_path / "w.npy")["w"]["rank"] == 3


def test_a_npy_of_python_2_is_read(tmp_path, measured):
    """Its long integers end with an L."""
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (2L, 2L), }"
    length = struct.pack("<H", len(header))
    content = b"\x93NUMPY\x01\x00" + length + header + np.eye(2).tobytes()
    (tmp_path / "w.npy").write_bytes(content)
    assert measured(tmp_path / "w.npy")["w"]["rank"] == 2


@pytest.mark.parametrize("code", ["F8_E4M3", "F8_E8M0", "F4", "F6_E2M3", "Q3"])
def test_a_tensor_of_a_dtype_that_numpy_lacks_is_skipped(code, safetensors, run):
    """Those beside it are measured, whatever a byte of it may mean."""
    good = np.eye(2, dtype=np.float32).tobytes()
    one, odd = ("F32", [2, 2], good), (code, [3, 5], b"\0" * 8)
    path = safetensors(a=one, b=odd, c=one)
    result = run("inspect", path, "--json")
    assert result.exit_code == 0
    assert result.stderr == f"Skipped 1 of 3 tensors: 1 of dtype {code}.\n"


@pytest.mark.parametrize(
    "entries",
    [
        {"w": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 12]}},
        {"w": {"dtype": "F32", "shape": [2, 2], "data_offsets": [4, 20]}},
        {"w": {"dtype": "F32", "shape": [2, 2], "data_offsets": [16, 0]}},
        {"w": {"dtype": "F32", "shape": [-2, -2], "data_offsets": [0, 16]}},
        {"w": {"dtype": "F32", "shape": [2.0, 2], "data_offsets": [0, 16]}},
        {"w": {"dtype": "F32", "shape": [2, 2], "data_offsets": ["0", 16]}},
        {"w": {"dtype": ["F32"], "shape": [2, 2], "data_offsets": [0, 16]}},
        {"w": {"dtype": "F32", "shape": [2, 2]}},
        {"w": {}},
        {"w": [0]},
        {"\ud800": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}},
        {"__metadata__": {"a": 1}},
        {"__metadata__": {"a": "\udfff"}},
        [],
    ],
)
def test_a_safetensors_header_that_is_none_is_refused(entries, tmp_path, refused):
    """Each tensor lies where the one before ends, as its shape and dtype say."""
    text = json.dumps(entries).encode()
    path = tmp_path / "w.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"\0" * 16)
    assert "must be" in refused("inspect", path)


def test_names_with_very_long_numbers_are_sorted(tmp_path, measured):
    """Python would convert none of more than 4300 digits."""
    names = ["w.9", "w.10", "w." + "9" * 5000, "w.1" + "0" * 5000]
    np.savez(tmp_path / "w.npz", **{name: np.eye(2) for name in names[::-1]})
    assert list(measured(tmp_path / "w.npz")) == names


def test_an_encrypted_member_is_no_broken_one(tmp_path, refused):
    """To download it again would not help."""
    np.savez(tmp_path / "w.npz", w=np.eye(2))
    content = bytearray((tmp_path / "w.npz").read_bytes())
    content[content.rindex(b"PK\x01\x02") + 8] = 1
    (tmp_path / "w.npz").write_bytes(content)
    assert "is encrypted. Unpack it with its password" in refused("inspect", tmp_path / "w.npz")


def test_a_loop_of_links_is_a_wrong_path(tmp_path, refused):
    """The sentence says what the system says of it."""
    path = tmp_path / "w.npy"
    path.symlink_to(path)
    assert "Too many levels of symbolic links. Check the path." in refused("inspect", path)


def test_a_pipe_is_refused_unread(tmp_path, refused):
    """To open it would wait for ever."""
    os.mkfifo(tmp_path / "w.npy")
    assert "but it is no regular file. Name a file." in refused("inspect", tmp_path / "w.npy")


def test_what_does_not_fit_in_memory_is_not_broken(tmp_path, npz, monkeypatch, refused):
    """The sentence names the tensor, and does not ask to download it again."""

    def exhaust(*_, **__):
        raise MemoryError

    monkeypatch.setattr(files, "_filled", exhaust)
    for command in ["inspect"], ["factorize", "--rank", 1, "-o", tmp_path / "o.npz"]:
        sentence = refused(*command, npz, "--name", "conv")
        assert sentence.startswith("'conv' of shape 6×(3·2·2) and dtype float32 must fit in memory")
