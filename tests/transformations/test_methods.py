"""The iteration inside a transformation is as near as the eager one."""

import numpy as np
import pytest

import eckart
import zoo
from eckart._algorithms.methods import choice
from eckart._algorithms.rules import Rules
from truth import assert_promise_kept, parts, ways

pytestmark = pytest.mark.precision

SHAPE = (120, 90)


@pytest.mark.parametrize("way", ways("jit", "vmap", "compile"))
def test_traced_iteration_keeps_the_promise_of_the_eager_one(backend, dtype, way):
    """On every hard spectrum, whether it converges in a few steps, in many or not at all."""
    names = [*zoo.HARD_SPECTRA]
    stack = [zoo.matrix(zoo.HARD_SPECTRA[name](90), SHAPE, dtype=dtype) for name in names]

    def truncated(A):
        return eckart.truncated_svd(A, 6, method="krylov")

    traced = getattr(backend, way)(truncated)
    arrays = backend.asarray(np.stack(stack), dtype)
    whole = parts(backend, traced(arrays)) if way == "vmap" else None
    for i, (name, A) in enumerate(zip(names, stack, strict=True)):
        one = parts(backend, traced(arrays[i, ...])) if whole is None else [p[i] for p in whole]
        assert_promise_kept(one, A, zoo.HARD_SPECTRA[name](90), dtype=dtype)


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
@pytest.mark.parametrize(("shape", "rank"), [((2000, 5), 1), ((4096, 4096), 64)])
def test_traced_call_chooses_as_the_eager_one(backend, dtype, shape, rank):
    """By the shape and the rank, which a trace knows; but never the Gram matrix."""
    taken = []
    A = backend.xp.zeros(1, dtype=backend.dtype(dtype))

    def chosen(A):
        taken.append(choice(backend.xp.broadcast_to(A, shape), Rules(rank)))
        return A

    backend.jit(chosen)(A)
    assert taken == ["exact" if rank == 1 else "krylov"]
