"""Registers the derivative with JAX. The module is imported when the first traced array comes."""

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
    """`array` without a derivative, as an array of JAX."""
    return jnp.asarray(jax.lax.stop_gradient(array))


def _mapped(results: Any, arguments: Any) -> Any:
    """`results`, mapped on their first axis if ``vmap`` maps over any of the arguments.

    A rule must map its value of the function just as the function maps its results. Within ``jit``,
    ``scan`` and similar transformations JAX relies on this.
    """
    corners = (leaf[(slice(1),) * leaf.ndim] for leaf in jax.tree.leaves(arguments))
    is_mapped = functools.reduce(operator.or_, (jnp.any(corner == 0) for corner in corners))
    return jax.tree.map(lambda result: jnp.where(is_mapped, result, result), results)


def _ruled(results: Any, parts: Parts, arguments: Any) -> Any:
    """`results`, mapped like the arguments; a derivative that does not use the rule is NaN.

    Within a differentiated ``scan``, JAX does not use the rule for a second derivative. The results
    would be constants.
    """
    corners = [jnp.real(jnp.sum(part[(slice(1),) * part.ndim])) for part in parts]
    mark = sum(
        jnp.sqrt((corner - jax.lax.stop_gradient(corner)) ** 2)
        for corner in (jnp.nan_to_num(corner) for corner in corners)
    )
    return _mapped(jax.tree.map(lambda result: result + mark, results), arguments)


def _rule(rule: Callable[..., Any]) -> Callable[..., Any]:
    """A rule with arrays of JAX as arguments, whose results are mapped like its function's."""

    @functools.wraps(rule)
    def wrapped(*given: Any) -> Any:
        *static, primals, tangents = given
        # Outside of ``jit``, JAX passes arrays of NumPy unchanged.
        primals, tangents = jax.tree.map(jnp.asarray, (primals, tangents))
        return _mapped(rule(*static, primals, tangents), primals)

    return wrapped


@jax.custom_jvp
def underivable(array: Array) -> Array:
    """`array`, but a derivative with respect to it is refused."""
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
    frame = framed(*primals)  # a function of the parts again, for second derivatives
    return frame, truncation.frame_tangent(
        parts, tangents[0], frame, constants, _solver(parts, frame, *known)
    )


def _solver(parts: Parts, frame: Frame, dropped: Known | None, spare: Known | None) -> Solver:
    """A solver that JAX differentiates as the inverse of a linear map."""

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
    """The SVD of a diagonal core, as a function of the core; `S` are its values as constants."""
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
    """``plain(parts, constants)``; under differentiation ``differentiable(parts, constants)``."""
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
    """The results of a function of the parts, differentiated at a norm near one."""
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
