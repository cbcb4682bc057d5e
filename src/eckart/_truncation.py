"""Truncated SVD, low-rank factors and singular values: chooses the method and runs it."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from eckart import _refusals
from eckart._algorithms.gram import gram_values
from eckart._algorithms.methods import METHODS, choice, prefers_gram
from eckart._algorithms.rules import Rules, count
from eckart._algorithms.rules import checked as checked_rules
from eckart._algorithms.triplets import Triplets, oriented
from eckart._arrays.door import public
from eckart._arrays.linalg import column_norms, normalizing_power
from eckart._arrays.mesh import across_devices
from eckart._arrays.namespace import (
    Array,
    Namespace,
    adjoint,
    cast,
    concrete_int,
    device,
    format_of,
    has_values,
    is_torch,
    namespace,
    real_dtype,
    working,
)
from eckart._derivative.registration import (
    constant,
    constant_matrix,
    deferred,
    guarded,
    is_differentiated,
    represented,
)
from eckart._derivative.truncation import Kept, Known, Parts
from eckart._matrices import Matrix, as_matrix, of_parts
from eckart._matrices.factors import SVD, Factors, LowRank
from eckart._matrices.operator import Operator


@public
@across_devices
def truncated_svd(
    A: Array | Factors | Operator,
    /,
    rank: int | None = None,
    *,
    rtol: Any = None,
    atol: Any = None,
    error: Any = None,
    method: str = "auto",
    accuracy: float | None = None,
    seed: int = 0,
    check_finite: bool = True,
) -> SVD:
    """Best approximation of a matrix by one of lower rank, as singular triplets.

    Parameters
    ----------
    A : array, shape (..., m, n), or SVD, LowRank, Operator, or sparse matrix
        Real or complex, floating point. Half precision is computed in float32.
    rank : int, optional
        At most this many triplets, ``0 <= rank <= min(m, n)``. Without another rule exactly `rank`.
    rtol, atol : float or array, shape (...), optional
        Keep ``S > max(atol, rtol * S[0])``. This rule applies if `rtol` or `atol` is given, or if
        no rule is. The default of `rtol` is that of `matrix_rank`, the default of `atol` is 0.
    error : float or array, shape (...), optional
        Keep the fewest triplets whose relative Frobenius error is at most `error`.
    method : {"auto", "exact", "gram", "krylov"}
        ``"exact"`` is the full SVD of the library, ``"gram"`` the eigendecomposition of the Gram
        matrix, ``"krylov"`` a randomised block Krylov iteration. ``"auto"`` chooses the fastest.
        If a method is not accurate enough or costs more, the full SVD replaces it.
    accuracy : float, optional
        Bound of ``norm(A @ v - s * u)`` and ``norm(adjoint(A) @ u - s * v)`` for each triplet,
        relative to ``S[0]``. Without it, ``"krylov"`` bounds only the Frobenius error of the
        product: the error exceeds the least possible one by at most ``1e-4 * norm(A)`` in single
        and ``1.5e-8 * norm(A)`` in double precision.
    seed : int
        Seed of the random test matrix of ``"krylov"``. The same seed gives the same result.
    check_finite : bool
        Whether to refuse NaN and infinities. The check waits once for the device. Without the
        check they give NaN singular values.

    Returns
    -------
    SVD
        ``U`` (..., m, r), ``S`` (..., r) descending, ``Vh`` (..., r, n), in the dtype (``S`` in its
        real dtype) and on the device of `A`. In each column of ``U`` the first entry of largest
        modulus, up to ``32 * eps``, is real and positive.

    Raises
    ------
    TypeError
        If `A` is not a floating-point matrix, or `rank` is not an integer.
    ValueError
        If `A` has a NaN or an infinity, `rank` is out of range, a tolerance is negative, a singular
        value does not fit the dtype, or a linear operator is too large to be formed.

    Warns
    -----
    RuntimeWarning
        If the iteration did not converge to `accuracy`, or not far enough for a derivative.

    Notes
    -----
    Eckart and Young [1]_: no matrix of rank r is nearer to `A` in the Frobenius norm, and the
    distance is ``sqrt(sum(S[r:]**2))``. Each rule can only lower the rank. In a stack ``r`` is the
    largest rank, and the triplets that another matrix drops are exactly zero. The singular values
    are accurate to a small multiple of ``max(m, n) * eps * S[0]``. `certify` measures the error.
    The how-to guides describe sparse matrices and linear operators, Dask arrays, sharded matrices,
    derivatives, and transformations such as ``jit``.

    References
    ----------
    .. [1] C. Eckart and G. Young, "The approximation of one matrix by another of lower rank",
       Psychometrika 1, 1936.

    Examples
    --------
    >>> import numpy as np
    >>> import eckart
    >>> U, S, Vh = eckart.truncated_svd(np.diag([5.0, 3.0, 1e-20]))
    >>> S
    array([5., 3.])
    """
    matrix = as_matrix("A", A)
    rules = Rules(rank, rtol, atol, error)
    request = _requested(matrix, rules, method, accuracy, seed, check_finite)
    U, S, Vh = oriented(*_truncated(matrix, request))
    return SVD(cast(U, matrix.dtype), cast(S, real_dtype(matrix.like)), cast(Vh, matrix.dtype))


@public
@across_devices
def factorize(
    A: Array | Factors | Operator,
    /,
    rank: int | None = None,
    *,
    rtol: Any = None,
    atol: Any = None,
    error: Any = None,
    method: str = "auto",
    accuracy: float | None = None,
    seed: int = 0,
    check_finite: bool = True,
    split: str = "balanced",
) -> LowRank:
    """Best approximation of a matrix by one of lower rank, as two factors ``B @ A``.

    Parameters
    ----------
    A : array, shape (..., m, n), or SVD, LowRank, Operator, or sparse matrix
        As in `truncated_svd`.
    rank, rtol, atol, error, method, accuracy, seed, check_finite
        As in `truncated_svd`.
    split : {"balanced", "left", "right"}
        The factor that is multiplied by the singular values: ``"left"`` is ``B``, ``"right"`` is
        ``A``. ``"balanced"`` multiplies both by the square roots.

    Returns
    -------
    LowRank
        ``B`` (..., m, r) and ``A`` (..., r, n) in the dtype and on the device of `A`.

    Raises
    ------
    TypeError, ValueError
        As in `truncated_svd`, and if `split` is not one of the three values.

    Notes
    -----
    The two factors store ``r * (m + n)`` numbers instead of ``m * n``. This is less up to the rank
    that `break_even_rank` gives. A LoRA adapter [1]_ has the same form.

    On PyTorch and JAX the product ``B @ A`` is differentiable if there is a gap between the kept
    and the dropped singular values, also if some kept values are equal or zero. The derivatives of
    ``B`` and ``A`` alone depend on how the two factors share the product.

    References
    ----------
    .. [1] E. J. Hu et al., "LoRA: Low-rank adaptation of large language models", ICLR 2022,
       arXiv:2106.09685.

    Examples
    --------
    >>> import numpy as np
    >>> import eckart
    >>> W = np.outer(np.arange(1.0, 5.0), np.ones(3))
    >>> B, A = eckart.factorize(W, 1)
    >>> B.shape, A.shape, np.allclose(B @ A, W)
    ((4, 1), (1, 3), True)
    """
    _refusals.one_of("split", split, ("balanced", "left", "right"))
    matrix = as_matrix("A", A)
    rules = Rules(rank, rtol, atol, error)
    request = _requested(matrix, rules, method, accuracy, seed, check_finite)
    B, _, C = _truncated(matrix, request, split)
    return LowRank(cast(B, matrix.dtype), cast(C, matrix.dtype))


@public
@across_devices
def singular_values(A: Array | Factors | Operator, /) -> Array:
    """All singular values of a matrix.

    Parameters
    ----------
    A : array, shape (..., m, n), or SVD, LowRank, Operator, or sparse matrix
        Real or complex, floating point. A linear operator or a sparse matrix is formed.

    Returns
    -------
    array, shape (..., min(m, n))
        Descending, in the real dtype and on the device of `A`.

    Raises
    ------
    TypeError
        If `A` is not a floating-point matrix.
    ValueError
        If `A` has a NaN or an infinity, a singular value does not fit the dtype, or `A` is a linear
        operator or a sparse matrix with more than 2**27 entries.

    Notes
    -----
    The singular values are accurate to a small multiple of ``max(m, n) * eps * S[0]``. For factors
    the bound has the product of the norms of the factors in place of ``S[0]``. The product is
    larger if the factors cancel.

    If one side is at least twice the other, a float32 or half-precision matrix is not decomposed.
    The Gram matrix over the short side is as accurate, in float64 if the library has float64.

    Examples
    --------
    >>> import numpy as np
    >>> import eckart
    >>> eckart.singular_values(np.asarray([[3.0, 0.0], [0.0, -4.0], [0.0, 0.0]]))
    array([4., 3.])
    """
    matrix = as_matrix("A", A)
    return cast(spectrum(matrix, fitting=True), real_dtype(matrix.like))


def spectrum(A: Matrix, *, fitting: bool = False) -> Array:
    """Singular values in the working dtype; if `fitting`, values too large for `A` are refused."""
    parts = guarded(A).reduced().parts
    S: Array = deferred(_all_values, _all_values_differentiable, parts, ())
    _check_values(A, S, None, format_of(A.like).largest if fitting else math.inf)
    return S


def scaled_spectrum(A: Matrix, *, counted: bool = False) -> tuple[Array, list[Array]]:
    """Singular values times powers of two that prevent overflow, and the powers, shape (..., 1).

    Values that are only `counted` need no derivative.
    """
    given = guarded(A).reduced().parts
    parts = tuple(map(constant, given)) if counted else given
    powers = [normalizing_power(constant(part)) for part in parts]
    parts = tuple(part * power for part, power in zip(parts, powers, strict=True))
    S = deferred(_all_values, _all_values_differentiable, parts, ())
    _check_values(A, S, None, math.inf)
    return S, [power[..., 0] for power in powers]


def _all_values(parts: Parts, _: tuple[()]) -> Array:
    """All singular values of the parts' product."""
    A = of_parts(parts)
    by_gram = A.preferred is None and prefers_gram(*parts)
    return gram_values(*parts) if by_gram else A.svdvals()


