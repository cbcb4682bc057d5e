"""Wrong input is refused, with one class and one sentence on every library."""

import importlib
import re

import array_api_compat
import numpy as np
import pytest

import eckart

MATRIX_FUNCTIONS = [
    eckart.singular_values,
    eckart.matrix_rank,
    eckart.stable_rank,
    eckart.effective_rank,
    eckart.truncated_svd,
    eckart.factorize,
]
S_FUNCTIONS = [
    eckart.select_rank,
    lambda S: eckart.truncation_error(S, 0),
    lambda S: eckart.hard_threshold(S, (3, 3)),
]


# The first part of the calls that convert a matrix, where they differ from NumPy's.
CONVERSIONS = {
    "array_api_strict": "xp.astype(A, xp.float",
    "jax": "A.astype(jnp.float",
    "torch": "A.to(torch.float",
}


def eye(backend, n=3):
    return backend.asarray(np.eye(n), "float32")


@pytest.mark.parametrize("function", MATRIX_FUNCTIONS)
def test_arrays_of_numbers_that_do_not_round_are_refused(backend, function, xp):
    """Integers and booleans: a TypeError with the call that converts, as the library has it."""
    conversion = re.escape(CONVERSIONS.get(backend.library, "A.astype(np.float"))
    for dtype in "int32", "bool":
        array = xp.ones(
            (3, 3), dtype=getattr(xp, dtype), device=array_api_compat.device(eye(backend))
        )
        with pytest.raises(
            TypeError,
            match=rf"`A` must have a floating-point dtype .*{dtype}.*{conversion}",
        ):
            function(array)


@pytest.mark.parametrize("function", MATRIX_FUNCTIONS)
@pytest.mark.parametrize(
    "broken", [[[1.0, 2.0]], 3.0, None, "A"], ids=["list", "float", "None", "str"]
)
def test_what_is_not_an_array_is_refused(function, broken):
    """A TypeError that names what came and how to convert it."""
    kind = type(broken).__name__
    with pytest.raises(TypeError, match=rf"`A` must be an array .* got {kind}\. Convert it first"):
        function(broken)


@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
@pytest.mark.parametrize("function", MATRIX_FUNCTIONS)
def test_numpy_subclasses_with_other_semantics_are_refused(function):
    """np.matrix multiplies differently, a masked array hides values."""
    for broken, kind in (
        (np.asmatrix(np.eye(3)), "matrix"),
        (np.ma.masked_equal(np.eye(3), 0), "MaskedArray"),
    ):
        with pytest.raises(TypeError, match=rf"`A` must be a plain array, got numpy.*{kind}"):
            function(broken)


@pytest.mark.parametrize("function", MATRIX_FUNCTIONS)
def test_vector_is_refused(backend, function):
    """A ValueError that says the shape it wants and the shape it got."""
    for shape in (4,), ():
        with pytest.raises(
            ValueError, match=r"`A` must be a matrix or a stack .* got shape \(4?,?\)"
        ):
            function(backend.asarray(np.ones(shape), "float32"))


