"""How the command ends when it does not end well: a sentence on stderr, and an exit code."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import click

from eckart.cli.text import printable

UNFIT, REFUSED, UNPRINTED = 1, 2, 3

# A shell's code for a program that a signal has ended; `eckart.cli.main` makes it true.
BY_SIGNAL = 128


class Refusal(click.ClickException):
    """What must be, what came, what to do."""

    exit_code = REFUSED


class Stopped(BaseException):
    """A signal that asks to end, once what must not be left behind is cleared."""

    def __init__(self, number: int) -> None:
        self.number = number


def say(sentence: str) -> None:
    """Print a sentence on stderr: the one place that makes all of it printable."""
    with suppress(OSError):  # there is nobody left to tell
        click.echo(printable(sentence), err=True)


@contextmanager
def ending() -> Iterator[None]:
    """Whatever stops a command ends it with a sentence and an exit code."""
    try:
        yield
    except KeyboardInterrupt:
        raise SystemExit(BY_SIGNAL + signal.SIGINT) from None
    except Stopped as stopped:
        raise SystemExit(BY_SIGNAL + stopped.number) from None
    except MemoryError:
        say(
            "Error: one matrix at a time must fit in memory, several times over, but one did not. "
            "Choose smaller ones with `--name`."
        )
        raise SystemExit(REFUSED) from None
    except click.ClickException as error:
        if isinstance(error, click.UsageError) and error.ctx is not None:
            for line in error.ctx.get_usage().splitlines():  # as many as the terminal needs
                say(line)
            say(f"Try '{error.ctx.command_path} --help' for help.")
        say(f"Error: {error.format_message()}")
        raise SystemExit(error.exit_code) from None


@contextmanager
def printing(written: str = "") -> Iterator[None]:
    """A failure to print on stdout ends the command; `written` says what is there all the same."""
    try:
        yield
    except BrokenPipeError:
        raise SystemExit(BY_SIGNAL + getattr(signal, "SIGPIPE", 13)) from None
    except OSError as error:
        say(
            f"Error: standard output must take what was found, but it does not: {error.strerror}. "
            f"{written}Direct it elsewhere."
        )
        raise SystemExit(UNPRINTED) from None
