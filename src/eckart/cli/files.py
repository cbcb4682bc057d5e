"""The tensors in a file, one at a time, and files of arrays: the only place that knows formats."""

from __future__ import annotations

import math
import re
import stat
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any, NamedTuple

import ml_dtypes  # noqa: F401  by whose import NumPy learns what bfloat16 is
import numpy as np
from safetensors import safe_open
from safetensors.numpy import save

from eckart.cli.refusal import Refusal

_FLOATS = ("float16", "bfloat16", "float32", "float64", "complex64", "complex128")


class Tensor(NamedTuple):
    """What a file says about a tensor, and how to read it."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    load: Callable[[], np.ndarray[Any, Any]]

    @property
    def excluded(self) -> str | None:
        """Why it is no matrix of floating-point numbers; None for one that is."""
        if self.dtype == "object":
            return "of Python objects, which are never unpickled"
        if self.dtype not in _FLOATS:
            return f"of dtype {self.dtype}"
        return "with fewer than two axes" if len(self.shape) < 2 else None

    @property
    def matrix_shape(self) -> tuple[int, int]:
        """The first axis against the rest."""
        return self.shape[0], math.prod(self.shape[1:])


@contextmanager
def tensors_in(path: Path) -> Iterator[list[Tensor]]:
    """All tensors of a file in the natural order of their names, to be loaded while it is open."""
    with ExitStack() as stack:
        with _reading(path):
            tensors = _reader(path)(path, stack)
        yield sorted(tensors, key=_natural)


def _natural(tensor: Tensor) -> list[str | int]:
    """``layer.2`` before ``layer.10``."""
    parts = re.split(r"(\d+)", tensor.name)
    return [int(part) if part.isdecimal() else part for part in parts]


# ---- Which format --------------------------------------------------------------------------------

_MUST = "`{}` must be a .npy, .npz or .safetensors file"

# A header's length, then the header, which is JSON: the format has no magic number.
_SAFETENSORS = re.compile(rb".{8}\{", re.DOTALL)

_FOREIGN = (
    (rb"\Z", "it is empty, 0 bytes", "Copy or download it again."),
    (
        rb"version https://git-lfs",
        "it is a git-LFS pointer to one",
        "Fetch the file itself with `git lfs pull`.",
    ),
    (
        rb"(?i)\s*<(!doctype|html|\?xml)",
        "it is a web page",
        "Download the file itself, not the page that shows it.",
    ),
    (
        rb"\x80[\x02-\x05]",
        "it is a Python pickle, which can run any code and is never read",
        "Save its arrays in one of these formats where you trust it.",
    ),
)


def _reader(path: Path) -> Callable[[Path, ExitStack], list[Tensor]]:
    """Who reads a file, told by its content: names are often wrong."""
    kind = path.stat().st_mode
    if not stat.S_ISREG(kind):
        came = "a directory" if stat.S_ISDIR(kind) else "no regular file"
        raise Refusal(f"{_MUST.format(path)}, but it is {came}. Name a file.")
    with path.open("rb") as stream:
        start = stream.read(64)
    if start.startswith(b"\x93NUMPY"):
        return _npy
    if start.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _npz
    if _SAFETENSORS.match(start):
        return _safetensors
    for sign, came, do in _FOREIGN:
        if re.match(sign, start):
            raise Refusal(f"{_MUST.format(path)}, but {came}. {do}")
    raise Refusal(
        f"{_MUST.format(path)}, but it begins like none of them, with {start[:8]!r}. "
        "Convert it first."
    )


@contextmanager
def _reading(path: Path, member: str | None = None) -> Iterator[None]:
    """Turn whatever a foreign file makes a reader raise into one sentence."""
    where = f"`{path}`" if member is None else f"'{member}' in `{path}`"
    try:
        yield
    except Refusal:
        raise
    except FileNotFoundError:
        raise Refusal(f"{_MUST.format(path)}, but it does not exist. Check the path.") from None
    except PermissionError:
        raise Refusal(f"{_MUST.format(path)} that you may read. Change its permissions.") from None
    except Exception as error:
        # The readers promise no list of what a broken file makes them raise.
        reason = " ".join(str(error).split()) or type(error).__name__
        raise Refusal(
            f"{where} must be readable, but it is broken or cut short ({reason}). "
            "Copy or download it again."
        ) from None


# ---- The formats ---------------------------------------------------------------------------------


def _npy(path: Path, stack: ExitStack) -> list[Tensor]:
    with path.open("rb") as stream:
        shape, dtype = _header(stream)
    load = partial(_loaded, path, path.name, partial(np.load, path, "r", allow_pickle=False))
    return [Tensor(path.stem, shape, dtype, load)]


def _npz(path: Path, stack: ExitStack) -> list[Tensor]:
    archive = stack.enter_context(zipfile.ZipFile(path))
    members = archive.infolist()
    if any(member.filename.endswith("data.pkl") for member in members):
        raise Refusal(
            f"{_MUST.format(path)}, but it is a PyTorch checkpoint, a pickle, which can run any "
            "code and is never read. Save it with safetensors.torch.save_file where you trust it."
        )
    arrays = [member for member in members if member.filename.endswith(".npy")]
    if not arrays:
        raise Refusal(
            f"{_MUST.format(path)}, but it is a zip archive without a .npy member. "
            "Unpack it and name a file."
        )
    return [_member(path, archive, member) for member in arrays]


def _member(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Tensor:
    def read() -> np.ndarray[Any, Any]:
        # By its record, not its name, which two members may share.
        with archive.open(member) as stream:
            return np.lib.format.read_array(stream, allow_pickle=False)

    with _reading(path, member.filename), archive.open(member) as stream:
        shape, dtype = _header(stream)
    name = member.filename.removesuffix(".npy")
    return Tensor(name, shape, dtype, partial(_loaded, path, name, read))


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], str]:
    """Shape and dtype that the header of a .npy says."""
    version = np.lib.format.read_magic(stream)
    if version == (3, 0):
        return (), "structured"  # the version of field names outside Latin-1, of no use elsewhere
    of = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    shape, _, dtype = of[version](stream)
    return shape, "structured" if dtype.names else dtype.type.__name__.removesuffix("_")


# The rest, such as F8_E4M3, keep their names.
_SAFETENSORS_DTYPES = {"BOOL": "bool", "BF16": "bfloat16"} | {
    f"{kind[0].upper()}{bits}": f"{kind}{bits}"
    for kind in ("float", "complex", "int", "uint")
    for bits in (8, 16, 32, 64)
}


def _safetensors(path: Path, stack: ExitStack) -> list[Tensor]:
    file = stack.enter_context(safe_open(path, framework="np"))
    tensors = []
    for name in file.keys():  # noqa: SIM118  an open file is no mapping
        part = file.get_slice(name)
        load = partial(_loaded, path, name, partial(file.get_tensor, name))
        dtype = _SAFETENSORS_DTYPES.get(part.get_dtype(), part.get_dtype())
        tensors.append(Tensor(name, tuple(part.get_shape()), dtype, load))
    return tensors


def _loaded(
    path: Path, name: str, read: Callable[[], np.ndarray[Any, Any]]
) -> np.ndarray[Any, Any]:
    """A plain array in the byte order of the machine, a memory map where it can stay one."""
    with _reading(path, name):
        array = np.asarray(read())
        return array.astype(array.dtype.newbyteorder("="), copy=False)


# ---- Writing -------------------------------------------------------------------------------------


class Format(NamedTuple):
    """How to write contiguous arrays by their names, and the dtypes that cannot be written."""

    write: Callable[[IO[bytes], dict[str, Any]], object]
    lacks: tuple[str, ...]


def _write_safetensors(stream: IO[bytes], arrays: dict[str, Any]) -> None:
    # Its `save_file` would write another file, which only its owner may read, and rename that.
    stream.write(save(arrays))


def _write_npz(stream: IO[bytes], arrays: dict[str, Any]) -> None:
    np.savez(stream, **arrays)


# By what a file is called.
FORMATS = {
    ".safetensors": Format(_write_safetensors, lacks=("complex128",)),
    ".npz": Format(_write_npz, lacks=("bfloat16",)),
}


def holds(path: Path, arrays: Mapping[str, np.ndarray[Any, Any]]) -> bool:
    """Whether a file can be read and has these arrays, bit for bit, and no others."""
    try:
        with tensors_in(path) as tensors:
            names = sorted(tensor.name for tensor in tensors)
            return names == sorted(arrays) and all(
                _bits(tensor.load()) == _bits(arrays[tensor.name]) for tensor in tensors
            )
    except Refusal:
        return False


def _bits(array: np.ndarray[Any, Any]) -> tuple[np.dtype[Any], tuple[int, ...], bytes]:
    return array.dtype, array.shape, array.tobytes()
