"""Derivatives of what a truncation represents, on the libraries that have any."""

import numpy as np
import pytest

import eckart
import zoo
from compare import EPS, assert_within
from truth import real_inner

pytestmark = pytest.mark.needs("grad")

# Kept values repeat, dropped ones repeat, both are zero, or nothing is special: name to the
# spectrum and a rank at which the truncation has a derivative.
CASES = {
    "distinct": ([5.0, 4.0, 3.0, 2.0, 1.0], 3),
    "repeated kept": ([3.0, 3.0, 3.0, 2.0, 1.0], 3),
    "repeated dropped": ([5.0, 4.0, 1.0, 1.0, 1.0], 2),
    "repeated on either side": ([2.0, 2.0, 2.0, 1.0, 1.0], 3),
    "exact rank": ([5.0, 4.0, 0.0, 0.0, 0.0], 2),
    "one value": ([2.0, 0.0, 0.0, 0.0, 0.0], 1),
    "identity": ([1.0] * 5, 5),
    "zeros kept": ([5.0, 4.0, 3.0, 0.0, 0.0], 5),
    "full rank": ([5.0, 4.0, 3.0, 2.0, 1.0], 5),
    "rank zero": ([5.0, 4.0, 3.0, 2.0, 1.0], 0),
}
SHAPES = [(7, 5), (5, 7), (5, 5)]
SPLITS = ("balanced", "left", "right")


def case(name, shape, dtype, scale=1.0, seed=0):
    S, r = CASES[name]
    S = scale * np.asarray(S)
    return zoo.rounded(zoo.matrix(S, shape, dtype=dtype, seed=seed), dtype), S, r


def gradient(backend, dtype, ways, A, W):
    """Of ``Re sum(conj(W) * f(A))``, in which each way to write ``f`` has a random part of `W`."""
    xp = backend.xp
    parts = [zoo.normal(W.shape, dtype, seed) for seed in range(len(ways) - 1)]
    weights = [backend.asarray(part, dtype) for part in (*parts, W - sum(parts))]

    def loss(A):
        return sum(real_inner(xp, w, f(A)) for w, f in zip(weights, ways.values(), strict=True))

    return backend.to_numpy(backend.gradient(loss, backend.asarray(A, dtype)))


def truncations(r, method="auto"):
    """Every way to write the truncation of a matrix, each a function of it."""

    def by_triplets(A):
        return eckart.reconstruct(eckart.truncated_svd(A, r, method=method))

    def by_factors(split):
        return lambda A: eckart.reconstruct(eckart.factorize(A, r, split=split, method=method))

    return {"triplets": by_triplets, **{split: by_factors(split) for split in SPLITS}}


@pytest.mark.precision
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", CASES)
def test_gradient_of_the_truncation_is_its_closed_form(backend, dtype, name, shape):
    """For a linear function of the reconstruction, by every pair of factors."""
    A, S, r = case(name, shape, dtype)
    W = zoo.normal(shape, dtype, 9)
    G = gradient(backend, dtype, truncations(r), A, W)
    assert_within(G, zoo.truncation_derivative(A, S, r, W), dtype=dtype, size=7, scale=9, units=16)


@pytest.mark.parametrize("name", CASES)
def test_forward_derivative_of_the_truncation_is_its_closed_form(backend, dtype, name):
    """Along any direction."""
    A, S, r = case(name, (7, 5), dtype)
    D = zoo.normal((7, 5), dtype, 9)
    array, direction = backend.asarray(A, dtype), backend.asarray(D, dtype)
    ways = truncations(r).values()
    changes = backend.along(lambda A: tuple(f(A) for f in ways), array, direction)
    for change in map(backend.to_numpy, changes):
        assert_within(
            change, zoo.truncation_derivative(A, S, r, D), dtype=dtype, size=7, scale=9, units=16
        )


