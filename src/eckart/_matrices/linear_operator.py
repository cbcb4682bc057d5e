"""Linear operators of SciPy."""

from __future__ import annotations

from typing import Any

import numpy as np

from eckart import _refusals
from eckart._arrays.namespace import native
from eckart._matrices.matrix import Matrix
from eckart._matrices.operator import Operator, compared
from eckart._matrices.sparse import is_class


class LinearOperator(Operator):
    """A LinearOperator of SciPy with products from both sides."""

    @staticmethod
    def takes(A: Any) -> bool:
        return hasattr(A, "rmatmat") and is_class(A, "scipy.sparse.linalg", "LinearOperator")

    @classmethod
    def of(cls, name: str, A: Any) -> Matrix:
        _refusals.one_matrix(name, A)
        for side in (A, A.adjoint()):
            column = np.zeros((side.shape[0], 1), dtype=A.dtype)
            try:
                side.rmatmat(column)
            except NotImplementedError:
                _refusals.refuse_one_sided(name)
            except TypeError:  # from SciPy, which calls None, or from the caller's own product
                try:
                    side.rmatvec(column[:, 0])
                except NotImplementedError:
                    _refusals.refuse_one_sided(name)
                raise
        like = native(np.empty((0, 0), dtype=A.dtype))
        words = _refusals.Words(name, f"{name}.matvec", f"{name}.rmatvec")
        return compared(A.shape, A.matmat, A.rmatmat, like, words)
