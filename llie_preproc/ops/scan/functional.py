"""The public functions of the selective scan: they check shapes and turn a call into a :class:`Problem`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from .backends import choose_backend
from .operator import compute
from .problem import Problem

DIRECTIONS = ("rows", "columns", "rows_reversed", "columns_reversed")
"""Names of the walks over an image: row by row, column by column, and both of them from the last pixel to the first."""


def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    *,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    backend: str | None = None,
) -> Tensor:
    """The selective scan of Mamba-1 (Gu and Dao, 2023, Eq. 2 with zero-order hold for A and Euler for B).

    With ``dt = delta + delta_bias``, or its softplus if ``delta_softplus`` is set, each channel d computes

        h[t] = exp(dt[t, d] A[d]) h[t-1] + dt[t, d] B[t] u[t, d];    y[t, d] = C[t] . h[t] + D[d] u[t, d]

    in float32, whatever the dtypes, and also under autocast. It is differentiable once, with respect to every tensor.

    Args:
        u: Input ``(batch, D, L)``.
        delta: Step ``(batch, D, L)``.
        A: Real rates ``(D, N)``; they are negative for a state that decays.
        B, C: Input and output weights ``(batch, N, L)``, or ``(batch, G, N, L)`` if each of G equal groups of channels
            has its own.
        D: Weights ``(D,)`` of the skip connection, or None.
        delta_bias: Bias ``(D,)`` of the step, or None.
        delta_softplus: Whether softplus is applied to the biased step.
        backend: Name from :func:`scan_backends`; by default that of the environment variable ``LLIE_SCAN_BACKEND``, or
            the fastest one that runs on the device of ``u``.

    Returns:
        ``y``: ``(batch, D, L)`` in the dtype of ``u``.

    Raises:
        TypeError: An argument is not a floating point tensor.
        ValueError: Shapes do not fit, tensors are on different devices, or the backend does not exist or cannot run
            here.

    Examples:
        A state that does not decay (``A = 0``) sums up the input:

        >>> ones = torch.ones(1, 1, 4)
        >>> selective_scan(ones, ones, torch.zeros(1, 1), ones, ones, backend="reference").tolist()
        [[[1.0, 2.0, 3.0, 4.0]]]
    """
    B, C = (x.unsqueeze(1) if isinstance(x, Tensor) and x.ndim == 3 else x for x in (B, C))
    tensors = {"u": u, "delta": delta, "A": A, "B": B, "C": C, "D": D, "delta_bias": delta_bias}
    _check_kind(tensors)
    batch, channels, length = _unpack(u, "u", "batch, D, L")
    states = _unpack(A, "A", "D, N")[1]
    groups = _unpack(B, "B", "batch, G, N, L")[1]
    if not groups or channels % groups:
        raise ValueError(f"the {channels} channels of u do not divide into the {groups} groups of B")
    _check_shapes(
        tensors,
        delta=(batch, channels, length),
        A=(channels, states),
        B=(batch, groups, states, length),
        C=(batch, groups, states, length),
        D=(channels,),
        delta_bias=(channels,),
    )

    def grouped(x: Tensor) -> Tensor:
        return x.unflatten(0, (groups, channels // groups))

    def by_position(x: Tensor) -> Tensor:
        """``(batch, G, any, L)`` to ``(batch, L, G, any)``."""
        return x.permute(0, 3, 1, 2)

    problem = Problem(
        by_position(u.unflatten(1, (groups, channels // groups))),
        by_position(delta.unflatten(1, (groups, channels // groups))),
        None,
        None if delta_bias is None else grouped(delta_bias),
        grouped(A),
        by_position(B),
        by_position(C),
        None if D is None else grouped(D),
        [0] * groups,
        max(1, length),
        delta_softplus,
    )
    y = compute(problem, choose_backend(backend, u.device.type))
    return y.permute(0, 2, 3, 1).flatten(1, 2)


def selective_scan_2d(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    *,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = True,
    delta_weight: Tensor | None = None,
    directions: Sequence[str] = DIRECTIONS,
    backend: str | None = None,
) -> Tensor:
    """The sum of selective scans along several walks over an image (SS2D of VMamba, and of Semi-LLIE's Sec. III-C).

    Every walk k reads the same ``u`` with a step, ``A``, ``B``, ``C`` and ``D`` of its own, and its outputs go back to
    the pixels that they belong to: ``y = sum_k unwalk_k(selective_scan(walk_k(u), ...))``. No walk copies the image
    (except in the ``mamba_ssm`` backend), and with ``delta_weight`` no tensor holds the step of every channel.

    Args:
        u: Input ``(batch, H, W, D)``.
        delta: Step ``(batch, H, W, K, D)`` in pixel order or, with ``delta_weight``, its low-rank form
            ``(batch, H, W, K, R)``.
        A: Rates ``(K, D, N)``.
        B, C: Input and output weights ``(batch, H, W, K, N)`` in pixel order.
        D: Weights ``(K, D)`` of the skip connection, or None.
        delta_bias: Bias ``(K, D)`` of the step, or None.
        delta_softplus: Whether softplus is applied to the biased step.
        delta_weight: Matrices ``(K, D, R)`` that give the step ``delta_weight[k] @ delta``, before bias and softplus.
        directions: Names of the K walks: ``'rows'``, ``'columns'``, ``'rows_reversed'`` or ``'columns_reversed'``.
        backend: Name of a backend, as for :func:`selective_scan`.

    Returns:
        ``y``: ``(batch, H, W, D)`` in the dtype of ``u``.

    Raises:
        TypeError: An argument is not a floating point tensor.
        ValueError: A direction is unknown, or :func:`selective_scan` would refuse the arguments.

    Examples:
        Without decay (``A = 0``), both walks along the rows sum up the pixels that they have passed:

        >>> image, ones = torch.ones(1, 1, 4, 1), torch.ones(1, 1, 4, 2, 1)
        >>> walks = ("rows", "rows_reversed")
        >>> A = torch.zeros(2, 1, 1)
        >>> options = dict(delta_softplus=False, directions=walks, backend="reference")
        >>> selective_scan_2d(image, ones, A, ones, ones, **options).flatten().tolist()
        [5.0, 5.0, 5.0, 5.0]
    """
    unknown = [d for d in directions if d not in DIRECTIONS]
    if unknown or not directions:
        raise ValueError(f"directions must be among {', '.join(DIRECTIONS)}, got {unknown or 'none'}")
    tensors = {
        "u": u, "delta": delta, "A": A, "B": B, "C": C, "D": D, "delta_bias": delta_bias, "delta_weight": delta_weight,
    }  # fmt: skip
    _check_kind(tensors)
    batch, height, width, channels = _unpack(u, "u", "batch, H, W, D")
    walks, image = len(directions), (batch, height, width)
    states = _unpack(A, "A", "K, D, N")[2]
    rank = _unpack(delta_weight, "delta_weight", "K, D, R")[2] if delta_weight is not None else channels
    _check_shapes(
        tensors,
        delta=(*image, walks, rank),
        A=(walks, channels, states),
        B=(*image, walks, states),
        C=(*image, walks, states),
        D=(walks, channels),
        delta_bias=(walks, channels),
        delta_weight=(walks, channels, rank),
    )
    problem = Problem(
        u.reshape(batch, height * width, 1, channels),
        delta.reshape(batch, height * width, walks, rank),
        delta_weight,
        delta_bias,
        A,
        B.reshape(batch, height * width, walks, states),
        C.reshape(batch, height * width, walks, states),
        D,
        [DIRECTIONS.index(d) for d in directions],
        max(1, width),
        delta_softplus,
    )
    y = compute(problem, choose_backend(backend, u.device.type))
    return y.reshape(batch, height, width, channels)


def _check_kind(tensors: Mapping[str, Tensor | None]) -> None:
    for name, tensor in tensors.items():
        if tensor is None and name in ("D", "delta_bias", "delta_weight"):
            continue
        if not isinstance(tensor, Tensor) or not tensor.is_floating_point():
            kind = tensor.dtype if isinstance(tensor, Tensor) else type(tensor).__name__
            raise TypeError(f"{name} must be a floating point tensor, got {kind}")
    devices = {tensor.device for tensor in tensors.values() if tensor is not None}
    if len(devices) > 1:
        raise ValueError(f"the tensors are on different devices: {', '.join(sorted(map(str, devices)))}")


def _unpack(tensor: Tensor, name: str, layout: str) -> torch.Size:
    if tensor.ndim != len(layout.split(", ")):
        raise ValueError(f"{name} must be ({layout}), got the shape {tuple(tensor.shape)}")
    return tensor.shape


def _check_shapes(tensors: Mapping[str, Tensor | None], **expected: tuple[int, ...]) -> None:
    for name, shape in expected.items():
        tensor = tensors[name]
        if tensor is not None and tensor.shape != shape:
            raise ValueError(f"{name} must have the shape {shape}, got {tuple(tensor.shape)}")