@pytest.mark.parametrize("name", ["distinct", "repeated kept", "repeated dropped"])
def test_closed_form_is_what_differences_show(name):
    """The truth itself, from the truncation of NumPy in float64."""
    A, S, r = case(name, (7, 5), "float64")
    D, h = zoo.normal((7, 5), "float64", 9), 1e-5

    def truncated(A):
        U, S, Vh = np.linalg.svd(A, full_matrices=False)
        return (U[:, :r] * S[:r]) @ Vh[:r]

    difference = (truncated(A + h * D) - truncated(A - h * D)) / (2 * h)
    assert np.max(np.abs(difference - zoo.truncation_derivative(A, S, r, D))) < 1e-8


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_truncation_that_drops_nothing_is_the_identity(backend, dtype, shape):
    """Whose derivative it has, also where singular values that are kept are exactly zero."""
    A = np.zeros(shape)
    A[0, 1], A[2, 0] = 3.0, 2.0
    W = zoo.normal(shape, dtype, 9)
    G = gradient(backend, dtype, truncations(5), A, W)
    assert_within(G, W, dtype=dtype, size=7, scale=9, units=16)


@pytest.mark.parametrize("exponent", [-20, 20])
@pytest.mark.parametrize("name", ["distinct", "repeated kept", "exact rank", "repeated dropped"])
def test_gradient_does_not_depend_on_the_scale(backend, dtype, name, exponent):
    """A truncation is homogeneous, so its derivative is the same at 1e20 and 1e-20 times."""
    A, S, r = case(name, (7, 5), dtype, scale=10.0**exponent)
    W = zoo.normal((7, 5), dtype, 9)
    G = gradient(backend, dtype, truncations(r), A, W)
    assert_within(G, zoo.truncation_derivative(A, S, r, W), dtype=dtype, size=7, scale=9, units=16)


@pytest.mark.parametrize("name", CASES)
def test_gradient_of_the_singular_values_is_that_of_their_sums(backend, dtype, name):
    """Of ``sum(S[:r]**2)`` it is twice the truncation; of ``sum(S**2)`` twice the matrix."""
    A, S, r = case(name, (7, 5), dtype)
    U, _, Vh = np.linalg.svd(A, full_matrices=False)
    array, xp = backend.asarray(A, dtype), backend.xp
    G = backend.gradient(lambda A: xp.sum(eckart.truncated_svd(A, r).S ** 2), array)
    expected = 2 * (U[:, :r] * S[:r]) @ Vh[:r]
    assert_within(backend.to_numpy(G), expected, dtype=dtype, size=7, scale=10, units=8)
    G = backend.gradient(lambda A: xp.sum(eckart.singular_values(A) ** 2), array)
    assert_within(backend.to_numpy(G), 2 * A, dtype=dtype, size=7, scale=10, units=8)


@pytest.mark.parametrize("name", [name for name in CASES if name != "zeros kept"])
def test_gradient_of_a_projector_is_its_closed_form(backend, dtype, name):
    """Of ``U U^H``, also where kept values repeat, and of ``V V^H`` by the adjoint's ``U``."""
    A, S, r = case(name, (7, 5), dtype)
    W = zoo.normal((7, 7), dtype, 9)
    W = W + W.conj().T
    # With P = U1 U1^H, dP = x U1^H + its adjoint, and the truncation's dY V1 / s = x + inside.
    U, _, Vh = np.linalg.svd(A, full_matrices=True)
    U1, V1 = U[:, :r], Vh[:r].conj().T
    Y = (np.eye(7) - U1 @ U1.conj().T) @ (W + W.conj().T) @ U1 / S[:r] @ V1.conj().T
    expected = (
        zoo.truncation_derivative(A, S, r, Y)
        - U1 @ U1.conj().T @ zoo.truncation_derivative(A, S, r, Y) @ V1 @ V1.conj().T
    )
    array, weight, xp = backend.asarray(A, dtype), backend.asarray(W, dtype), backend.xp

    def left(A):
        U = eckart.truncated_svd(A, r).U
        return real_inner(xp, weight, U @ xp.conj(xp.matrix_transpose(U)))

    G = backend.gradient(left, array)
    assert_within(backend.to_numpy(G), expected, dtype=dtype, size=7, scale=40, units=16)
    flipped = backend.asarray(A.conj().T, dtype)
    G = backend.gradient(lambda A: left(xp.conj(xp.matrix_transpose(A))), flipped)
    assert_within(backend.to_numpy(G), expected.conj().T, dtype=dtype, size=7, scale=40, units=16)


