"""Where a library asks for the derivative of a truncation, and how it is given one."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any

from eckart._arrays.linalg import matmul, root
from eckart._arrays.namespace import (
    Array,
    has_derivative,
    is_compiled,
    is_jax,
    is_plain,
    is_torch,
)
from eckart._derivative.truncation import Kept, Known, Parts, distrusted, normal, split_core, values
from eckart._derivative.truncation import framed as frame_of
from eckart._matrices import Matrix


def constant(array: Array) -> Array:
    """`array` without a derivative."""
    module = _registry((array,))
    constant: Array = array if module is None else module.constant(array)
    return constant


def is_differentiated(parts: Parts) -> bool:
    """Whether the library may ask for a derivative with respect to the parts."""
    return _registry(parts) is not None


def represented(
    split: str | None,
    parts: Parts,
    kept: Kept,
    dropped: Known | None,
    spare: Known | None,
    doubtful: Array | None = None,
) -> tuple[Array, Array, Array]:
    """The left factor, the singular values and the right factor of a truncation.

    Parameters
    ----------
    split : {None, "balanced", "left", "right"}
        Which factor has the singular values; None for neither.
    parts : tuple of array
        The matrix, or two factors of it: with respect to them there is a derivative.
    kept : Kept
        Its leading triplets, as constants.
    dropped, spare : tuple of array, optional
        All its other triplets, or approximations to some of them.
    doubtful : array, shape (...), optional
        Where the derivative is NaN, as the triplets are too inexact for it.
    """
    factors: tuple[Array, Array, Array] = deferred(
        partial(_scaled, split), partial(_framed, split), parts, (kept, dropped, spare, doubtful)
    )
    return factors


def constant_matrix(A: Matrix) -> Matrix:
    """`A` without a derivative, in the dtype that it is computed in.

    The products of a linear operator refuse to be differentiated.
    """
    return A.constant(constant, _refused)


def guarded(A: Matrix) -> Matrix:
    """`A` itself where it is differentiable, else `A` with products that refuse it."""
    return A if A.parts else constant_matrix(A)


def _refused(Y: Array) -> Array:
    """A product with what has no derivative."""
    module = _registry((Y,))
    return Y if module is None else module.underivable(Y)


def deferred(
    plain: Callable[..., Any], differentiable: Callable[..., Any], parts: Parts, constants: Any
) -> Any:
    """``differentiable(parts, constants)`` where a derivative is needed, else `plain` of the same.

    JAX decides long after the call, PyTorch before it.
    """
    module = _registry(parts)
    if module is None:
        return plain(parts, constants)
    return module.deferred(plain, differentiable, parts, constants)


def _framed(split: str | None, parts: Parts, constants: Any) -> tuple[Array, Array, Array]:
    """The factors as functions of the parts."""
    *triplets, doubtful = constants
    module = _registry(parts)
    assert module is not None
    parts, (kept, dropped, spare), power = normal(parts, triplets)
    frame = frame_of(kept, power)
    S = values(frame)
    frame = module.framed(parts, frame, dropped, spare)
    if doubtful is not None:
        frame = distrusted(frame, S, doubtful)
    if split is None:
        left, S, right = module.turned(frame.core, S)
    else:
        left, right = split_core(frame.core, S, split)
    scale = root(power) if split == "balanced" else power
    left, right = matmul(frame.U, left), matmul(right, frame.Vh)
    return (
        left / scale if split in ("left", "balanced") else left,
        S / power[..., 0],
        right / scale if split in ("right", "balanced") else right,
    )


def _scaled(split: str | None, parts: Parts, constants: Any) -> tuple[Array, Array, Array]:
    """The factors without a derivative."""
    (U, S, Vh), *_ = constants
    scale = root(S) if split == "balanced" else S
    left = U * scale[..., None, :] if split in ("left", "balanced") else U
    right = scale[..., :, None] * Vh if split in ("right", "balanced") else Vh
    return left, S, right


def _registry(parts: Parts) -> ModuleType | None:
    """The module that registers derivatives with the library; None where none will be asked for."""
    if not parts:
        return None
    if is_jax(parts[0]) and not all(map(is_plain, parts)):
        from eckart._derivative import _jax

        return _jax
    if is_torch(parts[0]) and any(map(_is_watched, parts)):
        from eckart._derivative import _torch

        return _torch
    return None


def _is_watched(part: Array) -> bool:
    """Whether PyTorch will differentiate `part`, or may do so outside of a ``vmap``.

    Its compiler knows, and does not trace a registered function that has nothing to do.
    """
    return has_derivative(part) or not (is_plain(part) or is_compiled(part))
