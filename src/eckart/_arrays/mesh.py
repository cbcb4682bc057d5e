"""Matrices of JAX that are sharded over a mesh of devices, and the sharding of the results.

JAX's compiler determines the communication between the devices. On mesh axes of the type ``Auto``
the compiler also determines the sharding of each result. On axes of the type ``Explicit`` every
operation would need a sharding as an argument, which the array API does not have. So public
functions compute with axes of the type ``Auto``.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

from eckart._arrays.namespace import Array, awaited, is_jax, is_plain, mesh

P = ParamSpec("P")
R = TypeVar("R")


def across_devices(function: Callable[P, R]) -> Callable[P, R]:
    """Let a public function take sharded arguments, and shard its factors like the first argument.

    The rows of a left factor are sharded like the rows of the argument, and the columns of a right
    factor like its columns, if their number is divisible. For traced values on axes of the type
    ``Auto`` the sharding is unknown, and the compiler determines that of the result.
    """

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> R:
        over = _mesh_of([*args, *kwargs.values()])
        if over is None:
            return function(*args, **kwargs)
        import jax

        args, kwargs = _brought(over, function, args, kwargs)
        A = args[0]
        first, last = (A[0], A[-1]) if isinstance(A, tuple) else (A, A)

        if over.explicit_axes:
            place = jax.sharding.reshard
            result = _untyped(over, function, args, kwargs)
        elif isinstance(over, jax.sharding.Mesh):
            place = jax.lax.with_sharding_constraint
            result = function(*args, **kwargs)
        else:
            return function(*args, **kwargs)
        *stack, rows, _ = _axes(first)
        left, right = (*stack, rows, None), (*stack, None, _axes(last)[-1])
        layout = {"rows": left, "values": (*stack, None), "columns": right}

        def placed(part: Array, axes: tuple[Any, ...]) -> Array:
            # On a mesh with axes of both types the compiler uses those of the type ``Auto``.
            usable = over.explicit_axes or over.axis_names
            named = [tuple(name for name in names or () if name in usable) for names in axes]
            spec = (
                names if names and length % _devices(over, names) == 0 else None
                for length, names in zip(part.shape, named, strict=False)
            )
            if is_plain(part) and mesh(part) is None:  # such as an empty slice
                part = _copied(over, part)
            return awaited(place(part, jax.NamedSharding(over, jax.P(*spec))))

        arranged: R = _arranged(result, layout, placed)
        return arranged

    return cast(Callable[P, R], wrapped)


def lengthwise(A: Array) -> Array:
    """`A` sharded by its rows only, over the same devices; over all of them if it is traced."""
    import jax

    over = mesh(A)
    if is_plain(A):
        *stack, rows, columns = _axes(A)
        names = (*rows, *columns)
    else:
        stack, names = [], tuple(over.auto_axes)
    sharding = jax.NamedSharding(over, jax.P(*stack, names, None))
    return awaited(jax.lax.with_sharding_constraint(A, sharding))


def _mesh_of(arguments: list[Any]) -> Any:
    """The first mesh that an argument, or a part of one, is sharded over."""
    parts = [part for A in arguments for part in (A if isinstance(A, tuple) else (A,))]
    return next((over for over in map(mesh, parts) if over is not None), None)


def _brought(over: Any, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """The arguments; those that were put on no device are copied to every device of the mesh."""
    import jax

    if not isinstance(over, jax.sharding.Mesh):  # traced, and moved by the compiler
        return args, kwargs

    def brought(path: Any, part: Any) -> Any:
        if not (is_jax(part) and is_plain(part)) or part.devices() == set(over.devices.flat):
            return part
        if not part.committed:
            return _copied(over, part)
        names = list(inspect.signature(function).parameters)
        name = getattr(path[0], "key", None) or names[path[0].idx]
        raise ValueError(
            f"`{name}` must be on the {over.size} devices of the mesh of another argument, got an "
            f"array on {part.devices()}. Move it with "
            f"jax.device_put({name}, jax.NamedSharding(mesh, jax.P()))."
        )

    return (
        jax.tree_util.tree_map_with_path(brought, args),
        jax.tree_util.tree_map_with_path(brought, kwargs),
    )


def _copied(over: Any, A: Array) -> Array:
    """A copy of `A` on every device of the mesh; `A` itself if values are traced."""
    import jax

    if isinstance(over, jax.sharding.Mesh):
        return jax.device_put(A, jax.NamedSharding(over, jax.P()))
    return A


def _untyped(over: Any, function: Callable[..., Any], args: Any, kwargs: dict[str, Any]) -> Any:
    """The result of `function` for the same arrays on axes of the type ``Auto``."""
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
    """`result` with factors of a matrix sharded by `layout`, and the rest copied to each device."""
    if not isinstance(result, tuple):
        return placed(result, ())
    sides = getattr(result, "sides", ())
    if sides:
        return type(result)(*map(placed, result, [layout[side] for side in sides]))
    return type(result)(*(_arranged(part, layout, placed) for part in result))


def _axes(A: Array) -> list[tuple[str, ...]]:
    """The mesh axes over which each axis of `A` is sharded."""
    spec = getattr((A if is_plain(A) else A.aval).sharding, "spec", ())
    each = [() if names is None else names for names in spec]
    named = [names if isinstance(names, tuple) else (names,) for names in each]
    return named + [()] * (A.ndim - len(named))


def _devices(over: Any, names: tuple[str, ...]) -> int:
    return math.prod(over.shape[name] for name in names)
