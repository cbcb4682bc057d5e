"""Linear operators: matrices that are given by their products from both sides."""

from __future__ import annotations

from typing import Any, NoReturn

from eckart import _refusals
from eckart._arrays.door import public
from eckart._arrays.linalg import column_norms, matmul, normalizing_power
from eckart._arrays.namespace import (
    Array,
    Device,
    adjoint,
    concrete_int,
    conjugate,
    device,
    format_of,
    full_precision,
    is_dask,
    is_jax,
    namespace,
    working,
)
from eckart._arrays.sketch import gaussian
from eckart._matrices.matrix import STREAM, Function, Matrix

# Columns that a new operator is tried on. A function may drop an axis of length one, so not one.
_TRIED = 2


class Operator(Matrix):
    """A linear operator: the result of `operator`, and of `add` if a term is not a pair of factors.

    Attributes
    ----------
    shape : tuple of int
        Shape of the matrix, ``(..., m, n)``.
    like : array
        An array with the library, the dtype and the device of the matrix.
    matmul, rmatmul : callable
        ``matmul(X)`` is the matrix times `X` of shape (..., n, p). ``rmatmul(X)`` is the adjoint
        times `X` of shape (..., m, p).

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

    # NumPy would otherwise make an array of objects before it looks for __rmatmul__.
    __array_ufunc__ = None

    def __new__(cls, *_: Any, **__: Any) -> Operator:
        """Refuse to be made without the checks of `operator`."""
        if cls is Operator:
            raise TypeError("an Operator is made by eckart.operator, which checks its products.")
        return super().__new__(cls)

    def __repr__(self) -> str:
        return f"Operator(shape={self.shape})"

    @property
    def mH(self) -> Operator:
        """The adjoint."""
        *stack, m, n = self.shape
        return Products((*stack, n, m), self.like, self.rmatmul, self.matmul)

    @property
    def mT(self) -> Operator:
        """The transpose."""
        *stack, m, n = self.shape

        def matmul(X: Array) -> Array:
            return conjugate(self.rmatmul(conjugate(X)))

        def rmatmul(X: Array) -> Array:
            return conjugate(self.matmul(conjugate(X)))

        return Products((*stack, n, m), self.like, matmul, rmatmul)

    @property
    def device(self) -> Device:
        """Device of the matrix."""
        return device(self.like)

    def __array__(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse a conversion to an array."""
        raise TypeError(
            "an operator cannot become an array. Multiply by the identity to form its matrix."
        )

    @public
    def __matmul__(self, X: Array) -> Array:
        """The matrix times `X`, shape (n,) or (..., n, p)."""
        _refusals.arrays(operator=self.like, X=X)
        _refusals.conformable("operator", self.shape, "X", X.shape)
        X = X.compute() if is_dask(X) else X
        return self.matmul(X[:, None])[..., 0] if X.ndim == 1 else self.matmul(X)

    @public
    def __rmatmul__(self, X: Array) -> Array:
        """`X`, shape (m,) or (..., p, m), times the matrix."""
        _refusals.arrays(X=X, operator=self.like)
        _refusals.conformable("X", X.shape, "operator", self.shape)
        X = X.compute() if is_dask(X) else X
        if X.ndim == 1:
            return conjugate(self.rmatmul(conjugate(X)[:, None])[..., 0])
        return adjoint(self.rmatmul(adjoint(X)))


class Products(Operator):
    """A linear operator whose products are functions."""

    def __init__(self, shape: Any, like: Array, matmul: Function, rmatmul: Function) -> None:
        self.shape, self.like = shape, like
        self._matmul, self._rmatmul = matmul, rmatmul

    def matmul(self, X: Array) -> Array:
        return self._matmul(X)

    def rmatmul(self, X: Array) -> Array:
        return self._rmatmul(X)


