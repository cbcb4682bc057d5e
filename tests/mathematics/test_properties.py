"""Theorems that hold for every matrix, on matrices that hypothesis looks for."""

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.array_api import make_strategies_namespace

import eckart
import zoo
from compare import assert_within

# JAX compiles each new shape, so a first run is slow; and the fixtures are those of the session.
settings.register_profile(
    "eckart",
    deadline=None,
    max_examples=25,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("eckart")


xps = make_strategies_namespace(np)


@st.composite
def spectra(draw, k):
    """Descending values in [0, 1] with repeats and zeros, the first one 1 unless all are 0."""
    values = draw(
        st.lists(st.sampled_from([0.0, 1e-8, 1e-3, 0.1, 0.5, 0.5, 1.0]), min_size=k, max_size=k)
    )
    return np.sort(np.asarray(values))[::-1]


@st.composite
def matrices(draw, dtypes):
    """A matrix or a stack with chosen spectra, shape, scale and dtype."""
    dtype = draw(st.sampled_from(dtypes))
    m, n = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    stack = draw(st.sampled_from([(), (2,)]))
    scale = draw(st.sampled_from([1e-20, 1.0, 1e20]))
    S = [draw(spectra(min(m, n))) for _ in range(int(np.prod(stack)))]
    A = [zoo.matrix(s, (m, n), dtype=dtype, seed=draw(st.integers(0, 3))) for s in S]
    shape = (*stack, m, n)
    return np.reshape(A, shape), np.reshape(S, (*stack, min(m, n))), scale, dtype


@given(data=st.data())
def test_truncation_is_as_near_as_its_spectrum_allows(backend, data):
    """Eckart–Young equality and orthonormality for any rank, scale, stack and dtype."""
    A, S, scale, dtype = data.draw(matrices(backend.dtypes()))
    rank = data.draw(st.integers(0, S.shape[-1]))
    factors = eckart.truncated_svd(backend.asarray(scale * A, dtype), rank)
    U, values, Vh = (backend.to_numpy(part) for part in factors)
    values = values.astype(float) / scale
    tolerance = {"dtype": dtype, "size": max(A.shape[-2:]), "units": 16}
    assert_within(values, S[..., :rank], **tolerance)
    error = np.linalg.norm(A - (U * values[..., None, :]) @ Vh, axis=(-2, -1))
    assert_within(error, np.linalg.norm(S[..., rank:], axis=-1), **tolerance)
    identity = np.broadcast_to(np.eye(rank), (*A.shape[:-2], rank, rank))
    assert_within(np.conj(np.swapaxes(U, -1, -2)) @ U, identity, **tolerance)
    assert_within(Vh @ np.conj(np.swapaxes(Vh, -1, -2)), identity, **tolerance)


@given(data=st.data())
def test_result_never_exceeds_what_a_rule_allows(backend, data):
    """Rules only lower the rank, and what they give is what select_rank says of the spectrum."""
    A, S, scale, dtype = data.draw(matrices(backend.dtypes()))
    array = backend.asarray(scale * A, dtype)
    rules = {
        "rank": data.draw(st.none() | st.integers(0, S.shape[-1])),
        "rtol": data.draw(st.none() | st.sampled_from([0.01, 0.2, 0.7])),
        "error": data.draw(st.none() | st.sampled_from([0.01, 0.3, 0.9])),
    }
    factors = eckart.truncated_svd(array, **rules)
    if rules["rank"] is not None:
        assert factors.rank <= rules["rank"]
    if rules["rtol"] is not None:
        kept = np.count_nonzero(backend.to_numpy(factors.S), axis=-1)
        assert np.all(kept <= np.count_nonzero(S > rules["rtol"] * S[..., :1] - 1e-3, axis=-1))
    if rules["error"] is not None and rules["rank"] is None and rules["rtol"] is None:
        W = backend.to_numpy(eckart.reconstruct(factors)).astype(complex) / scale
        error = np.linalg.norm(A - W, axis=(-2, -1))
        assert np.all(error <= (rules["error"] + 1e-5) * np.linalg.norm(S, axis=-1))


@given(data=st.data())
def test_ranks_are_ordered(backend, data):
    """1 <= stable rank <= rank and 1 <= effective rank, up to rounding; all 0 at zero."""
    A, S, scale, dtype = data.draw(matrices(backend.dtypes()))
    array = backend.asarray(scale * A, dtype)
    stable = backend.to_numpy(eckart.stable_rank(array))
    effective = backend.to_numpy(eckart.effective_rank(array))
    nonzero = S[..., 0] > 0
    assert np.all((stable == 0) == ~nonzero)
    assert np.all(stable >= nonzero - 1e-5)
    assert np.all(effective >= nonzero - 1e-5)
    assert np.all(stable <= np.count_nonzero(S, axis=-1) + 1e-3)
    assert np.all(effective <= S.shape[-1] + 1e-3)


@given(data=st.data())
def test_any_entries_at_all_are_decomposed(backend, data):
    """Whatever hypothesis writes into a matrix, its triplets are those of a nearby matrix."""
    dtype = data.draw(st.sampled_from(backend.dtypes()))
    shape = data.draw(xps.array_shapes(min_dims=2, max_dims=3, min_side=0, max_side=4))
    entries = st.floats(-1e6, 1e6, allow_subnormal=False)
    A = data.draw(xps.arrays(np.float64, shape, elements=entries))
    A = np.where(np.abs(A) < 1e-6, 0.0, A)
    factors = eckart.truncated_svd(backend.asarray(A, dtype), min(shape[-2:]))
    W = backend.to_numpy(eckart.reconstruct(factors))
    scale = np.max(np.linalg.norm(A, axis=(-2, -1)), initial=0.0)
    assert_within(W, A, dtype=dtype, size=8, scale=scale, units=4)
    ranks = backend.to_numpy(eckart.matrix_rank(backend.asarray(A, dtype)))
    assert np.all(ranks <= np.asarray(np.count_nonzero(np.any(A, axis=-1), axis=-1)))
