"""Every check of an argument, with the message of the error or the warning."""

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
    has_double,
    is_complex,
    is_dask,
    is_ordinary,
    is_strided,
    library,
    namespace,
    native,
    real_dtype,
)

# The call that converts an array to another dtype, and the usual name of the module, by library.
_CONVERSIONS = {
    **dict.fromkeys(("numpy", "cupy", "dask"), "{}.astype(np.{})"),
    "torch": "{}.to(torch.{})",
    "jax": "{}.astype(jnp.{})",
}
_MODULES = {"numpy": "np", "cupy": "cp", "dask": "da", "torch": "torch", "jax": "jnp"}


class Words(NamedTuple):
    """The caller's names for the parts of a linear operator."""

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
                f"got {dtype_name(array.dtype)}. Convert it first, for example with "
                f"{_conversion(name, array, 'float64' if has_double(array) else 'float32')}."
            )
    return xp


def _conversion(name: str, array: Array, dtype: str) -> str:
    """The call that converts an array to a dtype, as the users of its library write it."""
    return _CONVERSIONS.get(library(array), "xp.astype({}, xp.{})").format(name, dtype)


def _module(array: Array) -> str:
    """The name that users give to the module of the library of an array."""
    return _MODULES.get(library(array), "xp")


def _one_library(named: dict[str, Any]) -> Namespace:
    spaces = [_array(name, array) for name, array in named.items()]
    (first, array), *others = named.items()
    for (name, other), space in zip(others, spaces[1:], strict=True):
        if space is not spaces[0] and {library(array), library(other)} != {"numpy", "dask"}:
            module = "np" if is_dask(array) else _module(array)
            raise TypeError(
                f"`{first}` and `{name}` must be arrays of one library, got {library(array)} and "
                f"{library(other)}. "
                f"Convert one of them first, for example with {module}.from_dlpack({name})."
            )
    return namespace(*named.values())


def _array(name: str, array: Any) -> Namespace:
    if isinstance(array, np.matrix | np.ma.MaskedArray):
        raise TypeError(
            f"`{name}` must be a plain array, got {_kind(array)}. "
            "Convert it first, with np.asarray, or with np.ma.filled if entries are masked."
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
            "Initialize its entries first, or replace masked ones, for example with torch.where."
        )
    if not is_strided(array):
        layout, method = (
            ("a nested tensor", "to_padded_tensor(0.0)")
            if array.is_nested
            else (f"a tensor of layout {array.layout}", "to_dense()")
        )
        raise TypeError(
            f"`{name}` must be a dense array, got {layout}. "
            f"Convert it first, for example with {name}.{method}."
        )
    if not hasattr(xp, "linalg"):
        raise TypeError(
            f"`{name}` must be an array of a library with linear algebra, got {_kind(array)}. "
            f"Convert it first, for example with {name}.todense()."
        )
    if is_dask(array):
        _known_chunks(name, array)
    return xp


def _known_chunks(name: str, A: Any) -> None:
    """Refuse a Dask array with chunks of unknown sizes, or of other arrays than NumPy's."""
    if any(math.isnan(length) for lengths in A.chunks for length in lengths):
        raise ValueError(
            f"`{name}` must have chunks of known sizes, got {A.chunks}. "
            f"Compute them first, with {name}.compute_chunk_sizes()."
        )
    if not isinstance(A._meta, np.ndarray) or isinstance(A._meta, np.matrix | np.ma.MaskedArray):
        raise TypeError(
            f"`{name}` must have chunks that are plain NumPy arrays, got {_kind(A._meta)}. "
            f"Convert them first, with {name}.map_blocks and a function that returns plain arrays."
        )


