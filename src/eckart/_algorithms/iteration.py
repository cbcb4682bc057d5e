"""The loop of a block Krylov iteration: extend, check, renew or restart, until it converges."""

from __future__ import annotations

import math
from typing import Any, NamedTuple, Protocol

from eckart._algorithms.basis import Basis, random_block
from eckart._algorithms.goal import Goal, Verdict
from eckart._arrays.control import Condition, Count, either, repeat, when
from eckart._arrays.namespace import Array, namespace

# Steps after which an iteration stops, and steps after which the basis may become wider.
STEPS, _SLOW = 1000, 32
_WIDER = 4  # largest factor of the width

# Steps per check in a trace. There a check computes with all columns of the arrays, used or not,
# and costs as much as a step.
_EVERY = 2

# Usual size of a basis before a restart, in multiples of the wanted columns or of two blocks.
ROOM = 6


class Sides(Protocol):
    """The bases that an iteration keeps: of both sides of a matrix, or of one side."""

    seed: int

    @property
    def can_widen(self) -> bool:
        """Whether products can be computed in a wider dtype, if rounding prevents convergence."""

    def extended(self, basis: Basis) -> Basis:
        """The basis with one more block."""

    def ritz(self, basis: Basis) -> tuple[Array, Array, Array | None]:
        """Ritz values, descending, their residuals, and the lower bounds of these from rounding."""

    def restarted(self, basis: Basis, keep: Count) -> Basis:
        """The basis of only the leading Ritz triplets."""


class Space(NamedTuple):
    """Sizes of an iteration: columns of a block, and of a basis usually and at most; most steps.

    If `usual` is None, the usual size of a basis depends on the number of wanted triplets.
    """

    width: int
    usual: int | None
    most: int
    patience: float = math.inf


class State(NamedTuple):
    """State of an iteration."""

    basis: Any
    verdict: Verdict
    step: Count
    given_up: Condition
    going: Condition


def iterated(sides: Sides, basis: Basis, goal: Goal, space: Space) -> State:
    """Iterate from a basis until the goal is reached; the final state.

    Thick restarts [1]_ bound the size of the basis. In a trace the arrays of the basis have their
    final size from the start.

    References
    ----------
    .. [1] K. Wu and H. Simon, "Thick-restart Lanczos method for large symmetric eigenvalue
       problems", SIAM Journal on Matrix Analysis and Applications 22, 2000.
    """
    rank = goal.rules.rank or 0
    n = basis.P.shape[-2]

    def most(step: Count, width: int, wanted: Count) -> Count:
        """Columns that the basis may have after a step."""
        if not isinstance(step, int):
            return space.most
        usual = space.usual or ROOM * max(wanted, 2 * width)
        return min(min(_WIDER, 1 + step // _SLOW) * usual, space.most)

    def turn(state: State) -> State:
        basis, verdict, step, *_ = state
        basis = when(verdict.crowded, lambda basis: renewed(basis, verdict), basis)
        no_room = basis.size + basis.width > most(step, basis.width, verdict.wanted)
        basis = when(no_room, lambda basis: restarted(basis, verdict.wanted + basis.width), basis)
        return looked(state._replace(basis=sides.extended(basis), step=step + 1))

    def renewed(basis: Basis, verdict: Verdict) -> Basis:
        """The basis with random columns in its next block, to find missing copies of a value."""
        fresh, basis = random_block(basis, seed=sides.seed)
        if isinstance(basis.size, int):
            remainder = namespace(fresh).concat([basis.remainder, fresh], axis=-1)
            return basis._replace(remainder=remainder)
        basis = restarted(basis, verdict.wanted)
        return basis._replace(remainder=fresh, lost=verdict.residual[..., None])

    def restarted(basis: Basis, keep: Count) -> Basis:
        return sides.restarted(basis, either(keep < basis.size, keep, basis.size))

    def looked(state: State) -> State:
        due = state.basis.size >= min(rank, n)
        if not isinstance(state.step, int):
            due = due & (state.step % _EVERY == 0)
        return when(due, look, state)

    def look(state: State) -> State:
        basis, verdict, step, *_ = state
        size, b = basis.size, basis.width
        S, *residuals = sides.ritz(basis)
        verdict = goal.judged(verdict, S, *residuals, size=size, width=b, step=step)
        room = most(step, b, verdict.wanted)
        full = (size + b > room) & (verdict.wanted + 3 * b > room) & (size < n)
        given_up = either(verdict.done, False, full | (step > space.patience))
        ended = verdict.done | given_up | (size >= n) | (step >= STEPS)
        ended = ended | (verdict.blurred & sides.can_widen)
        return State(basis, verdict, step, given_up, either(ended, False, True))

    state = State(basis, goal.begun(basis.width, basis.size), *_first(basis.size))
    if isinstance(basis.size, int) and basis.size > 0:
        state = looked(state)
    return repeat(lambda state: state.going, turn, state)


def _first(size: Count) -> tuple[Count, Condition, Condition]:
    """The initial values of `step`, `given_up` and `going` for a basis of this size."""
    if isinstance(size, int):
        return min(size, 1), False, True
    zero = namespace(size).zeros_like(size)
    return zero, zero > 0, zero == 0
