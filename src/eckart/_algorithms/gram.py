"""Singular values and triplets from the Gram matrix over the short side."""

from __future__ import annotations

import math

from eckart._algorithms.rules import Rules, count
from eckart._algorithms.triplets import Triplets
from eckart._arrays.linalg import chunks, eigh, eigvalsh, matmul, normalizing_power, root
from eckart._arrays.namespace import (
    Array,
    adjoint,
    cast,
    concrete_int,
    conjugate,
    device,
    format_of,
    is_plain,
    namespace,
    real_dtype,
    widest,
)
from eckart._arrays.spectra import unit
from eckart._matrices import Matrix


def is_accurate(A: Array) -> bool:
    """Whether the singular values are as accurate as from an SVD in the dtype of `A`.

    Squaring costs half the digits. The error of an eigenvalue is some ``n * eps64 * S[0]**2``, and
    the error of a singular value is at most the square root, ``sqrt(n) * 1.5e-8 * S[0]``. This
    error is below ``max(m, n) * eps32 * S[0]`` for every n, and above the same bound in float64.
    """
    return bool(widest(A[..., :0, :0]).dtype != A.dtype)


def gram_values(A: Array) -> Array:
    """Singular values in float64, descending, NaN for a matrix that is not finite."""
    G, power = _gram(A)
    return root(namespace(G).flip(eigvalsh(G), axis=-1)) / cast(power[..., 0], real_dtype(G))


def gram(
    matrix: Matrix,
    rules: Rules,
    *,
    accuracy: float,
    seed: int,
    strict: bool = True,
    spare: bool = False,
) -> Triplets | None:
    """Singular triplets that `rules` keep; None if a kept value is too small for this method.

    Parameters
    ----------
    matrix : Matrix, shape (..., m, n)
    rules : Rules
    accuracy, seed, strict, spare
        Not used: the result is as accurate as the dtype allows.

    Notes
    -----
    Rayleigh–Ritz on the leading eigenvectors of the Gram matrix over the short side, formed in
    float64 if the library has float64. The residual of the vector to ``S[j]`` is some ``eps_gram *
    S[0]**2 / S[j]``. So ``S[0] / S[j]`` may be at most ``4 * sqrt(eps / eps_gram)``: 1e5 in float32
    if the library has float64, 4 otherwise. The result is None if a kept value is smaller, or if
    the array is traced or differentiated.
    """
    A = matrix.entries()
    if not is_plain(A):
        return None
    xp = namespace(A)
    G, power = _gram(A)
    values, vectors = (xp.flip(part, axis=-1) for part in eigh(G))
    S = root(values)
    factor = cast(power[..., 0], S.dtype)
    counts = count(S / factor, rules)
    width = concrete_int(xp.max(counts))
    spread = 4 * math.sqrt(format_of(A).eps / format_of(G).eps)
    usable = (S[..., :width] * spread >= S[..., :1]) & (S[..., :1] > 0)
    if concrete_int(xp.all(usable)) != 1:
        return None
    V = cast(vectors[..., :width], A.dtype)
    tall = A.shape[-2] >= A.shape[-1]
    Y = (
        matmul(A, V * factor[..., None])
        if tall
        else adjoint(matmul(adjoint(V * factor[..., None]), A))
    )
    wide = widest(Y)
    squares, W = (xp.flip(part, axis=-1) for part in eigh(matmul(adjoint(wide), wide)))
    kept = xp.sqrt(squares)
    outer = cast(matmul(wide, W / kept[..., None, :]), A.dtype)
    inner = matmul(V, cast(W, A.dtype))
    U, Vh = (outer, adjoint(inner)) if tall else (inner, adjoint(outer))
    rest = None
    if rules.error is not None:
        dropped = S[..., width:] / unit(S)
        rest = xp.sum(dropped * dropped, axis=-1)
    return Triplets(U, cast(kept / factor, real_dtype(A)), Vh, rest)


def _gram(A: Array) -> tuple[Array, Array]:
    """Gram matrix of `A` times a power of two, and the power; zero for a power that is NaN."""
    xp = namespace(A)
    power = normalizing_power(A)
    m, n = A.shape[-2:]
    tall = m >= n
    G = xp.asarray(0.0, dtype=widest(A[..., :0, :0]).dtype, device=device(A))
    for (part,) in chunks(A if tall else xp.matrix_transpose(A)):
        part = widest(part * power)
        product = matmul(adjoint(part), part)
        G = G + (product if tall else conjugate(product))
    return xp.where(xp.isfinite(power), G, 0.0), power