def _all_values_differentiable(parts: Parts, _: tuple[()]) -> Array:
    """All singular values, from the triplets that their derivative needs."""
    A = of_parts(tuple(map(constant, parts)))
    k = min(A.shape[-2:])
    U, S, Vh = kept = Kept(*A.svd(k))
    nothing = U[..., k:], S[..., k:], Vh[..., k:, :]
    found = represented(None, parts, kept, nothing, None)[1]
    return S + (found - constant(found))  # a zero counts as more where its vectors have derivatives


class Request(NamedTuple):
    """What a caller asks for, validated."""

    rules: Rules
    method: str
    accuracy: float
    strict: bool  # whether the caller has given the accuracy
    seed: int
    differentiated: bool
    check_finite: bool


def _requested(
    A: Matrix, rules: Rules, method: str, accuracy: float | None, seed: int, check_finite: bool
) -> Request:
    _refusals.one_of("method", method, ("auto", "exact", *METHODS))
    default = min(1e-4, math.sqrt(format_of(working(A.like)).eps))
    return Request(
        rules=checked_rules(rules, A.like, A.shape, _refusals.rank_limit(A.shape)),
        method=method,
        accuracy=_refusals.accuracy(accuracy, default),
        strict=accuracy is not None,
        seed=_refusals.integer("seed", seed),
        differentiated=is_differentiated(A.parts),
        check_finite=check_finite,
    )


