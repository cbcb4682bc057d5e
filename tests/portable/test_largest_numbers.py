"""Entries near the largest number of a dtype, and what is no number at all."""

import importlib
import re

import numpy as np
import pytest

import eckart
from compare import EPS

LARGEST = {"float32": 3e38, "complex64": 3e38, "float64": 1.7e308, "complex128": 1.7e308}
SHAPE = (4, 3)
SENTENCES = "must be finite|must fit the dtype"


def ones(backend, dtype, size):
    return backend.asarray(np.full(SHAPE, size), dtype)


def halves(backend, dtype, size):
    """Two factors of a matrix whose entries are three times the square of a number."""
    B = backend.asarray(np.full((4, 3), size), dtype)
    return eckart.LowRank(B, backend.asarray(np.full((3, 3), size), dtype))


@pytest.mark.parametrize("power", [1.0, 0.5, -0.5, -0.9])
def test_rank_needs_no_value_that_fits(backend, dtype, power):
    """Ranks do not depend on the scale: also where the largest singular value is no number."""
    size = LARGEST[dtype] ** power
    for A in (
        ones(backend, dtype, size),
        halves(backend, dtype, size if power > 0 else size**0.5),
        backend.xp.stack([ones(backend, dtype, size), ones(backend, dtype, 1.0)]),
    ):
        assert np.all(backend.to_numpy(eckart.matrix_rank(A)) == 1)
        for function in eckart.stable_rank, eckart.effective_rank:
            assert np.all(np.abs(backend.to_numpy(function(A)) - 1) < 100 * EPS[dtype])
    assert int(eckart.matrix_rank(ones(backend, dtype, size), atol=size)) == 1
    if power < 1:
        assert int(eckart.matrix_rank(ones(backend, dtype, size), atol=4 * size)) == 0


def test_factors_are_refused_where_their_matrix_is(backend, dtype):
    """A singular value that does not fit is said to be one, whatever gave it."""
    factors = halves(backend, dtype, LARGEST[dtype] ** 0.6)
    unit = eckart.truncated_svd(ones(backend, dtype, 1.0), 1)
    for call in (
        lambda: eckart.truncated_svd(factors, 1),
        lambda: eckart.singular_values(factors),
        lambda: eckart.norm(factors),
        lambda: eckart.update(unit, factors),
        lambda: eckart.update(unit, ones(backend, dtype, LARGEST[dtype])),
        lambda: eckart.update(unit, ones(backend, dtype, LARGEST[dtype]), axis=-1),
    ):
        with pytest.raises(ValueError, match="the largest singular value must fit the dtype"):
            call()


def scipy_kinds(A):
    """Kinds of a NumPy matrix that products are known of."""
    sparse = importlib.import_module("scipy.sparse")
    turned = A.conj().T
    return {
        "array": A,
        "LowRank": eckart.LowRank(np.eye(4, dtype=A.dtype), A),
        "csr": sparse.csr_array(A),
        "LinearOperator": importlib.import_module("scipy.sparse.linalg").aslinearoperator(A),
        "operator": eckart.operator(SHAPE, lambda X: A @ X, lambda X: turned @ X, like=A),
        "sum": eckart.add(A, eckart.LowRank(np.zeros((4, 1), A.dtype), np.zeros((1, 3), A.dtype))),
    }


@pytest.mark.numpy_only
def test_no_warning_of_numpy_precedes_a_refusal(dtype):
    """What is not finite is refused in a sentence or comes out; no warning of another's escapes."""
    big = LARGEST[dtype]
    unit = eckart.truncated_svd(np.eye(*SHAPE, dtype=dtype), 2)
    functions = (
        lambda M: eckart.truncated_svd(M, 2),
        lambda M: eckart.truncated_svd(M, 1, method="krylov"),
        lambda M: eckart.truncated_svd(M, 1, method="gram"),
        lambda M: eckart.truncated_svd(M, error=0.1),
        lambda M: eckart.truncated_svd(M, 2, check_finite=False),
        lambda M: eckart.factorize(M, 2, split="left"),
        eckart.singular_values,
        eckart.matrix_rank,
        eckart.stable_rank,
        eckart.effective_rank,
        lambda M: eckart.certify(M, unit),
        eckart.norm,
        lambda M: eckart.inner(M, unit),
        lambda M: eckart.inner(M, M),
        lambda M: eckart.update(unit, M),
        lambda M: eckart.update(unit, M, axis=-1),
        lambda M: eckart.add(M, M) @ np.ones(3, dtype),
    )
    for entries in (
        np.full(SHAPE, big),
        np.asarray([[big, 1, 0], [1e-3, big, -big], [0, 0, 1], [1, 1, 1]]),
        np.asarray([[np.inf, 1, 0], [1, 2, 3], [0, 0, 1], [1, 1, 1]]),
        np.asarray([[np.inf, -np.inf, 0]] * 4),
        np.asarray([[np.nan, 1, 0], [1, 2, 3], [0, 0, 1], [1, 1, 1]]),
    ):
        for name, M in scipy_kinds(entries.astype(dtype)).items():
            for number, function in enumerate(functions):
                try:
                    function(M)
                except Exception as error:
                    sentence = isinstance(error, ValueError) and re.search(SENTENCES, str(error))
                    if not sentence:
                        message = f"function {number} of {name}: {error!r}"
                        raise AssertionError(message) from error


@pytest.mark.only("torch")
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_tensors_that_are_no_arrays_are_refused(backend):
    """By what they are, with what to do."""
    torch = importlib.import_module("torch")
    rows = [torch.ones(4, 4), torch.ones(3, 4)]
    factors = eckart.truncated_svd(torch.eye(4), 2)
    odd = {
        "dense array, got a nested tensor": torch.nested.nested_tensor(rows),
        "plain array, got .*MaskedTensor": torch.masked.masked_tensor(
            torch.ones(4, 4), torch.ones(4, 4, dtype=torch.bool)
        ),
        "plain array, got .*UninitializedParameter": torch.nn.UninitializedParameter(),
        "floating-point dtype .* got qint8": torch.quantize_per_tensor(
            torch.ones(4, 4), 0.1, 0, torch.qint8
        ),
    }
    for sentence, tensor in odd.items():
        for function in (
            lambda A: eckart.truncated_svd(A, 1),
            eckart.norm,
            lambda A: eckart.certify(A, factors),
            lambda A: eckart.update(factors, A),
            lambda A: eckart.linear(A, factors),
            lambda A: factors @ A,
            lambda A: eckart.LowRank(A, A) @ torch.eye(4),
            lambda A: eckart.add(torch.eye(4), factors) @ A,
        ):
            with pytest.raises(TypeError, match=sentence):
                function(tensor)


@pytest.mark.numpy_only
def test_words_are_words():
    """An array where a word is expected is told which words there are."""
    A = np.eye(3)
    for call in (
        lambda: eckart.truncated_svd(A, 1, method=A),
        lambda: eckart.factorize(A, 1, split=A),
        lambda: eckart.truncation_error(np.ones(3), 1, norm=A),
    ):
        with pytest.raises(ValueError, match="must be one of"):
            call()
    for broken in None, [1.0], "A", A.astype(object), np.full((3, 3), "a"):
        with pytest.raises(TypeError, match="`X` must"):
            eckart.add(A, eckart.truncated_svd(A, 1)) @ broken
