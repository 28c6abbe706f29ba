"""Triton kernels of the selective scan.

The walk is cut into chunks of T positions, and all chunks run side by side in three passes: what each chunk adds to the
state (a sum, because the decay over a stretch is ``exp(A * sum of steps)``), a scan over the chunks, and the outputs
from each chunk's true entry state. The backward pass does the same for the adjoint, from the end.

A tile is ``(T, BLOCK)`` positions by channels; states are taken one at a time, so a tile's scan never holds N of them.
"""

from __future__ import annotations

# Triton reads the annotations of constants at run time; those imported here stay names.
import triton
import triton.language as tl

LOG2E = tl.constexpr(1.4426950408889634)


@triton.jit
def _then(decay_left, update_left, decay_right, update_right):
    """``h -> decay h + update``, the left one first."""
    return decay_left * decay_right, update_left * decay_right + update_right


@triton.jit
def _walk(positions, direction, length, columns):
    """The pixel at a position; see ``Problem.directions``."""
    positions = tl.where(direction >= 2, length - 1 - positions, positions)
    rows = length // columns
    return tl.where(direction % 2 == 1, positions % rows * columns + positions // rows, positions)


@triton.jit
def _raw_step(
    delta, weight, bias, b, g, pixels, channels, inside,
    stride_b, stride_p, stride_g, stride_d, D, R: tl.constexpr, HAS_BIAS: tl.constexpr,
):  # fmt: skip
    """What softplus is applied to, ``(T, BLOCK)``."""
    base = delta + b * stride_b + g * stride_g + pixels * stride_p
    valid = inside[:, None] & (channels < D)[None, :]
    if R == 0:
        raw = tl.load(base[:, None] + channels[None, :] * stride_d, valid, 0.0).to(tl.float32)
    else:
        raw = tl.zeros(valid.shape, tl.float32)
        for r in range(R):
            low = tl.load(base + r * stride_d, inside, 0.0).to(tl.float32)
            raw += low[:, None] * tl.load(weight + (g * D + channels) * R + r, channels < D, 0.0)[None, :]
    if HAS_BIAS:
        raw += tl.load(bias + g * D + channels, channels < D, 0.0)[None, :]
    return raw


@triton.jit
def _softplus(raw):
    # Above 20 the logarithm adds less than float32 resolves.
    return tl.where(raw > 20.0, raw, tl.log(1.0 + tl.exp(tl.minimum(raw, 20.0))))


@triton.jit
def _step(raw, inside, SOFTPLUS: tl.constexpr):
    """The step; zero outside the sequence, which leaves the state as it is."""
    if SOFTPLUS:
        # log(1 + e) loses the digits of a small e.
        small = tl.exp(tl.minimum(raw, 0.0))
        raw = tl.where(raw < -8.0, small - 0.5 * small * small, _softplus(raw))
    return tl.where(inside[:, None], raw, 0.0)


@triton.jit
def chunk_states(
    u, delta, weight, bias, A, B, directions, ends, totals, length, columns, D, G, chunks,
    ub, up, ug, ud, db, dp, dg, dd, Bb, Bp, Bg, Bn,
    N: tl.constexpr, R: tl.constexpr, T: tl.constexpr, BLOCK: tl.constexpr,
    HAS_BIAS: tl.constexpr, SOFTPLUS: tl.constexpr, SHARED: tl.constexpr,
):  # fmt: skip
    """The state that each chunk ends with when it begins with zero, and the sum of its steps."""
    chunk, b, g = tl.program_id(0).to(tl.int64), (tl.program_id(1) // G).to(tl.int64), tl.program_id(1) % G
    channels = tl.program_id(2) * BLOCK + tl.arange(0, BLOCK)
    positions = chunk * T + tl.arange(0, T)
    inside = positions < length
    pixels = _walk(positions, tl.load(directions + g), length, columns)
    valid = inside[:, None] & (channels < D)[None, :]
    raw = _raw_step(delta, weight, bias, b, g, pixels, channels, inside, db, dp, dg, dd, D, R, HAS_BIAS)
    step = _step(raw, inside, SOFTPLUS)
    source = 0 if SHARED else g
    base = u + b * ub + source * ug
    value = tl.load(base + pixels[:, None] * up + channels[None, :] * ud, valid, 0.0).to(tl.float32)
    update = step * value
    total = tl.sum(step, 0)
    rest = total[None, :] - tl.cumsum(step, 0)
    row = (b * G + g) * chunks + chunk
    tl.store(totals + row * D + channels, total, channels < D)
    for n in range(N):
        rate = tl.load(A + (g * N + n) * D + channels, channels < D, 0.0) * LOG2E
        b_n = tl.load(B + b * Bb + g * Bg + n * Bn + pixels * Bp, inside, 0.0).to(tl.float32)
        end = tl.sum(tl.exp2(rest * rate[None, :]) * update * b_n[:, None], 0)
        tl.store(ends + (row * N + n) * D + channels, end, channels < D)


@triton.jit
def chunk_adjoints(
    grad, delta, weight, bias, A, C, directions, starts, length, columns, D, G, chunks,
    yb, yp, yg, yd, db, dp, dg, dd, Cb, Cp, Cg, Cn,
    N: tl.constexpr, R: tl.constexpr, T: tl.constexpr, BLOCK: tl.constexpr,
    HAS_BIAS: tl.constexpr, SOFTPLUS: tl.constexpr, SHARED: tl.constexpr,
):  # fmt: skip
    """The gradient that each chunk passes to the state before it when none comes from after it."""
    chunk, b, g = tl.program_id(0).to(tl.int64), (tl.program_id(1) // G).to(tl.int64), tl.program_id(1) % G
    channels = tl.program_id(2) * BLOCK + tl.arange(0, BLOCK)
    positions = chunk * T + tl.arange(0, T)
    inside = positions < length
    pixels = _walk(positions, tl.load(directions + g), length, columns)
    valid = inside[:, None] & (channels < D)[None, :]
    raw = _raw_step(delta, weight, bias, b, g, pixels, channels, inside, db, dp, dg, dd, D, R, HAS_BIAS)
    elapsed = tl.cumsum(_step(raw, inside, SOFTPLUS), 0)
    source = 0 if SHARED else g
    base = grad + b * yb + source * yg
    out = tl.load(base + pixels[:, None] * yp + channels[None, :] * yd, valid, 0.0).to(tl.float32)
    row = (b * G + g) * chunks + chunk
    for n in range(N):
        rate = tl.load(A + (g * N + n) * D + channels, channels < D, 0.0) * LOG2E
        c_n = tl.load(C + b * Cb + g * Cg + n * Cn + pixels * Cp, inside, 0.0).to(tl.float32)
        start = tl.sum(tl.exp2(elapsed * rate[None, :]) * out * c_n[:, None], 0)
        tl.store(starts + (row * N + n) * D + channels, start, channels < D)


@triton.jit
def combine_chunks(
    states, totals, A, D, G, chunks, N: tl.constexpr, T: tl.constexpr, BLOCK: tl.constexpr, REVERSE: tl.constexpr
):
    """In place: from what each chunk adds to the state after it (before it, in reverse)."""
    image, n = tl.program_id(0).to(tl.int64), tl.program_id(1)
    g = image % G
    channels = tl.program_id(2) * BLOCK + tl.arange(0, BLOCK)
    rate = tl.load(A + (g * N + n) * D + channels, channels < D, 0.0) * LOG2E
    carry = tl.zeros((BLOCK,), tl.float32)
    rows = tl.arange(0, T)
    for first in range(0, chunks, T):
        order = first + rows
        chunk = chunks - 1 - order if REVERSE else order
        valid = (order < chunks)[:, None] & (channels < D)[None, :]
        row = image * chunks + chunk
        total = tl.load(totals + row[:, None] * D + channels[None, :], valid, 0.0)
        pointer = states + (row * N + n)[:, None] * D + channels[None, :]
        decay = tl.exp2(total * rate[None, :])
        update = tl.load(pointer, valid, 0.0)
        update += tl.where((rows == 0)[:, None], decay * carry[None, :], 0.0)
        _, state = tl.associative_scan((decay, update), 0, _then)
        tl.store(pointer, state, valid)
        carry = tl.sum(tl.where((rows == T - 1)[:, None], state, 0.0), 0)


@triton.jit
def outputs(
    u, delta, weight, bias, A, B, C, skip, directions, ends, y, first_group, length, columns, D, G, chunks,
    ub, up, ug, ud, db, dp, dg, dd, Bb, Bp, Bg, Bn, Cb, Cp, Cg, Cn, yb, yp, yg, yd,
    N: tl.constexpr, R: tl.constexpr, T: tl.constexpr, BLOCK: tl.constexpr,
    HAS_BIAS: tl.constexpr, HAS_SKIP: tl.constexpr, SOFTPLUS: tl.constexpr, SHARED: tl.constexpr, ADD: tl.constexpr,
):  # fmt: skip
    """``y`` of one group (shared channels: the groups add up, one launch each) or of all."""
    chunk = tl.program_id(0).to(tl.int64)
    launched = 1 if SHARED else G
    b, g = (tl.program_id(1) // launched).to(tl.int64), first_group + tl.program_id(1) % launched
    channels = tl.program_id(2) * BLOCK + tl.arange(0, BLOCK)
    positions = chunk * T + tl.arange(0, T)
    inside = positions < length
    pixels = _walk(positions, tl.load(directions + g), length, columns)
    valid = inside[:, None] & (channels < D)[None, :]
    raw = _raw_step(delta, weight, bias, b, g, pixels, channels, inside, db, dp, dg, dd, D, R, HAS_BIAS)
    step = _step(raw, inside, SOFTPLUS)
    source = 0 if SHARED else g
    base = u + b * ub + source * ug
    value = tl.load(base + pixels[:, None] * up + channels[None, :] * ud, valid, 0.0).to(tl.float32)
    target = y + b * yb + source * yg + pixels[:, None] * yp + channels[None, :] * yd
    out = tl.zeros((T, BLOCK), tl.float32)
    if ADD:
        out += tl.load(target, valid, 0.0)
    if HAS_SKIP:
        out += tl.load(skip + g * D + channels, channels < D, 0.0)[None, :] * value
    update = step * value
    row = (b * G + g) * chunks + chunk - 1
    first = (tl.arange(0, T) == 0)[:, None]
    for n in range(N):
        rate = tl.load(A + (g * N + n) * D + channels, channels < D, 0.0) * LOG2E
        b_n = tl.load(B + b * Bb + g * Bg + n * Bn + pixels * Bp, inside, 0.0).to(tl.float32)
        c_n = tl.load(C + b * Cb + g * Cg + n * Cn + pixels * Cp, inside, 0.0).to(tl.float32)
        entry = tl.load(ends + (row * N + n) * D + channels, (channels < D) & (chunk > 0), 0.0)
        decay = tl.exp2(step * rate[None, :])
        entering = tl.where(first, decay * entry[None, :], 0.0)
        _, state = tl.associative_scan((decay, update * b_n[:, None] + entering), 0, _then)
        out += state * c_n[:, None]
    tl.store(target, out, valid)


@triton.jit
def gradients(
    grad, u, delta, weight, bias, A, B, C, skip, directions, ends, starts,
    du, ddelta, dweight, dbias, dA, dB, dC, dskip,
    first_group, length, columns, D, G, chunks,
    yb, yp, yg, yd, ub, up, ug, ud, db, dp, dg, dd, Bb, Bp, Bg, Bn, Cb, Cp, Cg, Cn, gb, gp, gg, gd,
    N: tl.constexpr, R: tl.constexpr, T: tl.constexpr, BLOCK: tl.constexpr,
    HAS_BIAS: tl.constexpr, HAS_SKIP: tl.constexpr, SOFTPLUS: tl.constexpr, SHARED: tl.constexpr, ADD: tl.constexpr,
):  # fmt: skip
    """All gradients of a chunk.

    ``du`` has the strides g*, the others are contiguous: ``dA``, ``dweight``, ``dbias`` and ``dskip`` with a copy for
    each image and chunk; ``dB``, ``dC`` and a low-rank ``ddelta`` with one for each block of channels.
    """
    chunk = tl.program_id(0).to(tl.int64)
    launched = 1 if SHARED else G
    b, g = (tl.program_id(1) // launched).to(tl.int64), first_group + tl.program_id(1) % launched
    batch = tl.num_programs(1) // launched
    channels = tl.program_id(2) * BLOCK + tl.arange(0, BLOCK)
    positions = chunk * T + tl.arange(0, T)
    inside, inside_after = positions < length, positions + 1 < length
    direction = tl.load(directions + g)
    pixels = _walk(positions, direction, length, columns)
    pixels_after = tl.where(inside_after, _walk(positions + 1, direction, length, columns), 0)
    mine = channels < D
    valid = inside[:, None] & mine[None, :]
    raw = _raw_step(delta, weight, bias, b, g, pixels, channels, inside, db, dp, dg, dd, D, R, HAS_BIAS)
    step = _step(raw, inside, SOFTPLUS)
    raw_after = _raw_step(
        delta, weight, bias, b, g, pixels_after, channels, inside_after, db, dp, dg, dd, D, R, HAS_BIAS
    )
    step_after = _step(raw_after, inside_after, SOFTPLUS)
    source = 0 if SHARED else g
    u_base, grad_base = u + b * ub + source * ug, grad + b * yb + source * yg
    value = tl.load(u_base + pixels[:, None] * up + channels[None, :] * ud, valid, 0.0).to(tl.float32)
    out = tl.load(grad_base + pixels[:, None] * yp + channels[None, :] * yd, valid, 0.0).to(tl.float32)
    update = step * value
    row = (b * G + g) * chunks + chunk
    first, last = (tl.arange(0, T) == 0)[:, None], (tl.arange(0, T) == T - 1)[:, None]
    dstep, dvalue = tl.zeros((T, BLOCK), tl.float32), tl.zeros((T, BLOCK), tl.float32)
    summed = (tl.program_id(2) * batch + b) * length + pixels
    for n in range(N):
        a_n = tl.load(A + (g * N + n) * D + channels, mine, 0.0)
        rate = a_n * LOG2E
        b_n = tl.load(B + b * Bb + g * Bg + n * Bn + pixels * Bp, inside, 0.0).to(tl.float32)
        c_n = tl.load(C + b * Cb + g * Cg + n * Cn + pixels * Cp, inside, 0.0).to(tl.float32)
        entry = tl.load(ends + ((row - 1) * N + n) * D + channels, mine & (chunk > 0), 0.0)
        leaving = tl.load(starts + ((row + 1) * N + n) * D + channels, mine & (chunk + 1 < chunks), 0.0)
        decay = tl.exp2(step * rate[None, :])
        added = update * b_n[:, None]
        entering = tl.where(first, decay * entry[None, :], 0.0)
        _, state = tl.associative_scan((decay, added + entering), 0, _then)
        # What comes from after the chunk already carries the next position's decay.
        decay_after = tl.exp2(step_after * rate[None, :])
        coming = out * c_n[:, None] + tl.where(last, leaving[None, :], 0.0)
        _, adjoint = tl.associative_scan((decay_after, coming), 0, _then, reverse=True)
        by_decay = adjoint * (state - added)
        tl.store(dC + (summed * G + g) * N + n, tl.sum(out * state, 1), inside)
        tl.store(dB + (summed * G + g) * N + n, tl.sum(adjoint * update, 1), inside)
        tl.store(dA + (row * N + n) * D + channels, tl.sum(by_decay * step, 0), mine)
        through = adjoint * b_n[:, None]
        dstep += by_decay * a_n[None, :] + through * value
        dvalue += through * step
    if SOFTPLUS:
        dstep *= 1.0 / (1.0 + tl.exp(-raw))
    dstep = tl.where(valid, dstep, 0.0)
    if HAS_SKIP:
        dvalue += tl.load(skip + g * D + channels, mine, 0.0)[None, :] * out
        tl.store(dskip + row * D + channels, tl.sum(out * value, 0), mine)
    if HAS_BIAS:
        tl.store(dbias + row * D + channels, tl.sum(dstep, 0), mine)
    target = du + b * gb + source * gg + pixels[:, None] * gp + channels[None, :] * gd
    if ADD:
        dvalue += tl.load(target, valid, 0.0)
    tl.store(target, dvalue, valid)
    if R == 0:
        place = ((b * length + pixels) * G + g)[:, None] * D + channels[None, :]
        tl.store(ddelta + place, dstep, valid)
    else:
        for r in range(R):
            low = tl.load(delta + b * db + g * dg + pixels * dp + r * dd, inside, 0.0).to(tl.float32)
            weights = tl.load(weight + (g * D + channels) * R + r, mine, 0.0)
            tl.store(ddelta + (summed * G + g) * R + r, tl.sum(dstep * weights[None, :], 1), inside)
            tl.store(dweight + (row * D + channels) * R + r, tl.sum(dstep * low[:, None], 0), mine)