def one_precision(named: dict[str, Array]) -> None:
    """Refuse factors of different dtypes, or singular values that are not real."""
    (first, array), *others = named.items()
    right = others[-1][0]
    for name, other in others:
        expected = array.dtype if name == right else real_dtype(array)
        if other.dtype != expected:
            widens = name == right and is_complex(other)
            one = (first, array, other.dtype) if widens else (name, other, expected)
            raise TypeError(
                f"`{name}` must have dtype {dtype_name(expected)} to go with `{first}` of "
                f"{dtype_name(array.dtype)}, got {dtype_name(other.dtype)}. Convert one of them "
                f"first, for example with {_conversion(*one[:2], dtype_name(one[2]))}."
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
    """Refuse a stack of a kind that has no stacks."""
    if A.ndim != 2:
        raise ValueError(
            f"`{name}` must be one matrix, shape (m, n), because stacks of {_kind(A)} are not "
            f"supported, got shape {tuple(A.shape)}."
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
    """The result `Y` of the caller's product, refused if its library, shape or dtype is wrong."""
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
            f"got {dtype_name(Y.dtype)}. "
            f"Give `{words.like}` the dtype that {call} computes in, or convert the product."
        )
    return Y


def refuse_adjoint(words: Words, mismatch: float, tolerance: float) -> NoReturn:
    """Refuse two products that are not adjoint to each other."""
    raise ValueError(
        f"`{words.rmatmul}` must be the adjoint of `{words.matmul}`: the inner products of Y with "
        f"{words.matmul}(X) and of {words.rmatmul}(Y) with X must agree to {tolerance:.2g}, "
        f"relative to the norms of the vectors, but for random X and Y they differ by "
        f"{mismatch:.2g}. "
        f"Let {words.rmatmul}(Y) return the conjugate transpose of the matrix times Y."
    )


def refuse_layout(name: str, batch: int, dense: int) -> NoReturn:
    """Refuse a sparse array of JAX that has axes stored densely."""
    raise TypeError(
        f"`{name}` must be a BCOO with n_batch = 0 and n_dense = 0, got {batch} and {dense}. "
        f"Convert it first, with jax.experimental.sparse.bcoo_update_layout({name}, n_batch=0, "
        "n_dense=0)."
    )


def refuse_hybrid(name: str, dense: int) -> NoReturn:
    """Refuse a sparse tensor of PyTorch that has axes stored densely."""
    raise TypeError(
        f"`{name}` must be a sparse tensor without dense axes, got one with {dense}. "
        f"Convert it first, for example with {name}.to_dense().to_sparse()."
    )


def refuse_one_sided(name: str) -> NoReturn:
    """Refuse a LinearOperator of SciPy without products with its adjoint."""
    raise TypeError(
        f"`{name}` must be a LinearOperator with products from both sides, got a LinearOperator "
        "without its adjoint's. Give it rmatvec or rmatmat."
    )


def refuse_derivative() -> NoReturn:
    """Refuse a derivative with respect to a linear operator."""
    raise TypeError(
        "`A` must be an array, an SVD or a LowRank for a derivative with respect to it, got a "
        "linear operator, which is not differentiable. Detach the arrays in its products, with "
        "array.detach() on PyTorch or jax.lax.stop_gradient(array), or pass `A` as factors."
    )


def refuse_chunks(name: str, advice: str) -> NoReturn:
    """Refuse a Dask array."""
    raise TypeError(f"`{name}` must be an array in memory, got a Dask array. {advice}")


def refuse_whole(name: str, shape: tuple[int, ...], limit: int) -> NoReturn:
    """Refuse a linear operator that is too large to be formed."""
    raise ValueError(
        f"`{name}` must have at most {limit} entries, because this call forms the matrix, got a "
        f"linear operator or a sparse matrix of shape {shape}, which has {math.prod(shape)}. "
        "Call truncated_svd with a lower rank, or form the matrix first."
    )


def refuse_fill(name: str, value: Any) -> NoReturn:
    """Refuse a sparse array with a fill value."""
    raise ValueError(
        f"`{name}` must be zero wherever it stores nothing, got a fill value of {value}. "
        f"Convert it first, with {name}.todense(), or subtract the fill value and add it as a "
        "LowRank of rank one with eckart.add."
    )


def same_dtype(first: str, one: Any, other: str, two: Any) -> None:
    """Refuse a linear operator `other` whose dtype differs from that of `first`."""
    if one != two:
        raise TypeError(
            f"`{first}` must have the dtype of `{other}`, {dtype_name(two)}, because a linear "
            f"operator cannot be converted, got {dtype_name(one)}. "
            f"Convert {first} to {dtype_name(two)} first."
        )


def refuse_reading(name: str, shape: tuple[int, ...], limit: int) -> NoReturn:
    """Refuse a Dask array that is too large to be read into memory."""
    raise ValueError(
        f"`{name}` must have at most {limit} entries, because this call reads it into memory, got "
        f"a Dask array of shape {shape}. Stacks, a very small `error`, the methods exact and gram, "
        'inner and certify need the array in memory. Call truncated_svd with method="krylov" for '
        "one matrix at a time."
    )


def refuse_short_side(shape: tuple[int, ...], limit: int) -> NoReturn:
    """Refuse a Dask array with too many singular values."""
    raise ValueError(
        f"`A` must have a side of at most {limit}, because this call needs all singular values, "
        f"got a Dask array of shape {shape}. Call truncated_svd with the rank that you need."
    )


def refuse_factors(name: str, value: object) -> NoReturn:
    """Refuse a value that is not factors."""
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
        "Inside jax.jit, list it in static_argnames."
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
    """The limit of a rank, in words, for a matrix of this shape."""
    return f"min(m, n) = {min(shape[-2:])} for a matrix of shape {tuple(shape)}"


def one_of(name: str, value: object, allowed: Collection[object]) -> None:
    """Refuse a value that is not in a list."""
    if not isinstance(value, str | int) or value not in allowed:
        raise ValueError(f"`{name}` must be one of {', '.join(map(repr, allowed))}, got {value!r}.")


def only_one(**values: Any) -> None:
    """Refuse arguments that exclude each other."""
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
            f"`{name}` must have one number for each matrix of a stack of shape {tuple(stack)}, "
            f"got shape {tuple(value.shape)}."
        )
    if not _holds(xp.all(value >= 0)):
        raise ValueError(f"`{name}` must be at least 0 everywhere, got a negative number or NaN.")
    return value


