"""A file that appears, or is replaced, all at once."""

from __future__ import annotations

import os
import re
import secrets
import signal
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import IO, Any

from eckart.cli.refusal import Refusal, Stopped

try:
    import fcntl
except ImportError:  # on Windows, which lets nobody delete a file that somebody has open
    fcntl = None  # type: ignore[assignment]

# What asks a program to end; Control-C raises KeyboardInterrupt already.
_ENDS = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]


@contextmanager
def replacing(path: Path, option: str, suffixes: Sequence[str]) -> Iterator[IO[bytes]]:
    """A stream to a file that takes the place of `path` when the context ends well.

    What cannot be written is refused on entering, in the name of the `option` that asked for it.
    """

    def refusal(why: str) -> Refusal:
        return Refusal(
            f"`{option}` must name a {' or '.join(suffixes)} file that can be written, "
            f"got `{path}`, but {why}. Choose another path."
        )

    try:
        path = Path(os.path.realpath(path, strict=False))
        if path.suffix.lower() not in suffixes:
            raise refusal("it is not called so")
        if not path.parent.is_dir():
            raise refusal(f"{path.parent} is no directory")
        if os.path.lexists(path) and not (path.is_file() and os.access(path, os.W_OK)):
            raise refusal("what is there is no file that you may replace")
        # Beside the file, because only within one file system is a replacement atomic.
        part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
        mode = stat.S_IMODE(path.stat().st_mode) if path.exists() else None
        with _stopping():
            try:
                _clear_leftovers(path)
                with _created(part, 0o666 if mode is None else 0o600) as stream:
                    yield stream
                    stream.flush()
                    if mode is not None:
                        part.chmod(mode)
                    # A machine that goes down could keep the new name and lose what it names.
                    os.fsync(stream.fileno())
                part.replace(path)
            finally:
                part.unlink(missing_ok=True)
    except OSError as error:
        raise refusal(f"{path.parent} cannot be written: {error.strerror or error}") from None


def _created(part: Path, mode: int) -> IO[bytes]:
    """A new file, locked as long as somebody writes to it."""
    stream = open(part, "xb", opener=partial(os.open, mode=mode))  # noqa: SIM115  by who asks
    _locked(stream.fileno())
    return stream


def _locked(file: int) -> bool:
    """Lock an open file, unless another process has."""
    if fcntl is not None:
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
    return fcntl is None


def _clear_leftovers(path: Path) -> None:
    """Delete what runs that were killed have left of `path`; what is still written is locked."""
    leftover = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{8}}\.part")
    for part in path.parent.iterdir():
        if leftover.fullmatch(part.name) and part.is_file() and not part.is_symlink():
            with suppress(OSError), part.open("rb") as stream:
                if _locked(stream.fileno()):
                    part.unlink()


@contextmanager
def _stopping() -> Iterator[None]:
    """Let the signals that ask to end raise, so that what is left behind can be cleared."""

    def stop(number: int, frame: Any) -> None:
        for end in _ENDS:
            signal.signal(end, signal.SIG_IGN)  # once is enough
        raise Stopped(number)

    before = {end: signal.getsignal(end) for end in _ENDS}
    caught = [end for end in _ENDS if before[end] is signal.SIG_DFL]
    try:
        for end in caught:
            signal.signal(end, stop)
        yield
    finally:
        for end in caught:
            signal.signal(end, before[end])
