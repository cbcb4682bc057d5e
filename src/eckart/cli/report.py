"""The facts about a matrix, from one computation of its singular values."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from textwrap import indent
from typing import Any, NamedTuple, TypeAlias, TypeVar

import numpy as np

import eckart
from eckart.cli.files import Tensor
from eckart.cli.refusal import Refusal
from eckart.cli.text import called, shape_text

Array: TypeAlias = np.ndarray[Any, Any]

# Percent of the energy, the sum of the squared singular values.
ENERGIES = (90, 95, 99)
_HALVES = ("float16", "bfloat16")


class Unfit(NamedTuple):
    """Why the library refuses a matrix: some words for a table, and the message."""

    words: str
    sentence: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """A tensor, and why its matrix was refused; None if it was not."""

    tensor: Tensor
    unfit: Unfit | None = None


Value = TypeVar("Value")
AnyResult = TypeVar("AnyResult", bound=Result)


@dataclass(frozen=True, slots=True)
class Cut:
    """A rank, the relative Frobenius error at this rank, and the share of parameters saved."""

    rank: int
    error: float
    saved: float


@dataclass(frozen=True, slots=True)
class Measured:
    """Facts from the singular values; `truncated` is None without a rule."""

    rank: int
    stable_rank: float
    effective_rank: float
    energy: dict[int, Cut]  # by the percent kept
    truncated: Cut | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts(Result):
    """The facts about a matrix; the break-even rank depends only on the shape."""

    break_even_rank: int
    S: Array | None = None  # only to draw
    measured: Measured | None = None


def facts(
    tensor: Tensor, A: Array, *, rank: int | None = None, error: float | None = None
) -> Facts:
    """Measure `A`, the entries of `tensor`; `rank` and `error` are the rules of `truncated`."""
    (found,) = _facts_of_stack([tensor], A.reshape(tensor.matrix_shape), rank, error, True)
    return found


# Entries up to which a matrix is measured in a stack with others of its shape, entries of all
# waiting matrices, and additional entries for which each array counts.
_SMALL, _WAITING, _ARRAY = 2**14, 2**22, 2**7


def all_facts(
    tensors: Iterable[Tensor],
    *,
    rank: int | None = None,
    error: float | None = None,
    spectra: bool = True,
) -> list[Facts]:
    """Measure `tensors` in their order; small ones of one shape and dtype together, as a stack."""
    found: dict[int, Facts] = {}
    waiting: dict[Any, list[tuple[int, Tensor, Array]]] = {}

    def measure_waiting() -> None:
        for group in waiting.values():
            numbers, members, arrays = zip(*group, strict=True)
            results = None
            if len(members) > 1:
                with suppress(ValueError, ArithmeticError):  # then measure them one by one
                    results = _facts_of_stack(members, np.stack(arrays), rank, error, spectra)
            if results is None:
                results = [
                    facts(tensor, A, rank=rank, error=error)
                    for tensor, A in zip(members, arrays, strict=True)
                ]
            found.update(zip(numbers, results, strict=True))
        waiting.clear()

    size = 0
    for number, tensor in enumerate(tensors):
        with fitting(tensor):
            A = tensor.load().reshape(tensor.matrix_shape)
            if A.size > _SMALL or not np.isfinite(A).all():
                found[number] = facts(tensor, A, rank=rank, error=error)
                continue
        waiting.setdefault((A.shape, tensor.dtype), []).append((number, tensor, A))
        size += A.size + _ARRAY
        if size > _WAITING:
            measure_waiting()
            size = 0
    measure_waiting()
    return [found[number] for number in sorted(found)]


def _facts_of_stack(
    tensors: Sequence[Tensor], A: Array, rank: int | None, error: float | None, spectra: bool
) -> list[Facts]:
    """The facts about matrices of one shape; a refusal of a stack of several is raised."""
    shape, dtype = tensors[0].matrix_shape, tensors[0].dtype
    break_even_rank = eckart.break_even_rank(shape)
    if dtype in _HALVES:
        A = A.astype(np.float32)  # otherwise the singular values would be rounded to half too
    S = attempted(A, eckart.singular_values) if len(tensors) == 1 else eckart.singular_values(A)
    if isinstance(S, Unfit):
        return [Facts(tensor=tensors[0], unfit=S, break_even_rank=break_even_rank)]
    S = S.astype(np.float64).reshape(len(tensors), -1)

    def cuts(**rules: Any) -> list[Cut]:
        ranks = eckart.select_rank(S, **rules)
        errors = eckart.truncation_error(S, ranks, relative=True)
        return [
            Cut(r, e, saved(shape, r)) for r, e in zip(ranks.tolist(), errors.tolist(), strict=True)
        ]

    limit = limited(rank, shape)
    eps = 2.0**-7 if dtype == "bfloat16" else float(np.finfo(dtype).eps)  # NumPy has no bfloat16
    ranks = eckart.select_rank(S, shape=shape, eps=eps).tolist()
    stable, effective = eckart.stable_rank(S=S), eckart.effective_rank(S=S)
    by_energy = {p: cuts(error=math.sqrt((100 - p) / 100)) for p in ENERGIES}
    truncated = None if limit is None and error is None else cuts(rank=limit, error=error)
    return [
        Facts(
            tensor=tensor,
            break_even_rank=break_even_rank,
            S=S[i] if spectra else None,
            measured=Measured(
                rank=ranks[i],
                stable_rank=float(stable[i]),
                effective_rank=float(effective[i]),
                energy={p: by_energy[p][i] for p in ENERGIES},
                truncated=None if truncated is None else truncated[i],
            ),
        )
        for i, tensor in enumerate(tensors)
    ]


@contextmanager
def fitting(tensor: Tensor) -> Iterator[None]:
    """Name the tensor if memory does not suffice."""
    try:
        yield
    except MemoryError:
        raise Refusal(
            f"{called(tensor.name)} of shape {shape_text(tensor.shape)} and dtype {tensor.dtype} "
            "must fit in memory, several times, but it did not. "
            "Choose smaller tensors with `--name`."
        ) from None


def attempted(A: Array, compute: Callable[[Array], Value]) -> Value | Unfit:
    """``compute(A)``, or why the library refuses `A`."""
    try:
        with np.errstate(over="ignore", invalid="ignore"):  # the library refuses such values
            return compute(A)
    except (ValueError, ArithmeticError) as refusal:
        return Unfit("out of range" if np.isfinite(A).all() else "NaN or Inf", str(refusal))


def limited(rank: int | None, shape: tuple[int, int]) -> int | None:
    """`rank`, or the full rank of a smaller matrix."""
    return None if rank is None else min(rank, *shape)


def saved(shape: tuple[int, int], rank: int) -> float:
    """Share of the parameters that two factors save; negative if they store more."""
    m, n = shape
    return 1 - rank * (m + n) / (m * n) if m * n else 0.0


def as_json(found: Sequence[Facts]) -> Iterator[str]:
    """The lines of the JSON output: the facts about each matrix."""
    return listed(found, _values)


def listed(
    results: Sequence[AnyResult], values: Callable[[AnyResult], dict[str, Any]]
) -> Iterator[str]:
    """A JSON list with an object for each matrix, with null in place of missing numbers."""
    yield "["
    for i, result in enumerate(results):
        entry = {
            "name": result.tensor.name,
            "shape": result.tensor.shape,
            "matrix_shape": result.tensor.matrix_shape,
            "dtype": result.tensor.dtype,
            **values(result),
            "refusal": None if result.unfit is None else result.unfit.sentence,
        }
        end = "," if i + 1 < len(results) else ""
        yield indent(json.dumps(entry, indent=2, allow_nan=False), "  ") + end
    yield "]"


def _values(facts: Facts) -> dict[str, Any]:
    unknown = dict.fromkeys(field.name for field in fields(Measured))
    measured = unknown if facts.measured is None else asdict(facts.measured)
    return measured | {"break_even_rank": facts.break_even_rank}
