"""The way that is taken is the one that the cost model says is fastest."""

import numpy as np
import pytest

from eckart._algorithms.methods import COSTS, choice
from eckart._algorithms.rules import Rules


def zeros(shape, dtype="float32"):
    """A matrix that takes no memory."""
    return np.broadcast_to(np.zeros(1, dtype), shape)


@pytest.mark.numpy_only
@pytest.mark.parametrize(
    ("shape", "kind", "rank", "way"),
    [
        ((64, 64), "float32", 1, "exact"),
        ((4096, 4096), "float32", 64, "krylov"),
        ((4096, 4096), "complex128", 64, "krylov"),
        ((4096, 4096), "float32", 0, "krylov"),
        ((4096, 4096), "float32", None, "krylov"),
        ((4096, 4096), "float32", 1000, "exact"),
        ((200, 200), "float32", 8, "exact"),
        ((1000, 200, 200), "float32", 8, "krylov"),
        ((20000, 500), "float32", 50, "gram"),
        ((500, 20000), "complex64", 50, "gram"),
        ((20000, 500), "float64", 10, "krylov"),
        ((200, 20), "float32", 5, "exact"),
        ((0, 500), "float32", 0, "exact"),
    ],
    ids=str,
)
def test_choice_follows_shape_rank_and_dtype(shape, kind, rank, way):
    """Small matrices and large ranks are decomposed in full, short sides by their Gram matrix."""
    assert choice(zeros(shape, kind), Rules(rank)) == way


@pytest.mark.numpy_only
def test_double_precision_is_never_left_to_the_gram_matrix():
    """It has no wider format to square in."""
    assert all(double.part == 0 for _, double in COSTS.values())
