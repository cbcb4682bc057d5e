"""Matrices that are given by their factors: the results `SVD` and `LowRank`."""

from __future__ import annotations

import math
from typing import Any, ClassVar, NamedTuple, NoReturn

import numpy as np

from eckart import _refusals
from eckart._arrays.door import public
from eckart._arrays.linalg import matmul
from eckart._arrays.namespace import (
    Array,
    Device,
    DType,
    Namespace,
    adjoint,
    cast,
    device,
    transpose,
    working,
)


class Factors(tuple[Array, ...]):
    """A matrix that is given by its factors: the first has m rows, the last has n columns."""

    __slots__ = ()
    # What each array holds of the matrix: how a mesh of devices divides them.
    sides: ClassVar[tuple[str, ...]] = ()

    # NumPy would otherwise turn the tuple into an array before it looks for __rmatmul__.
    __array_ufunc__ = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the matrix, ``(..., m, n)``."""
        left, *middle, right = self
        stacks = [left.shape[:-2], *(S.shape[:-1] for S in middle), right.shape[:-2]]
        return (*np.broadcast_shapes(*stacks), left.shape[-2], right.shape[-1])

    @property
    def dtype(self) -> DType:
        """Dtype of the matrix."""
        return self[0].dtype

    @property
    def device(self) -> Device:
        """Device of the factors."""
        return device(self[0])

    @property
    def mT(self) -> Any:
        """The transpose, as factors of the same kind."""
        left, *middle, right = self
        kind: Any = type(self)
        return kind(transpose(right), *middle, transpose(left))

    @property
    def mH(self) -> Any:
        """The adjoint, as factors of the same kind."""
        left, *middle, right = self
        kind: Any = type(self)
        return kind(adjoint(right), *middle, adjoint(left))

    @property
    def rank(self) -> int:
        """Inner length ``r``, the largest rank that the matrix can have."""
        return int(self[0].shape[-1])

    @property
    def size(self) -> int:
        """Number of stored entries, of all factors together."""
        return sum(math.prod(array.shape) for array in self)

    @property
    def dense_size(self) -> int:
        """Number of entries of the matrix."""
        return math.prod(self.shape)

    @property
    def count(self) -> NoReturn:
        """What a tuple has, and a matrix has not."""
        raise AttributeError("factors are a matrix and have no `count`.")

    @property
    def index(self) -> NoReturn:
        """What a tuple has, and a matrix has not."""
        raise AttributeError("factors are a matrix and have no `index`.")

    def __array__(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse a conversion to an array, which would be a stack of the factors."""
        raise TypeError(
            "factors cannot become an array. Form their matrix with eckart.reconstruct(factors), "
            "or multiply by the matrix with @."
        )

    def __add__(self, other: object) -> NoReturn:
        """Refuse +, which would join the tuples."""
        raise TypeError("factors cannot be added with +. Use eckart.add(one, other).")

    def __mul__(self, other: object) -> NoReturn:
        """Refuse *, which would repeat the tuple."""
        raise TypeError(
            "factors cannot be scaled with *. Use eckart.add(factors, weights=[number])."
        )

    __rmul__ = __mul__

    @public
    def __matmul__(self, X: Array) -> Array:
        """The matrix times `X`, shape (n,) or (..., n, p), without forming the matrix."""
        _, (B, A, right), dtype = operands(self, X=X)
        _refusals.conformable("factors", self.shape, "X", X.shape)
        columns = right[:, None] if right.ndim == 1 else right
        product = matmul(B, matmul(A, columns))
        return cast(product[..., 0] if right.ndim == 1 else product, dtype)

    @public
    def __rmatmul__(self, X: Array) -> Array:
        """`X`, shape (m,) or (..., p, m), times the matrix, without forming the matrix."""
        _, (B, A, left), dtype = operands(self, X=X)
        _refusals.conformable("X", X.shape, "factors", self.shape)
        rows = left[None, :] if left.ndim == 1 else left
        product = matmul(matmul(rows, B), A)
        return cast(product[..., 0, :] if left.ndim == 1 else product, dtype)


