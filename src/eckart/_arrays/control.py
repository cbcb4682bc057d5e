"""Loops, conditions and growing arrays, for values that are known or traced.

If values are known, conditions and counts are numbers of Python. A loop is a loop of Python, and an
array grows when a block is appended. In a trace of JAX conditions and counts are arrays. A loop is
a part of the program, and all shapes are fixed: a count is the used length of an array, and the
rest of the array is zero.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar

from eckart._arrays.namespace import Array, concrete_int, device, is_jax, namespace

State = TypeVar("State")
Count: TypeAlias = Any  # int, or an integer array of shape ()
Condition: TypeAlias = Any  # bool, or a boolean array of shape ()


def repeat(
    condition: Callable[[State], Condition], body: Callable[[State], State], state: State
) -> State:
    """Repeat ``state = body(state)`` while ``condition(state)`` holds."""
    if isinstance(condition(state), bool):
        while condition(state):
            state = body(state)
        return state
    from jax.lax import while_loop

    result: State = while_loop(condition, body, state)
    return result


def when(condition: Condition, function: Callable[[State], State], state: State) -> State:
    """``function(state)`` if a condition holds, else the state.

    In a trace of JAX this is a loop of at most one step, because a conditional under ``vmap``
    computes both branches. PyTorch has no such loop: it computes both, and the state is an array.
    """
    if isinstance(condition, bool):
        return function(state) if condition else state
    if not is_jax(condition):
        chosen: State = namespace(condition).where(condition, function(state), state)
        return chosen

    def once(pair: tuple[Any, State]) -> tuple[Any, State]:
        return namespace(condition).zeros_like(condition), function(pair[1])

    _, state = repeat(lambda pair: pair[0], once, (condition, state))
    return state


@functools.cache
def compiled(function: Callable[..., Any], static: tuple[str, ...]) -> Callable[..., Any]:
    """A function compiled by JAX, once for each shape and each value of the `static` arguments."""
    from jax import jit

    result: Callable[..., Any] = jit(function, static_argnames=static)
    return result


def is_compilable(function: Callable[[Array], Array], array: Array) -> bool:
    """Whether JAX can compile a function of arrays like this one."""
    if not is_jax(array):
        return False
    from jax import errors, eval_shape

    try:
        eval_shape(function, array)
    except errors.JAXTypeError:  # a function of the user needs values
        return False
    return True


def known(condition: Array) -> Condition:
    """A condition as a bool of Python, after a wait for its device; itself if it is traced."""
    value = concrete_int(condition)
    return condition if value is None else bool(value)


def either(condition: Condition, one: Any, other: Any) -> Any:
    """One of two counts, or states."""
    if isinstance(condition, bool):
        return one if condition else other
    return namespace(condition).where(condition, one, other)


def appended(A: Array, block: Array, count: Count, axis: int) -> Array:
    """`A` with a block after the first `count` of its entries along an axis."""
    if isinstance(count, int):
        return namespace(A).concat([A, block], axis=axis)
    from jax.lax import dynamic_update_slice_in_dim

    return dynamic_update_slice_in_dim(A, block, count, axis)


def leading(A: Array, count: Count, axis: int) -> Array:
    """The first `count` entries of `A` along an axis; in a trace the rest is zero."""
    if isinstance(count, int):
        index: list[Any] = [slice(None)] * A.ndim
        index[axis] = slice(count)
        return A[tuple(index)]
    xp = namespace(A)
    shape = [1] * A.ndim
    shape[axis] = A.shape[axis]
    index = xp.reshape(xp.arange(A.shape[axis], device=device(A)), tuple(shape))
    return xp.where(index < count, A, 0.0)


def before(A: Array, count: Count, length: int, axis: int) -> Array:
    """The last `length` of the first `count` entries of `A` along an axis."""
    if isinstance(count, int):
        index: list[Any] = [slice(None)] * A.ndim
        index[axis] = slice(count - length, count)
        return A[tuple(index)]
    from jax.lax import dynamic_slice_in_dim

    return dynamic_slice_in_dim(A, count - length, length, axis)
