"""Fused selective scan for the CPU, compiled by Numba when first used.

A task is one image and one range of channels. It walks along the sequence in tiles of ``TILE`` positions by ``BLOCK``
channels. The inputs of a tile, which may have any strides and follow any walk, are gathered into buffers that stay in
the cache (:func:`_gather`), so that the innermost loops run over neighbouring channels and become vector instructions.
No array has the size ``L x D x N``: the forward pass keeps one state; the backward pass keeps one state for each tile
and computes the states inside a tile again.

Compiling takes several seconds, but only once: Numba keeps the result in the folder of this file, or in
``NUMBA_CACHE_DIR``.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numba import types
from numba.extending import intrinsic
from numpy.polynomial import Chebyshev, Polynomial

TILE = 32
BLOCK = 64


def _fit(function: Any, domain: tuple[float, float], degree: int) -> tuple[np.float32, ...]:
    """Coefficients, lowest power first, of the polynomial that interpolates ``function`` at the Chebyshev points."""
    fitted = Chebyshev.interpolate(function, degree, domain).convert(kind=Polynomial)
    return tuple(np.float32(c) for c in fitted.coef)


def _ratio(function: Any) -> Any:
    """The function ``(f(x) - f(0)) / x``; an even number of Chebyshev points never includes ``x = 0``."""
    return lambda x: (function(x) - function(0.0)) / x


# The fits are made to the difference from the value at 0, so that decays close to 1 stay exact. A long sequence
# multiplies many of them.
_E1, _E2, _E3, _E4, _E5, _E6 = _fit(_ratio(np.exp2), (-0.5, 0.5), 5)
_L1, _L2, _L3, _L4, _L5, _L6, _L7, _L8, _L9, _L10 = _fit(_ratio(np.log1p), (0.0, 1.0), 9)
_ZERO, _ONE, _LOG2E = np.float32(0), np.float32(1), np.float32(math.log2(math.e))
# Adding this number rounds a float32 to an integer, which is then found in the low bits of the sum.
_ROUNDER = np.float32(1.5 * 2**23)
_LOWEST, _HIGHEST = np.float32(-126), np.float32(128)
_BIAS, _MANTISSA = np.int32(127), np.int32(23)

# These flags let the compiler reorder and contract sums; NaN and infinity keep their meaning.
_SUMS = {"reassoc", "contract", "nsz"}


@intrinsic
def _bits(typingctx, value):
    """The bits of a float32 as an int32."""

    def codegen(context, builder, signature, args):
        return builder.bitcast(args[0], context.get_value_type(types.int32))

    return types.int32(types.float32), codegen


@intrinsic
def _from_bits(typingctx, value):
    """The float32 that has the bits of an int32."""

    def codegen(context, builder, signature, args):
        return builder.bitcast(args[0], context.get_value_type(types.float32))

    return types.float32(types.int32), codegen


@numba.njit(error_model="numpy", fastmath={"contract"})
def _exp2(x):
    """2^x for x in [-126, 128]; x is clamped to that range.

    The function has its own flags, because the caller's flag for reassociation would undo the rounding.
    """
    x = _LOWEST if x < _LOWEST else x
    x = _HIGHEST if x > _HIGHEST else x
    shifted = x + _ROUNDER
    f = x - (shifted - _ROUNDER)
    power = _ONE + f * (_E1 + f * (_E2 + f * (_E3 + f * (_E4 + f * (_E5 + f * _E6)))))
    return power * _from_bits((_bits(shifted) + _BIAS) << _MANTISSA)


@numba.njit(error_model="numpy")
def _softplus(x):
    """log(1 + e^x)."""
    e = _exp2(-abs(x) * _LOG2E)
    tail = _L6 + e * (_L7 + e * (_L8 + e * (_L9 + e * _L10)))
    log1p = e * (_L1 + e * (_L2 + e * (_L3 + e * (_L4 + e * (_L5 + e * tail)))))
    return (x if x > _ZERO else _ZERO) + log1p


@numba.njit(error_model="numpy")
def _pixel(position, direction, length, width):
    """Index of the pixel at a position of a walk; see ``Problem.directions``."""
    if direction >= 2:
        position = length - 1 - position
    if direction % 2 == 0:
        return position
    height = length // width
    return position % height * width + position // height


@numba.njit(error_model="numpy", fastmath=_SUMS)
def _finish_step(step, raw, bias, softplus, count, width):
    """Write ``softplus(raw + bias)`` into ``step``, and the argument of the softplus into ``raw``."""
    for t in range(count):
        for i in range(width):
            raw[t, i] += bias[i]
        if softplus:
            for i in range(width):
                step[t, i] = _softplus(raw[t, i])
        else:
            for i in range(width):
                step[t, i] = raw[t, i]


@numba.njit(error_model="numpy", fastmath=_SUMS)
def _project(raw, low, weight, count, width):
    """Write ``low @ weight``, the step of each channel from its low-rank form, into ``raw``."""
    for t in range(count):
        for i in range(width):
            raw[t, i] = _ZERO
        for r in range(weight.shape[0]):
            value = low[t, r]
            for i in range(width):
                raw[t, i] += value * weight[r, i]


@intrinsic
def _floats_at(typingctx, address):
    """Turn an address into a pointer to float32."""

    def codegen(context, builder, signature, args):
        return builder.inttoptr(args[0], context.get_value_type(signature.return_type))

    return types.CPointer(types.float32)(types.intp), codegen


@numba.njit(error_model="numpy")
def _row(array, b, p, g, first, width):
    """``array[b, p, g, first : first + width]``, contiguous, in a type whose loops become vector instructions."""
    s0, s1, s2, s3 = array.strides
    return numba.carray(_floats_at(array.ctypes.data + b * s0 + p * s1 + g * s2 + first * s3), (width,))


@numba.njit(error_model="numpy")
def _gather(tile, source, b, pixels, count, g, first, width):
    """Copy ``source[b, pixels[t], g, first + i]`` to ``tile[t, i]``, in the order that ``source`` has in memory."""
    if source.strides[3] == source.itemsize:
        for t in range(count):
            row = _row(source, b, pixels[t], g, first, width)
            for i in range(width):
                tile[t, i] = row[i]
    else:
        for i in range(width):
            for t in range(count):
                tile[t, i] = source[b, pixels[t], g, first + i]


@numba.njit(error_model="numpy")
def _scatter(tile, target, b, pixels, count, g, first, width, add):
    """Copy ``tile[t, i]`` to ``target[b, pixels[t], g, first + i]`` or, with ``add``, add it there."""
    if target.strides[3] == target.itemsize:
        for t in range(count):
            row = _row(target, b, pixels[t], g, first, width)
            for i in range(width):
                row[i] = tile[t, i] + (row[i] if add else _ZERO)
    else:
        for i in range(width):
            for t in range(count):
                p = pixels[t]
                target[b, p, g, first + i] = tile[t, i] + (target[b, p, g, first + i] if add else _ZERO)


@numba.njit(error_model="numpy", fastmath=_SUMS)
def _multiply(product, left, right, count, width):
    for t in range(count):
        for i in range(width):
            product[t, i] = left[t, i] * right[t, i]


@numba.njit(error_model="numpy", fastmath=_SUMS)
def _advance(state, A, B, C, step, update, y, count, width):
    """Compute ``h = 2^(step A) h + update B`` and ``y += C h`` for each position."""
    for t in range(count):
        for n in range(A.shape[0]):
            b, c = B[t, n], C[t, n]
            for i in range(width):
                h = _exp2(step[t, i] * A[n, i]) * state[n, i] + update[t, i] * b
                state[n, i] = h
                y[t, i] += c * h


@numba.njit(error_model="numpy", fastmath=_SUMS)
def _advance_keeping(states, decays, A, B, step, update, count, width):
    """Advance without output; ``states[t + 1]`` keeps the state after position t, and ``decays[t]`` the decay there."""
    for t in range(count):
        for n in range(A.shape[0]):
            b = B[t, n]
            for i in range(width):
                decay = _exp2(step[t, i] * A[n, i])
                decays[t, n, i] = decay
                states[t + 1, n, i] = decay * states[t, n, i] + update[t, i] * b


@numba.njit(error_model="numpy", fastmath=_SUMS)
def _retreat(carry, states, decays, A, B, C, step, u, grad, dA, dB, dC, dstep, du, count, width):
    """Compute the adjoint of :func:`_advance`; here ``A`` is not scaled by log2(e)."""
    for t in range(count - 1, -1, -1):
        for n in range(A.shape[0]):
            b, c = B[t, n], C[t, n]
            sum_b, sum_c = _ZERO, _ZERO
            for i in range(width):
                g = carry[n, i] + grad[t, i] * c
                decay = decays[t, n, i]
                through = g * decay
                by_decay = through * states[t, n, i]
                sum_c += grad[t, i] * states[t + 1, n, i]
                sum_b += g * step[t, i] * u[t, i]
                dA[n, i] += by_decay * step[t, i]
                dstep[t, i] += by_decay * A[n, i] + g * b * u[t, i]
                du[t, i] += g * b * step[t, i]
                carry[n, i] = through
            dB[t, n] += sum_b
            dC[t, n] += sum_c


@numba.njit(error_model="numpy", fastmath=_SUMS)
def _retreat_step(dstep, raw, low, weight, dlow, dweight, dbias, softplus, count, width):
    """Turn the step's gradient into that of the softplus argument (in place), of the bias and of the low-rank form."""
    for t in range(count):
        if softplus:
            for i in range(width):
                dstep[t, i] /= _ONE + _exp2(-raw[t, i] * _LOG2E)
        for i in range(width):
            dbias[i] += dstep[t, i]
        for r in range(weight.shape[0]):
            value, total = low[t, r], _ZERO
            for i in range(width):
                total += dstep[t, i] * weight[r, i]
                dweight[r, i] += value * dstep[t, i]
            dlow[t, r] += total


