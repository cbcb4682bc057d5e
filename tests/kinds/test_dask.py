"""A matrix in chunks is decomposed as the matrix itself, in a handful of readings."""

import contextlib
import importlib
import os
import signal
import threading
import uuid
from pathlib import Path

import numpy as np
import pytest

import eckart
import zoo
from compare import EPS, assert_within
from truth import assert_truncation

pytestmark = pytest.mark.only("dask")

SHAPE, RANK = (400, 90), 6
S = 0.8 ** np.arange(90.0)
CHUNKS = {
    "rows": (100, -1),
    "columns": (-1, 30),
    "both": (70, 40),
    "uneven": ((1, 200, 150, 49), (2, 87, 1)),
    "one": (-1, -1),
}


class Source:
    """What Dask reads a matrix from; it counts how often."""

    ndim = 2

    def __init__(self, A):
        self.A, self.shape, self.dtype = A, A.shape, A.dtype
        self.entries, self.lock = 0, threading.Lock()

    def __getitem__(self, key):
        part = self.A[key]
        with self.lock:
            self.entries += part.size
        return part

    @property
    def readings(self):
        """How often the whole of it has been read."""
        return self.entries / self.A.size


def chunked(A, chunks):
    """A Dask array of a NumPy matrix, and its source."""
    da = importlib.import_module("dask.array")
    source = Source(A)
    return da.from_array(source, chunks=chunks), source


def matrix(dtype, S=S, shape=SHAPE, scale=1.0):
    return (scale * zoo.matrix(S, shape, dtype=dtype, seed=1)).astype(dtype)


def assert_truncated(factors, A, S, dtype, rank=RANK):
    """Refuse all but the truncation of a NumPy matrix, in its dtype."""
    assert factors.U.dtype == factors.Vh.dtype == A.dtype
    assert_truncation(factors, A, S, dtype=dtype, rank=rank)


@pytest.mark.parametrize("turned", [False, True], ids=["tall", "wide"])
@pytest.mark.parametrize("chunks", CHUNKS)
def test_truncation_of_chunks_is_that_of_the_matrix(dtype, chunks, turned):
    """Whatever the chunks are; ``U`` is a Dask array in them, ``S`` and the short side are not."""
    da = importlib.import_module("dask.array")
    A = matrix(dtype)
    array, _ = chunked(A, CHUNKS[chunks])
    array, A = (array.T, A.T) if turned else (array, A)
    factors = eckart.truncated_svd(array, RANK, method="krylov")
    assert_truncated(factors, A, S, dtype)
    assert isinstance(factors.U, da.Array)
    assert factors.U.chunks == (array.chunks[0], (RANK,))
    assert isinstance(factors.S, np.ndarray)
    assert isinstance(factors.Vh, da.Array if turned else np.ndarray)
    same = eckart.truncated_svd(A, RANK, method="exact")
    assert_within(np.asarray(factors.U), same.U, dtype=dtype, size=400, scale=4.0, units=8)


@pytest.mark.parametrize("name", zoo.HARD_SPECTRA)
def test_hard_spectra_are_truncated_as_well(dtype, name):
    """Flat tails, repeats across the cut, exact ranks below the one asked for, zero."""
    S = zoo.HARD_SPECTRA[name](300)
    A = matrix(dtype, S, (500, 300))
    array, source = chunked(A, (128, -1))
    factors = eckart.truncated_svd(array, 20, method="krylov")
    U, values, Vh = map(np.asarray, factors)
    for Q in U, Vh.conj().T:
        assert_within(Q.conj().T @ Q, np.eye(20), dtype=dtype, size=500)
    error = np.linalg.norm(A.astype(np.complex128) - (U * values) @ Vh)
    best = np.linalg.norm(S[20:])
    assert error <= best * (1 + np.sqrt(EPS[dtype])) + 500 * EPS[dtype] * max(S[0], 1e-30)
    assert source.readings < 20


def test_each_step_reads_every_chunk_once(dtype):
    """Both products of a step in one reading, one more for ``U``, none to use it."""
    S = 1 / np.arange(1.0, 301)
    A = matrix(dtype, S, (1000, 300))
    array, source = chunked(A, (128, 80))
    factors = eckart.truncated_svd(array, 8, method="krylov", accuracy=1e-4)
    assert source.readings == 4
    assert_within(factors.S, S[:8], dtype=dtype, size=1000, units=100 if EPS[dtype] < 1e-10 else 1)
    np.asarray(factors.U)
    assert source.readings == 4


