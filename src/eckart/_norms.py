"""Lengths and angles of matrices given by their factors, which are never multiplied out."""

from __future__ import annotations

from eckart._factors import Factors, checked, paired
from eckart._linalg import matmul, root
from eckart._namespace import Array, adjoint, cast, conjugate, namespace, real_dtype
from eckart._svd import spectrum
from eckart._thin import balanced
from eckart._tolerance import unit


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
    S = spectrum(checked("factors", factors), name="factors", fitting=True)
    largest = unit(S)
    ratios = S / largest
    length = largest[..., 0] * root(namespace(S).sum(ratios * ratios, axis=-1))
    return cast(length, real_dtype(factors[0]))


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
    xp, (first, second), returned = paired({"one": one, "other": other})
    B_1, A_1 = balanced(*first)
    B_2, A_2 = balanced(*second)
    left, right = matmul(adjoint(B_1), B_2), matmul(A_1, adjoint(A_2))
    return cast(xp.sum(left * conjugate(right), axis=(-2, -1)), returned)
