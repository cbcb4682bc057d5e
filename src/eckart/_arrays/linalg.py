"""Products and decompositions that behave the same on every library.

A decomposition scales entries near the ends of the range by a power of two first. A matrix with a
NaN or an infinity has NaN singular values on every library.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from typing import Any

from eckart._arrays.mesh import lengthwise
from eckart._arrays.namespace import (
    Array,
    adjoint,
    awaited,
    device,
    dtype_name,
    format_of,
    full_precision,
    is_complex,
    is_dask,
    is_jax,
    is_torch,
    namespace,
    pieces,
    platform,
    real_dtype,
)

# Entries of a part of a matrix: at most eight megabytes in float64.
CHUNK = 2**20
# Longest side of the matrices of a stack that CUDA decomposes at the same time.
_SMALL = 32
# Rows that are factorized at once. LAPACK may add the squares of a column one after another. In
# float32 the singular values of PyTorch have an error of 1e-5 for 2**20 rows, and of 3e-4 for 2**20
# columns.
_ROWS = 2**11


def matmul(A: Array, B: Array) -> Array:
    """Matrix product at the full precision of the dtype, for all settings of the user."""
    with full_precision(A):
        return awaited(namespace(A, B).matmul(A, B))


def multiplies_transposed(A: Array) -> bool:
    """Whether ``adjoint(A) @ X`` is as fast as ``adjoint(X) @ A`` for a large `A` and a thin `X`.

    The adjoint of a complex matrix is a copy. JAX also copies the transpose of a real matrix, which
    takes twice the time of the product. ``adjoint(A) @ X`` takes the BLAS of NumPy twice the time
    in float64, and a tenth less time in float32.
    """
    return dtype_name(A.dtype) == "float32" and not is_jax(A)


def normalized(A: Array) -> tuple[Array, Array]:
    """`A` times a power of two per matrix, and that power, shape (..., 1, 1).

    The squares of the scaled entries neither overflow nor underflow. For a matrix with a NaN or an
    infinity the power is NaN, and the scaled matrix is zero.
    """
    power = normalizing_power(A)
    xp = namespace(A)
    finite = xp.isfinite(power)
    return xp.where(finite, A, 0.0) * xp.where(finite, power, 1.0), power


def normalizing_power(A: Array) -> Array:
    """The power of two that `normalized` multiplies by."""
    xp = namespace(A)
    exponent = exponent_range(A)
    far, step = 2.0 ** (exponent * 5 // 16), 2.0 ** (exponent * 5 // 8)
    if 0 in A.shape[-2:]:
        return xp.ones((*A.shape[:-2], 1, 1), dtype=real_dtype(A), device=device(A))
    largest = largest_modulus(A)
    power = xp.where(largest < 1 / far, step, xp.ones_like(largest))
    power = xp.where(largest > far, 1 / step, power)
    return xp.where(xp.isfinite(largest), power, math.nan)


def normalizing_root(largest: Array) -> Array:
    """Square root of a power of two that brings a modulus near one; NaN for one that is not finite.

    The fourth power of the scaled modulus neither overflows nor underflows. The power of two and
    its reciprocal are normal numbers without a derivative.

    A division by the modulus itself would not be safe. JAX on a CPU multiplies by the reciprocal
    and flushes a subnormal one to zero. The derivative of the quotient has the square of the
    divisor.
    """
    xp = namespace(largest)
    exponent = exponent_range(largest)
    size, root = largest, xp.ones_like(largest)
    for bits in (exponent // 4, exponent // 8, exponent // 16):
        far = 2.0 ** (2 * bits)
        step = xp.where((size > 0) & (size < 1 / far), 2.0**bits, xp.ones_like(size))
        step = xp.where(size >= far, 2.0**-bits, step)
        size, root = size * step * step, root * step
    return xp.where(xp.isfinite(largest), root, math.nan)


def exponent_range(array: Array) -> int:
    """The exponent of the smallest power of two that the dtype of `array` cannot hold."""
    return math.frexp(format_of(array).largest)[1]


def largest_modulus(A: Array) -> Array:
    """Largest modulus in each matrix, shape (..., 1, 1), without a copy of the matrix.

    For complex entries the larger of both parts, because their modulus might overflow.
    """
    xp = namespace(A)
    if 0 in A.shape[-2:]:
        return xp.zeros((*A.shape[:-2], 1, 1), dtype=real_dtype(A), device=device(A))
    parts = [xp.real(A), xp.imag(A)] if is_complex(A) else [A]
    axes = {"axis": (-2, -1), "keepdims": True}
    ends = [end for part in parts for end in (xp.max(part, **axes), -xp.min(part, **axes))]
    largest = functools.reduce(xp.maximum, ends)
    if is_jax(A):  # it ignores NaN on a CPU: https://github.com/openxla/xla/issues/21461
        largest = xp.where(xp.any(A != A, **axes), math.nan, largest)
    return awaited(largest)


def modulus(A: Array) -> Array:
    """Modulus of each entry; for complex entries the larger part, which cannot overflow."""
    xp = namespace(A)
    if is_complex(A):
        return xp.maximum(xp.abs(xp.real(A)), xp.abs(xp.imag(A)))
    return xp.abs(A)


def svd(A: Array) -> tuple[Array, Array, Array]:
    """Thin SVD, ``S`` NaN for a matrix that is not finite."""
    m, n = A.shape[-2:]
    if _tall_parts(A, n, m) > 1:
        U, S, Vh = svd(adjoint(A))
        return adjoint(Vh), S, adjoint(U)
    scaled, power = normalized(A)
    if _tall_parts(A, m, n) == 1:
        if _needs_qr_iteration(scaled):
            U, S, Vh = _by_qr_iteration(scaled, vectors=True)
        else:
            U, S, Vh = namespace(A).linalg.svd(scaled, full_matrices=False)
        return U, S / power[..., 0], Vh
    Q, R = qr(scaled)
    U, S, Vh = svd(R)
    return matmul(Q, U), S / power[..., 0], Vh


def svdvals(A: Array) -> Array:
    """Singular values, NaN for a matrix that is not finite."""
    m, n = A.shape[-2:]
    if _tall_parts(A, n, m) > 1:
        return svdvals(adjoint(A))
    scaled, power = normalized(A)
    core = qr(scaled)[1] if _tall_parts(A, m, n) > 1 else scaled
    if _needs_qr_iteration(core):
        return _by_qr_iteration(core, vectors=False) / power[..., 0]
    return namespace(A).linalg.svdvals(core) / power[..., 0]


def _needs_qr_iteration(A: Array) -> bool:
    """Whether the library would use the Jacobi iteration of CUDA although QR iteration is better.

    The error of the Jacobi iteration is several units of rounding times the number of columns, so
    repeated singular values differ. QR iteration takes twice the time. For a stack of small
    matrices the Jacobi iteration is a hundred times as fast, and remains in use.
    """
    if A.ndim > 2 and max(A.shape[-2:]) <= _SMALL:
        return False
    if is_torch(A):
        return A.device.type == "cuda" and namespace(A).version.cuda is not None
    return is_jax(A) and platform(A) == "gpu"


def _by_qr_iteration(A: Array, *, vectors: bool) -> Any:
    """Thin SVD, or the singular values alone, by QR iteration on a GPU."""
    linalg: Any = namespace(A).linalg
    if is_jax(A):
        from jax.lax import linalg

        algorithm = linalg.SvdAlgorithm.QR
        return linalg.svd(A, full_matrices=False, compute_uv=vectors, algorithm=algorithm)
    if vectors:
        return linalg.svd(A, full_matrices=False, driver="gesvd")
    return linalg.svdvals(A, driver="gesvd")


def qr(A: Array) -> tuple[Array, Array]:
    """Thin QR factorization.

    Notes
    -----
    Parts of a tall matrix are factorized first, then their triangles on top of each other [1]_. So
    the norms of long columns do not lose digits, and the pieces of a sharded matrix stay on their
    devices.

    References
    ----------
    .. [1] J. Demmel, L. Grigori, M. Hoemmen and J. Langou, "Communication-optimal parallel and
       sequential QR and LU factorizations", SIAM Journal on Scientific Computing 34, 2012.
    """
    xp = namespace(A)
    *stack, m, n = A.shape
    p = _tall_parts(A, m, n)
    if p == 1:
        Q, R = xp.linalg.qr(A, mode="reduced")
        return Q, R
    rows = m // p
    whole = lengthwise(A) if pieces(A) > 1 else A[..., : p * rows, :]
    Q, R = qr(xp.reshape(whole, (*stack, p, rows, n)))
    R = xp.reshape(R, (*stack, p * n, n))
    W, R = qr(awaited(xp.concat([R, A[..., p * rows :, :]], axis=-2) if p * rows < m else R))
    top = xp.reshape(matmul(Q, xp.reshape(W[..., : p * n, :], (*stack, p, n, n))), whole.shape)
    return xp.concat([top, W[..., p * n :, :]], axis=-2) if p * rows < m else top, R


def stays_in_pieces(A: Array) -> bool:
    """Whether `svd` leaves the pieces of a sharded matrix on their devices."""
    m, n = A.shape[-2:]
    return pieces(A) > 1 and max(_tall_parts(A, m, n), _tall_parts(A, n, m)) > 1


def _tall_parts(A: Array, m: int, n: int) -> int:
    """Number of tall parts, with equal numbers of rows, in which an m by n matrix is factorized."""
    p = pieces(A)
    if p > 1:
        return p if m % p == 0 and m >= 2 * p * n > 0 else 1
    return max(1, m // max(_ROWS, 4 * n)) if n > 0 else 1


def eigvalsh(A: Array) -> Array:
    """Eigenvalues of a Hermitian matrix, ascending."""
    return namespace(A).linalg.eigvalsh(A)


def eigh(A: Array) -> tuple[Array, Array]:
    """Eigenvalues, ascending, and eigenvectors of a Hermitian matrix.

    LAPACK's divide and conquer fails for some finite matrices, for example for Gram matrices of
    graded columns (https://github.com/numpy/numpy/issues/6002). With reversed rows and columns it
    has not failed for any known one. If a stack fails, its matrices are decomposed one by one,
    because the algorithm of CUDA for stacks fails for matrices that CUDA decomposes alone.
    """
    xp = namespace(A)
    try:
        values, vectors = xp.linalg.eigh(A)
    except (ValueError, RuntimeError):  # what NumPy's and PyTorch's LinAlgError are
        if A.ndim > 2:
            each = [eigh(A[i, ...]) for i in range(A.shape[0])]
            values, vectors = (xp.stack(parts) for parts in zip(*each, strict=True))
        else:
            values, vectors = xp.linalg.eigh(xp.flip(A, axis=(-2, -1)))
            vectors = xp.flip(vectors, axis=-2)
    return values, vectors


def root(values: Array) -> Array:
    """Square root; zero, with a derivative of zero, for values that are not positive."""
    xp = namespace(values)
    positive = values > 0
    return xp.where(positive, xp.sqrt(xp.where(positive, values, 1.0)), 0.0)


def column_norms(Y: Array) -> Array:
    """Norm of each column, shape (..., 1, b)."""
    return namespace(Y).sqrt(awaited(namespace(Y).sum(_squares(Y), axis=-2, keepdims=True)))


def pivots(U: Array) -> Array:
    """The first of the entries of largest modulus in each column, shape (..., 1, r)."""
    xp = namespace(U)
    modulus = xp.abs(U)
    tied = modulus >= (1 - 32 * format_of(U).eps) * xp.max(modulus, axis=-2, keepdims=True)
    first = xp.argmax(xp.astype(tied, xp.int8), axis=-2)[..., None, :]
    if is_dask(U):  # which has no `take_along_axis`
        rows = xp.arange(U.shape[-2], chunks=(U.chunks[-2],))[:, None]
        return xp.sum(xp.where(rows == first, U, 0), axis=-2, keepdims=True).compute()
    return awaited(xp.take_along_axis(U, first, axis=-2))


def squared_norm(A: Array) -> Array:
    """Squared Frobenius norm, shape (...)."""
    return awaited(namespace(A).sum(_squares(A), axis=(-2, -1)))


def chunks(A: Array, *others: Array) -> Iterator[tuple[Array, ...]]:
    """Parts of a few rows of `A` and of the other arrays, one after another."""
    m, n = A.shape[-2:]
    rows = max(1, CHUNK // max(1, n * math.prod(A.shape[:-2])))
    for start in range(0, max(1, m), rows):
        stop = min(start + rows, m)
        yield tuple(array[..., start:stop, :] for array in (A, *others))


def _squares(A: Array) -> Array:
    """Squared modulus of each entry."""
    xp = namespace(A)
    if is_complex(A):
        real, imaginary = xp.real(A), xp.imag(A)
        return real * real + imaginary * imaginary
    return A * A
