"""The commands, their options and their steps."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing, nullcontext
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from eckart.cli.refusal import UNFIT, Refusal, ending, printing, say
from eckart.cli.text import called, elided

if TYPE_CHECKING:
    from eckart.cli.files import Tensor
    from eckart.cli.report import Result


Decorated = TypeVar("Decorated", bound=Callable[..., Any])


class _Group(click.Group):
    """Commands whose exceptions become messages."""

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        with ending(), printing():
            return super().make_context(*args, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        with ending():
            return super().invoke(ctx)


class _Command(click.Command):
    """A command that may print its help, and whose help may fail to print."""

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        with printing():
            return super().make_context(*args, **extra)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="eckart")
def command() -> None:
    """Rank, truncated SVD and low-rank factors of matrices."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal that lacks a character gets a question mark, not a traceback.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


@command.command(cls=_Command)
@click.option(
    "--backend",
    type=click.Choice(["numpy", "torch", "jax"]),
    default="numpy",
    show_default=True,
    help="Library whose arrays to compute with.",
)
def demo(backend: str) -> None:
    """Explain low-rank adaptation (LoRA) step by step, with measured numbers."""
    from eckart.cli.demo import page

    with printing():
        for line in page(backend):
            click.echo(line)


def _share(ctx: click.Context, option: click.Parameter, value: float | None) -> float | None:
    if value is None or 0 <= value <= 1:
        return value
    raise click.BadParameter(
        f"it must be between 0 and 1, got {value}. It is relative: 0.1 keeps 99 % of the energy."
    )


# Click does not check that the file is readable, so that the message is ours.
_path = click.Path(path_type=Path, readable=False)

_file = click.argument("file", type=_path)
_name = click.option(
    "--name",
    "patterns",
    metavar="PATTERN",
    multiple=True,
    help="Only tensors whose name matches, for example '*.weight'; may be given several times.",
)
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, for machines.")


def _rules(rank: str, error: str) -> Callable[[Decorated], Decorated]:
    """The options that choose a rank, with their help."""

    def decorate(function: Decorated) -> Decorated:
        function = click.option("--error", type=float, callback=_share, help=error)(function)
        return click.option("--rank", type=click.IntRange(min=0), help=rank)(function)

    return decorate


@command.command(cls=_Command)
@_file
@_name
@_rules(
    "Show the error of this rank.",
    "Show the rank for this relative Frobenius error; with --rank, the smaller rank.",
)
@_json
@click.option("--plot", metavar="FILE.png", type=_path, help="Draw the spectra.")
@click.pass_context
def inspect(
    ctx: click.Context,
    file: Path,
    patterns: tuple[str, ...],
    rank: int | None,
    error: float | None,
    as_json: bool,
    plot: Path | None,
) -> None:
    """Measure the rank of every matrix in FILE, a .npy, .npz or .safetensors.

    Shows the numerical, stable and effective rank; the rank that keeps 90, 95 and 99 % of the
    energy, and the share of the parameters that two factors of that rank save; and the break-even
    rank, the largest rank at which factors save parameters. A tensor of more than two axes becomes
    a matrix: its first axis gives the rows, the other axes together the columns.

    A matrix with NaN or infinities is left out. If every matrix is left out, the exit code is 1.
    """
    from eckart.cli import report, table
    from eckart.cli.files import tensors_in
    from eckart.cli.plots import drawing
    from eckart.cli.progress import tracked

    picture = nullcontext() if plot is None else drawing(plot)
    with picture as draw, tensors_in(file) as tensors:
        chosen, matrices = _matrices(file, tensors, patterns)
        with closing(tracked(matrices)) as steps:
            found = report.all_facts(steps, rank=rank, error=error, spectra=draw is not None)
        if draw is not None:
            draw(found)

    _tell(report.as_json(found) if as_json else table.page(found), found, chosen)
    if all(each.unfit for each in found):
        ctx.exit(UNFIT)


