"""A matrix of JAX that is spread over eight devices is never brought together."""

import importlib
import math
import os
import re
import subprocess
import sys

import numpy as np
import pytest

import eckart
import zoo
from compare import assert_within

pytestmark = pytest.mark.needs("mesh")

M, N, RANK = 320, 256, 6
S = 1.0 / np.arange(1, N + 1) ** 2
# How rows and columns are divided over a mesh of four by two devices.
LAYOUTS = [("r", None), ("r", "c"), (None, "c"), (("r", "c"), None)]
PLACES = [*(("Auto", layout) for layout in LAYOUTS), ("Explicit", ("r", "c"))]


@pytest.fixture(scope="module")
def jax():
    return importlib.import_module("jax")


@pytest.fixture
def mesh(jax):
    return mesh_of(jax, "Explicit")


@pytest.fixture(params=PLACES, ids=str)
def place(request, jax):
    """A mesh, and a layout on it."""
    kind, layout = request.param
    return mesh_of(jax, kind), layout


def mesh_of(jax, kind):
    kinds = (jax.sharding.AxisType[kind],) * 2
    return jax.make_mesh((4, 2), ("r", "c"), axis_types=kinds, devices=jax.devices()[:8])


def spread(jax, array, mesh, *layout):
    return jax.device_put(array, jax.NamedSharding(mesh, jax.P(*layout)))


def assert_lies(jax, array, mesh, *layout):
    """Refuse an array that is divided in any other way."""
    expected = jax.NamedSharding(mesh, jax.P(*layout))
    assert array.sharding.is_equivalent_to(expected, array.ndim), (array.sharding, layout)
    assert array.sharding.mesh.axis_types == mesh.axis_types


def assert_best(backend, factors, A, S, dtype):
    """Refuse what is further from `A` than the best approximation is, or not orthonormal."""
    U, values, Vh = map(backend.to_numpy, factors)
    r, size = len(values), sum(A.shape)
    assert_within(values, S[:r], dtype=dtype, size=size, scale=S[0])
    error = np.linalg.norm(A - (U * values) @ Vh)
    assert_within(error, np.linalg.norm(S[r:]), dtype=dtype, size=size, scale=S[0])
    for Q in U, Vh.conj().T:
        assert_within(Q.conj().T @ Q, np.eye(r), dtype=dtype, size=size)


def gathered(program):
    """Entries of the largest array that a compiled program brings together on a device."""
    sizes = [0]
    for line in program.splitlines():
        if found := re.search(r"= (.*?) (all-gather|collective-broadcast)(-start)?\(", line):
            shapes = re.findall(r"\w\d+\[([\d,]*)\]", found[1])
            sizes += [math.prod(int(n) for n in shape.split(",") if n) for shape in shapes]
    return max(sizes)


def test_gathering_is_noticed(backend, jax):
    """The instrument of this file reads what it shall: JAX's own SVD brings the matrix together."""
    mesh = mesh_of(jax, "Auto")
    for layout in LAYOUTS:
        A = spread(jax, zoo.random((M, N), "float32", 0), mesh, *layout)
        own = backend.jit(lambda A: backend.xp.linalg.svd(A, full_matrices=False))
        assert gathered(own.lower(A).compile().as_text()) == M * N


def test_factors_lie_as_the_matrix_does(backend, jax, place):
    """Rows of U as its rows, columns of Vh as its columns, S on every device."""
    mesh, (rows, columns) = place
    A = zoo.matrix(S, (M, N), dtype="float32")
    given = spread(jax, A.astype("float32"), mesh, rows, columns)
    factors = eckart.truncated_svd(given, RANK)
    assert_best(backend, factors, A, S, "float32")
    assert_lies(jax, factors.U, mesh, rows, None)
    assert_lies(jax, factors.S, mesh)
    assert_lies(jax, factors.Vh, mesh, None, columns)


def test_compiled_truncation_brings_nothing_together(backend, jax, place):
    """Under jit no device holds more than the small factors of the whole, and all lie as before."""
    mesh, (rows, columns) = place
    A = zoo.matrix(S, (M, N), dtype="float32")
    given = spread(jax, A.astype("float32"), mesh, rows, columns)
    compiled = backend.jit(lambda A: eckart.truncated_svd(A, RANK)).lower(given).compile()
    assert gathered(compiled.as_text()) <= 8 * (RANK + 8)
    factors = compiled(given)
    assert_best(backend, factors, A, S, "float32")
    assert_lies(jax, factors.U, mesh, rows, None)
    assert_lies(jax, factors.S, mesh)
    assert_lies(jax, factors.Vh, mesh, None, columns)


