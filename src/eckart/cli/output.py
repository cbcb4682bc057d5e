"""A file that appears, or is replaced, all at once."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from eckart.cli.refusal import Refusal


@contextmanager
def replacing(path: Path, option: str, suffixes: Sequence[str]) -> Iterator[IO[bytes]]:
    """A stream to a file that takes the place of `path` when the context ends well.

    What cannot be written is refused on entering, in the name of the `option` that asked for it.
    """
    path = path.resolve()

    def refusal(why: str) -> Refusal:
        return Refusal(
            f"`{option}` must name a {' or '.join(suffixes)} file that can be written, "
            f"got `{path}`, but {why}. Choose another path."
        )

    # Beside the file, because only within one file system is a replacement atomic.
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        if path.suffix.lower() not in suffixes:
            raise refusal("it is not called so")
        if not path.parent.is_dir():
            raise refusal(f"{path.parent} is no directory")
        if path.exists() and not (path.is_file() and os.access(path, os.W_OK)):
            raise refusal("what is there is no file that you may replace")
        stream = part.open("xb")
        try:
            with stream:
                yield stream
                stream.flush()
                # A machine that goes down could keep the new name and lose what it names.
                os.fsync(stream.fileno())
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise refusal(f"{part.parent} cannot be written: {error.strerror or error}") from None