@pytest.mark.parametrize("decay", [0.85, 0.7])
def test_precision_that_squares_need_costs_one_reading(decay):
    """Single precision is left as soon as its squares are seen not to resolve a wanted value."""
    S = decay ** np.arange(300.0)
    array, source = chunked(matrix("float32", S, (1000, 300)), (128, 80))
    factors = eckart.truncated_svd(array, 30, method="krylov", accuracy=1e-6)
    assert source.readings <= 4
    assert_within(factors.S, S[:30], dtype="float32", size=1000)


def test_short_side_that_soon_fills_the_space_is_read_twice(dtype):
    """The whole Gram matrix in one reading, ``U`` in another."""
    A = matrix(dtype)
    array, source = chunked(A, (128, -1))
    assert_truncated(eckart.truncated_svd(array, RANK, method="krylov"), A, S, dtype)
    assert source.readings == 2


@pytest.mark.parametrize(
    "rules", [{"error": 0.2}, {"rtol": 0.1}, {"rank": 20, "atol": 0.3}], ids=str
)
def test_rules_choose_the_rank_of_chunks(dtype, rules):
    """As they do that of the matrix."""
    A = matrix(dtype, 0.8 ** np.arange(300.0), (500, 300))
    array, _ = chunked(A, (128, 80))
    factors = eckart.truncated_svd(array, method="krylov", **rules)
    assert factors.rank == eckart.truncated_svd(A, method="exact", **rules).rank
    assert_truncated(factors, A, 0.8 ** np.arange(300.0), dtype, factors.rank)


def test_small_values_are_kept_with_all_their_digits(dtype):
    """Down to ``eps**(1/3)`` of the largest; single precision turns to double for them."""
    smallest = EPS[dtype] ** (1 / 3 if EPS[dtype] < 1e-10 else 1 / 2)
    S = np.concatenate([np.geomspace(1, smallest, 8), np.zeros(292)])
    A = matrix(dtype, S, (500, 300))
    array, _ = chunked(A, (128, -1))
    S = np.linalg.svd(A.astype(np.complex128), compute_uv=False)
    factors = eckart.truncated_svd(array, 8, method="krylov", accuracy=1e-4)
    assert_within(factors.S, S[:8], dtype=dtype, size=10)


@pytest.mark.parametrize("exponent", [-1, 1])
def test_scale_of_the_chunks_is_the_scale_of_the_values(dtype, exponent):
    """1e±30 in single, 1e±150 in double precision, and chunks of zeros among them."""
    scale = 10.0 ** (exponent * (30 if EPS[dtype] > 1e-10 else 150))
    A = matrix(dtype, scale=scale)
    A[100:200] = 0
    expected = np.linalg.svd(A.astype(np.complex128) / scale, compute_uv=False)
    array, _ = chunked(A, (100, 40))
    factors = eckart.truncated_svd(array, RANK, method="krylov")
    assert_within(factors.S.astype(float) / scale, expected[:RANK], dtype=dtype, size=400)


def test_chunks_of_very_different_sizes_are_added_up_right():
    """Where some are so small that they would be scaled, and others are not."""
    A = matrix("float64")
    A[100:200] *= 1e-120
    array, _ = chunked(A, (100, 40))
    expected = np.linalg.svd(A, compute_uv=False)[:RANK]
    factors = eckart.truncated_svd(array, RANK, method="krylov")
    assert_within(factors.S, expected, dtype="float64", size=400)


@pytest.mark.parametrize("exponent", [-300, -90, -80, 80, 90, 300])
def test_scale_of_the_gram_matrix_is_no_matter(exponent):
    """Squares of squares of the entries would leave the range where squares do not."""
    A = np.random.default_rng(0).standard_normal((300, 200))
    S = np.linalg.svd(A, compute_uv=False)[:5]
    array, _ = chunked(A * 10.0**exponent, (100, -1))
    found = eckart.truncated_svd(array, 5, method="krylov").S / 10.0**exponent
    assert_within(found, S, dtype="float64", size=300, scale=S[0])