@command.command(cls=_Command, options_metavar="[OPTIONS] -o OUT")
@_file
@_name
@_rules(
    "Truncate to this rank, or to the full rank of a smaller matrix.",
    "Truncate to the smallest rank with this relative Frobenius error; with --rank, the smaller "
    "rank.",
)
@_json
@click.option(
    "-o",
    "output",
    metavar="OUT",
    required=True,
    type=_path,
    help="File to write, a .safetensors or .npz; replaced if it exists.",
)
@click.pass_context
def factorize(
    ctx: click.Context,
    file: Path,
    patterns: tuple[str, ...],
    rank: int | None,
    error: float | None,
    as_json: bool,
    output: Path,
) -> None:
    """Replace every matrix in FILE, a .npy, .npz or .safetensors, by two factors, in OUT.

    A tensor NAME of m rows and n columns becomes NAME.B of m rows and NAME.A of n columns, in its
    dtype. The product NAME.B @ NAME.A is the best approximation of its rank. A tensor of more than
    two axes becomes a matrix: its first axis gives the rows, the other axes together the columns.
    OUT has only the factors.

    Before OUT appears, it is read back and compared with the factors, and its errors are measured.
    A matrix with NaN or infinities is left out. The exit code is then 1.
    """
    from eckart.cli import factors, table
    from eckart.cli.files import tensors_in
    from eckart.cli.progress import tracked
    from eckart.cli.report import fitting

    if rank is None and error is None:
        raise Refusal(
            "`--rank` or `--error` must choose a rank, but neither was given. "
            "Pass one, for example --error 0.1, which keeps 99 % of the energy."
        )
    made = []
    with factors.storing(output, file) as stream, tensors_in(file) as tensors:
        chosen, matrices = _matrices(file, tensors, patterns)
        factors.refuse_unstorable(matrices, output)
        with closing(tracked(matrices)) as steps:
            for each in steps:
                with fitting(each):
                    made.append(factors.factored(each, each.load(), rank=rank, error=error))
        factors.store(made, stream, output, tensors.metadata)
        with tensors_in(Path(stream.name)) as copies, closing(tracked(matrices)) as steps:
            read = {copy.name: copy for copy in copies}
            for i, each in enumerate(steps):
                with fitting(each):
                    made[i] = factors.certified(made[i], read)

    lines = factors.as_json(made) if as_json else table.factors_page(made)
    _tell(lines, made, chosen, f"`{output}` is complete. ")
    shortfall = factors.shortfall(made, rank, error)
    if shortfall is not None:
        say(shortfall)
    if any(each.unfit for each in made):
        ctx.exit(UNFIT)


def _matrices(
    file: Path, tensors: Sequence[Tensor], patterns: Sequence[str]
) -> tuple[list[Tensor], list[Tensor]]:
    """The tensors whose names match one of the patterns, and the matrices among them."""
    unmatched = set(patterns)
    chosen = []
    for tensor in tensors:
        matching = {pattern for pattern in patterns if fnmatchcase(tensor.name, pattern)}
        unmatched -= matching
        if matching or not patterns:
            chosen.append(tensor)
    for pattern in patterns:
        if tensors and pattern in unmatched:
            raise Refusal(
                f"`--name` must match a tensor of `{file}`, got {called(pattern)}. "
                f"The first of its {len(tensors)} is {called(tensors[0].name)}."
            )
    matrices = [tensor for tensor in chosen if tensor.excluded is None]
    if not matrices:
        raise Refusal(
            f"`{file}` must hold a matrix of floating-point numbers, but none of the "
            f"{len(chosen)} tensors is one{_reasons(chosen, ': ')}. "
            "Choose other tensors, or convert them."
        )
    return chosen, matrices


def _tell(
    lines: Iterable[str], results: Sequence[Result], chosen: Sequence[Tensor], written: str = ""
) -> None:
    """Print the results, and on stderr the refused matrices and the skipped tensors."""
    with printing(written):
        for line in lines:
            click.echo(line)
    for result in results:
        if result.unfit is not None:
            say(f"{elided(result.tensor.name, 200)}: {result.unfit.sentence}")
    if len(results) < len(chosen):
        number = len(chosen) - len(results)
        say(f"Skipped {number} of {len(chosen)} tensors: {_reasons(chosen)}.")


# Reasons to print at most; a file may have another dtype for each tensor.
_REASONS = 8


def _reasons(tensors: Sequence[Tensor], prefix: str = "") -> str:
    """Why tensors are not matrices, counted: ``63 with fewer than two axes, 1 of dtype int64``."""
    counts = Counter(tensor.excluded for tensor in tensors if tensor.excluded is not None)
    reasons = [f"{number} {reason}" for reason, number in counts.items()]
    if len(reasons) > _REASONS:
        others = sum(list(counts.values())[_REASONS:])
        reasons[_REASONS:] = [f"{others} for other reasons"]
    return prefix + ", ".join(reasons) if reasons else ""
