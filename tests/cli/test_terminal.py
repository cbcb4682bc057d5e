"""On a terminal: what a file says never drives it, and no number is cut."""

from __future__ import annotations

import json
import os
import re
import struct
import warnings
import zipfile

import numpy as np
import pytest

pytestmark = pytest.mark.numpy_only

# A title of the window, colours by C0 and by C1, a line of its own, and text from right to left.
HOSTILE = [
    "\x1b]0;title\x07",
    "\x1b[31mred",
    "\x9b31mred",
    "a\nError: b\r",
    "\u202eabc\u2066",
    "\u2028\x7f\x85\xad\ufeff",
    "w",
]

# Bytes of a path that are no UTF-8, as Python has them: what UTF-8 would be is a C1 again.
UNDECODABLE = "\udc9b31m\udcff"

# What the command itself sends: bold titles.
BOLD = re.compile("\x1b\\[[01]m")

# Runs the command with each list of arguments, one process for all of them.
DRIVER = """
import json, os, sys
from eckart.cli import progress
from eckart.cli.commands import command
progress._MOMENT = float(sys.argv[2])
for arguments in json.load(open(sys.argv[1])):
    print("<", flush=True)
    try:
        command(arguments)
    except SystemExit as end:
        print(f">{end.code}", flush=True)
"""


def drives(text):
    """The characters of `text` that a terminal does not just show."""
    return {character for character in text if not character.isprintable() and character != "\n"}


@pytest.fixture
def driven(terminal, tmp_path):
    """Run the command on a terminal with each of several lists of arguments."""

    def driven(runs, moment=60, **options):
        (tmp_path / "runs.json").write_text(json.dumps(runs))
        code, text = terminal("-c", DRIVER, tmp_path / "runs.json", moment, **options)
        assert code == 0, text
        ends = re.findall(r"<\n(.*?)>(\d+)\n", text, re.DOTALL)
        assert len(ends) == len(runs), text
        return [(said, int(code)) for said, code in ends]

    return driven


def tensors(path, entries, data=b"", metadata=None):
    header = dict(entries)
    if metadata:
        header["__metadata__"] = metadata
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def entry(shape=(2, 2), dtype="F32", offsets=(0, 16)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def hostile_files(folder, text):
    """Files that are refused in every way there is, with `text` wherever a file may have it."""
    nan, good = struct.pack("<f", float("nan")) * 4, struct.pack("<4f", 1, 2, 3, 4)
    for name, content in {
        "dtype": ({"w": entry(dtype=text)}, good),
        "unfit": ({text: entry()}, nan),
        "one-unfit": ({text: entry(), "v": entry(offsets=(16, 32))}, nan + good),
        "short": ({text: entry()}, good[:8]),
        "size": ({text: entry((2, 3))}, good),
        "place": ({text: entry(offsets=(4, 20))}, good),
        "entry": ({text: {"dtype": text, "shape": [text], "data_offsets": [0, 16]}}, good),
        "key": ({text: {text: text}}, good),
        "name": ({text: entry((4,))}, good),
        "metadata": ({"w": entry((4,))}, good, {text: text}),
    }.items():
        yield tensors(folder / f"{name}.safetensors", *content)
    with zipfile.ZipFile(folder / "twins.npz", "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(2):
            with archive.open(f"{text}.npy", "w") as stream:
                np.save(stream, np.eye(3))
    yield folder / "twins.npz"
    whole = (folder / "twins.npz").read_bytes()
    central = whole.rindex(b"PK\x01\x02")
    for name, change in {
        "encrypted": (8, b"\1\0"),
        "packed": (10, b"\x0c\0"),
        "checksum": (16, b"\0\0\0\0"),
        "gone": (42, b"\xff\xff\0\0"),
    }.items():
        place = central + change[0]
        changed = whole[:place] + change[1] + whole[place + len(change[1]) :]
        (folder / f"{name}.npz").write_bytes(changed)
        yield folder / f"{name}.npz"
    with zipfile.ZipFile(folder / "text.npz", "w") as archive:
        archive.writestr(f"{text}.npy", text)
    yield folder / "text.npz"
    for name, header in {
        "shape": f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({text!r},)}}",
        "descr": f"{{'descr': {text!r}, 'fortran_order': False, 'shape': (2, 2)}}",
        "python": text,
        "fields": f"{{'descr': [({text!r}, '<f8')], 'fortran_order': False, 'shape': (2, 2)}}",
    }.items():
        content = header.encode()
        content = b"\x93NUMPY\x03\x00" + struct.pack("<L", len(content)) + content + b"\0" * 32
        (folder / f"{name}.npy").write_bytes(content)
        yield folder / f"{name}.npy"
    for name, content in {"start": text.encode() * 9, "page": b"<html>" + text.encode()}.items():
        (folder / name).write_bytes(content)
        yield folder / name


