"""Triton kernels of the selective scan.

The walk is cut into chunks of T positions, and all chunks run side by side in three passes. The first computes what
each chunk adds to the state. This is a plain sum, because the decay over a stretch is ``exp(A * sum of steps)``. The
second scans over the chunks. The third computes the outputs from the true state before each chunk. The backward pass
does the same for the adjoint, from the end.

A tile is ``(T, BLOCK)`` positions by channels. Its N states are computed one at a time, so that it never holds all of
them. Every scan runs forwards. A scan from the end has its rows in descending order, because ``reverse=True`` gave
wrong results on devices (triton-lang/triton#4362). No sum of steps is computed as a difference, because digits would
cancel.
"""

from __future__ import annotations

# Triton finds the constants by the text of their annotations, 'tl.constexpr'.
import triton
import triton.language as tl

LOG2E = tl.constexpr(1.4426950408889634)


@triton.jit
def _then(decay_left, update_left, decay_right, update_right):
    """Compose two maps ``h -> decay h + update``; the left one is applied first."""
    return decay_left * decay_right, update_left * decay_right + update_right


@triton.jit
def _walk(positions, direction, length, columns):
    """Index of the pixel at each position of a walk; see ``Problem.directions``."""
    positions = tl.where(direction >= 2, length - 1 - positions, positions)
    rows = length // columns
    return tl.where(direction % 2 == 1, positions % rows * columns + positions // rows, positions)


@triton.jit
def _rows(chunk, first, T: tl.constexpr, DESCENDING: tl.constexpr):
    """The positions of a chunk plus ``first``, as the rows of a tile."""
    rows = tl.arange(0, T)
    if DESCENDING:
        rows = T - 1 - rows
    return chunk * T + rows + first


@triton.jit
def _log1p(e):
    """log(1 + e) = 2 artanh(e / (2 + e)) for e in [0, 1], to float32 precision; NaN stays NaN."""
    z = e / (2.0 + e)
    s = z * z
    series = 1.0 / 13.0 + s * (1.0 / 15.0)
    series = 1.0 / 9.0 + s * (1.0 / 11.0 + s * series)
    return 2.0 * z * (1.0 + s * (1.0 / 3.0 + s * (1.0 / 5.0 + s * (1.0 / 7.0 + s * series))))


@triton.jit
def _raw_step(
    delta, weight, bias, b, g, pixels, channels, inside,
    stride_b, stride_p, stride_g, stride_d, D, R: tl.constexpr, HAS_BIAS: tl.constexpr,
):  # fmt: skip
    """Argument of the softplus, ``(T, BLOCK)``."""
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
def _step(raw, inside, SOFTPLUS: tl.constexpr):
    """The step; outside the sequence it is zero, which leaves the state as it is."""
    if SOFTPLUS:
        # tl.maximum would drop NaN on a device.
        raw = tl.where(raw > 0.0, raw, 0.0) + _log1p(tl.exp(-tl.abs(raw)))
    return tl.where(inside[:, None], raw, 0.0)


@triton.jit
def _tile(tensor, b, g, pixels, channels, valid, stride_b, stride_p, stride_g, stride_d):
    """Load ``(T, BLOCK)`` in float32; values that are not valid are zero."""
    base = tensor + b * stride_b + g * stride_g
    return tl.load(base + pixels[:, None] * stride_p + channels[None, :] * stride_d, valid, 0.0).to(tl.float32)


@triton.jit
def chunk_states(
    u, delta, weight, bias, A, B, directions, ends, totals, length, columns, D, G, chunks,
    ub, up, ug, ud, db, dp, dg, dd, Bb, Bp, Bg, Bn,
    N: tl.constexpr, R: tl.constexpr, T: tl.constexpr, BLOCK: tl.constexpr,
    HAS_BIAS: tl.constexpr, SOFTPLUS: tl.constexpr, SHARED: tl.constexpr,
):  # fmt: skip
    """Compute the state at the end of each chunk for a state of zero before it, and the sum of its steps."""
    row = tl.program_id(0).to(tl.int64)
    chunk, g, b = row % chunks, row // chunks % G, row // chunks // G
    channels = tl.program_id(1).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mine = channels < D
    direction = tl.load(directions + g)
    positions = _rows(chunk, 0, T, True)
    inside, inside_after = positions < length, (positions + 1 < length) & (tl.arange(0, T) > 0)
    pixels = _walk(positions, direction, length, columns)
    pixels_after = tl.where(inside_after, _walk(positions + 1, direction, length, columns), 0)
    valid = inside[:, None] & mine[None, :]
    raw = _raw_step(delta, weight, bias, b, g, pixels, channels, inside, db, dp, dg, dd, D, R, HAS_BIAS)
    step = _step(raw, inside, SOFTPLUS)
    raw = _raw_step(delta, weight, bias, b, g, pixels_after, channels, inside_after, db, dp, dg, dd, D, R, HAS_BIAS)
    remaining = tl.cumsum(_step(raw, inside_after, SOFTPLUS), 0)
    source = 0 if SHARED else g
    update = step * _tile(u, b, source, pixels, channels, valid, ub, up, ug, ud)
    tl.store(totals + row * D + channels, tl.sum(step, 0), mine)
    b_pointer = B + b * Bb + g * Bg + pixels * Bp
    for n in range(N):
        rate = tl.load(A + (g * N + n) * D + channels, mine, 0.0) * LOG2E
        b_n = tl.load(b_pointer, inside, 0.0).to(tl.float32)
        end = tl.sum(tl.exp2(remaining * rate[None, :]) * update * b_n[:, None], 0)
        tl.store(ends + (row * N + n) * D + channels, end, mine)
        b_pointer += Bn


@triton.jit
def chunk_adjoints(
    grad, delta, weight, bias, A, C, directions, starts, length, columns, D, G, chunks,
    yb, yp, yg, yd, db, dp, dg, dd, Cb, Cp, Cg, Cn,
    N: tl.constexpr, R: tl.constexpr, T: tl.constexpr, BLOCK: tl.constexpr,
    HAS_BIAS: tl.constexpr, SOFTPLUS: tl.constexpr, SHARED: tl.constexpr,
):  # fmt: skip
    """Compute the gradient that each chunk alone passes to the state before it."""
    row = tl.program_id(0).to(tl.int64)
    chunk, g, b = row % chunks, row // chunks % G, row // chunks // G
    channels = tl.program_id(1).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mine = channels < D
    positions = _rows(chunk, 0, T, False)
    inside = positions < length
    pixels = _walk(positions, tl.load(directions + g), length, columns)
    valid = inside[:, None] & mine[None, :]
    raw = _raw_step(delta, weight, bias, b, g, pixels, channels, inside, db, dp, dg, dd, D, R, HAS_BIAS)
    elapsed = tl.cumsum(_step(raw, inside, SOFTPLUS), 0)
    out = _tile(grad, b, 0 if SHARED else g, pixels, channels, valid, yb, yp, yg, yd)
    c_pointer = C + b * Cb + g * Cg + pixels * Cp
    for n in range(N):
        rate = tl.load(A + (g * N + n) * D + channels, mine, 0.0) * LOG2E
        c_n = tl.load(c_pointer, inside, 0.0).to(tl.float32)
        start = tl.sum(tl.exp2(elapsed * rate[None, :]) * out * c_n[:, None], 0)
        tl.store(starts + (row * N + n) * D + channels, start, mine)
        c_pointer += Cn


@triton.jit
def combine_chunks(
    states, totals, A, D, G, chunks, N: tl.constexpr, T: tl.constexpr, BLOCK: tl.constexpr, REVERSE: tl.constexpr
):
    """Replace each chunk's own contribution by the state after it or, with ``REVERSE``, by the gradient before it."""
    image, n = tl.program_id(0).to(tl.int64), tl.program_id(1)
    g = image % G
    channels = tl.program_id(2).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mine = channels < D
    rate = tl.load(A + (g * N + n) * D + channels, mine, 0.0) * LOG2E
    carry = tl.zeros((BLOCK,), tl.float32)
    rows = tl.arange(0, T)
    for first in range(0, chunks, T):
        order = first + rows
        chunk = chunks - 1 - order if REVERSE else order
        valid = (order < chunks)[:, None] & mine[None, :]
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
    """Compute ``y`` of all groups or, if they share channels and add up, of the one group of this launch."""
    launched = 1 if SHARED else G
    program = tl.program_id(0).to(tl.int64)
    chunk, g, b = program % chunks, first_group + program // chunks % launched, program // chunks // launched
    channels = tl.program_id(1).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mine = channels < D
    positions = _rows(chunk, 0, T, False)
    inside = positions < length
    pixels = _walk(positions, tl.load(directions + g), length, columns)
    valid = inside[:, None] & mine[None, :]
    raw = _raw_step(delta, weight, bias, b, g, pixels, channels, inside, db, dp, dg, dd, D, R, HAS_BIAS)
    step = _step(raw, inside, SOFTPLUS)
    source = 0 if SHARED else g
    value = _tile(u, b, source, pixels, channels, valid, ub, up, ug, ud)
    target = y + b * yb + source * yg + pixels[:, None] * yp + channels[None, :] * yd
    out = tl.zeros((T, BLOCK), tl.float32)
    if ADD:
        out += tl.load(target, valid, 0.0)
    if HAS_SKIP:
        out += tl.load(skip + g * D + channels, mine, 0.0)[None, :] * value
    update = step * value
    before = (b * G + g) * chunks + chunk - 1
    first = (tl.arange(0, T) == 0)[:, None]
    b_pointer, c_pointer = B + b * Bb + g * Bg + pixels * Bp, C + b * Cb + g * Cg + pixels * Cp
    for n in range(N):
        rate = tl.load(A + (g * N + n) * D + channels, mine, 0.0) * LOG2E
        b_n = tl.load(b_pointer, inside, 0.0).to(tl.float32)
        c_n = tl.load(c_pointer, inside, 0.0).to(tl.float32)
        entry = tl.load(ends + (before * N + n) * D + channels, mine & (chunk > 0), 0.0)
        decay = tl.exp2(step * rate[None, :])
        entering = tl.where(first, decay * entry[None, :], 0.0)
        _, state = tl.associative_scan((decay, update * b_n[:, None] + entering), 0, _then)
        out += state * c_n[:, None]
        b_pointer += Bn
        c_pointer += Cn
    tl.store(target, out, valid)


@triton.jit
def gradients(
    grad, u, delta, weight, bias, A, B, C, skip, directions, ends, starts,
    du, ddelta, dweight, dbias, dA, dB, dC, dskip,
    first_group, length, columns, D, G, chunks, batch,
    yb, yp, yg, yd, ub, up, ug, ud, db, dp, dg, dd, Bb, Bp, Bg, Bn, Cb, Cp, Cg, Cn, gb, gp, gg, gd,
    N: tl.constexpr, R: tl.constexpr, T: tl.constexpr, BLOCK: tl.constexpr,
    HAS_BIAS: tl.constexpr, HAS_SKIP: tl.constexpr, SOFTPLUS: tl.constexpr, SHARED: tl.constexpr, ADD: tl.constexpr,
):  # fmt: skip
    """Compute all gradients of a chunk.

    Rows are in descending order, except in the scan of the states, whose result is reversed. ``du`` has the strides g*,
    and the other results are contiguous: ``dA``, ``dweight``, ``dbias`` and ``dskip`` have a copy for each image and
    chunk; ``dB``, ``dC`` and a low-rank ``ddelta`` have one for each block of channels.
    """
    launched = 1 if SHARED else G
    program = tl.program_id(0).to(tl.int64)
    chunk, g, b = program % chunks, first_group + program // chunks % launched, program // chunks // launched
    block = tl.program_id(1).to(tl.int64)
    channels = block * BLOCK + tl.arange(0, BLOCK)
    mine = channels < D
    direction = tl.load(directions + g)
    source = 0 if SHARED else g
    rows = tl.arange(0, T)
    first = (rows == 0)[:, None]
    turned = tl.broadcast_to((T - 1 - rows)[:, None], (T, BLOCK))

    # In ascending order: the position before each one, within the chunk.
    positions = _rows(chunk, -1, T, False)
    inside_before = (positions < length) & (rows > 0)
    pixels_before = tl.where(inside_before, _walk(positions, direction, length, columns), 0)
    raw = _raw_step(delta, weight, bias, b, g, pixels_before, channels, inside_before, db, dp, dg, dd, D, R, HAS_BIAS)
    step_before = _step(raw, inside_before, SOFTPLUS)
    valid = inside_before[:, None] & mine[None, :]
    update_before = step_before * _tile(u, b, source, pixels_before, channels, valid, ub, up, ug, ud)

    # In descending order: each position, and the step of the position after it.
    positions = _rows(chunk, 0, T, True)
    inside, inside_after = positions < length, positions + 1 < length
    pixels = _walk(positions, direction, length, columns)
    pixels_after = tl.where(inside_after, _walk(positions + 1, direction, length, columns), 0)
    raw = _raw_step(delta, weight, bias, b, g, pixels_after, channels, inside_after, db, dp, dg, dd, D, R, HAS_BIAS)
    step_after = _step(raw, inside_after, SOFTPLUS)
    raw = _raw_step(delta, weight, bias, b, g, pixels, channels, inside, db, dp, dg, dd, D, R, HAS_BIAS)
    step = _step(raw, inside, SOFTPLUS)
    valid = inside[:, None] & mine[None, :]
    value = _tile(u, b, source, pixels, channels, valid, ub, up, ug, ud)
    out = _tile(grad, b, source, pixels, channels, valid, yb, yp, yg, yd)

    row = (b * G + g) * chunks + chunk
    dstep, dvalue = tl.zeros((T, BLOCK), tl.float32), tl.zeros((T, BLOCK), tl.float32)
    summed = (block * batch + b) * length + pixels
    b_before = B + b * Bb + g * Bg + pixels_before * Bp
    b_pointer, c_pointer = B + b * Bb + g * Bg + pixels * Bp, C + b * Cb + g * Cg + pixels * Cp
    for n in range(N):
        a_n = tl.load(A + (g * N + n) * D + channels, mine, 0.0)
        rate = (a_n * LOG2E)[None, :]
        b_n = tl.load(b_pointer, inside, 0.0).to(tl.float32)
        c_n = tl.load(c_pointer, inside, 0.0).to(tl.float32)
        entry = tl.load(ends + ((row - 1) * N + n) * D + channels, mine & (chunk > 0), 0.0)
        leaving = tl.load(starts + ((row + 1) * N + n) * D + channels, mine & (chunk + 1 < chunks), 0.0)
        added = update_before * tl.load(b_before, inside_before, 0.0).to(tl.float32)[:, None]
        added += tl.where(first, entry[None, :], 0.0)
        _, before = tl.associative_scan((tl.exp2(step_before * rate), added), 0, _then)
        before = tl.gather(before, turned, 0)
        # The gradient from after the chunk already includes the decay of the next position.
        coming = out * c_n[:, None] + tl.where(first, leaving[None, :], 0.0)
        _, adjoint = tl.associative_scan((tl.exp2(step_after * rate), coming), 0, _then)
        decayed = tl.exp2(step * rate) * before
        by_decay = adjoint * decayed
        state = decayed + step * value * b_n[:, None]
        tl.store(dC + (summed * G + g) * N + n, tl.sum(out * state, 1), inside)
        tl.store(dB + (summed * G + g) * N + n, tl.sum(adjoint * step * value, 1), inside)
        tl.store(dA + (row * N + n) * D + channels, tl.sum(by_decay * step, 0), mine)
        through = adjoint * b_n[:, None]
        dstep += by_decay * a_n[None, :] + through * value
        dvalue += through * step
        b_before += Bn
        b_pointer += Bn
        c_pointer += Cn
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
