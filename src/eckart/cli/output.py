"""A file that is created or replaced atomically."""

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
except ImportError:  # on Windows, where a file that is open cannot be deleted
    fcntl = None  # type: ignore[assignment]

# Signals that ask a program to end. Control-C raises KeyboardInterrupt already.
_ENDS = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]


@contextmanager
def replacing(path: Path, option: str, suffixes: Sequence[str]) -> Iterator[IO[bytes]]:
    """A stream to a file that replaces `path` if the context ends without an exception.

    A path that cannot be written is refused on entering. The message names the `option`.
    """

    def refusal(why: str) -> Refusal:
        return Refusal(
            f"`{option}` must name a {' or '.join(suffixes)} file that can be written, "
            f"got `{path}`, but {why}. Choose another path."
        )

    try:
        path = Path(os.path.realpath(path, strict=False))
        if path.suffix.lower() not in suffixes:
            raise refusal("it has another suffix")
        if not path.parent.is_dir():
            raise refusal(f"{path.parent} is not a directory")
        if os.path.lexists(path) and not (path.is_file() and os.access(path, os.W_OK)):
            raise refusal("it exists and is not a file that you may replace")
        # In the same directory, because a replacement is atomic only within one file system.
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
                    # After a crash of the machine the new name could exist without its contents.
                    os.fsync(stream.fileno())
                part.replace(path)
            finally:
                part.unlink(missing_ok=True)
    except OSError as error:
        raise refusal(f"{path.parent} cannot be written: {error.strerror or error}") from None


def _created(part: Path, mode: int) -> IO[bytes]:
    """A new file, locked while it is open."""
    stream = open(part, "xb", opener=partial(os.open, mode=mode))  # noqa: SIM115  the caller closes it
    _locked(stream.fileno())
    return stream


def _locked(file: int) -> bool:
    """Lock an open file; False if another process has locked it."""
    if fcntl is not None:
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
    return fcntl is None


def _clear_leftovers(path: Path) -> None:
    """Delete partial files of `path` from killed runs; the files of other runs are locked."""
    leftover = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{8}}\.part")
    for part in path.parent.iterdir():
        if leftover.fullmatch(part.name) and part.is_file() and not part.is_symlink():
            with suppress(OSError), part.open("rb") as stream:
                if _locked(stream.fileno()):
                    part.unlink()


@contextmanager
def _stopping() -> Iterator[None]:
    """Let the signals that end a program raise `Stopped`, so that temporary files are deleted."""

    def stop(number: int, frame: Any) -> None:
        for end in _ENDS:
            signal.signal(end, signal.SIG_IGN)  # only the first signal counts
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
