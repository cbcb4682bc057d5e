"""Every refusal: what the arguments must be, and the sentences that say so."""

from __future__ import annotations

import itertools
import math
import operator
import sys
import traceback
import warnings
from collections.abc import Collection, Iterable
from numbers import Complex, Real
from typing import Any, NamedTuple, NoReturn

import numpy as np

from eckart._arrays.namespace import (
    FORMATS,
    Array,
    Namespace,
    cast,
    concrete_int,
    dtype_name,
    is_complex,
    is_dask,
    is_ordinary,
    is_strided,
    library,
    namespace,
    native,
    real_dtype,
)


class Words(NamedTuple):
    """What the caller calls the parts of a linear operator."""

    like: str = "like"
    matmul: str = "matmul"
    rmatmul: str = "rmatmul"


def arrays(**named: Any) -> Namespace:
    """The namespace of floating-point arrays of one library."""
    xp = _one_library(named)
    for name, array in named.items():
        if dtype_name(array.dtype) not in FORMATS:
            raise TypeError(
                f"`{name}` must have a floating-point dtype ({', '.join(FORMATS)}), "
                f"got {dtype_name(array.dtype)}. "
                "Convert it first, for example with xp.astype(array, xp.float64)."
            )
    return xp


def _one_library(named: dict[str, Any]) -> Namespace:
    spaces = [_array(name, array) for name, array in named.items()]
    (first, array), *others = named.items()
    for (name, other), space in zip(others, spaces[1:], strict=True):
        if space is not spaces[0] and {library(array), library(other)} != {"numpy", "dask"}:
            raise TypeError(
                f"`{first}` and `{name}` must be arrays of one library, got {library(array)} and "
                f"{library(other)}. Convert one of them first, for example with xp.from_dlpack."
            )
    return namespace(*named.values())


def _array(name: str, array: Any) -> Namespace:
    if isinstance(array, np.matrix | np.ma.MaskedArray):
        raise TypeError(
            f"`{name}` must be a plain array, got {_kind(array)}. "
            "Convert it first, with np.asarray, or np.ma.filled where entries are masked."
        )
    try:
        xp = namespace(array)
    except TypeError:
        raise TypeError(
            f"`{name}` must be an array of a library that follows the array API standard, such as "
            f"NumPy, PyTorch or JAX, got {_kind(array)}. "
            "Convert it first, for example with np.asarray."
        ) from None
    if not is_ordinary(array):
        raise TypeError(
            f"`{name}` must be a plain array, got {_kind(array)}. "
            "Give it its entries first, or fill what is masked, for example with torch.where."
        )
    if not is_strided(array):
        layout, method = (
            ("a nested one", "to_padded_tensor")
            if array.is_nested
            else (f"one of layout {array.layout}", "to_dense")
        )
        raise TypeError(
            f"`{name}` must be a dense array, got {layout}. "
            f"Convert it first, for example with its method {method}."
        )
    if not hasattr(xp, "linalg"):
        raise TypeError(
            f"`{name}` must be an array of a library with linear algebra, got {_kind(array)}. "
            "Convert it first, for example with its method to_scipy_sparse or todense."
        )
    if is_dask(array):
        _known_chunks(name, array)
    return xp


def _known_chunks(name: str, A: Any) -> None:
    """Refuse a Dask array whose chunks are of unknown sizes."""
    if any(math.isnan(length) for lengths in A.chunks for length in lengths):
        raise ValueError(
            f"`{name}` must have chunks of known sizes, got {A.chunks}. "
            "Compute them first, with its method compute_chunk_sizes."
        )
    if not isinstance(A._meta, np.ndarray) or isinstance(A._meta, np.matrix | np.ma.MaskedArray):
        raise TypeError(
            f"`{name}` must have chunks that are plain NumPy arrays, got {_kind(A._meta)}. "
            "Convert them first, for example with its method map_blocks."
        )


