"""Registers the derivative with JAX; imported only when one of its arrays is traced."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NoReturn

import jax

from eckart import _checks, _derivative
from eckart._derivative import Frame, Kept, Known, Parts, Solver
from eckart._namespace import Array, conjugate


def constant(array: Array) -> Array:
    """`array` without a derivative."""
    return jax.lax.stop_gradient(array)


@jax.custom_jvp
def underivable(array: Array) -> Array:
    """`array`, with respect to which there is no derivative."""
    return array


@underivable.defjvp
def _underivable_jvp(primals: Any, tangents: Any) -> NoReturn:
    _checks.refuse_derivative()


@jax.custom_jvp
def framed(parts: Parts, frame: Frame, dropped: Known | None, spare: Known | None) -> Frame:
    """The frame, given as a constant, as a function of the parts."""
    return frame


@framed.defjvp
def _framed_jvp(primals: Any, tangents: Any) -> tuple[Frame, Frame]:
    parts, constants, *known = primals
    frame = framed(*primals)  # as a function again, for derivatives of this derivative
    return frame, _derivative.frame_tangent(
        parts, tangents[0], frame, constants, _solver(parts, frame, *known)
    )


def _solver(parts: Parts, frame: Frame, dropped: Known | None, spare: Known | None) -> Solver:
    """A solver that JAX differentiates as the inverse of what it solves."""

    def multiply(pair: tuple[Array, Array]) -> tuple[Array, Array]:
        return _derivative.coupling(parts, frame, *pair)

    def solve(_: Any, pair: tuple[Array, Array]) -> tuple[Array, Array]:
        return _derivative.uncoupled(parts, frame, dropped, spare, *pair, loop=jax.lax.while_loop)

    def transposed(_: Any, pair: tuple[Array, Array]) -> tuple[Array, Array]:
        # The transpose of a Hermitian matrix is its conjugate.
        x, z = solve(None, (conjugate(pair[0]), conjugate(pair[1])))
        return conjugate(x), conjugate(z)

    def solver(E: Array, F: Array) -> tuple[Array, Array]:
        x, z = jax.lax.custom_linear_solve(multiply, (E, F), solve, transposed)
        return x, z

    return solver


@jax.custom_jvp
def turned(core: Array, S: Array) -> Kept:
    """The SVD of a diagonal core, with its values as constants, as a function of the core."""
    return _derivative.unturned(core, S)


@turned.defjvp
def _turned_jvp(primals: Any, tangents: Any) -> tuple[Kept, Kept]:
    turn = turned(*primals)
    return turn, _derivative.turn_tangent(tangents[0], turn, primals[1])


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def deferred(
    plain: Callable[..., Any], differentiable: Callable[..., Any], parts: Parts, constants: Any
) -> Any:
    """`plain` of the parts and the constants, `differentiable` of them under differentiation."""
    return plain(parts, constants)


@deferred.defjvp
def _deferred_jvp(plain: Any, differentiable: Any, primals: Any, tangents: Any) -> Any:
    parts, constants = primals
    return jax.jvp(lambda parts: differentiable(parts, constants), (parts,), (tangents[0],))
