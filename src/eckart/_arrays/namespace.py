"""The library, the number format and the device of an array.

This is the only module that imports ``array_api_compat``.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple, TypeAlias

import array_api_compat

# The standard has no static type for an array yet: https://github.com/data-apis/array-api/issues/229
Array: TypeAlias = Any
DType: TypeAlias = Any
Device: TypeAlias = Any
Namespace: TypeAlias = Any


class Format(NamedTuple):
    """What a floating-point dtype can hold."""

    eps: float
    largest: float


_SINGLE_EPS, _SINGLE_LARGEST = 2.0**-23, (2.0 - 2.0**-23) * 2.0**127
_DOUBLE_EPS, _DOUBLE_LARGEST = 2.0**-52, (2.0 - 2.0**-52) * 2.0**1023

# By name, because NumPy's `finfo` and `isdtype` refuse the bfloat16 of ml_dtypes:
# https://github.com/numpy/numpy/pull/31829
FORMATS = {
    "float16": Format(2.0**-10, 65504.0),
    "bfloat16": Format(2.0**-7, (2.0 - 2.0**-7) * 2.0**127),
    "float32": Format(_SINGLE_EPS, _SINGLE_LARGEST),
    "float64": Format(_DOUBLE_EPS, _DOUBLE_LARGEST),
    "complex64": Format(_SINGLE_EPS, _SINGLE_LARGEST),
    "complex128": Format(_DOUBLE_EPS, _DOUBLE_LARGEST),
}


def namespace(*arrays: Array) -> Namespace:
    """The array API namespace that `arrays` share; TypeError if they are of different libraries.

    Arrays of NumPy may be mixed with those of Dask, whose chunks are arrays of NumPy.
    """
    if len(arrays) > 1 and any(map(is_dask, arrays)):
        arrays = tuple(array for array in arrays if not array_api_compat.is_numpy_array(array))
    return array_api_compat.array_namespace(*arrays)


def library(array: Array) -> str:
    """The usual name of the library of `array`."""
    parts = namespace(array).__name__.split(".")
    return str(parts[1] if parts[0] == "array_api_compat" else parts[0])


def device(array: Array) -> Device:
    """Device of `array`; None for a traced array of a library that does not know it.

    For a sharded array of JAX: all devices of its mesh, with a whole copy on each.
    """
    where = array_api_compat.device(array)
    return where.update(spec=()) if hasattr(where, "spec") else where


def mesh(array: Array) -> Any:
    """The mesh of a sharded array of JAX; None for an array on one device.

    Within ``shard_map`` every device has an array of its own, so the result is None.
    """
    if not is_jax(array):
        return None
    found = getattr((array if is_plain(array) else array.aval).sharding, "mesh", None)
    if found is None or found.size < 2:
        return None
    return None if found.abstract_mesh.are_all_axes_manual else found


def pieces(A: Array) -> int:
    """Number of pieces of the rows and columns of `A`, each on a device of its own.

    A traced array does not have this number. One matrix on a mesh counts as sharded over all
    devices. The matrices of a stack, and of ``vmap``, count as whole.
    """
    over = mesh(A)
    if over is None:
        return 1
    if not is_plain(A):
        return 1 if A.ndim > 2 or type(A).__name__ == "BatchTracer" else int(over.size)
    piece: tuple[int, ...] = A.sharding.shard_shape(A.shape)
    entries: int = math.prod(A.shape[-2:])
    return entries // max(1, math.prod(piece[-2:]))


def awaited(array: Array) -> Array:
    """`array`, after its computation has ended, if it is sharded over CPU devices of JAX.

    CPU devices deadlock if each has 32 operations in its queue when one of them starts an exchange.
    Devices of other kinds keep the order of their operations.
    """
    if mesh(array) is not None and is_plain(array) and platform(array) == "cpu":
        array.block_until_ready()
    return array


def platform(array: Array) -> str:
    """The kind of device of an array of JAX; the default kind for a traced array."""
    if is_plain(array):
        return str(next(iter(array.devices())).platform)
    from jax import default_backend

    return str(default_backend())


def dtype_name(dtype: DType) -> str:
    """The name of a dtype without its library: ``"float32"``."""
    scalar = getattr(dtype, "type", None)  # NumPy's and JAX's dtypes; their own `name` is slow
    return str(dtype).rpartition(".")[2] if scalar is None else str(scalar.__name__)


def format_of(array: Array) -> Format:
    """The format of the entries of `array`."""
    return FORMATS[dtype_name(array.dtype)]


def is_half(array: Array) -> bool:
    """Whether the entries of `array` have 16 bits, too few to compute with."""
    return dtype_name(array.dtype) in ("float16", "bfloat16")


def is_complex(array: Array) -> bool:
    """Whether the entries of `array` are complex."""
    return dtype_name(array.dtype).startswith("complex")


def working(array: Array) -> Array:
    """`array` in the working dtype: float32 for half precision, else its own dtype."""
    if not is_half(array):
        return array
    xp = namespace(array)
    return xp.astype(array, xp.float32)


def cast(array: Array, dtype: DType) -> Array:
    """`array` in `dtype`; `array` itself if it already has this dtype."""
    return array if array.dtype == dtype else namespace(array).astype(array, dtype)


def real_dtype(array: Array) -> DType:
    """The dtype of the moduli of `array`."""
    if not is_complex(array):
        return array.dtype
    xp = namespace(array)
    return xp.float32 if dtype_name(array.dtype) == "complex64" else xp.float64


def has_double(array: Array) -> bool:
    """Whether the library of `array` computes in float64 on the device of `array`."""
    info = namespace(array).__array_namespace_info__()
    return "float64" in info.dtypes(device=device(array), kind="real floating")


def widest(array: Array) -> Array:
    """`array` in double precision if its library has it, else `array` itself."""
    if not has_double(array):
        return array
    xp = namespace(array)
    return cast(array, xp.complex128 if is_complex(array) else xp.float64)


def conjugate(A: Array) -> Array:
    """Complex conjugate; `A` itself if it is real."""
    return namespace(A).conj(A) if is_complex(A) else A


def adjoint(A: Array) -> Array:
    """Conjugate transpose of the last two axes."""
    return conjugate(transpose(A))


def transpose(A: Array) -> Array:
    """Transpose of the last two axes; Dask arrays have no ``mT``."""
    return namespace(A).matrix_transpose(A) if is_dask(A) else A.mT


def native(array: Array) -> Array:
    """`array` in the byte order of the machine. Only arrays of NumPy and Dask may have another."""
    if getattr(array.dtype, "isnative", True):
        return array
    return array.astype(array.dtype.newbyteorder("="))


def resolved(array: Array) -> Array:
    """A tensor of PyTorch without a lazy conjugation or negation.

    Under ``vmap`` the imaginary part of a lazily conjugated tensor has no rule.
    """
    if is_compiled(array) or not is_complex(array) or not is_strided(array):
        return array  # the compiler does not trace the question, and needs no such ``vmap``
    lazy = array.is_conj() or array.is_neg()
    return array.resolve_conj().resolve_neg() if lazy else array


def contiguous(array: Array) -> Array:
    """`array` with its entries in row-major order, if its library has other orders."""
    if is_torch(array):
        return array.resolve_conj().resolve_neg().contiguous()
    if is_dask(array):
        return array.map_blocks(contiguous, dtype=array.dtype, meta=array._meta)
    flags = getattr(array, "flags", None)  # of NumPy's arrays, and CuPy's
    return array if flags is None or flags.c_contiguous else array.copy()


def is_array(value: Any) -> bool:
    """Whether a value is an array of any library."""
    return bool(array_api_compat.is_array_api_obj(value))


def is_strided(array: Array) -> bool:
    """Whether `array` is a dense tensor: not sparse, nested or in the layout of oneDNN."""
    if not array_api_compat.is_torch_array(array):
        return True
    return bool(array.layout == namespace(array).strided) and not array.is_nested


def is_ordinary(array: Array) -> bool:
    """Whether `array` has all its entries: not a masked or an uninitialized tensor of PyTorch.

    Two of these classes support no other question than the name of the class.
    """
    return type(array).__name__ not in (
        "MaskedTensor",
        "UninitializedParameter",
        "UninitializedBuffer",
    )


def concrete_int(array: Array) -> int | None:
    """The integer in `array`, after a wait for its device; None if it is traced."""
    if array_api_compat.is_torch_array(array) and namespace(array).compiler.is_compiling():
        return None
    try:
        return int(array)
    except TypeError:  # JAX under jit and vmap
        return None
    except RuntimeError as error:  # PyTorch under vmap and on the meta device
        if "vmap" in str(error) or "meta" in str(error):
            return None
        raise


def concrete_ints(arrays: list[Array]) -> list[int]:
    """The integers in arrays that are not traced, with one wait for their device."""
    xp = namespace(arrays[0])
    together = xp.stack([xp.astype(array, xp.int64) for array in arrays])
    if hasattr(together, "tolist"):  # one wait, not one for each entry
        return list(together.tolist())
    return [int(together[i]) for i in range(len(arrays))]


def is_torch(array: Array) -> bool:
    """Whether `array` is of PyTorch."""
    return bool(array_api_compat.is_torch_array(array))


def is_jax(array: Array) -> bool:
    """Whether `array` is of JAX."""
    return bool(array_api_compat.is_jax_array(array))


def is_dask(array: Array) -> bool:
    """Whether `array` is of Dask."""
    return bool(array_api_compat.is_dask_array(array))


def is_plain(array: Array) -> bool:
    """Whether `array` is neither traced nor differentiated."""
    if is_jax(array):
        return all(kind.__name__ != "Tracer" for kind in type(array).__mro__)
    if not array_api_compat.is_torch_array(array):
        return True
    return not has_derivative(array) and has_values(array)


def has_values(array: Array) -> bool:
    """Whether a tensor of PyTorch has values, which its compiler and ``vmap`` do not show."""
    if is_compiled(array):
        return False
    return 0 in array.shape or concrete_int(array[(0,) * array.ndim] == 0) is not None


def is_compiled(array: Array) -> bool:
    """Whether PyTorch's compiler is tracing `array`."""
    if not array_api_compat.is_torch_array(array):
        return False
    return bool(namespace(array).compiler.is_compiling())


