"""Truncated SVD, low-rank factors and singular values: chooses the way and runs it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from eckart import _refusals
from eckart._algorithms.choice import choice, prefers_gram
from eckart._algorithms.gram import gram, gram_values
from eckart._algorithms.krylov import krylov
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


class Method(NamedTuple):
    """A method, which gives triplets or None if the full SVD is better, and what it needs."""

    triplets: Callable[..., Triplets | None]
    needs: str  # "products" or "entries"


METHODS = {"gram": Method(gram, "entries"), "krylov": Method(krylov, "products")}


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
        Real or complex, floating point; half precision is computed in float32. Factors are
        decomposed through the QR of their thin matrices, the product is never formed. What is
        known by its products (an `operator`, a sparse array of SciPy, a sparse tensor of PyTorch, a
        BCOO of JAX, a LinearOperator of SciPy, or an `add` of such with others) goes by
        ``"krylov"``. A Dask array of up to 2**23 entries is read into memory; a larger one, or any
        with ``"krylov"``, goes by a block Lanczos iteration that reads it once a step.
    rank : int, optional
        At most this many triplets, ``0 <= rank <= min(m, n)``; exactly as many if no other rule is
        given.
    rtol, atol : float or array, shape (...), optional
        Keep ``S > max(atol, rtol * S[0])``. In force when either is given, or when no rule is; the
        one left out is then ``max(m, n) * eps`` (see `matrix_rank`) or 0.
    error : float or array, shape (...), optional
        Keep the fewest triplets whose relative Frobenius error is at most this.
    method : {"auto", "exact", "gram", "krylov"}
        The library's full SVD; the Gram matrix over the short side; randomised block Krylov
        iteration. ``"auto"`` takes the one that is fastest for the shape, the rank and the library.
        Where the Gram matrix is not accurate enough, or a Krylov basis would fill most of the
        space, the full SVD is taken all the same.
    accuracy : float, optional
        Every residual ``norm(A @ v - s * u)`` and ``norm(adjoint(A) @ u - s * v)`` of a triplet is
        at most ``accuracy * S[0]``, or a RuntimeWarning says how large it is. Without `accuracy`,
        nothing is promised of single triplets of ``"krylov"``, and of their product that its
        Frobenius error exceeds the least possible one by at most ``1e-4 * norm(A)`` in single
        and ``1.5e-8 * norm(A)`` in double precision; `certify` measures what was reached.
    seed : int
        Of the test matrix of ``"krylov"``: the same one gives the same result.
    check_finite : bool
        Whether to look for NaN and infinities, one wait for the device. Without it they come out
        as NaN singular values.

    Returns
    -------
    SVD
        ``U`` (..., m, r), ``S`` (..., r) descending, ``Vh`` (..., r, n), in the dtype (``S`` in its
        real dtype) and on the device of `A`; of a Dask array ``U`` is one, and ``Vh`` if that has
        more columns than rows, the others are NumPy arrays. Of a JAX array that is spread over a
        mesh of devices, the rows of ``U`` and the columns of ``Vh`` are divided as its own are. In
        each column of ``U`` the entry of largest modulus is real, up to rounding, and positive.

    Raises
    ------
    TypeError
        If `A` is not a floating-point array or factors, or `rank` not an integer.
    ValueError
        If `A` has a NaN or an infinity, `rank` is out of range, a tolerance is negative, a singular
        value does not fit the dtype, or a matrix known by its products would have to be formed and
        is too large for it.

    Warns
    -----
    RuntimeWarning
        If a residual is larger than `accuracy`, or the Krylov iteration ended before it was exact
        enough, for a derivative too if one may be asked for, with the residual reached.

    See Also
    --------
    factorize : The same approximation as two factors.
    certify : Measures how good an approximation is.

    Notes
    -----
    Eckart and Young [1]_: no matrix of rank r is nearer to `A` in the Frobenius norm, and the
    distance is ``sqrt(sum(S[r:]**2))``. The rules only lower the rank: the result has the smallest
    rank that any of them asks for.

    The width ``r`` of the result is the rank found, in a stack the largest one; the triplets that
    the other matrices drop are exactly zero. Under ``jit``, ``vmap`` or ``compile`` it is `rank`,
    or ``min(m, n)`` without one (for factors their inner length, if that is less), and what a
    tolerance drops is exactly zero. Values are not looked at while they are traced: a NaN comes out
    as NaN.

    PyTorch and JAX are given the derivative of the truncation, whatever `method`. For it the
    iteration goes on until its residuals are small beside the gap between the kept and the dropped
    values; where it is traced, a derivative that would be off by more than a hundredth is NaN. The
    rank that a tolerance finds is a constant of it. A function of ``U @ diag(S) @ Vh``, of ``S``
    or of ``U @ U^H`` has the true one wherever the kept values are apart from the dropped ones,
    also where kept ones are equal; there ``V`` changes as the product demands, which is not
    orthonormal, and a second derivative is NaN. At a tie across the cut, where there is none, it
    is finite. Gradients of ``U`` and ``Vh`` are those of the product times ``S``: where these leave
    the normal range, take `factorize`.
    With respect to a matrix known by its products there is none, and a TypeError where one is asked
    for.

    Of a Dask array that is not read into memory, singular values below ``1.5e-8 * S[0]`` are not
    told apart from each other or from zero, and rules that go by them are uncertain.

    A JAX array that is spread over a mesh is not brought together by ``"krylov"``, which ``"auto"``
    takes for it, with a rank also while it is traced, nor by any way where its long side is at
    least twice the product of its short side and the number of devices. Else the full SVD brings a
    copy to every device.

    An iteration that has cost as much as the full SVD gives way to it. A matrix known by its
    products is then formed, if it has no more than 2**24 entries; one that leaves an iteration no
    space, up to 2**27. An `error` needs the norm of all entries, which costs as many
    products as the short side has columns unless the matrix is a sparse one of SciPy or PyTorch.

    Singular values are uncertain by a small multiple of ``max(m, n) * eps * S[0]``; those of a
    matrix given by factors by that of the norms of its factors, multiplied, which is more where
    they cancel.

    Entries of a column of ``U`` that are within ``32 * eps`` of the largest count as largest too,
    and the first one is taken, so that rounding does not decide the sign.

    References
    ----------
    .. [1] C. Eckart and G. Young, "The approximation of one matrix by another of lower rank",
       Psychometrika 1, 1936.

    Examples
    --------
    >>> import numpy as np
    >>> import eckart
    >>> A = np.diag([5.0, 3.0, 1e-20])
    >>> U, S, Vh = eckart.truncated_svd(A)
    >>> S
    array([5., 3.])
    >>> eckart.truncated_svd(A, 1).U
    array([[1.],
           [0.],
           [0.]])
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
        As in `truncated_svd`, like every parameter but the last.
    rank, rtol, atol, error, method, accuracy, seed, check_finite
        As in `truncated_svd`.
    split : {"balanced", "left", "right"}
        Where the singular values go: their square roots into both factors, all into ``B`` or all
        into ``A``.

    Returns
    -------
    LowRank
        ``B`` (..., m, r) and ``A`` (..., r, n) in the dtype and on the device of `A`.

    Raises
    ------
    TypeError, ValueError
        As in `truncated_svd`, and if `split` is none of the three.

    Notes
    -----
    The two factors store ``r * (m + n)`` numbers instead of ``m * n``: fewer up to the rank
    that `break_even_rank` gives. This is the form of a LoRA adapter [1]_.

    The derivative of the product ``B @ A`` on PyTorch and JAX is the true one wherever the kept
    singular values are apart from the dropped ones, whether or not any are equal or zero. Those of
    ``B`` and ``A`` alone depend on how the product is shared between them.

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
        Real or complex, floating point. What is known by its products is formed.

    Returns
    -------
    array, shape (..., min(m, n))
        Descending, in the real dtype and on the device of `A`.

    Raises
    ------
    TypeError
        If `A` is not a floating-point array or factors.
    ValueError
        If `A` has a NaN or an infinity, a singular value does not fit the dtype, or `A` is known by
        its products and has more than 2**27 entries.

    Notes
    -----
    Each is within a small multiple of ``max(m, n) * eps * S[0]`` of the true one; for factors, of
    ``max(m, n) * eps`` times the norms of the factors, which is more where they cancel. A float32
    or half-precision matrix with one side at least twice the other is not decomposed: the Gram
    matrix over its short side, in float64 where the library has it, is as accurate.

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
    """Singular values in the dtype they were computed in, `fitting` that of `A` if so asked."""
    parts = guarded(A).reduced().parts
    S: Array = deferred(_all_values, _all_values_differentiable, parts, ())
    _look(A, S, None, format_of(A.like).largest if fitting else math.inf)
    return S


def scaled_spectrum(A: Matrix, *, counted: bool = False) -> tuple[Array, list[Array]]:
    """Singular values times powers of two, so that none is too large, and these, shape (..., 1).

    What is only `counted` needs no derivative.
    """
    given = guarded(A).reduced().parts
    parts = tuple(map(constant, given)) if counted else given
    powers = [normalizing_power(constant(part)) for part in parts]
    parts = tuple(part * power for part, power in zip(parts, powers, strict=True))
    S = deferred(_all_values, _all_values_differentiable, parts, ())
    _look(A, S, None, math.inf)
    return S, [power[..., 0] for power in powers]


def _all_values(parts: Parts, _: tuple[()]) -> Array:
    """All singular values of the parts' product."""
    A = of_parts(parts)
    by_gram = A.preferred is None and prefers_gram(*parts)
    return gram_values(*parts) if by_gram else A.svdvals()


