"""The derivative of a truncated SVD, which `_torch` and `_jax` register with their libraries.

The truncation of ``A`` is ``U C V^H``, with orthonormal bases ``U`` and ``V`` of the kept spaces
and the core ``C = U^H A V``. Let ``A_ = (I - U U^H) A (I - V V^H)`` be the remainder. Along a
direction ``G`` the bases change by ``dU = x`` and ``dV = z``, orthogonal to the kept spaces:
``U^H x = 0`` and ``V^H z = 0``. Then ``dC = U^H G V``, and `x` and `z` solve

    x C - A_ z = (I - U U^H) G V,    z C^H - A_^H x = (I - V V^H) G^H U.

The solution depends only on the gap between the kept and the dropped singular values [1]_. The
bases are the singular vectors, so the core is diagonal. The derivative of the core is not diagonal,
which second derivatives take into account. An SVD of the core gives single singular triplets.

References
----------
.. [1] F. Feppon and P. F. J. Lermusiaux, "A geometric approach to dynamical model order reduction",
   SIAM Journal on Matrix Analysis and Applications 39, 2018.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from eckart import _refusals
from eckart._arrays.linalg import largest_modulus, matmul, root
from eckart._arrays.namespace import (
    Array,
    adjoint,
    concrete_int,
    device,
    format_of,
    is_complex,
    namespace,
)
from eckart._derivative.conjugate_gradients import Loop, conjugate_gradients, repeated
from eckart._matrices import of_parts

# A matrix, or two factors of it.
Parts: TypeAlias = tuple[Array, ...]

# Triplets that a truncation drops, with zero vectors in place of the kept ones. All of them give a
# closed form of the solution. Approximations to some of them give a preconditioner.
Known: TypeAlias = tuple[Array, Array, Array]

# Solves the equation for `x` and `z`.
Solver: TypeAlias = Callable[[Array, Array], tuple[Array, Array]]

# Singular values that differ by at most this many units of rounding of the largest count as equal.
_TIE = 64


class Kept(NamedTuple):
    """Kept singular triplets; at a fixed width the triplets that a tolerance drops are zero."""

    U: Array
    S: Array
    Vh: Array


class Frame(NamedTuple):
    """Bases of the kept spaces, and the core between them."""

    U: Array  # (..., m, r)
    core: Array  # (..., r, r)
    Vh: Array  # (..., r, n)


class Scales(NamedTuple):
    """Powers of two that scale a matrix to a norm near one, and the results of a function back.

    `before` multiplies the parts and `after` the results. `inward` multiplies the directions of the
    parts and `outward` those of the results.
    """

    before: tuple[Array, ...]
    inward: tuple[Array, ...]
    after: tuple[Array, ...]
    outward: tuple[Array, ...]


def scales(parts: Parts, S: Array, degrees: tuple[tuple[float, int], ...]) -> Scales:
    """Powers for a function of `parts` whose product has singular values `S`, shape (..., k).

    Each result has a degree and a number of axes. The result is proportional to this power of the
    matrix. A function of degree one has a derivative of degree zero. So the powers of the matrix
    and of the result cancel before they multiply a direction or a gradient, which they could move
    out of the range.
    """
    power = power_of(S)[..., None]
    xp = namespace(power)
    shared = {0.0: xp.ones_like(power), 0.5: root(power), 1.0: power}
    before: tuple[Array, ...] = (power,)
    inward: tuple[Array, ...] = (shared[0.0],)
    if len(parts) == 2:
        even = evening(*parts)
        before = shared[0.5] * even, shared[0.5] / even
        inward = 1 / before[1], 1 / before[0]
    axes = [(..., *(0,) * (2 - count)) for _, count in degrees]
    after = [(1 / shared[degree])[a] for a, (degree, _) in zip(axes, degrees, strict=True)]
    outward = [shared[1 - degree][a] for a, (degree, _) in zip(axes, degrees, strict=True)]
    return Scales(before, inward, tuple(after), tuple(outward))


def evening(B: Array, A: Array) -> Array:
    """A power of two, shape (..., 1, 1): `B` times it is about as large as `A` divided by it."""
    left, right = (root(power_of(largest_modulus(part)[..., 0])) for part in (B, A))
    return (left / right)[..., None]


def times(arrays: tuple[Array, ...], powers: tuple[Array, ...]) -> tuple[Array, ...]:
    """Each array times its power."""
    return tuple(array * power for array, power in zip(arrays, powers, strict=True))


def power_of(S: Array) -> Array:
    """The power of two that brings the largest value near one, shape (..., 1).

    The square root of this power is a power of two as well.
    """
    unit = _largest(S)
    xp = namespace(unit)
    power = xp.ones_like(unit)
    exponent = math.frexp(format_of(unit).largest)[1]
    while exponent > 2:
        exponent //= 2
        step = 2.0**exponent
        small, large = (unit > 0) & (unit * power <= 1 / step), unit * power >= step
        power = xp.where(small, power * step, xp.where(large, power * (1 / step), power))
    return power


def normal(triplets: Known, power: Array) -> Kept:
    """The triplets of the matrix times a power, shape (..., 1)."""
    return Kept(triplets[0], triplets[1] * power, triplets[2])


def framed(kept: Kept, power: Array) -> Frame:
    """The frame of triplets whose values will be divided by `power`.

    A kept value of zero is replaced by one far below rounding. The change `x` of its vector is
    unbounded, but the product with the core is correct. If the matrix is so small that the
    replacement would underflow, the value stays zero and is not differentiable.
    """
    U, S, Vh = kept
    xp = namespace(U)
    eps, largest = format_of(S)
    present = xp.any(U != 0, axis=-2)
    unit = _largest(S)
    # Directions times the reciprocal of `room`, and gradients times that of `floor`, must not
    # overflow.
    room, floor = largest ** (-13 / 16) * power, largest ** (-15 / 16) * power
    tiny = xp.maximum(eps**2 * unit, xp.minimum(room, eps / 64 * unit))
    tiny = xp.where(unit > 0, tiny, room)
    tiny = xp.where(tiny >= floor, tiny, 0.0)
    return Frame(U, diagonal(xp.where(present & (S <= 8 / largest), tiny, S), U), Vh)


def values(frame: Frame) -> Array:
    """The diagonal of the core."""
    core = frame.core
    xp = namespace(core)
    eye = xp.eye(core.shape[-1], dtype=xp.bool, device=device(core))
    # PyTorch's older vmap has no rule for `linalg.diagonal`.
    found = xp.sum(xp.where(eye, core, xp.zeros_like(core)), axis=-1)
    return xp.real(found) if is_complex(found) else found


def diagonal(S: Array, like: Array) -> Array:
    """Diagonal matrices of `S` in the dtype of `like`."""
    eye = namespace(like).eye(S.shape[-1], dtype=like.dtype, device=device(like))
    return S[..., None, :] * eye


def split_core(core: Array, S: Array, split: str) -> tuple[Array, Array]:
    """Two factors of the core: the core and the identity, in either order, or its square roots.

    `S` are the values of the core as constants.

    Notes
    -----
    A chord iteration starts from the known square root. The iteration does not change the value.
    Each step makes the derivatives correct to one more order.
    """
    eye = diagonal(namespace(S).ones_like(S), core)
    if split == "left":
        return core, eye
    if split == "right":
        return eye, core
    known = root(S)
    R = diagonal(known, core)
    for _ in range(3):
        R = R + (core - matmul(R, R)) * _reciprocal(known[..., :, None] + known[..., None, :])
    return R, R


def frame_tangent(
    parts: Parts, directions: Parts, frame: Frame, known: Frame, solve: Solver
) -> Frame:
    """The directional derivative of the frame; `known` is the frame as a constant."""
    U, V = frame.U, adjoint(frame.Vh)
    P, Q = along(parts, directions, V), along_adjoint(parts, directions, U)
    x, z = solve(_outside(P, U), _outside(Q, V))
    trust = _trust(frame, known)
    return Frame(x * trust, matmul(adjoint(U), P), adjoint(z * trust))


def frame_cotangent(parts: Parts, given: Frame, frame: Frame, known: Frame, solve: Solver) -> Parts:
    """The adjoint of `frame_tangent`: the gradient of each part, `given` that of the frame."""
    U, V = frame.U, adjoint(frame.Vh)
    trust = _trust(frame, known)
    x, z = solve(_outside(given.U * trust, U), _outside(adjoint(given.Vh) * trust, V))
    return pulled(parts, matmul(U, given.core) + _outside(x, U), V, U, _outside(z, V))


def _trust(frame: Frame, known: Frame) -> Array:
    """Ones with a NaN derivative for kept values of zero; NaN if the core has an exact zero.

    The derivatives of the vectors of zero are unbounded, so second derivatives do not exist. If the
    core has exactly zero in their place, first derivatives do not exist either.
    """
    xp = namespace(known.U)
    S = values(known)
    present = xp.any(known.U != 0, axis=-2)
    zero = present & (S <= _TIE * format_of(S).eps * _largest(S))
    one = xp.where(present & (S == 0), math.nan, xp.ones_like(S))
    return (one + _undifferentiable(values(frame) - S, zero))[..., None, :]


def distrusted(frame: Frame, S: Array, doubtful: Array) -> Frame:
    """The frame with a NaN derivative for doubtful matrices; `S` are its values as constants."""
    U, core, Vh = frame
    ones = 1.0 + _undifferentiable(values(frame) - S, doubtful[..., None])
    return Frame(U * ones[..., None, :], core * ones[..., None, :], ones[..., :, None] * Vh)


def _undifferentiable(difference: Array, where: Array) -> Array:
    """Zeros like `difference`, which is zero, but with NaN derivatives where `where` is True."""
    xp = namespace(difference)
    return xp.where(where, xp.sqrt(xp.where(where, difference * difference, 1.0)), 0.0)


def coupling(parts: Parts, frame: Frame, x: Array, z: Array) -> tuple[Array, Array]:
    """The left-hand sides of the equation; for triplets of value zero, `x` and `z` themselves."""
    U, V = frame.U, adjoint(frame.Vh)
    xp = namespace(U)
    S = values(frame)
    alone = _reciprocal(S) == 0
    core = frame.core + diagonal(xp.where(alone, xp.ones_like(S), xp.zeros_like(S)), U)
    A = of_parts(parts)
    return (
        matmul(x, core) - _outside(A.matmul(_outside(z, V)), U),
        matmul(z, adjoint(core)) - _outside(A.rmatmul(_outside(x, U)), V),
    )


def uncoupled(
    parts: Parts,
    frame: Frame,
    dropped: Known | None,
    spare: Known | None,
    E: Array,
    F: Array,
    loop: Loop = repeated,
) -> tuple[Array, Array]:
    """Solve the equation by the dropped triplets, or by products with the matrix.

    Notes
    -----
    The dropped triplets ``(u_i, t_i, v_i)`` split the equation into two equations in two unknowns
    for each i and j. If ``t_i`` and ``s_j`` are tied, the two equations have no solution or many.
    The result is then the least squares solution of least norm. For triplets of value zero the
    result is zero.

    Without the dropped triplets `z` is eliminated. Conjugate gradients solve ``(I - A_ A_^H / s^2)
    x = E / s + A_ F / s^2`` for all columns at once. The error decreases by the factor ``(1 - g) /
    (1 + g)`` with each step, where ``g**2 = 1 - (t_1 / s_r)**2``. Spare triplets are used as a
    preconditioner. ``t_1`` is then nearly the largest value that no spare triplet has.
    """
    S = values(frame)
    inverse = _reciprocal(S)[..., None, :]
    e, f = E * inverse, F * inverse
    if dropped is not None:
        return _by_triplets(S, dropped, e, f)
    return _by_products(parts, frame, spare, e, f, loop)


def _by_triplets(S: Array, dropped: Known, e: Array, f: Array) -> tuple[Array, Array]:
    xp = namespace(S)
    U, T, Vh = dropped
    e_in, f_in = matmul(adjoint(U), e), matmul(Vh, f)
    ratio = T[..., :, None] * _reciprocal(S)[..., None, :]
    tied = _tied(T[..., :, None], S[..., None, :], S)
    total = xp.where(tied, 0.0, 1 / xp.where(tied, 1.0, 1 - ratio)) * (e_in + f_in)
    difference = (e_in - f_in) / (1 + ratio)
    x = e + matmul(U, (total + difference) / 2 - e_in)
    return x, f + matmul(adjoint(Vh), (total - difference) / 2 - f_in)


def _by_products(
    parts: Parts, frame: Frame, spare: Known | None, e: Array, f: Array, loop: Loop
) -> tuple[Array, Array]:
    U, S, V = frame.U, values(frame), adjoint(frame.Vh)
    A, inverse = of_parts(parts), _reciprocal(S)[..., None, :]

    def forward(Y: Array) -> Array:
        return _outside(A.matmul(_outside(Y, V)), U) * inverse

    def backward(Y: Array) -> Array:
        return _outside(A.rmatmul(_outside(Y, U)), V) * inverse

    tolerance = format_of(e).eps ** 0.75
    x, residual = conjugate_gradients(
        lambda X: X - forward(backward(X)),
        e + forward(f),
        precondition=_preconditioner(S, spare),
        tolerance=tolerance,
        loop=loop,
    )
    worst = namespace(e).max(residual) if residual.shape[-1] else None
    if worst is not None and concrete_int(worst > tolerance):
        _refusals.warn_of_derivative(float(worst), tolerance)
    return x, f + backward(x)


def unturned(core: Array, S: Array) -> Kept:
    """The SVD of a core that is diagonal."""
    ones = namespace(S).ones_like(S)
    return Kept(diagonal(ones, core), S, diagonal(ones, core))


def _preconditioner(S: Array, spare: Known | None) -> Callable[[Array], Array]:
    """Multiplies by ``1 / (1 - (t / s)**2)`` along the left vectors of spare triplets."""
    if spare is None:
        return lambda R: R
    U, T, _ = spare
    xp = namespace(S)
    squares = (T[..., :, None] * _reciprocal(S)[..., None, :]) ** 2
    room = 1 - squares
    weights = xp.where(room > 0, squares / xp.where(room > 0, room, 1.0), 0.0)
    return lambda R: R + matmul(U, weights * matmul(adjoint(U), R))


def turn_tangent(direction: Array, turn: Kept, S: Array) -> Kept:
    """The directional derivative of the SVD of a core; `S` are its values as constants.

    Notes
    -----
    With ``M = U^H G V`` two columns rotate by ``(M + M^H) / (s_j - s_i)``. The rotation is
    unbounded as the two values approach each other, although ``U S V^H`` is differentiable even if
    they are equal. For equal values no rotation of orthonormal vectors represents this derivative.
    The right vectors then change by the Hermitian part of ``M`` divided by ``s_j``, which keeps the
    derivatives of ``U S V^H``, ``S`` and ``U U^H`` correct. Second derivatives are NaN, also of
    ``S``.
    """
    U, V = turn.U, adjoint(turn.Vh)
    M = matmul(adjoint(U), matmul(direction, V))
    (a, b), (c, d) = _turning(turn.S, S)
    left, right = a * M + b * adjoint(M), c * M + d * adjoint(M)
    change = values(Frame(U, M, V)) * _single(turn.S, S)
    return Kept(matmul(U, left), change, adjoint(matmul(V, right)))


def turn_cotangent(given: Kept, turn: Kept, S: Array) -> Array:
    """The adjoint of `turn_tangent`."""
    U, V = turn.U, adjoint(turn.Vh)
    M = diagonal(given.S * _single(turn.S, S), U)
    sides = (U, given.U), (V, adjoint(given.Vh))
    for (W, Y), (a, b) in zip(sides, _turning(turn.S, S), strict=True):
        inside = matmul(adjoint(W), Y)
        M = M + a * inside + adjoint(b * inside)
    return matmul(U, matmul(M, adjoint(V)))


def _single(S: Array, known: Array) -> Array:
    """Ones with a NaN derivative for equal values.

    The second derivative of a symmetric function of equal values depends on second derivatives of
    this function, which the rule of the first derivative does not know.
    """
    xp = namespace(S)
    tied = _tied(known[..., :, None], known[..., None, :], known)
    equal = xp.sum(xp.astype(tied, S.dtype), axis=-2) > 1
    return 1.0 + _undifferentiable(S - known, equal)


def _turning(S: Array, known: Array) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """Factors of ``M`` and ``M^H`` in the change of the left vectors, and of the right vectors."""
    xp = namespace(S)
    row, column = S[..., :, None], S[..., None, :]
    equal = xp.eye(S.shape[-1], dtype=S.dtype, device=device(S)) > 0
    tied = _tied(row, column, known)
    merged = tied & ~equal & (column > 0)
    over_total = _reciprocal(row + column)
    over_difference = xp.where(tied, 0.0, 1 / xp.where(tied, 1.0, column - row))
    extra = xp.where(merged, _reciprocal(column) / 2, 0.0)
    extra = extra + _undifferentiable((S - known)[..., None, :] + 0 * row, merged)
    plus, minus = (over_difference + over_total) / 2, (over_difference - over_total) / 2
    return (plus, minus), (minus + extra, plus + extra)


def along(parts: Parts, directions: Parts, X: Array) -> Array:
    """The directional derivative of the matrix times `X`."""
    Y = matmul(directions[-1], X)
    for i in range(len(parts) - 1, 0, -1):
        X = matmul(parts[i], X)
        Y = matmul(directions[i - 1], X) + matmul(parts[i - 1], Y)
    return Y


def along_adjoint(parts: Parts, directions: Parts, X: Array) -> Array:
    """The adjoint of the directional derivative of the matrix, times `X`."""
    return along(tuple(map(adjoint, parts[::-1])), tuple(map(adjoint, directions[::-1])), X)


def pulled(parts: Parts, P: Array, V: Array, U: Array, Q: Array) -> Parts:
    """The gradient of each part, if the gradient of the matrix is ``P V^H + U Q^H``."""
    lefts, rights = [(P, U)], [(V, Q)]
    for first, last in zip(parts[:-1], parts[:0:-1], strict=True):
        lefts.append(tuple(matmul(adjoint(first), X) for X in lefts[-1]))
        rights.insert(0, tuple(matmul(last, X) for X in rights[0]))
    return tuple(
        matmul(p, adjoint(v)) + matmul(u, adjoint(q))
        for (p, u), (v, q) in zip(lefts, rights, strict=True)
    )


def _outside(Y: Array, W: Array) -> Array:
    """`Y` without its part in the span of `W`."""
    return Y - matmul(W, matmul(adjoint(W), Y))


def _tied(one: Array, other: Array, S: Array) -> Array:
    """Whether two singular values count as equal."""
    bound = _TIE * format_of(S).eps * _largest(S)[..., None]
    return namespace(S).abs(one - other) <= bound


def _largest(S: Array) -> Array:
    """The largest value, shape (..., 1); zero without values."""
    xp = namespace(S)
    zero = xp.zeros((*S.shape[:-1], 1), dtype=S.dtype, device=device(S))
    return xp.max(xp.concat([zero, S], axis=-1), axis=-1, keepdims=True)


def _reciprocal(S: Array) -> Array:
    """One over `S`, or zero if the quotient would overflow."""
    xp = namespace(S)
    zero = S < 8 / format_of(S).largest  # a normal number: JAX flushes subnormal numbers to zero
    return xp.where(zero, 0.0, 1 / xp.where(zero, 1.0, S))
