"""The iteration inside a transformation is as near as the eager one."""

import numpy as np
import pytest

import eckart
import zoo
from eckart._algorithms.choice import choice
from eckart._algorithms.rules import Rules
from truth import accuracy, assert_promise_kept, parts, ways

pytestmark = pytest.mark.precision

SHAPE = (120, 90)


@pytest.mark.parametrize("way", ways("jit", "vmap"))
def test_traced_iteration_of_fixed_depth_is_as_near(backend, dtype, way):
    """Without a look at values, the block is wider than the rank, so that no copy is missed."""
    names = [name for name in zoo.HARD_SPECTRA if name not in ("linear", "almost flat")]
    stack = [zoo.matrix(zoo.HARD_SPECTRA[name](90), SHAPE, dtype=dtype) for name in names]

    def truncated(A):
        return eckart.truncated_svd(A, 6, method="krylov")

    traced = getattr(backend, way)(truncated)
    arrays = backend.asarray(np.stack(stack), dtype)
    whole = parts(backend, traced(arrays)) if way == "vmap" else None
    for i, (name, A) in enumerate(zip(names, stack, strict=True)):
        one = parts(backend, traced(arrays[i, ...])) if whole is None else [p[i] for p in whole]
        S = zoo.HARD_SPECTRA[name](90)
        assert_promise_kept(one, A, S, dtype=dtype, promised=max(accuracy(dtype), 1e-3))


@pytest.mark.needs("jit")
def test_traced_tolerance_masks_what_it_drops(backend, dtype):
    """Width is the static rank, and an error counts what lies beyond it."""
    S = 1 / np.arange(1.0, 91)
    array = backend.asarray(zoo.matrix(S, SHAPE, dtype=dtype, seed=2), dtype)
    for rules in {"rtol": 0.3}, {"error": 0.5}, {"error": 0.01}:
        traced = backend.jit(
            lambda A, rules=rules: eckart.truncated_svd(A, 6, method="krylov", **rules)
        )
        values = backend.to_numpy(traced(array).S)
        assert values.shape == (6,)
        assert np.count_nonzero(values) == min(6, eckart.select_rank(S, **rules))


@pytest.mark.needs("jit")
def test_traced_call_takes_the_full_decomposition(backend, dtype):
    """Which needs no look at values to know that it is right."""
    A = backend.asarray(zoo.matrix(np.arange(5.0, 0, -1), (2000, 5), dtype=dtype), dtype)
    taken = []
    backend.jit(lambda A: taken.append(choice(A, Rules(1))) or A)(A)
    assert taken == ["exact"]
