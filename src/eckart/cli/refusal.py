"""Errors of the command: a message on stderr and an exit code."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import click

from eckart.cli.text import printable

UNFIT, REFUSED, UNPRINTED = 1, 2, 3

# A shell's code for a program that a signal has ended. `eckart.cli.main` then raises the signal.
BY_SIGNAL = 128


class Refusal(click.ClickException):
    """An error message: the rule, the value that came, and what to do."""

    exit_code = REFUSED


class Stopped(BaseException):
    """A signal that ends the program after temporary files are deleted."""

    def __init__(self, number: int) -> None:
        self.number = number


def say(sentence: str) -> None:
    """Print a message on stderr, with unprintable characters escaped."""
    with suppress(OSError):  # stderr cannot be written
        click.echo(printable(sentence), err=True)


@contextmanager
def ending() -> Iterator[None]:
    """Turn every exception that ends a command into a message and an exit code."""
    try:
        yield
    except KeyboardInterrupt:
        raise SystemExit(BY_SIGNAL + signal.SIGINT) from None
    except Stopped as stopped:
        raise SystemExit(BY_SIGNAL + stopped.number) from None
    except MemoryError:
        say(
            "Error: several copies of one matrix must fit in memory, but they did not. "
            "Choose smaller matrices with `--name`."
        )
        raise SystemExit(REFUSED) from None
    except click.ClickException as error:
        if isinstance(error, click.UsageError) and error.ctx is not None:
            for line in error.ctx.get_usage().splitlines():  # wrapped for the terminal
                say(line)
            say(f"Try '{error.ctx.command_path} --help' for help.")
        say(f"Error: {error.format_message()}")
        raise SystemExit(error.exit_code) from None


@contextmanager
def printing(written: str = "") -> Iterator[None]:
    """End the command if stdout cannot be written; `written` names the files that exist anyway."""
    try:
        yield
    except BrokenPipeError:
        raise SystemExit(BY_SIGNAL + getattr(signal, "SIGPIPE", 13)) from None
    except OSError as error:
        say(
            f"Error: standard output must be writable, but it is not: {error.strerror}. "
            f"{written}Redirect it to another place."
        )
        raise SystemExit(UNPRINTED) from None
