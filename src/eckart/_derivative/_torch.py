"""Registers the derivative with PyTorch. The module is imported when the first tensor comes."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch._C import _functorch
from torch.autograd import Function, forward_ad
from torch.utils import _pytree as tree

from eckart import _refusals
from eckart._arrays.namespace import Array, has_derivative, is_compiled
from eckart._derivative import truncation
from eckart._derivative.truncation import Frame, Kept, Known, Parts, Scales, Solver, times


def is_watched(array: Array) -> bool:
    """Whether PyTorch may be asked for a derivative with respect to `array`.

    A tensor inside ``vmap`` does not show the outer transformations, but the tensor that it wraps
    does.
    """
    while not (has_derivative(array) or is_compiled(array)):
        if not _functorch.is_functorch_wrapped_tensor(array):
            return False
        array = _functorch.get_unwrapped(array)
    return has_derivative(array)


def constant(array: Array) -> Array:
    """`array` without a derivative."""
    return array.detach()


def underivable(array: Array) -> Array:
    """`array`, but a derivative with respect to it is refused."""
    backward = array.requires_grad and torch.is_grad_enabled()
    if backward or (
        forward_ad._current_level >= 0 and forward_ad.unpack_dual(array).tangent is not None
    ):
        _refusals.refuse_derivative()
    return array.detach()


def framed(parts: Parts, frame: Frame, dropped: Known | None, spare: Known | None) -> Frame:
    """The frame, given as a constant, as a function of the parts."""
    kind = _Frame if is_compiled(parts[0]) else _ForwardFrame
    return Frame(*kind.apply(*_flat(frame, dropped, spare, parts)))


def turned(core: Array, S: Array) -> Kept:
    """The SVD of a diagonal core, as a function of the core; `S` are its values as constants."""
    kind = _Turn if is_compiled(core) else _ForwardTurn
    return Kept(*kind.apply(core, S))


def deferred(
    plain: Callable[..., Any], differentiable: Callable[..., Any], parts: Parts, constants: Any
) -> Any:
    """``differentiable(parts, constants)``: PyTorch may ask for a derivative."""
    return differentiable(parts, constants)


def homogeneous(
    function: Callable[..., Any], parts: Parts, constants: Any, scales: Scales
) -> tuple[Array, ...]:
    """The results of a function of the parts, differentiated at a norm near one."""
    if is_compiled(parts[0]):
        rescaled: Any = functools.partial(map, _Rescaled.apply)
        results = function(tuple(rescaled(parts, scales.before, scales.inward)), constants)
        return tuple(rescaled(results, scales.after, scales.outward))
    tensors, structure = tree.tree_flatten((parts, constants, scales))
    found: tuple[Array, ...] = _Homogeneous.apply(function, structure, *tensors)
    return found


def _seen_by_outer_levels(rule: Callable[..., Any]) -> Callable[..., Any]:
    """A forward rule, a function of the saved tensors and the directions, that is differentiable.

    PyTorch disables forward differentiation while it calls a rule, also at the outer levels of
    nested transformations. Their derivatives would be zero.
    """

    def jvp(ctx: Any, *directions: Any) -> Any:
        tensors = (
            None if tensor is None else forward_ad.unpack_dual(tensor).primal
            for tensor in ctx.saved_tensors
        )
        with forward_ad._set_fwd_grad_enabled(True):
            return rule(ctx, list(tensors), *directions)

    return jvp


def _change(function: Callable[..., Any], at: Any, along: Any) -> Any:
    """The directional derivative of a function, within a forward rule."""
    moved = (
        point if direction is None else forward_ad.make_dual(point, direction)
        for point, direction in zip(at, along, strict=True)
    )
    pairs = map(forward_ad.unpack_dual, function(*moved))
    return tuple(torch.zeros_like(p) if change is None else change for p, change in pairs)


class _Stackable(Function):
    """A function that ``vmap`` computes as a stack."""

    @classmethod
    def vmap(cls, info: Any, in_dims: Any, *arguments: Any) -> Any:
        stacked = [
            argument
            if not isinstance(argument, torch.Tensor)
            else argument.expand(info.batch_size, *argument.shape)
            if axis is None
            else argument.movedim(axis, 0)
            for argument, axis in zip(arguments, in_dims, strict=True)
        ]
        results = cls.apply(*stacked)
        return results, (0,) * len(results)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)


class _Homogeneous(_Stackable):
    """A function of parts times powers of two; directions and gradients have their own powers."""

    @staticmethod
    def forward(function: Any, structure: Any, *tensors: Any) -> Any:
        parts, constants, scales = tree.tree_unflatten(tensors, structure)
        return times(function(times(parts, scales.before), constants), scales.after)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.function, ctx.structure, *tensors = inputs
        ctx.save_for_backward(*tensors)
        ctx.save_for_forward(*tensors)

    @staticmethod
    def backward(ctx: Any, *given: Any) -> Any:
        function, normal, scales = _Homogeneous._normal(ctx, ctx.saved_tensors)
        pull = torch.func.vjp(function, *normal)[1]
        shares = times(pull(times(given, scales.outward)), scales.inward)
        return None, None, *shares, *(None,) * (len(ctx.saved_tensors) - len(normal))

    @staticmethod
    @_seen_by_outer_levels
    def jvp(ctx: Any, tensors: Any, *directions: Any) -> Any:
        function, normal, scales = _Homogeneous._normal(ctx, tensors)
        given = directions[2 : 2 + len(normal)]
        along = (None if d is None else d * s for d, s in zip(given, scales.inward, strict=True))
        return times(_change(function, normal, along), scales.outward)

    @staticmethod
    def _normal(ctx: Any, tensors: Any) -> tuple[Callable[..., Any], Parts, Scales]:
        """The function of the parts alone, and the parts times their powers of two."""
        parts, constants, scales = tree.tree_unflatten(tensors, ctx.structure)
        function = lambda *parts: ctx.function(parts, constants)  # noqa: E731
        return function, times(parts, scales.before), scales


class _Rescaled(Function):
    """An array times a power of two, with its gradient times another power.

    A compiled graph has no second derivatives, and uses this function in place of `_Homogeneous`.
    """

    @staticmethod
    def forward(ctx: Any, array: Array, power: Array, other: Array) -> Array:
        ctx.save_for_backward(other)
        return array * power

    @staticmethod
    def backward(ctx: Any, given: Array) -> Any:
        return given * ctx.saved_tensors[0], None, None


class _Frame(_Stackable):
    """The frame, given as a constant, as a function of the parts."""

    @staticmethod
    def forward(U: Array, core: Array, Vh: Array, *_: Any) -> Any:
        return U.clone(), core.clone(), Vh.clone()

    @staticmethod
    def backward(ctx: Any, *given: Any) -> Any:
        parts, constants, *known = _sorted(ctx.saved_tensors)
        frame = constants
        if not is_compiled(frame.U):
            frame = framed(parts, frame, *known)  # a function again, for second derivatives
        # The core is Hermitian, but its derivative is not.
        solve = _solver(parts, frame._replace(core=frame.core.mH), *known)
        shares = truncation.frame_cotangent(parts, Frame(*given), frame, constants, solve)
        return (*(None,) * 9, *shares)


class _ForwardFrame(_Frame):
    """The frame with forward differentiation too, which ``torch.compile`` does not trace."""

    @staticmethod
    @_seen_by_outer_levels
    def jvp(_: Any, tensors: Any, *directions: Any) -> Any:
        parts, frame, *known = _sorted(tensors)
        given = zip(directions[9:], parts, strict=True)
        along = tuple(torch.zeros_like(part) if d is None else d for d, part in given)
        constants, frame = frame, framed(parts, frame, *known)
        solve = _solver(parts, frame, *known)
        return tuple(truncation.frame_tangent(parts, along, frame, constants, solve))


def _flat(frame: Frame, dropped: Known | None, spare: Known | None, parts: Parts) -> list[Any]:
    """The arguments of `_Frame` and `_Solution` as a flat list of tensors."""
    nothing = (None, None, None)
    return [*frame, *(dropped or nothing), *(spare or nothing), *parts]


def _sorted(tensors: Any) -> tuple[Parts, Frame, Known | None, Known | None]:
    """The parts, the frame, the dropped and the spare triplets in a list made by `_flat`."""
    frame, dropped, spare, parts = tensors[:3], tensors[3:6], tensors[6:9], tensors[9:]
    dropped, spare = (None if known[0] is None else tuple(known) for known in (dropped, spare))
    return tuple(parts), Frame(*frame), dropped, spare


def _solver(parts: Parts, frame: Frame, dropped: Known | None, spare: Known | None) -> Solver:
    """A solver that PyTorch differentiates as the inverse of a linear map."""

    def solver(E: Array, F: Array) -> tuple[Array, Array]:
        if is_compiled(E):  # a compiled graph has no second derivatives
            return truncation.uncoupled(parts, frame, dropped, spare, E, F)
        x, z = _Solution.apply(E, F, *_flat(frame, dropped, spare, parts))
        return x, z

    return solver


class _Solution(_Stackable):
    """The solution of the equation, as a function of its right-hand sides and its coefficients."""

    @staticmethod
    def forward(E: Array, F: Array, *tensors: Any) -> Any:
        return truncation.uncoupled(*_sorted(tensors), E, F)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        _, _, *tensors = inputs
        ctx.save_for_backward(*output, *tensors)
        ctx.save_for_forward(*output, *tensors)

    @staticmethod
    def backward(ctx: Any, *given: Any) -> Any:
        x, z, *tensors = ctx.saved_tensors
        parts, frame, *known = _sorted(tensors)
        E, F = _solver(parts, frame._replace(core=frame.core.mH), *known)(*given)
        shares = torch.func.vjp(_Solution._equation(x, z), *frame, *parts)[1]((-E, -F))
        return E, F, *shares[:3], *(None,) * 6, *shares[3:]

    @staticmethod
    @_seen_by_outer_levels
    def jvp(_: Any, tensors: Any, E: Array, F: Array, *directions: Any) -> Any:
        x, z, *tensors = tensors
        parts, frame, *known = _sorted(tensors)
        along = (*directions[:3], *directions[9:])
        dE, dF = _change(_Solution._equation(x, z), (*frame, *parts), along)
        return _solver(parts, frame, *known)(_less(E, dE), _less(F, dF))

    @staticmethod
    def _equation(x: Array, z: Array) -> Callable[..., Any]:
        """The left-hand sides of the equation, as functions of the frame and the parts."""
        return lambda U, core, Vh, *parts: truncation.coupling(parts, Frame(U, core, Vh), x, z)


def _less(one: Array | None, other: Array) -> Array:
    return -other if one is None else one - other


class _Turn(_Stackable):
    """The SVD of a diagonal core, as a function of the core."""

    @staticmethod
    def forward(core: Array, S: Array) -> Any:
        return tuple(truncation.unturned(core, S.clone()))

    @staticmethod
    def backward(ctx: Any, *given: Any) -> Any:
        core, S = ctx.saved_tensors
        turn = truncation.unturned(core, S) if is_compiled(core) else turned(core, S)
        return truncation.turn_cotangent(Kept(*given), turn, S), None


class _ForwardTurn(_Turn):
    """The SVD with forward differentiation too, which ``torch.compile`` does not trace."""

    @staticmethod
    @_seen_by_outer_levels
    def jvp(_: Any, tensors: Any, direction: Any, *__: Any) -> Any:
        core, S = tensors
        return tuple(truncation.turn_tangent(direction, turned(core, S), S))
