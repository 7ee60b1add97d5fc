"""What process 1 of a container does first: it fills the memory that it will need, and then it is the component.

    python -m chaosgym.sandbox.begin

A program that learns page by page that its limit is too small thrashes the disk of its node for minutes, and all others on it.
One that fills its heap first, as a JVM with AlwaysPreTouch does, is killed by the kernel at once.
"""

from __future__ import annotations

import mmap
import sys

__all__ = ["main"]

_NEED = 48 * 2**20
"""Bytes that no component does without."""


def main() -> int:
    """Exit as the component does."""
    with mmap.mmap(-1, _NEED) as memory:
        for at in range(0, _NEED, mmap.PAGESIZE):
            memory[at] = 1
    from chaosgym.sandbox.component import main as serve

    return serve()


if __name__ == "__main__":
    sys.exit(main())
