"""The script ``eckart``: Control-C ends it without a word from its first moment on."""

from __future__ import annotations

import signal


def main() -> None:
    """Import the command, which takes a while, and run it."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from eckart.cli import main

    main()