def has_derivative(array: Array) -> bool:
    """Whether PyTorch may be asked for a derivative with respect to `array`.

    Within forward differentiation the answer is True for every array: an array does not show its
    tangents at outer levels of nested transformations.
    """
    if not array_api_compat.is_torch_array(array):
        return False
    xp = namespace(array)
    if array.requires_grad and xp.is_grad_enabled():
        return True
    return bool(xp.autograd.forward_ad._current_level >= 0)


@contextmanager
def full_precision(array: Array) -> Iterator[None]:
    """Keep PyTorch and JAX from rounding the factors of products to TF32 or half precision.

    A graph under ``torch.compile`` can leave autocast, but cannot change the settings of float32
    products. It uses the settings of the user.
    """
    if is_jax(array):
        from jax import default_matmul_precision

        with default_matmul_precision("highest"):
            yield
        return
    if not is_torch(array):
        yield
        return
    xp = namespace(array)
    kind = array.device.type
    compiling = xp.compiler.is_compiling()
    # The meta device has no autocast. PyTorch 2.11 cannot compile the question.
    can_cast = kind != "meta" if compiling else xp.amp.is_autocast_available(kind)
    with xp.autocast(kind, enabled=False) if can_cast else nullcontext():
        if compiling:
            yield
            return
        _pins.enter(xp.backends)
        try:
            yield
        finally:
            _pins.leave()


