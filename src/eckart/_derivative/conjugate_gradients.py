"""Conjugate gradients for many right-hand sides at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from eckart._arrays.linalg import modulus
from eckart._arrays.namespace import (
    Array,
    cast,
    concrete_int,
    conjugate,
    device,
    format_of,
    is_complex,
    namespace,
)

# Iterate, residual, direction, inner products, squared norms of the residual columns, step count.
State: TypeAlias = tuple[Array, Array, Array, Array, Array, Array]
Loop: TypeAlias = Callable[[Callable[[State], Any], Callable[[State], State], State], State]

_STEPS = 500


def conjugate_gradients(
    multiply: Callable[[Array], Array],
    B: Array,
    *,
    precondition: Callable[[Array], Array],
    tolerance: float,
    loop: Loop,
) -> tuple[Array, Array]:
    """Solve a Hermitian positive definite equation for every column of `B`.

    Parameters
    ----------
    multiply : callable
        Multiplies each column by its own matrix. The shape (..., m, r) does not change.
    B : array, shape (..., m, r)
        Right-hand sides.
    precondition : callable
        Multiplies each column by an approximate inverse of its matrix.
    tolerance : float
        Relative norm of the residual at which a column is done.
    loop : callable
        ``loop(going, step, state)`` repeats ``state = step(state)`` while ``going(state)`` holds.

    Returns
    -------
    X : array, shape (..., m, r)
        Solutions.
    residual : array, shape (..., 1, r)
        Relative norms of the residuals. Columns that did not converge are above `tolerance`.

    Notes
    -----
    Hestenes and Stiefel [1]_, preconditioned. Each column stops on its own, when it is done or when
    rounding makes the curvature along its direction nonpositive.

    References
    ----------
    .. [1] M. R. Hestenes and E. Stiefel, "Methods of conjugate gradients for solving linear
       systems", Journal of Research of the National Bureau of Standards 49, 1952.
    """
    xp = namespace(B)
    floor = format_of(B).eps ** 0.75
    size = xp.max(modulus(B), axis=-2, keepdims=True)
    size = xp.where(size > 0, size, 1.0)
    R = B / size
    start = _products(R, R)
    enough = tolerance * tolerance * start

    def going(state: State) -> Array:
        *_, squares, steps = state
        return xp.any(squares > enough) & (steps < _STEPS)

    def step(state: State) -> State:
        X, R, P, products, squares, steps = state
        KP = multiply(P)
        curvature = _products(P, KP)
        active = (squares > enough) & (curvature > floor * _products(P, P))
        alpha = xp.where(active, products / xp.where(active, curvature, 1.0), 0.0)
        X, R = X + cast(alpha, X.dtype) * P, R - cast(alpha, X.dtype) * KP
        Z = precondition(R)
        after = _products(R, Z)
        beta = xp.where(active, after / xp.where(active, products, 1.0), 0.0)
        squares = xp.where(active, _products(R, R), 0.0)
        return X, R, Z + cast(beta, X.dtype) * P, after, squares, steps + 1

    Z = precondition(R)
    steps = xp.zeros((), dtype=xp.int32, device=device(B))
    X, R, *_ = loop(going, step, (xp.zeros_like(R), R, Z, _products(R, Z), start, steps))
    return X * size, xp.sqrt(_products(R, R) / xp.where(start > 0, start, 1.0))


def repeated(going: Callable[[State], Any], step: Callable[[State], State], state: State) -> State:
    """Repeat a step while a condition on its values holds."""
    for _ in range(_STEPS):
        if concrete_int(going(state)) == 0:
            break
        state = step(state)
    return state


def _products(X: Array, Y: Array) -> Array:
    """Inner products of the columns of `X` and `Y`, shape (..., 1, r); their real parts."""
    xp = namespace(X)
    product = xp.sum(conjugate(X) * Y, axis=-2, keepdims=True)
    return xp.real(product) if is_complex(product) else product