def test_gradient_of_single_triplets_is_that_of_the_library(backend, dtype):
    """With distinct singular values, for a function of the vectors that has no gauge."""
    A = backend.asarray(case("distinct", (7, 5), dtype)[0], dtype)
    weights = backend.asarray(np.arange(1.0, 22).reshape(7, 3), np.finfo(dtype).dtype.name)
    xp = backend.xp

    def loss(U, S, Vh):
        return xp.sum(weights * xp.abs(U) ** 2) + xp.sum(S**3) + xp.sum(xp.abs(Vh) ** 4)

    def plain(A):
        U, S, Vh = xp.linalg.svd(A, full_matrices=False)
        return loss(U[:, :3], S[:3], Vh[:3, :])

    expected = backend.to_numpy(backend.gradient(plain, A))
    actual = backend.gradient(lambda A: loss(*eckart.truncated_svd(A, 3)), A)
    scale = np.max(np.abs(expected))
    assert_within(backend.to_numpy(actual), expected, dtype=dtype, size=7, scale=scale, units=32)


def test_triplets_differentiate_as_they_are_oriented(backend, dtype):
    """The phases that the orientation fixes have derivatives too."""
    A = case("distinct", (7, 5), dtype)[0]
    D = zoo.normal((7, 5), dtype, 9)
    array, direction = backend.asarray(A, dtype), backend.asarray(D, dtype)
    changes = backend.along(lambda A: tuple(eckart.truncated_svd(A, 3)), array, direction)
    h = 1e-5
    ahead, behind = (eckart.truncated_svd(A + step * D, 3) for step in (h, -h))
    for change, one, other in zip(changes, ahead, behind, strict=True):
        expected = (one - other) / (2 * h)
        error = np.max(np.abs(backend.to_numpy(change) - expected))
        assert error < 1e-8 + 2000 * EPS[dtype]


@pytest.mark.precision
@pytest.mark.parametrize("shape", [(80, 60), (60, 80)], ids=str)
@pytest.mark.parametrize("method", ["krylov", "gram"])
def test_gradient_is_that_of_the_truncation_whatever_the_method(backend, dtype, method, shape):
    """Not of the algorithm: from the kept triplets and products alone."""
    S = np.concatenate([[4.0, 3.0, 3.0, 2.5], 1.5 * 0.95 ** np.arange(56.0)])
    A = zoo.rounded(zoo.matrix(S, shape, dtype=dtype), dtype)
    W = zoo.normal(shape, dtype, 9)
    error = gradient(backend, dtype, truncations(4, method), A, W) - zoo.truncation_derivative(
        A, S, 4, W
    )
    assert np.max(np.abs(error)) < (1e-6 if EPS[dtype] < 1e-10 else 2e-3)


def test_gradients_of_a_stack_are_those_of_its_matrices(backend, dtype):
    """Stacks, with the same rank or with tolerances that keep different ones."""
    parts = [case(name, (7, 5), dtype) for name in ("distinct", "repeated dropped", "exact rank")]
    A = np.stack([A for A, _, _ in parts])
    W = zoo.normal(A.shape, dtype, 9)
    array, weight = backend.asarray(A, dtype), backend.asarray(W, dtype)

    def loss(A):
        Y = eckart.reconstruct(eckart.truncated_svd(A, atol=1.5))
        return real_inner(backend.xp, weight, Y)

    ranks = 4, 2, 2
    expected = [
        zoo.truncation_derivative(A, S, r, w)
        for (A, S, _), r, w in zip(parts, ranks, W, strict=True)
    ]
    G = backend.gradient(loss, array)
    assert_within(backend.to_numpy(G), np.stack(expected), dtype=dtype, size=7, scale=9, units=16)


def test_tolerance_is_a_constant_of_the_derivative(backend, dtype):
    """What it keeps is what is differentiated, at a width that has room for more."""
    A, S, _ = case("repeated kept", (7, 5), dtype)
    W = zoo.normal((7, 5), dtype, 9)
    ways = {
        split: lambda A, split=split: eckart.reconstruct(
            eckart.factorize(A, 4, atol=2.5, split=split)
        )
        for split in SPLITS
    }
    G = gradient(backend, dtype, ways, A, W)
    assert_within(G, zoo.truncation_derivative(A, S, 3, W), dtype=dtype, size=7, scale=9, units=16)