def _truncated(A: Matrix, request: Request, split: str | None = None) -> tuple[Array, Array, Array]:
    """The two factors and the singular values that the rules keep, in the dtype computed in."""
    fixed = constant_matrix(A)
    found = _decomposed(fixed, request)
    found = found._replace(U=A.placed(found.U))
    kept, counts = _kept(A, found, request, 2 if split == "balanced" else 1)
    _warn_if_inexact(fixed, found, kept, request)
    if split is not None:
        kept = Kept(*oriented(*kept))
    dropped = _dropped(found, kept.S.shape[-1], counts, A.parts)
    return represented(split, A.parts, kept, dropped, found.spare, found.doubtful)


def _decomposed(A: Matrix, request: Request) -> Triplets:
    """Triplets by the method requested, or by the full SVD if that is the better one."""
    rules, method = request.rules, request.method
    asked = METHODS.get(method)
    A = A.prepared(asked.needs if asked else None if method == "auto" else "entries")
    if method == "auto":
        method = A.preferred or choice(A.entries(), rules)
    if method in METHODS and not A.has_factors and 0 not in A.shape:
        found = _found(A, request, method)
        if found is not None:
            return found
    return Triplets(*A.svd(rules.rank or 0))


def _found(A: Matrix, request: Request, method: str) -> Triplets | None:
    """What a method finds; PyTorch traces the method as one operator."""
    rules = request.rules
    how: dict[str, Any] = {
        "accuracy": request.accuracy,
        "strict": request.strict,
        "seed": request.seed,
        "spare": request.differentiated,
    }
    if A.parts and rules.rank is not None and is_torch(A.like) and not has_values(A.like):
        from eckart._algorithms import _torch

        return _torch.traced(method, A.parts[0], rules, **how)
    return METHODS[method].triplets(A, rules, **how)