def _all_values_differentiable(parts: Parts, _: tuple[()]) -> Array:
    """The same from all triplets, which their derivative needs."""
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
        found = METHODS[method].triplets(
            A,
            rules,
            accuracy=request.accuracy,
            strict=request.strict,
            seed=request.seed,
            spare=request.differentiated,
        )
        if found is not None:
            return found
    return Triplets(*A.svd(rules.rank or 0))


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

    And how many these are, where it is not the width. The root of `power` of the largest singular
    value will have to fit the dtype of `A`.
    """
    U, S, Vh = found.U, found.S, found.Vh
    rules, check_finite = request.rules, request.check_finite
    largest = math.prod([format_of(A.like).largest] * power)  # inf, where ** would raise
    if rules.fixed:
        if check_finite:
            _look(A, S, None, largest)
        return _leading(U, S, Vh, rules.rank), None
    counts = count(S, rules, found.rest)
    seen = _look(A, S, counts, largest) if check_finite else _largest(namespace(S), counts)
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
    """The other triplets, where all have been found and a derivative may need them."""
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
    """The triplets that are wanted, zero the others."""
    U, S, Vh = triplets
    xp = namespace(S)
    return Kept(
        xp.where(wanted[..., None, :], U, 0.0),
        xp.where(wanted, S, 0.0),
        xp.where(wanted[..., :, None], Vh, 0.0),
    )


def _largest(xp: Namespace, counts: Array) -> int | None:
    """The largest rank of a stack; None while it is traced."""
    if 0 in counts.shape:
        return 0
    return concrete_int(xp.max(counts) if counts.ndim > 0 else counts)


def _look(A: Matrix, S: Array, counts: Array | None, largest: float) -> int | None:
    """The largest rank in `counts`, None while it is traced, after a look at the matrices.

    One wait for the device serves to read the rank and to refuse what is not finite or exceeds
    `largest`: a matrix at fault is given a rank that none can have.
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
