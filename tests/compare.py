"""The one comparison: a distance in honest units, in float64."""

from __future__ import annotations

from typing import Any

import numpy as np

EPS = {
    "float16": 2.0**-10,
    "bfloat16": 2.0**-7,
    "float32": 2.0**-23,
    "complex64": 2.0**-23,
    "float64": 2.0**-52,
    "complex128": 2.0**-52,
}


def assert_within(
    actual: Any, expected: Any, *, dtype: str, size: int, scale: float = 1.0, units: float = 1.0
) -> None:
    """Refuse entries further than ``units * size * eps(dtype) * scale`` from the expected ones.

    Both are NumPy arrays of one shape; a NaN or an infinity on either side is refused, and so is
    a comparison of nothing at all where something was expected.
    """
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape, f"shapes {actual.shape} and {expected.shape}"
    assert np.isfinite(scale), f"scale {scale}"
    wide = np.complex128 if np.iscomplexobj(actual) or np.iscomplexobj(expected) else np.float64
    actual, expected = actual.astype(wide), expected.astype(wide)
    assert np.all(np.isfinite(actual)), "the actual values are not finite"
    assert np.all(np.isfinite(expected)), "the expected values are not finite"
    distance = np.max(np.abs(actual - expected), initial=0.0)
    bound = units * size * EPS[dtype] * scale
    assert distance <= bound, (
        f"distance {distance:.3g} exceeds {bound:.3g} = "
        f"{units} * {size} * eps({dtype}) * {scale:.3g}"
    )