def test_gradient_passes_through_factors(backend, dtype):
    """The truncation of a product, with respect to both of its factors."""
    B, C = (
        zoo.rounded(zoo.normal((7, 4), dtype, 1), dtype),
        zoo.rounded(zoo.normal((4, 6), dtype, 2), dtype),
    )
    S = np.linalg.svd(B @ C, compute_uv=False)
    W = zoo.normal((7, 6), dtype, 9)
    left, right, weight = (backend.asarray(part, dtype) for part in (B, C, W))
    for truncated in truncations(2).values():
        found = backend.gradient(
            lambda B, C, f=truncated: real_inner(backend.xp, weight, f(eckart.LowRank(B, C))),
            left,
            right,
        )
        Y = zoo.truncation_derivative(B @ C, S, 2, W)
        for G, expected in zip(found, (Y @ C.conj().T, B.conj().T @ Y), strict=True):
            assert_within(backend.to_numpy(G), expected, dtype=dtype, size=7, scale=99, units=16)
    found = backend.gradient(
        lambda B, C: backend.xp.sum(eckart.singular_values(eckart.LowRank(B, C)) ** 2), left, right
    )
    for G, expected in zip(found, (B @ C @ C.conj().T, B.conj().T @ B @ C), strict=True):
        assert_within(backend.to_numpy(G), 2 * expected, dtype=dtype, size=7, scale=99, units=16)


@pytest.mark.parametrize("rank", [2, 3])
@pytest.mark.parametrize("S", [[2.0, 1.0, 1.0, 0.5], [2.0, 1.0, 0.0, 0.0], [0.0] * 4], ids=str)
def test_gradient_is_finite_where_there_is_none(backend, dtype, S, rank):
    """At a tie across the cut, and for a rank beyond that of the matrix."""
    A = backend.asarray(zoo.matrix(np.asarray(S), (6, 4), dtype=dtype), dtype)
    exact = backend.asarray(np.diag([*S, 0.0])[:, :4], dtype)
    ways = truncations(rank).values()
    for array in A, exact:
        G = backend.gradient(
            lambda A: sum(backend.xp.sum(backend.xp.abs(f(A)) ** 2) for f in ways), array
        )
        assert np.isfinite(backend.to_numpy(G)).all()


def test_gradients_of_ranks_and_errors_are_finite_and_right(backend, dtype):
    """`stable_rank`, `effective_rank` and `truncation_error`, at repeated and at zero values."""
    xp = backend.xp
    S = np.asarray([3.0, 2.0, 1.0])
    D = np.diag(S)

    def along_diagonal(function):
        return np.real(np.diagonal(backend.to_numpy(backend.gradient(function, array))))

    array = backend.asarray(D, dtype)
    total = np.sum(S**2)
    expected = 2 * S / S[0] ** 2 - 2 * total / S[0] ** 3 * np.asarray([1.0, 0, 0])
    actual = along_diagonal(eckart.stable_rank)
    assert_within(actual, expected, dtype=dtype, size=3, units=8)

    p = S / np.sum(S)
    rank = np.exp(-np.sum(p * np.log(p)))
    expected = -rank * (np.log(p) + np.log(rank)) / np.sum(S)
    actual = along_diagonal(eckart.effective_rank)
    assert_within(actual, expected, dtype=dtype, size=3, units=8)

    actual = along_diagonal(lambda A: eckart.truncation_error(eckart.singular_values(A), 1))
    assert_within(actual, np.asarray([0.0, 2.0, 1.0]) / 5**0.5, dtype=dtype, size=3, units=8)

    functions = (
        eckart.stable_rank,
        eckart.effective_rank,
        lambda A: eckart.truncation_error(eckart.singular_values(A), 2),
        lambda A: eckart.truncation_error(eckart.singular_values(A), 2, relative=True),
        lambda A: eckart.truncation_error(eckart.singular_values(A), 2, norm="spectral"),
        lambda A: xp.sum(eckart.singular_values(A)),
    )
    for diagonal in [1.0, 1.0, 1.0], [2.0, 1.0, 0.0], [0.0, 0.0, 0.0]:
        array = backend.asarray(np.diag(diagonal), dtype)
        for function in functions:
            assert np.isfinite(backend.to_numpy(backend.gradient(function, array))).all()


