"""The kinds of matrix behind one protocol, `Matrix`, and their one door, `as_matrix`.

A kind of matrix is a class in a file of its own and a place in the line `KINDS`.
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

# The first kind that takes a matrix stands for it; the last one takes, or refuses, all the others.
KINDS: tuple[type[Matrix], ...] = (
    *(Matrix, Product, SciPySparse, TorchSparse, JAXSparse, LinearOperator, PyDataSparse),
    *(Chunked, Dense),
)


def as_matrix(name: str, A: Any) -> Matrix:
    """The matrix that an argument of a public function stands for, validated."""
    kind = next(kind for kind in KINDS if kind.takes(A))
    matrix: Matrix = kind.of(name, A)
    return matrix


def of_parts(parts: tuple[Array, ...]) -> Matrix:
    """The matrix with these parts."""
    return Dense(*parts) if len(parts) == 1 else Product(*parts)