def test_axes_of_both_kinds_are_taken(backend, jax):
    """What is told of the explicit ones holds."""
    kinds = jax.sharding.AxisType.Explicit, jax.sharding.AxisType.Auto
    mesh = jax.make_mesh((4, 2), ("r", "c"), axis_types=kinds)
    A = zoo.matrix(S, (M, N), dtype="float32")
    given = spread(jax, A.astype("float32"), mesh, "r", "c")
    factors = eckart.truncated_svd(given, RANK)
    assert_best(backend, factors, A, S, "float32")
    assert factors.U.sharding.spec[0] == "r"


@pytest.mark.parametrize("shape", [(2048, 24), (24, 2048)], ids=str)
def test_long_matrix_is_decomposed_where_it_lies(backend, jax, place, shape):
    """All triplets of a matrix with one short side, from the small factors of its pieces alone."""
    mesh, layout = place
    long = shape if shape[0] > shape[1] else shape[::-1]
    S = zoo.SPECTRA["exponential"](24)
    A = zoo.matrix(S, long, dtype="float32")
    A, layout = (A, layout) if long == shape else (A.T, layout[::-1])
    given = spread(jax, A.astype("float32"), mesh, *layout)
    factors = eckart.truncated_svd(given, 24, method="exact")
    assert_best(backend, factors, A, S, "float32")
    assert_lies(jax, factors.U, mesh, layout[0], None)
    assert_lies(jax, factors.Vh, mesh, None, layout[1])
    values = backend.to_numpy(eckart.singular_values(given))
    assert_within(values, S, dtype="float32", size=sum(shape), scale=S[0])
    compiled = backend.jit(lambda A: eckart.truncated_svd(A, 4)).lower(given).compile()
    assert (
        gathered(compiled.as_text()) <= A.size // 4
    )  # eight triangles of 24, or U where it is whole
    assert_best(backend, compiled(given), A, S, "float32")


EAGER = """
import jax, numpy as np
import eckart

A = np.random.default_rng(0).standard_normal(({m}, {n})).astype("float32")
A = (A / np.arange(1, {n} + 1) ** 2).astype("float32")
over = jax.NamedSharding(jax.make_mesh((4, 2), ("r", "c")), jax.P("r", "c"))
A, rows = jax.device_put((A, A[:8]), over)
factors = eckart.truncated_svd(A, {rank})
eckart.certify(A, factors)
eckart.update(factors, rows, {rank})
"""


def test_calls_that_are_not_compiled_bring_nothing_together(jax, tmp_path):
    """None of the programs that JAX runs one after another gathers the matrix or a part of it."""
    code = EAGER.format(m=M, n=N, rank=RANK)
    flags = f"{os.environ['XLA_FLAGS']} --xla_dump_to={tmp_path} --xla_dump_hlo_as_text"
    variables = {
        "XLA_FLAGS": flags,
        "JAX_ENABLE_COMPILATION_CACHE": "0",
    }  # or it has nothing to dump
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, **variables})
    programs = [path.read_text() for path in tmp_path.glob("*after_optimizations.txt")]
    assert sum("all-reduce" in program for program in programs) > 4
    assert max(map(gathered, programs)) <= M * N // 8


def test_derivative_lies_as_the_matrix_does(backend, jax, mesh):
    """The gradient is that of the matrix in one piece, and nothing was brought together for it."""
    A, G = (zoo.random((M, N), "float32", seed) * S[:N].astype("float32") for seed in (0, 1))

    def gradient(A, G, method="auto"):
        def loss(A):
            B, C = eckart.factorize(A, RANK, method=method)
            return backend.xp.sum(G * backend.xp.matmul(B, C))

        return jax.grad(loss)(A)

    whole = backend.to_numpy(backend.jit(gradient, static_argnums=2)(A, G, "krylov"))
    A, G = (spread(jax, part, mesh, "r", "c") for part in (A, G))
    compiled = backend.jit(gradient).lower(A, G).compile()
    assert gathered(compiled.as_text()) <= 8 * (2 * RANK + 8)
    found = compiled(A, G)
    assert_lies(jax, found, mesh, "r", "c")
    assert_within(
        backend.to_numpy(found), whole, dtype="float32", size=M + N, scale=np.abs(whole).max()
    )


