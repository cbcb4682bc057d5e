"""How well factors approximate a matrix, measured by products with the matrix."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from eckart import _refusals
from eckart._algorithms.golub_kahan import TwoSided, has_fixed_size
from eckart._arrays.control import compiled, repeat
from eckart._arrays.door import public
from eckart._arrays.linalg import (
    column_norms,
    eigvalsh,
    matmul,
    normalizing_root,
    root,
    squared_norm,
    svd,
    svdvals,
)
from eckart._arrays.mesh import across_devices
from eckart._arrays.namespace import (
    Array,
    adjoint,
    cast,
    concrete_int,
    device,
    format_of,
    is_complex,
    is_jax,
    is_plain,
    namespace,
    real_dtype,
    widest,
    working,
)
from eckart._derivative.registration import constant, constant_matrix
from eckart._derivative.truncation import Parts
from eckart._matrices import Matrix, as_matrix, of_parts
from eckart._matrices.factors import SVD, Factors, pair
from eckart._matrices.operator import Operator
from eckart._matrices.product import Product
from eckart._matrices.thin import thin_svd

# Columns and steps of the iteration that bounds the spectral norm of the remainder, the probability
# that the bound does not hold, and the first stream of its random numbers, which no decomposition
# uses.
_WIDTH, _STEPS = 8, 8
_FAILURE = 1e-10
_STREAM = 2**20


class Certificate(NamedTuple):
    """Result of `certify`: a named tuple, and a pytree to JAX and PyTorch.

    Attributes
    ----------
    error : array, shape (...)
        Frobenius norm of the remainder ``A - U @ diag(S) @ Vh``.
    relative_error : array, shape (...)
        ``error`` divided by the Frobenius norm of ``A``; 0 if both are zero.
    spectral_error : array, shape (...)
        Upper bound on the spectral norm of the remainder.
    failure_probability : float
        Probability, over the choice of the seed, that ``spectral_error`` is too small.
    residuals : array, shape (..., r)
        For each triplet the larger norm of ``A @ v - s * u`` and ``adjoint(A) @ u - s * v``.
    orthogonality : array, shape (...)
        The larger Frobenius norm of ``adjoint(U) @ U - I`` and ``Vh @ adjoint(Vh) - I``.
    excess : array, shape (...)
        Upper bound on ``error`` minus the error of the best approximation of the same rank. The
        rank is the number of triplets that are not exactly zero.
    gap : array, shape (...)
        Smallest kept singular value minus an estimate, from below, of the largest dropped one.
        Triplets that are exactly zero do not count as kept. Without a kept one the gap is infinite.

    Examples
    --------
    >>> import numpy as np
    >>> import eckart
    >>> A = np.diag([3.0, 2.0, 1.0])
    >>> certificate = eckart.certify(A, eckart.truncated_svd(A, 2))
    >>> f"{certificate.error:.3f} {certificate.gap:.3f} {certificate.failure_probability}"
    '1.000 1.000 0.0'
    """

    error: Array
    relative_error: Array
    spectral_error: Array
    failure_probability: float
    residuals: Array
    orthogonality: Array
    excess: Array
    gap: Array


@public
@across_devices
def certify(A: Array | Factors | Operator, factors: Factors, /, *, seed: int = 0) -> Certificate:
    """Measure how well factors approximate a matrix, and how far they are from the best ones.

    The measurement assumes nothing about the origin of the factors.

    Parameters
    ----------
    A : array, shape (..., m, n), or SVD, LowRank, Operator, or sparse matrix
        The matrix. Real or complex, floating point.
    factors : SVD or LowRank
        The approximation, of the same shape. For a LowRank, the singular triplets of its product
        are measured.
    seed : int
        Seed of the random test matrix for the spectral error. The test matrix is independent of
        that of a decomposition with the same seed.

    Returns
    -------
    Certificate
        Arrays in the real dtype of `A`, float32 for half precision.

    Raises
    ------
    TypeError
        If an argument has the wrong type or is of another library.
    ValueError
        If the shapes differ, or an entry is NaN or infinite. Traced values are not checked.

    Notes
    -----
    The Frobenius error is that of the remainder itself, formed some rows at a time, in float64 if
    the library has float64. So its accuracy is limited only by the rounding of the factors. A
    linear operator is multiplied by every column of the identity of its short side.

    The spectral error is the largest Ritz value of the remainder in a block Krylov space, raised by
    a factor. Kuczyński and Woźniakowski [1]_ prove for one random vector and k steps: the relative
    error of the estimate of the squared norm exceeds eps with a probability of at most
    ``1.648 * sqrt(n) * exp(-sqrt(eps) * (2 * k - 1))``. The bound fails only if all columns of the
    block fail. A few ``eps`` of the norm of `A` are added for rounding. If one side has no more
    than 72 entries, the remainder is decomposed instead, and the probability is zero.

    For the excess, let ``V`` be an orthonormal basis of the row space of the factors, ``h`` the
    eigenvalues of ``H = adjoint(A @ V) @ A @ V``, ``R`` the part of ``adjoint(A) @ A @ V`` outside
    of ``V``, and ``t`` the spectral error, which bounds ``A`` outside of ``V``. Let ``s`` be the
    sines of the angles between ``V`` and the leading r right singular vectors. Then the squares of
    the leading r singular values add up to at most ``trace(H) + sum(s**2 * (t**2 - h)) + 2 *
    norm(s) * norm(R)``, with ``s`` and ``h`` in the worst order. Let M be the maximum over all
    ``s``. The squared error exceeds the best one by at most ``M - trace(H)`` plus
    ``norm(A @ V - U @ diag(S) @ Vh @ V)**2``.

    References
    ----------
    .. [1] J. Kuczyński and H. Woźniakowski, "Estimating the largest eigenvalue by the power and
       Lanczos algorithms with a random start", SIAM Journal on Matrix Analysis and Applications 13,
       1992, Theorem 4.2.

    Examples
    --------
    >>> import numpy as np
    >>> import eckart
    >>> A = np.diag([4.0, 3.0, 2.0, 1.0])
    >>> U, S, Vh = factors = eckart.truncated_svd(A, 2)
    >>> certificate = eckart.certify(A, factors)
    >>> f"{certificate.error:.4f} {certificate.spectral_error:.4f} {certificate.excess:.4f}"
    '2.2361 2.0000 0.0000'
    >>> wrong = eckart.SVD(U, S, -Vh)
    >>> f"{eckart.certify(A, wrong).error:.4f}"
    '10.2470'
    """
    seed = _refusals.integer("seed", seed)
    matrix, approximation = _arguments(A, factors)
    own, size = matrix.magnitude(), approximation.magnitude()
    xp = namespace(size)
    factor = normalizing_root(xp.maximum(own, size))
    if concrete_int(xp.all(xp.isfinite(factor))) == 0:
        given = {name: as_matrix(name, M).given for name, M in (("factors", factors), ("A", A))}
        _refusals.broken(**given)
        _refusals.overflow("a product of factors", factors.dtype)
    own = normalizing_root(own)
    if is_jax(own) and is_plain(own) and matrix.parts:
        program = compiled(_program, ("seed",))
        measured: Certificate = program(matrix.parts, approximation.given, own, factor, seed=seed)
        return measured
    return _measured(matrix, approximation, own, factor, seed)


def _program(
    parts: Parts, factors: Factors, own: Array, factor: Array, *, seed: int
) -> Certificate:
    """The same as JAX compiles it."""
    return _measured(of_parts(parts), Product(*pair(factors), factors), own, factor, seed)


def _measured(
    matrix: Matrix, approximation: Product, own: Array, factor: Array, seed: int
) -> Certificate:
    """What is measured of a matrix and factors.

    The squares of `own` and `factor` are the powers of two that bring the matrix itself, and the
    larger of both, near one.
    """
    xp = namespace(factor)
    U, S, Vh = _triplets(approximation, factor)
    itself, scaled = matrix.rescaled(own), matrix.rescaled(factor)
    B = U * S[..., None, :]
    remainder = scaled.minus(B, Vh)
    error, norm = remainder.norm(), itself.norm()
    shift = (own / factor)[..., 0, 0]  # above one if the factors are far larger than the matrix
    relative = _ratio(error, norm) * shift * shift
    norm = norm / shift / shift
    rounding = 4 * format_of(U).eps * norm
    estimate, bound, failure = _spectral_norm(remainder, seed)
    spectral = rounding + xp.where(bound < error, bound, error)

    # The right vectors are V @ T, with orthonormal columns in V for any factors. The last columns,
    # which belong to no triplet, are zero.
    present = xp.any(U != 0, axis=-2) | xp.any(Vh != 0, axis=-1)
    V, T, Xh = svd(adjoint(Vh))
    count = xp.count_nonzero(present, axis=-1)
    inside = xp.arange(V.shape[-1], device=device(V)) < count[..., None]
    V, T = xp.where(inside[..., None, :], V, 0.0), T[..., :, None] * Xh
    AV = scaled.matmul(V)
    AAV = scaled.rmatmul(AV)
    right = _column_norms(matmul(AV, T) - B)
    left = _column_norms(scaled.rmatmul(U) - adjoint(Vh) * S[..., None, :])
    wrong = _norm(AV - matmul(B, matmul(Vh, V))) + rounding
    outside = _norm(AAV - matmul(V, matmul(adjoint(V), AAV))) + 2 * rounding * _norm(AV)
    missed = wrong * wrong + _missed(AV, inside, outside, spectral, rounding)
    # Rounding must not make the bound too small: if nearly all of the error is avoidable, the root
    # below amplifies rounding errors.
    missed = missed + 8 * format_of(U).eps * error * error
    missed = xp.where(missed < error * error, missed, error * error)
    missed = xp.where(count > 0, missed, 0.0)  # at rank zero nothing is better
    twice = error + xp.sqrt(error * error - missed)

    unit = factor[..., 0, 0] ** 2
    measured = {
        "error": error / unit,
        "relative_error": relative,
        "spectral_error": spectral / unit,
        "failure_probability": xp.full_like(unit, failure),
        "residuals": xp.maximum(left, right)[..., 0, :] / unit[..., None],
        "orthogonality": _orthogonality(U, Vh),
        "excess": missed / xp.where(twice > 0, twice, 1.0) / unit,
        "gap": (_smallest(S, present) - estimate) / unit,
    }
    return Certificate(**{name: cast(value, S.dtype) for name, value in measured.items()})


def _arguments(A: Any, factors: Any) -> tuple[Matrix, Product]:
    """The matrix and its approximation, both constants of one dtype."""
    matrix, known = as_matrix("A", A), Product.of("factors", factors)
    xp = _refusals.arrays(A=matrix.like, factors=known.like)
    _refusals.same_shape("A", matrix.shape, "factors", known.shape)
    left, *middle, right = (constant(working(part)) for part in known.given)
    dtype = xp.result_type(working(matrix.like).dtype, left.dtype)
    left, right = cast(left, dtype), cast(right, dtype)
    given = type(known.given)(left, *(cast(S, real_dtype(left)) for S in middle), right)
    matrix = constant_matrix(matrix.loaded()).astype(dtype, "A", "factors")
    return matrix, Product(*pair(given), given)


def _triplets(known: Product, factor: Array) -> tuple[Array, Array, Array]:
    """Triplets of the factors times `factor` squared, a power of two; absent triplets are zero."""
    if isinstance(known.given, SVD):
        U, S, Vh = known.given
        return U, S * factor[..., 0] * factor[..., 0], Vh
    xp = namespace(factor)
    B, A = known.rescaled(factor).parts
    U, S, Vh = thin_svd(B, A, 0)
    pairs = xp.count_nonzero(xp.any(B != 0, axis=-2) & xp.any(A != 0, axis=-1), axis=-1)
    present = xp.arange(S.shape[-1], device=device(S)) < pairs[..., None]
    return xp.where(present[..., None, :], U, 0.0), S, xp.where(present[..., :, None], Vh, 0.0)


def _ratio(error: Array, norm: Array) -> Array:
    """``error / norm``: 0 if both are zero, infinite if only the norm is zero."""
    xp = namespace(error)
    ratio = error / xp.where(norm > 0, norm, 1.0)
    return xp.where((norm > 0) | (error == 0), ratio, math.inf)


def _norm(A: Array) -> Array:
    """Frobenius norm, shape (...), summed in double precision if the library has it."""
    return namespace(A).sqrt(squared_norm(widest(A)))


def _column_norms(A: Array) -> Array:
    """Norm of each column, shape (..., 1, r), summed in double precision if the library has it."""
    return column_norms(widest(A))


def _spectral_norm(operator: Matrix, seed: int) -> tuple[Array, Array, float]:
    """A lower estimate of the spectral norm, an upper bound, and its failure probability."""
    n = operator.shape[-1]
    if min(operator.shape[-2:]) <= _WIDTH * (_STEPS + 1):
        norm = _largest(svdvals(operator.formed()))
        return norm, norm, 0.0
    sides, size = TwoSided(operator, seed), _WIDTH * _STEPS
    capacity = size if has_fixed_size(operator) else None
    basis = sides.begun(_WIDTH, stream=_STREAM, capacity=capacity)
    basis = repeat(lambda basis: basis.size < size, sides.extended, basis)
    estimate = svdvals(sides.joined(basis)[2])[..., 0]
    dimension = 2 * n if is_complex(operator.like) else n
    share = math.log(1.648 * math.sqrt(dimension) * _FAILURE ** (-1 / _WIDTH)) / (2 * _STEPS - 1)
    return estimate, estimate / math.sqrt(1 - share * share), _FAILURE


def _missed(AV: Array, inside: Array, outside: Array, spectral: Array, rounding: Array) -> Array:
    """Bound on the sum of the leading r squared singular values minus that of ``A @ V``.

    The singular values of ``A @ V`` have an error of `rounding`. Only columns `inside` are in use.
    """
    xp = namespace(outside)
    width = AV.shape[-1]
    if width == 0:
        return xp.zeros_like(outside)
    AV = widest(AV)
    values = root(xp.flip(eigvalsh(matmul(adjoint(AV), AV)), axis=-1)) - rounding[..., None]
    squares = xp.where(values > 0, values, 0.0) ** 2  # descending
    surplus = spectral[..., None] ** 2 - squares
    gap = xp.min(xp.where(inside, squares, squares[..., :1]), axis=-1) - spectral**2
    longest = xp.sqrt(xp.astype(xp.count_nonzero(inside, axis=-1), squares.dtype))
    is_met = gap * longest > outside  # the maximum is at s < sqrt(r)
    return xp.where(
        is_met,
        outside * outside / xp.where(is_met, gap, 1.0),
        2 * longest * outside + xp.sum(xp.where(inside & (surplus > 0), surplus, 0.0), axis=-1),
    )


def _orthogonality(U: Array, Vh: Array) -> Array:
    """The larger Frobenius norm of ``adjoint(U) @ U - I`` and ``Vh @ adjoint(Vh) - I``.

    Vectors that are exactly zero belong to dropped triplets: they have no one in the identity.
    """
    xp = namespace(U)
    norms = []
    for Q in widest(U), adjoint(widest(Vh)):
        present = xp.any(Q != 0, axis=-2)
        eye = xp.eye(Q.shape[-1], dtype=Q.dtype, device=device(Q))
        norms.append(_norm(matmul(adjoint(Q), Q) - xp.where(present[..., None, :], eye, 0.0)))
    return xp.maximum(*norms)


def _largest(S: Array) -> Array:
    xp = namespace(S)
    return S[..., 0] if S.shape[-1] else xp.zeros(S.shape[:-1], dtype=S.dtype, device=device(S))


def _smallest(S: Array, present: Array) -> Array:
    """The least singular value of a present triplet; infinite without one."""
    xp = namespace(S)
    least = xp.full((*S.shape[:-1], 1), math.inf, dtype=S.dtype, device=device(S))
    return xp.min(xp.concat([least, xp.where(present, S, math.inf)], axis=-1), axis=-1)
