"""Keep freed memory in the process: tensors of a step are made and dropped thousands of times.

glibc hands large blocks back to the kernel at once, and every page is faulted in again at the next allocation, which is
dear in many virtual machines; `python benchmarks/allocator.py` measures what keeping them is worth.
"""

from __future__ import annotations

import ctypes

__all__ = ["keep_freed_memory"]

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3  # malloc.h


def keep_freed_memory() -> bool:
    """Whether the C library could be told so; it is glibc's own setting, others go on as they are."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    settings = ((_M_MMAP_THRESHOLD, 1 << 30), (_M_TRIM_THRESHOLD, (1 << 31) - 1), (_M_TOP_PAD, 64 << 20))
    return all(mallopt(name, value) == 1 for name, value in settings)
