"""Truncated SVD, low-rank factors and singular values: chooses the way and runs it."""

from __future__ import annotations

import math
from typing import Any

from eckart import _checks
from eckart._autodiff import constant, deferred, is_differentiated, represented, underivable
from eckart._choice import choice, prefers_gram
from eckart._derivative import Kept, Known, Parts
from eckart._door import public
from eckart._factors import SVD, Factors, LowRank, array_of, parts_of
from eckart._foreign import taken
from eckart._goal import is_resolved
from eckart._gram import gram, gram_values
from eckart._krylov import krylov
from eckart._linalg import column_norms, normalizing_power, svd, svdvals
from eckart._mesh import across_devices
from eckart._namespace import (
    Array,
    Namespace,
    adjoint,
    cast,
    concrete_int,
    device,
    format_of,
    is_dask,
    namespace,
    real_dtype,
    widest,
    working,
)
from eckart._operator import Operator, formed, product, stored
from eckart._thin import thin_svd, thin_svdvals
from eckart._tolerance import Rules, count
from eckart._tolerance import checked as checked_rules
from eckart._triplets import Triplets, oriented

# The ways that choose for themselves whether they are any good for a matrix: each takes one and the
# rules, and gives triplets or None. The library's full SVD always is.
METHODS = {"gram": gram, "krylov": krylov}

# Entries of a matrix known by its products up to which it may be formed: a gigabyte in float64.
_FORMED = 2**27

# Entries of a Dask array up to which it is read into memory to be decomposed there.
_READ = 2**23


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
    is finite.
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
    A = taken("A", A)
    rules = Rules(rank, rtol, atol, error)
    U, S, Vh = _oriented(*_truncate(A, rules, method, accuracy, seed, check_finite))
    return SVD(cast(U, A.dtype), cast(S, real_dtype(array_of(A))), cast(Vh, A.dtype))


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
    _checks.one_of("split", split, ("balanced", "left", "right"))
    A = taken("A", A)
    rules = Rules(rank, rtol, atol, error)
    B, _, C = _truncate(A, rules, method, accuracy, seed, check_finite, split)
    return LowRank(cast(B, A.dtype), cast(C, A.dtype))


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
    A = taken("A", A)
    return cast(spectrum(A, fitting=True), real_dtype(array_of(A)))


def spectrum(A: Array | Factors | Operator, *, name: str = "A", fitting: bool = False) -> Array:
    """Singular values in the dtype they were computed in, `fitting` that of `A` if so asked."""
    if is_dask(array_of(A)) and math.prod(A.shape) > _READ and len(A.shape) == 2:
        S = _values_of_chunks(A)
    else:
        S = _values(_in_hand(A))
    _look(A, S, None, format_of(array_of(A)).largest if fitting else math.inf, name)
    return S


def scaled_spectrum(
    A: Array | Factors | Operator, *, counted: bool = False
) -> tuple[Array, list[Array]]:
    """Singular values times powers of two, so that none is too large, and these, shape (..., 1).

    What is only `counted` needs no derivative.
    """
    if is_dask(array_of(A)) and math.prod(A.shape) > _READ and len(A.shape) == 2:
        return spectrum(A), []
    given = _in_hand(A)
    parts = tuple(map(constant, given)) if counted else given
    powers = [normalizing_power(constant(part)) for part in parts]
    S = _values(tuple(part * power for part, power in zip(parts, powers, strict=True)))
    _look(A, S, None, math.inf)
    return S, [power[..., 0] for power in powers]


def _in_hand(A: Array | Factors | Operator) -> Parts:
    """A matrix, or its two factors, in memory."""
    outside = isinstance(A, Operator) or is_dask(array_of(A))
    return (whole(A),) if outside else parts_of(A)


def _values(parts: Parts) -> Array:
    S: Array = deferred(_all_values, _all_values_differentiable, parts, ())
    return S


def _values_of_chunks(A: Array) -> Array:
    """All singular values of a Dask array, in one reading."""
    from eckart import _dask

    if min(A.shape) ** 2 > _FORMED:
        _checks.refuse_short_side(A.shape, math.isqrt(_FORMED))
    return _dask.values(A)


def _all_values(parts: Parts, _: tuple[()]) -> Array:
    """All singular values of the parts' product."""
    if len(parts) == 2:
        return thin_svdvals(parts[0], parts[1], _short_side(parts))
    return gram_values(*parts) if prefers_gram(*parts) else svdvals(*parts)


def _all_values_differentiable(parts: Parts, _: tuple[()]) -> Array:
    """The same from all triplets, which their derivative needs."""
    constants = tuple(map(constant, parts))
    k = _short_side(parts)
    found = svd(*constants) if len(parts) == 1 else thin_svd(constants[0], constants[1], k)
    U, S, Vh = kept = Kept(*found)
    nothing = U[..., k:], S[..., k:], Vh[..., k:, :]
    return represented(None, parts, kept, nothing, None)[1]


def _short_side(parts: Parts) -> int:
    return int(min(parts[0].shape[-2], parts[-1].shape[-1]))


