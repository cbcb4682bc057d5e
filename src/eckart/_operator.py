"""A matrix known by its products from both sides."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

from eckart import _checks
from eckart._door import public
from eckart._linalg import (
    chunks,
    column_norms,
    largest_modulus,
    matmul,
    multiplies_transposed,
    normalizing_power,
    normalizing_root,
    squared_norm,
)
from eckart._namespace import (
    Array,
    Device,
    DType,
    adjoint,
    concrete_int,
    conjugate,
    device,
    format_of,
    full_precision,
    is_dask,
    is_jax,
    namespace,
    widest,
    working,
)
from eckart._sketch import gaussian

# Columns of the identity in a product that forms a part of a matrix.
_BLOCK = 64

# Columns that the products of a new operator are tried on: two, as one alone might be squeezed.
_TRIED = 2
# Streams of test matrices that no decomposition draws from.
_STREAM = 2**21


@dataclass(frozen=True, eq=False)
class Operator:
    """A matrix known by its products from both sides: what `operator` makes, and `add` of others.

    Attributes
    ----------
    shape : tuple of int
        Shape of the matrix, ``(..., m, n)``.
    like : array
        Has the library, the dtype and the device of the matrix.
    matmul, rmatmul : callable
        ``matmul(X)`` is the matrix times `X`, (..., n, p), ``rmatmul(X)`` its adjoint times `X`,
        (..., m, p).
    squared_norm : callable, optional
        ``squared_norm(factor)`` is the sum of the squared moduli of the entries times a factor,
        shape (...), where that is known more cheaply than by products.

    Examples
    --------
    >>> import numpy as np
    >>> import eckart
    >>> weight = np.eye(3)
    >>> adapter = eckart.LowRank(np.ones((3, 1)), np.ones((1, 3)))
    >>> adapted = eckart.add(weight, adapter)
    >>> adapted.shape, adapted @ np.asarray([1.0, 2.0, 3.0])
    ((3, 3), array([7., 8., 9.]))
    """

    shape: tuple[int, ...]
    like: Array = field(repr=False)
    matmul: Callable[[Array], Array] = field(repr=False)
    rmatmul: Callable[[Array], Array] = field(repr=False)
    squared_norm: Callable[[Array | float], Array] | None = field(default=None, repr=False)

    # NumPy would otherwise make an array of objects before it looks for __rmatmul__.
    __array_ufunc__ = None

    @property
    def dtype(self) -> DType:
        """Dtype of the matrix."""
        return self.like.dtype

    @property
    def device(self) -> Device:
        """Where the matrix lives."""
        return device(self.like)

    def __array__(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse to become an array by the back door."""
        raise TypeError("an operator has no entries: multiply by the identity to form its matrix.")

    @public
    def __matmul__(self, X: Array) -> Array:
        """The matrix times `X`, shape (n,) or (..., n, p)."""
        _checks.arrays(operator=self.like, X=X)
        _checks.conformable("operator", self.shape, "X", X.shape)
        X = X.compute() if is_dask(X) else X
        return self.matmul(X[:, None])[..., 0] if X.ndim == 1 else self.matmul(X)

    @public
    def __rmatmul__(self, X: Array) -> Array:
        """`X`, shape (m,) or (..., p, m), times the matrix."""
        _checks.arrays(X=X, operator=self.like)
        _checks.conformable("X", X.shape, "operator", self.shape)
        X = X.compute() if is_dask(X) else X
        if X.ndim == 1:
            return conjugate(self.rmatmul(conjugate(X)[:, None])[..., 0])
        return adjoint(self.rmatmul(adjoint(X)))


@public
def operator(
    shape: Any,
    matmul: Callable[[Array], Array],
    rmatmul: Callable[[Array], Array],
    *,
    like: Array,
) -> Operator:
    """A matrix known by its products from both sides.

    Parameters
    ----------
    shape : tuple of int
        Shape of the matrix or the stack, ``(..., m, n)``.
    matmul : callable
        Takes `X` of shape (..., n, p) and returns the matrix times `X`, (..., m, p).
    rmatmul : callable
        Takes `X` of shape (..., m, p) and returns the adjoint of the matrix, which is its conjugate
        transpose, times `X`, (..., n, p).
    like : array
        Any array of the library, the dtype and on the device of the matrix. Products are asked for
        with arrays like it, of float32 in place of a half precision, and must return such.

    Returns
    -------
    Operator
        It stands for the matrix in `truncated_svd`, `factorize`, `certify`, `add` and wherever else
        a matrix is taken.

    Raises
    ------
    TypeError
        If `like` is not a floating-point array, or a product not of its library or dtype.
    ValueError
        If a product has another shape, or `rmatmul` is not the adjoint of `matmul`.

    Notes
    -----
    Both are called once, to compare ``<Y, A X>`` with ``<A^H Y, X>`` for random `X` and `Y`: what
    is not the adjoint of the other is found out. Values are not compared while they are traced.
    Inside both, what PyTorch and JAX multiply keeps the precision of its dtype, whatever is set.

    Examples
    --------
    >>> import numpy as np
    >>> import eckart
    >>> n = 1000
    >>> weights = 1.0 / np.arange(1.0, n + 1)[:, None]
    >>> differences = eckart.operator(
    ...     (n, n),
    ...     lambda X: weights * (X - np.roll(X, 1, axis=0)),
    ...     lambda X: weights * X - np.roll(weights * X, -1, axis=0),
    ...     like=weights,
    ... )
    >>> eckart.truncated_svd(differences, 3).Vh.shape
    (3, 1000)
    """
    _checks.matrix_shape(shape)
    if is_dask(like):
        _checks.refuse_chunks("like", "Let it be an array like one of its chunks.")
    return compared(shape, matmul, rmatmul, like, _checks.Words())


