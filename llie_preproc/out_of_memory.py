"""Telling that memory ran out, and giving back what is free."""

from __future__ import annotations

import gc
import sys

# PyTorch's allocators on Linux, macOS and GPUs, GPU libraries, C++, and oneDNN's word for a layer that does not fit.
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
    """Whether an exception says that memory did not suffice: Python's, NumPy's, OpenCV's or PyTorch's, on any device.

    >>> is_out_of_memory(MemoryError())
    True
    >>> is_out_of_memory(RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB"))
    True
    >>> is_out_of_memory(RuntimeError("The size of tensor a (3) must match the size of tensor b (4)"))
    False
    """
    # By names: importing PyTorch or OpenCV takes seconds, which a program that ends early has not spent.
    kind = type(error)
    if isinstance(error, MemoryError) or kind.__name__ == "OutOfMemoryError":
        return True
    text = str(error).lower()
    return (isinstance(error, RuntimeError) or kind.__module__ == "cv2") and any(sign in text for sign in _SIGNS)


def free_memory() -> None:
    """Give back what nothing refers to any more: cycles of Python objects, and the GPU allocator's reserve."""
    gc.collect()
    if (torch := sys.modules.get("torch")) is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