@numba.njit(error_model="numpy", fastmath=_SUMS)
def _add_skip(y, skip, u, count, width):
    for t in range(count):
        for i in range(width):
            y[t, i] = skip[i] * u[t, i]


@numba.njit(error_model="numpy", fastmath=_SUMS)
def _retreat_skip(du, dskip, skip, u, grad, count, width):
    for t in range(count):
        for i in range(width):
            du[t, i] = skip[i] * grad[t, i]
            dskip[i] += u[t, i] * grad[t, i]


@numba.njit(error_model="numpy")
def _load_step(step, raw, low, delta, weight, bias, softplus, b, pixels, count, g, first, width):
    rank = weight.shape[0]
    if rank:
        _gather(low, delta, b, pixels, count, g, 0, rank)
        _project(raw, low, weight, count, width)
    else:
        _gather(raw, delta, b, pixels, count, g, first, width)
    _finish_step(step, raw, bias, softplus, count, width)


@numba.njit(error_model="numpy")
def _tile(width):
    return np.empty((TILE, width), np.float32)


@numba.njit(error_model="numpy")
def _columns(matrix, first, width):
    """Copy columns to a contiguous array that is ``BLOCK`` wide."""
    part = np.zeros((matrix.shape[0], BLOCK), np.float32)
    part[:, :width] = matrix[:, first : first + width]
    return part