def _warn_if_inexact(A: Matrix, found: Triplets, kept: Kept, request: Request) -> None:
    """Say how large a residual is if it exceeds the accuracy, or what a derivative needs."""
    residual = found.residual
    if residual is None and request.strict and (A.parts or A.by_products):
        residual = _largest_residual(A, kept)
    if residual is not None and residual > request.accuracy:
        _refusals.warn_of_residual(residual, request.accuracy)
    elif found.residual is not None and request.differentiated:
        _refusals.warn_of_gap(found.residual)


def _kept(A: Matrix, found: Triplets, request: Request, power: int) -> tuple[Kept, Array | None]:
    """The triplets that the rules keep, exactly zero what they drop of the width of the result.

    Triplets within the width that the rules drop are exactly zero. The root of order `power` of the
    largest singular value must fit the dtype of `A`.
    """
    U, S, Vh = found.U, found.S, found.Vh
    rules, check_finite = request.rules, request.check_finite
    largest = math.prod([format_of(A.like).largest] * power)  # inf, where ** would raise
    if rules.fixed:
        if check_finite:
            _check_values(A, S, None, largest)
        return _leading(U, S, Vh, rules.rank), None
    counts = count(S, rules, found.rest)
    seen = _check_values(A, S, counts, largest) if check_finite else _largest(namespace(S), counts)
    width = seen if seen is not None else S.shape[-1] if rules.rank is None else rules.rank
    U, S, Vh = kept = _leading(U, S, Vh, width)
    if seen is not None and S.ndim == 1:
        return kept, None
    return _masked(kept, namespace(S).arange(width, device=device(S)) < counts[..., None]), counts


def _largest_residual(A: Matrix, kept: Kept) -> float | None:
    """Largest residual of the triplets over ``S[0]``; None while it is traced."""
    U, S, Vh = kept
    if 0 in S.shape:
        return None
    xp, S = namespace(S), S[..., None, :]
    top = xp.where(S[..., :1] > 0, S[..., :1], 1.0)
    sides = (
        A.matmul(adjoint(Vh)) / top - U * (S / top),
        A.rmatmul(U) / top - adjoint(Vh) * (S / top),
    )
    largest = xp.max(xp.maximum(*map(column_norms, sides)))
    return float(largest) if concrete_int(largest >= 0) == 1 else None


def _dropped(found: Triplets, width: int, counts: Array | None, parts: Parts) -> Known | None:
    """The dropped triplets, if all triplets are known and a derivative may need them."""
    U, S, Vh = found.U, found.S, found.Vh
    if not is_differentiated(parts):
        return None
    if S.shape[-1] < min(length for part in parts for length in part.shape[-2:]):
        return None
    if counts is None:
        return U[..., width:], S[..., width:], Vh[..., width:, :]
    others = namespace(S).arange(S.shape[-1], device=device(S)) >= counts[..., None]
    return tuple(_masked(Kept(U, S, Vh), others))


def _leading(U: Array, S: Array, Vh: Array, width: int | None) -> Kept:
    return Kept(U[..., :width], S[..., :width], Vh[..., :width, :])


def _masked(triplets: Kept, wanted: Array) -> Kept:
    """The triplets that are wanted, zero in place of the others."""
    U, S, Vh = triplets
    xp = namespace(S)
    return Kept(
        xp.where(wanted[..., None, :], U, 0.0),
        xp.where(wanted, S, 0.0),
        xp.where(wanted[..., :, None], Vh, 0.0),
    )


def _largest(xp: Namespace, counts: Array) -> int | None:
    """The largest rank of a stack; None if it is traced."""
    if 0 in counts.shape:
        return 0
    return concrete_int(xp.max(counts) if counts.ndim > 0 else counts)


def _check_values(A: Matrix, S: Array, counts: Array | None, largest: float) -> int | None:
    """Refuse values that are not finite or exceed `largest`; return the largest rank in `counts`.

    One wait for the device serves both: an invalid matrix gets the rank ``k + 1``, which no matrix
    can have. The result is None if the rank is traced.
    """
    k = S.shape[-1]
    if 0 in S.shape:
        return 0
    xp, what, given = namespace(S), "the largest singular value", {"A": A.given}
    if counts is None:
        _refusals.fitting(S[..., :1], largest, what, A.dtype, **given)
        return None
    fits = S[..., 0] <= min(largest, format_of(S).largest)
    found = _largest(xp, xp.where(fits, counts, k + 1))
    if found == k + 1:
        _refusals.misfit(S[..., :1], what, A.dtype, **given)
    return found
