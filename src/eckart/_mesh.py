"""Matrices of JAX that are spread over a mesh of devices: how they lie, and what comes of them.

JAX's compiler finds out what the devices must exchange. On mesh axes of the kind ``Auto`` it also
decides how a result lies; on those of the kind ``Explicit`` every operation would have to be told,
for which the array API has no words. So public functions leave that kind at their door.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from eckart._namespace import Array, awaited, is_plain, mesh

P = ParamSpec("P")
R = TypeVar("R")


def across_devices(function: Callable[P, R]) -> Callable[P, R]:
    """Let a public function's first argument be spread over a mesh, and factors lie as it does.

    Their rows are divided among the devices as its rows are, their columns as its columns, wherever
    the number of them can be. While values are traced, axes of the kind ``Auto`` do not tell how a
    matrix lies, and all is left to the compiler.
    """

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        A = args[0] if args else None
        first, last = (A[0], A[-1]) if isinstance(A, tuple) and A else (A, A)
        over = mesh(first)
        if over is None:
            return function(*args, **kwargs)
        import jax

        if over.explicit_axes:
            place = jax.sharding.reshard
            result = _untyped(over, function, args, kwargs)
        elif is_plain(first):
            place = jax.lax.with_sharding_constraint
            result = function(*args, **kwargs)
        else:
            return function(*args, **kwargs)
        *stack, rows, _ = _axes(first)
        left, right = (*stack, rows, None), (*stack, None, _axes(last)[-1])
        layout = {"U": left, "B": left, "S": (*stack, None), "Vh": right, "A": right}

        def placed(part: Array, axes: tuple[Any, ...]) -> Array:
            # Where there are both kinds, those of the kind ``Auto`` are the compiler's.
            told = over.explicit_axes or over.axis_names
            named = [tuple(name for name in names or () if name in told) for names in axes]
            spec = (
                names if names and length % _devices(over, names) == 0 else None
                for length, names in zip(part.shape, named, strict=False)
            )
            return awaited(place(part, jax.NamedSharding(over, jax.P(*spec))))

        arranged: R = _arranged(result, layout, placed)
        return arranged

    return wrapped


def lengthwise(A: Array) -> Array:
    """`A` divided by its rows alone, among the same devices; all of them, if it is traced."""
    import jax

    over = mesh(A)
    if is_plain(A):
        *stack, rows, columns = _axes(A)
        names = (*rows, *columns)
    else:
        stack, names = [], tuple(over.auto_axes)
    sharding = jax.NamedSharding(over, jax.P(*stack, names, None))
    return awaited(jax.lax.with_sharding_constraint(A, sharding))


def _untyped(over: Any, function: Callable[..., Any], args: Any, kwargs: dict[str, Any]) -> Any:
    """The result of `function` for the same arrays on axes of the kind ``Auto``."""
    import jax

    kinds = dict.fromkeys(over.explicit_axes, jax.sharding.AxisType.Auto)
    leaves, tree = jax.tree.flatten((args, kwargs))
    with jax.sharding.use_abstract_mesh(over.abstract_mesh.update_axis_types(kinds)):
        leaves = [
            leaf if mesh(leaf) is None else jax.sharding.reshard(leaf, jax.P()) for leaf in leaves
        ]
        args, kwargs = jax.tree.unflatten(tree, leaves)
        return function(*args, **kwargs)


def _arranged(result: Any, layout: dict[str, Any], placed: Callable[..., Array]) -> Any:
    """`result` with the arrays that `layout` names, and all others whole on every device."""
    if not isinstance(result, tuple):
        return placed(result, ())
    parts = zip(result._fields, result, strict=True)  # type: ignore[attr-defined]
    return type(result)(
        *(
            placed(part, layout[name]) if name in layout else _arranged(part, layout, placed)
            for name, part in parts
        )
    )


def _axes(A: Array) -> list[tuple[str, ...]]:
    """The mesh axes that each axis of `A` is divided among."""
    spec = (A if is_plain(A) else A.aval).sharding.spec
    each = [() if names is None else names for names in spec]
    named = [names if isinstance(names, tuple) else (names,) for names in each]
    return named + [()] * (A.ndim - len(named))


def _devices(over: Any, names: tuple[str, ...]) -> int:
    return math.prod(over.shape[name] for name in names)
