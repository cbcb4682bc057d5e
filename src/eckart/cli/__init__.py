"""The command line: ``eckart demo`` tells, ``inspect`` measures a file, ``factorize`` cuts it."""

from __future__ import annotations

import sys
from importlib.util import find_spec

__all__ = ["main"]

# What the extra `cli` brings; all of it is looked for before any of it is imported.
_NEEDS = ("click", "rich", "safetensors", "ml_dtypes")


def main() -> None:
    """Run the command, or say in one sentence what to install."""
    missing = [name for name in _NEEDS if find_spec(name) is None]
    if missing:
        sys.stderr.write(
            f"Error: the command `eckart` needs {', '.join(missing)}, not installed here. "
            "Install the extra with pip install 'eckart[cli]'.\n"
        )
        sys.exit(2)
    from eckart.cli.commands import command

    command(prog_name="eckart")
