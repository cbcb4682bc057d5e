"""Computations of Dask on a matrix in chunks, each in one pass over the data.

This module is imported when the first Dask array comes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import dask.array as da
import numpy as np
from dask.base import persist
from dask.delayed import delayed

from eckart._arrays.linalg import largest_modulus, matmul, normalizing_power, qr, squared_norm
from eckart._arrays.namespace import Array, DType, adjoint, cast, format_of, widest, working
from eckart._matrices.dense import Dense

# Results that one task adds up, and entries of a strip that are multiplied at a time.
_FAN_IN, _PART = 8, 2**22


def chunked(U: Array, A: Any) -> Any:
    """A NumPy array as a Dask array with the chunks of `A`, for the same rows or the same stack."""
    return da.from_array(U, chunks=(*A.chunks[:-1], U.shape[-1]))


class _Sum(NamedTuple):
    """Sums over strips."""

    W: Array  # adjoint(A) @ A @ X
    squared_norm: Array
    least: Array  # smallest power of two that a strip was multiplied by, shape (1, 1)
    most: Array  # largest one

    @property
    def power(self) -> Array:
        """The power of two for all strips; one if all strips are zero."""
        return np.where(np.isinf(self.least), 1.0, self.least).astype(self.W.real.dtype)

    @property
    def is_mixed(self) -> bool:
        """Whether the strips were multiplied by different powers."""
        return bool(np.any(self.most > self.least))


class Strips:
    """A matrix in strips of whole rows of chunks; the adjoint of a wide matrix.

    The first `product` also computes the norm, and the power of two, shape (1, 1), that scales the
    matrix.
    """

    def __init__(self, A: Any) -> None:
        self.turned, self.short = A.shape[0] < A.shape[1], min(A.shape)
        blocks = A.to_delayed()
        self.strips = [list(strip) for strip in (blocks.T if self.turned else blocks)]
        self.rows = A.chunks[1 if self.turned else 0]
        empty = np.empty((1, 0), dtype=A.dtype)
        self.dtype = working(empty).dtype
        self.wide = widest(working(empty)).dtype
        self.power: Any = None
        self.squared_norm: Any = None

    @property
    def eps(self) -> float:
        """Machine epsilon of the products."""
        return format_of(np.empty(0, dtype=self.dtype)).eps

    @property
    def can_widen(self) -> bool:
        """Whether products can be computed in double precision, and are not yet."""
        return bool(self.dtype != self.wide)

    def widen(self) -> None:
        """Compute in double precision from now on."""
        self.dtype = self.wide

    def product(self, X: Array) -> Array:
        """``adjoint(A) @ A @ X``, in one pass over the data."""
        measured = self.squared_norm is None
        found: _Sum = self._reduced(
            *(_both_sides, _added, cast(X, self.dtype), self.power, measured)
        )
        mixed = self.power is None and found.is_mixed
        self.power = found.power if self.power is None else self.power
        if mixed:
            return self.product(X)
        if measured:
            shift = _shift(found.W)
            self.power, self.squared_norm = self.power * shift, found.squared_norm * shift * shift
            return found.W * shift * shift
        return found.W

    def measured(self) -> tuple[Array, Array]:
        """The squared norm of the scaled matrix, and its power of two, in one pass."""
        self.product(np.zeros((self.short, 0), dtype=self.dtype))
        return np.asarray(self.squared_norm), self.power[0, 0]

    def factored(self, V: Array) -> tuple[Any, Array]:
        """``Q``, a Dask array, and ``R`` of ``A @ V``, in one pass over the data."""
        columns = delayed(cast(V, self.dtype))
        parts = [
            da.from_delayed(
                delayed(_one_side)(strip, self.turned, columns, self.power),
                (rows, V.shape[-1]),
                dtype=self.dtype,
            )
            for strip, rows in zip(self.strips, self.rows, strict=True)
        ]
        Q, R = persist(*da.linalg.tsqr(da.concatenate(parts, axis=0)))
        return Q, R.compute()

    def left(self, Q: Any, X: Array, dtype: DType) -> Any:
        """``Q @ X``, a Dask array in the memory of the workers."""
        (U,) = persist((Q @ X).astype(dtype))
        return U

    def triangle(self) -> tuple[Array, Array]:
        """``R`` of the tall matrix times a power of two, and the power, in one pass over the data.

        The power, shape (1, 1), prevents overflow if the norm of a column does not fit the dtype.
        """
        triangle: tuple[Array, Array] = self._reduced(_triangle, _retriangulated)
        return triangle

    def _reduced(
        self, part: Callable[..., Any], join: Callable[[list[Any]], Any], *arguments: Any
    ) -> Any:
        """The results of a function for each strip, joined in a tree."""
        shared = [delayed(argument) for argument in arguments]
        parts = [delayed(part)(strip, self.turned, *shared) for strip in self.strips]
        while len(parts) > 1:
            groups = [parts[i : i + _FAN_IN] for i in range(0, len(parts), _FAN_IN)]
            parts = [delayed(join)(group) for group in groups]
        return parts[0].compute()


def _both_sides(
    strip: list[Array], turned: bool, X: Array, power: Array | None, measured: bool
) -> _Sum:
    """The term of a strip in ``adjoint(A) @ A @ X``, scaled by its own power if none is given."""
    least = most = power
    if power is None:
        none = np.zeros((1, 1), dtype=X.real.dtype)
        seen = [largest_modulus(working(block)) for block in strip if block.size]
        largest = np.max([none, *seen], axis=0)
        power = normalizing_power(largest)
        least, most = (np.where(largest == 0, end, power) for end in (np.inf, 0.0))
    squares = np.zeros(())
    W = np.zeros(X.shape, dtype=widest(X).dtype)
    if not np.all(np.isfinite(power)):
        return _Sum(W, squares, least, most)
    for pieces in _pieces(strip, turned, X.dtype, power):
        operators = [(columns, Dense(piece)) for columns, piece in pieces]
        Y = sum(A.matmul(X[columns]) for columns, A in operators)
        for columns, A in operators:
            W[columns] += A.rmatmul(Y)
        if measured:
            squares = squares + sum(squared_norm(widest(piece)) for _, piece in pieces)
    return _Sum(W, squares, least, most)


def _shift(W: Array) -> float:
    """A power of two whose square scales ``W`` so that squares of ``W`` do not overflow."""
    largest = float(np.max(np.abs(W), initial=0.0))
    if largest == 0.0 or 1e-60 < largest < 1e60:
        return 1.0
    return float(2.0 ** -(math.frexp(largest)[1] // 2))


def _one_side(strip: list[Array], turned: bool, V: Array, power: Array) -> Array:
    """The rows of ``A @ V`` that belong to a strip."""
    return np.concat(
        [
            sum(matmul(piece, V[columns]) for columns, piece in pieces)
            for pieces in _pieces(strip, turned, V.dtype, power)
        ]
    )


def _triangle(strip: list[Array], turned: bool) -> tuple[Array, Array]:
    """``R`` of a strip times a power of two, and the power."""
    whole = np.concat([adjoint(b) if turned else b for b in map(working, strip)], axis=-1)
    power = np.minimum(normalizing_power(whole), 1)
    return qr(whole * power)[1], power


def _retriangulated(parts: list[tuple[Array, Array]]) -> tuple[Array, Array]:
    """``R`` of several strips from the ``R`` of each."""
    power = np.minimum.reduce([power for _, power in parts])
    return qr(np.concat([R * (power / its) for R, its in parts]))[1], power


def _added(parts: list[_Sum]) -> _Sum:
    """The sum over several strips."""
    W, squares, least, most = zip(*parts, strict=True)
    return _Sum(sum(W), sum(squares), np.minimum.reduce(least), np.maximum.reduce(most))


def _pieces(
    strip: list[Array], turned: bool, dtype: DType, power: Array
) -> Iterator[list[tuple[slice, Array]]]:
    """Parts of a strip with few rows, times a power of two, as blocks with their columns."""
    blocks = [adjoint(block) if turned else block for block in strip]
    ends = itertools.accumulate((block.shape[-1] for block in blocks), initial=0)
    columns = [slice(*bounds) for bounds in itertools.pairwise(ends)]
    height = blocks[0].shape[0]
    rows = max(1, _PART // max(1, columns[-1].stop))
    plain = bool(np.all(power == 1))
    for start in range(0, height, rows):
        pieces = [cast(working(block[start : start + rows]), dtype) for block in blocks]
        scaled = pieces if plain else [piece * cast(power, piece.real.dtype) for piece in pieces]
        yield list(zip(columns, scaled, strict=True))
