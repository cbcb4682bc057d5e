"""The command line: ``eckart demo``, ``eckart inspect`` and ``eckart factorize``."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from importlib.util import find_spec

__all__ = ["main"]

# The packages of the extra `cli`. All are looked up before the first one is imported.
_NEEDS = ("click", "rich", "safetensors", "ml_dtypes")


def main() -> None:
    """Run the command, or say which packages to install."""
    # If a standard stream is closed, the next opened file would take its number.
    while (null := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(null)
    try:
        code = _run()
    except KeyboardInterrupt:  # while modules are imported
        code = 128 + signal.SIGINT
    _leave(code)


def _run() -> int:
    missing = [name for name in _NEEDS if find_spec(name) is None]
    if missing:
        return _refuse(
            f"the command `eckart` needs {', '.join(missing)}, which is not installed. "
            "Install the extra with pip install 'eckart[cli]'."
        )
    if sys.stdout is None:
        return _refuse(
            "standard output must be open, because the results are printed there, but it is "
            "closed. Redirect it to a file."
        )
    from eckart.cli.commands import command

    # Up to here Control-C ended the process at once. From now on there may be files to delete.
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        command(prog_name="eckart")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    return 0


def _refuse(sentence: str) -> int:
    if sys.stderr is not None:
        with suppress(OSError):
            sys.stderr.write(f"Error: {sentence}\n")
    return 2


def _leave(code: int) -> None:
    """End with an exit code, or by the signal of the code, so that a loop of the shell ends too."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except OSError:  # reported already; Python would try again, and report it again
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    if code > 128 and os.name == "posix":
        signal.signal(code - 128, signal.SIG_DFL)
        os.kill(os.getpid(), code - 128)
    sys.exit(code)
