"""Registers the derivative with PyTorch; imported only when it will be asked for one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from eckart import _derivative
from eckart._derivative import Dropped, Frame, Kept, Parts, Solver
from eckart._namespace import Array, has_derivative, is_compiled


def constant(array: Array) -> Array:
    """`array` without a derivative."""
    return array.detach()


def framed(parts: Parts, frame: Frame, dropped: Dropped | None) -> Frame:
    """The frame, given as a constant, as a function of the parts."""
    kind = _Frame if is_compiled(parts[0]) else _ForwardFrame
    return Frame(*kind.apply(*frame, *(dropped or (None, None, None)), *parts))


def turned(core: Array, S: Array) -> Kept:
    """The SVD of a diagonal core, with its values as constants, as a function of the core."""
    kind = _Turn if is_compiled(core) else _ForwardTurn
    return Kept(*kind.apply(core, S))


def spectrum(
    values: Callable[[Parts], Array], triplets: Callable[[Parts], Kept], parts: Parts
) -> Array:
    """All singular values by `values`, or by `triplets` where they need a derivative."""
    return triplets(parts).S if any(map(has_derivative, parts)) else values(parts)


class _Stackable(Function):
    """A function that is under ``vmap`` what it is for a stack."""

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


class _Frame(_Stackable):
    """What is given, as the function of the parts that it is."""

    @staticmethod
    def forward(U: Array, core: Array, Vh: Array, *_: Any) -> Any:
        return U.clone(), core.clone(), Vh.clone()

    @staticmethod
    def backward(ctx: Any, *given: Any) -> Any:
        parts, frame, dropped = _sorted(ctx.saved_tensors)
        if not is_compiled(frame.U):
            frame = framed(parts, frame, dropped)  # as a function again, for second derivatives
        # The core has a derivative that is not Hermitian, though it is.
        solve = _solver(parts, frame._replace(core=frame.core.mH), dropped)
        shares = _derivative.frame_cotangent(parts, Frame(*given), frame, solve)
        return (*(None,) * 6, *shares)


class _ForwardFrame(_Frame):
    """Forward differentiation too, which ``torch.compile`` does not trace."""

    @staticmethod
    def jvp(ctx: Any, *directions: Any) -> Any:
        parts, frame, dropped = _sorted(ctx.saved_tensors)
        given = zip(directions[6:], parts, strict=True)
        along = tuple(torch.zeros_like(part) if d is None else d for d, part in given)
        frame = framed(parts, frame, dropped)
        solve = _solver(parts, frame, dropped)
        return tuple(_derivative.frame_tangent(parts, along, frame, solve))


def _sorted(tensors: Any) -> tuple[Parts, Frame, Dropped | None]:
    """What was saved, by what it is."""
    frame, dropped, parts = tensors[:3], tensors[3:6], tensors[6:]
    return tuple(parts), Frame(*frame), None if dropped[0] is None else tuple(dropped)


def _solver(parts: Parts, frame: Frame, dropped: Dropped | None) -> Solver:
    """A solver that PyTorch differentiates as the inverse of what it solves."""

    def solver(E: Array, F: Array) -> tuple[Array, Array]:
        if is_compiled(E):  # which has no second derivatives
            return _derivative.uncoupled(parts, frame, dropped, E, F)
        fixed = (None,) * 3 if dropped is None else dropped
        arguments = [*map(constant, frame), *fixed, *map(constant, parts)]
        x, z = _Solution.apply(E, F, *arguments)
        if not torch.is_grad_enabled():
            return x, z
        # A step of refinement, which adds nothing, but has the derivative of the solution.
        x, z = constant(x), constant(z)
        given = _derivative.coupling(parts, frame, x, z)
        more = _Solution.apply(E - given[0], F - given[1], *arguments)
        return x + more[0], z + more[1]

    return solver


class _Solution(_Stackable):
    """The solution for constant matrices: linear, and its own adjoint."""

    @staticmethod
    def forward(E: Array, F: Array, *tensors: Any) -> Any:
        return _derivative.uncoupled(*_sorted(tensors), E, F)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, E: Array, F: Array) -> Any:
        _, _, *tensors = ctx.saved_tensors
        return (*_Solution.apply(E, F, *tensors), *(None,) * len(tensors))

    @staticmethod
    def jvp(ctx: Any, E: Array, F: Array, *_: Any) -> Any:
        _, _, *tensors = ctx.saved_tensors
        return _Solution.apply(E, F, *tensors)


class _Turn(_Stackable):
    """The SVD of a core, which is known to be diagonal."""

    @staticmethod
    def forward(core: Array, S: Array) -> Any:
        return tuple(_derivative.unturned(core, S.clone()))

    @staticmethod
    def backward(ctx: Any, *given: Any) -> Any:
        core, S = ctx.saved_tensors
        turn = _derivative.unturned(core, S) if is_compiled(core) else turned(core, S)
        return _derivative.turn_cotangent(Kept(*given), turn, S), None


class _ForwardTurn(_Turn):
    """Forward differentiation too, which ``torch.compile`` does not trace."""

    @staticmethod
    def jvp(ctx: Any, direction: Any, *_: Any) -> Any:
        core, S = ctx.saved_tensors
        return tuple(_derivative.turn_tangent(direction, turned(core, S), S))
