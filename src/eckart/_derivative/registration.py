"""Gives a library the derivative of a truncation, if the library may ask for it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any

from eckart._arrays.linalg import matmul, root
from eckart._arrays.namespace import (
    Array,
    is_jax,
    is_plain,
    is_torch,
    namespace,
)
from eckart._derivative.truncation import (
    Kept,
    Known,
    Parts,
    distrusted,
    normal,
    power_of,
    scales,
    split_core,
    values,
)
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
        Which factor is multiplied by the singular values; None for neither.
    parts : tuple of array
        The matrix, or two factors of it. The results are differentiable functions of the parts.
    kept : Kept
        The leading triplets of the matrix, as constants.
    dropped, spare : tuple of array, optional
        All remaining triplets, or approximations to some of them.
    doubtful : array, shape (...), optional
        Whether the triplets are not accurate enough for a derivative. The derivative is NaN there.
    """
    factors: tuple[Array, Array, Array] = deferred(
        partial(_scaled, split), partial(_framed, split), parts, (kept, dropped, spare, doubtful)
    )
    return factors


def constant_matrix(A: Matrix) -> Matrix:
    """`A` without a derivative, in the working dtype.

    The products of a linear operator refuse to be differentiated.
    """
    return A.constant(constant, _refused)


def guarded(A: Matrix) -> Matrix:
    """`A` itself if it is differentiable, else `A` with products that refuse a derivative."""
    return A if A.parts else constant_matrix(A)


def _refused(Y: Array) -> Array:
    """A product that refuses to be differentiated."""
    module = _registry((Y,))
    return Y if module is None else module.underivable(Y)


def deferred(
    plain: Callable[..., Any], differentiable: Callable[..., Any], parts: Parts, constants: Any
) -> Any:
    """``differentiable(parts, constants)`` if a derivative is needed, else ``plain(...)`` of them.

    JAX decides after the call, PyTorch before it.
    """
    module = _registry(parts)
    if module is None:
        return plain(parts, constants)
    return module.deferred(plain, differentiable, parts, constants)


def homogeneous(
    function: Callable[[Parts, Any], tuple[Array, ...]],
    parts: Parts,
    S: Array,
    constants: Any,
    degrees: tuple[tuple[float, int], ...],
) -> tuple[Array, ...]:
    """The results of a function of the parts, computed and differentiated at a norm near one.

    The product of the parts has the singular values `S`, a constant. `scales` explains `degrees`.
    """
    module = _registry(parts)
    assert module is not None
    xp = namespace(S)
    parts = tuple(xp.broadcast_to(part, (*S.shape[:-1], *part.shape[-2:])) for part in parts)
    powers = scales(tuple(map(constant, parts)), S, degrees)
    found: tuple[Array, ...] = module.homogeneous(function, parts, constants, powers)
    return found


_DEGREES = {None: (0.0, 0.0), "left": (1.0, 0.0), "right": (0.0, 1.0), "balanced": (0.5, 0.5)}


def _framed(split: str | None, parts: Parts, constants: Any) -> tuple[Array, ...]:
    """The factors as functions of the parts."""
    left, right = _DEGREES[split]
    degrees = (left, 2), (1.0, 1), (right, 2)
    function = partial(_of_normal, split, _registry(parts))
    return homogeneous(function, parts, constants[0].S, constants, degrees)


def _of_normal(split: str | None, module: Any, parts: Parts, constants: Any) -> tuple[Array, ...]:
    """The factors of a matrix that was scaled to a norm near one, from the unscaled triplets."""
    *triplets, doubtful = constants
    power = power_of(triplets[0].S)
    kept, dropped, spare = (known and normal(known, power) for known in triplets)
    # The root of a value is within the range, even if the scaled value is not.
    frame = frame_of(kept, power if split != "balanced" else power * 0 + 1)
    S = values(frame)
    frame = module.framed(parts, frame, dropped, spare)
    if doubtful is not None:
        frame = distrusted(frame, S, doubtful)
    if split is None:
        left, S, right = module.turned(frame.core, S)
    else:
        left, right = split_core(frame.core, S, split)
    return matmul(frame.U, left), S, matmul(right, frame.Vh)


def _scaled(split: str | None, parts: Parts, constants: Any) -> tuple[Array, Array, Array]:
    """The factors without a derivative."""
    (U, S, Vh), *_ = constants
    scale = root(S) if split == "balanced" else S
    left = U * scale[..., None, :] if split in ("left", "balanced") else U
    right = scale[..., :, None] * Vh if split in ("right", "balanced") else Vh
    return left, S, right


def _registry(parts: Parts) -> ModuleType | None:
    """The module that registers derivatives with the library; None if none can be needed."""
    if not parts:
        return None
    if is_jax(parts[0]) and not all(map(is_plain, parts)):
        from eckart._derivative import _jax

        return _jax
    if is_torch(parts[0]):
        from eckart._derivative import _torch

        return _torch if any(map(_torch.is_watched, parts)) else None
    return None
