"""What needs JAX itself; imported only when one of its arrays is met."""

from __future__ import annotations

from typing import Any

import jax

from eckart import _checks
from eckart._namespace import Array


@jax.custom_jvp
def without_derivative(A: Array) -> Array:
    """`A` itself, refusing a derivative, which JAX may ask for long after the call is traced."""
    return A


@without_derivative.defjvp
def _refuse(primals: Any, tangents: Any) -> Any:
    _checks.no_derivative()
