"""The protocol of a matrix, with an implementation of everything that follows from its products."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

from eckart import _refusals
from eckart._arrays.linalg import (
    CHUNK,
    largest_modulus,
    normalizing_root,
    squared_norm,
    svd,
    svdvals,
)
from eckart._arrays.namespace import (
    Array,
    DType,
    adjoint,
    cast,
    concrete_int,
    conjugate,
    device,
    namespace,
    widest,
    working,
)
from eckart._arrays.sketch import gaussian

# Columns of the identity in a product that gives some entries of a linear operator.
_BLOCK = 64
# Entries up to which a linear operator may be formed: a gigabyte in float64.
FORMED = 2**27
# Stream of random numbers that no decomposition uses.
STREAM = 2**21

Function: TypeAlias = Callable[[Array], Array]


class Matrix:
    """A matrix or a stack of matrices of any kind.

    A kind defines `like`, `shape`, `matmul` and `rmatmul`. It overrides each method that it
    computes better than by products. Only the kinds and `as_matrix` know the other kinds.

    Attributes
    ----------
    shape : tuple of int
        Shape of the matrix, ``(..., m, n)``.
    like : array
        An array with the library, the dtype and the device of the matrix. Products take and return
        arrays of this kind, in float32 for half precision.
    parts : tuple of array
        The matrix, or factors whose product is the matrix. Derivatives are taken with respect to
        the parts. A matrix without parts is not differentiable.
    given : array or Factors, optional
        The argument of the caller, in which a message can locate a NaN.
    by_products : bool
        Whether the matrix is a linear operator: a column of entries costs a product.
    has_factors : bool
        Whether the matrix is a product of thin factors.
    knows_energy : bool
        Whether `energy` costs no products.
    reads_strips : bool
        Whether `strip` costs no products.
    preferred : str, optional
        The best method for this kind; None if it depends on the shape and the rank.
    """

    shape: tuple[int, ...]
    like: Array
    parts: tuple[Array, ...] = ()
    given: Any = None
    by_products = True
    has_factors = False
    knows_energy = False
    reads_strips = False
    preferred: str | None = "krylov"

    @staticmethod
    def takes(A: Any, /) -> bool:
        """Whether `A` is of this kind."""
        return isinstance(A, Matrix)

    @classmethod
    def of(cls, name: str, A: Any) -> Any:
        """The matrix of an argument with this name, or a refusal."""
        return A

    @property
    def dtype(self) -> DType:
        """Dtype of the matrix."""
        return self.like.dtype

    def matmul(self, X: Array) -> Array:
        """The matrix times `X`, shape (..., n, p)."""
        raise NotImplementedError

    def rmatmul(self, X: Array) -> Array:
        """The adjoint of the matrix times `X`, shape (..., m, p)."""
        raise NotImplementedError

    def gram_matmul(self, X: Array) -> Array:
        """``adjoint(A) @ A @ X``."""
        return self.rmatmul(self.matmul(X))

    def adjoint(self) -> Matrix:
        """The conjugate transpose."""
        from eckart._matrices.operator import Products

        *stack, m, n = self.shape
        return Products((*stack, n, m), self.like, self.rmatmul, self.matmul)

    def constant(self, constant: Function, guard: Function) -> Matrix:
        """The matrix without a derivative, with `like` in the working dtype.

        `constant` detaches an array. `guard` refuses to differentiate a product.
        """
        guarded = Between(self, lambda X: X, guard)
        guarded.like = constant(guarded.like)
        return guarded

    def astype(self, dtype: DType, name: str, whose: str) -> Matrix:
        """The matrix in another dtype, or a refusal; the messages call them `name` and `whose`."""
        _refusals.same_dtype(whose, dtype, name, working(self.like).dtype)
        return self

    def magnitude(self) -> Array:
        """Rough estimate of the largest singular value, shape (..., 1, 1), from one product."""
        xp = namespace(self.like)
        *stack, _, n = self.shape
        if 0 in self.shape:
            return largest_modulus(self.formed())
        probe = gaussian(n, 1, like=self.like, seed=0, stream=STREAM)
        return largest_modulus(self.matmul(xp.broadcast_to(probe, (*stack, n, 1))))

    def rescaled(self, root: Array) -> Matrix:
        """The matrix times the square of `root`, a power of two per matrix; zero for a NaN."""
        if is_one(root):
            return self
        xp = namespace(root)
        finite = xp.isfinite(root)
        once = xp.where(finite, root, 1.0)
        # The two factors multiply one after the other, because their square may underflow.
        after = lambda Y: xp.where(finite, Y * once, 0.0)  # noqa: E731
        return Between(self, lambda X: X * once, after, root * root)

    def scaled(self) -> tuple[Matrix, Array]:
        """The matrix times a power of two, and that power, shape (..., 1, 1).

        Fourth powers of the scaled singular values fit the dtype. For a matrix with a NaN or an
        infinity the power is NaN, and the products of the scaled matrix are zero.
        """
        root = normalizing_root(self.magnitude())
        return self.rescaled(root), root * root

    def norm(self) -> Array:
        """Frobenius norm, shape (...)."""
        return namespace(self.like).sqrt(self.energy())

    def scaled_energy(self) -> tuple[Array, Array]:
        """Energy of the matrix times a power of two, and that power, both of shape (...)."""
        scaled, power = self.scaled()
        return scaled.energy(), power[..., 0, 0]

    def energy(self, factor: Array | float = 1.0) -> Array:
        """Sum of the squared moduli of the entries times a factor, shape (...)."""
        return sum(squared_norm(strip * factor) for (strip,) in strips(self))

    def inner(self, other: Matrix) -> Array:
        """Sum of ``conj(A) * other`` over the entries, shape (...)."""
        if other.has_factors and not self.has_factors:
            return conjugate(other.inner(self))
        xp = namespace(self.like)
        return sum(xp.sum(conjugate(A) * B, axis=(-2, -1)) for A, B in strips(self, other))

    def strip(self, axis: int, start: int, stop: int) -> Array:
        """Rows (axis -2) or columns (-1) from `start` to `stop`, in the widest dtype."""
        xp = namespace(self.like)
        *stack, m, n = self.shape
        length, multiply = (m, self.rmatmul) if axis == -2 else (n, self.matmul)
        here = {"dtype": working(self.like).dtype, "device": device(self.like)}
        if 0 in self.shape:
            shape = (stop - start, n) if axis == -2 else (m, stop - start)
            return widest(xp.zeros((*stack, *shape), **here))
        eye = xp.eye(length, stop - start, k=-start, **here)
        product = multiply(xp.broadcast_to(eye, (*stack, *eye.shape)))
        return widest(adjoint(product) if axis == -2 else product)

    def formed(self) -> Array:
        """The entries in the working dtype, for any number of entries."""
        dtype = working(self.like).dtype
        parts = [cast(part, dtype) for (part,) in strips(self)]
        return namespace(self.like).concat(parts, axis=strip_axis(self))

    def entries(self, name: str = "A") -> Array:
        """The entries in the working dtype, or a refusal of the argument `name`."""
        if math.prod(self.shape) > FORMED:
            _refusals.refuse_whole(name, tuple(self.shape), FORMED)
        return self.formed()

    def loaded(self, name: str = "A") -> Matrix:
        """A matrix in memory, or a refusal of the argument `name`."""
        return self

    def passes(self) -> Any:
        """The Gram matrix by passes over the data; None if passes over the data cost little."""
        return None

    def reduced(self) -> Matrix:
        """A matrix with parts and the same singular values."""
        from eckart._matrices.dense import Dense

        return Dense(self.entries())

    def prepared(self, needs: str | None) -> Matrix:
        """The matrix for a method that needs "products" or "entries", or either (None)."""
        return self.reduced() if needs == "entries" or 0 in self.shape else self

    def svd(self, rank: int) -> tuple[Array, Array, Array]:
        """Thin SVD with at least `rank` triplets."""
        return svd(self.entries())

    def svdvals(self) -> Array:
        """All min(m, n) singular values."""
        return svdvals(self.entries())

    def factors(self, name: str = "A") -> tuple[Array, Array]:
        """Two factors of the matrix; one is the identity, unless the matrix is a product."""
        A = self.entries(name)
        p, n = A.shape[-2:]
        eye = namespace(A).eye(min(p, n), dtype=A.dtype, device=device(A))
        return (eye, A) if p <= n else (A, eye)

    def placed(self, U: Array) -> Array:
        """Left vectors in the layout of the rows of the matrix."""
        return U

    def minus(self, B: Array, C: Array) -> Matrix:
        """The matrix minus ``B @ C``, without forming either."""
        from eckart._matrices.product import Product
        from eckart._matrices.sum import Sum

        return Sum((self, Product(B, C)), (1.0, -1.0), self.like)


class Between(Matrix):
    """A matrix with a function before and after each product; together they multiply by `power`."""

    def __init__(self, base: Matrix, before: Function, after: Function, power: Any = 1.0) -> None:
        self.base, self.shape, self.like = base, base.shape, working(base.like)
        self.before, self.after, self.power = before, after, power
        self.knows_energy, self.reads_strips = base.knows_energy, base.reads_strips

    def matmul(self, X: Array) -> Array:
        return self.after(self.base.matmul(self.before(X)))

    def rmatmul(self, X: Array) -> Array:
        return self.after(self.base.rmatmul(self.before(X)))

    def energy(self, factor: Array | float = 1.0) -> Array:
        if self.knows_energy:
            return self.base.energy(self.power * factor)
        return super().energy(factor)

    def strip(self, axis: int, start: int, stop: int) -> Array:
        return self.after(self.before(self.base.strip(axis, start, stop)))


def strips(*matrices: Matrix) -> Iterator[tuple[Array, ...]]:
    """Strips of the entries of matrices of one shape, one after another, in the widest dtype."""
    axis = strip_axis(*matrices)
    *stack, m, n = matrices[0].shape
    if all(A.reads_strips for A in matrices):
        length, width = m, max(1, CHUNK // max(1, n * math.prod(stack)))
    else:
        length, width = min(m, n), _BLOCK
    for start in range(0, max(1, length), width):
        stop = min(start + width, length)
        yield tuple(A.strip(axis, start, stop) for A in matrices)


def strip_axis(*matrices: Matrix) -> int:
    """The axis that `strips` cut: rows if they cost no products, else the short side."""
    m, n = matrices[0].shape[-2:]
    return -2 if all(A.reads_strips for A in matrices) or m < n else -1


def is_one(power: Array) -> bool:
    """Whether a power is one, as for nearly all matrices; False if it is traced."""
    return concrete_int(namespace(power).all(power == 1)) == 1