@public
def operator(
    shape: Any,
    matmul: Function,
    rmatmul: Function,
    *,
    like: Array,
) -> Operator:
    """A linear operator from its products with a matrix and with the adjoint of the matrix.

    Parameters
    ----------
    shape : tuple of int
        Shape of the matrix or the stack, ``(..., m, n)``.
    matmul : callable
        Takes `X` of shape (..., n, p) and returns the matrix times `X`, shape (..., m, p).
    rmatmul : callable
        Takes `X` of shape (..., m, p) and returns the adjoint of the matrix times `X`, shape
        (..., n, p). The adjoint is the conjugate transpose.
    like : array
        Any array with the library, the dtype and the device of the matrix. `X` is an array of this
        kind, in float32 for half precision, and both functions must return arrays of the same kind.

    Returns
    -------
    Operator
        A matrix for `truncated_svd`, `factorize`, `certify`, `add` and every other function of
        matrices.

    Raises
    ------
    TypeError
        If `like` is not a floating-point array, or a product has another library or dtype.
    ValueError
        If a product has another shape, or `rmatmul` is not the adjoint of `matmul`.

    Notes
    -----
    Each function is called once, to compare ``<Y, A X>`` with ``<A^H Y, X>`` for random `X` and
    `Y`. So functions that are not adjoint to each other are refused. Traced values are not
    compared. Inside both functions PyTorch and JAX multiply at the full precision of the dtype, for
    all settings. An operator is not differentiable: a gradient with respect to one raises
    TypeError.

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
    _refusals.matrix_shape(shape)
    if is_dask(like):
        _refusals.refuse_chunks("like", "Pass an array like one of its chunks.")
    return compared(shape, matmul, rmatmul, like, _refusals.Words())


def compared(
    shape: Any,
    matmul: Function,
    rmatmul: Function,
    like: Array,
    words: _refusals.Words,
) -> Operator:
    """The operator of two functions that were compared; `words` are the names for its messages."""
    *stack, m, n = shape
    _refusals.arrays(**{words.like: like})

    def forward(X: Array) -> Array:
        with full_precision(X):
            return _kept(
                _refusals.product(words, words.matmul, X, matmul(X), (*stack, m, X.shape[-1]))
            )

    def backward(X: Array) -> Array:
        with full_precision(X):
            return _kept(
                _refusals.product(words, words.rmatmul, X, rmatmul(X), (*stack, n, X.shape[-1]))
            )

    made = Products((*stack, m, n), like, forward, backward)
    if 0 not in made.shape:
        _compare(made, words)
    return made


def _kept(product: Array) -> Array:
    """A copy of a product: the next product may overwrite it. Arrays of JAX never change."""
    if is_jax(product):
        return product
    return namespace(product).astype(product, product.dtype, copy=True)


def _compare(operator: Operator, words: _refusals.Words) -> None:
    """Refuse functions that are not adjoint to each other."""
    like = working(operator.like)
    *stack, m, n = operator.shape
    xp = namespace(like)
    X, Y = (
        xp.broadcast_to(
            gaussian(length, _TRIED, like=like, seed=0, stream=stream),
            (*stack, length, _TRIED),
        )
        for length, stream in ((n, STREAM), (m, STREAM + 1))
    )
    AX, AY = operator.matmul(X), operator.rmatmul(Y)
    if concrete_int(xp.all(xp.isfinite(AX)) & xp.all(xp.isfinite(AY))) != 1:
        return  # traced, or not finite, which is refused later
    (AX, one), (AY, other) = ((part, normalizing_power(part)) for part in (AX, AY))
    power = xp.minimum(one, other)
    AX, AY = AX * power, AY * power
    scale = column_norms(AX) * column_norms(Y) + column_norms(AY) * column_norms(X)
    difference = namespace(X).abs(matmul(adjoint(Y), AX) - matmul(adjoint(AY), X))
    mismatch = xp.max(difference / xp.where(scale > 0, scale, 1.0))
    # Larger than the rounding error, smaller than the difference for unrelated large matrices.
    tolerance = format_of(like).eps ** (2 / 3)
    if concrete_int(mismatch > tolerance) == 1:
        _refusals.refuse_adjoint(words, float(mismatch), tolerance)
