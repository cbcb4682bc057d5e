"""Reads the tensors of a file one at a time, and writes files of arrays, in all formats."""

from __future__ import annotations

import ast
import errno
import io
import json
import math
import os
import re
import stat
import sys
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import IO, Any, NamedTuple

import ml_dtypes  # noqa: F401  registers bfloat16 with NumPy
import numpy as np
from safetensors.numpy import save

from eckart.cli.refusal import Refusal
from eckart.cli.text import called, elided

_FLOATS = ("float16", "bfloat16", "float32", "float64", "complex64", "complex128")

# Largest number of axes of an array of NumPy.
_AXES = 64


class Tensor(NamedTuple):
    """The name, the shape and the dtype of a tensor in a file, and a function that reads it."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    load: Callable[[], np.ndarray[Any, Any]]

    @property
    def excluded(self) -> str | None:
        """Why the tensor is not a matrix of floating-point numbers; None if it is one."""
        if self.dtype == "object":
            return "of Python objects, which are never unpickled"
        if self.dtype not in _FLOATS:
            return f"of dtype {elided(self.dtype, 40)}"
        if len(self.shape) > _AXES:
            return f"with more than {_AXES} axes"
        return "with fewer than two axes" if len(self.shape) < 2 else None

    @property
    def matrix_shape(self) -> tuple[int, int]:
        """Shape of the matrix: the length of the first axis, and the product of the others."""
        return self.shape[0], math.prod(self.shape[1:])


class Tensors(list[Tensor]):
    """All tensors of a file, and the metadata of the file."""

    metadata: Mapping[str, str]


@contextmanager
def tensors_in(path: Path) -> Iterator[Tensors]:
    """All tensors of a file in the natural order of their names; they load within the context."""
    with ExitStack() as stack:
        file = stack.enter_context(_opened(path))
        with file.reading():
            tensors = Tensors(sorted(_reader(file)(file, stack), key=_natural))
            tensors.metadata = file.metadata
        yield tensors


def _natural(tensor: Tensor) -> list[str | tuple[int, str]]:
    """``layer.2`` before ``layer.10``."""
    parts = re.split(r"(\d+)", tensor.name)
    # The longer number is the larger one. Python does not convert more than 4300 digits.
    return [(len(part.lstrip("0")), part) if i % 2 else part for i, part in enumerate(parts)]


# ---- A file with unknown content -----------------------------------------------------------------

_MUST = "`{}` must be a .npy, .npz or .safetensors file"

# Largest size of the list of tensors in a file, in bytes. It is read at once, and has room for the
# names of 60,000 tensors.
DIRECTORY = 2**23


class _File(io.BufferedReader):
    """A file to read, not to map: truncating a mapped file kills the process."""

    def __init__(self, path: Path) -> None:
        super().__init__(path.open("rb").detach())
        self.path = path
        self.metadata: dict[str, str] = {}
        self._state = self._now()

    def _now(self) -> tuple[int, int]:
        now = os.fstat(self.fileno())
        return now.st_size, now.st_mtime_ns

    @property
    def size(self) -> int:
        """Size of the file in bytes when it was opened."""
        return self._state[0]

    def read(self, size: int | None = -1, /) -> bytes:
        """The next bytes, at most `DIRECTORY`. Entries are read into an array instead."""
        wanted = self.size if size is None or size < 0 else size
        if min(wanted, self.size - self.tell()) > DIRECTORY:
            raise Refusal(
                f"`{self.path}` must list its tensors in at most {DIRECTORY:,} bytes, "
                f"but the list has {min(wanted, self.size):,}. Split it into several files."
            )
        return super().read(size)

    @contextmanager
    def reading(self, name: str | None = None) -> Iterator[None]:
        """Turn every exception of a reader into one message."""
        where = f"`{self.path}`" if name is None else f"{called(name)} in `{self.path}`"
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield
            self._refuse_change()
        except (Refusal, MemoryError):
            raise
        except OSError as error:
            self._refuse_change()
            raise _unreadable(self.path, error) from None
        except Exception as error:
            # The readers do not document their exceptions for broken files.
            self._refuse_change()
            reason = elided(str(error) or type(error).__name__, 300)
            raise Refusal(
                f"{where} must be readable, but it is broken or cut short ({reason}). "
                "Copy or download it again."
            ) from None

    def _refuse_change(self) -> None:
        if self._now() != self._state:
            raise Refusal(
                f"`{self.path}` must stay as it is while it is read, but it changed: it had "
                f"{self.size:,} bytes, and has {self._now()[0]:,}. Try again once it is complete."
            )


def _opened(path: Path) -> _File:
    try:
        kind = path.stat().st_mode
        if not stat.S_ISREG(kind):  # opening a pipe could wait for ever
            came = "a directory" if stat.S_ISDIR(kind) else "no regular file"
            raise Refusal(f"{_MUST.format(path)}, but it is {came}. Name a file.")
        return _File(path)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> Exception:
    """The message for an error of the operating system."""
    if isinstance(error, FileNotFoundError):
        return Refusal(f"{_MUST.format(path)}, but it does not exist. Check the path.")
    if isinstance(error, PermissionError):
        return Refusal(f"{_MUST.format(path)} that you may read. Change its permissions.")
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return MemoryError()
    reason = getattr(error, "strerror", None) or error
    return Refusal(
        f"{_MUST.format(path)} that can be read, but it cannot: {reason}. Check the path."
    )


# ---- Which format --------------------------------------------------------------------------------

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


def _reader(file: _File) -> Callable[[_File, ExitStack], list[Tensor]]:
    """The reader of a file, chosen by the content, because names are often wrong."""
    start = file.read(64)
    file.seek(0)
    if start.startswith(b"\x93NUMPY"):
        return _npy
    if start.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _npz
    if _SAFETENSORS.match(start):
        return _safetensors
    for sign, came, do in _FOREIGN:
        if re.match(sign, start):
            raise Refusal(f"{_MUST.format(file.path)}, but {came}. {do}")
    raise Refusal(
        f"{_MUST.format(file.path)}, but it begins like none of them, with {start[:8]!r}. "
        "Convert it first."
    )


# ---- Arrays --------------------------------------------------------------------------------------


class _Header(NamedTuple):
    """The header of an array."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool = False

    @property
    def size(self) -> int:
        """Bytes of the values."""
        return math.prod(self.shape) * self.dtype.itemsize

    def refuse_shortage(self, available: int) -> None:
        """Refuse a header that claims more bytes than the file has, before memory is allocated."""
        if self.size > available:
            raise ValueError(
                f"its header claims {self.size:,} bytes of values, where there are {available:,}"
            )