def compared(
    shape: Any,
    matmul: Callable[[Array], Array],
    rmatmul: Callable[[Array], Array],
    like: Array,
    words: _checks.Words,
) -> Operator:
    """What `operator` returns, where the caller has other words for its parameters."""
    *stack, m, n = shape
    _checks.arrays(**{words.like: like})

    def forward(X: Array) -> Array:
        with full_precision(X):
            Y = matmul(X)
            return _kept(_checks.product(words, words.matmul, X, Y, (*stack, m, X.shape[-1])))

    def backward(X: Array) -> Array:
        with full_precision(X):
            Y = rmatmul(X)
            return _kept(_checks.product(words, words.rmatmul, X, Y, (*stack, n, X.shape[-1])))

    made = Operator((*stack, m, n), like, forward, backward)
    if 0 not in made.shape:
        _compare(made, words)
    return made


def _kept(product: Array) -> Array:
    """A copy, as the next product may be written to the same memory; arrays of JAX never change."""
    if is_jax(product):
        return product
    return namespace(product).astype(product, product.dtype, copy=True)


def _compare(operator: Operator, words: _checks.Words) -> None:
    """Refuse products that are not the adjoint of each other."""
    like = working(operator.like)
    *stack, m, n = operator.shape
    xp = namespace(like)
    X, Y = (
        xp.broadcast_to(
            gaussian(length, _TRIED, like=like, seed=0, stream=stream),
            (*stack, length, _TRIED),
        )
        for length, stream in ((n, _STREAM), (m, _STREAM + 1))
    )
    AX, AY = operator.matmul(X), operator.rmatmul(Y)
    if concrete_int(xp.all(xp.isfinite(AX)) & xp.all(xp.isfinite(AY))) != 1:
        return  # traced, or refused where the values are looked at
    (AX, one), (AY, other) = ((part, normalizing_power(part)) for part in (AX, AY))
    power = xp.minimum(one, other)
    AX, AY = AX * power, AY * power
    scale = column_norms(AX) * column_norms(Y) + column_norms(AY) * column_norms(X)
    difference = namespace(X).abs(matmul(adjoint(Y), AX) - matmul(adjoint(AY), X))
    mismatch = xp.max(difference / xp.where(scale > 0, scale, 1.0))
    # Above what rounding does to the inner products, below what random ones of large matrices are.
    tolerance = format_of(like).eps ** (2 / 3)
    if concrete_int(mismatch > tolerance) == 1:
        _checks.refuse_adjoint(words, float(mismatch), tolerance)


def stored(A: Array) -> Operator:
    """The products with an array."""
    return Operator(
        A.shape,
        A,
        lambda X: matmul(A, X),
        lambda X: (
            matmul(adjoint(A), X) if multiplies_transposed(A) else adjoint(matmul(adjoint(X), A))
        ),
        lambda factor: sum(squared_norm(widest(part * factor)) for (part,) in chunks(A)),
    )


def dense(A: Array) -> tuple[Operator, Array]:
    """`A` times a power of two per matrix, and that power, as in `normalized` but without a copy.

    Where the power is NaN, all products are zero.
    """
    xp = namespace(A)
    power = normalizing_power(A)
    if _is_one(power):
        return stored(A), power
    finite = xp.isfinite(power)
    factor = xp.where(finite, power, 1.0)

    def forward(X: Array) -> Array:
        return xp.where(finite, matmul(A, X * factor), 0.0)

    def backward(X: Array) -> Array:
        X = X * factor
        if multiplies_transposed(A):
            return xp.where(finite, matmul(adjoint(A), X), 0.0)
        # What stands between the product and its adjoint keeps JAX from making one of them again.
        return adjoint(xp.where(finite, matmul(adjoint(X), A), 0.0))

    def energy(factor: Array | float) -> Array:
        scale = power * factor
        return sum(squared_norm(widest(part * scale)) for (part,) in chunks(A))

    return Operator(A.shape, A, forward, backward, energy), power


