"""What there is to know about one matrix, all of it from one computation of its singular values."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, NamedTuple, TypeAlias, TypeVar

import numpy as np

import eckart
from eckart.cli.files import Tensor

Array: TypeAlias = np.ndarray[Any, Any]

# Percent of the energy, the sum of the squared singular values.
ENERGIES = (90, 95, 99)


class Unfit(NamedTuple):
    """Why the library refuses a matrix: two words for a table, and its sentence."""

    words: str
    sentence: str


@dataclass(frozen=True, kw_only=True)
class Result:
    """A tensor, and why nothing could be computed of its matrix, if so."""

    tensor: Tensor
    unfit: Unfit | None = None


Value = TypeVar("Value")
AnyResult = TypeVar("AnyResult", bound=Result)


@dataclass(frozen=True)
class Cut:
    """A rank to truncate at, the relative Frobenius error, the share of the parameters saved."""

    rank: int
    error: float
    saved: float


@dataclass(frozen=True)
class Measured:
    """What the singular values say; `truncated` only where a rule for it was given."""

    rank: int
    stable_rank: float
    effective_rank: float
    energy: dict[int, Cut]  # by the percent kept
    truncated: Cut | None


@dataclass(frozen=True, kw_only=True)
class Facts(Result):
    """What there is to know about a matrix; the break-even rank is of its shape alone."""

    break_even_rank: int
    S: Array | None = None
    measured: Measured | None = None


def facts(
    tensor: Tensor, A: Array, *, rank: int | None = None, error: float | None = None
) -> Facts:
    """Measure `A`, the values of `tensor`; `rank` and `error` are the rules of a `Cut`."""
    shape = tensor.matrix_shape
    break_even_rank = eckart.break_even_rank(shape)
    A = A.reshape(shape)
    if tensor.dtype in _HALVES:
        A = A.astype(np.float32)  # otherwise the singular values would be rounded to half too
    S = attempted(A, eckart.singular_values)
    if isinstance(S, Unfit):
        return Facts(tensor=tensor, unfit=S, break_even_rank=break_even_rank)
    S = S.astype(np.float64)

    def cut(**rules: Any) -> Cut:
        r = int(eckart.select_rank(S, **rules))
        return Cut(r, float(eckart.truncation_error(S, r, relative=True)), saved(shape, r))

    limit = limited(rank, shape)
    measured = Measured(
        rank=int(eckart.select_rank(S, rtol=_rtol(tensor.dtype, shape))),
        stable_rank=_stable_rank(S),
        effective_rank=_effective_rank(S),
        energy={p: cut(error=math.sqrt((100 - p) / 100)) for p in ENERGIES},
        truncated=None if limit is None and error is None else cut(rank=limit, error=error),
    )
    return Facts(tensor=tensor, break_even_rank=break_even_rank, S=S, measured=measured)


def attempted(A: Array, compute: Callable[[Array], Value]) -> Value | Unfit:
    """What `compute` makes of `A`, or why the library refuses it."""
    try:
        with np.errstate(over="ignore", invalid="ignore"):  # the refusal that follows says it
            return compute(A)
    except (ValueError, ArithmeticError) as refusal:
        return Unfit("out of range" if np.isfinite(A).all() else "NaN or Inf", str(refusal))


def limited(rank: int | None, shape: tuple[int, int]) -> int | None:
    """`rank`, or the largest there is: one serves matrices of many shapes."""
    return None if rank is None else min(rank, *shape)


def saved(shape: tuple[int, int], rank: int) -> float:
    """Share of the parameters that two factors save; negative where they store more."""
    m, n = shape
    return 1 - rank * (m + n) / (m * n) if m * n else 0.0


def as_json(found: Sequence[Facts]) -> str:
    """The facts of each matrix, for machines."""
    return listed(found, _values)


def listed(results: Sequence[AnyResult], values: Callable[[AnyResult], dict[str, Any]]) -> str:
    """A list with an object a matrix, numbers at full precision, null where there is none."""
    entries = [
        {
            "name": result.tensor.name,
            "shape": result.tensor.shape,
            "matrix_shape": result.tensor.matrix_shape,
            "dtype": result.tensor.dtype,
            **values(result),
            "refusal": None if result.unfit is None else result.unfit.sentence,
        }
        for result in results
    ]
    return json.dumps(entries, indent=2, allow_nan=False)


def _values(facts: Facts) -> dict[str, Any]:
    unknown = dict.fromkeys(field.name for field in fields(Measured))
    measured = unknown if facts.measured is None else asdict(facts.measured)
    return measured | {"break_even_rank": facts.break_even_rank}


# ---- What the library takes only from a matrix, which it would decompose each time ---------------

_HALVES = ("float16", "bfloat16")


def _rtol(dtype: str, shape: tuple[int, int]) -> float:
    """The default of `eckart.matrix_rank`."""
    eps = 2.0**-7 if dtype == "bfloat16" else float(np.finfo(dtype).eps)  # NumPy has no bfloat16
    return math.sqrt(min(shape)) * eps / 2 if dtype in _HALVES else max(shape) * eps


def _stable_rank(S: Array) -> float:
    """`eckart.stable_rank`."""
    ratios = _ratios(S)
    return float(np.sum(ratios * ratios))


def _effective_rank(S: Array) -> float:
    """`eckart.effective_rank`."""
    p = _ratios(S)
    if p.size == 0:
        return 0.0
    p /= np.sum(p)
    return float(np.exp(-np.sum(p * np.log(p))))


def _ratios(S: Array) -> Array:
    """The singular values in units of the largest, without those that are nothing beside it."""
    ratios = S[S > 0] / S[:1]
    return ratios[ratios > 0]