def one_precision(named: dict[str, Array]) -> None:
    """Refuse factors of several dtypes, or singular values that are not real."""
    (first, array), *others = named.items()
    right = others[-1][0]
    for name, other in others:
        expected = array.dtype if name == right else real_dtype(array)
        if other.dtype != expected:
            raise TypeError(
                f"`{name}` must have dtype {dtype_name(expected)} to go with `{first}` of "
                f"{dtype_name(array.dtype)}, got {dtype_name(other.dtype)}. "
                "Convert one of them first, for example with xp.astype."
            )


def _kind(value: object) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")


def matrix(name: str, A: Array) -> None:
    """Refuse an array that has no matrix axes."""
    if A.ndim < 2:
        raise ValueError(
            f"`{name}` must be a matrix or a stack of matrices, shape (..., m, n), "
            f"got shape {tuple(A.shape)}."
        )


def one_matrix(name: str, A: Any) -> None:
    """Refuse a stack where only one matrix is taken."""
    if A.ndim != 2:
        raise ValueError(
            f"`{name}` must be one matrix, shape (m, n), as it is a {_kind(A)}, "
            f"got shape {tuple(A.shape)}."
        )


def trailing(name: str, array: Array, symbol: str, length: int) -> None:
    """Refuse an array whose last axis does not fit."""
    if array.ndim < 1 or array.shape[-1] != length:
        raise ValueError(
            f"`{name}` must have shape (..., {symbol}) with {symbol} = {length}, "
            f"got shape {tuple(array.shape)}."
        )


def conformable(left: str, A: tuple[int, ...], right: str, B: tuple[int, ...]) -> None:
    """Refuse a product whose inner lengths, or whose stacks, do not fit."""
    if not A or not B or A[-1] != (B[-2] if len(B) > 1 else B[-1]):
        raise ValueError(
            f"the inner lengths of `{left}` and `{right}` must agree, "
            f"got shapes {tuple(A)} and {tuple(B)}."
        )
    stacks(left, A[:-2], right, B[:-2])


def stacks(left: str, A: tuple[int, ...], right: str, B: tuple[int, ...]) -> None:
    """Refuse stacks that do not broadcast."""
    try:
        np.broadcast_shapes(A, B)
    except ValueError:
        raise ValueError(
            f"the stacks of `{left}` and `{right}` must broadcast, "
            f"got stack shapes {tuple(A)} and {tuple(B)}."
        ) from None


def matrix_shape(shape: Any) -> tuple[int, int]:
    """The last two lengths of a shape of a matrix or a stack."""
    if not isinstance(shape, Iterable):
        raise TypeError(f"`shape` must be (..., m, n), got {_kind(shape)}.")
    lengths = tuple(integer("shape", length) for length in shape)
    if len(lengths) < 2 or min(lengths) < 0:
        raise ValueError(f"`shape` must be (..., m, n), two lengths or more, got {tuple(shape)}.")
    return lengths[-2], lengths[-1]


def same_matrix_shape(first: str, A: tuple[int, ...], other: str, B: tuple[int, ...]) -> None:
    """Refuse matrices of different shapes, or stacks that do not broadcast."""
    if A[-2:] != B[-2:]:
        raise ValueError(
            f"`{first}` and `{other}` must be matrices of one shape, "
            f"got shapes {tuple(A)} and {tuple(B)}."
        )
    stacks(first, A[:-2], other, B[:-2])


def same_shape(first: str, A: tuple[int, ...], other: str, B: tuple[int, ...]) -> None:
    """Refuse matrices, or stacks, of different shapes."""
    if tuple(A) != tuple(B):
        raise ValueError(
            f"`{first}` and `{other}` must have one shape, got shapes {tuple(A)} and {tuple(B)}."
        )


def beside(name: str, A: tuple[int, ...], other: str, B: tuple[int, ...], axis: int) -> None:
    """Refuse a matrix that cannot be appended to another along an axis."""
    lines, kind, symbol = (-1, "columns", "n") if axis == -2 else (-2, "rows", "m")
    if A[lines] != B[lines]:
        added = "rows" if axis == -2 else "columns"
        raise ValueError(
            f"`{name}` must have {symbol} = {B[lines]} {kind} like `{other}`, to which it is "
            f"appended as {added} (axis={axis}), got shape {tuple(A)}."
        )
    stacks(name, A[:-2], other, B[:-2])


