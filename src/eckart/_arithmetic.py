"""Arithmetic of matrices of any kind: sums, products, norms."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from eckart import _refusals
from eckart._arrays.door import public
from eckart._arrays.linalg import matmul, root, squared_norm
from eckart._arrays.mesh import across_devices
from eckart._arrays.namespace import (
    Array,
    DType,
    cast,
    format_of,
    is_complex,
    namespace,
    real_dtype,
    working,
)
from eckart._arrays.spectra import length
from eckart._derivative.registration import (
    constant,
    constant_matrix,
    deferred,
    guarded,
    homogeneous,
)
from eckart._derivative.truncation import Parts, power_of
from eckart._matrices import Matrix, as_matrix
from eckart._matrices.factors import Factors, LowRank, dtypes, operands
from eckart._matrices.operator import Operator
from eckart._matrices.product import inner_of_factors, joined
from eckart._matrices.sum import Sum
from eckart._truncation import spectrum, truncated_svd

# Largest residual over S[0] of the triplet that gives the spectral norm, in a precision that holds
# it. The norm is off by no more, and by its square where the gap to the next value is wide.
_ACCURACY = 1e-8


@public
def add(*terms: Any, weights: Sequence[Any] | None = None) -> LowRank | Operator:
    """Weighted sum of matrices that are not formed.

    Parameters
    ----------
    *terms : LowRank, SVD, Operator, array, or sparse matrix
        Matrices of one shape, for example several LoRA adapters of one layer. Stacks broadcast.
    weights : sequence of float, optional
        One number, or one array of shape (...), for each term. The default is 1 for each.

    Returns
    -------
    LowRank or Operator
        A LowRank if all terms are factors. ``B`` (..., m, R) has their left factors side by side,
        each multiplied by its weight. ``A`` (..., R, n) has their right factors on top of each
        other. R is the sum of the ranks. In every other case the sum is an Operator.

    Raises
    ------
    TypeError
        If there are no terms, a term is not a matrix, or the terms are of different libraries.
    ValueError
        If the shapes differ, or the number of weights is not the number of terms.

    See Also
    --------
    truncated_svd : Truncates a sum to a rank without forming the sum.

    Notes
    -----
    The sum of factors is exact up to the rounding of ``weight * B``, and of ``U * S`` for an SVD.
    If the terms cancel, the sum is small beside the terms. The singular values of the sum are then
    accurate to some ``max(m, n) * eps`` times the product of the norms of ``B`` and ``A``.

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

    Subtract the mean of each column without forming the difference, which fills a sparse matrix:

    >>> X = np.asarray([[1.0, 0.0], [0.0, 0.0], [5.0, 0.0]])
    >>> means = eckart.LowRank(np.ones((3, 1)), np.mean(X, axis=0, keepdims=True))
    >>> centred = eckart.add(X, means, weights=[1, -1])
    >>> centred @ np.asarray([1.0, 0.0])
    array([-1., -2.,  3.])
    """
    if not terms:
        raise TypeError("`add` must have at least one term, got none.")
    named = {f"terms[{i}]": as_matrix(f"terms[{i}]", term) for i, term in enumerate(terms)}
    scales = [1.0] * len(terms) if weights is None else [*weights]
    _refusals.one_each("weights", len(scales), "terms", len(terms))
    matrices, shape, like, returned = _agreeing(named, "the others", "the sum")
    factors = [
        _refusals.weight(f"weights[{i}]", scale, like, shape[:-2]) for i, scale in enumerate(scales)
    ]
    if all(A.has_factors for A in matrices):
        B, C = joined([A.factors() for A in matrices], factors, shape[:-2])
        return LowRank(cast(B, returned), cast(C, returned))
    first = named["terms[0]"]
    return Sum(matrices, factors, first.like if first.dtype == returned else like)


def _agreeing(
    named: dict[str, Matrix], others: str, result: str
) -> tuple[list[Matrix], tuple[int, ...], Array, DType]:
    """The matrices in one dtype, their shape, an array of this dtype, and the dtype to return."""
    likes = {name: A.like for name, A in named.items()}
    xp = _refusals.arrays(**likes)
    first, one = next(iter(named.items()))
    shape = one.shape
    for name, A in named.items():
        _refusals.same_matrix_shape(first, one.shape, name, A.shape)
        _refusals.stacks(name, A.shape[:-2], others, shape[:-2])
        shape = np.broadcast_shapes(shape, A.shape)
    for name, A in named.items():
        if A.by_products:
            _refusals.same_shape(name, A.shape, result, shape)
    computed, returned = dtypes(
        xp, [*map(working, likes.values())], [A.dtype for A in named.values()]
    )
    like = cast(working(likes[first]), computed)
    return [A.astype(computed, name, others) for name, A in named.items()], shape, like, returned


@public
@across_devices
def norm(A: Array | Factors | Operator, /, kind: str = "fro") -> Array:
    """Frobenius or spectral norm of a matrix.

    Parameters
    ----------
    A : array, shape (..., m, n), or SVD, LowRank, Operator, or sparse matrix
        Real or complex, floating point.
    kind : {"fro", "spectral"}
        The root of the sum of all squared entries, or the largest singular value.

    Returns
    -------
    array, shape (...)
        In the real dtype and on the device of `A`.

    Raises
    ------
    TypeError
        If `A` is not a matrix, or not floating point.
    ValueError
        If `A` has a NaN or an infinity, the norm does not fit the dtype, or `kind` is neither.

    See Also
    --------
    add : ``norm(add(one, other, weights=[1, -1]))`` is the distance of two matrices.
    inner : The inner product of this norm.

    Notes
    -----
    The norm of factors is computed from their singular values, by the QR of the thin factors. It is
    accurate to a small multiple of ``max(m, n) * eps`` times the product of the norms of the
    factors. So is the distance of two nearly equal matrices. The formula ``norm(one)**2 +
    norm(other)**2 - 2 * inner(one, other)`` would lose half the digits.

    For every other matrix the squares of the entries are added, in float64 if the library has
    float64. A linear operator is multiplied by the identity of its short side, some columns at a
    time.

    The derivative is correct also for rank-deficient factors. At a zero matrix the norm is not
    differentiable, and the derivative is zero.

    Examples
    --------
    >>> import numpy as np
    >>> import eckart
    >>> factors = eckart.LowRank(np.asarray([[3.0], [4.0]]), np.asarray([[0.6, 0.8]]))
    >>> round(float(eckart.norm(factors)), 12)
    5.0
    """
    _refusals.one_of("kind", kind, ("fro", "spectral"))
    matrix = as_matrix("A", A)
    if kind == "spectral":
        accuracy = max(_ACCURACY, 32 * format_of(working(matrix.like)).eps)
        S = truncated_svd(matrix, min(1, *matrix.shape[-2:]), accuracy=accuracy).S
        return namespace(S).sum(S, axis=-1)
    fixed = constant_matrix(matrix)
    if matrix.has_factors:
        size = length(spectrum(fixed, fitting=True))
    else:
        squares, power = fixed.scaled_energy()
        xp = namespace(squares)
        size = xp.where(xp.isfinite(power), root(squares), math.nan) / cast(power, squares.dtype)
    size = cast(size, real_dtype(working(matrix.like)))
    found = deferred(_known, _differentiable, matrix.parts, size)
    largest = format_of(matrix.like).largest
    _refusals.fitting(found, largest, "the norm", matrix.dtype, A=matrix.given)
    return cast(found, real_dtype(matrix.like))


def _known(_: Parts, size: Array) -> Array:
    """The norm without a derivative."""
    return size


def _differentiable(parts: Parts, size: Array) -> Array:
    """The norm, given as a constant, as a function of the parts."""
    return homogeneous(_of_normal, parts, size[..., None], size, ((1.0, 0),))[0]


def _of_normal(parts: Parts, size: Array) -> tuple[Array]:
    """The norm of a matrix that was scaled to a norm near one; `size` is the norm before scaling.

    The square of the norm is the trace of ``adjoint(B) @ B @ A @ adjoint(A)``. The trace is
    differentiable also if singular values are equal or zero, but its value has only half the
    digits.
    """
    size = size * power_of(size[..., None])[..., 0]
    square = squared_norm(*parts) if len(parts) == 1 else inner_of_factors(parts, parts)
    square = namespace(square).real(square) if is_complex(square) else square
    return (root(size * size + (square - constant(square))),)


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
        ``trace(adjoint(one) @ other)``: the sum of ``conj(one) * other`` over the entries.

    Raises
    ------
    TypeError
        If an argument is not a matrix, or the two are of different libraries.
    ValueError
        If the shapes differ.

    See Also
    --------
    norm : The norm of this inner product. ``inner(one, other) / (norm(one) * norm(other))`` is the
        cosine of the angle between two matrices.

    Notes
    -----
    For two pairs of factors the result is ``trace(adjoint(A_1) @ adjoint(B_1) @ B_2 @ A_2)``,
    computed from the small products ``adjoint(B_1) @ B_2`` and ``A_2 @ adjoint(A_1)`` in
    O((m + n) * r_1 * r_2). The rounding error is a small multiple of ``max(m, n) * eps`` times the
    product of the norms of the four factors.

    If one matrix is a pair of factors, the other matrix is multiplied by a factor. If neither is,
    the entries are multiplied, some rows or columns at a time. A linear operator gives its entries
    by products with the identity of its short side.

    Examples
    --------
    >>> import numpy as np
    >>> import eckart
    >>> one = eckart.LowRank(np.asarray([[1.0], [2.0]]), np.asarray([[1.0, 1.0]]))
    >>> other = eckart.LowRank(np.asarray([[3.0], [0.0]]), np.asarray([[0.0, 1.0]]))
    >>> float(eckart.inner(one, other))
    3.0
    """
    named = {"one": as_matrix("one", one), "other": as_matrix("other", other)}
    matrices, _, _, returned = _agreeing(named, "the other", "the product")
    (first, power), (second, another) = (
        guarded(A.loaded(name)).scaled() for name, A in zip(named, matrices, strict=True)
    )
    return cast(first.inner(second) / power[..., 0, 0] / another[..., 0, 0], returned)


