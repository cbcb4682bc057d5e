"""Registers the derivative with JAX; imported only when one of its arrays is traced."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from typing import Any, NoReturn

import jax
import jax.numpy as jnp

from eckart import _refusals
from eckart._arrays.namespace import Array, conjugate
from eckart._derivative import truncation
from eckart._derivative.truncation import Frame, Kept, Known, Parts, Scales, Solver, times


def constant(array: Array) -> Array:
    """`array` without a derivative; of JAX, where JAX was given one of NumPy."""
    return jnp.asarray(jax.lax.stop_gradient(array))


def _mapped(results: Any, arguments: Any) -> Any:
    """`results`, mapped on their first axis if ``vmap`` maps over any of the arguments.

    What a rule returns for the function itself must be mapped as the results of that function are:
    within a ``jit``, a ``scan`` or the like, JAX takes this for granted.
    """
    corners = (leaf[(slice(1),) * leaf.ndim] for leaf in jax.tree.leaves(arguments))
    told = functools.reduce(operator.or_, (jnp.any(corner == 0) for corner in corners))
    return jax.tree.map(lambda result: jnp.where(told, result, result), results)


def _ruled(results: Any, parts: Parts, arguments: Any) -> Any:
    """`results`, mapped as the arguments are, and NaN in derivatives that do not know their rule.

    Within a ``scan`` that it differentiates, JAX forgets the rule for a second derivative, and
    would take the results for constants.
    """
    corners = [jnp.real(jnp.sum(part[(slice(1),) * part.ndim])) for part in parts]
    mark = sum(
        jnp.sqrt((corner - jax.lax.stop_gradient(corner)) ** 2)
        for corner in (jnp.nan_to_num(corner) for corner in corners)
    )
    return _mapped(jax.tree.map(lambda result: result + mark, results), arguments)


def _rule(rule: Callable[..., Any]) -> Callable[..., Any]:
    """A rule that gets arrays of JAX, and whose results are mapped as those of its function are."""

    @functools.wraps(rule)
    def wrapped(*given: Any) -> Any:
        *static, primals, tangents = given
        # Outside of ``jit``, JAX hands on arrays of NumPy that it was given.
        primals, tangents = jax.tree.map(jnp.asarray, (primals, tangents))
        return _mapped(rule(*static, primals, tangents), primals)

    return wrapped


@jax.custom_jvp
def underivable(array: Array) -> Array:
    """`array`, with respect to which there is no derivative."""
    return array


@underivable.defjvp
def _underivable_jvp(primals: Any, tangents: Any) -> NoReturn:
    _refusals.refuse_derivative()


@jax.custom_jvp
def framed(parts: Parts, frame: Frame, dropped: Known | None, spare: Known | None) -> Frame:
    """The frame, given as a constant, as a function of the parts."""
    mapped: Frame = _ruled(frame, parts, (parts, frame, dropped, spare))
    return mapped


@framed.defjvp
@_rule
def _framed_jvp(primals: Any, tangents: Any) -> tuple[Frame, Frame]:
    parts, constants, *known = primals
    frame = framed(*primals)  # as a function again, for derivatives of this derivative
    return frame, truncation.frame_tangent(
        parts, tangents[0], frame, constants, _solver(parts, frame, *known)
    )


def _solver(parts: Parts, frame: Frame, dropped: Known | None, spare: Known | None) -> Solver:
    """A solver that JAX differentiates as the inverse of what it solves."""

    def multiply(pair: tuple[Array, Array]) -> tuple[Array, Array]:
        return truncation.coupling(parts, frame, *pair)

    def solve(_: Any, pair: tuple[Array, Array]) -> tuple[Array, Array]:
        return truncation.uncoupled(parts, frame, dropped, spare, *pair, loop=jax.lax.while_loop)

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
    mapped: Kept = _ruled(truncation.unturned(core, S), (core,), (core, S))
    return mapped


@turned.defjvp
@_rule
def _turned_jvp(primals: Any, tangents: Any) -> tuple[Kept, Kept]:
    turn = turned(*primals)
    return turn, truncation.turn_tangent(tangents[0], turn, primals[1])


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def deferred(
    plain: Callable[..., Any], differentiable: Callable[..., Any], parts: Parts, constants: Any
) -> Any:
    """`plain` of the parts and the constants, `differentiable` of them under differentiation."""
    return _ruled(plain(parts, constants), parts, (parts, constants))


@deferred.defjvp
@_rule
def _deferred_jvp(plain: Any, differentiable: Any, primals: Any, tangents: Any) -> Any:
    parts, constants = primals
    return jax.jvp(lambda parts: differentiable(parts, constants), (parts,), (tangents[0],))


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def homogeneous(
    function: Callable[..., Any], parts: Parts, constants: Any, scales: Scales
) -> tuple[Array, ...]:
    """The results of a function of the parts, differentiated where their norm is near one."""
    results = function(times(parts, scales.before), constants)
    arguments = parts, constants, scales
    mapped: tuple[Array, ...] = _ruled(times(results, scales.after), parts, arguments)
    return mapped


@homogeneous.defjvp
@_rule
def _homogeneous_jvp(function: Any, primals: Any, tangents: Any) -> Any:
    parts, constants, scales = primals
    _, changes = jax.jvp(
        lambda parts: function(parts, constants),
        (times(parts, scales.before),),
        (times(tangents[0], scales.inward),),
    )
    return homogeneous(function, *primals), times(changes, scales.outward)
