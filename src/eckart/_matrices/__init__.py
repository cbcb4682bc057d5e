"""The kinds of matrix with one protocol, `Matrix`, and the function that makes them, `as_matrix`.

A kind of matrix is a class in a file of its own and an entry of `KINDS`.
"""

from __future__ import annotations

from typing import Any

from eckart._arrays.namespace import Array
from eckart._matrices.chunked import Chunked
from eckart._matrices.dense import Dense
from eckart._matrices.linear_operator import LinearOperator
from eckart._matrices.matrix import Matrix
from eckart._matrices.product import Product
from eckart._matrices.pydata import PyDataSparse
from eckart._matrices.sparse import JAXSparse, SciPySparse, TorchSparse

__all__ = ["KINDS", "Matrix", "as_matrix", "of_parts"]

# The first kind that takes an argument is used. The last kind takes every argument, or refuses it.
KINDS: tuple[type[Matrix], ...] = (
    *(Matrix, Product, SciPySparse, TorchSparse, JAXSparse, LinearOperator, PyDataSparse),
    *(Chunked, Dense),
)


def as_matrix(name: str, A: Any) -> Matrix:
    """The validated matrix of an argument of a public function."""
    kind = next(kind for kind in KINDS if kind.takes(A))
    matrix: Matrix = kind.of(name, A)
    return matrix


def of_parts(parts: tuple[Array, ...]) -> Matrix:
    """The matrix of these parts: its entries, or two factors."""
    return Dense(*parts) if len(parts) == 1 else Product(*parts)
