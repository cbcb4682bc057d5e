"""The script ``eckart``. Control-C ends it without a message at any time."""

from __future__ import annotations

import signal


def main() -> None:
    """Import the command, which takes some time, and run it."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from eckart.cli import main

    main()