def one_each(what: str, number: int, whose: str, of: int) -> None:
    """Refuse a sequence of the wrong length."""
    if number != of:
        raise ValueError(f"`{what}` must be one for each of the {of} {whose}, got {number}.")


def weight(name: str, value: Any, like: Array, stack: tuple[int, ...]) -> Any:
    """A weight as a Python number, or as an array that broadcasts with matrices."""
    if isinstance(value, Real):
        return float(value)
    if isinstance(value, Complex) and is_complex(like):
        return complex(value)
    if isinstance(value, Complex):
        raise TypeError(f"`{name}` must be real for real matrices, got {value!r}.")
    arrays(**{"the terms": like, name: value})
    if is_complex(value) and not is_complex(like):
        raise TypeError(f"`{name}` must be real for real matrices, got {dtype_name(value.dtype)}.")
    stacks(name, value.shape, "the terms", stack)
    return cast(value, like.dtype)[..., None, None]


def product(words: Words, call: str, X: Array, Y: Any, shape: tuple[int, ...]) -> Array:
    """The result of a product that a caller has given, refused where it is no such thing."""
    _one_library({words.like: X, f"{call}(X)": Y})
    if tuple(Y.shape) != shape:
        raise ValueError(
            f"`{call}(X)` must have shape {shape} for X of shape {tuple(X.shape)}, "
            f"got shape {tuple(Y.shape)}."
        )
    Y = native(Y)
    if Y.dtype != X.dtype:
        raise TypeError(
            f"`{call}(X)` must have the dtype of X, {dtype_name(X.dtype)}, "
            f"got {dtype_name(Y.dtype)}. Let `{words.like}` have the dtype that it computes in."
        )
    return Y


def refuse_adjoint(words: Words, mismatch: float, tolerance: float) -> NoReturn:
    """Say that two products do not belong to one matrix."""
    raise ValueError(
        f"`{words.rmatmul}` must be the adjoint of `{words.matmul}`, so that the inner products of "
        f"Y with {words.matmul}(X) and of {words.rmatmul}(Y) with X agree to {tolerance:.2g} of "
        f"their vectors' norms, but for random X and Y they differ by {mismatch:.2g}. "
        f"Let {words.rmatmul}(Y) be the conjugate transpose of the matrix times Y."
    )


def refuse_layout(name: str, batch: int, dense: int) -> NoReturn:
    """Say that a sparse array of JAX has axes that it does not store sparsely."""
    raise TypeError(
        f"`{name}` must be a BCOO with n_batch = 0 and n_dense = 0, got {batch} and {dense}. "
        "Convert it first, with jax.experimental.sparse.bcoo_update_layout."
    )


def refuse_hybrid(name: str, dense: int) -> NoReturn:
    """Say that a sparse tensor of PyTorch has axes that it does not store sparsely."""
    raise TypeError(
        f"`{name}` must be a sparse tensor without dense axes, got one with {dense}. "
        "Convert it first, for example with to_dense and to_sparse."
    )


def refuse_one_sided(name: str) -> NoReturn:
    """Say that a linear operator has no product with its adjoint."""
    raise TypeError(
        f"`{name}` must be a LinearOperator with products from both sides, got one without its "
        "adjoint's. Give it rmatvec or rmatmat."
    )


def refuse_derivative() -> NoReturn:
    """Say that a matrix given by its products has no derivative."""
    raise TypeError(
        "`A` must be an array, an SVD or a LowRank for a derivative with respect to it, got a "
        "matrix that is known by its products. Detach what its products are made of, with its "
        "method detach on PyTorch or jax.lax.stop_gradient, or give `A` as factors."
    )


def refuse_chunks(name: str, advice: str) -> NoReturn:
    """Say that an array in chunks is not taken here."""
    raise TypeError(f"`{name}` must be an array in memory, got a Dask array. {advice}")


def refuse_whole(name: str, shape: tuple[int, ...], limit: int) -> NoReturn:
    """Say that a matrix given by its products is too large to be formed."""
    raise ValueError(
        f"`{name}` must have at most {limit} entries where it has to be formed, as for all its "
        f"singular values, got a matrix of shape {shape}, which is known by its products and has "
        f"{math.prod(shape)}. Ask truncated_svd for a lower rank, or form the matrix first."
    )