_TASK = (
    "int64, int64, int64, float32[:,:,:,:], float32[:,:,:,:], float32[:,:,::1], float32[:,::1], float32[:,:,::1], "
    "float32[:,:,:,:], float32[:,:,:,:], float32[:,::1], int64[::1], int64, boolean"
)


def _forward_task(b, begin, end, u, delta, weight, bias, A, B, C, skip, directions, columns, softplus, y):
    """Scan the channels ``begin`` to ``end`` of image ``b`` in every direction, and write the result into ``y``.

    The arrays are those of :class:`llie_preproc.ops.scan.problem.Problem`, except that ``weight`` is ``(G, R, D)`` and
    ``A`` is ``(G, N, D)``. If all groups read the same channels of ``u``, ``y`` is the sum over the directions.
    """
    length, groups, states = B.shape[1], B.shape[2], B.shape[3]
    shared = u.shape[2] == 1
    pixels = np.empty(TILE, np.int64)
    u_tile, y_tile, raw, step, update = _tile(BLOCK), _tile(BLOCK), _tile(BLOCK), _tile(BLOCK), _tile(BLOCK)
    low, B_tile, C_tile = _tile(weight.shape[1]), _tile(states), _tile(states)
    for first in range(begin, end, BLOCK):
        width = min(BLOCK, end - first)
        for g in range(groups):
            source = 0 if shared else g
            A_part, weight_part = _columns(A[g], first, width) * _LOG2E, _columns(weight[g], first, width)
            bias_part, skip_part = bias[g, first : first + width], skip[g, first : first + width]
            state = np.zeros((states, BLOCK), np.float32)
            for start in range(0, length, TILE):
                count = min(TILE, length - start)
                for t in range(count):
                    pixels[t] = _pixel(start + t, directions[g], length, columns)
                _gather(u_tile, u, b, pixels, count, source, first, width)
                _gather(B_tile, B, b, pixels, count, g, 0, states)
                _gather(C_tile, C, b, pixels, count, g, 0, states)
                _load_step(step, raw, low, delta, weight_part, bias_part, softplus, b, pixels, count, g, first, width)
                _multiply(update, step, u_tile, count, width)
                _add_skip(y_tile, skip_part, u_tile, count, width)
                _advance(state, A_part, B_tile, C_tile, step, update, y_tile, count, width)
                _scatter(y_tile, y, b, pixels, count, source, first, width, shared and g > 0)


