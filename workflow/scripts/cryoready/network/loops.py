"""Loops that Numba compiles for `cryoready.network.fused`: one pass over memory for a layer.

Windows lie side by side in the lanes of the vector instructions: small arrays are
(token, channel, lane), and the innermost statements act on all lanes. What fixes the length of a
sum is a constant of the factory, so that the compiler unrolls it: three times as fast. Arithmetic
is float32; arrays hold float32, or the bits of bfloat16 as uint16.
"""

from functools import cache

import numpy as np
from numba import njit, types
from numba.extending import overload
from numpy import float32

LANES = 16
FAR = float32(-1e4)  # added to a score, leaves nothing of its exponential


def _compiled(loop):
    """``loop`` compiled when it is called, and kept on disk where a folder can be written."""
    options = {"fastmath": True, "error_model": "numpy", "nogil": True}
    try:
        return njit(cache=True, **options)(loop)
    except RuntimeError:  # Numba found no such folder
        return njit(**options)(loop)


def _value(stored):
    """A number of an array as float32: the bits of bfloat16 are its upper half."""


def _put(array, index, value):
    """``array[index] = value``, rounded to the nearest, to even if there are two."""


@overload(_value, inline="always")
def _(stored):
    if stored == types.uint16:
        return lambda stored: np.uint32(np.uint32(stored) << np.uint32(16)).view(np.float32)
    return lambda stored: stored


@overload(_put, inline="always")
def _(array, index, value):
    def round_to_bfloat16(array, index, value):
        bits = float32(value).view(np.uint32)
        odd = (bits >> np.uint32(16)) & np.uint32(1)
        array[index] = np.uint16((bits + np.uint32(0x7FFF) + odd) >> np.uint32(16))

    def keep(array, index, value):
        array[index] = value

    return round_to_bfloat16 if array.dtype == types.uint16 else keep


@njit(fastmath=True, error_model="numpy", inline="always")
def _exp(x):
    """The exponential to 4e-6, x ≤ 80: 2ⁿ by the bits of the exponent, times 2ʳ by its series."""
    y = max(x * float32(1.44269504), float32(-126))
    n = np.floor(y + float32(0.5))
    r = y - n
    p = float32(1.5403530e-4)
    p = p * r + float32(1.3333558e-3)
    p = p * r + float32(9.6181291e-3)
    p = p * r + float32(5.5504109e-2)
    p = p * r + float32(2.4022651e-1)
    p = p * r + float32(6.9314718e-1)
    p = p * r + float32(1)
    return p * np.int32((np.int32(n) + np.int32(127)) << np.int32(23)).view(np.float32)


@njit(fastmath=True, error_model="numpy", inline="always")
def _gelu(x):
    """GELU, x Φ(x), the error function to 1.5e-7 (Abramowitz & Stegun 1964, eq. 7.1.26)."""
    u = float32(1) / (float32(1) + float32(0.3275911 / 2**0.5) * abs(x))
    p = float32(1.061405429)
    p = p * u - float32(1.453152027)
    p = p * u + float32(1.421413741)
    p = p * u - float32(0.284496736)
    p = p * u + float32(0.254829592)
    tail = float32(0.5) * p * u * _exp(float32(-0.5) * x * x)  # 1 - Φ(|x|)
    return max(x, float32(0)) - abs(x) * tail


@njit(fastmath=True, error_model="numpy", inline="always")
def _normalise(t, channels, out):
    """(channel, lane) -> zero mean and unit variance over the channels."""
    mean, scale = np.empty(LANES, np.float32), np.empty(LANES, np.float32)
    for w in range(LANES):
        total, square = float32(0), float32(0)
        for c in range(channels):
            total += t[c, w]
        total *= float32(1 / channels)
        for c in range(channels):
            square += (t[c, w] - total) * (t[c, w] - total)
        mean[w] = total
        scale[w] = float32(1) / np.sqrt(square * float32(1 / channels) + float32(1e-5))
    for c in range(channels):
        for w in range(LANES):
            out[c, w] = (t[c, w] - mean[w]) * scale[w]


@cache
def norm_loop(channels):
    """The loop of `VoxelNorm` over voxels ``first`` … ``last`` of (voxel, channel) arrays."""

    @_compiled
    def loop(first, last, x, eps, gamma, beta, tau, out):
        values, scale = np.empty((LANES, channels), np.float32), np.empty(LANES, np.float32)
        for start in range(first, last, LANES):
            lanes = min(LANES, last - start)
            for i in range(lanes):
                square = float32(0)
                for c in range(channels):
                    values[i, c] = _value(x[start + i, c])
                    square += values[i, c] * values[i, c]
                scale[i] = float32(1) / np.sqrt(square * float32(1 / channels) + eps)
            for i in range(lanes):
                for c in range(channels):
                    y = max(values[i, c] * scale[i] * gamma[c] + beta[c], tau[c])
                    _put(out, (start + i, c), y)

    return loop