def refuse_fill(name: str, value: Any) -> NoReturn:
    """Say that entries which a sparse array does not store are not zero."""
    raise ValueError(
        f"`{name}` must be zero wherever it stores nothing, got a fill value of {value}. "
        "Convert it first, with todense, or add what it is filled with by eckart.add."
    )


def same_dtype(first: str, one: Any, other: str, two: Any) -> None:
    """Refuse what must have one dtype and does not."""
    if one != two:
        raise TypeError(
            f"`{first}` must have the dtype of `{other}`, {dtype_name(two)}, as that is known by "
            f"its products, got {dtype_name(one)}. Convert it first, for example with xp.astype."
        )


def refuse_reading(name: str, shape: tuple[int, ...], limit: int) -> NoReturn:
    """Say that a Dask array is too large to be read into memory for what is asked."""
    raise ValueError(
        f"`{name}` must have at most {limit} entries for what has to read it into memory, that is "
        'a stack, method="exact" or "gram", a very small `error`, inner, or certify; got a Dask '
        f'array of shape {shape}. Take one matrix at a time, by method="krylov".'
    )


def refuse_short_side(shape: tuple[int, ...], limit: int) -> NoReturn:
    """Say that a Dask array has too many singular values."""
    raise ValueError(
        f"`A` must have a side of at most {limit} where all singular values are needed, got a Dask "
        f"array of shape {shape}. Ask truncated_svd for as many as you need."
    )


def refuse_factors(name: str, value: object) -> NoReturn:
    """Say what factors are."""
    raise TypeError(
        f"`{name}` must be an SVD or a LowRank, got {_kind(value)}. "
        "Make one first, for example eckart.LowRank(B, A) or eckart.SVD(U, S, Vh)."
    )


