"""The fixed-shape rule: inside jit, vmap and compile the width is the static rank."""

import numpy as np
import pytest

import eckart
import zoo
from compare import assert_within
from truth import in_numpy, parts, ways


def stack(backend, dtype, count=3):
    S = np.asarray([3.0, 1.0, 0.5, 0.0])
    A = np.stack([zoo.matrix(S, (6, 4), dtype=dtype, seed=seed) for seed in range(count)])
    return backend.asarray(A, dtype), A, S


@pytest.mark.parametrize("way", ways("jit", "compile"))
def test_traced_factors_are_the_eager_ones(backend, dtype, way):
    """With the rank alone, tracing changes nothing: NumPy, which never traces, gives the same."""
    A = stack(backend, dtype)[0][0, ...]
    bias = backend.asarray(np.ones(6), dtype)

    def layer(A, bias):
        factors = eckart.factorize(A, 2)
        y = eckart.linear(A[0, :], factors, bias)
        return eckart.truncated_svd(A, 2), factors, y, eckart.reconstruct(factors)

    expected = layer(*in_numpy(backend, (A, bias)))
    actual = in_numpy(backend, getattr(backend, way)(layer)(A, bias))
    assert isinstance(actual[0], eckart.SVD)
    assert isinstance(actual[1], eckart.LowRank)
    flat = [*actual[0], *actual[1], *actual[2:]], [*expected[0], *expected[1], *expected[2:]]
    for one, other in zip(*flat, strict=True):
        assert_within(one, other, dtype=dtype, size=6, scale=9, units=8)


@pytest.mark.parametrize("way", ways("jit", "compile"))
@pytest.mark.parametrize("rules", [{"rtol": 0.25}, {"atol": 0.7}, {"error": 0.2}], ids=str)
def test_traced_width_is_the_rank_and_what_a_tolerance_drops_is_zero(backend, dtype, way, rules):
    """A tracer has no rank to trim to: the dropped triplets are exactly zero."""
    arrays, A, S = stack(backend, dtype)
    kept, ranks = 2, {3: 3, None: 4, 1: 1}

    def every(*arrays):
        return [[eckart.truncated_svd(A, rank, **rules) for rank in ranks] for A in arrays]

    traced = getattr(backend, way)(every)(arrays[0, ...], arrays)
    for dense, results in zip((A[0], A), traced, strict=True):
        for width, factors in zip(ranks.values(), results, strict=True):
            U, values, Vh = parts(backend, factors)
            assert values.shape[-1] == width
            assert not values[..., kept:].any()
            assert not U[..., kept:].any()
            assert not Vh[..., kept:, :].any()
            number = min(kept, width)
            remainder = np.linalg.norm(dense - (U * values[..., None, :]) @ Vh, axis=(-2, -1))
            expected = np.full(remainder.shape, np.linalg.norm(S[number:]))
            assert_within(remainder, expected, dtype=dtype, size=6, scale=3, units=8)


@pytest.mark.needs("vmap")
def test_mapped_results_are_those_of_the_stack(backend, dtype):
    """Mapping over matrices gives what one stacked call gives."""
    arrays = stack(backend, dtype)[0]

    def everything(A):
        factors = eckart.factorize(A, 3, rtol=0.25)
        S = eckart.singular_values(A)
        return (
            *eckart.truncated_svd(A, 2),
            eckart.reconstruct(factors),
            S,
            eckart.matrix_rank(A),
            eckart.stable_rank(A),
            eckart.effective_rank(A),
            eckart.select_rank(S, error=0.2),
            eckart.truncation_error(S, 1),
            eckart.hard_threshold(S, (6, 4)),
        )

    mapped = in_numpy(backend, backend.vmap(everything)(arrays))
    for one, other in zip(mapped, everything(in_numpy(backend, arrays)), strict=True):
        assert_within(one, other, dtype=dtype, size=6, scale=9, units=8)


