"""Matrices in chunks, on a disk or on a cluster: what Dask computes, and in how many readings.

Imported only when one of its arrays is met.
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

# Results that one task adds up, and entries of a part of a strip that is multiplied at a time.
_FAN_IN, _PART = 8, 2**22


def chunked(U: Array, A: Any) -> Any:
    """A NumPy array with the rows, or the stack, of a Dask array as one in its chunks."""
    return da.from_array(U, chunks=(*A.chunks[:-1], U.shape[-1]))


class _Sum(NamedTuple):
    """What strips have found, added up."""

    W: Array  # adjoint(A) @ A @ X
    squared_norm: Array
    least: Array  # powers of two that strips were multiplied by, shape (1, 1)
    most: Array

    @property
    def power(self) -> Array:
        """The one that all have to be multiplied by; one if all are zero."""
        return np.where(np.isinf(self.least), 1.0, self.least).astype(self.W.real.dtype)

    @property
    def is_mixed(self) -> bool:
        """Whether the strips were multiplied by different powers."""
        return bool(np.any(self.most > self.least))


class Strips:
    """A matrix in strips of whole rows of chunks, or its adjoint in such where it is wide.

    The first `product` also finds its norm and the power of two that it is multiplied by, (1, 1).
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
        """What products are rounded to."""
        return format_of(np.empty(0, dtype=self.dtype)).eps

    def widen(self) -> bool:
        """Compute in double precision from now on; False where that is done already."""
        before, self.dtype = self.dtype, self.wide
        return bool(before != self.wide)

    def product(self, X: Array) -> Array:
        """``adjoint(A) @ A @ X``, in one reading."""
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
        """The squared norm of the matrix times a power of two, and that power, in one reading."""
        self.product(np.zeros((self.short, 0), dtype=self.dtype))
        return np.asarray(self.squared_norm), self.power[0, 0]

    def factored(self, V: Array) -> tuple[Any, Array]:
        """``Q``, a Dask array, and ``R`` of ``A @ V``, in one reading."""
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
        """``R`` of the matrix, or of its adjoint where that is tall, times a power; in one reading.

        The power of two, shape (1, 1), leaves room for columns whose norm does not fit the dtype.
        """
        triangle: tuple[Array, Array] = self._reduced(_triangle, _retriangulated)
        return triangle

    def _reduced(
        self, part: Callable[..., Any], join: Callable[[list[Any]], Any], *arguments: Any
    ) -> Any:
        """What a function finds in each strip, joined as in a tree."""
        shared = [delayed(argument) for argument in arguments]
        parts = [delayed(part)(strip, self.turned, *shared) for strip in self.strips]
        while len(parts) > 1:
            groups = [parts[i : i + _FAN_IN] for i in range(0, len(parts), _FAN_IN)]
            parts = [delayed(join)(group) for group in groups]
        return parts[0].compute()


def _both_sides(
    strip: list[Array], turned: bool, X: Array, power: Array | None, measured: bool
) -> _Sum:
    """The share of a strip in ``adjoint(A) @ A @ X``, at first with the power that suits it."""
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
    """A power of two that, multiplied by, leaves room to square ``W``, which has squares in it."""
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
    """``R`` of all strips from those of some."""
    power = np.minimum.reduce([power for _, power in parts])
    return qr(np.concat([R * (power / its) for R, its in parts]))[1], power


def _added(parts: list[_Sum]) -> _Sum:
    """What several strips have found."""
    W, squares, least, most = zip(*parts, strict=True)
    return _Sum(sum(W), sum(squares), np.minimum.reduce(least), np.maximum.reduce(most))


def _pieces(
    strip: list[Array], turned: bool, dtype: DType, power: Array
) -> Iterator[list[tuple[slice, Array]]]:
    """Some rows at a time of a strip times a power of two, in blocks, each with its columns."""
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
