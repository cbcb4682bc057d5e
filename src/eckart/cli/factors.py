"""Computes two factors of each matrix, writes them, reads them back and certifies them."""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np

import eckart
from eckart.cli.files import DIRECTORY, FORMATS, Tensor, holds, listed_in
from eckart.cli.output import replacing
from eckart.cli.refusal import Refusal
from eckart.cli.report import Array, Result, Unfit, attempted, limited, listed, saved
from eckart.cli.text import called


@dataclass(frozen=True, kw_only=True, slots=True)
class Factored(Result):
    """The factors of a matrix in its dtype, and the certificate of the factors in the file."""

    factors: eckart.LowRank | None = None
    certificate: eckart.Certificate | None = None

    @property
    def stored(self) -> dict[str, Array]:
        """The factors by their names in the file."""
        factors = () if self.factors is None else zip("BA", self.factors, strict=True)
        return {f"{self.tensor.name}.{side}": array for side, array in factors}


def factored(tensor: Tensor, A: Array, *, rank: int | None, error: float | None) -> Factored:
    """The factors of `A`, the entries of `tensor`, at the rank that the rules give."""
    shape = tensor.matrix_shape
    factors = attempted(A.reshape(shape), lambda A: _best(A, limited(rank, shape), error))
    if isinstance(factors, Unfit):
        return Factored(tensor=tensor, unfit=factors)
    # The writer of .safetensors copies the memory of an array, whatever its order.
    parts = (np.ascontiguousarray(part) for part in factors)
    return Factored(tensor=tensor, factors=eckart.LowRank(*parts))


def _best(A: Array, rank: int | None, error: float | None) -> eckart.LowRank:
    """The factors; by the full SVD if an iteration does not converge."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        with suppress(RuntimeWarning):
            return eckart.factorize(A, rank, error=error)
    return eckart.factorize(A, rank, error=error, method="exact")


# ---- The file ------------------------------------------------------------------------------------


@contextmanager
def storing(path: Path, source: Path) -> Iterator[IO[bytes]]:
    """A stream to a file that becomes `path` at the end of the context; not the `source` itself."""
    try:
        same = path.samefile(source)
    except OSError:
        same = False  # one of the two does not exist
    if same:
        raise Refusal(
            f"`-o` must name another file than the one to read, got `{path}` for both. "
            "Choose another path."
        )
    with replacing(path, "-o", tuple(FORMATS)) as stream:
        yield stream


def refuse_unstorable(matrices: Sequence[Tensor], path: Path) -> None:
    """Refuse, before the computation, a dtype or a name that the format cannot store."""
    suffix = path.suffix.lower()
    form = FORMATS[suffix]
    for tensor in matrices:
        if tensor.dtype in form.lacks:
            others = [other for other, form in FORMATS.items() if tensor.dtype not in form.lacks]
            raise Refusal(
                f"`-o` must name a {' or '.join(others)} file for {called(tensor.name)} of dtype "
                f"{tensor.dtype}, which a {suffix} cannot store, got `{path}`. "
                "Choose another path."
            )
        why = form.refuses_name(f"{tensor.name}.B")
        if why is not None:
            raise Refusal(
                f"each matrix must have a name that a {suffix} file can store for its factors, but "
                f"the name of the factor of {called(tensor.name)} {why}. "
                "Leave the matrix out with `--name`, or rename it."
            )
    ((name, number),) = Counter(tensor.name for tensor in matrices).most_common(1)
    if number > 1:
        raise Refusal(
            f"each matrix must have a name of its own, because its factors are named after it, but "
            f"{number} are called {called(name)}. Rename them, or choose others with `--name`."
        )
    listed = listed_in([f"{tensor.name}.{side}" for tensor in matrices for side in "BA"])
    if listed > DIRECTORY:
        raise Refusal(
            f"`-o` must list its tensors in at most {DIRECTORY:,} bytes, but the factors of "
            f"{len(matrices):,} matrices take {listed:,}. Choose fewer with `--name`."
        )


def store(
    made: Sequence[Factored], stream: IO[bytes], path: Path, metadata: Mapping[str, str]
) -> None:
    """Write all factors to `stream`, read them back and compare."""
    arrays = {name: array for each in made for name, array in each.stored.items()}
    if not arrays:
        name, why = next((each.tensor.name, each.unfit.sentence) for each in made if each.unfit)
        raise Refusal(
            "there must be factors to write, but every matrix is refused, the first, "
            f"{called(name)}, because {why}"
        )
    form = FORMATS[path.suffix.lower()]
    carried = dict(metadata) if form.metadata else {}
    form.write(stream, arrays, *([carried] if carried else []))
    stream.flush()
    if not holds(Path(stream.name), arrays, carried):
        raise Refusal(
            f"`-o` must name a file that keeps what is written to it, got `{path}`, but what was "
            "read back is something else. Choose a path on another disk, or the other format."
        )


def certified(made: Factored, read: Mapping[str, Tensor]) -> Factored:
    """`made` with a certificate of the factors that were `read` back."""
    if made.factors is None:
        return made
    A = made.tensor.load().reshape(made.tensor.matrix_shape)
    factors = eckart.LowRank(*(read[name].load() for name in made.stored))
    with np.errstate(over="ignore"):  # an error too large for its dtype is infinite
        return replace(made, certificate=eckart.certify(A, factors))


def shortfall(made: Sequence[Factored], rank: int | None, error: float | None) -> str | None:
    """A message if rounding has raised the error above `error`; None otherwise."""
    above = [
        float(each.certificate.relative_error)
        for each in made
        if each.factors is not None
        and each.certificate is not None
        and error is not None
        and each.certificate.relative_error > error
        and each.factors.rank != limited(rank, each.tensor.matrix_shape)
    ]
    if not above:
        return None
    return (
        f"The error of {len(above)} of {len(made)} matrices is above --error {error:g}, at most "
        f"{max(above):.6g}, because the factors are rounded to the dtype of the tensor."
    )


# ---- For machines --------------------------------------------------------------------------------

_MEASURED = ("relative_error", "error", "spectral_error", "failure_probability", "excess")


def as_json(made: Sequence[Factored]) -> Iterator[str]:
    """The lines of the JSON output: the numbers of each matrix."""
    return listed(made, _values)


def _values(made: Factored) -> dict[str, Any]:
    values = dict.fromkeys(("rank", "size", "dense_size", "saved", *_MEASURED))
    factors = made.factors
    if factors is None:
        return values
    measured = {name: float(getattr(made.certificate, name)) for name in _MEASURED}
    return values | {
        "rank": factors.rank,
        "size": factors.size,
        "dense_size": factors.dense_size,
        "saved": saved(made.tensor.matrix_shape, factors.rank),
        **{name: value if math.isfinite(value) else None for name, value in measured.items()},
    }