def test_linear_layer_has_the_gradients_of_its_product(backend, dtype):
    """`linear` with respect to vectors, factors and bias."""
    x, B, C, b = (
        zoo.normal(shape, dtype, seed) for seed, shape in enumerate([(3, 6), (7, 2), (2, 6), (7,)])
    )
    W = zoo.normal((3, 7), dtype, 9)
    weight = backend.asarray(W, dtype)

    def loss(x, B, C, b):
        return real_inner(backend.xp, weight, eckart.linear(x, eckart.LowRank(B, C), b))

    found = backend.gradient(loss, *(backend.asarray(part, dtype) for part in (x, B, C, b)))
    expected = (
        W @ (B @ C).conj(),
        W.T @ x.conj() @ C.conj().T,
        B.conj().T @ W.T @ x.conj(),
        np.sum(W, axis=0),
    )
    for G, truth in zip(found, expected, strict=True):
        assert_within(backend.to_numpy(G), truth, dtype=dtype, size=7, scale=30, units=4)


@pytest.mark.needs("vmap", "double")
@pytest.mark.parametrize("name", ["distinct", "repeated kept", "repeated dropped", "exact rank"])
def test_transformations_agree(backend, name):
    """`jacrev`, `jacfwd`, `vmap` of the gradient and the gradient of a `vmap`."""
    dtype = "float64"
    A, S, r = case(name, (7, 5), dtype)
    array = backend.asarray(A, dtype)
    basis = np.eye(35).reshape(35, 7, 5)
    expected = np.stack([zoo.truncation_derivative(A, S, r, D) for D in basis], axis=-1).reshape(
        7, 5, 7, 5
    )
    for truncated in truncations(r).values():
        for way in "jacrev", "jacfwd":
            jacobian = backend.transform(way)(truncated)(array)
            assert_within(
                backend.to_numpy(jacobian), expected, dtype=dtype, size=7, scale=9, units=16
            )
    stack = backend.asarray(np.stack([A, 2 * A, A[::-1]]), dtype)
    W = backend.asarray(zoo.normal((7, 5), dtype, 9), dtype)
    grad, vmap = backend.transform("grad"), backend.transform("vmap")

    def loss(A):
        return real_inner(backend.xp, W, eckart.reconstruct(eckart.truncated_svd(A, r)))

    mapped = backend.to_numpy(vmap(grad(loss))(stack))
    whole = backend.to_numpy(grad(lambda A: backend.xp.sum(vmap(loss)(A)))(stack))
    single = np.stack([backend.to_numpy(grad(loss)(stack[i, ...])) for i in range(3)])
    assert_within(mapped, single, dtype=dtype, size=7, scale=9, units=8)
    assert_within(whole, single, dtype=dtype, size=7, scale=9, units=8)


@pytest.mark.needs("double")
@pytest.mark.parametrize("split", [None, *SPLITS])
@pytest.mark.parametrize("method", ["exact", "krylov"])
@pytest.mark.parametrize("name", ["distinct", "repeated dropped", "exact rank", "repeated kept"])
def test_second_derivative_is_what_differences_show(backend, name, method, split):
    """Of a function of the truncation; NaN for triplets at repeated values, never wrong."""
    S, r = CASES[name]
    S = np.asarray([*S, *([0.0] * 45)])
    A, D = zoo.matrix(S, (60, 50), dtype="float64"), zoo.normal((60, 50), "float64", 9)
    weight, xp = backend.asarray(zoo.normal((60, 50), "float64", 3), "float64"), backend.xp

    def loss(A):
        if split is None:
            factors = eckart.truncated_svd(A, r, method=method)
        else:
            factors = eckart.factorize(A, r, method=method, split=split)
        return xp.sum(weight * eckart.reconstruct(factors) ** 2)

    grad, h = backend.transform("grad"), 1e-4
    direction = backend.asarray(D, "float64")
    gradients = [
        backend.to_numpy(grad(loss)(backend.asarray(A + step * D, "float64"))) for step in (h, -h)
    ]
    expected = (gradients[0] - gradients[1]) / (2 * h)
    array = backend.asarray(A, "float64")
    second = backend.transform("grad")(lambda A: xp.sum(grad(loss)(A) * direction))(array)
    second = backend.to_numpy(second)
    if split is None and name == "repeated kept":
        assert np.isnan(second).all()
    else:
        assert np.max(np.abs(second - expected)) < 1e-5 * np.max(np.abs(expected))


