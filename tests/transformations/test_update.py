"""Updates inside a transformation are the eager ones."""

import numpy as np
import pytest

import eckart
import zoo
from compare import assert_within
from truth import in_numpy, svd_of, ways


@pytest.mark.parametrize("axis", [-2, -1])
@pytest.mark.parametrize("way", ways("jit", "compile"))
def test_traced_update_is_the_eager_one(backend, dtype, way, axis):
    """The width is known from the shapes alone."""
    factors, _ = svd_of(backend, zoo.normal((6, 6), dtype, 0), 3, dtype)
    new = backend.asarray(zoo.normal((6, 6), dtype, 1), dtype)
    expected = eckart.update(*in_numpy(backend, (factors, new)), 4, axis=axis)
    traced = getattr(backend, way)(lambda factors, new: eckart.update(factors, new, 4, axis=axis))
    actual = in_numpy(backend, traced(factors, new))
    assert isinstance(actual, eckart.Update)
    assert isinstance(actual.svd, eckart.SVD)
    pairs = zip((*actual.svd, actual.loss), (*expected.svd, expected.loss), strict=True)
    for one, other in pairs:
        assert_within(one, other, dtype=dtype, size=12, scale=5.0, units=4)


@pytest.mark.needs("vmap")
def test_mapped_update_is_that_of_the_stack(backend, dtype):
    """Mapping over matrices and batches gives what one stacked call gives."""
    factors, _ = svd_of(backend, zoo.normal((3, 6, 5), dtype, 0), 3, dtype)
    rows = backend.asarray(zoo.normal((3, 2, 5), dtype, 1), dtype)

    def flat(U, S, Vh, rows):
        svd, loss = eckart.update(eckart.SVD(U, S, Vh), rows)
        return (*svd, loss)

    arrays = (*factors, rows)
    mapped = in_numpy(backend, backend.vmap(lambda arrays: flat(*arrays))(arrays))
    for one, other in zip(mapped, flat(*in_numpy(backend, arrays)), strict=True):
        assert_within(one, other, dtype=dtype, size=8, scale=5.0, units=4)


@pytest.mark.parametrize("way", ways("jit", "compile"))
def test_traced_rows_that_are_not_finite_stay_visible(backend, way):
    """Values cannot be refused while traced: a NaN comes out as NaN."""
    factors, _ = svd_of(backend, zoo.normal((4, 3), "float32", 0), 2, "float32")
    rows = backend.asarray(np.asarray([[1.0, np.nan, 1.0]]), "float32")
    svd, loss = getattr(backend, way)(eckart.update)(factors, rows)
    assert np.isnan(backend.to_numpy(svd.S)).all()
    assert np.isnan(backend.to_numpy(loss))
