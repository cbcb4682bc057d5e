"""What every public function promises: the caller's library, dtype and device."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import array_api_compat
import numpy as np
import pytest

import eckart
from compare import assert_within
from truth import real


def results(A, dtype):
    """Every array that the public functions return, and the dtype each should have."""
    S = eckart.singular_values(A)
    svd, factors = eckart.truncated_svd(A, 1), eckart.factorize(A, 1, error=0.1)
    yield from ((array, dtype) for array in (svd.U, svd.Vh, *factors))
    yield from ((array, dtype) for array in map(eckart.reconstruct, (svd, factors)))
    yield from ((array, dtype) for array in eckart.add(svd, factors))
    yield from ((array, dtype) for array in eckart.factorize(factors, 2))
    updates = eckart.update(svd, A), eckart.update(factors, A, axis=-1), eckart.update(svd, factors)
    for update in updates:
        yield from ((array, dtype) for array in (update.svd.U, update.svd.Vh))
        yield from ((array, real(dtype)) for array in (update.svd.S, update.loss))
    yield eckart.linear(A[0, :], factors, A[:, 0]), dtype
    yield factors @ A[0, :], dtype
    for array in (
        svd.S,
        S,
        eckart.singular_values(factors),
        eckart.stable_rank(A),
        eckart.effective_rank(A),
        eckart.truncation_error(S, 1),
        eckart.truncation_error(S, eckart.matrix_rank(A), norm="spectral", relative=True),
        eckart.hard_threshold(S, A.shape),
        eckart.hard_threshold(S, A.shape, noise=0.1),
    ):
        yield array, real(dtype)
    for array in eckart.matrix_rank(A), eckart.select_rank(S, error=0.1):
        yield array, None


def test_results_are_arrays_of_the_library_on_the_device_in_the_dtype(backend, dtype, xp):
    """Arrays of your library in, arrays of your library out, where they were, as they were."""
    A = backend.asarray(np.diag([3.0, 2.0, 1.0])[:, :2] + 0.5, dtype)
    where = array_api_compat.device(A)
    for array, expected in results(A, dtype):
        found = array_api_compat.array_namespace(array)
        # What is small comes out of Dask as an array of its chunks.
        assert found is xp or (backend.library, found.__name__) == (
            "dask",
            "array_api_compat.numpy",
        )
        assert array_api_compat.device(array) == where
        if expected is None:
            assert xp.isdtype(array.dtype, "integral")
        else:
            assert array.dtype == backend.dtype(expected)


def test_results_stay_on_a_device_that_is_not_the_default(backend, xp):
    """A creation without ``device=`` would leave it: devices that only look like one notice."""
    for where in backend.devices():
        A = xp.asarray(np.vander(np.linspace(1, 2, 6))[:, :2].astype(np.float32), device=where)
        stack = xp.stack([A, A])
        found = [array for array, _ in results(A, "float32")]
        found += eckart.truncated_svd(stack, 1, error=0.1)
        assert {str(array_api_compat.device(array)) for array in found} == {str(where)}


def test_arguments_are_not_written_to(backend, dtype):
    """No function changes what it is given."""
    before = np.diag([3.0, 2.0, 1.0])[:, :2] + 0.5
    A = backend.asarray(before, dtype)
    eckart.truncated_svd(A, 1, error=0.1)
    eckart.singular_values(A)
    assert_within(backend.to_numpy(A), before, dtype=dtype, size=0)


def test_same_call_gives_the_same_bits(backend, dtype):
    """Nothing is drawn at random and no global state is read."""
    A = backend.asarray(np.vander(np.linspace(1, 2, 6)), dtype)
    for one, other in zip(eckart.truncated_svd(A, 3), eckart.truncated_svd(A, 3), strict=True):
        assert_within(backend.to_numpy(one), backend.to_numpy(other), dtype=dtype, size=0)


@pytest.mark.numpy_only
def test_names_are_those_of_the_contents_page():
    """Every public name is there, documented, with an example that runs."""
    public = {name for name in vars(eckart) if not name.startswith("_")}
    assert public - {"cli"} == set(eckart.__all__)
    for name in eckart.__all__:
        assert ">>> " in getattr(eckart, name).__doc__, name


@pytest.mark.numpy_only
def test_import_brings_no_framework():
    """It imports NumPy and array-api-compat, nothing heavier."""
    code = (
        "import sys, eckart; "
        "print(*({'torch', 'jax', 'cupy', 'dask', 'scipy', 'click', 'rich'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


@pytest.mark.numpy_only
def test_byte_order_and_strides_do_not_matter():
    """Arrays as files and views give them: big-endian, Fortran order, negative strides."""
    A = np.random.default_rng(0).standard_normal((6, 4))
    expected = eckart.truncated_svd(A, 2)
    for same in A.astype(">f8"), np.asfortranarray(A), A[::-1, ::-1].copy()[::-1, ::-1]:
        for one, other in zip(eckart.truncated_svd(same, 2), expected, strict=True):
            assert_within(one, other, dtype="float64", size=6, units=8)
            assert one.dtype == same.dtype


def test_products_ignore_the_library_s_reduced_precision(backend, monkeypatch):
    """Whatever the user set, products are exact to float32, and the setting stays."""
    multiply, inside = backend.xp.matmul, []

    def spy(*arrays):
        inside.append(products_are_precise(backend))
        return multiply(*arrays)

    monkeypatch.setattr(backend.xp, "matmul", spy)
    rng = np.random.default_rng(0)
    B, A = rng.standard_normal((256, 64)), rng.standard_normal((64, 256))
    factors = eckart.LowRank(backend.asarray(B, "float32"), backend.asarray(A, "float32"))
    expected = B.astype(np.float32).astype(float) @ A.astype(np.float32).astype(float)
    with ReducedPrecision(backend) as setting:
        before = setting()
        W = eckart.reconstruct(factors)
        assert setting() == before
    assert_within(backend.to_numpy(W), expected, dtype="float32", size=64, scale=2.0)
    assert inside
    assert all(inside)


@pytest.mark.needs("operators")
def test_products_of_an_operator_ignore_it_too(backend):
    """Or they would be no adjoints of each other where TF32 is the default."""
    A, inside = backend.asarray(np.eye(6, 4), "float32"), []

    def multiplied(B):
        def multiply(X):
            inside.append(products_are_precise(backend))
            return B @ X

        return multiply

    with ReducedPrecision(backend):
        operator = eckart.operator((6, 4), multiplied(A), multiplied(A.mT), like=A)
        eckart.truncated_svd(operator, 2)
        assert not products_are_precise(backend) or backend.library not in ("torch", "jax")
    assert len(inside) > 2
    assert all(inside)


def products_are_precise(backend):
    """Whether float32 products of the library are exact to float32 now."""
    if backend.library == "torch":
        settings = sys.modules["torch"].backends
        read = settings.cuda.matmul.fp32_precision, settings.mkldnn.matmul.fp32_precision
        return read == ("ieee", "ieee")
    if backend.library == "jax":
        return sys.modules["jax"].config.jax_default_matmul_precision == "highest"
    return True


@pytest.mark.needs("compile")
def test_products_ignore_autocast(backend):
    """Training code runs under autocast: the factors are still those of the matrix."""
    torch = sys.modules["torch"]
    A = backend.asarray(np.random.default_rng(0).standard_normal((40, 40)), "float32")
    factors = eckart.factorize(A, 5)
    expected = backend.to_numpy(eckart.reconstruct(factors)), eckart.truncated_svd(factors, 5)
    with torch.autocast(A.device.type, dtype=torch.bfloat16):
        W, svd = eckart.reconstruct(factors), eckart.truncated_svd(factors, 5)
    assert_within(backend.to_numpy(W), expected[0], dtype="float32", size=1)
    assert_within(backend.to_numpy(svd.U), backend.to_numpy(expected[1].U), dtype="float32", size=1)


@pytest.mark.needs("compile")
@pytest.mark.filterwarnings("ignore:Attempting to run cuBLAS, but there was no current CUDA")
def test_precision_settings_survive_threads(backend):
    """The last of many threads to multiply puts the user's settings back."""
    factors = eckart.factorize(backend.asarray(np.eye(8), "float32"), 4)
    with ReducedPrecision(backend) as setting:
        before = setting()
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda _: eckart.reconstruct(factors), range(400)))
        assert setting() == before


class ReducedPrecision:
    """The library multiplies float32 in TF32 or bfloat16 inside."""

    def __init__(self, backend):
        self.library = sys.modules[backend.library] if backend.library in ("torch", "jax") else None

    def __enter__(self):
        if self.library is None:
            return lambda: None
        if self.library.__name__ == "jax":
            self.context = self.library.default_matmul_precision("bfloat16")
            self.context.__enter__()
            return lambda: self.library.config.jax_default_matmul_precision
        self.before = self.library.get_float32_matmul_precision()
        self.library.set_float32_matmul_precision("medium")
        return lambda: (
            self.library.get_float32_matmul_precision(),
            self.library.backends.cuda.matmul.fp32_precision,
            self.library.backends.mkldnn.matmul.fp32_precision,
        )

    def __exit__(self, *error):
        if self.library is None:
            return
        if self.library.__name__ == "jax":
            self.context.__exit__(*error)
        else:
            self.library.set_float32_matmul_precision(self.before)