def test_errors_that_squares_cannot_tell_are_met(dtype):
    """By more digits, or by reading the matrix into memory."""
    S = np.geomspace(1, EPS[dtype] ** 0.875, 100)
    A = matrix(dtype, S, (900, 400))
    array, _ = chunked(A, (100, -1))
    error = EPS[dtype] ** 0.625
    expected = eckart.truncated_svd(A, error=error, method="exact").rank
    assert abs(eckart.truncated_svd(array, error=error, method="krylov").rank - expected) <= 1


def test_empty_chunks_are_no_matter():
    """They come from filters and slices."""
    A = matrix("float64")
    array, _ = chunked(A, ((0, 400), (90, 0)))
    assert_truncated(eckart.truncated_svd(array, RANK, method="krylov"), A, S, "float64")


def test_masked_chunks_are_refused():
    """Like masked arrays."""
    da = importlib.import_module("dask.array")
    masked = da.from_array(np.ma.masked_greater(np.eye(4), 0.5), chunks=2)
    with pytest.raises(TypeError, match=r"plain NumPy arrays, got numpy.*MaskedArray"):
        eckart.truncated_svd(masked, 1)


def test_more_repeats_than_a_block_are_found():
    """A block finds as many copies of a value as it has columns, so it has to widen."""
    S = np.where(np.arange(400) < 70, 1.0, 0.3)
    array, _ = chunked(matrix("float64", S, (500, 400)), (128, -1))
    factors = eckart.truncated_svd(array, rtol=0.5, method="krylov")
    assert factors.rank == 70


def test_restart_keeps_what_is_wanted(dtype, monkeypatch):
    """A basis that has no room goes on from its best vectors."""
    monkeypatch.setattr("eckart._algorithms.iteration.ROOM", 2)
    S = np.arange(1.0, 401) ** -0.5
    A = matrix(dtype, S, (500, 400))
    array, _ = chunked(A, (128, -1))
    assert_truncated(eckart.truncated_svd(array, RANK, method="krylov"), A, S, dtype)


def test_all_values_of_chunks_are_found_in_one_reading(dtype, monkeypatch):
    """Through the triangles of the strips, which nothing is squared for."""
    monkeypatch.setattr("eckart._matrices.chunked._READ", 0)
    A = matrix(dtype)
    for chunks in CHUNKS.values():
        array, source = chunked(A, chunks)
        values = eckart.singular_values(array)
        assert_within(values, S, dtype=dtype, size=400)
        assert source.readings == 1
        assert_within(eckart.singular_values(array.T), S, dtype=dtype, size=400)
    assert int(eckart.matrix_rank(array, rtol=0.1)) == np.sum(S > 0.1)
    with pytest.raises(ValueError, match=r"`A` must have a side of at most .* truncated_svd"):
        eckart.singular_values(
            array.rechunk(-1)[:20, :20].map_blocks(np.tile, (600, 600), chunks=(12000, 12000))
        )


def test_factors_in_chunks_do_what_factors_do(dtype):
    """Products, sums, reconstruction and the balanced split, of Dask and NumPy arrays together."""
    A = matrix(dtype)
    array, _ = chunked(A, (100, 40))
    svd = eckart.truncated_svd(array, RANK, method="krylov")
    B, _ = factors = eckart.factorize(array, RANK, method="krylov")
    W = (np.asarray(svd.U) * svd.S) @ np.asarray(svd.Vh)
    X = np.random.default_rng(0).standard_normal((90, 3)).astype(dtype)
    close = {"dtype": dtype, "size": 400, "scale": 4.0}
    for each in svd, factors:
        assert each.shape == A.shape
        assert_within(np.asarray(eckart.reconstruct(each)), W, **close)
        assert_within(np.asarray(each @ X), W @ X, **close, units=4)
        assert_within(np.asarray(eckart.linear(X.T, each)), X.T @ W.T, **close, units=4)
    assert_within(np.asarray(B).conj().T @ np.asarray(B), np.diag(svd.S), **close)
    twice = eckart.add(svd, factors)
    assert_within(np.asarray(eckart.reconstruct(twice)), 2 * W, **close)


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_chunks_that_are_not_finite_are_refused(broken):
    """With how many and where, as everywhere."""
    A = matrix("float64")
    A[250, 7] = broken
    array, _ = chunked(A, (100, 40))
    with pytest.raises(ValueError, match=r"`A` must be finite, but 1 of .* at index \(250, 7\)"):
        eckart.truncated_svd(array, 3, method="krylov")