@pytest.mark.parametrize("function", MATRIX_FUNCTIONS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("shape", [(3, 3), (40, 30), (30, 4), (2, 3, 3)], ids=str)
def test_entries_that_are_not_finite_are_counted_and_located(
    backend, dtype, function, value, shape
):
    """A ValueError with how many and where, whatever the library's SVD does with them."""
    A = np.zeros(shape)
    A[..., 1, 2] = value
    A[..., 2, 0] = value
    where = (0,) * (len(shape) - 2) + (1, 2)
    number = 2 * (shape[0] if len(shape) == 3 else 1)
    sentence = f"`A` must be finite, but {number} of its {A.size} .* index " + re.escape(str(where))
    with pytest.raises(ValueError, match=sentence):
        function(backend.asarray(A, dtype))


def test_factors_that_are_not_finite_are_located(backend):
    """The sentence names the factor."""
    broken = eckart.LowRank(eye(backend), backend.asarray(np.diag([1.0, np.nan, 1.0]), "float32"))
    with pytest.raises(ValueError, match=r"`A\.A` must be finite, but 1 of its 9 .* \(1, 1\)"):
        eckart.truncated_svd(broken, 2)


@pytest.mark.parametrize("function", [eckart.truncated_svd, eckart.factorize])
def test_rank_out_of_range_is_refused(backend, function):
    """A ValueError with the limit computed from the shape."""
    A = backend.asarray(np.ones((40, 30)), "float32")
    for rank in 31, -1:
        with pytest.raises(
            ValueError,
            match=r"`rank` must be between 0 and min\(m, n\) = 30 for a matrix of shape "
            rf"\(40, 30\), got {rank}\.",
        ):
            function(A, rank)
    S = eckart.singular_values(A)
    for call in (lambda: eckart.select_rank(S, rank=31), lambda: eckart.truncation_error(S, 31)):
        with pytest.raises(ValueError, match=r"`rank` must be between 0 and k = 30 .* got 31"):
            call()


@pytest.mark.parametrize("rank", [2.0, "2", True, np.float64(2), [2]])
def test_rank_that_is_not_an_integer_is_refused(backend, rank):
    """A TypeError: 2.0 may have been meant as an error."""
    for call in (
        lambda: eckart.truncated_svd(eye(backend), rank),
        lambda: eckart.factorize(eye(backend), rank),
        lambda: eckart.select_rank(eckart.singular_values(eye(backend)), rank=rank),
        lambda: eckart.truncation_error(eckart.singular_values(eye(backend)), rank),
    ):
        with pytest.raises(TypeError, match="`rank` must be an integer"):
            call()


def test_numpy_integer_is_a_rank(backend):
    """Integers of NumPy are integers."""
    assert eckart.truncated_svd(eye(backend), np.int32(2)).rank == 2


@pytest.mark.parametrize("name", ["rtol", "atol", "error"])
def test_tolerance_that_is_negative_or_no_number_is_refused(backend, name):
    """Numbers and arrays alike."""
    for value in -1e-3, float("nan"), float("-inf"), backend.asarray(np.asarray(-1.0), "float32"):
        with pytest.raises(ValueError, match=f"`{name}` must be at least 0"):
            eckart.truncated_svd(eye(backend), **{name: value})
    for value in "1e-3", 1j, [1e-3]:
        with pytest.raises(TypeError, match=f"`{name}` must be"):
            eckart.truncated_svd(eye(backend), **{name: value})
    stack = backend.asarray(np.ones((2, 3, 3)), "float32")
    with pytest.raises(ValueError, match=r"stacks of .* must broadcast"):
        eckart.truncated_svd(stack, **{name: backend.asarray(np.ones(5), "float32")})


@pytest.mark.parametrize("function", S_FUNCTIONS)
def test_what_is_not_a_spectrum_is_refused(backend, function):
    """Ascending, negative, complex, scalar or not finite values are no singular values."""
    for broken in [1.0, 2.0, 3.0], [3.0, 1.0, -1.0]:
        with pytest.raises(ValueError, match="`S` must be singular values"):
            function(backend.asarray(np.asarray(broken), "float32"))
    with pytest.raises(ValueError, match="`S` must be finite, but 1 of its 3"):
        function(backend.asarray(np.asarray([np.inf, 2.0, 1.0]), "float32"))
    with pytest.raises(TypeError, match="`S` must be real, got complex64"):
        function(backend.asarray(np.ones(3), "complex64"))
    with pytest.raises(ValueError, match="`S` must have shape"):
        function(backend.asarray(np.asarray(1.0), "float32"))
    with pytest.raises(TypeError, match="`S` must be an array"):
        function([3.0, 2.0, 1.0])


def test_words_outside_the_list_are_refused(backend):
    """A ValueError that lists the words."""
    words = "'auto', 'exact', 'gram', 'krylov'"
    with pytest.raises(ValueError, match=f"`method` must be one of {words}, got 'fast'"):
        eckart.truncated_svd(eye(backend), 1, method="fast")
    with pytest.raises(ValueError, match="`split` must be one of 'balanced', 'left', 'right'"):
        eckart.factorize(eye(backend), 1, split="middle")
    with pytest.raises(ValueError, match="`norm` must be one of 'fro', 'spectral'"):
        eckart.truncation_error(eckart.singular_values(eye(backend)), 1, norm="nuc")


def test_factors_of_shapes_that_do_not_fit_are_refused(backend):
    """The sentence has both shapes."""
    tall = backend.asarray(np.ones((4, 2)), "float32")
    with pytest.raises(
        ValueError, match=r"inner lengths of `factors\.B` and `factors\.A` .*\(4, 2\) and \(4, 2\)"
    ):
        eckart.reconstruct(eckart.LowRank(tall, tall))
    with pytest.raises(
        TypeError, match=r"`factors` must be an SVD or a LowRank, got tuple.*eckart\.LowRank"
    ):
        eckart.reconstruct((tall, tall))
    factors = eckart.LowRank(tall, backend.asarray(np.ones((2, 3)), "float32"))
    with pytest.raises(
        ValueError, match=r"`x` must have shape \(\.\.\., n\) with n = 3, got shape \(4,\)"
    ):
        eckart.linear(tall[:, 0], factors)
    with pytest.raises(ValueError, match=r"`bias` must have shape \(\.\.\., m\) with m = 4"):
        eckart.linear(backend.asarray(np.ones(3), "float32"), factors, tall[0, :])
    with pytest.raises(ValueError, match="inner lengths of `factors` and `X`"):
        factors @ tall
    broken = eckart.SVD(tall, backend.asarray(np.ones(3), "float32"), factors.A)
    with pytest.raises(ValueError, match=r"`A\.S` must have shape \(\.\.\., r\) with r = 2"):
        eckart.truncated_svd(broken)


def test_sums_that_do_not_fit_are_refused(backend):
    """No term, another shape, another number of weights, a term that is no matrix."""
    factors = eckart.factorize(eye(backend), 1)
    with pytest.raises(TypeError, match="at least one term"):
        eckart.add()
    with pytest.raises(ValueError, match=r"of one shape, got shapes \(3, 3\) and \(4, 4\)"):
        eckart.add(factors, eckart.factorize(eye(backend, 4), 1))
    with pytest.raises(ValueError, match="`weights` must be one for each of the 2 terms, got 1"):
        eckart.add(factors, factors, weights=[1.0])
    with pytest.raises(TypeError, match=r"`terms\[1\]` must be an array"):
        eckart.add(factors, [1.0])
    with pytest.raises(TypeError, match=r"`weights\[0\]` must be real"):
        eckart.add(factors, weights=[1j])


@pytest.mark.parametrize("shape", [(3,), (-1, 3), ()])
def test_shape_that_is_no_matrix_is_refused(shape):
    """Two lengths or more, none negative, all integers."""
    with pytest.raises(ValueError, match="`shape` must be"):
        eckart.break_even_rank(shape)
    with pytest.raises(TypeError, match="`shape` must be an integer"):
        eckart.break_even_rank((3, 2.5))


def test_threshold_needs_all_singular_values(backend):
    """The median of some of them is another number."""
    S = eckart.singular_values(eye(backend))
    with pytest.raises(
        ValueError, match=r"all min\(m, n\) = 5 > 0 singular values .* \(5, 6\), got 3"
    ):
        eckart.hard_threshold(S, (5, 6))


def test_two_libraries_are_refused(backend):
    """The sentence names both arguments and both libraries."""
    other = "array_api_strict" if backend.library in ("numpy", "dask") else "numpy"
    foreign = importlib.import_module(other).asarray(np.ones(3, np.float32))
    factors = eckart.factorize(eye(backend), 1)
    with pytest.raises(TypeError, match=rf"`factors` and `x` .* got {backend.library} and {other}"):
        eckart.linear(foreign, factors)


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
def test_singular_value_beyond_the_dtype_is_refused(backend, dtype):
    """An overflow is an error, not an infinity: and no error where the factors do fit."""
    large = 3e38 if dtype in ("float32", "complex64") else 1.7e308
    A = backend.asarray(np.full((3, 3), large), dtype)
    for function in eckart.singular_values, eckart.truncated_svd, eckart.factorize:
        with pytest.raises(ValueError, match=f"largest singular value must fit .* in {dtype}"):
            function(A)
    assert int(eckart.matrix_rank(backend.asarray(np.full((3, 3), large / 4), dtype))) == 1


def test_factors_of_two_dtypes_are_refused(backend):
    """Nothing would say which is the dtype of the matrix."""
    B, A = eye(backend), backend.asarray(np.eye(3), "complex64")
    sentence = r"`A\.A` must have dtype float32 to go with `A\.B` of float32, got complex64"
    with pytest.raises(TypeError, match=sentence):
        eckart.truncated_svd(eckart.LowRank(B, A))
    S = backend.asarray(np.ones(3), "complex64")
    with pytest.raises(TypeError, match=r"`factors\.S` must have dtype float32"):
        eckart.reconstruct(eckart.SVD(A, S, A))


def test_tolerance_with_more_axes_than_the_stack_is_refused(backend):
    """One matrix has one tolerance."""
    tolerances = backend.asarray(np.asarray([0.9, 1e-8]), "float32")
    for name in "rtol", "atol", "error":
        with pytest.raises(ValueError, match=rf"`{name}` must have one number for each matrix"):
            eckart.truncated_svd(eye(backend), **{name: tolerances})


def test_shape_that_is_no_sequence_is_refused(backend):
    """A number is not a shape."""
    with pytest.raises(TypeError, match=r"`shape` must be .* got int"):
        eckart.break_even_rank(10)


@pytest.mark.only("torch")
def test_layout_that_is_not_taken_is_refused(backend):
    """A TypeError that says to make it dense: oneDNN's anywhere, a sparse one as a vector."""
    A = eye(backend)
    with pytest.raises(TypeError, match=r"`A` must be a dense array, got .*mkldnn.*to_dense"):
        eckart.truncated_svd(A.cpu().to_mkldnn(), 1)
    with pytest.raises(TypeError, match=r"`x` must be a dense array, got .*sparse_coo.*to_dense"):
        eckart.linear(A.to_sparse(), eckart.truncated_svd(A, 1))