@pytest.mark.parametrize(
    "way",
    [
        pytest.param("jit", marks=pytest.mark.needs("jit")),
        pytest.param("compile", marks=pytest.mark.needs("compile")),
    ],
)
def test_compiled_gradient_is_the_eager_one(backend, dtype, way):
    """Whole graphs, with a static rank and with a tolerance."""
    A = backend.asarray(case("repeated kept", (7, 5), dtype)[0], dtype)
    W = backend.asarray(zoo.normal((7, 5), dtype, 9), dtype)

    def loss(A):
        factors = eckart.factorize(A, 4, atol=2.5)
        U, S, Vh = eckart.truncated_svd(A, 3)
        return real_inner(backend.xp, W, eckart.reconstruct(factors) + (U * S) @ Vh)

    expected = backend.to_numpy(backend.gradient(loss, A))
    actual = backend.to_numpy(backend.gradient(getattr(backend, way)(loss), A))
    assert_within(actual, expected, dtype=dtype, size=7, scale=9, units=16)


def test_half_precision_has_gradients_too(backend, half):
    """Computed in float32, returned in the dtype of the matrix."""
    A, _, r = case("distinct", (7, 5), "float32")
    W = zoo.normal((7, 5), "float32", 9)
    weight = backend.asarray(W, half)
    G = backend.gradient(
        lambda A: backend.xp.sum(weight * eckart.reconstruct(eckart.factorize(A, r))),
        backend.asarray(A, half),
    )
    assert str(G.dtype).endswith(half)
    A = zoo.rounded(A, half)
    expected = zoo.truncation_derivative(
        A, np.linalg.svd(A, compute_uv=False), r, zoo.rounded(W, half)
    )
    assert_within(backend.to_numpy(G), expected, dtype=half, size=7, scale=9)


@pytest.mark.parametrize("value", [0.0, 1e-40, 1e-310])
def test_gradients_are_finite_at_values_below_the_normal_range(backend, dtype, value):
    """A singular value whose reciprocal overflows counts as zero."""
    array = backend.asarray(np.diag([1.0, value, 0.5]), dtype)
    xp = backend.xp

    def loss(A):
        total = eckart.stable_rank(A) + eckart.effective_rank(A)
        total = total + xp.sum(eckart.singular_values(A))
        for truncated in truncations(2).values():
            total = total + xp.sum(xp.abs(truncated(A)) ** 2)
        return total

    assert np.isfinite(backend.to_numpy(backend.gradient(loss, array))).all()


@pytest.mark.needs("double")
def test_forward_derivative_sees_tangents_of_outer_levels(backend):
    """Of a matrix that an inner transformation knows nothing of."""
    A = backend.asarray(np.diag([2.0, 2.0, 1.0, 0.0]), "float64")
    b = backend.asarray(np.arange(16.0).reshape(4, 4), "float64")
    grad = backend.transform("grad")

    def inner(A):
        def loss(b):
            return backend.xp.sum(b * eckart.reconstruct(eckart.factorize(A, 2))) ** 2

        return grad(loss)(b)

    forward, reverse = (
        backend.to_numpy(backend.transform(way)(inner)(A)) for way in ("jacfwd", "jacrev")
    )
    assert_within(forward, reverse, dtype="float64", size=16, scale=np.max(np.abs(reverse)))


