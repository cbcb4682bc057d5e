"""Block Lanczos iteration on the Gram matrix, which keeps only a basis of the short side.

A product with ``adjoint(A) @ A`` takes one pass over the data.
"""

from __future__ import annotations

import math
from typing import Protocol

from eckart._algorithms.basis import (
    Basis,
    bordered,
    largest_norm,
    next_block,
    norms_of_product,
    project_out,
)
from eckart._arrays.control import Count, leading
from eckart._arrays.linalg import eigh, matmul, qr, root, svd
from eckart._arrays.namespace import Array, adjoint, concrete_int, device, namespace
from eckart._arrays.spectra import unit


class Gram(Protocol):
    """The product with ``adjoint(A) @ A``."""

    @property
    def eps(self) -> float:
        """Machine epsilon of the products."""

    @property
    def can_widen(self) -> bool:
        """Whether products can be computed in a wider dtype."""

    def product(self, X: Array) -> Array:
        """``adjoint(A) @ A @ X``, in the dtype of `X`."""


class OneSided:
    """A basis ``P`` with ``L = adjoint(P) @ M @ P`` for the Gram matrix ``M``.

    The iteration of Golub and Underwood [1]_ with full reorthogonalisation. The part of ``L``
    outside of its blocks is computed, not assumed.

    Vectors of values below ``sqrt(eps) * S[0]`` are arbitrary. Their residuals are no larger than
    this.

    References
    ----------
    .. [1] G. H. Golub and R. Underwood, "The block Lanczos method for computing eigenvalues",
       Mathematical Software III, 1977.
    """

    def __init__(self, gram: Gram, seed: int) -> None:
        self.gram, self.seed = gram, seed

    @property
    def can_widen(self) -> bool:
        """Whether products can be computed in a wider dtype."""
        return self.gram.can_widen

    def begun(self, P: Array, W: Array) -> Basis:
        """The basis of orthonormal columns `P`, given their products `W`."""
        remainder, L = project_out(W, P)
        scale = largest_norm(W)
        lost = namespace(scale).zeros_like(scale[..., 0])
        return Basis(P, None, 0.5 * (L + adjoint(L)), remainder, scale, lost, P.shape[-1], 1)

    def extended(self, basis: Basis) -> Basis:
        """The basis with one more block, by one product."""
        P, Q, L, _, scale, lost, size, stream = basis
        P_next = self._next(basis)
        W = self.gram.product(P_next)
        after = self.begun(P_next, W)
        remainder, C = project_out(after.remainder, P)
        L = bordered(L, adjoint(C), namespace(C).concat([C, after.L], axis=-2), size)
        P = namespace(P).concat([P, P_next], axis=-1)
        scale = namespace(scale).maximum(scale, after.scale)
        return Basis(P, Q, L, remainder, scale, lost, P.shape[-1], stream + 1)

    def ritz(self, basis: Basis) -> tuple[Array, Array, Array]:
        """Ritz values, descending, residuals, and the lower bounds of these from rounding."""
        S, Y = self._eigenpairs(basis)
        xp, eps = namespace(S), self.gram.eps
        values = xp.maximum(S, math.sqrt(eps) * unit(S))
        residuals = norms_of_product(basis.remainder, Y[-basis.width :, :]) / values
        return S, xp.maximum(residuals, basis.lost), 0.5 * eps * S[:1] * S[:1] / values

    def restarted(self, basis: Basis, keep: Count) -> Basis:
        """The basis of only the leading Ritz vectors, whose residuals lie in the remainder."""
        S, Y = self._eigenpairs(basis)
        S = leading(S, keep, axis=-1)
        eye = namespace(S).eye(S.shape[-1], dtype=Y.dtype, device=device(S))
        P = matmul(basis.P, leading(Y, keep, axis=-1))
        return basis._replace(P=P, L=(S * S)[:, None] * eye, size=P.shape[-1])

    def completed(self, basis: Basis, width: int) -> Array:
        """Right vectors: Ritz vectors after one more power step, if their values are not rounding.

        With an orthonormal basis ``Q`` of ``A @ P``, they are the leading left singular vectors of
        ``adjoint(A) @ Q``, as in the Nyström approximation [1]_. So the last products are used too.

        References
        ----------
        .. [1] J. A. Tropp and R. J. Webber, "Randomized algorithms for low-rank matrix
           approximation: design, analysis, and applications", 2023, arXiv:2306.12418.
        """
        P, remainder, b = basis.P, basis.remainder, basis.width
        S, Y = self._eigenpairs(basis)
        xp, width = namespace(P), min(width, S.shape[-1])
        is_clear = S > math.sqrt(self.gram.eps) * S[:1]
        clear = concrete_int(xp.count_nonzero(is_clear)) or 0
        Y_clear, P_next = Y[:, :clear] / S[:clear], self._next(basis)
        corner = matmul(adjoint(P_next), remainder)
        product = xp.concat([matmul(basis.L, Y_clear), matmul(corner, Y_clear[-b:, :])], axis=-2)
        X, _, _ = svd(product)
        V = matmul(xp.concat([P, P_next], axis=-1), X[:, : min(width, clear)])
        if clear >= width:
            return V
        return qr(xp.concat([V, matmul(P, Y[:, clear:width])], axis=-1))[0]

    def _eigenpairs(self, basis: Basis) -> tuple[Array, Array]:
        """Ritz values of the matrix, descending, and the coefficients of their vectors in ``P``."""
        squares, Y = (namespace(basis.L).flip(part, axis=-1) for part in eigh(basis.L))
        return root(squares), Y

    def _next(self, basis: Basis) -> Array:
        """The next block of ``P``, with at most as many columns as the space has left."""
        P, remainder = basis.P, basis.remainder
        room = min(P.shape[0] - P.shape[-1], basis.width)
        return next_block(
            *(remainder[:, :room], P, basis.scale),
            eps=self.gram.eps,
            seed=self.seed,
            stream=basis.stream,
        )
