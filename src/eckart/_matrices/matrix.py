"""The protocol of a matrix, and what follows from its products alone."""

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
# Stream of test matrices that no decomposition draws from.
STREAM = 2**21

Function: TypeAlias = Callable[[Array], Array]


class Matrix:
    """A matrix or a stack of matrices of any kind.

    A kind gives `like`, `shape`, `matmul` and `rmatmul`, and overrides what it does better than by
    products. Only a kind and `as_matrix` know which kinds there are.

    Attributes
    ----------
    shape : tuple of int
        Shape of the matrix, ``(..., m, n)``.
    like : array
        Has the library, the dtype and the device of the matrix. Products take and return arrays
        like it, but of float32 for half precision.
    parts : tuple of array
        The matrix, or factors whose product is the matrix. Derivatives are taken with respect to
        the parts; a matrix without parts is not differentiable.
    given : array or Factors, optional
        The entries or the factors as the caller gave them, where a NaN can be pointed at.
    by_products : bool
        Whether products are all that is known, so that entries cost a product a column.
    has_factors : bool
        Whether the matrix is a product of thin factors.
    knows_energy : bool
        Whether `energy` costs no products.
    reads_strips : bool
        Whether `strip` costs no products.
    preferred : str, optional
        The method that suits the kind; None if that depends on the shape and the rank.
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
        """The matrix that an argument of this name stands for, or a refusal."""
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
        """The matrix without a derivative, `like` in the dtype that is computed in.

        `constant` detaches an array; `guard` refuses to differentiate a product.
        """
        guarded = Between(self, lambda X: X, guard)
        guarded.like = constant(guarded.like)
        return guarded

    def astype(self, dtype: DType, name: str, whose: str) -> Matrix:
        """The matrix `name` in the dtype of `whose`, or a refusal."""
        _refusals.same_dtype(whose, dtype, name, working(self.like).dtype)
        return self

    def magnitude(self) -> Array:
        """About the size of the largest singular value, shape (..., 1, 1), from one product."""
        xp = namespace(self.like)
        *stack, _, n = self.shape
        if 0 in self.shape:
            return largest_modulus(self.formed())
        probe = gaussian(n, 1, like=self.like, seed=0, stream=STREAM)
        return largest_modulus(self.matmul(xp.broadcast_to(probe, (*stack, n, 1))))

    def rescaled(self, root: Array) -> Matrix:
        """The matrix times the square of a power of two per matrix, zero where that is NaN."""
        if is_one(root):
            return self
        xp = namespace(root)
        finite = xp.isfinite(root)
        once = xp.where(finite, root, 1.0)
        # One after the other, as both at once may leave nothing of what they multiply.
        after = lambda Y: xp.where(finite, Y * once, 0.0)  # noqa: E731
        return Between(self, lambda X: X * once, after, root * root)

    def scaled(self) -> tuple[Matrix, Array]:
        """The matrix times a power of two, and that power, shape (..., 1, 1).

        Fourth powers of the singular values then fit the dtype. The power is NaN for a matrix with
        a NaN or an infinity, whose products are zero.
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
        """The entries, however many there are, in the dtype that is computed in."""
        dtype = working(self.like).dtype
        parts = [cast(part, dtype) for (part,) in strips(self)]
        return namespace(self.like).concat(parts, axis=strip_axis(self))

    def entries(self, name: str = "A") -> Array:
        """The entries in the dtype that is computed in, or a refusal of the argument `name`."""
        if math.prod(self.shape) > FORMED:
            _refusals.refuse_whole(name, tuple(self.shape), FORMED)
        return self.formed()

    def loaded(self, name: str = "A") -> Matrix:
        """A matrix in memory, or a refusal of the argument `name`."""
        return self

    def passes(self) -> Any:
        """The Gram matrix in few passes over the data; None if passes over the data cost little."""
        return None

    def reduced(self) -> Matrix:
        """A matrix with parts and the same singular values."""
        from eckart._matrices.dense import Dense

        return Dense(self.entries())

    def prepared(self, needs: str | None) -> Matrix:
        """The matrix as a method needs it that takes "products" or "entries"; None for either."""
        return self.reduced() if needs == "entries" or 0 in self.shape else self

    def svd(self, rank: int) -> tuple[Array, Array, Array]:
        """Thin SVD with at least `rank` triplets."""
        return svd(self.entries())

    def svdvals(self) -> Array:
        """All min(m, n) singular values."""
        return svdvals(self.entries())

    def factors(self, name: str = "A") -> tuple[Array, Array]:
        """Two factors of the matrix: one of them the identity if there are no better ones."""
        A = self.entries(name)
        p, n = A.shape[-2:]
        eye = namespace(A).eye(min(p, n), dtype=A.dtype, device=device(A))
        return (eye, A) if p <= n else (A, eye)

    def placed(self, U: Array) -> Array:
        """Left vectors where the rows of the matrix are."""
        return U

    def minus(self, B: Array, C: Array) -> Matrix:
        """The matrix minus ``B @ C``, without forming either."""
        from eckart._matrices.product import Product
        from eckart._matrices.sum import Sum

        return Sum((self, Product(B, C)), (1.0, -1.0), self.like)


class Between(Matrix):
    """A matrix between two functions, which its products go through, and a power that they make."""

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
    """Some entries at a time of matrices of one shape, in the widest dtype."""
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
    """The axis that `strips` go along: rows if they cost nothing, else the short side."""
    m, n = matrices[0].shape[-2:]
    return -2 if all(A.reads_strips for A in matrices) or m < n else -1


def is_one(power: Array) -> bool:
    """Whether nothing has to be multiplied by a power, as for nearly all matrices."""
    return concrete_int(namespace(power).all(power == 1)) == 1