def integer(name: str, value: Any) -> int:
    """`value` as a Python integer."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    boolean = isinstance(value, bool | np.bool) or "bool" in str(getattr(value, "dtype", ""))
    if not boolean and getattr(value, "ndim", 0) == 0:
        try:
            return operator.index(value)
        except TypeError:
            pass
    raise TypeError(
        f"`{name}` must be an integer known before the computation starts, got {_kind(value)}. "
        "Under a transformation mark it as static."
    )


def rank(value: Any, limit: int, of: str) -> int:
    """`value` as an integer between 0 and `limit`, the number of singular values."""
    number = integer("rank", value)
    if not 0 <= number <= limit:
        raise ValueError(f"`rank` must be between 0 and {of}, got {number}.")
    return number


def most(name: str, value: Any) -> int:
    """The largest rank that a caller wants, as an integer."""
    number = integer(name, value)
    if number < 0:
        raise ValueError(f"`{name}` must be at least 0, got {number}.")
    return number


def rank_limit(shape: tuple[int, ...]) -> str:
    """How the limit of a rank reads for a matrix."""
    return f"min(m, n) = {min(shape[-2:])} for a matrix of shape {tuple(shape)}"


def one_of(name: str, value: object, allowed: Collection[object]) -> None:
    """Refuse a word or a number that is not in the list."""
    if not isinstance(value, str | int) or value not in allowed:
        raise ValueError(f"`{name}` must be one of {', '.join(map(repr, allowed))}, got {value!r}.")


def only_one(**values: Any) -> None:
    """Refuse two arguments that stand for the same."""
    if all(value is not None for value in values.values()):
        raise TypeError(f"Only one of {' and '.join(f'`{name}`' for name in values)} may be given.")


def tolerance(name: str, value: Any, like: Array, stack: tuple[int, ...]) -> Any:
    """A tolerance as a float, or as a real array of the library of `like` that fits `stack`."""
    if isinstance(value, Real) and not isinstance(value, bool | np.bool):
        number = float(value)
        if not number >= 0:
            raise ValueError(f"`{name}` must be at least 0, got {number}.")
        return number
    if not hasattr(value, "dtype"):
        raise TypeError(f"`{name}` must be a real number or an array, got {_kind(value)}.")
    xp = arrays(**{"A": like, name: value})
    if is_complex(value):
        raise TypeError(f"`{name}` must be real, got {dtype_name(value.dtype)}.")
    value = value.compute() if is_dask(value) else value
    stacks(name, value.shape, "A", stack)
    if np.broadcast_shapes(value.shape, stack) != tuple(stack):
        raise ValueError(
            f"`{name}` must have one number a matrix, for a stack of shape {tuple(stack)}, "
            f"got shape {tuple(value.shape)}."
        )
    if not _holds(xp.all(value >= 0)):
        raise ValueError(f"`{name}` must be at least 0 everywhere, got a negative number or NaN.")
    return value


def share(name: str, value: Any) -> None:
    """Refuse a relative error above one, which a zero matrix has."""
    largest = value if isinstance(value, float) else namespace(value).max(value)
    if not _holds(largest <= 1):
        raise ValueError(
            f"`{name}` must be at most 1, got {float(largest)}. It is relative to the norm of the "
            "matrix: 0.1 keeps 99 % of the energy. For a share of the energy, take sqrt(1 - share)."
        )


def accuracy(value: Any, default: float) -> float:
    """The largest residual that a caller puts up with."""
    if value is None:
        return default
    if not isinstance(value, Real) or isinstance(value, bool | np.bool):
        raise TypeError(f"`accuracy` must be a real number, got {_kind(value)}.")
    number = float(value)
    if not 0 < number < 1:
        raise ValueError(
            f"`accuracy` must be between 0 and 1, got {number}. It is relative to S[0]."
        )
    return number


def warn_of_residual(residual: float, accuracy: float) -> None:
    """Say that an iteration has given up, and how far it came."""
    warnings.warn(
        f"the triplets have not converged: a residual of {residual:.2g} * S[0] is left, more than "
        f"`accuracy` = {accuracy:.2g}. Ask for a lower rank or less accuracy, or use "
        'method="exact".',
        RuntimeWarning,
        stacklevel=_outside(),
    )


def warn_of_gap(residual: float) -> None:
    """Say that an iteration has given up before a derivative could be exact."""
    warnings.warn(
        f"the triplets have not converged as far as a derivative needs: a residual of "
        f"{residual:.2g} * S[0] is left, too much beside the gap between the kept and the dropped "
        'singular values. Truncate at a wider gap, or use method="exact".',
        RuntimeWarning,
        stacklevel=_outside(),
    )


def _outside() -> int:
    """How many calls above the caller the first one from outside of the package is."""
    frames = (frame for frame, _ in traceback.walk_stack(sys._getframe(1)))
    ours = itertools.takewhile(lambda frame: __package__ in frame.f_globals["__name__"], frames)
    return 1 + sum(1 for _ in ours)


def warn_of_derivative(residual: float, tolerance: float) -> None:
    """Say that a derivative is not as exact as it should be."""
    warnings.warn(
        f"the derivative of the truncation has not converged: a residual of {residual:.2g} is "
        f"left, more than {tolerance:.2g}. The gap between the kept and the dropped singular "
        'values is too small; truncate at a wider one, or use method="exact".',
        RuntimeWarning,
        stacklevel=4,
    )


def _holds(condition: Array) -> bool:
    """Whether a condition on values holds; a traced one has no values to refuse."""
    return concrete_int(condition) != 0


def spectrum(S: Any) -> Namespace:
    """The namespace of an array of singular values, nonnegative and descending."""
    xp = arrays(S=S)
    if is_complex(S):
        raise TypeError(f"`S` must be real, got {dtype_name(S.dtype)}.")
    if S.ndim < 1:
        raise ValueError("`S` must have shape (..., k), got shape ().")
    if 0 in S.shape:
        return xp
    ordered = xp.all(S[..., 1:] <= S[..., :-1]) & xp.all((S >= 0) & xp.isfinite(S))
    if not _holds(ordered):
        if not _holds(xp.all(xp.isfinite(S))):
            nonfinite(S=S)
        raise ValueError(
            "`S` must be singular values, nonnegative and descending along the last axis, "
            "got others. Take them from singular_values(A)."
        )
    return xp


def complete(k: int, m: int, n: int) -> None:
    """Refuse a part of the singular values where all of them are needed."""
    if k != min(m, n) or k == 0:
        raise ValueError(
            f"`S` must have all min(m, n) = {min(m, n)} > 0 singular values of a matrix of shape "
            f"({m}, {n}), got {k}."
        )


def ranks(value: Any, S: Array) -> Any:
    """One rank as an integer, or a rank per matrix as an array with a last axis of length one."""
    k = S.shape[-1]
    of = f"k = {k} for {k} singular values"
    if isinstance(value, int) or isinstance(value, np.generic) or not hasattr(value, "dtype"):  # noqa: SIM101  torch.compile does not trace a union here
        return rank(value, k, of)
    xp = _one_library({"S": S, "rank": value})
    if not dtype_name(value.dtype).startswith(("int", "uint")):
        raise TypeError(f"`rank` must have an integer dtype, got {dtype_name(value.dtype)}.")
    value = xp.astype(value, xp.int32)  # PyTorch does not compare unsigned integers
    stacks("rank", value.shape, "S", S.shape[:-1])
    if not _holds(xp.all((value >= 0) & (value <= k))):
        raise ValueError(f"every entry of `rank` must be between 0 and {of}, got others.")
    return value[..., None]


def nonfinite(**named: Any) -> NoReturn:
    """Say where a matrix or its factors are not finite, or that a decomposition failed."""
    broken(**named)
    names = " and ".join(f"`{name}`" for name in named)
    raise ArithmeticError(
        f"the singular values of {names} came out as NaN although {names} is finite: "
        "the library's decomposition did not converge."
    )


def broken(**named: Any) -> None:
    """Refuse a matrix or factors with entries that are not finite, with how many and where.

    None stands for a matrix that is known by its products, one of which is not finite.
    """
    parts = {}
    for name, A in named.items():
        if A is None:
            continue
        fields = A._asdict() if isinstance(A, tuple) else {}  # type: ignore[attr-defined]
        parts.update({f"{name}.{field}": part for field, part in fields.items()} or {name: A})
    for part, array in parts.items():
        xp = namespace(array)
        broken = xp.reshape(~xp.isfinite(array), (-1,))
        if number := int(xp.count_nonzero(broken)):
            first = int(xp.argmax(xp.astype(broken, xp.int8)))
            index = tuple(int(i) for i in np.unravel_index(first, tuple(array.shape)))
            raise ValueError(
                f"`{part}` must be finite, but {number} of its {math.prod(array.shape)} entries "
                f"are NaN or infinite, the first at index {index}. "
                "Replace them first, for example with xp.where."
            )
    for name, A in named.items():
        if A is None:
            _nonfinite_products(name)


def _nonfinite_products(name: str) -> NoReturn:
    """Say that a matrix known by its products is not finite."""
    raise ValueError(
        f"`{name}` must be finite, but a product with it has NaN or infinite entries. "
        "Look for them in what its products are made of."
    )


def fitting(values: Array, largest: float, what: str, dtype: Any, **given: Any) -> None:
    """Refuse values above `largest` and NaN, with one wait for the device."""
    xp = namespace(values)
    fits = values <= min(largest, FORMATS[dtype_name(values.dtype)].largest)
    if 0 not in values.shape and not _holds(xp.all(fits)):
        misfit(values, what, dtype, **given)


def misfit(values: Array, what: str, dtype: Any, **given: Any) -> NoReturn:
    """Say why values of matrices are NaN, or that they do not fit the dtype."""
    if concrete_int(namespace(values).any(values != values)):
        nonfinite(**given)
    overflow(what, dtype)


def overflow(what: str, dtype: Any) -> NoReturn:
    """Say that a result does not fit the dtype of its matrix."""
    name = dtype_name(dtype)
    raise ValueError(
        f"{what} must fit the dtype of the matrix, at most {FORMATS[name].largest:.4g} in {name}, "
        "but is larger. Convert the matrix to a wider dtype or scale it first."
    )