class _Pins:
    """PyTorch's settings of float32 products, pinned while any thread multiplies.

    The settings are global. The first thread to enter sets them, and the last one to leave restores
    them. Only the two settings that products read are changed, with the newer interface, because
    the older interface writes to it too: https://github.com/pytorch/pytorch/issues/179445.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.inside = 0
        self.mine = threading.local()  # number of entries of this thread
        self.before: list[tuple[Any, str]] = []
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(
                before=self.lock.acquire,
                after_in_parent=self.lock.release,
                after_in_child=self.forked,
            )

    def enter(self, backends: Any) -> None:
        with self.lock:
            if self.inside == 0:
                settings = (backends.cuda.matmul, backends.mkldnn.matmul)
                read = [(setting, setting.fp32_precision) for setting in settings]
                # A setting equal to its parent is inherited, and has to stay so.
                self.before = [
                    (setting, "none" if precision == backends.fp32_precision else precision)
                    for setting, precision in read
                    if precision not in ("ieee", "none")
                ]
                for setting, _ in self.before:
                    setting.fp32_precision = "ieee"
            self.inside += 1
            self.mine.inside = getattr(self.mine, "inside", 0) + 1

    def leave(self) -> None:
        with self.lock:
            self.inside -= 1
            self.mine.inside -= 1
            if self.inside == 0:
                self.restore()

    def forked(self) -> None:
        """Leave for all threads but the one that forked: the child process has only this one."""
        self.inside = getattr(self.mine, "inside", 0)
        if self.inside == 0:
            self.restore()
        self.lock.release()

    def restore(self) -> None:
        for setting, precision in self.before:
            setting.fp32_precision = precision
        self.before = []


_pins = _Pins()