def hostile_arguments(folder, text):
    """Command lines that are refused, with `text` as every argument there is."""
    good, path = str(folder / "good.npy"), str(folder / text)
    np.save(good, np.eye(3))
    os.mkfifo(f"{path}fifo")
    (folder / f"{text}loop").symlink_to(folder / f"{text}loop")
    (folder / f"{text}dir").mkdir()
    for suffix in "", "fifo", "loop", "dir", "loop/x", "x" * 300:
        yield ["inspect", path + suffix]
        yield ["inspect", good, "--plot", path + suffix]
        yield ["factorize", good, "--rank", "1", "-o", path + suffix]
        yield ["factorize", good, "--rank", "1", "-o", f"{path}{suffix}/o.npz"]
    yield [text]
    yield ["inspect", good, text]
    yield ["inspect", good, f"--{text}"]
    yield ["inspect", good, "--rank", text]
    yield ["inspect", good, "--error", text]
    yield ["inspect", good, "--name", f"x{text}"]
    yield ["demo", "--backend", text]
    yield ["factorize", good, "--rank", text, "-o", path]


def test_no_refusal_drives_the_terminal(driven, tmp_path):
    """Whatever stands in a file, its name or an argument: one sentence, all of it printable."""
    runs = []
    for i, text in enumerate(HOSTILE):
        folder = tmp_path / str(i)
        folder.mkdir()
        for path in hostile_files(folder, text):
            runs.append(["inspect", str(path)])
            runs.append(["factorize", str(path), "--rank", "1", "-o", str(folder / "o.npz")])
        runs += hostile_arguments(folder, text)
    (tmp_path / "bytes").mkdir()
    runs += hostile_arguments(tmp_path / "bytes", UNDECODABLE)
    ends = driven(runs)
    for arguments, (said, code) in zip(runs, ends, strict=True):
        assert not drives(BOLD.sub("", said)), (arguments, said)
        assert "Traceback" not in said, (arguments, said)
        assert code in (0, 1, 2), (arguments, said)
        if code == 2:
            assert len(re.findall("^Error: ", said, re.MULTILINE)) == 1, (arguments, said)
    assert sum(code == 2 for _, code in ends) > 400


def test_no_bar_and_no_table_drives_the_terminal(driven, tmp_path):
    """A name stands in them with its escapes shown."""
    data = struct.pack("<4f", 1, 2, 3, 4)
    names = {name: entry(offsets=(16 * i, 16 * i + 16)) for i, name in enumerate(HOSTILE)}
    path = str(tensors(tmp_path / "w.safetensors", names, data * len(names)))
    out = str(tmp_path / "o.safetensors")
    for said, code in driven(
        [["inspect", path], ["factorize", path, "--rank", "1", "-o", out]], moment=0
    ):
        assert code == 0
        # The bar moves the cursor and has its colours, but sets no title and sends no C1.
        assert drives(re.sub("\x1b\\[[?0-9;]*[A-Za-z]", "", said)) <= {"\r"}
        assert not re.search("31m|\x07|\x9b", said.replace(r"[31m", "").replace(r"\x9b31m", ""))
        assert r"\x1b]0;title\x07" in said


def test_the_usage_is_folded_to_the_terminal(driven, npz):
    """Its own line breaks are none of a file's."""
    ((said, code),) = driven([["factorize", str(npz), "--rank", "1"]], columns=20)
    assert code == 2
    assert " ".join(said.split()).startswith("Usage: ")
    assert "[OPTIONS] -o OUT FILE Try '" in " ".join(said.split())
    assert "\\n" not in said


NAME = "encoder.layers.10.self_attention.query_projection.weight"


@pytest.mark.parametrize("columns", [40, 80, 120])
def test_a_table_fits_the_terminal_and_no_number_or_word_is_cut(columns, driven, run, tmp_path):
    """What one as wide as a file shows stands there too; the narrowest says what it leaves out."""
    rng = np.random.default_rng(0)
    matrices = {NAME: rng.standard_normal((3000, 20)), "w": np.full((2, 3), np.nan)}
    np.savez(tmp_path / "w.npz", **matrices)
    runs = [
        ["inspect", str(tmp_path / "w.npz"), "--rank", "3"],
        ["factorize", str(tmp_path / "w.npz"), "--rank", "3", "-o", str(tmp_path / "o.npz")],
    ]
    for arguments, (said, code) in zip(runs, driven(runs, columns=columns), strict=True):
        wide = run(*arguments)
        assert code == wide.exit_code
        said = BOLD.sub("", said)
        lines = said.split("\n")
        table = lines[: lines.index("")]
        assert max(map(len, table)) <= columns
        (row,) = (line for line in wide.stdout.split("\n") if line.startswith(NAME))
        shown = " ".join(table).split()
        missing = [cell for cell in row.split()[1:] if cell not in shown]
        told = "Left out, as the terminal is narrow:" in said
        assert bool(missing) == told == (columns == 40 and arguments[0] == "inspect"), said
        assert all(word in said for word in re.findall(r"[^.]+\.?", NAME)), said
        assert "NaN or Inf" in said


@pytest.mark.parametrize("variables", [{"TERM": "dumb"}, {"NO_COLOR": "1"}])
def test_a_terminal_that_cannot_or_may_not_gets_plain_text(variables, driven, npz):
    """No title is bold; one that is dumb gets no bar either."""
    runs = [["inspect", str(npz)], ["demo"]]
    moment = 0 if "TERM" in variables else 60
    for said, code in driven(runs, moment, **variables):
        assert code == 0
        assert "\x1b" not in said


def test_a_title_is_bold_where_it_may_be(driven, npz):
    """The two lines of titles above the rule, and the headings of the page."""
    (table, _), (page, _) = driven([["inspect", str(npz)], ["demo"]])
    assert "\x1b[1mtensor" in table
    assert "\x1b[1m1. How many directions has W?\x1b[0m" in page
