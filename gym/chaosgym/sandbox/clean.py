"""Remove what a run has left in a container engine: `python -m chaosgym.sandbox.clean CHOICE RUN`, by the keeper of a dead worker."""

from __future__ import annotations

import sys

from chaosgym.sandbox.choice import SandboxChoice, make_engine

__all__ = ["main"]


def main(arguments: list[str]) -> int:
    """Remove everything that carries the label of the run."""
    import asyncio

    choice, run = SandboxChoice.from_json(arguments[0]), arguments[1]
    asyncio.run(make_engine(choice, run).close())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
