"""The entries of the test matrix are those of independent normal variables."""

import numpy as np

from truth import drawn


def test_entries_are_normal_and_independent(backend, dtype):
    """Columns, rows, seeds and streams have nothing in common; moments are those of a normal."""
    n = 4096
    columns = [drawn(backend, dtype, n, 16)]
    columns += [drawn(backend, dtype, n, 4, seed=seed) for seed in (1, -1, 2**31, 2**40)]
    columns += [drawn(backend, dtype, n, 4, stream=stream) for stream in (1, 2, 2**20)]
    columns += [drawn(backend, dtype, n + shift, 4)[shift:] for shift in (1, 2, 64)]
    G = np.concatenate(columns, axis=1)
    correlation = np.abs(G.conj().T @ G / n - np.eye(G.shape[1]))
    assert np.max(correlation) < 6 / np.sqrt(n)
    if not np.iscomplexobj(G):
        assert abs(np.mean(G)) < 5 / np.sqrt(G.size)
        assert abs(np.mean(G**4) - 3) < 5 * np.sqrt(96 / G.size)
    S = np.linalg.svd(columns[0], compute_uv=False)
    assert np.all(np.abs(S - np.sqrt(n)) < 8)