@pytest.mark.needs("double")
@pytest.mark.parametrize("name", ["distinct", "repeated kept", "exact rank"])
def test_second_derivative_of_the_norm_is_that_of_its_square(backend, name):
    """``sum(S**2)`` is a quadratic form, whatever is equal or zero; never a wrong number."""
    A, _, _ = case(name, (7, 5), "float64")
    D = backend.asarray(zoo.normal((7, 5), "float64", 9), "float64")
    grad = backend.transform("grad")
    gradient_of = grad(lambda A: backend.xp.sum(eckart.singular_values(A) ** 2))
    array = backend.asarray(A, "float64")
    second = grad(lambda A: backend.xp.sum(gradient_of(A) * D))(array)
    second = backend.to_numpy(second)
    if not np.isnan(second).all():
        expected = 2 * backend.to_numpy(D)
        assert_within(second, expected, dtype="float64", size=7, scale=9, units=1e4)


@pytest.mark.needs("compile")
def test_forward_mode_without_gradients_is_right(backend):
    """A tangent counts under ``torch.no_grad`` as well."""
    import torch.autograd.forward_ad as forward

    A, S, r = case("repeated kept", (7, 5), "float64")
    D = zoo.normal((7, 5), "float64", 9)
    with forward.dual_level(), backend.xp.no_grad():
        dual = forward.make_dual(
            backend.asarray(A, "float64").requires_grad_(), backend.asarray(D, "float64")
        )
        result = eckart.reconstruct(eckart.truncated_svd(dual, r))
        change = backend.to_numpy(forward.unpack_dual(result).tangent)
    expected = zoo.truncation_derivative(A, S, r, D)
    assert_within(change, expected, dtype="float64", size=7, scale=9, units=16)


@pytest.mark.needs("compile")
def test_derivative_that_has_not_converged_is_told(backend):
    """At a tie across the cut, where conjugate gradients find no solution."""
    S = np.concatenate([[4.0, 3.0, 2.0, 2.0], 1.5 * 0.95 ** np.arange(196.0)])
    A = backend.asarray(zoo.matrix(S, (220, 200), dtype="float64"), "float64").requires_grad_()
    truncated = eckart.reconstruct(eckart.factorize(A, 3, method="krylov"))
    with pytest.warns(RuntimeWarning, match="derivative of the truncation has not converged"):
        backend.xp.sum(truncated).backward()


@pytest.mark.needs("compile")
def test_what_is_measured_or_counted_has_no_graph(backend):
    """`certify` and `matrix_rank` of what requires a gradient cost what they always cost."""
    A = backend.asarray(case("distinct", (7, 5), "float64")[0], "float64").requires_grad_()
    certificate = eckart.certify(A, eckart.truncated_svd(A, 3))
    arrays = [certificate.error, certificate.spectral_error, certificate.gap, eckart.matrix_rank(A)]
    assert not any(array.requires_grad for array in arrays)


@pytest.mark.needs("compile")
@pytest.mark.parametrize("complex_", [False, True])
def test_pytorch_checks_agree(backend, complex_):
    """`gradcheck` in both modes, batched too, and `gradgradcheck`."""
    check = backend.xp.autograd
    dtype = "complex128" if complex_ else "float64"
    A = backend.asarray(case("distinct", (7, 5), dtype)[0][:4, :3], dtype).requires_grad_()
    for truncated in truncations(2).values():
        assert check.gradcheck(
            truncated, (A,), check_forward_ad=True, check_batched_grad=not complex_
        )
        assert check.gradgradcheck(truncated, (A,))
    assert check.gradcheck(lambda A: tuple(eckart.truncated_svd(A, 2)), (A,))


@pytest.mark.needs("jit")
def test_rematerialised_gradient_is_the_same(backend, dtype):
    """`jax.checkpoint` computes the truncation again on the way back."""
    import jax

    A, S, r = case("repeated kept", (7, 5), dtype)
    W = zoo.normal((7, 5), dtype, 9)
    ways = {"checkpointed": jax.checkpoint(truncations(r)["balanced"])}
    G = gradient(backend, dtype, ways, A, W)
    expected = zoo.truncation_derivative(A, S, r, W)
    assert_within(G, expected, dtype=dtype, size=7, scale=9, units=16)