@pytest.mark.parametrize("way", ways("jit", "compile"))
def test_ranks_and_errors_can_be_traced(backend, dtype, way):
    """Every function of the singular values works on abstract ones."""
    A = stack(backend, dtype)[0]

    def numbers(A):
        S = eckart.singular_values(A)
        rank = eckart.select_rank(S, error=0.2)
        return (
            eckart.matrix_rank(A),
            rank,
            eckart.stable_rank(A),
            eckart.effective_rank(A),
            eckart.truncation_error(S, rank, relative=True),
            eckart.hard_threshold(S, (6, 4)),
        )

    traced = in_numpy(backend, getattr(backend, way)(numbers)(A))
    for one, other in zip(traced, numbers(in_numpy(backend, A)), strict=True):
        assert_within(one, other, dtype=dtype, size=6, scale=4, units=8)


@pytest.mark.needs("jit")
def test_traced_rank_is_refused(backend):
    """A rank sets a shape: it must be static, and the sentence says so."""
    A = backend.asarray(np.eye(3), "float32")
    with pytest.raises(TypeError, match=r"`rank` must be an integer known before .* static"):
        backend.jit(lambda A, rank: eckart.truncated_svd(A, rank))(A, 2)
    static = backend.jit(lambda A, rank: eckart.truncated_svd(A, rank), static_argnums=1)
    assert static(A, 2).rank == 2


@pytest.mark.parametrize("way", ways("jit", "compile"))
def test_traced_matrix_that_is_not_finite_stays_visible(backend, way):
    """Values cannot be refused while traced: a NaN comes out as NaN, in its own matrix only."""
    A = np.stack([np.eye(3), np.eye(3)])
    A[1, 0, 0] = np.nan
    every = {}, {"rtol": 0.1}, {"error": 0.1}
    traced = getattr(backend, way)(
        lambda A: [eckart.truncated_svd(A, 2, **rules).S for rules in every]
    )
    for values in traced(backend.asarray(A, "float32")):
        S = backend.to_numpy(values)
        assert np.isfinite(S[0]).all()
        assert np.isnan(S[1]).all()


@pytest.mark.parametrize("way", ways("jit", "compile"))
def test_factors_pass_through_a_transformation(backend, way):
    """A LowRank goes in and an SVD comes out, as pytrees."""
    factors = eckart.factorize(backend.asarray(np.diag([3.0, 2.0, 1.0]), "float32"), 2)
    result = getattr(backend, way)(lambda factors: eckart.truncated_svd(factors, 1))(factors)
    assert isinstance(result, eckart.SVD)
    assert_within(backend.to_numpy(result.S), [3.0], dtype="float32", size=3, scale=3)


@pytest.mark.parametrize("way", ways("jit", "compile"))
def test_rank_of_an_error_may_change_between_calls(backend, way):
    """A rank that the compiler makes symbolic is still a rank."""
    S = backend.asarray(np.asarray([4.0, 3.0, 0.0]), "float32")
    options = {"static_argnums": 1} if way == "jit" else {}
    traced = getattr(backend, way)(lambda S, r: eckart.truncation_error(S, r), **options)
    for rank, error in (0, 5.0), (1, 3.0), (2, 0.0):
        assert_within(backend.to_numpy(traced(S, rank)), error, dtype="float32", size=3, scale=5.0)


@pytest.mark.only("torch")
def test_adjoint_that_is_not_computed_yet_may_be_mapped_over(backend):
    """PyTorch only notes that a tensor is conjugated; an adjoint is taken like any other matrix."""
    A = backend.asarray(zoo.random((2, 5, 4), "complex128", 0), "complex128")

    def measured(A):
        adjoint = A.mH
        return eckart.norm(adjoint) + eckart.singular_values(adjoint)[0]

    found = backend.to_numpy(backend.vmap(measured)(A))
    for one, matrix in zip(found, zoo.random((2, 5, 4), "complex128", 0), strict=True):
        S = np.linalg.svd(matrix, compute_uv=False)
        expected = np.linalg.norm(S) + S[0]
        assert_within(one, expected, dtype="float64", size=5, scale=9, units=4)
