"""What every kind of matrix does: the tests of a kind inherit it and write two functions."""

from __future__ import annotations

from typing import Any

import array_api_compat
import numpy as np
import pytest

import eckart
import zoo
from compare import EPS, assert_within
from eckart._algorithms.methods import METHODS, Method
from eckart._algorithms.triplets import Triplets
from eckart._arrays.namespace import working
from eckart._matrices import as_matrix

SHAPE, RANK = (9, 6), 2
VALUES = np.asarray([4.0, 2.0, 1.0, 0.5, 0.0, 0.0])


class MatrixContract:
    """A kind of matrix stands for a matrix of rank four."""

    def make(self, backend: Any, A: Any, dtype: str) -> Any:
        """What a user has of this kind, for a NumPy matrix in double precision."""
        raise NotImplementedError

    def kind(self) -> type:
        """The class that stands for it inside."""
        raise NotImplementedError

    @pytest.fixture
    def A(self, dtype):
        """The matrix, as `dtype` holds it."""
        return zoo.rounded(zoo.matrix(VALUES, SHAPE, dtype=dtype, seed=3), dtype)

    @pytest.fixture
    def given(self, backend, A, dtype):
        return self.make(backend, A, dtype)

    @pytest.fixture
    def matrix(self, given):
        return as_matrix("A", given)

    def array(self, backend, values, dtype):
        """An array of the library, of NumPy for Dask, whose chunks are NumPy's."""
        return values if backend.library == "dask" else backend.asarray(values, dtype)

    def near(self, backend, dtype, actual, expected, scale=16.0):
        """Refuse what is further from the truth than rounding."""
        assert_within(backend.to_numpy(actual), expected, dtype=dtype, size=9, scale=scale)

    def block(self, backend, dtype, rows, seed=5):
        """Columns to multiply with, of NumPy and of the library."""
        X = zoo.random((rows, 3), dtype, seed)
        return X, self.array(backend, X, dtype)

    def test_one_kind_stands_for_it(self, matrix):
        """The door knows it, and a matrix that went through the door goes through it as it is."""
        assert isinstance(matrix, self.kind())
        assert as_matrix("A", matrix) is matrix

    def test_shape_dtype_and_device_are_those_of_the_matrix(self, backend, matrix, dtype):
        """Shape, dtype and device of what came."""
        assert tuple(matrix.shape) == SHAPE
        assert matrix.dtype == matrix.like.dtype == backend.dtype(dtype)
        here = backend.to_numpy(matrix.like[..., :0]) if backend.library == "dask" else matrix.like
        assert array_api_compat.device(here) is not None

    def test_matmul_is_the_product(self, backend, A, matrix, dtype):
        """``A @ X``."""
        X, given = self.block(backend, dtype, 6)
        self.near(backend, dtype, matrix.matmul(given), A @ X)

    def test_rmatmul_is_the_product_of_the_adjoint(self, backend, A, matrix, dtype):
        """``adjoint(A) @ X``."""
        X, given = self.block(backend, dtype, 9)
        self.near(backend, dtype, matrix.rmatmul(given), A.conj().T @ X)

    def test_gram_matmul_is_both_products(self, backend, A, matrix, dtype):
        """``adjoint(A) @ A @ X``."""
        X, given = self.block(backend, dtype, 6)
        self.near(backend, dtype, matrix.gram_matmul(given), A.conj().T @ (A @ X), 64)

    def test_adjoint_exchanges_the_products(self, backend, A, matrix, dtype):
        """And the two lengths."""
        X, given = self.block(backend, dtype, 9)
        turned = matrix.adjoint()
        assert tuple(turned.shape) == SHAPE[::-1]
        self.near(backend, dtype, turned.matmul(given), A.conj().T @ X)
        self.near(backend, dtype, turned.formed(), A.conj().T)

    def test_strips_are_entries(self, backend, A, matrix, dtype):
        """Some rows, and some columns."""
        self.near(backend, dtype, matrix.strip(-2, 2, 5), A[2:5])
        self.near(backend, dtype, matrix.strip(-1, 1, 5), A[:, 1:5])

    def test_entries_are_those_of_the_matrix(self, backend, A, matrix, dtype):
        """However they are found."""
        self.near(backend, dtype, matrix.entries(), A)
        self.near(backend, dtype, matrix.formed(), A)
        assert not matrix.loaded().passes()
        self.near(backend, dtype, matrix.loaded().entries(), A)

    def test_energy_is_the_sum_of_the_squares(self, backend, A, matrix, dtype):
        """Also of a multiple."""
        total = np.sum(np.abs(A) ** 2)
        matrix = matrix.loaded()
        self.near(backend, dtype, matrix.energy(), total, 64)
        self.near(backend, dtype, matrix.energy(0.5), total / 4, 64)

    def test_inner_product_is_that_of_the_entries(self, backend, A, matrix, dtype):
        """With itself, with an array and with factors, from both sides."""
        C = zoo.random(SHAPE, dtype, 7)
        array = as_matrix("C", backend.asarray(C, dtype))
        factors = eckart.LowRank(backend.asarray(C, dtype), backend.asarray(np.eye(6), dtype))
        matrix = matrix.loaded()
        self.near(backend, dtype, matrix.inner(matrix), np.vdot(A, A), 64)
        for other in array, as_matrix("C", factors):
            self.near(backend, dtype, matrix.inner(other), np.vdot(A, C), 64)
            self.near(backend, dtype, other.inner(matrix), np.vdot(C, A), 64)

    @pytest.mark.parametrize("end", [-1, 0, 1])
    def test_scaled_is_a_power_of_two_away(self, backend, A, dtype, end):
        """Whatever the size of the entries, and the fourth powers of its values fit the dtype."""
        scale = 2.0 ** (end * (90 if EPS[dtype] > 1e-10 else 480))
        matrix = as_matrix("A", self.make(backend, A * scale, dtype)).loaded()
        scaled, power = matrix.scaled()
        power = float(backend.to_numpy(power)[0, 0])
        assert np.frexp(power)[0] == 0.5
        X, given = self.block(backend, dtype, 6)
        self.near(backend, dtype, scaled.matmul(given), A @ X * scale * power, 16 * scale * power)
        total = np.sum(np.abs(A * scale * power) ** 2)
        self.near(backend, dtype, scaled.energy(), total, 64 * total)

    def test_what_is_not_finite_has_no_power(self, backend, A, dtype):
        """Its power is NaN, and is refused by every function as not finite."""
        broken = self.make(backend, np.where(A == A[1, 1], np.nan, A), dtype)
        power = as_matrix("A", broken).loaded().scaled()[1]
        assert np.isnan(backend.to_numpy(power)).all()
        for function in eckart.singular_values, eckart.norm, eckart.stable_rank:
            with pytest.raises(ValueError, match=r"`A.*` must be finite"):
                function(broken)

    def test_minus_is_the_remainder(self, backend, A, matrix, dtype):
        """Its products and its energy."""
        B, C = zoo.random((9, 2), dtype, 1), zoo.random((2, 6), dtype, 2)
        rest = matrix.loaded().minus(self.array(backend, B, dtype), self.array(backend, C, dtype))
        X, given = self.block(backend, dtype, 6)
        self.near(backend, dtype, rest.matmul(given), (A - B @ C) @ X, 64)
        self.near(backend, dtype, rest.energy(), np.sum(np.abs(A - B @ C) ** 2), 256)

    def test_factors_multiply_to_it(self, backend, A, matrix, dtype):
        """Two of them, of a matrix that is in memory."""
        B, C = map(backend.to_numpy, matrix.loaded().factors())
        assert_within(B @ C, A, dtype=dtype, size=9, scale=16.0)

    def test_reduced_has_parts_and_the_same_singular_values(self, backend, matrix, dtype):
        """A derivative is taken with respect to the parts."""
        reduced = matrix.reduced()
        assert len(reduced.parts) in (1, 2)
        self.near(backend, dtype, reduced.svdvals(), VALUES)

    def test_every_method_is_prepared(self, backend, A, matrix, dtype):
        """The matrix comes out in the form that a method needs."""
        for needs in None, "products", "entries":
            prepared = matrix.prepared(needs)
            assert prepared.parts or needs != "entries"
            self.near(backend, dtype, prepared.loaded().entries(), A)

    def test_a_method_that_is_registered_reaches_it(self, backend, A, given, dtype, monkeypatch):
        """By a line in the table of methods and no other; factors are decomposed by themselves."""
        met = []

        def leading(matrix, rules, **_):
            met.append(matrix)
            return Triplets(*(matrix.loaded().svd(rules.rank)))

        for needs in "products", "entries":
            monkeypatch.setitem(METHODS, "registered", Method(leading, needs))
            found = eckart.truncated_svd(given, RANK, method="registered")
            self.near(backend, dtype, found.S, VALUES[:RANK])
        factors = as_matrix("A", given).has_factors
        assert [bool(matrix.parts) for matrix in met][1:] == ([] if factors else [True])
        assert len(met) == (0 if factors else 2)

    def test_svd_has_the_triplets(self, backend, A, matrix, dtype):
        """As many as are asked for, or all."""
        U, S, Vh = map(backend.to_numpy, matrix.loaded().svd(3))
        assert len(S) >= 3
        assert_within((U * S) @ Vh, A, dtype=dtype, size=9, scale=16.0)

    def test_constant_has_the_same_products(self, backend, A, matrix, dtype):
        """In the dtype that is computed in."""
        X, given = self.block(backend, dtype, 6)
        constant = matrix.constant(lambda array: array, lambda product: product)
        assert constant.like.dtype == working(matrix.like).dtype
        self.near(backend, dtype, constant.matmul(given), A @ X)

    def test_it_is_a_term_of_a_sum(self, backend, A, given, dtype):
        """With an array, from both sides; a weight may be complex where the matrix is."""
        C, weight = zoo.random(SHAPE, dtype, 7), 2 - 1j if dtype.startswith("complex") else 2.0
        total = eckart.add(given, backend.asarray(C, dtype), weights=[weight, -1.0])
        assert isinstance(total, eckart.Operator)
        W = weight * A - C
        self.near(backend, dtype, total @ self.array(backend, np.eye(6, dtype=dtype), dtype), W, 64)
        turned = total.rmatmul(self.array(backend, np.eye(9, dtype=dtype), dtype))
        self.near(backend, dtype, turned, W.conj().T, 64)

    def test_functions_of_a_matrix_take_it(self, backend, A, given, dtype):
        """The same figures as of the matrix itself, however it is known."""
        for method in "exact", "krylov":
            S = eckart.truncated_svd(given, RANK, method=method).S
            self.near(backend, dtype, S, VALUES[:RANK])
        factors = eckart.factorize(given, RANK)
        best = np.sqrt(np.sum(VALUES[RANK:] ** 2))
        self.near(backend, dtype, eckart.certify(given, factors).error, best)
        self.near(backend, dtype, eckart.norm(given), np.linalg.norm(VALUES))
        self.near(backend, dtype, eckart.norm(given, "spectral"), VALUES[0])
        rows = eckart.update(factors, given, 4).svd
        assert tuple(rows.shape) == (18, 6)
        assert int(eckart.matrix_rank(given, rtol=1e-3)) == 4

    def test_linear_applies_it(self, backend, A, given, dtype):
        """To one vector and to rows of them, with a bias."""
        x, array = self.block(backend, dtype, 6)
        bias, shift = self.block(backend, dtype, 9, seed=6)
        self.near(backend, dtype, eckart.linear(array.T, given), x.T @ A.T, 64)
        self.near(backend, dtype, eckart.linear(array[:, 0], given), A @ x[:, 0], 64)
        shifted = eckart.linear(array.T[None, ...], given, shift[:, 0])
        self.near(backend, dtype, shifted, (x.T @ A.T + bias[:, 0])[None], 64)
