"""The comparison helper refuses what it must."""

import numpy as np
import pytest

from compare import EPS, assert_within

pytestmark = pytest.mark.numpy_only


@pytest.mark.parametrize("name", EPS)
def test_distance_is_accepted_up_to_the_bound_and_refused_beyond(name):
    """The bound is ``units * size * eps * scale``, to the last bit of it."""
    bound = 3 * 7 * EPS[name] * 2.0
    assert_within([bound], [0.0], dtype=name, size=7, scale=2.0, units=3)
    with pytest.raises(AssertionError, match="exceeds"):
        assert_within([bound * (1 + 1e-12)], [0.0], dtype=name, size=7, scale=2.0, units=3)


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf, complex(0, np.nan)])
def test_what_is_not_finite_is_never_close(broken):
    """NaN is not close to NaN, and infinity not to infinity, on either side."""
    for pair in ([broken], [0.0]), ([0.0], [broken]), ([broken], [broken]):
        with pytest.raises(AssertionError, match="not finite"):
            assert_within(*pair, dtype="float64", size=1)


def test_infinite_scale_is_refused():
    """A bound without limit would accept everything."""
    for scale in np.inf, np.nan:
        with pytest.raises(AssertionError, match="scale"):
            assert_within([1.0], [0.0], dtype="float64", size=1, scale=scale)


def test_shapes_must_agree_without_broadcasting():
    """A broadcast would hide a missing axis, and an empty result every wrong value."""
    for actual, expected in ([1.0], [[1.0]]), ([], [1.0]), (1.0, [1.0]):
        with pytest.raises(AssertionError, match="shapes"):
            assert_within(actual, expected, dtype="float64", size=1)


def test_imaginary_part_counts():
    """A wrong imaginary part is a wrong answer."""
    with pytest.raises(AssertionError, match="exceeds"):
        assert_within([1 + 1e-3j], [1.0], dtype="complex128", size=1)