class _Triplets(NamedTuple):
    U: Array
    S: Array
    Vh: Array


class _Pair(NamedTuple):
    B: Array
    A: Array


class SVD(Factors, _Triplets):
    """A matrix as ``U @ diag(S) @ Vh``: the result of `truncated_svd`.

    An SVD unpacks like a tuple. JAX and PyTorch treat it as a pytree of its three arrays.

    Attributes
    ----------
    U : array, shape (..., m, r)
        Orthonormal columns, the left singular vectors.
    S : array, shape (..., r)
        Singular values, real, descending.
    Vh : array, shape (..., r, n)
        Orthonormal rows, the adjoint of the right singular vectors.

    Examples
    --------
    >>> import numpy as np
    >>> import eckart
    >>> factors = eckart.truncated_svd(np.diag([3.0, 2.0, 1.0]), 2)
    >>> factors.shape, factors.rank, factors.size, factors.dense_size
    ((3, 3), 2, 14, 9)
    >>> factors @ np.ones(3)
    array([3., 2., 0.])
    """

    __slots__ = ()
    sides = ("rows", "values", "columns")


class LowRank(Factors, _Pair):
    """A matrix as ``B @ A``: the result of `factorize`, and the form of a LoRA adapter.

    A LowRank unpacks like a tuple. JAX and PyTorch treat it as a pytree of its two arrays.

    Attributes
    ----------
    B : array, shape (..., m, r)
        Left factor.
    A : array, shape (..., r, n)
        Right factor.

    Examples
    --------
    >>> import numpy as np
    >>> import eckart
    >>> factors = eckart.LowRank(np.ones((10, 2)), np.ones((2, 10)))
    >>> factors.shape, factors.rank, factors.size, factors.dense_size
    ((10, 10), 2, 40, 100)
    """

    __slots__ = ()
    sides = ("rows", "columns")


def checked(name: str, factors: Any) -> Factors:
    """`factors`, or a refusal if their arrays are of several libraries or do not fit together."""
    if not isinstance(factors, Factors):
        _refusals.refuse_factors(name, factors)
    fields = {
        f"{name}.{field}": array
        for field, array in zip(factors._fields, factors, strict=True)  # type: ignore[attr-defined]
    }
    _refusals.arrays(**fields)
    _refusals.one_precision(fields)
    left, *middle, right = fields
    _refusals.matrix(left, factors[0])
    _refusals.matrix(right, factors[-1])
    _refusals.conformable(left, factors[0].shape, right, factors[-1].shape)
    for S in middle:
        _refusals.trailing(S, fields[S], "r", factors.rank)
        _refusals.stacks(S, fields[S].shape[:-1], left, factors[0].shape[:-2])
        _refusals.stacks(S, fields[S].shape[:-1], right, factors[-1].shape[:-2])
    return factors


def pair(factors: Factors) -> tuple[Array, Array]:
    """``B`` and ``A`` of an SVD or a LowRank, in the working dtype."""
    if isinstance(factors, SVD):
        U, S, Vh = map(working, factors)
        return U * S[..., None, :], Vh
    B, A = map(working, factors)
    return B, A


def operands(factors: Factors, **others: Array) -> tuple[Namespace, list[Array], DType]:
    """Namespace; ``B``, ``A`` and the others in the dtype to compute in; the dtype to return."""
    checked("factors", factors)
    xp = _refusals.arrays(factors=factors[0], **others)
    arrays = [*pair(factors), *map(working, others.values())]
    given = [array.dtype for array in (factors[0], factors[-1], *others.values())]
    computed, returned = dtypes(xp, arrays, given)
    return xp, [cast(array, computed) for array in arrays], returned


def dtypes(xp: Namespace, arrays: list[Array], given: list[DType]) -> tuple[DType, DType]:
    """The dtype to compute in, and the one to return: what was given, where that is one dtype."""
    computed = xp.result_type(*(array.dtype for array in arrays))
    return computed, given[0] if all(dtype == given[0] for dtype in given) else computed