def _backward_task(
    b, begin, end, u, delta, weight, bias, A, B, C, skip, directions, columns, softplus, grad,
    du, ddelta, dweight, dbias, dA, dB, dC, dskip,
):  # fmt: skip
    """Compute the gradients of :func:`_forward_task`; they are added to all arrays but ``du``, which is overwritten.

    ``dB``, ``dC`` and a low-rank ``ddelta`` sum over channels, so tasks that run side by side need arrays of their own.
    """
    length, groups, states = B.shape[1], B.shape[2], B.shape[3]
    shared, rank = u.shape[2] == 1, weight.shape[1]
    tiles = (length + TILE - 1) // TILE
    pixels = np.empty(TILE, np.int64)
    u_tile, du_tile, grad_tile = _tile(BLOCK), _tile(BLOCK), _tile(BLOCK)
    raw, step, dstep, update = _tile(BLOCK), _tile(BLOCK), _tile(BLOCK), _tile(BLOCK)
    low, B_tile, C_tile = _tile(rank), _tile(states), _tile(states)
    dlow, dB_tile, dC_tile = _tile(rank), _tile(states), _tile(states)
    inner = np.empty((TILE + 1, states, BLOCK), np.float32)
    decays = np.empty((TILE, states, BLOCK), np.float32)
    for first in range(begin, end, BLOCK):
        width = min(BLOCK, end - first)
        # These are the states before each tile.
        entries = np.empty((tiles, states, width), np.float32)
        for g in range(groups):
            source = 0 if shared else g
            A_part, weight_part = _columns(A[g], first, width), _columns(weight[g], first, width)
            A_scaled = A_part * _LOG2E
            bias_part, skip_part = bias[g, first : first + width], skip[g, first : first + width]
            dA_part, dweight_part = np.zeros_like(A_part), np.zeros_like(weight_part)
            dbias_part, dskip_part = np.zeros(width, np.float32), np.zeros(width, np.float32)
            inner[0] = _ZERO
            carry = np.zeros((states, BLOCK), np.float32)
            for visit in range(2 * tiles):
                returning = visit >= tiles
                tile = 2 * tiles - 1 - visit if returning else visit
                start = tile * TILE
                count = min(TILE, length - start)
                for t in range(count):
                    pixels[t] = _pixel(start + t, directions[g], length, columns)
                _gather(u_tile, u, b, pixels, count, source, first, width)
                _gather(B_tile, B, b, pixels, count, g, 0, states)
                _load_step(step, raw, low, delta, weight_part, bias_part, softplus, b, pixels, count, g, first, width)
                _multiply(update, step, u_tile, count, width)
                if returning:
                    inner[0, :, :width] = entries[tile]
                else:
                    entries[tile] = inner[0, :, :width]
                _advance_keeping(inner, decays, A_scaled, B_tile, step, update, count, width)
                if not returning:
                    inner[0] = inner[count]
                    continue
                _gather(C_tile, C, b, pixels, count, g, 0, states)
                _gather(grad_tile, grad, b, pixels, count, source, first, width)
                _retreat_skip(du_tile, dskip_part, skip_part, u_tile, grad_tile, count, width)
                dstep[:] = _ZERO
                dB_tile[:] = _ZERO
                dC_tile[:] = _ZERO
                dlow[:] = _ZERO
                _retreat(
                    carry, inner, decays, A_part, B_tile, C_tile, step, u_tile, grad_tile,
                    dA_part, dB_tile, dC_tile, dstep, du_tile, count, width,
                )  # fmt: skip
                _retreat_step(dstep, raw, low, weight_part, dlow, dweight_part, dbias_part, softplus, count, width)
                _scatter(du_tile, du, b, pixels, count, source, first, width, shared and g > 0)
                _scatter(dB_tile, dB, b, pixels, count, g, 0, states, True)
                _scatter(dC_tile, dC, b, pixels, count, g, 0, states, True)
                if rank:
                    _scatter(dlow, ddelta, b, pixels, count, g, 0, rank, True)
                else:
                    _scatter(dstep, ddelta, b, pixels, count, g, first, width, True)
            dA[g, :, first : first + width] += dA_part[:, :width]
            dweight[g, :, first : first + width] += dweight_part[:, :width]
            dbias[g, first : first + width] += dbias_part
            dskip[g, first : first + width] += dskip_part


def _compiled(task: Callable[..., None], gradients: str) -> Callable[..., None]:
    signature = f"void({_TASK}, float32[:,:,:,:]{gradients})"
    try:
        return numba.njit(signature, nogil=True, cache=True, error_model="numpy")(task)
    except RuntimeError:
        # Numba found no folder that it can write its cache to.
        return numba.njit(signature, nogil=True, error_model="numpy")(task)


@functools.cache
def forward_task() -> Callable[..., None]:
    """Compile :func:`_forward_task`."""
    return _compiled(_forward_task, "")


@functools.cache
def backward_task() -> Callable[..., None]:
    """Compile :func:`_backward_task`."""
    return _compiled(
        _backward_task,
        ", float32[:,:,:,:], float32[:,:,:,:], float32[:,:,::1], float32[:,::1], float32[:,:,::1], float32[:,:,:,:], "
        "float32[:,:,:,:], float32[:,::1]",
    )
