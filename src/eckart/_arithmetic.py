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
    transpose,
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
    """Matrices of one shape in the dtype that all are computed in, and what they have in common.

    That is the shape, an array like what is computed, and the dtype to return.
    """
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
    """The norm of a matrix of one near one, from that before it was scaled.

    Its square changes as the trace of ``adjoint(B) @ B @ A @ adjoint(A)``, which has a derivative
    where singular values are equal or zero, but half the digits.
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
    xp = _refusals.arrays(factors=matrix.like, **others)
    *stack, m, n = matrix.shape
    _refusals.trailing("x", x, "n", n)
    _refusals.stacks("x", x.shape[:-1], "factors", tuple(stack))
    arrays = [*others.values()]
    computed, returned = dtypes(
        xp,
        [*(matrix.parts or [working(matrix.like)]), *map(working, arrays)],
        [matrix.dtype, *(array.dtype for array in arrays)],
    )
    matrix, (x, *shift) = (
        matrix.astype(computed, "factors", "x"),
        [cast(working(array), computed) for array in arrays],
    )
    if stack:
        result = matrix.matmul(x[..., None])[..., 0]
    else:
        rows = xp.reshape(x, (math.prod(x.shape[:-1]), n))
        result = xp.reshape(transpose(matrix.matmul(transpose(rows))), (*x.shape[:-1], m))
    if bias is not None:
        _refusals.trailing("bias", bias, "m", m)
        _refusals.stacks("bias", bias.shape[:-1], "x", result.shape[:-1])
        result = result + shift[0]
    return cast(result, returned)
