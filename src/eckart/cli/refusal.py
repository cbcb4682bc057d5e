"""The one way to end: a sentence on stderr and exit code 2."""

from __future__ import annotations

import click


class Refusal(click.ClickException):
    """What must be, what came, what to do."""

    exit_code = 2
