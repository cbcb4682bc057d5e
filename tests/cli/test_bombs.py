"""Small files that claim to be large: the memory that they cost."""

from __future__ import annotations

import bz2
import json
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

pytestmark = pytest.mark.numpy_only

# What no hostile file may cost; the modules that are imported take an eighth of it.
LIMIT = 300 * 2**20

GIB = 2**30
SMALL = b"{'descr': '<f8', 'fortran_order': False, 'shape': (2, 2)}"

# Inspects every file that it is given, and writes what is said of each on stderr.
DRIVER = """
import sys
from eckart.cli.commands import command
for path in sys.argv[1:]:
    try:
        command(["inspect", path, "--json"])
    except SystemExit as end:
        sys.stderr.write(f">{end.code}\\n")
print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
"""


def npy(text, length=None):
    length = len(text) if length is None else length
    return b"\x93NUMPY\x02\x00" + struct.pack("<L", length) + text


def blown_up(start, size):
    """A deflated stream of `start` and `size` blanks, put together from one piece of it."""
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    first = deflate.compress(start) + deflate.flush(zlib.Z_FULL_FLUSH)
    piece = deflate.compress(b" " * 2**20) + deflate.flush(zlib.Z_FULL_FLUSH)
    return first + piece * (size // 2**20) + deflate.flush()


def archive(packed, size, method, copies=1):
    """A zip archive of one member, `copies` times in its directory."""
    name = b"w.npy"
    common = struct.pack("<HHHHLLLHH", 0, method, 0, 0, 0, len(packed), size, len(name), 0)
    local = b"PK\x03\x04" + struct.pack("<H", 20) + common + name + packed
    entry = b"PK\x01\x02" + struct.pack("<HH", 20, 20) + common
    entry += struct.pack("<HHHLL", 0, 0, 0, 0, 0) + name
    number = min(copies, 2**16 - 1)
    end = struct.pack("<HHHHLLH", 0, 0, number, number, len(entry) * copies, len(local), 0)
    return local + entry * copies + b"PK\x05\x06" + end


def safetensors(header):
    return struct.pack("<Q", len(header)) + header


def bombs():
    """Files, and what is said of each."""
    claim = npy(b"{'descr': ", GIB)
    yield archive(blown_up(claim, GIB), GIB, 8), "its header claims 1,073,741,824 bytes"
    claim = npy(b"{'descr': ", 2**32 - 1)
    yield archive(blown_up(claim, 4 * GIB), 2**32 - 1, 8), "its header claims 4,294,967,295 bytes"
    yield archive(bz2.compress(npy(SMALL) + b" " * 2**28), 2**28, 12), "by another method"
    huge = npy(SMALL.replace(b"(2, 2)", b"(20000, 20000)"))
    yield archive(blown_up(huge, 2**21), 2**32 - 1, 8), "claims 3,200,000,000 bytes of values"
    yield archive(huge, 2**32 - 1, 0), "is broken or cut short"
    yield archive(b"", 0, 0, copies=2 * 10**5), "must list its tensors in at most"
    for sign in b"(", b"-", b"[":
        yield npy(sign * 9000), "is broken or cut short"
    yield npy(b" " * 2**24), "where 10,000 are the most"
    yield npy(b"{'descr': '<f8', 'fortran_order': False, 'shape': (2, 200000000)}"), "claims 3,200"
    yield safetensors(b'{"w":[' + b"[]," * 2_000_000 + b"[]]}"), "no JSON object of tensors"
    yield safetensors(b'{"w":{"shape":[' + b"[]," * 2_000_000 + b"[]]}}"), "bytes of 'w'"
    yield safetensors(b'{"w":{"shape":' + b"[" * 2_000_000 + b"}}"), "bytes of 'w'"
    yield safetensors(b'{"w":{"' + b"\\n" * 3_000_000 + b'":0}}'), "bytes of 'w'"
    yield safetensors(b'{"__metadata__":{' + b'"":"aa",' * 10**6 + b'"":""}}'), "of '__metadata__'"
    yield safetensors(b"{" + b" " * 2**23 + b"}"), "must list its tensors in at most 8,388,608"
    many = {f"{i:x}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(10**5)}
    yield safetensors(json.dumps(many, separators=(",", ":")).encode()), "none of the 100000"


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system tells no peak")
def test_no_file_costs_more_memory_than_its_arrays(tmp_path):
    """What is claimed is looked at before it is read or made room for."""
    paths, expected = [], []
    for i, (content, sentence) in enumerate(bombs()):
        paths.append(tmp_path / str(i))
        paths[-1].write_bytes(content)
        expected.append(sentence)
    ended = subprocess.run(
        [sys.executable, "-c", DRIVER, *paths], capture_output=True, text=True, check=True
    )
    ends = ended.stderr.split(">2\n")[:-1]
    assert len(ends) == len(paths), ends
    for end, sentence in zip(ends, expected, strict=True):
        assert sentence in end
    assert int(ended.stdout) * 2**10 < LIMIT
