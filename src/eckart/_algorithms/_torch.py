"""Lets PyTorch trace a method as one operator; imported only when one of its tensors is traced.

Neither its compiler nor ``vmap`` can look at values, which a method does all the time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from eckart import _refusals
from eckart._algorithms.goal import is_resolved
from eckart._algorithms.methods import METHODS
from eckart._algorithms.rules import Rules
from eckart._algorithms.triplets import Triplets
from eckart._arrays.namespace import Array, cast, is_compiled
from eckart._arrays.spectra import unit
from eckart._matrices import of_parts


def traced(
    method: str, A: Array, rules: Rules, *, seed: int, spare: bool, **how: Any
) -> Triplets | None:
    """The triplets of a method for a traced tensor; None if the full SVD is the better way."""
    if rules.error is not None and not is_resolved(A, rules.error):
        return None
    if spare and is_compiled(A):  # its derivative would have a graph for each conjugate gradient
        return None
    seed = (seed + 2**63) % 2**64 - 2**63  # what a test matrix depends on, in 64 bits
    U, S, Vh, *others, doubtful = torch.ops.eckart.triplets(
        *(A, method, rules.rank, how["accuracy"], seed, how["strict"], spare)
    )
    rest = None
    if rules.error is not None:
        squares, power = of_parts((A,)).scaled_energy()
        ratios, top = cast(S / unit(S), squares.dtype), cast(unit(S)[..., 0], squares.dtype)
        rest = squares / (power * top) ** 2 - torch.sum(ratios * ratios, dim=-1)
        rest = torch.clamp(rest, min=0.0)
    if not spare:
        return Triplets(U, S, Vh, rest)
    return Triplets(U, S, Vh, rest, spare=tuple(others), doubtful=doubtful)


@torch.library.custom_op(
    "eckart::triplets",
    mutates_args=(),
    schema=(
        "(Tensor A, str method, SymInt rank, float accuracy, int seed, bool strict, bool spare)"
        " -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)"
    ),
)
def _triplets(
    A: Array, method: str, rank: int, accuracy: float, seed: int, strict: bool, spare: bool
) -> tuple[Array, ...]:
    """As many triplets as the rank, as many more if they are asked for, and what is doubtful."""
    matrix = of_parts((A,))
    how = {"accuracy": accuracy, "seed": seed, "strict": strict, "spare": spare}
    found = METHODS[method].triplets(matrix, Rules(rank), **how) or Triplets(*matrix.svd(rank))
    if found.residual is not None and found.residual > accuracy:
        _refusals.warn_of_residual(found.residual, accuracy)
    others = found.spare or (found.U[..., rank:], found.S[..., rank:], found.Vh[..., rank:, :])
    width = rank if spare else 0
    doubtful = A.new_full(A.shape[:-2], found.residual is not None, dtype=torch.bool)
    return (
        *(_columns(found.U, rank), _values(found.S, rank), _rows(found.Vh, rank)),
        *(_columns(others[0], width), _values(others[1], width), _rows(others[2], width)),
        doubtful,
    )


@_triplets.register_fake
def _(
    A: Array, method: str, rank: int, accuracy: float, seed: int, strict: bool, spare: bool
) -> Any:
    *stack, m, n = A.shape
    real, width = A.real.dtype, rank if spare else 0
    return (
        *(A.new_empty((*stack, m, rank)), A.new_empty((*stack, rank), dtype=real)),
        *(A.new_empty((*stack, rank, n)), A.new_empty((*stack, m, width))),
        *(A.new_empty((*stack, width), dtype=real), A.new_empty((*stack, width, n))),
        A.new_empty((*stack,), dtype=torch.bool),
    )


@_triplets.register_vmap
def _(info: Any, in_dims: Sequence[int | None], A: Array, *others: Any) -> Any:
    """What is mapped over is a stack."""
    axis = in_dims[0]
    stack = A.expand(info.batch_size, *A.shape) if axis is None else A.movedim(axis, 0)
    return torch.ops.eckart.triplets(stack, *others), (0,) * 7


def _columns(U: Array, width: int) -> Array:
    """The first columns, with zeros where there are fewer, in memory of their own."""
    missing = width - U.shape[-1]
    return torch.nn.functional.pad(U[..., :width], (0, max(0, missing))).clone()


def _values(S: Array, width: int) -> Array:
    return _columns(S[..., None, :], width)[..., 0, :].clone()


def _rows(Vh: Array, width: int) -> Array:
    return _columns(Vh.mT, width).mT.clone(memory_format=torch.contiguous_format)