def scaled(operator: Operator) -> tuple[Operator, Array]:
    """An operator times a power of two per matrix, and that power, from one product.

    Its Gram matrix has room to be squared. Where the power is NaN, all products are zero.
    """
    factor = normalizing_root(magnitude(operator))
    return rescaled(operator, factor), factor * factor


def magnitude(operator: Operator) -> Array:
    """About the Frobenius norm of each matrix, from one product; shape (..., 1, 1)."""
    like = operator.like
    *stack, _, n = operator.shape
    probe = gaussian(n, 1, like=like, seed=0, stream=_STREAM)
    return largest_modulus(operator.matmul(namespace(like).broadcast_to(probe, (*stack, n, 1))))


def rescaled(operator: Operator, factor: Array) -> Operator:
    """An operator times the square of a power of two per matrix, zero where that is NaN."""
    if _is_one(factor):
        return operator
    xp = namespace(operator.like)
    finite = xp.isfinite(factor)
    once = xp.where(finite, factor, 1.0)
    known = operator.squared_norm
    return replace(
        operator,
        # One after the other, as both at once may leave nothing of what they multiply.
        matmul=lambda X: xp.where(finite, operator.matmul(X * once) * once, 0.0),
        rmatmul=lambda X: xp.where(finite, operator.rmatmul(X * once) * once, 0.0),
        squared_norm=None if known is None else lambda other: known(factor * factor * other),
    )


def _is_one(power: Array) -> bool:
    """Whether nothing has to be multiplied by the power, as of nearly all matrices."""
    return concrete_int(namespace(power).all(power == 1)) == 1


def turned(operator: Operator) -> Operator:
    """The adjoint of an operator."""
    *stack, m, n = operator.shape
    forward, backward = operator.rmatmul, operator.matmul
    return replace(operator, shape=(*stack, n, m), matmul=forward, rmatmul=backward)


def product(B: Array, A: Array) -> Operator:
    """The matrix ``B @ A``, which is never formed."""
    return Operator(
        (*A.shape[:-2], B.shape[-2], A.shape[-1]),
        A,
        lambda X: matmul(B, matmul(A, X)),
        lambda X: matmul(adjoint(A), matmul(adjoint(B), X)),
    )


def combination(terms: Sequence[Operator], weights: Sequence[Any]) -> Operator:
    """Weighted sum of operators of one shape and dtype; a weight is a number or (..., 1, 1)."""
    pairs = list(zip(terms, weights, strict=True))
    conjugates = [
        weight.conjugate() if isinstance(weight, int | float | complex) else conjugate(weight)
        for weight in weights
    ]

    def forward(X: Array) -> Array:
        return sum(weight * term.matmul(X) for term, weight in pairs)

    def backward(X: Array) -> Array:
        return sum(w * term.rmatmul(X) for term, w in zip(terms, conjugates, strict=True))

    return replace(terms[0], matmul=forward, rmatmul=backward, squared_norm=None)


def energy(operator: Operator) -> Array:
    """Sum of the squared moduli of the entries, shape (...), by products where it is not known."""
    if operator.squared_norm is not None:
        return operator.squared_norm(1.0)
    if 0 in operator.shape:
        return squared_norm(widest(formed(operator)))
    return sum(squared_norm(widest(part)) for part in columns(operator))


def formed(operator: Operator) -> Array:
    """The matrix itself."""
    xp = namespace(operator.like)
    m, n = operator.shape[-2:]
    if 0 in operator.shape:
        return xp.zeros(operator.shape, dtype=operator.like.dtype, device=device(operator.like))
    whole = xp.concat([*columns(operator)], axis=-1)
    return whole if n <= m else adjoint(whole)


def columns(A: Array | Operator) -> Iterator[Array]:
    """Some columns at a time of a matrix, or of its adjoint where that has fewer."""
    m, n = A.shape[-2:]
    short = min(m, n)
    for start in range(0, short, _BLOCK):
        width = min(_BLOCK, short - start)
        if not isinstance(A, Operator):
            part = slice(start, start + width)
            yield A[..., part] if n <= m else adjoint(A[..., part, :])
            continue
        xp = namespace(A.like)
        multiply = A.matmul if n <= m else A.rmatmul
        eye = xp.eye(short, width, k=-start, dtype=A.like.dtype, device=device(A.like))
        yield multiply(xp.broadcast_to(eye, (*A.shape[:-2], short, width)))
