"""A certificate inside a transformation is that of the eager call."""

import numpy as np
import pytest

import eckart
import zoo
from compare import assert_within
from truth import given, in_numpy, truncated, ways

RANK = 6


@pytest.mark.parametrize("way", ways("jit", "vmap"))
def test_traced_certificate_is_the_eager_one(backend, dtype, way):
    """Nothing depends on a look at values: NumPy, which never traces, gives the same."""
    S = 1 / np.arange(1.0, 91)
    A = np.stack([zoo.matrix(S, (120, 90), dtype=dtype, seed=seed) for seed in (1, 2)])
    A = A if way == "vmap" else A[0]
    array, (factors, _) = backend.asarray(A, dtype), given(backend, dtype, truncated(A, RANK))
    eager = eckart.certify(*in_numpy(backend, (array, factors)))
    traced = getattr(backend, way)(eckart.certify)(array, factors)
    tolerance = {"dtype": dtype, "size": 120, "units": 16}
    for name in ("error", "relative_error", "spectral_error", "residuals", "orthogonality"):
        actual = backend.to_numpy(getattr(traced, name))
        assert_within(actual, getattr(eager, name), **tolerance)
