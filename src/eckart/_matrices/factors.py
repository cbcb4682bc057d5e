"""The two results, what a matrix given by its factors can do, and sums of them."""

from __future__ import annotations

import math
from typing import Any, NamedTuple, NoReturn

import numpy as np

from eckart import _refusals
from eckart._arrays.door import public
from eckart._arrays.linalg import matmul
from eckart._arrays.namespace import Array, Device, DType, Namespace, cast, device, working


class Factors(tuple[Array, ...]):
    """A matrix that is known by its factors, the first of m rows, the last of n columns."""

    __slots__ = ()

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
        """Where the factors live."""
        return device(self[0])

    @property
    def rank(self) -> int:
        """Inner length ``r``, the largest rank that the matrix can have."""
        return int(self[0].shape[-1])

    @property
    def size(self) -> int:
        """Number of parameters stored."""
        return sum(math.prod(array.shape) for array in self)

    @property
    def dense_size(self) -> int:
        """Number of entries of the matrix itself."""
        return math.prod(self.shape)

    def __array__(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse to become an array by the back door, as a stack of the factors."""
        raise TypeError(
            "factors are a matrix, not an array of their parts: form it with eckart.reconstruct, "
            "or multiply by it with @."
        )

    def __add__(self, other: object) -> NoReturn:
        """Refuse what would join tuples."""
        raise TypeError("factors are not added with +: use eckart.add(one, other).")

    def __mul__(self, other: object) -> NoReturn:
        """Refuse what would repeat a tuple."""
        raise TypeError("factors are not scaled with *: use eckart.add(factors, weights=[number]).")

    __rmul__ = __mul__

    @public
    def __matmul__(self, X: Array) -> Array:
        """The matrix times `X`, shape (n,) or (..., n, p), without forming the matrix."""
        _, (B, A, right), dtype = _operands(self, X=X)
        _refusals.conformable("factors", self.shape, "X", X.shape)
        columns = right[:, None] if right.ndim == 1 else right
        product = matmul(B, matmul(A, columns))
        return cast(product[..., 0] if right.ndim == 1 else product, dtype)

    @public
    def __rmatmul__(self, X: Array) -> Array:
        """`X`, shape (m,) or (..., p, m), times the matrix, without forming the matrix."""
        _, (B, A, left), dtype = _operands(self, X=X)
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
    """A matrix as ``U @ diag(S) @ Vh``: what `truncated_svd` returns.

    It unpacks like a tuple, and JAX and PyTorch treat it as a pytree of its three arrays.

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


class LowRank(Factors, _Pair):
    """A matrix as ``B @ A``: what `factorize` returns, and what a LoRA adapter is.

    It unpacks like a tuple, and JAX and PyTorch treat it as a pytree of its two arrays.

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


def checked(name: str, factors: Any) -> Factors:
    """`factors`, whose arrays are of one library and fit together."""
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
    """``B`` and ``A`` of either kind of factors, in the dtype they are computed in."""
    if isinstance(factors, SVD):
        U, S, Vh = map(working, factors)
        return U * S[..., None, :], Vh
    B, A = map(working, factors)
    return B, A


def _operands(factors: Factors, **others: Array) -> tuple[Namespace, list[Array], DType]:
    """Namespace; ``B``, ``A`` and the others in the dtype to compute in; the dtype to return."""
    checked("factors", factors)
    xp = _refusals.arrays(factors=factors[0], **others)
    operands = [*pair(factors), *map(working, others.values())]
    given = [array.dtype for array in (factors[0], factors[-1], *others.values())]
    computed, returned = dtypes(xp, operands, given)
    return xp, [cast(array, computed) for array in operands], returned


def dtypes(xp: Namespace, operands: list[Array], given: list[DType]) -> tuple[DType, DType]:
    """The dtype to compute in, and the one to return: what was given, where that is one dtype."""
    computed = xp.result_type(*(array.dtype for array in operands))
    return computed, given[0] if all(dtype == given[0] for dtype in given) else computed


@public
def reconstruct(factors: Factors, /) -> Array:
    """The matrix that factors stand for.

    Parameters
    ----------
    factors : SVD or LowRank
        Factors of a matrix or a stack.

    Returns
    -------
    array, shape (..., m, n)
        ``U @ diag(S) @ Vh`` or ``B @ A`` in the dtype of the factors, multiplied at full precision
        whatever the library's settings are.

    Raises
    ------
    TypeError
        If `factors` are neither, or their arrays not floating point or of two libraries.
    ValueError
        If the shapes of the factors do not fit together.

    Examples
    --------
    >>> import numpy as np
    >>> import eckart
    >>> eckart.reconstruct(eckart.truncated_svd(np.diag([3.0, 2.0, 1.0]), 2))
    array([[3., 0., 0.],
           [0., 2., 0.],
           [0., 0., 0.]])
    """
    _, (B, A), dtype = _operands(factors)
    return cast(matmul(B, A), dtype)


@public
def linear(x: Array, factors: Factors, bias: Array | None = None, /) -> Array:
    """Apply a matrix given by factors to vectors: a linear layer that never forms ``B @ A``.

    Parameters
    ----------
    x : array, shape (..., n)
        Vectors.
    factors : SVD or LowRank
        Factors of a matrix of shape (m, n), or of a stack that broadcasts with the leading axes of
        `x`.
    bias : array, shape (m,) or (..., m), optional
        Added to the result.

    Returns
    -------
    array, shape (..., m)
        ``x @ W.T + bias`` for the matrix ``W``, that is ``W @ x + bias`` for one vector.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind or of another library.
    ValueError
        If the shapes do not fit.

    Notes
    -----
    With rank r this takes ``r * (m + n)`` multiplications a vector, ``W @ x`` takes ``m * n``.

    Examples
    --------
    >>> import numpy as np
    >>> import eckart
    >>> factors = eckart.LowRank(np.asarray([[1.0], [2.0]]), np.asarray([[1.0, 1.0, 1.0]]))
    >>> eckart.linear(np.asarray([1.0, 2.0, 3.0]), factors, np.asarray([10.0, 10.0]))
    array([16., 22.])
    """
    others = {"x": x} if bias is None else {"x": x, "bias": bias}
    xp, (B, A, vectors, *shift), dtype = _operands(factors, **others)
    *stack, m, n = factors.shape
    _refusals.trailing("x", x, "n", n)
    _refusals.stacks("x", x.shape[:-1], "factors", tuple(stack))
    if stack:
        result = matmul(B, matmul(A, vectors[..., None]))[..., 0]
    else:
        result = matmul(matmul(vectors, xp.matrix_transpose(A)), xp.matrix_transpose(B))
    if bias is not None:
        _refusals.trailing("bias", bias, "m", m)
        _refusals.stacks("bias", bias.shape[:-1], "x", result.shape[:-1])
        result = result + shift[0]
    return cast(result, dtype)
