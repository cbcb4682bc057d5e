"""Gaussian test matrices from a counter, the only random numbers of the library."""

from __future__ import annotations

import math
from typing import Any

from eckart._arrays.namespace import Array, Namespace, device, is_complex, namespace, real_dtype

# Odd multipliers that fit a signed integer of 32 bits: two of the hash, and one each for rows and
# columns.
_FIRST, _SECOND = 0x21F0AAAD, 0x735A2D97
_ROW, _COLUMN = 0x2C1B3C6D, 0x297A2D39
_STREAM = 0x9E3779B1  # without it, zero is a fixed point of the hash


def gaussian(n: int, k: int, *, like: Array, seed: int, stream: Any = 0) -> Array:
    """Test matrix of shape (n, k) with independent normal entries of variance one.

    The matrix has the dtype and the device of `like`. An entry depends only on its row, its column,
    `seed` modulo ``2**64`` and `stream`, so a wider matrix begins with the narrower one. `stream`
    may be traced. In complex dtypes the mean of the squared modulus of an entry is one.

    Notes
    -----
    Two counters are hashed into two uniform numbers of 24 bits. The method of Box and Muller [1]_
    gives two normal numbers, or one complex number. The hash is that of Wellons [2]_ in ``int32``,
    which has the same bits on every library. Some libraries have no unsigned or longer integers.

    References
    ----------
    .. [1] G. E. P. Box and M. E. Muller, "A note on the generation of random normal deviates",
       Annals of Mathematical Statistics 29, 1958.
    .. [2] C. Wellons, "Prospecting for hash functions", 2018, with the constants of its list.
    """
    xp = namespace(like)
    pairs = k if is_complex(like) else (k + 1) // 2
    here = {"dtype": xp.int32, "device": device(like)}
    key = xp.zeros(1, **here)
    for word in seed, seed >> 32:
        key = _hash(xp, key ^ _int32(word), stream)
    rows = xp.arange(n, **here)[:, None] * _ROW
    columns = _hash(xp, xp.arange(2 * pairs, **here) * _COLUMN ^ key, stream)
    bits = _hash(xp, rows + columns, stream)
    # The middles of 2**24 intervals: float32 holds them, and none is zero, which has no logarithm.
    uniform = (xp.astype((bits >> 8) & 0xFFFFFF, real_dtype(like)) + 0.5) * 2.0**-24
    radius = xp.sqrt(-2 * xp.log(uniform[:, ::2]))
    angle = 2 * math.pi * uniform[:, 1::2]
    cosine, sine = radius * xp.cos(angle), radius * xp.sin(angle)
    if is_complex(like):
        real, imaginary = xp.astype(cosine, like.dtype), xp.astype(sine, like.dtype)
        return math.sqrt(0.5) * (real + 1j * imaginary)
    return xp.reshape(xp.stack([cosine, sine], axis=-1), (n, 2 * pairs))[:, :k]


def _hash(xp: Namespace, x: Array, stream: Any) -> Array:
    """A bijection of the integers of 32 bits that maps neighbours to unrelated numbers."""
    known = isinstance(stream, int)
    x = x ^ (_int32((stream + 1) * _STREAM) if known else (stream + 1) * _int32(_STREAM))
    x = (x ^ ((x >> 16) & 0xFFFF)) * _FIRST
    x = (x ^ ((x >> 15) & 0x1FFFF)) * _SECOND
    return x ^ ((x >> 15) & 0x1FFFF)


def _int32(number: int) -> int:
    """`number` modulo 2**32, as a signed integer."""
    return (number + 2**31) % 2**32 - 2**31