def _filled(stream: Any, header: _Header) -> np.ndarray[Any, Any]:
    """The array at the position of the stream, in the byte order of the machine."""
    data = np.empty(header.size, np.uint8)
    for start in range(0, header.size, _PIECE):
        piece = data[start : start + _PIECE]
        read = stream.readinto(piece)
        if read < piece.size:
            raise EOFError(f"its values end after {start + read:,} of {header.size:,} bytes")
    array = data.view(header.dtype).reshape(header.shape, order="F" if header.fortran else "C")
    return array.astype(array.dtype.newbyteorder("="), copy=False)


# Bytes to read at once; a compressed stream makes a copy of them.
_PIECE = 2**22


# ---- The formats ---------------------------------------------------------------------------------


def _npy(file: _File, stack: ExitStack) -> list[Tensor]:
    header = _npy_header(file)
    start = file.tell()
    name = file.path.stem

    def load() -> np.ndarray[Any, Any]:
        with file.reading():
            header.refuse_shortage(file.size - start)
            file.seek(start)
            return _filled(file, header)

    return [Tensor(name, header.shape, _dtype_name(header.dtype), load)]


# Largest header that NumPy parses, in bytes.
_NPY_HEADER = 10_000


def _npy_header(stream: IO[bytes]) -> _Header:
    """The header of a .npy file; its length is checked before it is read."""
    magic = stream.read(8)
    version = magic[6:7]
    if not magic.startswith(b"\x93NUMPY") or version not in (b"\1", b"\2", b"\3"):
        raise ValueError(f"it begins with {magic!r}")
    length = int.from_bytes(stream.read(2 if version == b"\1" else 4), "little")
    if length > _NPY_HEADER:
        raise ValueError(f"its header claims {length:,} bytes, where {_NPY_HEADER:,} are the most")
    text = stream.read(length).decode("utf-8" if version == b"\3" else "latin-1")
    try:
        # Python 2 wrote its long integers with an L.
        header = ast.literal_eval(re.sub(r"(?<=\d)L(?=[,)])", "", text))
        shape, fortran = header["shape"], header["fortran_order"]
        dtype = np.lib.format.descr_to_dtype(header["descr"])
    except (MemoryError, RecursionError):
        raise ValueError("its header is nested too deeply") from None
    if not isinstance(shape, tuple) or not all(type(size) is int and size >= 0 for size in shape):
        raise ValueError(f"its shape is {shape!r}")
    return _Header(shape, dtype, bool(fortran))