def test_numbers_are_those_of_the_matrix_in_one_piece(backend, jax, mesh):
    """Ranks, singular values, norms and certificates."""
    A = zoo.matrix(S, (M, N), dtype="float32").astype("float32")
    given = spread(jax, A, mesh, "r", "c")
    factors = eckart.truncated_svd(given, RANK)
    certificate = eckart.certify(given, factors)
    assert int(eckart.matrix_rank(given, rtol=1e-3)) == int(np.sum(S > 1e-3))
    assert certificate.spectral_error >= S[RANK] * (1 - 1e-3)
    for one, other in [
        (eckart.singular_values(given), S),
        (eckart.stable_rank(given), np.sum(S**2)),
        (eckart.norm(factors), np.linalg.norm(S[:RANK])),
        (eckart.inner(factors, factors), np.sum(S[:RANK] ** 2)),
        (certificate.error, np.linalg.norm(S[RANK:])),
    ]:
        assert_within(backend.to_numpy(one), np.asarray(other), dtype="float32", size=M + N)


def test_factors_are_truncated_and_updated_where_they_lie(backend, jax, mesh):
    """A product of two thin factors, and rows that arrive later."""
    A = zoo.matrix(S, (M, N), dtype="float32").astype("float32")
    B, C = zoo.random((M, 8), "float32", 0), zoo.random((8, N), "float32", 1)
    given = eckart.LowRank(spread(jax, B, mesh, "r", None), spread(jax, C, mesh, None, "c"))
    product = B.astype("float64") @ C
    values = np.linalg.svd(product)[1]
    factors = eckart.truncated_svd(eckart.add(given, given, weights=[0.5, 0.5]), 8)
    assert_best(backend, factors, product, values, "float32")
    assert_lies(jax, factors.U, mesh, "r", None)
    assert_lies(jax, factors.Vh, mesh, None, "c")
    for rows, divided in (64, "r"), (63, None):
        both = eckart.update(factors, spread(jax, A[:rows], mesh, divided, "c"), 8).svd
        assert_lies(jax, both.U, mesh, divided, None)
        assert_lies(jax, both.Vh, mesh, None, "c")
        stacked = np.concatenate([product, A[:rows].astype("float64")])
        values = np.linalg.svd(stacked)[1]
        assert_best(backend, both, stacked, values, "float32")


@pytest.mark.parametrize("kind", ["Auto", "Explicit"])
def test_arguments_that_were_put_nowhere_come_to_the_mesh(backend, jax, kind):
    """As JAX has it with its own functions: from either side."""
    mesh, A = mesh_of(jax, kind), zoo.random((64, 48), "float64", 0)
    here = eckart.truncated_svd(backend.asarray(A), RANK)
    error = eckart.certify(spread(jax, A, mesh, "r", "c"), here).error
    assert_same(error, np.linalg.norm(np.linalg.svd(A, compute_uv=False)[RANK:]))
    new = zoo.random((8, 48), "float64", 1)
    found = eckart.update(here, spread(jax, new, mesh, "r", "c"), RANK + 8)
    assert_same(found.svd.S, eckart.update(here, backend.asarray(new), RANK + 8).svd.S)
    assert_same(found.loss, 0.0)  # the norm of nothing at all
    assert_lies(jax, found.svd.S, mesh, None)


@pytest.mark.parametrize("kind", ["Auto", "Explicit"])
def test_stream_starts_with_nothing(backend, jax, kind):
    """The first batch may be the first thing that is on the mesh."""
    xp, mesh, A = backend.xp, mesh_of(jax, kind), zoo.random((64, 48), "float64", 0)
    start = eckart.SVD(xp.zeros((0, 0)), xp.zeros(0), xp.zeros((0, 48)))
    svd, loss = eckart.update(start, spread(jax, A, mesh, "r", "c"), RANK)
    assert_best(backend, svd, A, np.linalg.svd(A, compute_uv=False), "float64")
    assert_lies(jax, loss, mesh)


def test_argument_that_was_put_elsewhere_is_refused(backend, jax, mesh):
    """By its name, with the devices it came on and what to do."""
    A = spread(jax, zoo.random((16, 8), "float64", 0), mesh, "r", None)
    elsewhere = eckart.truncated_svd(jax.device_put(np.eye(16, 8), jax.devices()[1]), 2)
    with pytest.raises(ValueError, match=r"`factors` must .* 8 devices .* got .*id=1.*device_put"):
        eckart.certify(A, elsewhere)


def assert_same(found, expected):
    found, expected = (np.asarray(each) for each in (found, expected))
    scale = max(1.0, np.abs(expected).max())
    assert_within(found, expected, dtype="float64", size=112, scale=scale)


