"""The display matrix of a video, by which players turn its frames upright."""

from __future__ import annotations

from typing import Any

import numpy as np

Matrix = tuple[int, ...]


def display_matrix(frame: Any) -> Matrix | None:
    """The nine numbers of a decoded frame's display matrix; None if it has none."""
    data = frame.side_data.get("DISPLAYMATRIX")
    return None if data is None else tuple(np.frombuffer(bytes(data), np.int32).tolist())


def is_transposed(matrix: Matrix | None) -> bool:
    """Whether a display matrix turns the width of a frame into its height.

    Examples:
        >>> is_transposed((0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30))
        True
        >>> is_transposed(None)
        False
    """
    return matrix is not None and abs(matrix[1]) > abs(matrix[0])


def upright(pixels: np.ndarray, matrix: Matrix | None) -> np.ndarray:
    """Turn and mirror ``(H, W, C)`` pixels as a display matrix says, by the nearest right angle.

    A pixel at ``(x, y)`` moves to ``(a x + c y, b x + d y)``, where the matrix begins with ``a, b, _, c, d``.

    Examples:
        >>> picture = np.array([[[1], [2]]])
        >>> upright(picture, (0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30))[..., 0].tolist()
        [[1], [2]]
        >>> upright(picture, (-65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30))[..., 0].tolist()
        [[2, 1]]
    """
    if matrix is None:
        return pixels
    a, b, _, c, d = matrix[:5]
    transposed = is_transposed(matrix)
    across, down = (c, b) if transposed else (a, d)
    turned = pixels.swapaxes(0, 1) if transposed else pixels
    return np.ascontiguousarray(turned[:: -1 if down < 0 else 1, :: -1 if across < 0 else 1])
