"""Sums, lengths and angles of matrices that are not formed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from eckart import _checks
from eckart._autodiff import constant, deferred, underivable
from eckart._derivative import Parts
from eckart._door import public
from eckart._factors import Factors, LowRank, array_of, dtypes, pair, paired, parts_of
from eckart._foreign import taken
from eckart._linalg import largest_modulus, matmul, normalizing_root, root
from eckart._mesh import across_devices
from eckart._namespace import (
    Array,
    DType,
    adjoint,
    cast,
    concrete_int,
    conjugate,
    device,
    format_of,
    is_complex,
    is_dask,
    namespace,
    real_dtype,
    widest,
    working,
)
from eckart._operator import (
    Operator,
    columns,
    combination,
    dense,
    energy,
    product,
    scaled,
    stored,
)
from eckart._svd import spectrum, whole
from eckart._thin import balanced
from eckart._tolerance import length


@public
def add(*terms: Any, weights: Sequence[Any] | None = None) -> LowRank | Operator:
    """Weighted sum of matrices, without forming any.

    Parameters
    ----------
    *terms : LowRank, SVD, Operator, array, or sparse matrix
        Matrices of one shape, for example several LoRA adapters of one layer. Stacks broadcast. A
        product with the sum reads a Dask array among them once.
    weights : sequence of float, optional
        One number or array of shape (...) a term; ones if left out.

    Returns
    -------
    LowRank or Operator
        If all terms are factors, a LowRank: ``B`` (..., m, R) holds their left factors, each times
        its weight, side by side, and ``A`` (..., R, n) their right factors above each other, R
        being the sum of the ranks. Otherwise an Operator, whose products are the weighted sums of
        those of the terms.

    Raises
    ------
    TypeError
        If there is no term, or one is not a matrix, or of another library.
    ValueError
        If the shapes differ, or there is not one weight a term.

    See Also
    --------
    truncated_svd : Cuts such a sum back to a rank without ever forming it.

    Notes
    -----
    Exact but for rounding ``weight * B`` (and the ``U * S`` of an SVD) to the dtype. Where terms
    cancel, the sum is small beside its terms, and no later decomposition can tell it from their
    rounding: its singular values are then uncertain by some ``max(m, n) * eps`` of the norms of
    ``B`` and ``A``, multiplied.

    Examples
    --------
    >>> import numpy as np
    >>> import eckart
    >>> one = eckart.LowRank(np.ones((3, 1)), np.ones((1, 2)))
    >>> total = eckart.add(one, one, weights=[2.0, -0.5])
    >>> total.rank
    2
    >>> eckart.reconstruct(total)
    array([[1.5, 1.5],
           [1.5, 1.5],
           [1.5, 1.5]])

    Columns without their means, which a sparse matrix would lose its zeros for:

    >>> X = np.asarray([[1.0, 0.0], [0.0, 0.0], [5.0, 0.0]])
    >>> means = eckart.LowRank(np.ones((3, 1)), np.mean(X, axis=0, keepdims=True))
    >>> centred = eckart.add(X, means, weights=[1, -1])
    >>> centred @ np.asarray([1.0, 0.0])
    array([-1., -2.,  3.])
    """
    if not terms:
        raise TypeError("`add` must have at least one term, got none.")
    named = {f"terms[{i}]": taken(f"terms[{i}]", term) for i, term in enumerate(terms)}
    scales = [1.0] * len(terms) if weights is None else [*weights]
    _checks.one_each("weights", len(scales), "terms", len(terms))
    if all(isinstance(term, Factors) for term in named.values()):
        return _joined(named, scales)
    return _combined(named, scales)


def _joined(named: dict[str, Factors], scales: list[Any]) -> LowRank:
    """The sum of factors, side by side."""
    xp, pairs, returned = paired(named)
    lefts = [
        _checks.weight(f"weights[{i}]", scale, B, B.shape[:-2]) * B
        for i, (scale, (B, _)) in enumerate(zip(scales, pairs, strict=True))
    ]
    rights = [A for _, A in pairs]
    stack: tuple[int, ...] = ()
    for name, array in zip((*named, *named), (*lefts, *rights), strict=True):
        _checks.stacks(name, array.shape[:-2], "the other terms", stack)
        stack = np.broadcast_shapes(stack, array.shape[:-2])
    B, A = (
        xp.concat([xp.broadcast_to(part, (*stack, *part.shape[-2:])) for part in parts], axis=axis)
        for parts, axis in ((lefts, -1), (rights, -2))
    )
    return LowRank(cast(B, returned), cast(A, returned))


def _combined(named: dict[str, Any], scales: list[Any]) -> Operator:
    """The sum of matrices of which some are no factors, as its products."""
    likes = {name: array_of(term) for name, term in named.items()}
    operators = _operators(named)
    shape = np.broadcast_shapes(*(term.shape for term in named.values()))
    for name, term in named.items():
        if isinstance(term, Operator):
            _checks.same_shape(name, term.shape, "the sum", shape)
    like = operators[0].like
    weights = [
        _checks.weight(f"weights[{i}]", scale, like, shape[:-2]) for i, scale in enumerate(scales)
    ]
    dtypes = [like.dtype for like in likes.values()]
    first = next(iter(likes.values()))
    alike = not is_dask(first) and all(dtype == dtypes[0] for dtype in dtypes)
    return replace(combination(operators, weights), shape=shape, like=first if alike else like)


def _operators(named: dict[str, Any]) -> list[Operator]:
    """The products with matrices of one shape, all in the dtype they are computed in together."""
    likes = {name: array_of(term) for name, term in named.items()}
    xp = _checks.arrays(**likes)
    (first, one), *others = named.items()
    for name, term in others:
        _checks.same_matrix_shape(first, one.shape, name, term.shape)
    computed = xp.result_type(*(working(like).dtype for like in likes.values()))
    return [_operator(name, term, computed) for name, term in named.items()]


def _operator(name: str, A: Any, dtype: DType) -> Operator:
    """The products with a matrix in a dtype, which an operator must have already."""
    if isinstance(A, Operator):
        _checks.same_dtype("the others", dtype, name, working(A.like).dtype)
        return replace(A, like=working(A.like))
    if is_dask(A):
        from eckart import _dask

        return _dask.products(cast(A, dtype))
    parts = [cast(part, dtype) for part in parts_of(A)]
    return product(*parts) if len(parts) == 2 else stored(*parts)


@public
@across_devices
def norm(A: Array | Factors | Operator, /) -> Array:
    """Frobenius norm of a matrix.

    Parameters
    ----------
    A : array, shape (..., m, n), or SVD, LowRank, Operator, or sparse matrix
        Real or complex, floating point.

    Returns
    -------
    array, shape (...)
        In the real dtype and on the device of `A`.

    Raises
    ------
    TypeError
        If `A` is not a matrix, or not floating point.
    ValueError
        If `A` has a NaN or an infinity, or the norm does not fit the dtype.

    See Also
    --------
    add : ``norm(add(one, other, weights=[1, -1]))`` is the distance of two matrices.
    inner : The inner product that belongs to it.

    Notes
    -----
    The norm of factors comes from their singular values, through the QR of the thin factors. It is
    within a small multiple of ``max(m, n) * eps`` times the norms of the factors, multiplied. So
    the distance of two nearly equal matrices is right to that, where ``norm(one)**2 +
    norm(other)**2 - 2 * inner(one, other)`` would lose half the digits. The derivative is right
    where factors are rank-deficient, and zero at a zero matrix, which has none.

    The squares of all other entries are added in float64 where the library has it. A linear
    operator is multiplied by the identity of its short side, some columns at a time.

    Examples
    --------
    >>> import numpy as np
    >>> import eckart
    >>> factors = eckart.LowRank(np.asarray([[3.0], [4.0]]), np.asarray([[0.6, 0.8]]))
    >>> round(float(eckart.norm(factors)), 12)
    5.0
    """
    A = taken("A", A)
    size = _size_of_factors(A) if isinstance(A, Factors) else _size(A)
    _look(A, size)
    return cast(size, real_dtype(array_of(A)))


def _size_of_factors(factors: Factors) -> Array:
    """Frobenius norm from the singular values."""
    parts = pair(factors)
    size = length(spectrum(LowRank(*map(constant, parts)), fitting=True))
    found: Array = deferred(_known, _differentiable, parts, size)
    return found


def _known(_: Parts, size: Array) -> Array:
    """The norm without a derivative."""
    return size


def _differentiable(parts: Parts, size: Array) -> Array:
    """The norm, given as a constant, as a function of two factors.

    Its square changes as the trace of ``adjoint(B) @ B @ A @ adjoint(A)``, which has a derivative
    where singular values are equal or zero, but half the digits.
    """
    factors = [normalizing_root(largest_modulus(constant(part))) for part in parts]
    B, A = (part * factor * factor for part, factor in zip(parts, factors, strict=True))
    for factor in factors:
        size = size * factor[..., 0, 0] * factor[..., 0, 0]
    square = _inner(B, A, B, A)
    square = namespace(square).real(square) if is_complex(square) else square
    norm = root(size * size + (square - constant(square)))
    for factor in factors:
        norm = norm / factor[..., 0, 0] / factor[..., 0, 0]
    return norm


def _size(A: Array | Operator) -> Array:
    """Frobenius norm from the entries, NaN where one of them is not finite."""
    if is_dask(A) and len(A.shape) == 2 and 0 not in A.shape:
        from eckart import _dask

        squares, power = _dask.squared_norm(A)
    else:
        operator, power = _scaled(whole(A) if is_dask(A) else A)
        squares, power = energy(operator), power[..., 0, 0]
    xp = namespace(squares)
    return xp.where(xp.isfinite(power), root(squares), math.nan) / cast(power, squares.dtype)


def _scaled(A: Array | Operator) -> tuple[Operator, Array]:
    """The products with a matrix times a power of two, and that power, (..., 1, 1)."""
    return scaled(underivable(A)) if isinstance(A, Operator) else dense(working(A))


def _look(A: Any, size: Array) -> None:
    """Refuse what is not finite or does not fit the dtype, with one wait for the device."""
    if 0 in size.shape:
        return
    xp = namespace(size)
    largest = min(format_of(array_of(A)).largest, format_of(size).largest)
    if concrete_int(xp.all(size <= largest)) != 0:
        return
    if concrete_int(xp.any(xp.isnan(size))):
        if isinstance(A, Operator):
            _checks.nonfinite_products("A")
        _checks.nonfinite(A=A)
    _checks.overflow("the norm", A.dtype)


@public
@across_devices
def inner(one: Array | Factors | Operator, other: Array | Factors | Operator, /) -> Array:
    """Frobenius inner product of two matrices.

    Parameters
    ----------
    one, other : array, shape (..., m, n), or SVD, LowRank, Operator, or sparse matrix
        Matrices of one shape. Stacks broadcast.

    Returns
    -------
    array, shape (...)
        ``trace(adjoint(one) @ other)``, that is the sum of ``conj(one) * other`` over the entries.

    Raises
    ------
    TypeError
        If an argument is not a matrix, or they are of two libraries.
    ValueError
        If the shapes differ.

    See Also
    --------
    norm : The length that belongs to it; ``inner(one, other) / (norm(one) * norm(other))`` is the
        cosine of the angle between two matrices.

    Notes
    -----
    For factors it is ``trace(adjoint(A_1) @ adjoint(B_1) @ B_2 @ A_2)`` from the two small products
    ``adjoint(B_1) @ B_2`` and ``A_2 @ adjoint(A_1)``, in O((m + n) * r_1 * r_2). The rounding error
    is a small multiple of ``max(m, n) * eps`` times the norms of the four factors, multiplied. A
    matrix of any other kind is multiplied by the factors of the other one, or, if that has none, by
    the identity of its short side, some columns at a time.

    Examples
    --------
    >>> import numpy as np
    >>> import eckart
    >>> one = eckart.LowRank(np.asarray([[1.0], [2.0]]), np.asarray([[1.0, 1.0]]))
    >>> other = eckart.LowRank(np.asarray([[3.0], [0.0]]), np.asarray([[0.0, 1.0]]))
    >>> float(eckart.inner(one, other))
    3.0
    """
    named = {"one": taken("one", one), "other": taken("other", other)}
    if all(isinstance(A, Factors) for A in named.values()):
        xp, pairs, returned = paired(named)
        (B_1, A_1), (B_2, A_2) = (balanced(*both) for both in pairs)
        return cast(_inner(B_1, A_1, B_2, A_2), returned)
    likes = [array_of(A) for A in named.values()]
    xp = _checks.arrays(one=likes[0], other=likes[1])
    _checks.same_matrix_shape("one", one.shape, "other", other.shape)
    computed, returned = dtypes(xp, [*map(working, likes)], [like.dtype for like in likes])
    first, second = (_at_hand(name, A, computed) for name, A in named.items())
    stack = np.broadcast_shapes(one.shape[:-2], other.shape[:-2])
    for name, A in named.items():
        if isinstance(A, Operator):
            _checks.same_shape(name, A.shape, "the product", (*stack, *A.shape[-2:]))
    if isinstance(first, Factors):
        result = conjugate(_with_factors(second, first, stack))
    elif isinstance(second, Factors):
        result = _with_factors(first, second, stack)
    else:
        result = _by_entries(first, second, stack)
    return cast(result, returned)


def _inner(B_1: Array, A_1: Array, B_2: Array, A_2: Array) -> Array:
    """Inner product of ``B_1 @ A_1`` and ``B_2 @ A_2``."""
    left, right = matmul(adjoint(B_1), B_2), matmul(A_1, adjoint(A_2))
    return namespace(left).sum(left * conjugate(right), axis=(-2, -1))


def _at_hand(name: str, A: Any, dtype: DType) -> Array | Factors | Operator:
    """A matrix in a dtype, which an operator must have already, and in memory."""
    if isinstance(A, Operator):
        _checks.same_dtype("the other", dtype, name, working(A.like).dtype)
        return underivable(A)
    if isinstance(A, Factors):
        return LowRank(*(cast(part, dtype) for part in balanced(*pair(A))))
    return cast(whole(A, name) if is_dask(A) else A, dtype)


def _with_factors(A: Array | Operator, factors: Factors, stack: tuple[int, ...]) -> Array:
    """Inner product of a matrix with factors, by its product with one of them."""
    operator, power = _scaled(A)
    B, C = factors
    xp = namespace(B)
    B = xp.broadcast_to(B, (*stack, *B.shape[-2:]))
    products = xp.matrix_transpose(operator.rmatmul(B)) * C
    return xp.sum(products, axis=(-2, -1)) / power[..., 0, 0]


def _by_entries(first: Array | Operator, second: Array | Operator, stack: tuple[int, ...]) -> Array:
    """Inner product of two matrices, some columns at a time, or rows if they are the fewer."""
    (left, one), (right, other) = _blocks(first), _blocks(second)
    xp = namespace(one, other)
    like = widest(array_of(first))
    total = xp.zeros(stack, dtype=like.dtype, device=device(like))
    for P, Q in zip(left, right, strict=True):
        total = total + xp.sum(conjugate(widest(P)) * widest(Q), axis=(-2, -1))
    m, n = first.shape[-2:]
    total = total if n <= m else conjugate(total)
    return total / cast(one, real_dtype(total)) / cast(other, real_dtype(total))


def _blocks(A: Array | Operator) -> tuple[Iterator[Array], Array]:
    """Some columns at a time of a matrix times a power of two, or of its adjoint; the power."""
    operator, power = _scaled(A)
    if not isinstance(A, Operator):
        return (part * power for part in columns(A)), power[..., 0, 0]
    # Copies, for a product may reuse the memory that it returned before.
    copies = (namespace(part).asarray(part, copy=True) for part in columns(operator))
    return copies, power[..., 0, 0]