@cache
def transformer_loop(window, channels, heads, hidden):
    """The loop of `WindowTransformer` over groups ``first`` … ``last`` of `LANES` windows.

    x (n, z, y, x, c) -> out (n·z·y·x, c). Weights (out, in) and biases of the four products; those
    after a norm contain its scale and shift, queries their factor. position: (head, query, key).
    """
    tokens, head = window**3, channels // heads

    @_compiled
    def loop(first, last, x, shift, wq, bq, position, wo, bo, w1, b1, w2, b2, out):
        n, nz, ny, nx, _ = x.shape
        gz, gy, gx = nz // window, ny // window, nx // window
        windows = n * gz * gy * gx
        t = np.empty((tokens, channels, LANES), np.float32)
        mixed = np.empty((tokens, channels, LANES), np.float32)
        qkv = np.empty((tokens, 3 * channels, LANES), np.float32)
        score, wide = np.empty((tokens, LANES), np.float32), np.empty((hidden, LANES), np.float32)
        score_flat, wide_flat = score.reshape(-1), wide.reshape(-1)
        normal = np.empty((channels, LANES), np.float32)
        top, mass = np.empty(LANES, np.float32), np.empty(LANES, np.float32)
        corner = np.empty((LANES, 4), np.int64)
        place = np.empty((tokens, LANES), np.int64)  # of a voxel in `out`
        side = np.empty((tokens, LANES), np.int64)  # differs between wrapped and other voxels
        for group in range(first, last):
            for w in range(LANES):
                i = min(group * LANES + w, windows - 1)
                corner[w, 0] = i // (gz * gy * gx)
                corner[w, 1] = i // (gy * gx) % gz * window + shift
                corner[w, 2] = i // gx % gy * window + shift
                corner[w, 3] = i % gx * window + shift
            walls = False
            for k in range(tokens):
                for w in range(LANES):
                    m, z, y, v = corner[w]
                    z, y, v = z + k // window**2, y + k // window % window, v + k % window
                    over_z, over_y, over_v = z >= nz, y >= ny, v >= nx
                    side[k, w] = 4 * over_z + 2 * over_y + over_v
                    walls = walls or side[k, w] > 0
                    z, y, v = z - over_z * nz, y - over_y * ny, v - over_v * nx
                    place[k, w] = ((m * nz + z) * ny + y) * nx + v
                    for c in range(channels):
                        t[k, c, w] = _value(x[m, z, y, v, c])
            for k in range(tokens):
                _normalise(t[k], channels, normal)
                for r in range(3 * channels):
                    for w in range(LANES):
                        total = bq[r]
                        for c in range(channels):
                            total += wq[r, c] * normal[c, w]
                        qkv[k, r, w] = total
            for h in range(heads):
                q0, k0, v0 = h * head, channels + h * head, 2 * channels + h * head
                for i in range(tokens):
                    for j in range(tokens):
                        near = position[h, i, j]
                        for w in range(LANES):
                            total = near
                            for c in range(head):
                                total += qkv[i, q0 + c, w] * qkv[j, k0 + c, w]
                            score[j, w] = total
                    if walls:
                        for j in range(tokens):
                            for w in range(LANES):
                                score[j, w] += FAR if side[i, w] != side[j, w] else float32(0)
                    top[:] = score[0]
                    for j in range(1, tokens):
                        for w in range(LANES):
                            top[w] = max(top[w], score[j, w])
                    for j in range(tokens):
                        for w in range(LANES):
                            score[j, w] -= top[w]
                    for k in range(tokens * LANES):
                        score_flat[k] = _exp(score_flat[k])
                    for w in range(LANES):
                        mass[w] = float32(0)
                        for j in range(tokens):
                            mass[w] += score[j, w]
                    for c in range(head):
                        for w in range(LANES):
                            total = float32(0)
                            for j in range(tokens):
                                total += score[j, w] * qkv[j, v0 + c, w]
                            mixed[i, q0 + c, w] = total / mass[w]
            for k in range(tokens):
                for r in range(channels):
                    for w in range(LANES):
                        total = bo[r]
                        for c in range(channels):
                            total += wo[r, c] * mixed[k, c, w]
                        t[k, r, w] += total
                _normalise(t[k], channels, normal)
                for r in range(hidden):
                    for w in range(LANES):
                        total = b1[r]
                        for c in range(channels):
                            total += w1[r, c] * normal[c, w]
                        wide[r, w] = total
                for i in range(hidden * LANES):
                    wide_flat[i] = _gelu(wide_flat[i])
                for r in range(channels):
                    for w in range(LANES):
                        total = b2[r]
                        for c in range(hidden):
                            total += w2[r, c] * wide[c, w]
                        t[k, r, w] += total
                for w in range(min(LANES, windows - group * LANES)):
                    for c in range(channels):
                        _put(out, (place[k, w], c), t[k, c, w])

    return loop