def _dtype_name(dtype: np.dtype[Any]) -> str:
    return "structured" if dtype.names else dtype.type.__name__.removesuffix("_")


# The methods that NumPy writes. Other methods can unpack a few bytes to gigabytes in one step.
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_DEFLATED = 1032  # largest ratio of unpacked to packed bytes


def _npz(file: _File, stack: ExitStack) -> list[Tensor]:
    archive = stack.enter_context(zipfile.ZipFile(file))
    members = archive.infolist()
    if any(member.filename.endswith("data.pkl") for member in members):
        raise Refusal(
            f"{_MUST.format(file.path)}, but it is a PyTorch checkpoint, a pickle, which can run "
            "any code and is never read. Save it with safetensors.torch.save_file where you "
            "trust it."
        )
    arrays = [member for member in members if member.filename.endswith(".npy")]
    if not arrays:
        raise Refusal(
            f"{_MUST.format(file.path)}, but it is a zip archive without a .npy member. "
            "Unpack it and name a file."
        )
    return [_member(file, archive, member) for member in arrays]


def _member(file: _File, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Tensor:
    if member.flag_bits & 1:
        raise Refusal(
            f"{_MUST.format(file.path)}, but its member {called(member.filename)} is encrypted. "
            "Unpack it with its password, and save the arrays without one."
        )
    if member.compress_type not in _METHODS:
        raise Refusal(
            f"{_MUST.format(file.path)}, but its member {called(member.filename)} is compressed "
            "by another method than a .npz has. Unpack it and name a file."
        )
    with file.reading(member.filename), archive.open(member) as stream:
        header = _npy_header(stream)
    name = member.filename.removesuffix(".npy")
    load = partial(_member_values, file, archive, member)
    return Tensor(name, header.shape, sys.intern(_dtype_name(header.dtype)), load)


def _member_values(
    file: _File, archive: zipfile.ZipFile, member: zipfile.ZipInfo
) -> np.ndarray[Any, Any]:
    name = member.filename.removesuffix(".npy")
    # Opened by its record, not by its name, because two members may have one name.
    with file.reading(name), archive.open(member) as stream:
        header = _npy_header(stream)
        stored = member.compress_type == zipfile.ZIP_STORED
        header.refuse_shortage(member.compress_size * (1 if stored else _DEFLATED))
        array = _filled(stream, header)
        stream.read(1)  # at the end of the stream the checksum is compared
        return array


# Other dtypes, such as F8_E4M3, keep their names.
_SAFETENSORS_DTYPES = {"BOOL": "bool", "BF16": "bfloat16"} | {
    f"{kind[0].upper()}{bits}": f"{kind}{bits}"
    for kind in ("float", "complex", "int", "uint")
    for bits in (8, 16, 32, 64)
}

# An entry of the header: a name, and an object without nested objects. Entries are parsed one at a
# time, because the parsed header may take thirty times the bytes of its text.
_STRING = rb'"(?:[^"\\]++|\\.)*+"'
_ENTRY = re.compile(
    rb"\s*+(%b)\s*+:\s*+(\{(?:[^{}\"]++|%b)*+\})\s*+([,}])" % (_STRING, _STRING), re.DOTALL
)
_ENTRY_BYTES, _METADATA_BYTES = 2**12, 2**22


def _safetensors(file: _File, stack: ExitStack) -> list[Tensor]:
    length = int.from_bytes(file.read(8), "little")
    start = 8 + length
    if start > file.size:
        raise ValueError(f"its header claims {length:,} bytes, where {file.size - 8:,} follow")
    tensors: dict[str, tuple[int, int, Tensor]] = {}
    for name, entry in _safetensors_entries(file.read(length)):
        if name == "__metadata__":
            "".join([*entry, *entry.values()]).encode()  # raises for values that are not text
            file.metadata = entry
        else:
            first, last = entry["data_offsets"]
            tensor = _safetensors_tensor(file, name, entry, start + first, last - first)
            tensors[name] = start + first, start + last, tensor
    end = start
    for first, last, tensor in sorted(tensors.values(), key=itemgetter(0, 1)):
        if not end == first <= last:
            raise ValueError(f"{called(tensor.name)} does not begin where the one before ends")
        end = last
    if end != file.size:
        raise ValueError(f"its tensors end after {end:,} of {file.size:,} bytes")
    return [tensor for _, _, tensor in tensors.values()]


def _safetensors_entries(header: bytes) -> Iterator[tuple[str, dict[str, Any]]]:
    """The names and the entries of the header, one after another."""
    if header.strip() == b"{}":
        return
    end, more = 1, header.startswith(b"{")
    while more:
        entry = _ENTRY.match(header, end)
        if entry is None:
            break
        name = json.loads(entry[1])
        if len(entry[2]) > (_METADATA_BYTES if name == "__metadata__" else _ENTRY_BYTES):
            raise ValueError(f"its header says {len(entry[2]):,} bytes of {called(name)}")
        name.encode()  # raises for a lone surrogate
        yield name, json.loads(entry[2])
        end, more = entry.end(), entry[3] == b","
    if more or header[end:].strip():
        raise ValueError(f"its header is no JSON object of tensors, at byte {end:,}")


def _safetensors_tensor(
    file: _File, name: str, entry: dict[str, Any], start: int, size: int
) -> Tensor:
    shape, dtype = tuple(entry["shape"]), entry["dtype"]
    if not isinstance(dtype, str) or not all(type(n) is int and n >= 0 for n in shape):
        raise ValueError(f"its header says of {called(name)} {entry}")
    # Equal dtypes share one string.
    dtype = sys.intern(_SAFETENSORS_DTYPES.get(dtype, dtype))
    load = partial(_safetensors_values, file, name, shape, dtype, start)
    if dtype in _FLOATS and size != math.prod(shape) * np.dtype(dtype).itemsize:
        raise ValueError(f"{called(name)} of shape {shape} and dtype {dtype} has {size:,} bytes")
    return Tensor(name, shape, dtype, load)


def _safetensors_values(
    file: _File, name: str, shape: tuple[int, ...], dtype: str, start: int
) -> np.ndarray[Any, Any]:
    with file.reading(name):
        file.seek(start)
        return _filled(file, _Header(shape, np.dtype(dtype).newbyteorder("<")))


# ---- Writing -------------------------------------------------------------------------------------


class Format(NamedTuple):
    """A format of files: how to write contiguous arrays by their names, and its limits."""

    write: Callable[..., object]
    lacks: tuple[str, ...]  # dtypes
    metadata: bool  # whether the format has metadata, the third argument of `write`
    longest: int  # bytes of a name
    null: bool  # whether a name may have a null character

    def refuses_name(self, name: str) -> str | None:
        """Why a tensor cannot have this name; None if it can."""
        try:
            length = len(name.encode())
        except UnicodeEncodeError:
            return "is no text"
        if length > self.longest:
            return f"takes {length:,} bytes, of {self.longest:,} at most"
        return "has a null character" if "\0" in name and not self.null else None


def _write_safetensors(
    stream: IO[bytes], arrays: dict[str, Any], metadata: dict[str, str] | None = None
) -> None:
    # `save_file` would write another file, which only its owner may read, and rename it.
    stream.write(save(arrays, metadata=metadata))


def _write_npz(stream: IO[bytes], arrays: dict[str, Any]) -> None:
    np.savez(stream, **arrays)


# The formats by the suffix of the file.
FORMATS = {
    ".safetensors": Format(
        _write_safetensors, lacks=("complex128",), metadata=True, longest=DIRECTORY, null=True
    ),
    ".npz": Format(
        _write_npz,
        lacks=("bfloat16",),
        metadata=False,
        longest=2**16 - 1 - len(".npy"),  # of a member of a zip archive
        null=False,
    ),
}


# Bytes of an entry without its name: a dtype, two sizes of ten digits and two offsets of fifteen.
# A .npz has a record of 78 bytes.
_ENTRY_OF_A_MATRIX = 110


def listed_in(names: Sequence[str]) -> int:
    """Upper bound on the bytes that a file takes to list matrices of these `names`."""
    return sum(len(json.dumps(name)) + _ENTRY_OF_A_MATRIX for name in names)


def holds(
    path: Path,
    arrays: Mapping[str, np.ndarray[Any, Any]],
    metadata: Mapping[str, str] | None = None,
) -> bool:
    """Whether a file is readable and has exactly these arrays, bit for bit, and this metadata."""
    try:
        with tensors_in(path) as tensors:
            names = sorted(tensor.name for tensor in tensors)
            return (
                names == sorted(arrays)
                and tensors.metadata == (metadata or {})
                and all(_bits(tensor.load()) == _bits(arrays[tensor.name]) for tensor in tensors)
            )
    except Refusal:
        return False


def _bits(array: np.ndarray[Any, Any]) -> tuple[np.dtype[Any], tuple[int, ...], bytes]:
    return array.dtype, array.shape, array.tobytes()
