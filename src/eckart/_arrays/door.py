"""The conversion of arguments and results that every public function has."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ParamSpec, TypeVar, cast

import numpy as np

from eckart._arrays.namespace import (
    Array,
    contiguous,
    is_array,
    is_dask,
    is_jax,
    is_plain,
    is_torch,
    namespace,
    native,
    resolved,
)

P = ParamSpec("P")
R = TypeVar("R")


def public(function: Callable[P, R]) -> Callable[P, R]:
    """Make a function public: convert its arguments and its results.

    Arguments are converted to the byte order of the machine, and empty chunks are removed. Next to
    traced arrays of JAX, arrays of NumPy become arrays of JAX, as in JAX's own functions. Lazy
    conjugations of PyTorch are carried out. NumPy's warnings about numbers are disabled, because
    values that are not finite are refused, or are the result. Results are in row-major order, and
    in the byte order of the first argument.
    """

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> R:
        order = _byte_order(args[0]) if args else "="
        # PyTorch's compiler turns a number into a symbol, which has no attributes to check.
        candidates = [v for v in (*args, *kwargs.values()) if not isinstance(v, int | float | str)]
        traced = _traced(candidates)
        args = tuple(_admitted(value, traced) for value in args)
        kwargs = {name: _admitted(value, traced) for name, value in kwargs.items()}
        with _without_warnings(candidates):
            result: R = _settled(function(*args, **kwargs), order)
        return result

    return cast(Callable[P, R], wrapped)


def _traced(values: list[Any]) -> Array | None:
    """The first traced array of JAX among the arguments and the parts of factors, or None."""
    for value in values:
        if isinstance(value, tuple):
            found = _traced([*value]) if _is_record(value) else None
        else:
            found = value
        if found is not None and is_jax(found) and not is_plain(found):
            return found
    return None


def _admitted(value: Any, traced: Array | None) -> Any:
    """An argument, or the parts of factors, after conversion."""
    if _is_record(value):
        parts = [_admitted(part, traced) for part in value]
        same = all(new is old for new, old in zip(parts, value, strict=True))
        return value if same else type(value)(*parts)
    if isinstance(value, np.ndarray):
        return native(value) if traced is None else namespace(traced).asarray(native(value))
    if is_dask(value):
        return _without_empty_chunks(native(value))
    return resolved(value) if is_torch(value) else value


def _without_empty_chunks(A: Any) -> Any:
    """A Dask array without empty chunks, unless the array itself is empty.

    A filter leaves chunks without rows, and some reductions of Dask refuse them.
    """
    if any(math.isnan(length) for lengths in A.chunks for length in lengths):
        return A
    full = tuple(tuple(filter(None, lengths)) or (0,) for lengths in A.chunks)
    return A if full == A.chunks else A.rechunk(full)


def _without_warnings(values: list[Any]) -> AbstractContextManager[Any]:
    """Disable NumPy's warnings about numbers; not for PyTorch, whose compiler cannot trace this."""
    likes = [getattr(value[0] if _is_record(value) else value, "like", value) for value in values]
    if any(is_torch(like[0] if _is_record(like) else like) for like in likes):
        return nullcontext()
    return np.errstate(all="ignore")


def _byte_order(value: Any) -> str:
    """NumPy's symbol of the byte order of a matrix, ``"="`` for that of the machine."""
    dtype: Any = getattr(value, "dtype", None)
    return "=" if getattr(dtype, "isnative", True) else str(dtype.byteorder)


def _settled(value: Any, order: str) -> Any:
    """A result, or each part of one, in row-major order and a byte order."""
    if _is_record(value):
        return type(value)(*[_settled(part, order) for part in value])
    if not is_array(value):
        return value
    if order != "=" and value.dtype.kind in "fc":
        value = value.astype(value.dtype.newbyteorder(order))
    return contiguous(value)


def _is_record(value: Any) -> bool:
    """Whether a value is a named tuple, as factors and most results are."""
    return isinstance(value, tuple) and hasattr(value, "_fields")