def test_stack_lies_as_it_did(backend, jax, mesh):
    """Divided by its matrices it is decomposed a matrix a device, by their rows it is not moved."""
    A = np.stack([zoo.matrix(S[:24], (32, 24), dtype="float32", seed=seed) for seed in range(4)])
    for layout in ("r", None, None), (None, "r", "c"):
        given = spread(jax, A.astype("float32"), mesh, *layout)
        factors = eckart.truncated_svd(given, error=0.3)
        assert_lies(jax, factors.U, mesh, *layout[:2], None)
        assert_lies(jax, factors.S, mesh, layout[0], None)
        assert_lies(jax, factors.Vh, mesh, layout[0], None, layout[2])
        for index in range(4):
            part = [backend.to_numpy(array)[index] for array in factors]
            assert_best(backend, map(backend.asarray, part), A[index], S[:24], "float32")


def test_complex_and_half_precision_are_spread_too(backend, jax, mesh):
    """As everywhere."""
    for dtype, precision in ("complex64", "complex64"), ("bfloat16", "float32"):
        A = zoo.matrix(S, (M, N), dtype=dtype)
        given = spread(jax, backend.asarray(A, dtype), mesh, "r", "c")
        factors = eckart.truncated_svd(given, RANK)
        assert factors.U.dtype == given.dtype
        assert_lies(jax, factors.U, mesh, "r", None)
        if dtype == precision:
            assert_best(backend, factors, A, S, dtype)


def test_nan_in_one_piece_is_found(backend, jax, mesh):
    """With its place in the whole, and no complaint about anything else."""
    A = zoo.random((M, N), "float32", 0)
    A[300, 200] = math.nan
    for method in "auto", "exact":
        with pytest.raises(ValueError, match=r"`A` must be finite.* first at index \(300, 200\)"):
            eckart.truncated_svd(spread(jax, A, mesh, "r", "c"), RANK, method=method)


def test_matrix_with_a_copy_on_every_device_is_as_on_one(backend, jax, mesh):
    """So is what a shard_map, or a vmap over a divided stack, gives each device of its own."""
    A = zoo.matrix(S[:16], (24, 16), dtype="float32").astype("float32")
    whole = eckart.truncated_svd(backend.asarray(A), 3)
    found = eckart.truncated_svd(spread(jax, A, mesh), 3)
    stack = spread(jax, np.stack([A] * 4), mesh, "r", None, None)
    mapped = backend.transform("vmap")(lambda A: eckart.truncated_svd(A, 3))(stack)
    local = jax.shard_map(
        lambda A: eckart.truncated_svd(A, 3),
        mesh=mesh,
        in_specs=jax.P("r", None, None),
        out_specs=jax.P("r"),
    )
    for one, other, several in zip(whole, found, mapped, strict=True):
        assert_lies(jax, other, mesh)
        expected = backend.to_numpy(one)
        assert_within(backend.to_numpy(other), expected, dtype="float32", size=40)
        assert_within(backend.to_numpy(several), np.stack([expected] * 4), dtype="float32", size=40)
    assert_within(
        backend.to_numpy(local(stack).S), [backend.to_numpy(whole.S)] * 4, dtype="float32", size=40
    )


@pytest.mark.parametrize("way", ["grad", "jvp"])
def test_derivative_of_a_vmap_of_a_shard_map_is_that_of_the_stack(backend, jax, mesh, way):
    """Each device has a matrix of its own, of each of several stacks."""
    xp = backend.xp
    A, W = (zoo.random((3, 4, 6, 5), "float32", seed) for seed in (0, 1))
    placed = jax.P("r", None, None)

    def truncated(A):
        return eckart.reconstruct(eckart.truncated_svd(A, 2))

    local = jax.shard_map(truncated, mesh=mesh, in_specs=placed, out_specs=placed)

    def change(function, A, W):
        loss = lambda A: xp.sum(W * xp.sin(function(A)))  # noqa: E731
        return jax.grad(loss)(A) if way == "grad" else jax.jvp(function, (A,), (W,))[1]

    expected = backend.to_numpy(backend.jit(lambda A, W: change(truncated, A, W))(A, W))
    A, W = (spread(jax, part, mesh, None, "r", None, None) for part in (A, W))
    found = backend.jit(lambda A, W: change(jax.vmap(local), A, W))(A, W)
    scale = np.abs(expected).max()
    assert_within(backend.to_numpy(found), expected, dtype="float32", size=40, scale=scale)


def test_devices_do_not_wait_for_each_other_for_ever(backend, jax):
    """Hundreds of exchanges in a row, none of them looked at in between."""
    A = spread(jax, zoo.random((2048, 24), "float32", 0), mesh_of(jax, "Auto"), ("r", "c"), None)
    for _ in range(20):
        found = eckart.truncated_svd(A, error=0.2)
    assert np.isfinite(backend.to_numpy(found.S)).all()
