"""Recognising that memory ran out, and releasing what is no longer used."""

from __future__ import annotations

import gc
import sys

# Texts of PyTorch's allocators on Linux, macOS and GPUs, of GPU libraries and C++, and of oneDNN for too large layers.
_SIGNS = (
    "can't allocate memory",
    "cannot allocate memory",
    "not enough memory",
    "out of memory",
    "alloc_failed",
    "bad_alloc",
    "insufficient memory",
    "could not create a primitive",
    "could not create a memory object",
    "storage size calculation overflowed",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception of Python, NumPy, OpenCV or PyTorch says that memory ran out, on any device.

    Examples:
        >>> is_out_of_memory(MemoryError())
        True
        >>> is_out_of_memory(RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB"))
        True
        >>> is_out_of_memory(RuntimeError("The size of tensor a (3) must match the size of tensor b (4)"))
        False
    """
    # Classes are compared by name, because importing PyTorch or OpenCV only for this would take seconds.
    kind = type(error)
    if isinstance(error, MemoryError) or kind.__name__ == "OutOfMemoryError":
        return True
    text = str(error).lower()
    return (isinstance(error, RuntimeError) or kind.__module__ == "cv2") and any(sign in text for sign in _SIGNS)


def free_memory() -> None:
    """Release memory that nothing uses any more: cycles of Python objects, and the reserve of the GPU allocator."""
    gc.collect()
    if (torch := sys.modules.get("torch")) is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