def test_unknown_chunk_sizes_are_refused():
    """With what to do."""
    array, _ = chunked(matrix("float64"), (100, 40))
    unknown = array[array[:, 0] > 0]
    with pytest.raises(
        ValueError, match=r"`A` must have chunks of known sizes.* A\.compute_chunk_sizes"
    ):
        eckart.truncated_svd(unknown, 3)
    assert eckart.truncated_svd(unknown.compute_chunk_sizes(), 3).rank == 3


def test_chunks_of_integers_are_refused():
    """As everywhere."""
    array, _ = chunked(np.eye(4, dtype=int), 2)
    with pytest.raises(TypeError, match="`A` must have a floating-point dtype"):
        eckart.truncated_svd(array, 1)


def test_iteration_that_gives_up_says_so(monkeypatch):
    """With the residual it reached."""
    monkeypatch.setattr("eckart._algorithms.iteration.STEPS", 2)
    A = matrix("float64", 1 / np.arange(1.0, 301) ** 0.1, (500, 300))
    array, _ = chunked(A, (128, -1))
    with pytest.warns(RuntimeWarning, match="have not converged: a residual of") as told:
        eckart.truncated_svd(array, 20, method="krylov")
    assert told[0].filename == __file__  # where the call stands


def test_residual_that_rounding_leaves_is_told():
    """Where it is above the accuracy, and there are no more digits to compute in."""
    A = matrix("float64", 10.0 ** -np.linspace(0, 6, 300), (500, 300))
    array, _ = chunked(A, (128, -1))
    with pytest.warns(RuntimeWarning, match="have not converged: a residual of"):
        eckart.truncated_svd(array, 200, method="krylov", accuracy=1e-14)


class Killer:
    """What a chunk is read from; the first worker that comes to the second reading dies of it."""

    ndim = 2

    def __init__(self, A, folder):
        self.A, self.folder, self.shape, self.dtype = A, str(folder), A.shape, A.dtype

    def __getitem__(self, key):
        marks = Path(self.folder)
        readings = sum(1 for _ in marks.glob("read-*"))
        (marks / f"read-{uuid.uuid4()}").touch()
        if readings >= 6:
            with contextlib.suppress(FileExistsError):
                (marks / "killed").touch(exist_ok=False)
                os.kill(os.getpid(), signal.SIGKILL)
        return self.A[key]


@pytest.mark.filterwarnings("ignore")
def test_lost_worker_costs_its_share_and_no_more(tmp_path):
    """On a cluster of processes: one is killed in the middle, and the result is the same."""
    distributed = importlib.import_module("distributed")
    da = importlib.import_module("dask.array")
    A = matrix("float64", 1 / np.arange(1.0, 301), (500, 300))
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None, processes=True
        ) as cluster,
        distributed.Client(cluster),
    ):
        array = da.from_array(Killer(A, tmp_path), chunks=(125, -1))
        factors = eckart.truncated_svd(array, RANK, method="krylov")
        assert_truncated(factors, A, 1 / np.arange(1.0, 301), "float64")
    assert (tmp_path / "killed").exists()


def test_ranks_of_a_large_matrix_need_no_singular_value_that_fits(backend):
    """``S[0]`` of equal entries is their modulus times ``sqrt(m * n)``, here above the largest."""
    da = importlib.import_module("dask.array")
    for dtype, entry in (("float64", 1.5e308), ("float32", 3e38)):
        A = da.full((2**20, 9), entry, dtype=dtype, chunks=(2**18, 9))
        assert int(eckart.matrix_rank(A)) == 1
        assert_within(backend.to_numpy(eckart.stable_rank(A)), 1.0, dtype=dtype, size=9)


def test_squares_of_single_precision_are_added_in_double(backend):
    """The squared norm is that of the entries, to the rounding of float64."""
    strips = importlib.import_module("eckart._matrices._dask").Strips
    A = zoo.random((500, 300), "float32", 0)
    found, power = strips(backend.xp.asarray(A, chunks=(100, 150))).measured()
    expected = np.sum(A.astype(np.float64) ** 2) * float(power) ** 2
    assert_within(found / expected, 1.0, dtype="float64", size=500)
