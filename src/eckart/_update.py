"""Truncated SVD of a matrix with rows or columns appended."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import numpy as np

from eckart import _refusals
from eckart._algorithms.triplets import oriented
from eckart._arrays.door import public
from eckart._arrays.linalg import matmul, normalized, normalizing_power, qr, svd
from eckart._arrays.mesh import across_devices
from eckart._arrays.namespace import (
    FORMATS,
    Array,
    DType,
    adjoint,
    cast,
    device,
    dtype_name,
    namespace,
    real_dtype,
)
from eckart._arrays.spectra import length
from eckart._derivative.registration import constant, guarded, is_differentiated, represented
from eckart._derivative.truncation import Kept, evening
from eckart._matrices import Matrix, as_matrix
from eckart._matrices.factors import SVD, Factors, checked, dtypes
from eckart._matrices.operator import Operator
from eckart._matrices.thin import balanced, unscaled

# Two factors of a matrix.
Pair: TypeAlias = tuple[Array, Array]


class Update(NamedTuple):
    """Result of `update`: a named tuple, and a pytree to JAX and PyTorch.

    Attributes
    ----------
    svd : SVD
        Truncated SVD of the matrix with the new rows or columns.
    loss : array, shape (...)
        Frobenius norm of the part that this truncation dropped.

    Examples
    --------
    >>> import numpy as np
    >>> import eckart
    >>> factors = eckart.truncated_svd(np.diag([4.0, 2.0]))
    >>> update = eckart.update(factors, np.asarray([[3.0, 0.0]]), 1)
    >>> update.svd.S, update.loss
    (array([5.]), np.float64(2.0))
    """

    svd: SVD
    loss: Array


@public
@across_devices
def update(
    factors: Factors, new: Array | Factors | Operator, /, rank: int | None = None, *, axis: int = -2
) -> Update:
    """Append rows, columns or a second truncated SVD to a truncated SVD, and truncate again.

    The matrix itself is not needed. A stream can be reduced batch by batch, and the results of
    many workers two at a time.

    Parameters
    ----------
    factors : SVD or LowRank
        Factors of a matrix or a stack, shape (..., m, n).
    new : array, or SVD, LowRank, Operator, or sparse matrix
        New rows, shape (..., p, n), or new columns, shape (..., m, p). Stacks broadcast. Operators
        and sparse matrices are formed.
    rank : int, optional
        Number of triplets to keep. The default is the rank of `factors`. If the shapes allow only
        fewer, the result has fewer: a stream can pass the same rank from its first batch on.
    axis : {-2, -1}
        Whether `new` has rows (-2) or columns (-1).

    Returns
    -------
    Update
        ``svd`` is an SVD of shape (..., m + p, n) or (..., m, n + p), in the dtype of both
        arguments, with the signs of `truncated_svd`. ``loss`` (...) is real, and float32 for half
        precision.

    Raises
    ------
    TypeError
        If `factors` is not an SVD or a LowRank, an argument is not floating point or is of another
        library, or `rank` or `axis` is not an integer.
    ValueError
        If the shapes do not fit, an entry is NaN or infinite, `rank` is negative, or a singular
        value does not fit the dtype. Traced values are not checked.

    See Also
    --------
    add : Adds matrices of one shape.
    certify : Measures the error if the matrix is available.

    Notes
    -----
    The method of Brand [1]_, and of Iwen and Ong [2]_ for two SVDs: QR makes the factors
    orthonormal, and the small core is decomposed, in ``O((m + n + p) * (r + p)**2)``. Each update
    computes a new QR, so orthonormality does not depend on the number of updates. A batch with more
    rows than the rank is cheaper if it is truncated first.

    Let ``X`` be the approximation of ``A`` after any updates by rows, in any order or tree of
    merges. The updates begin with exact factors, or with best approximations of parts of ``A``. Let
    ``D`` be the part that a truncation dropped. Up to rounding, in the Frobenius norm:

    - ``norm(A - X)**2 == sum(norm(D)**2)``: the squares of all ``loss``, and of the errors of the
      parts, add up to the squared error.
    - A singular value of ``X`` is at most that of ``A``. The difference of their squares is at most
      this sum.
    - With one rank for all updates, ``norm(A - X)`` is at most ``sqrt(k)`` times the best error for
      ``A``, if no row goes through more than k truncations.

    Updates by columns are updates of the adjoint by rows. If rows and columns alternate, the error
    is at most ``sum(norm(D))``. Rounding adds some ``max(m, n) * eps * S[0]`` with each update, so
    keep the factors of a long stream in float32. On PyTorch and JAX the result is differentiable
    like that of `truncated_svd`.

    References
    ----------
    .. [1] M. Brand, "Fast low-rank modifications of the thin singular value decomposition", Linear
       Algebra and its Applications 415, 2006.
    .. [2] M. A. Iwen and B. W. Ong, "A distributed and incremental SVD algorithm for agglomerative
       data analysis on large networks", SIAM Journal on Matrix Analysis and Applications 37, 2016.

    Examples
    --------
    >>> import numpy as np
    >>> import eckart
    >>> A = np.random.default_rng(0).standard_normal((60, 5)) * [9.0, 4.0, 1.0, 0.1, 0.1]
    >>> factors = eckart.SVD(np.zeros((0, 0)), np.zeros(0), np.zeros((0, 5)))
    >>> lost = 0.0
    >>> for batch in np.split(A, 6):
    ...     factors, loss = eckart.update(factors, batch, 2)
    ...     lost = np.hypot(lost, loss)
    >>> factors.shape, factors.rank
    ((60, 5), 2)
    >>> error = np.linalg.norm(A - eckart.reconstruct(factors))
    >>> best = eckart.truncation_error(eckart.singular_values(A), 2)
    >>> f"{lost:.4f} {error:.4f} {best:.4f}"
    '7.5096 7.5096 7.4870'
    """
    old, added = as_matrix("factors", checked("factors", factors)), as_matrix("new", new)
    _refusals.arrays(factors=factors[0], new=added.like)
    _refusals.one_of("axis", _refusals.integer("axis", axis), (-2, -1))
    _refusals.beside("new", added.shape, "factors", old.shape, axis)
    width = factors.rank if rank is None else _refusals.most("rank", rank)
    pairs, dtype = _pairs(old, guarded(added).loaded("new"), [old.dtype, added.dtype], axis)
    found = _stacked_svd([(constant(B), constant(A)) for B, A in pairs])
    width = min(width, found.S.shape[-1])
    given = {"factors": old.given, "new": added.given}
    largest = FORMATS[dtype_name(dtype)].largest
    _refusals.fitting(found.S, largest, "the largest singular value", old.dtype, **given)

    kept, dropped = _split(found, width)
    everything, nothing = _split(found, found.S.shape[-1])
    spread = is_differentiated(tuple(part for both in pairs for part in both))
    parts = _stacked([_even(*both) for both in pairs]) if spread else pairs[0]
    U, S, Vh = represented(None, parts, kept, dropped, None)
    values = represented(None, parts, everything, nothing, None)[1]
    if axis == -1:
        U, Vh = adjoint(Vh), adjoint(U)
    U, S, Vh = oriented(U, S, Vh)
    U = cast(U, dtype)
    return Update(SVD(U, cast(S, real_dtype(U)), cast(Vh, dtype)), length(values[..., width:]))


def _pairs(old: Matrix, new: Matrix, given: list[DType], axis: int) -> tuple[list[Pair], DType]:
    """Two factors of each matrix, of one dtype and one stack shape, and the dtype to return.

    If columns are appended, the factors are those of the adjoint.
    """
    if axis == -1:
        old, new = old.adjoint(), new.adjoint()
    pairs = [old.factors("factors"), new.factors("new")]
    xp = namespace(pairs[0][0])
    computed, returned = dtypes(xp, [part for both in pairs for part in both], given)
    stack = np.broadcast_shapes(old.shape[:-2], new.shape[:-2])

    def spread(part: Array) -> Array:
        return xp.broadcast_to(cast(part, computed), (*stack, *part.shape[-2:]))

    return [(spread(B), spread(A)) for B, A in pairs], returned


def _stacked_svd(pairs: list[Pair]) -> Kept:
    """Thin SVD of the matrices on top of each other, each given by two factors.

    The left factor of the stacked matrix is block diagonal, and so is its QR.
    """
    pairs = [balanced(*both) for both in pairs]
    xp = namespace(pairs[0][0])
    right, one = normalized(xp.concat([A for _, A in pairs], axis=-2))
    other = xp.minimum(*(normalizing_power(B) for B, _ in pairs))
    Q, R = qr(adjoint(right))
    lefts = [qr(B * other) for B, _ in pairs]
    rights = _cut(adjoint(R), [A.shape[-2] for _, A in pairs])
    core = [matmul(left, right) for (_, left), right in zip(lefts, rights, strict=True)]
    U, S, Vh = svd(xp.concat(core, axis=-2))
    rows = _cut(U, [basis.shape[-1] for basis, _ in lefts])
    vectors = [matmul(basis, part) for (basis, _), part in zip(lefts, rows, strict=True)]
    S = unscaled(S, one, other)
    return Kept(xp.concat(vectors, axis=-2), S, matmul(Vh, adjoint(Q)))


def _cut(A: Array, lengths: list[int]) -> tuple[Array, Array]:
    """The rows of a matrix in two parts."""
    return A[..., : lengths[0], :], A[..., lengths[0] :, :]


def _even(B: Array, A: Array) -> Pair:
    """Factors of the same product that are about as large as each other."""
    even = evening(constant(B), constant(A))
    return B * even, A / even


def _stacked(pairs: list[Pair]) -> Pair:
    """Two factors of the matrices on top of each other."""
    (B, upper), (C, lower) = pairs
    xp = namespace(B)

    def zeros(rows: Array, columns: Array) -> Array:
        shape = (*rows.shape[:-1], columns.shape[-1])
        return xp.zeros(shape, dtype=rows.dtype, device=device(rows))

    top, bottom = xp.concat([B, zeros(B, C)], axis=-1), xp.concat([zeros(C, B), C], axis=-1)
    return xp.concat([top, bottom], axis=-2), xp.concat([upper, lower], axis=-2)


def _split(found: Kept, width: int) -> tuple[Kept, Kept]:
    """The leading triplets, and the remaining ones."""
    U, S, Vh = found
    return (
        Kept(U[..., :width], S[..., :width], Vh[..., :width, :]),
        Kept(U[..., width:], S[..., width:], Vh[..., width:, :]),
    )
