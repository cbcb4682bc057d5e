"""Second derivatives at singular values that are equal: right, or NaN."""

import numpy as np
import pytest

import eckart
import zoo

pytestmark = pytest.mark.needs("grad", "double")

SPECTRA = {"tied": [2.0, 2.0, 1.0], "zeros": [2.0, 0.0, 0.0], "apart": [3.0, 2.0, 1.0]}


def functions(xp):
    """Symmetric functions of the singular values, and one that is not."""
    return {
        "sum": lambda A: xp.sum(eckart.singular_values(A)),
        "cubes": lambda A: xp.sum(eckart.truncated_svd(A, 3).S ** 3),
        "distance": lambda A: xp.sum((eckart.singular_values(A) - 2.0) ** 2),
        "error": lambda A: eckart.truncation_error(eckart.singular_values(A), 1),
        "rank": eckart.stable_rank,
        "entropy": eckart.effective_rank,
    }


@pytest.mark.parametrize("spectrum", SPECTRA)
def test_second_derivative_of_singular_values_is_right_or_nan(backend, spectrum):
    """By differences along the direction where values are apart; NaN where some are equal."""
    every = functions(backend.xp)
    A = zoo.matrix(np.asarray(SPECTRA[spectrum]), (3, 3), dtype="float64")
    D = zoo.random((3, 3), "float64", 4)
    grad = backend.transform("grad")
    direction = backend.asarray(D, "float64")

    def changes(A):
        return tuple(backend.xp.sum(grad(function)(A) * direction) for function in every.values())

    found = backend.along(changes, backend.asarray(A, "float64"), direction)
    for name, second in zip(every, map(backend.to_numpy, found), strict=True):
        if spectrum != "apart":
            assert np.isnan(second), name
            continue
        function, h = functions(np)[name], 1e-3
        values = [float(function(A + k * h * D)) for k in (-2, -1, 0, 1, 2)]
        expected = np.dot(values, [-1, 16, -30, 16, -1]) / (12 * h * h)
        assert abs(second - expected) < 1e-5 * (1 + abs(expected)), name