def accuracy(value: Any, default: float) -> float:
    """The largest residual that the caller accepts."""
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
    """Warn that an iteration stopped before it converged, and with which residual."""
    warnings.warn(
        f"the triplets have not converged: a residual of {residual:.2g} * S[0] is left, more than "
        f"`accuracy` = {accuracy:.2g}. Use a lower rank, a larger accuracy, or "
        'method="exact".',
        RuntimeWarning,
        stacklevel=_outside(),
    )


def warn_of_gap(residual: float) -> None:
    """Warn that an iteration stopped before it converged far enough for a derivative."""
    warnings.warn(
        f"the triplets have not converged as far as a derivative needs: a residual of "
        f"{residual:.2g} * S[0] is left, too large in comparison with the gap between the kept and "
        'the dropped singular values. Truncate at a wider gap, or use method="exact".',
        RuntimeWarning,
        stacklevel=_outside(),
    )


def _outside() -> int:
    """The `stacklevel` of the first caller outside of the package."""
    frames = (frame for frame, _ in traceback.walk_stack(sys._getframe(1)))
    ours = itertools.takewhile(lambda frame: __package__ in frame.f_globals["__name__"], frames)
    return 1 + sum(1 for _ in ours)


def warn_of_derivative(residual: float, tolerance: float) -> None:
    """Warn that the solver of a derivative stopped before it converged."""
    warnings.warn(
        f"the derivative of the truncation has not converged: a residual of {residual:.2g} is "
        f"left, more than {tolerance:.2g}. The gap between the kept and the dropped singular "
        'values is too small. Truncate at a wider gap, or use method="exact".',
        RuntimeWarning,
        stacklevel=4,
    )


def _holds(condition: Array) -> bool:
    """Whether a condition on values holds; True if it is traced, as there is no value to refuse."""
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
            "`S` must be singular values, nonnegative and descending along the last axis, but "
            "some are negative or not in order. Compute them with eckart.singular_values(A)."
        )
    return xp


def complete(k: int, m: int, n: int) -> None:
    """Refuse singular values that are not all those of the matrix."""
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
        raise ValueError(f"every entry of `rank` must be between 0 and {of}, but some are outside.")
    return value[..., None]


def nonfinite(**named: Any) -> NoReturn:
    """Raise for NaN singular values: the matrix is not finite, or the decomposition failed."""
    broken(**named)
    names = " and ".join(f"`{name}`" for name in named)
    raise ArithmeticError(
        f"the singular values of {names} are NaN although {names} is finite: "
        "the library's decomposition did not converge."
    )


def broken(**named: Any) -> None:
    """Refuse a matrix or factors with entries that are not finite; say how many and where.

    None stands for a linear operator with a product that is not finite.
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
                f"Replace them first, for example with {_module(array)}.where."
            )
    for name, A in named.items():
        if A is None:
            _nonfinite_products(name)


def _nonfinite_products(name: str) -> NoReturn:
    """Refuse a linear operator with a product that is not finite."""
    raise ValueError(
        f"`{name}` must be finite, but a product with it has NaN or infinite entries. "
        "Check the arrays that its products use."
    )


def fitting(values: Array, largest: float, what: str, dtype: Any, **given: Any) -> None:
    """Refuse NaN and values above `largest`, with one wait for the device."""
    xp = namespace(values)
    fits = values <= min(largest, FORMATS[dtype_name(values.dtype)].largest)
    if 0 not in values.shape and not _holds(xp.all(fits)):
        misfit(values, what, dtype, **given)


def misfit(values: Array, what: str, dtype: Any, **given: Any) -> NoReturn:
    """Raise for values that are NaN or do not fit the dtype."""
    if concrete_int(namespace(values).any(values != values)):
        nonfinite(**given)
    overflow(what, dtype)


def overflow(what: str, dtype: Any) -> NoReturn:
    """Refuse a matrix whose result does not fit its dtype."""
    name = dtype_name(dtype)
    raise ValueError(
        f"{what} must fit the dtype of the matrix, at most {FORMATS[name].largest:.4g} in {name}, "
        "but is larger. Convert the matrix to a wider dtype, or scale it first."
    )
