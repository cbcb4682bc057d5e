"""A certificate inside a transformation is that of the eager call."""

import numpy as np
import pytest

import eckart
import zoo
from compare import assert_within
from truth import certificate_of, ways

RANK = 6


@pytest.mark.parametrize("way", ways("jit", "vmap"))
def test_traced_certificate_is_the_eager_one(backend, dtype, way):
    """Nothing depends on a look at values."""
    S = 1 / np.arange(1.0, 91)
    stack = backend.asarray(
        np.stack([zoo.matrix(S, (120, 90), dtype=dtype, seed=seed) for seed in (1, 2)]), dtype
    )
    array = stack if way == "vmap" else stack[0, ...]
    factors = eckart.truncated_svd(array, RANK, method="exact")
    eager = certificate_of(backend, array, factors)
    traced = getattr(backend, way)(eckart.certify)(array, factors)
    tolerance = {"dtype": dtype, "size": 120, "units": 16}
    for name in ("error", "relative_error", "spectral_error", "residuals", "orthogonality"):
        actual = backend.to_numpy(getattr(traced, name))
        assert_within(actual, getattr(eager, name), **tolerance)