@public
def reconstruct(factors: Factors, /) -> Array:
    """The matrix that factors stand for.

    Parameters
    ----------
    factors : SVD or LowRank
        Factors of a matrix or a stack.

    Returns
    -------
    array, shape (..., m, n)
        ``U @ diag(S) @ Vh`` or ``B @ A`` in the dtype of the factors, multiplied at full precision
        whatever the library's settings are.

    Raises
    ------
    TypeError
        If `factors` are neither, or their arrays not floating point or of two libraries.
    ValueError
        If the shapes of the factors do not fit together.

    Examples
    --------
    >>> import numpy as np
    >>> import eckart
    >>> eckart.reconstruct(eckart.truncated_svd(np.diag([3.0, 2.0, 1.0]), 2))
    array([[3., 0., 0.],
           [0., 2., 0.],
           [0., 0., 0.]])
    """
    _, (B, A), dtype = operands(factors)
    return cast(matmul(B, A), dtype)


@public
def linear(x: Array, factors: Factors | Array | Operator, bias: Array | None = None, /) -> Array:
    """Apply a matrix to vectors: a linear layer that never forms ``B @ A``.

    Parameters
    ----------
    x : array, shape (..., n)
        Vectors.
    factors : SVD or LowRank, or a matrix of any other kind
        A matrix of shape (m, n), or a stack that broadcasts with the leading axes of `x`.
    bias : array, shape (m,) or (..., m), optional
        Added to the result.

    Returns
    -------
    array, shape (..., m)
        ``x @ W.T + bias`` for the matrix ``W``, that is ``W @ x + bias`` for one vector.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind or of another library.
    ValueError
        If the shapes do not fit.

    Notes
    -----
    With rank r this takes ``r * (m + n)`` multiplications a vector, ``W @ x`` takes ``m * n``.

    Examples
    --------
    >>> import numpy as np
    >>> import eckart
    >>> factors = eckart.LowRank(np.asarray([[1.0], [2.0]]), np.asarray([[1.0, 1.0, 1.0]]))
    >>> eckart.linear(np.asarray([1.0, 2.0, 3.0]), factors, np.asarray([10.0, 10.0]))
    array([16., 22.])
    """
    matrix = as_matrix("factors", factors)
    others = {"x": x} if bias is None else {"x": x, "bias": bias}
    like = factors[0] if isinstance(factors, Factors) else matrix.like
    _refusals.arrays(factors=like, **others)
    xp = namespace(x)
    *stack, m, n = matrix.shape
    _refusals.trailing("x", x, "n", n)
    _refusals.stacks("x", x.shape[:-1], "factors", tuple(stack))
    arrays = [*others.values()]
    computed, returned = dtypes(
        xp,
        [*(matrix.parts or [working(matrix.like)]), *map(working, arrays)],
        [matrix.dtype, *(array.dtype for array in arrays)],
    )
    matrix = matrix.astype(computed, "factors", "x")
    x, *shift = (cast(working(array), computed) for array in arrays)
    # Axes of `x` before those of the stack become columns.
    *lead, n = x.shape
    cut = max(0, len(lead) - len(stack))
    extra, own = lead[:cut], np.broadcast_shapes(tuple(lead[cut:]), tuple(stack))
    columns = xp.reshape(xp.broadcast_to(x, (*extra, *own, n)), (math.prod(extra), *own, n))
    axes = range(len(own) + 2)
    product = matrix.matmul(xp.permute_dims(columns, (*axes[1:], 0)))
    result = xp.reshape(xp.permute_dims(product, (axes[-1], *axes[:-1])), (*extra, *own, m))
    if bias is not None:
        _refusals.trailing("bias", bias, "m", m)
        _refusals.stacks("bias", bias.shape[:-1], "x", result.shape[:-1])
        result = result + shift[0]
    return cast(result, returned)