def _truncate(
    A: Array | Factors | Operator,
    rules: Rules,
    method: str,
    accuracy: float | None,
    seed: int,
    check_finite: bool,
    split: str | None = None,
) -> tuple[Array, Array, Array]:
    """The two factors and the singular values that the rules keep, in the dtype computed in."""
    _checks.one_of("method", method, ("auto", "exact", *METHODS))
    like = array_of(A)
    rules = checked_rules(rules, like, A.shape, _checks.rank_limit(A.shape))
    strict = accuracy is not None
    accuracy = _checks.accuracy(accuracy, min(1e-4, math.sqrt(format_of(working(like)).eps)))
    how = {"accuracy": accuracy, "seed": _checks.integer("seed", seed), "strict": strict}
    parts: Parts = ()
    if isinstance(A, Operator):
        found = _decompose_operator(A, rules, method, how)
    elif is_dask(like):
        found = _decompose_chunks(A, rules, method, how)
    else:
        parts = parts_of(A)
        how["spare"] = is_differentiated(parts)
        found = _decompose(tuple(map(constant, parts)), rules, method, how)
    kept, counts = _kept(A, found, rules, check_finite, 2 if split == "balanced" else 1)
    residual = found.residual
    if residual is None and strict and not is_dask(like):
        residual = _measured(A if isinstance(A, Operator) else parts, kept)
    if residual is not None and residual > accuracy:
        _checks.warn_of_residual(residual, accuracy)
    elif found.residual is not None and is_differentiated(parts):
        _checks.warn_of_gap(found.residual)
    if split is not None:
        kept = Kept(*_oriented(*kept))
    dropped = _dropped(found, kept.S.shape[-1], counts, parts)
    return represented(split, parts, kept, dropped, found.spare, found.doubtful)


def _decompose(parts: Parts, rules: Rules, method: str, how: dict[str, Any]) -> Triplets:
    """Triplets by the way asked for, or by the full SVD where that is the better one."""
    if len(parts) == 2:
        return Triplets(*thin_svd(*parts, rank=rules.rank or 0))
    (A,) = parts
    name = choice(A, rules) if method == "auto" else method
    found = None
    if name in METHODS and 0 not in A.shape:
        found = METHODS[name](A, rules, **how)
    return Triplets(*svd(A)) if found is None else found


def _decompose_operator(A: Operator, rules: Rules, method: str, how: dict[str, Any]) -> Triplets:
    """Triplets of a matrix known by its products; if need be, it is formed."""
    found = None
    if method in ("auto", "krylov") and 0 not in A.shape:
        found = krylov(underivable(A), rules, **how)
    if found is not None:
        return found
    method = "gram" if method == "gram" else "exact"
    return _decompose((whole(A),), rules, method, how)


def _decompose_chunks(A: Array, rules: Rules, method: str, how: dict[str, Any]) -> Triplets:
    """Triplets of a Dask array, ``U`` one too; a small one is computed first."""
    from eckart import _dask

    large = math.prod(A.shape) > _READ or method == "krylov"
    told = rules.error is None or is_resolved(widest(working(A._meta)), rules.error)
    if large and told and method in ("auto", "krylov") and A.ndim == 2 and 0 not in A.shape:
        return _dask.truncation(A, rules, **how)
    if not told:
        method = "exact"
    found = _decompose((whole(A),), rules, method, how)
    return found._replace(U=_dask.chunked(found.U, A))


def whole(A: Array | Operator, name: str = "A") -> Array:
    """A matrix that is not in memory entry by entry, formed if that is not too much."""
    if math.prod(A.shape) > _FORMED:
        refuse = _checks.refuse_whole if isinstance(A, Operator) else _checks.refuse_reading
        refuse(name, tuple(A.shape), _FORMED)
    return formed(underivable(A)) if isinstance(A, Operator) else working(A.compute())


def _kept(
    A: Array | Factors | Operator, found: Triplets, rules: Rules, check_finite: bool, power: int
) -> tuple[Kept, Array | None]:
    """The triplets that the rules keep, exactly zero what they drop of the width of the result.

    And how many these are, where it is not the width. The root of `power` of the largest singular
    value will have to fit the dtype of `A`.
    """
    U, S, Vh = found.U, found.S, found.Vh
    largest = math.prod([format_of(array_of(A)).largest] * power)  # inf, where ** would raise
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


def _measured(A: Operator | Parts, kept: Kept) -> float | None:
    """Largest residual of the triplets over ``S[0]``; None while it is traced."""
    U, S, Vh = kept
    if 0 in S.shape:
        return None
    if isinstance(A, Operator):
        operator = underivable(A)
    else:
        parts = tuple(map(constant, A))
        operator = product(*parts) if len(parts) == 2 else stored(*parts)
    xp, S = namespace(S), S[..., None, :]
    top = xp.where(S[..., :1] > 0, S[..., :1], 1.0)
    sides = (
        operator.matmul(adjoint(Vh)) / top - U * (S / top),
        operator.rmatmul(U) / top - adjoint(Vh) * (S / top),
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


def _look(
    A: Array | Factors | Operator, S: Array, counts: Array | None, largest: float, name: str = "A"
) -> int | None:
    """The largest rank in `counts`, None while it is traced, after a look at the matrices.

    One wait for the device serves to read the rank and to refuse what is not finite or exceeds
    `largest`: a matrix at fault is given a rank that none can have.
    """
    k = S.shape[-1]
    if 0 in S.shape:
        return 0
    xp = namespace(S)
    fits = S[..., 0] <= min(largest, format_of(S).largest)
    if counts is None:
        found, faulty = None, concrete_int(xp.all(fits)) == 0
    else:
        found = _largest(xp, xp.where(fits, counts, k + 1))
        faulty = found == k + 1
    if faulty:
        if concrete_int(xp.any(xp.isnan(S[..., 0]))):
            if isinstance(A, Operator):
                _checks.nonfinite_products(name)
            _checks.nonfinite(**{name: A})
        _checks.overflow("the largest singular value", A.dtype)
    return found


def _oriented(U: Array, S: Array, Vh: Array) -> tuple[Array, Array, Array]:
    """The same triplets, their signs chosen by the entries of ``U``, wherever these are."""
    if is_dask(U) and 0 not in U.shape:
        from eckart import _dask

        return oriented(U, S, Vh, _dask.pivots(U))
    return oriented(U, S, Vh)
