"""The way that is taken is the one that the cost model says is fastest."""

import numpy as np
import pytest

import eckart
import zoo
from compare import assert_within
from eckart._choice import COSTS, choice
from eckart._tolerance import Rules


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


@pytest.mark.needs("jit")
def test_traced_call_takes_the_full_decomposition(backend, dtype):
    """Which needs no look at values to know that it is right."""
    A = backend.asarray(zoo.matrix(np.arange(5.0, 0, -1), (2000, 5), dtype=dtype), dtype)
    taken = []
    backend.jit(lambda A: taken.append(choice(A, Rules(1))) or A)(A)
    assert taken == ["exact"]


def test_auto_agrees_with_the_full_decomposition_at_a_size_where_it_is_not_taken(backend):
    """On every library, by whatever way its costs say."""
    k = 400
    S = 1 / np.arange(1.0, k + 1)
    A = backend.asarray(zoo.matrix(S, (1200, k), dtype="float32"), "float32")
    values = backend.to_numpy(eckart.truncated_svd(A, 4).S)
    assert_within(values, S[:4], dtype="float32", size=1200)
