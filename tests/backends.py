"""The libraries of the test matrix, as `pyproject.toml` declares them."""

from __future__ import annotations

import importlib
import os
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import array_api_compat
import numpy as np

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"
TABLE: dict[str, dict[str, Any]] = tomllib.loads(PYPROJECT.read_text())["tool"]["eckart"][
    "backends"
]

CAPABILITIES = (
    "half",
    "double",
    "grad",
    "jit",
    "vmap",
    "compile",
    "reflected",
    "operators",
    "mesh",
)
SINGLE, DOUBLE, HALF = ("float32", "complex64"), ("float64", "complex128"), ("float16", "bfloat16")


class MissingBackendError(Exception):
    """A library or device that was asked for is not here: an error, never a skip."""


@dataclass(frozen=True)
class Backend:
    """One library on one device: its namespace, what it can do, and the way in and out."""

    name: str
    xp: Any
    device: Any
    lacks: frozenset[str]
    compiler: str = "aot_eager"  # of PyTorch: what generates code takes ten times as long

    def dtypes(self) -> tuple[str, ...]:
        """Names of the dtypes to test with, among those that results are computed in."""
        every = SINGLE if "double" in self.lacks else SINGLE + DOUBLE
        return tuple(TABLE[self.name].get("dtypes", every))

    def can(self, capability: str) -> bool:
        """Whether the library has what a test needs."""
        assert capability in CAPABILITIES, capability
        return capability not in self.lacks

    def dtype(self, name: str) -> Any:
        """The library's dtype of this name."""
        if name in HALF and self.library in ("numpy", "dask"):
            return np.dtype(getattr(importlib.import_module("ml_dtypes"), name, name))
        return getattr(self.xp, name)

    @property
    def library(self) -> str:
        """Name of the library without its device or settings."""
        return TABLE[self.name]["module"].split(".")[0]

    def asarray(self, values: Any, dtype: str | None = None) -> Any:
        """An array of the library, on the device, from what NumPy understands."""
        values = np.asarray(values)
        name = dtype or str(values.dtype)
        through = values.astype("float32") if name in HALF else values.astype(name)
        array = self.xp.asarray(through, device=self.device)
        return self.xp.astype(array, self.dtype(name)) if name in HALF else array

    def to_numpy(self, array: Any) -> Any:
        """The values as a NumPy array, half precision as float32."""
        if str(array.dtype).rpartition(".")[2].removesuffix("'>") in HALF:
            array = self.xp.astype(array, self.xp.float32)
        if self.library == "torch":
            return array.detach().cpu().numpy()
        return array.get() if self.library == "cupy" else np.asarray(array)

    def devices(self) -> list[Any]:
        """Every device that can be had here, among them some that only look like one."""
        if self.library == "array_api_strict":
            return [self.xp.Device(name) for name in ("CPU_DEVICE", "device1", "no_float64")]
        if self.library == "jax":
            return list(importlib.import_module("jax").devices())[:2]
        here = array_api_compat.device(self.asarray(0.0))
        return [here, self.xp.device("meta")] if self.library == "torch" else [here]

    def jit(self, function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
        """The library's compiled function with abstract values."""
        return importlib.import_module("jax").jit(function, **options)

    def vmap(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The library's map over the first axis; JAX would compile each step of it alone."""
        if self.library == "torch":
            return importlib.import_module("torch.func").vmap(function)
        jax = importlib.import_module("jax")
        return jax.jit(jax.vmap(function))

    def gradient(self, function: Callable[..., Any], *arrays: Any) -> Any:
        """The gradients of a real function: along ``D`` it changes by ``Re sum(conj(G) * D)``.

        One array where there is one argument.
        """
        if self.library == "jax":
            jax = importlib.import_module("jax")
            found = jax.jit(jax.grad(function, tuple(range(len(arrays)))))(*arrays)
            found = [self.xp.conj(part) for part in found]  # JAX's convention is the conjugate's
        else:
            leaves = [array.detach().clone().requires_grad_() for array in arrays]
            function(*leaves).backward()
            found = [leaf.grad for leaf in leaves]
        return found[0] if len(found) == 1 else tuple(found)

    def along(self, function: Callable[..., Any], array: Any, direction: Any) -> Any:
        """The change of a function along a direction, by forward differentiation."""
        if self.library == "torch":
            return importlib.import_module("torch.func").jvp(function, (array,), (direction,))[1]
        jax = importlib.import_module("jax")
        return jax.jit(lambda A, D: jax.jvp(function, (A,), (D,))[1])(array, direction)

    def transform(self, name: str) -> Callable[..., Any]:
        """The library's transformation of this name: grad, jacrev, jacfwd, hessian, vmap."""
        if self.library == "torch":
            return getattr(importlib.import_module("torch.func"), name)
        jax = importlib.import_module("jax")
        if name == "vmap":
            return jax.vmap
        return lambda function: jax.jit(getattr(jax, name)(function))

    def compile(self, function: Callable[..., Any], compiler: str = "") -> Callable[..., Any]:
        """The library's whole-graph compiler: "inductor" generates code, "aot_eager" none."""
        torch = importlib.import_module("torch")
        torch._dynamo.reset()
        return torch.compile(function, fullgraph=True, backend=compiler or self.compiler)


def load(name: str, **options: Any) -> Backend:
    """The backend of this name, on its device."""
    if name not in TABLE:
        raise MissingBackendError(f"--backend must be one of {', '.join(TABLE)}, got {name!r}.")
    row = TABLE[name]
    for variable, value in row.get("environment", {}).items():
        if os.environ.setdefault(variable, value) != value:
            raise MissingBackendError(f"{name} needs {variable}={value} in the environment.")
    try:
        library = importlib.import_module(row["module"])
    except ImportError as error:
        raise MissingBackendError(f"--backend={name} needs {row['module']}: {error}.") from error
    device = _device(name, library, row.get("device"))
    xp = array_api_compat.array_namespace(library.asarray(0.0))
    return Backend(name, xp, device, frozenset(row["lacks"]), **options)


def _device(name: str, library: Any, kind: str | None) -> Any:
    """The device of a GPU backend; None, the library's own choice, on the others."""
    if kind is None:
        return None
    try:
        if library.__name__ == "jax.numpy":
            return importlib.import_module("jax").devices(kind)[0]
        if library.__name__ == "cupy":
            return library.cuda.Device(library.cuda.Device().id)
        library.zeros(1, device=kind)
    except Exception as error:
        raise MissingBackendError(
            f"--backend={name} needs a GPU that {library.__name__} can use, and found none: {error}"
        ) from error
    return library.device(kind, library.cuda.current_device())
