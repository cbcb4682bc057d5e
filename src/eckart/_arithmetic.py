"""Sums, lengths and angles of matrices that are not formed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from eckart import _checks
from eckart._factors import Factors, LowRank, array_of, checked, in_memory, paired, parts_of
from eckart._foreign import taken
from eckart._linalg import matmul
from eckart._mesh import across_devices
from eckart._namespace import (
    Array,
    adjoint,
    cast,
    conjugate,
    is_dask,
    real_dtype,
    working,
)
from eckart._operator import Operator, combination, product, stored
from eckart._svd import spectrum
from eckart._thin import balanced
from eckart._tolerance import length


def add(*terms: Any, weights: Sequence[Any] | None = None) -> LowRank | Operator:
    """Weighted sum of matrices, without forming any.

    Parameters
    ----------
    *terms : LowRank, SVD, Operator, array, or sparse matrix
        Matrices of one shape, for example several LoRA adapters of one layer. Stacks broadcast.
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
    xp = _checks.arrays(**likes)
    (first, one), *others = named.items()
    for name, term in others:
        _checks.same_matrix_shape(first, one.shape, name, term.shape)
    shape = np.broadcast_shapes(*(term.shape for term in named.values()))
    computed = xp.result_type(*(working(like).dtype for like in likes.values()))
    operators = []
    for name, term in named.items():
        if is_dask(likes[name]):
            _checks.refuse_chunks(name, "Add to it with Dask's own arithmetic, which forms no sum.")
        if isinstance(term, Operator):
            _checks.same_dtype("the sum", computed, name, working(term.like).dtype)
            _checks.same_shape(name, term.shape, "the sum", shape)
            operators.append(term)
        else:
            parts = [cast(part, computed) for part in parts_of(term)]
            operators.append(product(*parts) if len(parts) == 2 else stored(*parts))
    like = cast(working(likes[first]), computed)
    weights = [
        _checks.weight(f"weights[{i}]", scale, like, shape[:-2]) for i, scale in enumerate(scales)
    ]
    dtypes = [like.dtype for like in likes.values()]
    total = combination(operators, weights)
    alike = all(dtype == dtypes[0] for dtype in dtypes)
    return replace(total, shape=shape, like=likes[first] if alike else like)


@across_devices
def norm(factors: Factors, /) -> Array:
    """Frobenius norm of a matrix given by factors.

    Parameters
    ----------
    factors : SVD or LowRank
        Factors of a matrix or a stack.

    Returns
    -------
    array, shape (...)
        In the real dtype and on the device of the factors.

    Raises
    ------
    TypeError
        If `factors` are neither, or their arrays not floating point or of two libraries.
    ValueError
        If the shapes of the factors do not fit together, an entry is NaN or infinite, or the
        spectral norm does not fit the dtype.

    See Also
    --------
    add : ``norm(add(one, other, weights=[1, -1]))`` is the distance of two matrices.
    inner : The inner product that belongs to it.

    Notes
    -----
    From the singular values, through the QR of the thin factors. It is within a small multiple of
    ``max(m, n) * eps`` times the norms of the factors, multiplied; so the distance of two nearly
    equal matrices is right to that, where ``norm(one)**2 + norm(other)**2 - 2 * inner(one, other)``
    would lose half the digits. The derivative is right where factors are rank-deficient, and zero
    at a zero matrix, where there is none.

    Examples
    --------
    >>> import numpy as np
    >>> import eckart
    >>> factors = eckart.LowRank(np.asarray([[3.0], [4.0]]), np.asarray([[0.6, 0.8]]))
    >>> round(float(eckart.norm(factors)), 12)
    5.0
    """
    S = spectrum(in_memory(checked("factors", factors)), name="factors", fitting=True)
    return cast(length(S), real_dtype(factors[0]))


@across_devices
def inner(one: Factors, other: Factors, /) -> Array:
    """Frobenius inner product of two matrices given by factors.

    Parameters
    ----------
    one, other : SVD or LowRank
        Factors of matrices of one shape. Stacks broadcast.

    Returns
    -------
    array, shape (...)
        ``trace(adjoint(one) @ other)``, that is the sum of ``conj(one) * other`` over the entries.

    Raises
    ------
    TypeError
        If an argument is not an SVD or a LowRank, or they are of two libraries.
    ValueError
        If the shapes differ.

    See Also
    --------
    norm : The length that belongs to it; ``inner(one, other) / (norm(one) * norm(other))`` is the
        cosine of the angle between two matrices.

    Notes
    -----
    ``trace(adjoint(A_1) @ adjoint(B_1) @ B_2 @ A_2)`` from the two small products ``adjoint(B_1) @
    B_2`` and ``A_2 @ adjoint(A_1)``, in O((m + n) * r_1 * r_2). The rounding error is a small
    multiple of ``max(m, n) * eps`` times the norms of the four factors, multiplied.

    Examples
    --------
    >>> import numpy as np
    >>> import eckart
    >>> one = eckart.LowRank(np.asarray([[1.0], [2.0]]), np.asarray([[1.0, 1.0]]))
    >>> other = eckart.LowRank(np.asarray([[3.0], [0.0]]), np.asarray([[0.0, 1.0]]))
    >>> float(eckart.inner(one, other))
    3.0
    """
    named = {"one": one, "other": other}
    in_hand = {name: in_memory(checked(name, term)) for name, term in named.items()}
    xp, (first, second), returned = paired(in_hand)
    B_1, A_1 = balanced(*first)
    B_2, A_2 = balanced(*second)
    left, right = matmul(adjoint(B_1), B_2), matmul(A_1, adjoint(A_2))
    return cast(xp.sum(left * conjugate(right), axis=(-2, -1)), returned)
